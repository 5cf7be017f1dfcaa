"""The guard dies: its owner thaws and says so. Both die: recover thaws, and so does a guard that is started again."""

from __future__ import annotations

import logging
import signal
import time
from pathlib import Path

import pytest

from snapshot.config.settings import Config
from snapshot.errors import ConfigError
from snapshot.guard import __main__ as guard
from tests.campaign.kit import guard_spec
from tests.lab.guest.scripted import ScriptedGuest
from tests.lab.site import Site, wait_for
from tests.process.figures import thawed_within
from tests.process.processes import (
    command_line,
    guarded_site,
    guards,
    held,
    hold_frozen,
    kill,
    start_as_systemd_would,
    task_has_skipped_its_freeze,
    the_guard,
)
from tests.process.timeline import Timeline


def test_the_owner_thaws_when_its_guard_is_killed_and_the_run_says_so() -> None:
    with guarded_site(ScriptedGuest) as (lab, timeline):
        lab.node.set(task_delays={"inside": 60})
        with lab.start("100", "--policy", "require") as owner:
            task_has_skipped_its_freeze(lab)
            killed_at = kill(the_guard(lab))
            thawed_within(2.0, timeline, killed_at, "guard killed: the owner thaws")
            lab.node.set(task_delays={})
            out, err = owner.communicate(timeout=30)
        assert owner.returncode == 6, (out, err)
        assert "guard died" in out + err
        (window,) = lab.windows()
        assert (window.verdict, window.failure_reason) == ("crash-consistent", "guard-died")
        assert window.closed_at is not None


def test_no_freeze_is_sent_when_the_guard_is_killed_before_it() -> None:
    with guarded_site(ScriptedGuest) as (lab, timeline):
        # The owner is held still between arming and freezing: the guard's first request is the last thing before.
        lab.node.fault("cluster/status", "hold", nth=2)
        with lab.start("100", "--policy", "require") as owner:
            held(lab)
            kill(the_guard(lab))
            assert owner.wait(30) == 12, owner.communicate()
        assert not timeline.freezes()
        assert not lab.node.requests("fsfreeze-freeze")
        assert lab.windows()[0].closed_at is not None


def orphaned(lab: Site, timeline: Timeline) -> list[str]:
    """Freeze guest 100 and kill its owner and its guard at once; returns the guard's command line."""
    hold_frozen(lab)
    with lab.start("100") as owner:
        held(lab)
        guard = the_guard(lab)
        argv = command_line(guard)
        kill(guard, owner.pid)
    assert wait_for(timeline.is_frozen)
    return argv


def test_recover_thaws_when_both_were_killed() -> None:
    with guarded_site(ScriptedGuest) as (lab, timeline):
        orphaned(lab, timeline)
        status = lab.safe_snapshot("status")
        assert status.exit_code == 8
        assert "LEFT OPEN" in status.text
        started = lab.safe_snapshot("recover")
        assert started.exit_code == 0, started.text
        assert "thawed (confirmed" in started.text  # its one freeze is undone: none can come late
        assert not timeline.is_frozen()
        assert started.seconds < 30, "it waited for a freeze that cannot come"
        assert lab.windows()[0].closed_at is not None
        assert not guards(lab)
        assert lab.safe_snapshot("status").exit_code == 0


def test_recover_closes_the_window_when_no_late_freeze_can_come_any_more() -> None:
    with guarded_site(ScriptedGuest) as (lab, timeline):
        lab.settings["freeze"]["late_freeze_seconds"] = 1
        lab.write_config()
        orphaned(lab, timeline)
        time.sleep(1.1)
        assert "thawed (confirmed" in lab.safe_snapshot("recover").text
        (window,) = lab.windows()
        assert (window.closed_at is not None, window.verdict, window.guard_cause) == (True, "unknown", "recovery")
        assert not guards(lab)


