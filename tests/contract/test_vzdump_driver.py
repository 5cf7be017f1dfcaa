"""The lab's vzdump against PVE's own: which phases, in which order, with what in their hands.

Freezing is in test_vzdump_driver_freeze.py; tasks, logs and signals are in test_vzdump_driver_task.py.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.lab.guest.scripted import ScriptedGuest
from tests.lab.rundir import run_directory
from tests.lab.vzdump.options import GuestSpec, StorageKind
from tests.lab.vzdump.testing import IMPATIENT, Bench, RecordingHook

ARCHIVE = "archive"
SNAPSHOT = ["backup-start", "pre-stop", "pre-restart", "post-restart", ARCHIVE, "backup-end", "log-end"]
STOPPED = ["backup-start", "pre-stop", ARCHIVE, "backup-end", "pre-restart", "post-restart", "log-end"]
NOT_RUNNING = ["backup-start", ARCHIVE, "backup-end", "log-end"]
LXC_SUSPEND = ["backup-start", "pre-stop", "pre-restart", "post-restart", ARCHIVE, "backup-end", "log-end"]
LXC = (GuestSpec(100, "lxc"),)
LXC_WITHOUT_SNAPSHOTS = (GuestSpec(100, "lxc", storage_snapshots=False),)


@pytest.fixture
def bench() -> Iterator[Bench]:
    with run_directory() as root, run_directory() as run:
        yield Bench(root, run)


@pytest.fixture
def guest(bench: Bench) -> Iterator[ScriptedGuest]:
    with ScriptedGuest(100, bench.run) as guest:
        yield guest


def order(hook: RecordingHook, log: tuple[str, ...]) -> list[str]:
    """The phases of the guest's part, and where the archive step stands among them.

    The hook prints its phase, so the task log has both.
    """
    steps = [
        ARCHIVE if line.startswith("INFO: creating ") else line.removeprefix("INFO: phase ")
        for line in log
        if line.startswith(("INFO: creating ", "INFO: phase "))
    ]
    assert [step for step in steps if step != ARCHIVE] == hook.phases
    return steps


TELL = 'echo "phase $1"'


@pytest.mark.parametrize(
    ("options", "running", "steps", "mode"),
    [
        ({"mode": "snapshot"}, True, SNAPSHOT, "snapshot"),
        ({"mode": "suspend"}, True, STOPPED, "suspend"),
        ({"mode": "stop"}, True, STOPPED, "stop"),
        ({"mode": "snapshot"}, False, NOT_RUNNING, "stop"),
        ({"mode": "suspend"}, False, NOT_RUNNING, "stop"),
        ({"mode": "snapshot", "guests": LXC}, False, SNAPSHOT, "snapshot"),
        ({"mode": "suspend", "guests": LXC}, False, LXC_SUSPEND, "suspend"),
        ({"mode": "stop", "guests": LXC}, False, STOPPED, "stop"),
        ({"mode": "snapshot", "guests": LXC_WITHOUT_SNAPSHOTS}, False, LXC_SUSPEND, "suspend"),
    ],
    ids=[
        *("qemu snapshot", "qemu suspend", "qemu stop", "qemu off, snapshot", "qemu off, suspend"),
        *("lxc snapshot", "lxc suspend", "lxc stop", "lxc without storage snapshots"),
    ],
)
def test_the_phases_come_in_the_order_of_the_table(
    bench: Bench, guest: ScriptedGuest, options: dict[str, object], running: bool, steps: list[str], mode: str
) -> None:
    if not running:
        guest.stop()
    hook = bench.hook(TELL)
    with bench.job(hook, limits=IMPATIENT, **options) as job:
        result = job.wait()
    assert result.exitstatus == "OK", result.log_lines
    assert order(hook, result.log_lines) == ["job-init", "job-start", *steps, "job-end"]
    of_guest = [call.arguments[1:] for call in hook.calls if not call.phase.startswith("job-")]
    assert set(of_guest) == {(mode, "100")}
    assert all(call.arguments == (call.phase,) for call in hook.calls if call.phase.startswith("job-"))


def test_a_failed_guest_is_aborted_and_the_next_one_goes_on(bench: Bench, guest: ScriptedGuest) -> None:
    hook = bench.hook('test "$1-$3" != pre-stop-100')
    with ScriptedGuest(101, bench.run), bench.job(hook, vmids=(101, 100)) as job:
        result = job.wait()
    assert result.exitstatus == "job errors"
    assert [call.arguments[::2] for call in hook.calls] == [
        *(("job-init",), ("job-start",)),
        *((phase, "100") for phase in ("backup-start", "pre-stop", "backup-abort", "log-end")),
        *((phase, "101") for phase in SNAPSHOT if phase != ARCHIVE),
        ("job-end",),
    ]
    assert (result.guests[100].state, result.guests[101].state) == ("err", "ok")
    assert f"ERROR: Backup of VM 100 failed - command '{hook.path} pre-stop snapshot 100' failed: exit code 1" in (
        result.log_lines
    )
    assert result.guests[100].archive is None


JOB = ["job-init", "job-start"]
BEFORE = [*JOB, "backup-start", "pre-stop", "pre-restart", "post-restart"]


@pytest.mark.parametrize(
    ("phase", "mode", "phases", "exitstatus", "state"),
    [
        ("job-init", "snapshot", ["job-init"], "command '{hook} job-init' failed: exit code 3", None),
        ("job-start", "snapshot", [*JOB, "job-abort"], "command '{hook} job-start' failed: exit code 3", "todo"),
        *(
            (phase, "snapshot", [*BEFORE[: n + 3], "backup-abort", "log-end", "job-end"], "job errors", "err")
            for n, phase in enumerate(BEFORE[2:])
        ),
        ("backup-end", "snapshot", [*BEFORE, "backup-end", "backup-abort", "log-end", "job-end"], "job errors", "err"),
        ("log-end", "snapshot", [*BEFORE, "backup-end", "log-end", "job-end"], "WARNINGS: 1", "ok"),
        (
            "job-end",
            "snapshot",
            [*BEFORE, "backup-end", "log-end", "job-end", "job-abort"],
            "command '{hook} job-end' failed: exit code 3",
            "ok",
        ),
        ("pre-restart", "stop", [*JOB, *STOPPED[:2], "backup-end", "pre-restart", "log-end", "job-end"], "OK", "ok"),
        (
            "post-restart",
            "suspend",
            [*JOB, *STOPPED[:2], "backup-end", "pre-restart", "post-restart", "log-end", "job-end"],
            "OK",
            "ok",
        ),
    ],
)
def test_a_phase_that_fails_has_the_effect_of_the_table(
    bench: Bench, guest: ScriptedGuest, phase: str, mode: str, phases: list[str], exitstatus: str, state: str | None
) -> None:
    hook = bench.hook(f'test "$1" != {phase} || exit 3')
    with bench.job(hook, mode=mode, limits=IMPATIENT) as job:
        result = job.wait()
    assert hook.phases == phases
    assert result.exitstatus == exitstatus.format(hook=hook.path)
    assert [found.state for found in result.guests.values()] == ([] if state is None else [state])
    assert not (bench.root / "locks/100").exists()


def test_the_archive_is_kept_when_backup_end_fails(bench: Bench, guest: ScriptedGuest) -> None:
    with bench.job(bench.hook('test "$1" != backup-end')) as job:
        result = job.wait()
    assert result.guests[100].state == "err"
    assert result.guests[100].archive is not None


def test_a_failing_backup_abort_only_warns(bench: Bench, guest: ScriptedGuest) -> None:
    hook = bench.hook('case "$1" in backup-start|backup-abort) exit 1;; esac')
    with bench.job(hook) as job:
        result = job.wait()
    assert f"WARN: command '{hook.path} backup-abort snapshot 100' failed: exit code 1" in result.log_lines
    assert result.exitstatus == "job errors"


def test_a_hook_killed_by_a_signal_is_a_failure(bench: Bench, guest: ScriptedGuest) -> None:
    hook = bench.hook('test "$1" != pre-stop || kill -9 $$')
    with bench.job(hook) as job:
        result = job.wait()
    assert result.guests[100].message == f"command '{hook.path} pre-stop snapshot 100' failed: got signal 9"


FOUND = {"LC_ALL": "C", "LVM_SUPPRESS_FD_WARNINGS": "1"}


@pytest.mark.parametrize("kind", ["file", "dumpdir", "pbs", "provider"])
def test_the_environment_is_emptied_and_holds_what_the_storage_has(
    bench: Bench, guest: ScriptedGuest, kind: StorageKind
) -> None:
    hook = bench.hook()
    with bench.job(hook, storage_kind=kind, guests=(GuestSpec(100, name="web"),)) as job:
        result = job.wait()
    assert result.exitstatus == "OK", result.log_lines
    dumpdir = {"DUMPDIR": str(bench.root / "dump")} if kind in ("file", "dumpdir") else {}
    storeid = {"file": {"STOREID": "local"}, "pbs": {"STOREID": "pbs"}, "provider": {"STOREID": "provider"}}.get(
        kind, {}
    )
    of_job = FOUND | storeid | dumpdir
    # Of a storage, the folder is looked up only after job-init.
    assert hook.call("job-init").environment == (of_job if kind == "dumpdir" else FOUND | storeid)
    assert hook.call("job-start").environment == hook.call("job-end").environment == of_job
    target = result.guests[100].target
    of_guest = of_job | {"VMTYPE": "qemu", "HOSTNAME": "web", "TARGET": target}
    if dumpdir:
        of_guest["LOGFILE"] = str(Path(target).with_suffix(".log"))
    else:
        assert target.startswith("vm/100/")
    for call in hook.calls:
        if not call.phase.startswith("job-"):
            assert call.environment == of_guest


def test_a_guest_without_a_name_has_no_hostname(bench: Bench, guest: ScriptedGuest) -> None:
    hook = bench.hook()
    with bench.job(hook, guests=(GuestSpec(100, name=None),)) as job:
        job.wait()
    assert "HOSTNAME" not in hook.call("backup-start").environment


def test_a_container_says_so(bench: Bench) -> None:
    hook = bench.hook()
    with bench.job(hook, guests=(GuestSpec(100, "lxc", name=None),)) as job:
        assert job.wait().exitstatus == "OK"
    environment = hook.call("post-restart").environment
    assert (environment["VMTYPE"], environment["HOSTNAME"]) == ("lxc", "CT100")
    assert environment["TARGET"].endswith(".tar")


def test_names_reach_the_hook_as_they_are(bench: Bench, guest: ScriptedGuest) -> None:
    name = b"$(touch x)\n../../\xff\xfe `id`".decode("utf-8", "surrogateescape")
    hook = bench.hook()
    with bench.job(hook, guests=(GuestSpec(100, name=name),)) as job:
        assert job.wait().exitstatus == "OK"
    assert hook.call("post-restart").environment["HOSTNAME"] == name


def test_no_script_at_all_is_fine(bench: Bench, guest: ScriptedGuest) -> None:
    with bench.job() as job:
        assert job.wait().exitstatus == "OK"


@pytest.mark.parametrize(
    ("break_it", "text"),
    [
        (lambda path: path.unlink(), "Error: The hook script '{}' does not exist."),
        (lambda path: path.chmod(0o644), "Error: The hook script '{}' is not executable."),
    ],
    ids=["missing", "not executable"],
)
def test_a_script_that_cannot_run_fails_the_job_at_job_init(
    bench: Bench, guest: ScriptedGuest, break_it: object, text: str
) -> None:
    hook = bench.hook()
    assert callable(break_it)
    break_it(hook.path)
    with bench.job(hook) as job:
        result = job.wait()
    assert result.exitstatus == text.format(hook.path)
    assert hook.calls == []
    assert not (bench.root / "var/run/vzdump.pid").exists()


def test_a_script_without_an_interpreter_line_is_the_shells(bench: Bench, guest: ScriptedGuest) -> None:
    hook = bench.hook()
    hook.path.write_text(hook.path.read_text().removeprefix("#!/bin/sh\n"))
    with bench.job(hook) as job:
        assert job.wait().exitstatus == "OK"
    assert hook.phases[0] == "job-init"


def test_a_missing_interpreter_fails_the_job(bench: Bench, guest: ScriptedGuest) -> None:
    hook = bench.hook()
    hook.path.write_text("#!/nowhere/python3\n")
    with bench.job(hook) as job:
        assert "No such file or directory" in job.wait().exitstatus


def test_the_guest_is_locked_from_before_backup_start_through_backup_end(bench: Bench, guest: ScriptedGuest) -> None:
    hook = bench.hook(f"cat {bench.root}/locks/100 2>/dev/null || echo none")
    with bench.job(hook, mode="suspend", limits=IMPATIENT) as job:
        result = job.wait()
    said = [line for line in result.log_lines if line in ("INFO: backup", "INFO: none")]
    locked = {"backup-start", "pre-stop", "backup-end"}
    assert said == [f"INFO: {'backup' if phase in locked else 'none'}" for phase in hook.phases]


def test_a_locked_guest_fails_before_backup_start(bench: Bench, guest: ScriptedGuest) -> None:
    (bench.root / "locks").mkdir()
    (bench.root / "locks/100").write_text("snapshot")
    hook = bench.hook()
    with bench.job(hook) as job:
        result = job.wait()
    assert result.guests[100].message == "VM is locked (snapshot)"
    assert hook.phases == [*JOB, "backup-abort", "log-end", "job-end"]
    assert hook.call("backup-abort").environment.get("HOSTNAME") is None
    assert (bench.root / "locks/100").read_text() == "snapshot"


def test_an_unknown_guest_fails_with_next_to_no_environment(bench: Bench) -> None:
    hook = bench.hook()
    with bench.job(hook, vmids=(999,), guests=(GuestSpec(999, "missing"),)) as job:
        result = job.wait()
    assert result.guests[999].message == "unable to find VM '999'"
    assert hook.call("log-end").arguments == ("log-end", "snapshot", "999")
    assert hook.call("log-end").environment == FOUND | {"STOREID": "local", "DUMPDIR": str(bench.root / "dump")}


def test_a_guest_in_stop_mode_is_really_switched_off_and_on(bench: Bench, guest: ScriptedGuest) -> None:
    from tests.lab.vzdump.power import Verb, power_server

    said: list[str] = []

    def power(verb: Verb, vmid: int) -> None:
        said.append(f"{verb} {vmid}")
        if verb == "shutdown":
            guest.stop()
        else:
            guest.start()

    hook = bench.hook()
    with power_server(bench.run / "power", power) as socket, bench.job(hook, mode="stop", power_socket=socket) as job:
        result = job.wait()
    assert result.exitstatus == "OK", result.log_lines
    assert said == ["shutdown 100", "start 100"]
    assert guest.running
    assert "INFO: starting kvm to execute backup task" in result.log_lines
    assert any(line.startswith("INFO: resuming VM again after ") for line in result.log_lines)
