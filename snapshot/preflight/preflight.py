"""The preflight: who is asked what before a guest is put at risk, in which order. What answers mean: checks.py."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from contextlib import closing, suppress
from typing import NamedTuple

from snapshot.base.procfs import ProcessIdentity
from snapshot.base.text import clean
from snapshot.errors import ApiError, ApiFailureError, ForeignFreezeError, GuestUnfitError, JournalError
from snapshot.journal.living import explains_freeze, is_manned
from snapshot.journal.rows import taken
from snapshot.journal.store import Journal
from snapshot.model import Check, CheckResult, FreezeState, Guest, GuestKind, Health, Policy, Vmid
from snapshot.preflight import answers, checks, disks, facts
from snapshot.pve import agent, locks
from snapshot.pve.access import Access, fastest_channel
from snapshot.pve.agent import AgentChannel, AgentRefusedError, AgentReplyLostError, CommandNotSentError
from snapshot.pve.doors import off_by_another_door
from snapshot.pve.guests import AgentOption, GuestApi

FOUND_SECONDS = 5.0
"""How long what was found of a guest counts: its lock and its disks may be others by then."""


class Wish(NamedTuple):
    """What is to be done with a guest, as far as the checks depend on it."""

    policy: Policy = Policy.PREFER
    ignore_freeze_option: bool = False
    memory: bool = False
    """RAM will be saved, so nothing is frozen; nor may the guest be frozen by anybody: it would wake up so."""


class Known(NamedTuple):
    """What whoever looks at many guests at once knows of one already, and need not ask for again. None: not known."""

    privileges: frozenset[str] | None = None
    """What the token may do with the guest."""
    version: str | None = None
    """Of qemu-server on the guest's node; "" where PVE does not say."""
    is_listed_off: bool = False
    """PVE's list, which is the other door, calls it stopped."""
    wants_facts: bool = False
    """The guest's OS, host name and addresses are wanted too: three more questions to its agent."""
    config: Mapping[str, object] | None = None
    """Its configuration."""
    snapshots: Collection[str] | None = None
    """Their names."""


class FoundAhead(NamedTuple):
    """A guest that PVE was asked for before its preflight."""

    guest: Guest
    at: float
    """When (monotonic): before PVE was asked."""
    config: Mapping[str, object] | None = None
    snapshots: Collection[str] | None = None
    """Their names."""

    def is_fresh(self, now: float) -> bool:
        """Whether the preflight may go by it still."""
        return now - self.at <= FOUND_SECONDS


Naming = Callable[[Collection[str]], str]
"""From the names of a guest's snapshots to that of the next one."""