def test_recover_does_not_close_a_window_on_the_word_of_an_agent_that_was_restarted() -> None:
    """The last look says thawed, of a late freeze that the agent has forgotten: a thaw is sent at the end."""
    with guarded_site(ScriptedGuest) as (lab, timeline):
        lab.settings["freeze"]["late_freeze_seconds"] = 4
        lab.write_config()
        lab.node.fault("fsfreeze-freeze", "drop")
        assert lab.safe_snapshot("100", "--policy", "require").exit_code == 11
        kill(the_guard(lab))
        assert lab.guest.ask("guest-fsfreeze-freeze") == 1
        lab.guest.kill_agent()
        lab.guest.start_agent(keep_state=False)
        time.sleep(4)
        assert timeline.is_frozen()
        assert lab.safe_snapshot("recover").exit_code == 0
        assert lab.windows()[0].closed_at is not None
        assert not timeline.is_frozen()


def test_a_guard_that_is_started_again_takes_its_window_over() -> None:
    with guarded_site(ScriptedGuest) as (lab, timeline):
        argv = orphaned(lab, timeline)
        lab.guest.stop_agent()
        with start_as_systemd_would(argv) as again:
            assert wait_for(lambda: lab.windows()[0].guard_pid == again.pid, 30)
            assert lab.safe_snapshot("recover").text.count("in-progress") >= 1
            lab.guest.continue_agent()
            assert wait_for(lambda: not timeline.is_frozen())
            assert again.wait(30) == 0
        assert lab.windows()[0].closed_at is not None


def test_a_guard_that_is_started_again_thaws_with_the_journal_gone() -> None:
    with guarded_site(ScriptedGuest) as (lab, timeline):
        argv = orphaned(lab, timeline)
        lab.journal_path.write_bytes(b"not a database" * 1000)
        with start_as_systemd_would(argv) as again:
            assert wait_for(lambda: not timeline.is_frozen(), 20)
            kill(again.pid)


def test_a_guard_that_is_started_again_goes_by_the_defaults_where_the_configuration_is_broken(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The operator is at work on it while a guest stands still: the defaults are right for a PVE node."""
    broken = tmp_path / "config.toml"
    broken.write_text("[thaw\n")
    log = logging.getLogger("guard")
    for path in (broken, tmp_path / "gone.toml"):
        assert guard._configuration(path, guard_spec(), log, is_armed_by_owner=False) == Config()
        assert "vmid=100" in caplog.text
        assert path.name in caplog.text
        with pytest.raises(ConfigError):
            guard._configuration(path, guard_spec(), log, is_armed_by_owner=True)


def test_a_guard_that_is_started_again_leaves_a_closed_window_alone() -> None:
    with guarded_site(ScriptedGuest) as (lab, _):
        hold_frozen(lab)
        with lab.start("100") as owner:
            held(lab)
            argv = command_line(the_guard(lab))
            lab.node.release()
            assert owner.wait(30) == 0
        assert wait_for(lambda: not guards(lab))
        thaws = len(lab.node.requests("fsfreeze-thaw"))
        with start_as_systemd_would(argv) as again:
            assert again.wait(20) == 0
        assert len(lab.node.requests("fsfreeze-thaw")) == thaws


@pytest.mark.parametrize("journal", ["there", "lost"])
def test_a_window_has_one_guard_at_a_time(journal: str) -> None:
    with guarded_site(ScriptedGuest) as (lab, timeline):
        argv = orphaned(lab, timeline)
        lab.guest.stop_agent()
        with start_as_systemd_would(argv) as first:
            assert wait_for(lambda: lab.windows()[0].guard_pid == first.pid, 30)
            if journal == "lost":
                lab.journal_path.unlink()
            with start_as_systemd_would(argv) as second:
                try:
                    assert second.wait(20) == 0
                    assert first.poll() is None
                finally:
                    lab.guest.continue_agent()  # both can end
            assert first.wait(30) == 0
        assert not timeline.is_frozen()
        assert not list((lab.journal_path.parent / "guards").iterdir())


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT, signal.SIGUSR1])
def test_a_signal_makes_the_guard_thaw_first(number: signal.Signals) -> None:
    with guarded_site(ScriptedGuest) as (lab, timeline):
        hold_frozen(lab)
        with lab.start("100", "--policy", "prefer") as owner:
            held(lab)
            guard = the_guard(lab)
            owner.send_signal(signal.SIGSTOP)  # so that it is the guard who thaws
            signalled_at = kill(guard, with_signal=number)
            thawed_within(2.0, timeline, signalled_at, "guard ended by a signal: it thaws first")
            assert wait_for(lambda: not guards(lab))
            owner.kill()
