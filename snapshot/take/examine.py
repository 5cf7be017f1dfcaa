"""Step 1, before anything is at risk: can the guest be snapshotted, and will it be frozen?"""

from __future__ import annotations

from snapshot.config.settings import ForeignFreeze
from snapshot.errors import ForeignFreezeError, GuestUnfitError, JournalError, NotConsistentError, UsageError
from snapshot.journal.book import plain_record
from snapshot.journal.record import may_be_frozen
from snapshot.model import Check, CheckResult, Guest, GuestKind, Health, Policy, Verdict, VerdictKind
from snapshot.preflight import answers
from snapshot.preflight.preflight import FoundAhead, Preflight, Wish, found_frozen, with_windows
from snapshot.pve import locks
from snapshot.pve.guests import AgentOption, GuestApi
from snapshot.recovery.heal import Healed, heal
from snapshot.take import judging, telling
from snapshot.take.request import Tools
from snapshot.take.run import Run


def wait_for_turn(run: Run) -> None:
    """One run at once for the guest, and so many windows at its node; the others wait here, where nothing is known that
    may grow old. GuestUnfitError, NoTurnError.
    """
    tools, turns = run.tools, run.tools.access.turns
    found = run.found = _fresh(tools)
    if tools.fence.group_id is not None:
        return  # the members of a group need theirs at once, and would wait for each other's
    if turns is None or run.request.dry_run:
        return
    waited = False

    def waits(line: str) -> None:
        nonlocal waited
        waited = True
        tools.say(line)

    if found is None:
        with tools.gate.open():
            at = tools.clock.monotonic()
            try:
                found = run.found = FoundAhead(GuestApi(tools.access.main).find(run.request.vmid), at)
            except GuestUnfitError:
                return  # there is no such guest: the preflight says it
    if tools.wait_seconds is not None:
        try:
            run.alone = turns.guest(run.request.vmid, tools.wait_seconds, waits=waits, sleep=run.sleep)
        except TimeoutError:
            run.guest, run.checks = found.guest, (locks.in_use(),)
            raise GuestUnfitError(run.checks[0].message, remedy=run.checks[0].remedy) from None
    run.turn = turns.window(found.guest.node, waits=waits, sleep=run.sleep)
    if run.turn.problem:
        both = "nor are two runs of one guest kept apart"
        run.warnings.append(f"{run.turn.problem}: it is not counted how many windows are open at once, {both}")
    if waited:
        tools.say("goes on: it is this guest's turn")
        run.found, run.began_at = None, tools.clock.time()


def _fresh(tools: Tools) -> FoundAhead | None:
    """What was found of the guest ahead of the run, unless that has grown old."""
    found = tools.found
    return found if found is not None and found.is_fresh(tools.clock.monotonic()) else None


def examine(run: Run) -> tuple[Guest, Verdict | None]:
    """The guest, and the verdict that is already certain because it will not be frozen (None: it will be)."""
    memory = run.request.memory
    health = _preflight(run)
    if health.frozen:
        health = _heal(run, health)
    run.option = AgentOption.parse((health.config or {}).get("agent"))
    run.pve_may_freeze, run.pve_option_off = health.pve_may_freeze, health.freeze_disabled_by_option
    if health.guest is None or health.failure is not None:
        check = health.failure or health.checks[0]
        raise GuestUnfitError(check.message, remedy=check.remedy)
    guest = health.guest
    if memory and guest.kind is GuestKind.LXC:
        raise UsageError(f"--vmstate: {guest.vmid} is a container, its RAM cannot be saved", remedy="leave it out")
    known = judging.without_freeze(guest, run.policy, memory=memory)
    if known is not None:
        if known.kind is VerdictKind.MEMORY:
            _refuse_ram_of_a_frozen_guest(run, guest)
        return guest, known
    if health.obstacle is None:
        if run.policy is Policy.REQUIRE:
            _refuse_what_proves_nothing(run, guest)
        return guest, None
    run.failure = ("preflight", health.obstacle.name)
    if run.policy is Policy.REQUIRE:
        record_refusal(run, guest, health.obstacle)
        raise NotConsistentError(
            f"guest {guest.vmid} cannot be frozen: {health.obstacle.message}",
            remedy=health.obstacle.remedy or "see the checks",
        )
    return guest, Verdict(VerdictKind.CRASH_CONSISTENT, health.obstacle.message)


