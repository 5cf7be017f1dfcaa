"""So many windows of ours at once at a node, and so few calls that may keep one of its workers; who waits says so."""

from __future__ import annotations

import contextlib
import itertools
import signal
from collections.abc import Iterator

import pytest

from snapshot.base.clock import SystemClock
from snapshot.base.slots import FOLDER, Slots
from snapshot.config.settings import Config, JournalConfig
from snapshot.errors import NoTurnError
from snapshot.model import Node, Policy, VerdictKind
from snapshot.pve.turns import CALLS_AT_ONCE, WINDOW_SECONDS, WINDOWS_AT_ONCE, Turns
from snapshot.window.ownrow import READY_SECONDS
from tests.engine.inprocess import snapshot
from tests.engine.kit import check, snapshots, take
from tests.lab.guest.scripted import ScriptedGuest
from tests.lab.site import Site, Started, site
from tests.unit.kit import VirtualClock

WAITING = f"waiting: {WINDOWS_AT_ONCE} windows are open on pve1, as many as may be at once"


@contextlib.contextmanager
def taken(lab: Site, name: str, count: int) -> Iterator[contextlib.ExitStack]:
    """All turns of a name at the node are somebody else's."""
    with contextlib.ExitStack() as stack:
        for _ in range(count):
            slot = Slots(lab.journal_path.parent / FOLDER, f"{name}-pve1", count, SystemClock()).take(0.0)
            assert slot.is_held
            stack.enter_context(slot)
        yield stack


def until_it_waits(run: Started) -> None:
    assert run.stderr is not None
    line = run.stderr.readline()
    assert line.rstrip().endswith(WAITING), line


def test_a_run_waits_while_as_many_windows_as_may_be_are_open_and_says_so() -> None:
    with site() as lab, taken(lab, "window", WINDOWS_AT_ONCE) as others, lab.start("100", "--name", "s1") as run:
        until_it_waits(run)
        assert not [r for r in lab.node.requests() if "/qemu/100/" in r.path], "the guest was asked already"
        others.close()
        _, said = run.communicate(timeout=60)
        assert run.returncode == 0, said
        assert "goes on: it is this guest's turn" in said
        assert "s1" in snapshots(lab)
        assert lab.windows()[0].verdict == "filesystem-consistent"


def test_a_signal_ends_the_wait_and_nothing_was_done() -> None:
    with site() as lab, taken(lab, "window", WINDOWS_AT_ONCE), lab.start("100", "--name", "s1") as run:
        until_it_waits(run)
        run.send_signal(signal.SIGINT)
        run.communicate(timeout=60)
        assert run.returncode == 130
        assert "s1" not in snapshots(lab)


def test_a_dry_run_waits_for_nobody() -> None:
    with site() as lab, taken(lab, "window", WINDOWS_AT_ONCE):
        assert check(lab, lab.safe_snapshot("100", "--dry-run")).exit_code == 0


def test_a_run_gives_its_turn_back() -> None:
    with site() as lab, taken(lab, "window", WINDOWS_AT_ONCE - 1):
        for name in ("s1", "s2"):
            assert check(lab, lab.safe_snapshot("100", "--name", name)).exit_code == 0


def test_a_turn_that_never_comes_is_an_error_with_a_remedy() -> None:
    with site() as lab, taken(lab, "window", WINDOWS_AT_ONCE):
        clock, told = VirtualClock(), list[str]()
        config = Config(journal=JournalConfig(lab.journal_path))
        with pytest.raises(NoTurnError, match="10 windows of other runs were open on pve1 for 3600 s") as caught:
            Turns(config, clock).window(Node("pve1"), waits=told.append)
        assert clock.now == pytest.approx(WINDOW_SECONDS)
        assert told == [WAITING]
        assert "safe-snapshot status" in caught.value.remedy
        assert Turns(config, clock).window(Node("pve2"), waits=told.append).is_held


def briefly(lab: Site) -> Turns:
    """The turns of a run that does not wait long for a call's."""
    return Turns(Config(journal=JournalConfig(lab.journal_path)), SystemClock(), call_seconds=0.3)


def test_a_freeze_that_would_take_the_nodes_last_worker_is_not_sent() -> None:
    """On the node questions go to the agent's socket, which keeps no worker."""
    with site() as lab:
        lab.on_the_node()
        with taken(lab, "call", CALLS_AT_ONCE):
            result = snapshot(lab, "s1", Policy.PREFER, turns=briefly(lab))
        assert result.error is None
        assert result.verdict is not None
        assert result.verdict.kind is VerdictKind.CRASH_CONSISTENT
        assert "2 calls of ours to agents on pve1 are unanswered" in result.verdict.reason
        assert not lab.node.requests("/agent/fsfreeze-freeze")


def test_a_question_that_would_take_it_is_not_sent_either() -> None:
    with site() as lab, taken(lab, "call", CALLS_AT_ONCE):
        result = snapshot(lab, "s1", Policy.PREFER, turns=briefly(lab))
        assert result.verdict is not None
        assert result.verdict.kind is VerdictKind.CRASH_CONSISTENT
        assert not lab.node.requests("/agent/")


def test_a_window_that_waits_for_its_freeze_stays_alive_in_the_journal() -> None:
    """Else a recovery would take its owner for dead, and the freeze would be late."""
    clock, waited = VirtualClock(), list[float]()
    with site() as lab, taken(lab, "call", CALLS_AT_ONCE), pytest.raises(TimeoutError):
        Turns(Config(journal=JournalConfig(lab.journal_path)), clock).call(
            Node("pve1"), still_waits=lambda: waited.append(clock.now)
        )
    steps = [later - earlier for earlier, later in itertools.pairwise([0.0, *waited, clock.now])]
    assert len(waited) >= 10
    assert max(steps) < READY_SECONDS


def test_a_thaw_waits_for_nobody() -> None:
    """The turns are all taken once the guest is frozen."""
    with site() as lab, contextlib.ExitStack() as stack:
        lab.node.fault("/snapshot$", "hold", when="before", method="POST")
        run = stack.enter_context(lab.start("100", "--name", "s1"))
        while not lab.node.held():
            assert run.poll() is None
        assert lab.guest.is_frozen()
        stack.enter_context(taken(lab, "call", CALLS_AT_ONCE))
        run.send_signal(signal.SIGTERM)
        run.communicate(timeout=60)
        assert not lab.guest.is_frozen()
        thaw = lab.node.requests("/agent/fsfreeze-thaw")[0]
        assert thaw.outcome == "200"


def test_a_backups_hook_waits_for_nobody() -> None:
    with site(ScriptedGuest) as lab:
        with taken(lab, "window", WINDOWS_AT_ONCE), taken(lab, "call", CALLS_AT_ONCE), lab.vzdump(100) as job:
            job.wait()
        assert lab.windows()[0].verdict == "filesystem-consistent"


def test_where_it_cannot_be_counted_a_run_goes_on_with_a_warning() -> None:
    with site() as lab:
        (lab.journal_path.parent / FOLDER).write_text("")
        run = take(lab, "--json")
        assert run.exit_code == 0
        assert any("it is not counted how many windows are open at once" in line for line in run.json["warnings"])
