"""vzdump's own freeze in the lab: its words, its order, its limits, and what the copy holds."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from tests.lab.guest.scripted import ScriptedGuest
from tests.lab.guest.scriptedqmp import read_disk
from tests.lab.rundir import run_directory
from tests.lab.vzdump.job import JobResult
from tests.lab.vzdump.options import GuestSpec, Limits, StorageKind
from tests.lab.vzdump.testing import IMPATIENT, Bench

FREEZE = "INFO: issuing guest-agent 'fs-freeze' command"
START = "INFO: starting backup via QMP command"
THAW = "INFO: issuing guest-agent 'fs-thaw' command"
RESUME = "INFO: resuming VM again"
NEW, MIDDLE, OLD, EIGHT = "9.2.6", "9.1.9", "9.1.5", "8.4.0"


@pytest.fixture
def bench() -> Iterator[Bench]:
    with run_directory() as root, run_directory() as run:
        yield Bench(root, run)


@pytest.fixture
def guest(bench: Bench) -> Iterator[ScriptedGuest]:
    with ScriptedGuest(100, bench.run) as guest:
        yield guest


def archive_step(result: JobResult) -> list[str]:
    """The lines from the archive's name to the resumed guest, without the backup task's uuid."""
    lines = [line.split(" '")[0] if "started backup task" in line else line for line in result.log_lines]
    first = next(n for n, line in enumerate(lines) if line.startswith("INFO: creating ")) + 1
    last = next(n for n, line in enumerate(lines) if line.startswith(RESUME)) + 1
    return lines[first:last]


def copied_frozen(result: JobResult) -> bool:
    """Whether the copy was made of a frozen guest: the scripted disk's own word."""
    archive = result.guests[100].archive
    assert archive is not None
    content = read_disk(archive)
    assert content is not None
    return bool(content["image"]["frozen"])


STARTED = "INFO: started backup task"
WINDOW = [FREEZE, START, THAW, STARTED, RESUME]


def in_its_time(version: str, *lines: str) -> list[str]:
    """``lines`` as that version writes them: before qemu-server 9.1.7 the QMP command is not announced."""
    said = tuple(map(int, version.split("."))) >= (9, 1, 7)
    return [line for line in lines if said or line != START]


@pytest.mark.parametrize("version", [NEW, MIDDLE, "9.1.7", "9.1.6", OLD, EIGHT])
@pytest.mark.parametrize("kind", ["file", "pbs"])
def test_the_window_is_one_freeze_the_start_and_one_thaw(
    bench: Bench, guest: ScriptedGuest, version: str, kind: StorageKind
) -> None:
    with bench.job(qemu_server_version=version, storage_kind=kind) as job:
        result = job.wait()
    assert result.exitstatus == "OK"
    assert archive_step(result) == in_its_time(version, *WINDOW)
    assert [event for _, event in guest.hook_log()] == ["freeze", "thaw"]
    assert copied_frozen(result)
    assert not guest.is_frozen()


def test_a_backup_provider_never_says_started_backup_task(bench: Bench, guest: ScriptedGuest) -> None:
    with bench.job(storage_kind="provider") as job:
        result = job.wait()
    assert archive_step(result)[-4:] == [FREEZE, "INFO: setting up snapshot-access for backup", THAW, RESUME]
    assert copied_frozen(result)


NOT_RUNNING = "skipping guest filesystem freeze - agent configured but not running?"
DISABLED = "skipping guest filesystem freeze - disabled in VM options"
OLD_NOT_RUNNING = "skipping guest-agent 'fs-freeze', agent configured but not running?"
OLD_DISABLED = "skipping guest-agent 'fs-freeze', disabled in VM options"
OLD_NOT_CONFIGURED = "skipping guest-agent 'fs-freeze', agent not configured in VM options"


@pytest.mark.parametrize(
    ("version", "agent", "line"),
    [
        (NEW, None, DISABLED),
        (NEW, "0", DISABLED),
        (NEW, "1,freeze-fs=0", DISABLED),
        (NEW, "enabled=1,freeze-fs-on-backup=0", DISABLED),
        (NEW, "enabled=1,guest-fsfreeze=0,type=virtio", DISABLED),
        (MIDDLE, None, OLD_NOT_CONFIGURED),
        (MIDDLE, "enabled=0", OLD_NOT_CONFIGURED),
        (MIDDLE, "1,freeze-fs-on-backup=0", OLD_DISABLED),
        (EIGHT, "1,freeze-fs-on-backup=0", OLD_DISABLED),
        (EIGHT, None, None),
        (EIGHT, "0", None),
    ],
)
def test_the_guests_option_turns_the_freeze_off_in_the_words_of_its_time(
    bench: Bench, guest: ScriptedGuest, version: str, agent: str | None, line: str | None
) -> None:
    with bench.job(qemu_server_version=version, guests=(GuestSpec(100, agent=agent),)) as job:
        result = job.wait()
    skipped = [] if line is None else [f"INFO: {line}"]
    assert archive_step(result) == in_its_time(version, *skipped, START, STARTED, RESUME)
    assert guest.hook_log() == []
    assert not copied_frozen(result)


