"""Configurations, status, nodes, keys and backup notes of the lab node."""

from __future__ import annotations

import json

import pytest

from tests.lab.node.client import Lab, with_scripted
from tests.lab.node.config import GuestConfig, parse, render
from tests.lab.node.node import GuestSpec

QEMU = "/nodes/pve1/qemu/100"
ARCHIVE = "vzdump-qemu-100-2026_01_02-03_04_05.vma.zst"


def test_a_configuration_survives_writing_and_reading() -> None:
    config = GuestConfig(
        "pve1",
        "qemu",
        100,
        {"name": "web", "description": "two\nlines: 100% #ü", "scsi0": "local:100/x.qcow2,size=1G"},
        {"agent": "1", "tags": None},
        {"s1": {"name": "web", "snaptime": "1", "description": "[PENDING]"}},
    )
    again = parse(render(config), "pve1", "qemu", 100)
    assert (again.values, again.pending, again.snapshots) == (config.values, config.pending, config.snapshots)


def test_the_machine_has_a_uuid_that_a_program_can_compare_with_its_own() -> None:
    with with_scripted() as lab:
        assert lab.ask("GET", f"{QEMU}/config").data["smbios1"].startswith("uuid=")


def test_the_agent_option_of_a_running_guest_waits_for_a_stop_and_start() -> None:
    with with_scripted(GuestSpec(100, config={"agent": None})) as lab:
        assert lab.ask("PUT", f"{QEMU}/config", agent="1").status == 200
        pending = {entry["key"]: entry for entry in lab.ask("GET", f"{QEMU}/pending").data}
        assert pending["agent"] == {"key": "agent", "pending": "1"}
        assert lab.ask("GET", f"{QEMU}/config").data["agent"] == "1", "GET config shows what the next start will see"
        assert "agent" not in lab.ask("GET", f"{QEMU}/config", current=1).data
        assert lab.agent("ping").reason == "No QEMU guest agent configured"
        lab.guest.stop()
        _start_as_another_process(lab)
        assert lab.ask("GET", f"{QEMU}/pending").data[0] == {"key": "agent", "value": "1"}


def _start_as_another_process(lab: Lab) -> None:
    """The scripted guest is a thread of the test: give its pid file another living process."""
    lab.guest.pid_file.write_text(str(lab.node.pid))


def test_the_agent_option_of_a_stopped_guest_counts_at_once() -> None:
    with with_scripted(GuestSpec(100, config={"agent": None})) as lab:
        lab.guest.stop()
        lab.ask("PUT", f"{QEMU}/config", agent="1,fstrim_cloned_disks=1")
        assert lab.ask("GET", f"{QEMU}/config", current=1).data["agent"] == "1,fstrim_cloned_disks=1"


def test_a_description_can_be_changed_and_removed_while_the_guest_runs() -> None:
    with with_scripted() as lab:
        lab.ask("PUT", f"{QEMU}/config", description="hello", tags="a;b")
        assert lab.ask("GET", f"{QEMU}/config", current=1).data["description"] == "hello"
        assert lab.ask("GET", "/cluster/resources", type="vm").data[0]["tags"] == "a;b"
        lab.ask("PUT", f"{QEMU}/config", delete="description,tags")
        assert "description" not in lab.ask("GET", f"{QEMU}/config").data


def test_a_locked_guest_cannot_be_changed() -> None:
    with with_scripted(GuestSpec(100, config={"lock": "backup"})) as lab:
        answer = lab.ask("PUT", f"{QEMU}/config", description="x")
        assert (answer.status, answer.reason) == (500, "VM is locked (backup)")
        assert lab.ask("GET", f"{QEMU}/status/current").data["lock"] == "backup"
        assert lab.ask("GET", "/cluster/resources", type="vm").data[0]["lock"] == "backup"


def test_a_change_against_an_old_digest_is_refused() -> None:
    with with_scripted() as lab:
        digest = lab.ask("GET", f"{QEMU}/config").data["digest"]
        assert lab.ask("PUT", f"{QEMU}/config", description="x", digest=digest).status == 200
        assert "modified configuration" in lab.ask("PUT", f"{QEMU}/config", description="y", digest=digest).reason


def test_set_config_is_seen_by_the_next_request() -> None:
    with with_scripted() as lab:
        lab.node.set_config(100, template=1, name="web")
        found = lab.ask("GET", "/cluster/resources", type="vm").data[0]
        assert (found["template"], found["name"]) == (1, "web")


def test_the_status_follows_the_guests_process() -> None:
    with with_scripted(GuestSpec(100, pool="prod")) as lab:
        status = lab.ask("GET", f"{QEMU}/status/current").data
        assert (status["status"], status["qmpstatus"], status["agent"]) == ("running", "running", 1)
        assert lab.ask("GET", "/cluster/resources", type="vm").data[0]["pool"] == "prod"
        lab.guest.stop()
        status = lab.ask("GET", f"{QEMU}/status/current").data
        assert (status["status"], status["uptime"]) == ("stopped", 0)


def test_the_version_can_be_chosen() -> None:
    with with_scripted(pve_version="8.4.1") as lab:
        assert lab.ask("GET", "/version").data["version"] == "8.4.1"


# ------------------------------------------------------------------ several nodes


