"""A backup whose guest is frozen when vzdump asks for its agent: the test plays vzdump."""

from __future__ import annotations

import contextlib
import time

import pytest

from snapshot.journal.store import Journal
from tests.hook.kit import HandMadeJob, check_thawed, newest, settled
from tests.lab.guest.scripted import ScriptedGuest
from tests.lab.site import Site, wait_for
from tests.unit.kit import record

SKIPS = ("INFO: skipping guest filesystem freeze - already frozen", "INFO: starting backup via QMP command")


@pytest.fixture(autouse=True)
def quick(lab: Site) -> None:
    """The guest's last three freezes were short, and freezing at the knock is switched on."""
    with contextlib.closing(Journal(lab.journal_path)) as journal:
        for number in range(3):
            at = time.time() - 1000 + number
            values = {"state": "thawed", "closed_at": at, "freeze_outcome": "acknowledged", "freezing_seconds": 0.2}
            journal.begin(record(f"old-{number}", at=at, **values))
    lab.settings["freeze"] |= {"at_the_knock": True}
    lab.write_config()


def reasons(lab: Site) -> list[str | None]:
    """What the journal says of each window."""
    return [window.reason for window in lab.windows()]


def test_the_guest_is_frozen_when_vzdump_asks_and_not_before(lab: Site, guest: ScriptedGuest, job: HandMadeJob) -> None:
    assert job.phase("backup-start") == 0
    assert job.phase("post-restart") == 0
    assert "frozen when vzdump asks" in job.said[-1]
    assert not guest.is_frozen()
    assert guest.ask("guest-ping") == {}
    assert guest.is_frozen(), "the freeze went in front of vzdump's question"
    assert guest.ask("guest-fsfreeze-status") == "frozen"
    job.write(*SKIPS, "INFO: started backup task 'x'")
    check_thawed(lab)
    window = settled(lab)
    assert (window.verdict, window.owner) == ("filesystem-consistent", "hook"), window.reason
    assert job.phase("backup-end") == 0
    assert "filesystem-consistent" in job.said[-1]
    assert not lab.node.requests("fsfreeze-freeze")


def test_a_vzdump_that_goes_on_without_asking_is_not_called_consistent(
    lab: Site, guest: ScriptedGuest, job: HandMadeJob
) -> None:
    job.phase("post-restart")
    job.write("INFO: starting backup via QMP command", "INFO: started backup task 'x'")
    window = settled(lab)
    assert window.verdict in ("crash-consistent", "unknown"), window.reason
    assert not guest.hook_log()
    assert "not frozen by us: vzdump went on without asking for the agent" in reasons(lab)


def test_a_vzdump_that_is_slow_to_ask_is_not_frozen_for_and_that_is_said(
    lab: Site, guest: ScriptedGuest, job: HandMadeJob
) -> None:
    job.phase("post-restart")
    assert wait_for(lambda: "not frozen by us: vzdump did not ask for the agent within 6 s" in reasons(lab), 60)
    assert guest.ask("guest-ping") == {}
    assert not guest.hook_log()
    job.write("INFO: started backup task 'x'")
    settled(lab)


def test_a_backup_that_ends_before_vzdump_asks_is_told_as_that(
    lab: Site, guest: ScriptedGuest, job: HandMadeJob
) -> None:
    job.phase("post-restart")
    job.write("INFO: Failed at 2026-01-01 00:00:00")
    settled(lab)
    assert "not frozen by us: the backup ended before vzdump asked for the agent" in reasons(lab)
    assert not guest.hook_log()


def test_a_backup_that_must_be_consistent_is_frozen_before_vzdump_asks(
    lab: Site, guest: ScriptedGuest, job: HandMadeJob
) -> None:
    lab.settings["freeze"] |= {"policy": "require"}
    lab.write_config()
    job.phase("post-restart")
    assert guest.is_frozen()
    job.write(*SKIPS, "INFO: started backup task 'x'")
    assert settled(lab).verdict == "filesystem-consistent"


def test_a_hook_that_is_killed_before_the_knock_has_nobody_frozen(
    lab: Site, guest: ScriptedGuest, job: HandMadeJob, monkeypatch: pytest.MonkeyPatch
) -> None:
    """vzdump goes on without us then, or is dead: nobody has taken the word that the guest will be frozen."""

    def killed(connection: object) -> bytes:
        raise KeyboardInterrupt

    monkeypatch.setattr("vzdump_hooks.phases.post_restart.detached.read_line", killed)
    with pytest.raises(KeyboardInterrupt):
        job.phase("post-restart")
    assert wait_for(lambda: newest(lab).verdict is not None, 30)
    assert any("the hook was killed" in (window.reason or "") for window in lab.windows())
    assert guest.ask("guest-ping") == {}
    assert not guest.hook_log()


def test_a_vzdump_that_dies_before_it_asks_leaves_nothing_frozen_and_nobody_waiting(
    lab: Site, guest: ScriptedGuest, job: HandMadeJob
) -> None:
    job.phase("post-restart")
    job.kill()
    assert wait_for(lambda: newest(lab).closed_at is not None, 30)
    assert "not frozen by us: the vzdump worker died" in reasons(lab)
    assert not guest.is_frozen()
    assert guest.ask("guest-ping") == {}


STOPPED = "INFO: skipping guest filesystem freeze - agent configured but not running?"
BEGUN = "INFO: starting backup via QMP command"
ISSUED = ("INFO: issuing guest-agent 'fs-freeze' command", BEGUN)


@pytest.mark.parametrize(
    ("lines", "verdict"),
    [
        ((STOPPED, BEGUN), "crash-consistent"),
        ((STOPPED.replace(" filesystem freeze -", "-agent 'fs-freeze',"),), "crash-consistent"),
        ((BEGUN,), "crash-consistent"),
        (("INFO: skipping guest filesystem freeze - disabled in VM options", BEGUN), "crash-consistent"),
        ((ISSUED[0], "ERROR: interrupted by signal", BEGUN), "crash-consistent"),
        (ISSUED, "filesystem-consistent"),
        ((ISSUED[0], "ERROR: unable to freeze guest fs - the command is not allowed", BEGUN), "filesystem-consistent"),
        (SKIPS, "filesystem-consistent"),
    ],
)
def test_a_guest_is_only_called_frozen_at_the_knock_where_vzdump_says_that_it_found_it_so(
    lab: Site, guest: ScriptedGuest, job: HandMadeJob, lines: tuple[str, ...], verdict: str
) -> None:
    """A TERM ends vzdump's ping, its eval swallows it, and vzdump goes on: perhaps before the freeze."""
    job.phase("post-restart")
    assert guest.ask("guest-ping") == {}
    assert guest.is_frozen()
    job.write(*lines, "INFO: started backup task 'x'")
    window = settled(lab)
    assert window.verdict == verdict, window.reason
    assert (window.failure_reason == "no-proof") is (verdict == "crash-consistent")
    assert ("set at_the_knock = false for this guest" in (window.reason or "")) is (verdict == "crash-consistent")