def test_before_9_1_6_an_agent_that_is_disabled_in_the_long_spelling_is_frozen_all_the_same(
    bench: Bench, guest: ScriptedGuest
) -> None:
    with bench.job(qemu_server_version=OLD, guests=(GuestSpec(100, agent="enabled=0"),)) as job:
        assert archive_step(job.wait()) == in_its_time(OLD, *WINDOW)


@pytest.mark.parametrize(("version", "line"), [(NEW, NOT_RUNNING), (MIDDLE, OLD_NOT_RUNNING), (EIGHT, OLD_NOT_RUNNING)])
def test_an_agent_that_does_not_answer_is_skipped(bench: Bench, guest: ScriptedGuest, version: str, line: str) -> None:
    guest.kill_agent()
    with bench.job(qemu_server_version=version, limits=IMPATIENT) as job:
        result = job.wait()
    assert archive_step(result) == in_its_time(version, f"INFO: {line}", START, STARTED, RESUME)
    assert result.exitstatus == "OK"


@pytest.mark.parametrize("mode", ["suspend", "stop"])
def test_a_paused_guest_is_not_frozen(bench: Bench, guest: ScriptedGuest, mode: str) -> None:
    with bench.job(mode=mode, limits=IMPATIENT) as job:
        result = job.wait()
    # In suspend mode vzdump still asks, and a paused guest does not answer; in stop mode it does not even ask.
    skipped = [f"INFO: {NOT_RUNNING}"] if mode == "suspend" else []
    assert archive_step(result)[:-1] == [*skipped, START, STARTED]
    assert archive_step(result)[-1].startswith("INFO: resuming VM again after ")
    assert guest.hook_log() == []


# -- a guest that is frozen already ------------------------------------------------------------------------------------


def test_since_9_1_10_a_frozen_guest_is_skipped_and_stays_frozen(bench: Bench, guest: ScriptedGuest) -> None:
    guest.ask("guest-fsfreeze-freeze")
    with bench.job() as job:
        result = job.wait()
    assert archive_step(result) == [
        *("INFO: skipping guest filesystem freeze - already frozen", START, STARTED, RESUME),
    ]
    assert result.exitstatus == "OK"
    assert copied_frozen(result)
    assert guest.is_frozen()


@pytest.mark.parametrize(("version", "says_so"), [(MIDDLE, True), ("9.0.23", True), ("9.0.22", False), (EIGHT, False)])
def test_before_9_1_10_a_frozen_guest_is_frozen_again_in_vain_and_thawed(
    bench: Bench, guest: ScriptedGuest, version: str, says_so: bool
) -> None:
    guest.ask("guest-fsfreeze-freeze")
    with bench.job(qemu_server_version=version) as job:
        result = job.wait()
    lines = archive_step(result)
    refused = [line for line in lines if line.startswith("ERROR: unable to freeze guest fs - ")]
    assert len(refused) == says_so
    assert [line for line in lines if line not in refused] == in_its_time(version, *WINDOW)
    assert result.exitstatus == "OK"
    assert copied_frozen(result)
    assert not guest.is_frozen()


# -- errors that leave the job OK --------------------------------------------------------------------------------------


@pytest.mark.parametrize(("version", "says_so"), [(NEW, True), (EIGHT, False)])
def test_a_freeze_that_is_refused_is_thawed_all_the_same(
    bench: Bench, guest: ScriptedGuest, version: str, says_so: bool
) -> None:
    guest.set_knob("freeze_exit", 3)
    with bench.job(qemu_server_version=version) as job:
        result = job.wait()
    error = "ERROR: unable to freeze guest fs - fsfreeze hook has failed with status 3"
    refused = [error] if says_so else []
    assert archive_step(result) == in_its_time(version, FREEZE, *refused, START, THAW, STARTED, RESUME)
    assert result.exitstatus == "OK"
    assert not copied_frozen(result)