def test_any_node_proxies_to_the_guests_node() -> None:
    with with_scripted(nodes=("pve1", "pve2", "pve3")) as lab:
        for at in lab.node.node_names:
            assert lab.agent("fsfreeze-status", at=at).result == "thawed"
        status = {entry["name"]: entry for entry in lab.ask("GET", "/cluster/status").data}
        assert status["lab"]["nodes"] == 3
        assert [status[name]["local"] for name in ("pve1", "pve2")] == [1, 0]
        assert lab.node.urls["pve2"] == f"https://{status['pve2']['ip']}:{lab.node.port}"


def test_an_offline_node_is_595_and_the_others_go_on() -> None:
    specs = [GuestSpec(101, node="pve2")]
    with with_scripted(*specs, vmids=(100, 101), nodes=("pve1", "pve2")) as lab:
        lab.node.set_node_online("pve2", online=False)
        answer = lab.ask("POST", "/nodes/pve2/qemu/101/agent/ping")
        assert (answer.status, answer.reason, answer.body) == (595, "No route to host", b"")
        with pytest.raises(ConnectionRefusedError):
            lab.ask("GET", "/version", at="pve2")
        assert [entry["status"] for entry in lab.ask("GET", "/nodes").data] == ["online", "offline"]
        statuses = {entry["vmid"]: entry["status"] for entry in lab.ask("GET", "/cluster/resources", type="vm").data}
        assert statuses == {100: "running", 101: "unknown"}
        lab.node.set_node_online("pve2", online=True)
        assert lab.ask("GET", "/version", at="pve2").status == 200


def test_a_guest_asked_for_at_the_wrong_node_does_not_exist_there() -> None:
    with with_scripted(nodes=("pve1", "pve2")) as lab:
        lab.node.move_guest(100, "pve2")
        assert lab.agent("ping").reason == "Configuration file 'nodes/pve1/qemu-server/100.conf' does not exist"
        assert lab.ask("POST", "/nodes/pve2/qemu/100/agent/ping").status == 200


def test_with_its_front_down_a_node_is_refused_directly_and_595_through_another() -> None:
    with with_scripted(nodes=("pve1", "pve2")) as lab:
        lab.node.stop_front("pve1")
        with pytest.raises(ConnectionRefusedError):
            lab.agent("ping")
        answer = lab.agent("ping", at="pve2")
        assert (answer.status, answer.reason) == (595, "Connection refused")
        lab.node.start_front("pve1")
        assert lab.agent("ping").status == 200


# --------------------------------------------------------------------------- keys


def test_a_key_reaches_the_guest_and_the_tests_hook() -> None:
    with with_scripted() as lab:
        lab.node.add_token(lab.node.token_id, ["VM.Console"])
        lab.node.token_secret = lab.node.settings.tokens[lab.node.token_id]["secret"]
        lab.guest.ask("guest-fsfreeze-freeze")
        pressed = []

        def emergency_thaw(vmid: int, key: str) -> None:
            pressed.append((vmid, key))
            lab.guest.thaw_from_inside()

        lab.node.on_key(emergency_thaw)
        answer = lab.ask("PUT", f"{QEMU}/sendkey", key="alt-sysrq-j")
        assert (answer.status, answer.json) == (200, {"data": None})
        assert pressed == [(100, "alt-sysrq-j")]
        assert not lab.guest.is_frozen()
        assert [(entry["vmid"], entry["key"]) for entry in lab.node.sendkeys()] == [(100, "alt-sysrq-j")]


# ------------------------------------------------------------------- backup notes


def test_notes_of_a_backup_are_written_read_and_removed() -> None:
    with with_scripted() as lab:
        archive = lab.node.root / "var/lib/vz/dump" / ARCHIVE
        archive.write_bytes(b"x" * 10)
        rights = ("Datastore.AllocateSpace", "Datastore.Audit", "VM.Backup")
        lab.node.token_secret = lab.node.add_token(lab.node.token_id, rights)
        path = f"/nodes/pve1/storage/local/content/local:backup/{ARCHIVE}"
        assert lab.ask("PUT", path, notes="filesystem-consistent").status == 200
        (listed,) = lab.ask("GET", "/nodes/pve1/storage/local/content", content="backup").data
        assert (listed["volid"], listed["notes"], listed["size"]) == (
            f"local:backup/{ARCHIVE}",
            "filesystem-consistent",
            10,
        )
        assert (listed["vmid"], listed["format"], listed["subtype"]) == (100, "vma.zst", "qemu")
        assert lab.ask("GET", path).data["notes"] == "filesystem-consistent"
        lab.ask("PUT", path, notes="")
        assert "notes" not in lab.ask("GET", path).data


def test_notes_need_the_right_to_back_the_guest_up() -> None:
    with with_scripted() as lab:
        (lab.node.root / "var/lib/vz/dump" / ARCHIVE).touch()
        lab.node.token_secret = lab.node.add_token(lab.node.token_id, ["Datastore.AllocateSpace"])
        answer = lab.ask("PUT", f"/nodes/pve1/storage/local/content/local:backup/{ARCHIVE}", notes="x")
        assert (answer.status, answer.reason) == (403, "Permission check failed (/vms/100, VM.Backup)")


def test_what_the_lab_does_not_do_for_real_is_answered_from_the_schema() -> None:
    with with_scripted() as lab:
        lab.node.token_secret = lab.node.add_token(lab.node.token_id, ["*"])
        assert json.loads(lab.ask("GET", "/access/permissions").body)["data"]
        assert lab.ask("GET", "/nodes/pve1/time").status == 200
