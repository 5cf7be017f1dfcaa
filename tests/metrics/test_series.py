"""What the journal makes of windows: counters, gauges, states."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from snapshot.errors import JournalError
from snapshot.journal import families, series
from snapshot.journal.looks import GuestLook
from snapshot.model import FreezeOutcome, Guest, GuestKind, Node, Vmid
from snapshot.window.verdict import Proof, broken_word
from snapshot.words import Word
from tests.metrics import fleet
from tests.metrics.conftest import DAY, START, World
from vzdump_hooks.hold.verdict import _NOT_FROZEN, watched_word
from vzdump_hooks.phases.backup_end import NO_BACKUP
from vzdump_hooks.tasklog.follow import LogEvidence
from vzdump_hooks.tasklog.wordings import LogEvent

PREFIX = "pve_fsfreeze_"


def test_a_good_run_counts_once_and_leaves_its_times(world: World) -> None:
    world.good_run(100, seconds=0.3)
    assert world.value(PREFIX + "attempts_total", vmid="100") == 1
    assert world.value(PREFIX + "window_seconds_count", vmid="100") == 1
    assert world.value(PREFIX + "window_seconds_sum", vmid="100") == pytest.approx(0.3)
    assert world.value(PREFIX + "window_seconds_bucket", le="0.25") == 0
    assert world.value(PREFIX + "window_seconds_bucket", le="0.5") == 1
    assert world.value(PREFIX + "window_seconds_bucket", le="+Inf") == 1
    assert world.value(PREFIX + "last_window_seconds") == pytest.approx(0.3)
    assert world.value(PREFIX + "last_freeze_seconds") == pytest.approx(0.1)
    assert world.value(PREFIX + "last_thaw_seconds") == pytest.approx(0.1)
    assert world.value(PREFIX + "window_limit_seconds") == 30
    assert world.value(PREFIX + "filesystems_frozen") == 2
    assert world.value(PREFIX + "guest_frozen") == 0
    for name in ("last_run", "last_success", "last_consistent"):
        assert world.value(f"{PREFIX}{name}_timestamp_seconds") == pytest.approx(START + 0.3)


def test_a_bucket_that_another_version_knew_costs_its_edge_and_not_the_metrics(world: World) -> None:
    world.good_run(100, seconds=0.3)
    with world.journal.transaction("written") as db:
        db.execute("UPDATE series SET labels = replace(labels, '0.5', '0.42') WHERE name LIKE '%_bucket'")
    assert world.value(PREFIX + "window_seconds_bucket", le="300") == 0
    assert world.value(PREFIX + "window_seconds_bucket", le="+Inf") == 1


def test_labels_are_those_of_prometheus_pve_exporter_and_no_more(world: World) -> None:
    window = world.failed_run(100)
    world.journal.update(window, snapshot_name="s3cret-name", upid="UPID:pve1:x", reason="free text")
    text = world.text()
    assert 'id="qemu/100",node="pve1",source="snapshot",vmid="100"' in text
    for leak in ("s3cret-name", "UPID", "free text"):
        assert leak not in text
    assert {line.partition("{")[0] for line in text.splitlines() if "guest-100" in line} == {PREFIX + "guest_info"}


def test_a_guest_has_a_series_for_what_it_has_met_and_the_others_start_at_zero(world: World) -> None:
    world.good_run()
    assert world.value(PREFIX + "failures_total") is None
    assert world.value(PREFIX + "guard_thaws_total") is None
    for _, reason in families.FAILURES:
        assert Word(reason).sentence
    for phase in families.HOOK_PHASES:
        assert world.value(PREFIX + "hook_errors_total", phase=phase) == 0
    assert world.value(PREFIX + "thaw_retries_total") == 0
    assert world.value(PREFIX + "late_freezes_total") == 0


def test_a_guest_in_good_health_has_at_most_forty_series(world: World) -> None:
    """It had 76, half of which stood for failures that it never had."""
    world.good_run(100)
    world.good_run(101)
    world.failed_run(101)
    world.journal.put_looks([GuestLook("qemu/100", 100, "pve1", "db", True, world.clock.now, state="thawed")])
    assert len([line for line in world.text().splitlines() if 'id="qemu/100"' in line]) <= 40


def test_a_guests_name_is_that_of_the_last_look_or_else_of_the_newest_run(world: World) -> None:
    info = PREFIX + "guest_info"
    world.good_run(100, guest_name="old", source="vzdump")
    world.good_run(100, guest_name="db", source="snapshot")
    assert [dict(pairs)["name"] for (name, pairs) in world.samples() if name == info] == ["db"]
    world.good_run(100, guest_name="db.1", source="snapshot", node="pve2")
    assert 'guest_info{id="qemu/100",name="db.1",node="pve2",vmid="100"} 1.0' in world.text()
    looks = [
        GuestLook("qemu/100", 100, "pve2", "renamed", True, world.clock.now),
        GuestLook("qemu/101", 101, "pve2", "never-guarded", True, world.clock.now),
        GuestLook("qemu/102", 102, "pve2", "shut-down", False, world.clock.now),
    ]
    world.journal.put_looks(looks)
    named = {dict(pairs)["name"] for (name, pairs) in world.samples() if name == info and ("node", "pve2") in pairs}
    assert named == {"renamed", "never-guarded"}


def test_what_our_code_calls_failures_is_in_the_table_of_the_documentation() -> None:
    proofs = (Proof.NOT_FROZEN, Proof.NO_ANSWER, Proof.NOT_ASKED)
    broken = (Word.DEADLINE, Word.GUARD_DIED, Word.REPLY_LOST, Word.BACKUP_FAILED, Word.INTERRUPTED, None)
    events = (e for e, _ in _NOT_FROZEN)
    words = {("freeze", outcome.value) for outcome in FreezeOutcome if outcome is not FreezeOutcome.ACKNOWLEDGED}
    words |= {("freeze", watched_word(LogEvidence((event,)), None).value) for event in events}
    words |= {("hold", broken_word(proof, why).value) for proof in proofs for why in broken}
    words |= {
        ("hold", watched_word(LogEvidence((e,)), None).value) for e in (LogEvent.FREEZE_FAILED, LogEvent.FREEZE_ISSUED)
    }
    words |= {("snapshot", NO_BACKUP)}
    assert words <= set(families.FAILURES)
    for stage, reason in families.FAILURES:
        assert families.word(stage) == stage
        assert families.word(reason) == reason


def test_a_failed_run_is_seen_until_the_next_good_one_and_counted_for_ever(world: World) -> None:
    world.failed_run(stage="hold", reason="deadline")
    assert world.value(PREFIX + "last_failure", stage="hold", reason="deadline") == 1
    assert world.value(PREFIX + "failures_total", stage="hold", reason="deadline") == 1
    assert world.value(PREFIX + "last_verdict", verdict="crash-consistent") == 1
    assert world.value(PREFIX + "last_verdict", verdict="filesystem-consistent") == 0
    assert world.value(PREFIX + "last_success_timestamp_seconds") == 0
    assert world.value(PREFIX + "last_consistent_timestamp_seconds") == 0
    world.good_run()
    assert world.value(PREFIX + "last_failure") is None
    assert world.value(PREFIX + "failures_total", stage="hold", reason="deadline") == 1
    assert world.value(PREFIX + "last_verdict", verdict="filesystem-consistent") == 1
    assert world.value(PREFIX + "last_verdict", verdict="crash-consistent") == 0


def test_a_window_that_was_taken_again_is_neither_a_failure_nor_a_success(world: World) -> None:
    """Found by the campaign: its snapshot is removed, and the next one may fail."""
    world.end(world.armed(), verdict="unknown")
    assert world.value(PREFIX + "last_success_timestamp_seconds") == 0
    assert world.value(PREFIX + "last_failure") is None
    world.good_run()
    assert world.value(PREFIX + "last_success_timestamp_seconds") > 0


def test_a_new_run_that_has_not_ended_leaves_the_last_ones_failure_in_sight(world: World) -> None:
    world.failed_run()
    world.armed()
    assert world.value(PREFIX + "last_failure") == 1


def test_a_window_rewritten_many_times_counts_once(world: World) -> None:
    window = world.armed()
    for _ in range(3):
        world.journal.update(
            window, state="stuck", failure_stage="thaw", failure_reason="no-answer", guard_cause="deadline"
        )
        world.journal.update(window, failure_stage=None, failure_reason=None, thaw_attempts=12, late_freezes=2)
        world.journal.update(window, failure_stage="hold", failure_reason="deadline", thaw_attempts=3, late_freezes=1)
        world.end(window)
    assert world.value(PREFIX + "attempts_total") == 1
    assert world.value(PREFIX + "failures_total", stage="thaw", reason="no-answer") == 1
    assert world.value(PREFIX + "failures_total", stage="hold", reason="deadline") is None
    assert world.value(PREFIX + "guard_thaws_total", cause="deadline") == 1
    assert world.value(PREFIX + "thaw_retries_total") == 11
    assert world.value(PREFIX + "late_freezes_total") == 2
    assert world.value(PREFIX + "window_seconds_count") == 1


def test_a_guest_is_frozen_from_its_arming_to_its_confirmed_thaw(world: World) -> None:
    window = world.intent()
    assert world.value(PREFIX + "guest_frozen") == 0  # nothing was sent: no guard, no freeze
    assert world.value(PREFIX + "frozen_since_timestamp_seconds") is None
    world.journal.update(window, state="armed")
    assert world.value(PREFIX + "guest_frozen") == 1
    assert world.value(PREFIX + "frozen_since_timestamp_seconds") == START
    world.clock.now += 200
    world.journal.update(window, state="stuck", failure_stage="thaw", failure_reason="no-answer", thaw_attempts=9)
    assert world.value(PREFIX + "guest_frozen") == 1
    assert world.value(PREFIX + "last_failure", stage="thaw", reason="no-answer") == 1
    world.end(window)
    assert world.value(PREFIX + "guest_frozen") == 0
    assert world.value(PREFIX + "frozen_since_timestamp_seconds") is None


def test_a_thawed_guest_that_is_watched_for_a_late_freeze_is_not_frozen(world: World) -> None:
    window = world.armed()
    world.journal.update(window, state="unknown", freeze_outcome="unknown")
    assert world.value(PREFIX + "guest_frozen") == 1
    world.journal.update(window, thawed_at=world.clock.now, quiet_until_at=world.clock.now + 3600)
    assert world.value(PREFIX + "guest_frozen") == 0
    world.journal.update(window, state="stuck")
    assert world.value(PREFIX + "guest_frozen") == 1


def test_a_window_that_its_owner_could_not_measure_counts_from_its_intent(world: World) -> None:
    window = world.armed()
    world.clock.now += 45
    world.journal.update(window, guard_cause="owner-died", thawed_at=world.clock.now, thaw_attempts=1)
    assert world.value(PREFIX + "window_seconds_count") == 0
    world.journal.update(window, closed_at=world.clock.now, state="thawed", failure_stage="hold")
    assert world.value(PREFIX + "window_seconds_sum") == 45
    assert world.value(PREFIX + "attempts_total") == 1
    assert world.value(PREFIX + "failures_total", stage="hold", reason="unspecified") == 1


def test_late_news_of_an_old_window_count_but_do_not_replace_a_newer_run(world: World) -> None:
    old = world.armed()
    world.journal.update(old, freeze_outcome="unknown", verdict="crash-consistent", thawed_at=world.clock.now)
    world.clock.now += 600
    world.good_run()
    world.clock.now += 3000
    world.journal.update(
        old, late_freezes=1, closed_at=world.clock.now, failure_stage="freeze", failure_reason="unknown"
    )
    assert world.value(PREFIX + "late_freezes_total") == 1
    assert world.value(PREFIX + "failures_total", stage="freeze", reason="unknown") == 1
    assert world.value(PREFIX + "last_failure") is None
    assert world.value(PREFIX + "last_verdict", verdict="filesystem-consistent") == 1
    assert world.value(PREFIX + "last_run_timestamp_seconds") == pytest.approx(START + 600.3)


def test_a_run_that_is_judged_again_and_worse_takes_its_success_back(world: World) -> None:
    world.good_run(source="vzdump")
    world.clock.now += DAY
    window = world.good_run(source="vzdump")
    world.journal.update(window, verdict="crash-consistent", failure_stage="hold", failure_reason="no-proof")
    assert world.value(PREFIX + "last_consistent_timestamp_seconds") == pytest.approx(START + 0.3)
    assert world.value(PREFIX + "last_success_timestamp_seconds") == pytest.approx(START + 0.3)
    assert world.value(PREFIX + "last_run_timestamp_seconds") == pytest.approx(START + DAY + 0.6)


def test_a_run_that_was_not_to_freeze_is_a_success_but_not_consistent(world: World) -> None:
    window = world.intent(deadline_at=START, kind="lxc")
    world.journal.update(window, verdict="crash-consistent", closed_at=world.clock.now, state="thawed")
    assert world.value(PREFIX + "attempts_total", id="lxc/100") == 0
    assert world.value(PREFIX + "last_success_timestamp_seconds", id="lxc/100") == START
    assert world.value(PREFIX + "last_consistent_timestamp_seconds", id="lxc/100") == 0
    assert world.value(PREFIX + "window_limit_seconds", id="lxc/100") is None


def test_a_migrated_guest_leaves_no_gauge_on_its_old_node_but_its_counters(world: World) -> None:
    world.failed_run(node="pve1")
    world.good_run(node="pve2")
    old = {name for name, pairs in world.samples() if dict(pairs).get("node") == "pve1" and name.startswith(PREFIX)}
    assert world.value(PREFIX + "failures_total", node="pve1", stage="freeze", reason="refused") == 1
    assert world.value(PREFIX + "guest_frozen", node="pve1") == 0
    assert not [n for n in old if "_last_" in n or "since" in n]


def test_a_moved_guests_last_good_run_is_not_forgotten(world: World) -> None:
    """One journal sees both nodes when safe-snapshot runs on one machine for the whole cluster."""
    world.good_run(node="pve1")
    world.clock.now += DAY
    window = world.armed(node="pve2")
    assert world.value(PREFIX + "last_verdict", node="pve2", verdict="filesystem-consistent") == 1
    world.end(window, verdict="crash-consistent", failure_stage="freeze", failure_reason="refused")
    assert world.value(PREFIX + "last_consistent_timestamp_seconds") == pytest.approx(START + 0.3)
    assert world.value(PREFIX + "last_success_timestamp_seconds") == pytest.approx(START + 0.3)
    assert world.value(PREFIX + "attempts_total", node="pve1") == 1
    assert world.value(PREFIX + "attempts_total", node="pve2") == 1


def test_late_news_of_a_window_on_the_node_that_a_guest_has_left_do_not_put_its_gauges_back_there(
    world: World,
) -> None:
    old = world.armed(node="pve1")
    world.journal.update(old, freeze_outcome="unknown", thawed_at=world.clock.now, state="unknown")
    world.clock.now += 600
    world.good_run(node="pve2")
    world.clock.now += 3000
    world.journal.update(
        old,
        state="thawed",
        closed_at=world.clock.now,
        verdict="crash-consistent",
        failure_stage="freeze",
        failure_reason="unknown",
    )
    assert world.value(PREFIX + "failures_total", node="pve1", stage="freeze", reason="unknown") == 1
    assert world.value(PREFIX + "last_failure") is None
    assert world.value(PREFIX + "last_run_timestamp_seconds", node="pve1") is None
    assert world.value(PREFIX + "last_verdict", node="pve2", verdict="filesystem-consistent") == 1


def test_a_clock_that_was_far_ahead_once_does_not_freeze_the_gauges(world: World) -> None:
    world.clock.now += 3650 * DAY
    world.failed_run()
    world.clock.now = START
    world.good_run()
    assert world.value(PREFIX + "last_failure") is None
    assert world.value(PREFIX + "last_run_timestamp_seconds") == pytest.approx(START + 0.3)
    assert world.value(PREFIX + "last_consistent_timestamp_seconds") == pytest.approx(START + 0.3)


def test_a_guest_that_moves_while_its_window_is_open_is_frozen_nowhere_afterwards(world: World) -> None:
    window = world.armed(node="pve1")
    world.journal.update(window, state="stuck")
    world.journal.update(window, node="pve2")
    assert world.value(PREFIX + "guest_frozen", node="pve2") == 1
    assert world.value(PREFIX + "guest_frozen", node="pve1") == 0
    world.end(window)
    assert {v for (n, _), v in world.samples().items() if n == PREFIX + "guest_frozen"} == {0.0}


def test_removed_guests_disappear_after_the_configured_time_and_open_windows_do_not(world: World) -> None:
    world.good_run(100)
    world.armed(200)
    world.clock.now += 29 * DAY
    world.good_run(300)
    assert world.value(PREFIX + "attempts_total", vmid="100") == 1
    world.clock.now += 2 * DAY
    assert world.value(PREFIX + "attempts_total", vmid="100") is None
    assert world.value(PREFIX + "guest_frozen", vmid="200") == 1
    assert world.value(PREFIX + "attempts_total", vmid="300") == 1
    assert world.publish() == []
    assert {row.vmid for row in world.journal.series()} == {200, 300}
    assert 'guest_frozen{id="qemu/200"' in world.textfile.read_text()


def test_old_rows_of_a_guest_that_is_still_seen_are_kept(world: World) -> None:
    world.failed_run(100, stage="freeze", reason="refused")
    world.clock.now += 40 * DAY
    world.good_run(100)
    assert world.publish() == []
    assert world.value(PREFIX + "failures_total", stage="freeze", reason="refused") == 1
    assert world.value(PREFIX + "attempts_total") == 2


def test_the_agent_is_up_or_down_where_the_guest_is(world: World) -> None:
    world.good_run()
    for node, up in (("pve1", False), ("pve2", True)):
        guest = Guest(Vmid(100), Node(node), GuestKind.QEMU)
        with world.journal.transaction("written") as db:
            series.agent_seen(db, guest, up, world.clock.now)
    assert world.value(PREFIX + "agent_up", node="pve2") == 1
    assert world.value(PREFIX + "agent_up", node="pve1") is None


def test_an_agent_that_was_down_is_nobodys_concern_once_a_run_needs_none(world: World) -> None:
    """A guest that was shut down, or is not to be frozen any more, is not asked again: the alert would stay."""
    guest = Guest(Vmid(100), Node("pve1"), GuestKind.QEMU)

    def asked(up: bool) -> None:
        with world.journal.transaction("written") as db:
            series.agent_seen(db, guest, up, world.clock.now)

    asked(False)
    world.failed_run(stage="preflight", reason="agent")
    assert world.value(PREFIX + "agent_up") == 0
    world.end(world.intent(), verdict="offline", freeze_outcome=None, frozen_at=None, thaw_attempts=None)
    assert world.value(PREFIX + "agent_up") is None
    asked(False)
    world.end(world.intent(), verdict="crash-consistent", freeze_outcome=None, frozen_at=None, thaw_attempts=None)
    assert world.value(PREFIX + "agent_up") is None
    asked(True)
    world.end(world.intent(), verdict="offline", freeze_outcome=None, frozen_at=None, thaw_attempts=None)
    assert world.value(PREFIX + "agent_up") == 1


def test_hook_errors_are_counted_by_phase_and_strangers_are_other(world: World) -> None:
    for phase in ("log-end", "log-end", "brand-new-phase\n"):
        with world.journal.transaction("written") as db:
            series.hook_error(db, phase, "pve1")
    assert world.value(PREFIX + "hook_errors_total", phase="log-end", node="pve1") == 2
    assert world.value(PREFIX + "hook_errors_total", phase="other", node="pve1") == 1


def test_words_that_are_no_words_do_not_become_labels(world: World) -> None:
    world.failed_run(stage="freeze", reason='the agent said: "no\n"' + "x" * 500)
    assert world.value(PREFIX + "failures_total", stage="freeze", reason="other") == 1


def test_counters_survive_the_process_and_count_across_processes(world: World) -> None:
    world.good_run()
    other = World.__new__(World)
    other.__dict__ |= world.__dict__
    other.journal = type(world.journal)(world.config.journal.path)
    other.good_run()
    other.journal.close()
    assert world.value(PREFIX + "attempts_total") == 2


_STAGES = st.sampled_from([None, "preflight", "freeze", "hold", "snapshot", "thaw"])
_CHANGES = st.fixed_dictionaries(
    {},
    optional={
        "state": st.sampled_from(["armed", "freezing", "frozen", "thawing", "thawed", "unknown", "stuck"]),
        "freeze_outcome": st.sampled_from([None, "acknowledged", "refused", "unknown"]),
        "failure_stage": _STAGES,
        "failure_reason": st.sampled_from([None, "refused", "deadline", "no-answer"]),
        "thaw_attempts": st.integers(1, 9),
        "late_freezes": st.integers(0, 4),
        "guard_cause": st.sampled_from([None, "deadline", "owner-died"]),
        "window_seconds": st.none() | st.floats(0.01, 400),
        "verdict": st.sampled_from([None, "filesystem-consistent", "crash-consistent", "unknown"]),
        "thawed_at": st.none() | st.floats(START, START + 100),
        "closed_at": st.none() | st.floats(START, START + 100),
    },
)


@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(st.integers(0, 2), _CHANGES), max_size=10))
def test_whatever_happens_to_windows_no_counter_goes_back_or_counts_twice(
    tmp_path_factory: pytest.TempPathFactory, story: list[tuple[int, dict[str, object]]]
) -> None:
    world = World(tmp_path_factory.mktemp("world"))
    windows = [world.intent(100), world.intent(100), world.intent(200)]
    before: dict[object, float] = {}
    for which, change in story:
        with contextlib.suppress(JournalError):  # a state that cannot follow is refused, and counts nothing
            world.journal.update(windows[which], **change)
        after = {
            key: value
            for key, value in world.samples().items()
            if key[0].endswith(("_total", "_bucket", "_count", "_sum"))
        }
        for key, value in before.items():
            assert after[key] >= value, f"{key} went back"
        before = after
        for vmid, how_many in (("100", 2), ("200", 1)):
            for name in ("attempts_total", "failures_total", "guard_thaws_total", "window_seconds_count"):
                counted = sum(v for (n, pairs), v in after.items() if n == PREFIX + name and ("vmid", vmid) in pairs)
                assert counted <= how_many, f"{name} counted a window twice"
    world.journal.close()


def test_a_transaction_that_fails_counts_nothing(world: World) -> None:
    window = world.armed()
    before = world.text()
    with pytest.raises(JournalError, match="NOT NULL"):
        _count_and_fail(world, window)
    assert world.text() == before


def _count_and_fail(world: World, window: str) -> None:
    with world.journal.transaction("written") as db:
        series.hook_error(db, "log-end")
        db.execute("UPDATE windows SET vmid = NULL WHERE id = ?", (window,))


def _steps(world: World) -> int:
    """How much work SQLite does for one rendering, in its own steps."""
    steps = 0

    def count() -> int:
        nonlocal steps
        steps += 1
        return 0

    with world.journal.transaction("read") as db:
        db.set_progress_handler(count, 100)
    world.text()
    return steps


def test_rendering_reads_no_history(world: World) -> None:
    fleet.fill(world.journal, 20, 3, world.clock.now, span=3 * DAY)
    few = _steps(world)
    other = World(world.folder / "other")
    fleet.fill(other.journal, 20, 300, world.clock.now, span=300 * DAY, project=False)
    many = _steps(other)
    other.journal.close()
    assert many <= 2 * few, f"{few} steps for 60 windows, {many} for 6,000"
