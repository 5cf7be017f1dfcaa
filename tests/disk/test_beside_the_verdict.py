"""The disk's word after a snapshot: beside the verdict, in every place that has one, and against it where it must."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.disk.kit import ext4
from tests.disk.onnode import on_node, put_pvesm
from tests.disk.qcow2kit import qcow2
from tests.engine import kit
from tests.lab.guest.agentmodel import Faults
from tests.lab.guest.scripted import ScriptedGuest
from tests.lab.site import Site, site

USED, AT_REST, SILENT = ext4(needs_recovery=True), ext4(needs_recovery=False), bytes(range(256)) * 4096


@pytest.fixture
def lab() -> Iterator[Site]:
    """A scripted guest on its node; what stands on its disk is made by each test."""
    with site() as found:
        found.on_the_node()
        yield found


def disk_of(lab: Site, image: bytes, name: str = "s1") -> None:
    """The guest's disk, as PVE's tool will find it, has the snapshot ``name`` with this in it."""
    path = lab.run / "made.qcow2"
    path.write_bytes(qcow2(image, name=name))
    put_pvesm(lab, path)


def test_a_word_that_bears_the_verdict_out_stands_beside_it_everywhere(lab: Site) -> None:
    disk_of(lab, AT_REST)
    run = on_node(lab, "100", "--name", "s1", "--verify", "--json")
    assert run.exit_code == 0, run
    assert run.json["verdict"]["kind"] == "filesystem-consistent"
    assert run.json["disk"] == {"word": "clean", "reason": "the filesystem was at rest"}
    (window,) = lab.windows()
    assert (window.disk_word, window.verdict, window.failure_stage) == ("clean", "filesystem-consistent", None)
    description = kit.description(lab, "s1")
    assert "; disk: clean; " in description
    assert "(disk: clean)" in on_node(lab, "history").stdout
    assert 'word="clean"} 1.0' in lab.metrics_path.read_text()


def test_a_verdict_that_the_disk_contradicts_falls(lab: Site) -> None:
    disk_of(lab, USED)
    run = on_node(lab, "100", "--name", "s1", "--verify", "--json")
    assert run.json["verdict"]["kind"] == "crash-consistent", run
    assert "the disk contradicts" in run.json["verdict"]["reason"]
    (window,) = lab.windows()
    assert (window.disk_word, window.failure_stage, window.failure_reason) == ("not-clean", "disk", "not-clean")
    assert 'reason="not-clean",source="snapshot",stage="disk"' in lab.metrics_path.read_text()
    assert "crash-consistent" in kit.description(lab, "s1")


def test_the_hooks_word_does_not_stand_against_the_disks() -> None:
    with site(lambda vmid, run: ScriptedGuest(vmid, run, faults=Faults(hooks_say=("app postgresql 1",)))) as lab:
        lab.on_the_node()
        assert on_node(lab, "100", "--name", "s0", "--json").json["verdict"]["kind"] == "application-consistent"
        disk_of(lab, USED)
        run = on_node(lab, "100", "--name", "s1", "--verify", "--json")
        assert run.json["verdict"]["kind"] == "crash-consistent", run
        assert "the disk contradicts (application-consistent)" in run.json["verdict"]["reason"]


def test_with_require_a_snapshot_that_the_disk_contradicts_is_not_kept(lab: Site) -> None:
    disk_of(lab, USED)
    run = on_node(lab, "100", "--name", "s1", "--verify", "--policy", "require")
    assert run.exit_code == 6, run
    assert "s1" not in kit.snapshots(lab)


def test_a_disk_that_cannot_tell_changes_nothing(lab: Site) -> None:
    disk_of(lab, SILENT)
    run = on_node(lab, "100", "--name", "s1", "--verify", "--policy", "require", "--json")
    assert run.exit_code == 0, run
    assert run.json["verdict"]["kind"] == "filesystem-consistent"
    assert run.json["disk"]["word"] == "cannot-tell"


def test_a_word_never_lifts_a_verdict(lab: Site) -> None:
    disk_of(lab, AT_REST)
    lab.node.set_config(100, agent="0")
    run = on_node(lab, "100", "--name", "s1", "--verify", "--json")
    assert run.json["verdict"]["kind"] == "crash-consistent", run
    assert run.json["disk"]["word"] == "clean"


def test_the_disk_is_asked_where_the_configuration_says_so_and_not_otherwise(lab: Site) -> None:
    disk_of(lab, AT_REST)
    assert on_node(lab, "100", "--name", "s1", "--json").json["disk"] is None
    lab.write_config(snapshot={"verify": True})
    disk_of(lab, AT_REST, "s2")
    assert on_node(lab, "100", "--name", "s2", "--json").json["disk"]["word"] == "clean"


def test_from_elsewhere_nobody_can_tell(lab: Site) -> None:
    disk_of(lab, USED)
    lab.settings["local"]["node"] = ""
    lab.write_config()
    run = on_node(lab, "100", "--name", "s1", "--verify", "--json")
    assert run.json["disk"]["word"] == "cannot-tell", run
    assert run.json["verdict"]["kind"] == "filesystem-consistent"
    told = on_node(lab, "verify", "100", "s1")
    assert told.exit_code == 4
    assert "run it as root on pve1" in told.stderr


def test_the_disk_of_a_guest_is_asked_by_its_name_too(lab: Site) -> None:
    disk_of(lab, AT_REST)
    assert on_node(lab, "100", "--name", "s1").exit_code == 0
    named = on_node(lab, "verify", "guest100", "s1")
    assert (named.exit_code, named.stdout.splitlines()[-1]) == (0, "guest 100 s1: clean"), named
    assert on_node(lab, "verify", "guest100", "s1", "--json").json["guest"]["vmid"] == 100
    assert on_node(lab, "verify", "nobody", "s1").exit_code == 4


@pytest.mark.parametrize(
    ("image", "code", "word"), [(AT_REST, 0, "clean"), (USED, 6, "not-clean"), (SILENT, 16, "cannot-tell")]
)
def test_the_command_has_an_exit_code_for_each_word(lab: Site, image: bytes, code: int, word: str) -> None:
    assert on_node(lab, "100", "--name", "s1").exit_code == 0
    disk_of(lab, image)
    told = on_node(lab, "verify", "100", "s1")
    assert told.exit_code == code, told
    assert told.stdout.splitlines()[-1] == f"guest 100 s1: {word}"
    assert all(len(line) <= 80 for line in told.stdout.splitlines())
    as_json = on_node(lab, "verify", "100", "s1", "--json")
    assert as_json.exit_code == code
    assert as_json.json["word"] == word