class Preflight:
    """Examines one guest."""

    def __init__(self, access: Access) -> None:
        self._access = access
        self._api = GuestApi(access.main)

    def examine(
        self,
        vmid: Vmid,
        *,
        named: Naming | None = None,
        wish: Callable[[Guest], Wish] = lambda guest: Wish(),
        for_snapshot: bool = True,
        details: bool = False,
        found: FoundAhead | None = None,
    ) -> Health:
        """Every check in order; later ones are left out when an earlier one makes them pointless.

        ``found``: what PVE was asked a moment ago. ``wish`` is asked once the guest's tags and pool are
        known. ``details`` also collects the guest's OS, agent version, addresses and filesystems. Raises ApiError when
        PVE cannot be asked at all; GuestUnfitError never: a guest that is not there is a failed check.
        """
        try:
            guest = found.guest if found else self._api.find(vmid)
        except GuestUnfitError as error:
            return Health(None, (Check("found", CheckResult.FAILED, error.message, error.remedy, "guest-not-found"),))
        known = Known(wants_facts=details)
        if found:
            known = known._replace(config=found.config, snapshots=found.snapshots)
        return self.examine_found(guest, known, named=named, wish=wish, for_snapshot=for_snapshot, details=details)

    def examine_found(
        self,
        guest: Guest,
        known: Known,
        *,
        named: Naming | None = None,
        wish: Callable[[Guest], Wish] = lambda guest: Wish(),
        for_snapshot: bool = True,
        details: bool = False,
    ) -> Health:
        """As ``examine``, of a guest that PVE has listed."""
        done = [checks.found(guest)]
        try:
            config = self._api.config(guest) if known.config is None else known.config
            current = self._api.current(guest)
        except ApiError:
            if not self._is_offline(guest):
                raise
            return Health(guest, (*done, checks.node_offline(guest)))
        # Only `stopped` is off, and by two doors: any other guest may run, and is treated so.
        is_off = current.get("status") == "stopped"
        is_off = is_off and (known.is_listed_off or off_by_another_door(self._access, guest))
        lock = str(config.get("lock") or guest.lock)
        guest = guest._replace(lock=lock, running=not is_off)
        wanted = wish(guest)
        done.append(checks.template(guest))
        if for_snapshot:
            done += [locks.check_of(guest), *self._storage(guest, config), *self._name(guest, named, known)]
        done += self._privileges(guest, wanted, known, for_snapshot=for_snapshot)
        if is_off:
            return Health(guest, (*done, checks.off(guest)), config=config)
        if guest.kind is GuestKind.LXC:
            return Health(guest, (*done, checks.container(wanted.policy)), config=config)
        done.append(checks.running(guest, current))
        option = AgentOption.parse(config.get("agent"))
        is_off_by_option = option.enabled and not option.freeze
        health = Health(guest, tuple(done), freeze_disabled_by_option=is_off_by_option, config=config)
        if wanted.memory:
            return self._frozen_or_not(health, guest)
        if wanted.policy is Policy.NEVER:
            may_freeze = option.enabled and for_snapshot and self._state(guest) is FreezeState.THAWED
            return health._replace(pve_may_freeze=may_freeze)
        pending = self._pending_option(guest)
        done.append(checks.not_this_machine(config, self._our_uuid()))
        done += checks.agent_option(guest, option, pending, wanted.ignore_freeze_option)
        return self._ask_agent(health._replace(checks=tuple(done)), guest, option, known, details=details)

    def _is_offline(self, guest: Guest) -> bool:
        """Whether PVE says that the guest's node is offline: then nothing can be asked or done, and nothing is lost."""
        try:
            return self._api.is_offline(guest.node)
        except ApiError:
            return False

    def _storage(self, guest: Guest, config: Mapping[str, object]) -> list[Check]:
        try:
            can = self._api.can_snapshot(guest)
        except ApiFailureError as error:
            text = f"PVE does not say whether it can: {error.message}"
            see = f"`pvesm status` on {guest.node} shows the types; it is tried"
            return [Check("storage", CheckResult.WARNING, text, see, "storage-not-known")]
        if can:
            return [Check("storage", CheckResult.OK, "all disks can be snapshotted")]
        try:
            storages = self._api.storage_types(guest.node)
        except ApiError:
            storages = {}  # the volumes' names tell something too
        return disks.checks_of(guest, config, storages)

    def _name(self, guest: Guest, named: Naming | None, known: Known) -> list[Check]:
        if named is None:
            return []
        taken = self._api.snapshots(guest) if known.snapshots is None else known.snapshots
        return [checks.name(named(taken), taken)]

    def _privileges(self, guest: Guest, wish: Wish, known: Known, *, for_snapshot: bool) -> list[Check]:
        """What the token lacks, found before the guest is at risk. Nothing when PVE does not tell."""
        held = known.privileges
        if held is None:
            with suppress(ApiError):
                held = self._api.privileges(guest)
        if held is None:
            return []
        is_asked = guest.kind is GuestKind.QEMU and guest.running
        to_freeze = is_asked and not wish.memory and wish.policy is not Policy.NEVER
        return [checks.privileges(guest, held, to_snapshot=for_snapshot, to_freeze=to_freeze)]

    def _our_uuid(self) -> str:
        """This machine's product UUID; "" when it has none."""
        try:
            return self._access.config.local.product_uuid_file.read_text(encoding="ascii").strip().lower()
        except (OSError, UnicodeDecodeError):
            return ""

    def _pending_option(self, guest: Guest) -> AgentOption | None:
        """The option as it will be after the guest's next start; None when nothing waits, or PVE does not say."""
        try:
            rows = self._api.pending(guest)
        except ApiError:
            return None
        row = next((r for r in rows if r.get("key") == "agent"), {})
        if "pending" in row:
            return AgentOption.parse(row["pending"])
        return AgentOption.parse(None) if row.get("delete") else None

    def _ask_agent(self, health: Health, guest: Guest, option: AgentOption, known: Known, *, details: bool) -> Health:
        """What it can do, and whether it is frozen. ``health``: what is known of the guest so far."""
        channel = fastest_channel(self._access, guest)
        try:
            info, state = _ask(channel, "info"), _ask(channel, "fsfreeze-status")
        except (CommandNotSentError, AgentReplyLostError) as error:
            stands_still = any(c.name == "running" and c.result is CheckResult.NO_FREEZE for c in health.checks)
            silent = answers.silent_agent(option, error, stands_still=stands_still)
            return health._replace(checks=(*health.checks, answers.silent_pve(error) if channel.is_silent else silent))
        version = info.get("version") if isinstance(info, dict) else None
        version = clean(version, 40) if isinstance(version, str) else "?"
        frozen, commands = state == FreezeState.FROZEN.value, answers.command_states(info)
        done = [
            *health.checks,
            Check("agent", CheckResult.OK, f"answers (version {version})"),
            *answers.freeze_status(state),
            answers.freeze_commands(info, frozen=frozen),
            *answers.thawed(guest, state, commands),
        ]
        learned: dict[str, object] = {"agent_version": version}
        if details and not frozen:
            found = facts.filesystems(channel)
            qemu_server = self._api.qemu_server_version(guest.node) if known.version is None else known.version
            done += [*facts.check_of(found), answers.proof(option, qemu_server)]
            learned |= facts.guest_facts(channel, found) if known.wants_facts else {}
        may_freeze = option.enabled and (commands is None or commands.get(answers.FREEZE) is True)
        return health._replace(checks=tuple(done), facts=learned, frozen=frozen, pve_may_freeze=may_freeze)

    def _frozen_or_not(self, health: Health, guest: Guest) -> Health:
        state = self._state(guest)
        if state is None:
            return health  # who asked for RAM goes by the journal then
        done = (*health.checks, *answers.thawed(guest, state.value))
        return health._replace(checks=done, frozen=state is FreezeState.FROZEN)

    def _state(self, guest: Guest) -> FreezeState | None:
        """What the agent says; None when it does not."""
        try:
            return agent.status(fastest_channel(self._access, guest))
        except (CommandNotSentError, AgentReplyLostError, AgentRefusedError):
            return None