@pytest.mark.parametrize(("version", "says_so"), [(NEW, True), ("9.1.6", True), (OLD, False)])
def test_a_thaw_that_is_refused_is_tried_once(bench: Bench, guest: ScriptedGuest, version: str, says_so: bool) -> None:
    guest.set_knob("thaw_exit", 3)
    with bench.job(qemu_server_version=version) as job:
        result = job.wait()
    error = "ERROR: Agent error: fsfreeze hook has failed with status 3"
    refused = [error] if says_so else []
    assert archive_step(result) == in_its_time(version, FREEZE, START, THAW, *refused, STARTED, RESUME)
    assert result.exitstatus == "OK"
    assert [event for _, event in guest.hook_log()] == ["freeze", "thaw"]


def test_a_slow_freeze_is_waited_for_with_status_questions(bench: Bench, guest: ScriptedGuest) -> None:
    guest.set_knob("freeze_sleep", 1.0)
    with bench.job(limits=Limits(freeze=0.4, poll=0.05)) as job:
        result = job.wait()
    polls = [line for line in archive_step(result) if line.startswith("still waiting")]
    assert polls[:2] == [f"still waiting on guest fs freeze - timeout in {minutes} minutes" for minutes in (50, 40)]
    assert copied_frozen(result)
    assert not guest.is_frozen()
    # `print` goes to the task log alone.
    assert not any("still waiting" in line for line in result.guests[100].log_lines)


def test_before_9_0_23_a_slow_freeze_is_given_up_and_may_come_late(bench: Bench, guest: ScriptedGuest) -> None:
    guest.set_knob("freeze_sleep", 1.0)
    with bench.job(limits=Limits(old_freeze=0.3, poll=0.05), qemu_server_version=EIGHT) as job:
        result = job.wait()
    error = "ERROR: VM 100 qga command 'guest-fsfreeze-freeze' failed - got timeout"
    assert archive_step(result) == in_its_time(EIGHT, FREEZE, error, START, THAW, STARTED, RESUME)
    assert not copied_frozen(result)


def test_a_thaw_without_an_answer_is_given_up_and_the_guest_stays_frozen(bench: Bench, guest: ScriptedGuest) -> None:
    guest.set_knob("thaw_sleep", 0)
    with bench.job(backup_delay=1.5, limits=Limits(thaw=0.3, poll=0.05)) as job:
        job.wait_for_line("starting backup via QMP command")
        guest.stop_agent()
        result = job.wait()
    assert "ERROR: VM 100 qga command 'guest-fsfreeze-thaw' failed - got timeout" in result.log_lines
    assert result.exitstatus == "OK"
    assert guest.is_frozen()


# -- the command that starts the backup --------------------------------------------------------------------------------


def test_the_guest_is_frozen_as_long_as_the_start_takes(bench: Bench, guest: ScriptedGuest) -> None:
    with bench.job(backup_delay=1.0, storage_kind="pbs") as job:
        job.wait_for_line("starting backup via QMP command")
        time.sleep(0.3)
        assert guest.is_frozen()
        result = job.wait()
    assert guest.windows()[0] >= 1.0
    assert copied_frozen(result)


@pytest.mark.parametrize(
    ("version", "kind", "error"),
    [
        (NEW, "file", "executing QMP command to start backup failed - got timeout"),
        (NEW, "pbs", "VM 100 qmp command 'backup' failed - got timeout"),
        (EIGHT, "file", "got timeout"),
        (EIGHT, "pbs", "VM 100 qmp command 'backup' failed - got timeout"),
    ],
)
def test_a_start_that_takes_too_long_thaws_and_fails(
    bench: Bench, guest: ScriptedGuest, version: str, kind: StorageKind, error: str
) -> None:
    limits = Limits(start_file=0.5, start_pbs=0.5, poll=0.05)
    with bench.job(backup_delay=2.0, storage_kind=kind, limits=limits, qemu_server_version=version) as job:
        result = job.wait()
    aborted = (f"ERROR: {error}", "INFO: aborting backup job")
    assert archive_step(result) == in_its_time(version, FREEZE, START, THAW, *aborted, RESUME)
    assert result.guests[100].message == error
    assert not guest.is_frozen()


def test_a_file_and_pbs_have_different_limits_and_the_defaults_are_pves() -> None:
    limits = Limits()
    assert (limits.start_file, limits.start_pbs, limits.freeze, limits.thaw, limits.ping) == (30, 125, 600, 180, 3)
    assert limits.scaled(0.01).start_pbs == pytest.approx(1.25)


