"""`recover` tells, with real commands on the node of a guest: last of all, when it holds nobody up any more."""

from __future__ import annotations

import contextlib
import http.server
import time
from collections.abc import Iterator

import pytest

from snapshot.journal.store import Journal
from tests.engine.kit import FREEZE, QUICK_LIMITS, check, take, write_secret
from tests.lab.guest.scripted import ScriptedGuest
from tests.lab.site import Run, Site, site
from tests.notify.receivers import WebServer, answer
from tests.unit.kit import record


@pytest.fixture
def web() -> Iterator[WebServer]:
    with WebServer() as server:
        yield server


@pytest.fixture
def node(web: WebServer) -> Iterator[Site]:
    """Our commands on the node of guest 100, where a look has been."""
    with site(ScriptedGuest, limits=dict(QUICK_LIMITS)) as lab:
        lab.settings["local"] = {"task_folder": str(lab.run / "tasks")}
        (lab.run / "tasks").mkdir()
        lab.settings["notify"] = {
            "webhook_file": str(write_secret(lab.run / "webhook", f"{web.url}/{web.secret}\n")),
            "heartbeat_file": str(write_secret(lab.run / "heartbeat", f"{web.url}/beat\n")),
        }
        lab.on_the_node()
        assert recover(lab).exit_code == 0
        yield lab


def recover(lab: Site) -> Run:
    found = check(lab, lab.safe_snapshot("recover"), thawed=False)
    assert WebServer.secret not in found.text
    return found


def test_a_guest_that_stays_frozen_is_told_once_and_so_is_its_end(node: Site, web: WebServer) -> None:
    node.settings["freeze"] = {"foreign_limit_seconds": 1e-6}
    node.write_config()
    node.guest.ask(FREEZE)
    for _ in range(2):
        assert recover(node).exit_code == 8
    (letter,) = web.letters
    (event,) = letter["events"]
    assert (event["event"], event["key"]) == ("alarm", "frozen:100")
    assert event["guest"]["vmid"] == 100
    assert "MAY STILL BE FROZEN" in letter["title"]
    assert "`safe-snapshot thaw 100` on" in event["todo"]
    node.guest.ask("guest-fsfreeze-thaw")
    for _ in range(2):
        assert recover(node).exit_code == 0
    assert [event["event"] for letter in web.letters for event in letter["events"]] == ["alarm", "alarm-over"]
    assert web.beats == ["/beat", "/beat/fail", "/beat/fail", "/beat", "/beat"]


def test_own_commands_are_told_though_no_other_way_is_configured(node: Site) -> None:
    del node.settings["notify"]
    node.settings["freeze"] = {"foreign_limit_seconds": 1e-6}
    node.write_config()
    notes, command = node.run / "notes", node.run / "hooks.d" / "10-notes"
    command.parent.mkdir(mode=0o755)
    command.parent.chmod(0o755)
    command.write_text(f'#!/bin/sh\necho "$1" >>{notes}\n')
    command.chmod(0o755)
    node.guest.ask(FREEZE)
    assert recover(node).exit_code == 8
    node.guest.ask("guest-fsfreeze-thaw")
    assert recover(node).exit_code == 0
    assert notes.read_text().split() == ["alarm", "alarm-over"]


def test_nothing_is_sent_before_the_guests_are_thawed(node: Site, web: WebServer) -> None:
    """The receiver itself looks at the guest, while the recovery waits for it."""
    frozen: list[bool] = []

    def looks(request: http.server.BaseHTTPRequestHandler) -> None:
        frozen.append(node.guest.is_frozen())
        answer(200)(request)

    web.handler = looks
    at = time.time() - 60
    left = {"state": "frozen", "frozen_at": at, "deadline_at": at + 1, "freeze_outcome": "acknowledged"}
    node.guest.ask(FREEZE)
    with contextlib.closing(Journal(node.journal_path)) as journal:
        journal.begin(record("w1", at=at, owner_pid=0, boot_id="", **left))
    found = recover(node)
    assert "thawed" in found.stdout, found
    assert frozen
    assert not any(frozen)


def test_a_recovery_that_cannot_look_beats_as_one_that_found_something(node: Site, web: WebServer) -> None:
    web.got.clear()
    node.settings["local"] = {"node": ""}
    node.settings["api"] = {"port": 9}
    node.write_config()
    assert recover(node).exit_code == 5
    assert web.beats == ["/beat/fail"]


def test_a_receiver_that_is_down_changes_nothing_but_a_warning_and_status_says_so(node: Site, web: WebServer) -> None:
    web.handler = answer(503)
    found = recover(node)
    assert found.exit_code == 0
    assert "notify: heartbeat: 127.0.0.1: it answered 503" in found.text
    assert "[notify] nobody is told by heartbeat since" in node.safe_snapshot("status").stdout


def test_a_run_of_safe_snapshot_leaves_a_ping_that_says_how_it_ended(node: Site, web: WebServer) -> None:
    node.settings["notify"]["job_heartbeat_file"] = str(write_secret(node.run / "jobs", f"{web.url}/job\n"))
    node.write_config()
    web.got.clear()
    assert take(node).exit_code == 0
    assert take(node).exit_code == 4, "the name is taken"
    assert node.safe_snapshot("101").exit_code == 4, "there is no such guest: no run"
    assert node.safe_snapshot("100", "--dry-run").exit_code == 0
    assert isinstance(node.guest, ScriptedGuest)
    node.guest.kill_agent()
    assert node.safe_snapshot("100", "--name", "s2").exit_code == 0, "it fell back"
    assert web.beats == [], "who holds a guest sends nothing"
    recover(node)
    assert [beat for beat in web.beats if beat.startswith("/job")] == ["/job", "/job/fail", "/job/fail"]


def test_a_journal_that_takes_no_ping_is_a_warning(node: Site) -> None:
    node.journal_path.unlink()
    node.journal_path.mkdir()
    found = node.safe_snapshot("--json", "100", "--name", "s1")
    assert any(line.startswith("notify: the journal") for line in found.json["warnings"]), found
