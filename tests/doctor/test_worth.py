"""What a snapshot and a backup can be worth at best: by owner, policy, option, version, job and script."""

from __future__ import annotations

import pytest

from snapshot.config.settings import Config, FreezeOwner, GuestSettings
from snapshot.doctor.worth import Best, HookState, of_backup, of_snapshot
from snapshot.model import Check, CheckResult, Guest, GuestKind, Health, Node, Policy, Vmid
from snapshot.pve.estate import BackupJob

GUEST = Guest(Vmid(100), Node("pve1"), GuestKind.QEMU, running=True)
WELL = Health(GUEST, (Check("freeze-commands", CheckResult.OK, "fine"),), config={"agent": "1"})
SETTINGS = Config().for_guest(100)
HOOKED = HookState(True, None)
NEW, OLD = "9.2.6", "9.1.9"


def settings(**values: object) -> GuestSettings:
    return SETTINGS._replace(**values)  # type: ignore[arg-type]


def with_check(code: str, result: CheckResult) -> Health:
    return WELL._replace(checks=(Check("any", result, f"because of {code}", code=code),))


def no_freeze(code: str = "agent-silent") -> Health:
    return with_check(code, CheckResult.NO_FREEZE)


OFF = WELL._replace(guest=GUEST._replace(running=False))
CONTAINER = WELL._replace(guest=GUEST._replace(kind=GuestKind.LXC))
OPTION = WELL._replace(freeze_disabled_by_option=True, config={"agent": "1,freeze-fs=0"})
HIBERNATED = OFF._replace(checks=(Check("lock", CheckResult.FAILED, "hibernated", code="hibernated"),))


@pytest.mark.parametrize(
    ("health", "chosen", "version", "best"),
    [
        (WELL, {}, NEW, Best.FILESYSTEM_CONSISTENT),
        (WELL, {}, OLD, Best.UNKNOWN),
        (WELL, {}, "8.", Best.UNKNOWN),
        (WELL, {}, "", Best.NOT_KNOWN),
        (None, {}, NEW, Best.NOT_KNOWN),
        (Health(None, ()), {}, NEW, Best.NOT_KNOWN),
        (OPTION, {"ignore_freeze_option": True}, "9.1.5", Best.FILESYSTEM_CONSISTENT),
        (OPTION, {}, NEW, Best.CRASH_CONSISTENT),
        (OFF, {"policy": Policy.REQUIRE}, "", Best.OFFLINE),
        (HIBERNATED, {}, NEW, Best.CRASH_CONSISTENT),
        (CONTAINER, {}, NEW, Best.CRASH_CONSISTENT),
        (CONTAINER, {"policy": Policy.REQUIRE}, NEW, Best.NONE),
        (WELL, {"policy": Policy.NEVER}, NEW, Best.CRASH_CONSISTENT),
        (no_freeze(), {}, NEW, Best.CRASH_CONSISTENT),
        (no_freeze(), {"policy": Policy.REQUIRE}, NEW, Best.NONE),
        (no_freeze("agent-not-asked"), {}, NEW, Best.NOT_KNOWN),
        (no_freeze("in-a-window"), {}, NEW, Best.FILESYSTEM_CONSISTENT),
        (with_check("guest-locked", CheckResult.FAILED), {}, NEW, Best.FILESYSTEM_CONSISTENT),
        (with_check("disk-no-snapshot", CheckResult.FAILED), {}, NEW, Best.NONE),
        (with_check("node-offline", CheckResult.FAILED), {}, NEW, Best.NOT_KNOWN),
        (with_check("storage-not-known", CheckResult.WARNING), {}, NEW, Best.NOT_KNOWN),
        (WELL._replace(frozen=True), {}, NEW, Best.NOT_KNOWN),
    ],
)
def test_a_snapshot(health: Health | None, chosen: dict[str, object], version: str, best: Best) -> None:
    found = of_snapshot(health, settings(**chosen), version)
    assert found.best is best
    assert found.why


def test_a_snapshot_below_a_qemu_that_drops_flushes_is_unknown_and_a_backup_is_not_affected() -> None:
    assert of_snapshot(WELL, SETTINGS, NEW, "scsi1").best is Best.UNKNOWN
    assert "scsi1" in of_snapshot(WELL, SETTINGS, NEW, "scsi1").why
    assert of_backup(WELL, SETTINGS, NEW, HOOKED).best is Best.FILESYSTEM_CONSISTENT


JOB, STOP, SUSPEND = (BackupJob(mode, everything=True, mode=mode) for mode in ("snapshot", "stop", "suspend"))


@pytest.mark.parametrize(
    ("health", "hook", "best", "word"),
    [
        (WELL, HOOKED, Best.FILESYSTEM_CONSISTENT, "asked after the point in time"),
        (WELL, HookState(False, None), Best.UNKNOWN, "does not call vzdump-hook"),
        (WELL, HookState(None, None), Best.NOT_KNOWN, "not known"),
        (WELL, HookState(False, [JOB._replace(script="/usr/bin/vzdump-hook")]), Best.FILESYSTEM_CONSISTENT, "job"),
        (WELL, HookState(True, [JOB._replace(script="/root/x.pl")]), Best.UNKNOWN, "job snapshot"),
        (WELL, HookState(True, [JOB, STOP]), Best.OFFLINE, "mode stop"),
        (WELL, HookState(True, [STOP, SUSPEND, JOB]), Best.CRASH_CONSISTENT, "mode suspend"),
        (WELL, HookState(True, []), Best.FILESYSTEM_CONSISTENT, "frozen"),
        (no_freeze(), HookState(True, [STOP]), Best.OFFLINE, "mode stop"),
        (no_freeze(), HOOKED, Best.CRASH_CONSISTENT, "agent-silent"),
        (with_check("disk-no-snapshot", CheckResult.FAILED), HOOKED, Best.FILESYSTEM_CONSISTENT, "frozen"),
        (with_check("node-offline", CheckResult.FAILED), HOOKED, Best.NOT_KNOWN, "nothing can be asked"),
        (OFF, HOOKED, Best.OFFLINE, "off"),
        (OFF, HookState(False, None), Best.UNKNOWN, "does not call"),
        (None, HOOKED, Best.NOT_KNOWN, "not examined"),
    ],
)
def test_a_backup(health: Health | None, hook: HookState, best: Best, word: str) -> None:
    found = of_backup(health, SETTINGS, NEW, hook)
    assert found.best is best, found
    assert word in found.why


@pytest.mark.parametrize(
    ("owner", "version"), [(FreezeOwner.VZDUMP, NEW), (FreezeOwner.HOOK, OLD), (FreezeOwner.HOOK, "")]
)
def test_a_backup_that_vzdumps_log_has_to_prove_says_so(owner: FreezeOwner, version: str) -> None:
    found = of_backup(WELL, settings(owner=owner), version, HOOKED)
    assert found.best is Best.FILESYSTEM_CONSISTENT
    assert "vzdump's log" in found.why


@pytest.mark.parametrize(
    ("job", "holds"),
    [
        (BackupJob("a", everything=True), True),
        (BackupJob("a", everything=True, exclude=frozenset({100})), False),
        (BackupJob("a", vmids=frozenset({100})), True),
        (BackupJob("a", vmids=frozenset({101})), False),
        (BackupJob("a", vmids=frozenset({100}), node="pve2"), False),
        (BackupJob("a", pool="prod"), True),
        (BackupJob("a", pool="test"), False),
        (BackupJob("a"), False),
    ],
)
def test_which_guests_a_job_holds(job: BackupJob, holds: bool) -> None:
    assert job.holds(GUEST._replace(pool="prod")) is holds