def _ask(channel: AgentChannel, command: str) -> object:
    """What the agent answers, or its AgentRefusedError: one that says no is there. Raises when there is no answer."""
    try:
        return channel.call(command, timeout_seconds=agent.STATUS_SECONDS)
    except AgentRefusedError as error:
        return error


IN_A_WINDOW = "in-a-window"


def with_windows(health: Health, access: Access, me: ProcessIdentity) -> Health:
    """``health``, and what would keep a run from its freeze by the journal's word: a window of the guest that somebody
    has in hand, be it only for a freeze that may still come. A guest that is frozen in one of ours is told as that, and
    to be waited for: a thaw by hand would break it. Changes nothing.
    """
    guest, config = health.guest, access.config
    if guest is None or not guest.running or (health.obstacle is not None and not health.frozen):
        return health
    with suppress(JournalError), closing(Journal(config.journal.path, read_only=True)) as journal:
        for window in journal.open_windows(guest.vmid):
            now = access.clock.time()
            if explains_freeze(window, config, now, me) if health.frozen else is_manned(window, me):
                why = taken(window)
                check = Check("window", CheckResult.NO_FREEZE, why.message, why.remedy, IN_A_WINDOW)
                others = (known for known in health.checks if known.code != answers.FROZEN_NOW)
                return health._replace(checks=(*others, check))
    return health


def found_frozen(health: Health) -> ForeignFreezeError:
    """The error for a guest that was found frozen: whose freeze it is, as far as that is known, and what ends it."""
    check = next(c for c in health.checks if c.code in (answers.FROZEN_NOW, IN_A_WINDOW))
    if check.code == IN_A_WINDOW:
        return ForeignFreezeError(f"it is frozen: {check.message}", remedy=check.remedy)
    remedy = f"`safe-snapshot status` tells whose freeze it is; to end it: {check.remedy}"
    return ForeignFreezeError(check.message, remedy=remedy)