@pytest.mark.parametrize("when", ["start", "copy"])
@pytest.mark.parametrize("kind", ["file", "pbs", "provider"])
def test_a_backup_that_fails_is_cancelled_and_the_guest_thawed(
    bench: Bench, guest: ScriptedGuest, kind: StorageKind, when: str
) -> None:
    hook = bench.hook()
    guest.qmp_faults.backup_seconds = 30
    with bench.job(hook, fail_backup=when, storage_kind=kind) as job:
        result = job.wait()
    assert result.exitstatus == "job errors"
    assert THAW in result.log_lines
    assert ("INFO: aborting backup job" in result.log_lines) == (kind != "provider")
    assert hook.phases[-3:] == ["backup-abort", "log-end", "job-end"]
    assert result.guests[100].archive is None
    assert not guest.is_frozen()


# -- signals around the window -----------------------------------------------------------------------------------------


def test_a_term_inside_the_freeze_is_swallowed_and_the_job_goes_on(bench: Bench, guest: ScriptedGuest) -> None:
    guest.set_knob("freeze_sleep", 1.0)
    with bench.job() as job:
        job.wait_for_line("issuing guest-agent 'fs-freeze' command")
        time.sleep(0.3)
        job.terminate()
        result = job.wait()
    # The evals around the freeze eat it: the status is asked as after a time-out, and answers behind the freeze.
    assert "still waiting on guest fs freeze - timeout in 50 minutes" in result.log_lines
    assert result.exitstatus == "OK"
    assert copied_frozen(result)
    assert not guest.is_frozen()


def test_a_term_inside_the_freeze_can_be_made_to_count(bench: Bench, guest: ScriptedGuest) -> None:
    guest.set_knob("freeze_sleep", 1.0)
    with bench.job(term_in_freeze="raised") as job:
        job.wait_for_line("issuing guest-agent 'fs-freeze' command")
        time.sleep(0.3)
        job.terminate()
        result = job.wait()
    assert result.exitstatus == "interrupted by signal"


@pytest.mark.parametrize(
    ("version", "kind", "exitstatus"),
    [
        (NEW, "file", "job errors"),
        (NEW, "pbs", "interrupted by signal"),
        (EIGHT, "file", "interrupted by signal"),
    ],
)
def test_a_term_inside_the_start_thaws_the_guest(
    bench: Bench, guest: ScriptedGuest, version: str, kind: StorageKind, exitstatus: str
) -> None:
    with bench.job(backup_delay=20, storage_kind=kind, qemu_server_version=version) as job:
        job.wait_for_line("issuing guest-agent 'fs-freeze' command")
        time.sleep(0.5)
        job.terminate()
        result = job.wait()
    assert result.exitstatus == exitstatus
    assert THAW in result.log_lines
    assert not guest.is_frozen()


def test_a_kill_inside_the_window_leaves_the_guest_frozen(bench: Bench, guest: ScriptedGuest) -> None:
    with bench.job(backup_delay=20) as job:
        job.wait_for_line("starting backup via QMP command")
        job.kill()
        result = job.wait()
    assert result.exitstatus == "unexpected status"
    assert guest.is_frozen()


def test_stopping_a_job_whose_freeze_hangs_kills_it_with_the_freeze_on_its_way(
    bench: Bench, guest: ScriptedGuest
) -> None:
    guest.set_knob("freeze_sleep", 6.5)
    with bench.job() as job:
        job.wait_for_line("issuing guest-agent 'fs-freeze' command")
        time.sleep(0.2)
        job.stop()
        result = job.wait()
    assert result.exitstatus == "unexpected status"
    deadline = time.monotonic() + 15
    while not guest.is_frozen():
        assert time.monotonic() < deadline, "the late freeze never came"
        time.sleep(0.1)


def test_qemu_killed_in_the_window_fails_the_guest(bench: Bench, guest: ScriptedGuest) -> None:
    with bench.job(backup_delay=1.0) as job:
        job.wait_for_line("starting backup via QMP command")
        guest.stop()
        result = job.wait()
    assert result.exitstatus == "job errors"
    assert "ERROR: VM 100 not running" in result.log_lines


def test_a_guest_without_disks_is_never_frozen_and_never_says_started(bench: Bench, guest: ScriptedGuest) -> None:
    with bench.job(guests=(GuestSpec(100, disks=()),)) as job:
        result = job.wait()
    assert result.exitstatus == "OK"
    assert "INFO: starting diskless backup" in result.log_lines
    assert not any("freeze" in line or "started backup task" in line for line in result.log_lines)
    assert guest.hook_log() == []