def _refuse_what_proves_nothing(run: Run, guest: Guest) -> None:
    """A guest that is frozen for a snapshot that is removed again is frozen for nothing."""
    with run.tools.gate.open():
        proof = answers.proof(run.option, _version(run, guest))
    if proof.result is CheckResult.OK:
        return
    record_refusal(run, guest, proof)
    raise NotConsistentError(
        f"guest {guest.vmid} is not frozen for policy require: its snapshot would be {proof.message}",
        remedy=proof.remedy,
    )


def leaves_alone(run: Run, guest: Guest) -> bool | None:
    """Whether PVE leaves the guest alone in its snapshot task while we have it frozen; None when nobody says."""
    return answers.can_be_proven(run.option, _version(run, guest))


def _version(run: Run, guest: Guest) -> str:
    return GuestApi(run.tools.access.main).qemu_server_version(guest.node)


def _preflight(run: Run) -> Health:
    def wish(guest: Guest) -> Wish:
        """The settings for this guest, now that its tags and pool are known."""
        run.settings = run.tools.access.settings_for(guest)
        return Wish(run.policy, run.settings.ignore_freeze_option, run.request.memory)

    is_dry = run.request.dry_run
    with run.tools.gate.open():
        health = Preflight(run.tools.access).examine(
            run.request.vmid, named=run.named, wish=wish, details=is_dry, found=run.found
        )
    run.found = None
    if is_dry or health.frozen:
        health = with_windows(health, run.tools.access, run.tools.me)
    run.guest, run.checks = health.guest, health.checks
    telling.checks(run.tools.say, health)
    if not is_dry:
        run.book.agent_seen(health, run.tools.clock)
    return health


def _heal(run: Run, health: Health) -> Health:
    """A guest found frozen: thaw it when the journal says that it is ours or the operator said so."""
    guest, tools = health.guest, run.tools
    assert guest is not None
    if run.request.dry_run:
        raise found_frozen(health)
    # A guest that is locked is being worked on: whoever froze it may still need that.
    thaw_foreign = run.settings.foreign is ForeignFreeze.THAW and health.failure is None
    healed = heal(guest, tools.access, run.book, tools.me, thaw_foreign=thaw_foreign)
    if healed is Healed.LEFT_ALONE:
        if health.failure is not None:
            return health
        raise ForeignFreezeError(
            f"guest {guest.vmid} is frozen, and not by us: it was left alone",
            remedy=f"find out who froze it (another backup?); `safe-snapshot thaw {guest.vmid}` thaws it",
        )
    tools.say(f"thawed the guest, which {healed.value} had left frozen")
    return _preflight(run)


def _refuse_ram_of_a_frozen_guest(run: Run, guest: Guest) -> None:
    """It would wake up frozen after a rollback. Where the agent did not say, what the journal knows counts."""
    if any(check.name == "thawed" for check in run.checks):
        return
    try:
        windows = run.book.journal.open_windows(guest.vmid)
    except JournalError:
        return  # said when this run is to be recorded
    if any(map(may_be_frozen, windows)):
        raise GuestUnfitError(
            f"guest {guest.vmid} may still be frozen by an earlier run, and its agent does not answer: saved with "
            "its RAM it would wake up frozen",
            remedy=f"`safe-snapshot thaw {guest.vmid}` first",
        )


def record_refusal(run: Run, guest: Guest, obstacle: Check) -> None:
    """Policy require, and no snapshot: a failure that history and metrics shall know."""
    if run.request.dry_run:
        return
    record = plain_record(guest, run.name, run.tools.clock, run.tools.me, run.tools.fence.group_id)
    run.warnings += run.book.try_refuse(record, run.tools.clock, obstacle.message, obstacle.name)
