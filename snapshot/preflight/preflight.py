"""The preflight: everything that is looked at before a guest is put at risk, each check with a name and a remedy."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

from snapshot.base.text import clean
from snapshot.errors import ApiError, ApiFailureError, GuestUnfitError
from snapshot.model import Check, CheckResult, FreezeState, Guest, GuestKind, Health, Policy, Vmid
from snapshot.preflight import disks, facts
from snapshot.pve import agent, locks, remedies
from snapshot.pve.agent import AgentChannel, AgentRefusedError, AgentReplyLostError, CommandNotSentError
from snapshot.pve.guests import AgentOption, GuestApi

QUICK_SECONDS = agent.STATUS_SECONDS
FREEZE_COMMANDS = ("guest-fsfreeze-freeze", "guest-fsfreeze-thaw", "guest-fsfreeze-status")

INSTALL_COMMANDS: Mapping[str, str] = {
    "Debian/Ubuntu": "apt install qemu-guest-agent && systemctl enable --now qemu-guest-agent",
    "Alpine": "apk add qemu-guest-agent && rc-update add qemu-guest-agent default && rc-service qemu-guest-agent start",
    "RHEL family": "dnf install qemu-guest-agent && systemctl enable --now qemu-guest-agent",
    "Windows": "run the installer in the folder guest-agent of the VirtIO driver ISO",
}
"""The second set-up step, inside the guest (pve-docs, qm.adoc)."""


FREEZE_PRIVILEGES = ("VM.GuestAgent.FileSystemMgmt", "VM.GuestAgent.Unrestricted", "VM.Monitor")
"""Any one of them lets a token freeze: the first two since qemu-server 9.0.3, the last one before."""
LOOK_PRIVILEGES = ("VM.GuestAgent.Audit", "VM.GuestAgent.Unrestricted", "VM.Monitor")
"""Any one of them lets a token ask the agent what it can do."""


LEAVES_ALONE = (9, 1, 10)
"""The qemu-server that first leaves a guest alone which it finds frozen in its own snapshot task."""
OBEYS_OPTION = (9, 1, 5)
"""The one whose snapshots first go by freeze-fs=0."""


class Wish(NamedTuple):
    """What is to be done with a guest, as far as the checks depend on it."""

    policy: Policy = Policy.PREFER
    ignore_freeze_option: bool = False
    memory: bool = False
    """RAM will be saved, so nothing is frozen; nor may the guest be frozen by anybody: it would wake up so."""


class Preflight:
    """Runs the checks for one guest. ``channel_for`` gives the channel to a guest's agent."""

    def __init__(self, api: GuestApi, channel_for: Callable[[Guest], AgentChannel], product_uuid_file: Path) -> None:
        self._api = api
        self._channel_for = channel_for
        self._uuid_file = product_uuid_file

    def run(
        self,
        vmid: Vmid,
        *,
        snapshot_name: str | None = None,
        wish: Callable[[Guest], Wish] = lambda guest: Wish(),
        for_snapshot: bool = True,
        details: bool = False,
    ) -> Health:
        """Every check in order; later ones are left out when an earlier one makes them pointless.

        ``wish`` is asked once the guest's tags and pool are known. ``details`` also collects the guest's OS, agent
        version, addresses and filesystems. Raises ApiError when PVE cannot be asked at all; GuestUnfitError never: a
        guest that is not there is a failed check.
        """
        try:
            guest = self._api.find(vmid)
        except GuestUnfitError as error:
            return Health(None, (Check("found", CheckResult.FAILED, error.message, error.remedy),))
        checks = [Check("found", CheckResult.OK, f"{guest.kind.value} {_named(guest)} on node {guest.node}")]
        try:
            config, current = self._api.config(guest), self._api.current(guest)
        except ApiError:
            if not self._is_offline(guest):
                raise
            checks.append(_node_offline(guest))
            return Health(guest, tuple(checks))
        lock = str(config.get("lock") or guest.lock)
        # Only `stopped` is off: a guest of which PVE does not say so may run, and is treated so.
        guest = guest._replace(lock=lock, running=current.get("status") != "stopped")
        wanted = wish(guest)
        checks.append(_template(guest))
        if for_snapshot:
            checks.append(locks.check_of(guest))
            checks += self._snapshot_checks(guest, config, snapshot_name)
        checks += self._privileges(guest, wanted, for_snapshot)
        if not guest.running:
            checks.append(_off(guest))
            return Health(guest, tuple(checks))
        if guest.kind is GuestKind.LXC:
            checks.append(_container())
            return Health(guest, tuple(checks))
        checks.append(_running(guest, current))
        option = AgentOption.parse(config.get("agent"))
        disabled = option.enabled and not option.freeze
        health = Health(guest, tuple(checks), freeze_disabled_by_option=disabled)
        if wanted.memory:
            return self._look_at_freeze(health, guest)
        if wanted.policy is Policy.NEVER:
            may_freeze = option.enabled and for_snapshot and self._state(guest) is FreezeState.THAWED
            return health._replace(pve_may_freeze=may_freeze)
        more, facts, frozen, may_freeze = self._freeze_checks(
            health, config, option, wanted.ignore_freeze_option, details
        )
        return health._replace(checks=(*checks, *more), facts=facts, frozen=frozen, pve_may_freeze=may_freeze)

    def _is_offline(self, guest: Guest) -> bool:
        """Whether PVE says that the guest's node is offline: then nothing can be asked or done, and nothing is lost."""
        try:
            online = self._api.online_nodes()
        except ApiError:
            return False
        return bool(online) and guest.node not in online

    def _snapshot_checks(self, guest: Guest, config: Mapping[str, object], name: str | None) -> list[Check]:
        checks: list[Check] = []
        try:
            can = self._api.can_snapshot(guest)
        except ApiFailureError as error:
            checks.append(Check("storage", CheckResult.WARNING, f"PVE does not say whether it can: {error.message}"))
        else:
            checks += (
                [Check("storage", CheckResult.OK, "all disks can be snapshotted")]
                if can
                else self._disks_in_the_way(guest, config)
            )
        if name is not None:
            taken = name in self._api.snapshots(guest)
            checks.append(
                Check("name", CheckResult.FAILED, f"there is a snapshot {name!r} already", "choose another --name")
                if taken
                else Check("name", CheckResult.OK, f"{name!r} is free")
            )
        return checks

    def _disks_in_the_way(self, guest: Guest, config: Mapping[str, object]) -> list[Check]:
        try:
            storages = self._api.storage_types(guest.node)
        except ApiError:
            storages = {}  # the volumes' names tell something too
        found = disks.obstacles(guest, config, storages)
        if not found:
            every = ", ".join(f"{key} ({volume})" for key, volume in disks.disks(guest, config)) or "none listed"
            return [
                Check(
                    "storage",
                    CheckResult.FAILED,
                    f"a disk is on storage that cannot take snapshots, and PVE does not say which: {every}",
                    f"`pvesm status` on {guest.node} shows the types: LVM-thin, ZFS and Ceph can, and qcow2 files; "
                    "or use vzdump",
                )
            ]
        return [Check("storage", CheckResult.FAILED, f"{disk.key}: {disk.why}", disk.remedy) for disk in found]

    def _privileges(self, guest: Guest, wish: Wish, for_snapshot: bool) -> list[Check]:
        """What the token lacks, found before the guest is at risk. Nothing when PVE does not tell."""
        try:
            held = self._api.privileges(guest)
        except ApiError:
            held = None
        if held is None:
            return []
        if for_snapshot and "VM.Snapshot" not in held:
            return [_lacks("VM.Snapshot", guest, CheckResult.FAILED)]
        if guest.kind is GuestKind.QEMU and guest.running and not wish.memory and wish.policy is not Policy.NEVER:
            for enough in (FREEZE_PRIVILEGES, LOOK_PRIVILEGES):
                if held.isdisjoint(enough):
                    return [_lacks(f"{enough[0]} (before PVE 9: {enough[-1]})", guest, CheckResult.NO_FREEZE)]
        return [Check("privileges", CheckResult.OK, "the token has what it needs")]

    def _freeze_checks(
        self, health: Health, config: Mapping[str, object], option: AgentOption, ignore_option: bool, details: bool
    ) -> tuple[list[Check], dict[str, object], bool, bool]:
        """The checks, what was learned, whether the guest is frozen, and whether PVE may freeze it by itself.

        ``health``: what is known of the guest so far.
        """
        guest = health.guest
        assert guest is not None
        checks = [self._not_this_machine(config), *self._agent_option(guest, option, ignore_option)]
        channel = self._channel_for(guest)
        try:
            info, state = _ask(channel, "info"), _ask(channel, "fsfreeze-status")
        except (CommandNotSentError, AgentReplyLostError) as error:
            stands_still = any(c.name == "running" and c.result is CheckResult.NO_FREEZE for c in health.checks)
            checks.append(_STANDS_STILL if stands_still else self._silent_agent(guest, option, error))
            return checks, {}, False, False
        version = info.get("version") if isinstance(info, dict) else None
        version = clean(version, 40) if isinstance(version, str) else "?"
        checks.append(Check("agent", CheckResult.OK, f"answers (version {version})"))
        frozen = state == FreezeState.FROZEN.value
        checks += [*_status_answer(state), _freeze_commands(info, frozen)]
        checks += _thawed(guest, state, _command_states(info))
        told: dict[str, object] = {"agent_version": version}
        if details and not frozen:
            found = facts.filesystems(channel)
            checks += [*facts.check_of(found), self._proof(guest, option)]
            told |= facts.guest_facts(channel, found)
        states = _command_states(info)
        may_freeze = option.enabled and (states is None or states.get(FREEZE_COMMANDS[0]) is True)
        return checks, told, frozen, may_freeze

    def _proof(self, guest: Guest, option: AgentOption) -> Check:
        """What a snapshot of the guest can be at best: before 9.1.10 PVE thaws it inside its own snapshot task.

        From 9.1.5 on it leaves a guest alone whose option says so (PVE::QemuServer::Agent).
        """
        since = LEAVES_ALONE if option.freeze else OBEYS_OPTION
        version = self._api.qemu_server_version(guest.node)
        best = f"snapshots are filesystem-consistent at best from qemu-server {_dotted(since)} on, unknown before"
        if not version:
            return Check("proof", CheckResult.OK, f"{best}; PVE does not say which one runs (it takes Sys.Audit)")
        if _numbers(version) >= since:
            return Check("proof", CheckResult.OK, f"filesystem-consistent at best (qemu-server {version})")
        return Check(
            "proof",
            CheckResult.WARNING,
            f"unknown at best, with qemu-server {version if version[-1] != '.' else version + 'x'}: before "
            f"{_dotted(since)} PVE thaws the guest inside its own snapshot task; backups by vzdump-hook can be proven",
            "upgrade PVE; from 9.1.5 on docs/safe-snapshot.md has a way out",
        )

    def _look_at_freeze(self, health: Health, guest: Guest) -> Health:
        state = self._state(guest)
        if state is None:
            return health  # who asked for RAM goes by the journal then
        frozen = state is FreezeState.FROZEN
        return health._replace(checks=(*health.checks, *_thawed(guest, state.value)), frozen=frozen)

    def _state(self, guest: Guest) -> FreezeState | None:
        """What the agent says; None when it does not."""
        try:
            return agent.status(self._channel_for(guest))
        except (CommandNotSentError, AgentReplyLostError, AgentRefusedError):
            return None

    def _not_this_machine(self, config: Mapping[str, object]) -> Check:
        theirs = smbios_uuid(config)
        try:
            ours = self._uuid_file.read_text(encoding="ascii").strip().lower()
        except (OSError, UnicodeDecodeError):
            ours = ""
        if theirs and ours == theirs:
            return Check(
                "not-this-machine",
                CheckResult.FAILED,
                "this program runs inside the very guest it should freeze: it could never thaw it",
                "run safe-snapshot on a PVE node or another machine",
            )
        if not (theirs and ours):
            whose = "the guest" if ours else "this machine"
            return Check(
                "not-this-machine", CheckResult.OK, f"not compared: {whose} has no product UUID to be known by"
            )
        return Check("not-this-machine", CheckResult.OK, "this program runs on another machine")

    def _agent_option(self, guest: Guest, option: AgentOption, ignore_option: bool) -> list[Check]:
        name = "agent-option"
        restart = (
            "then a full stop and start, which the option waits for (a reboot inside the guest is not enough): "
            f"`qm shutdown {guest.vmid} && qm start {guest.vmid}`"
        )
        pending = self._pending_option(guest)
        if pending is not None and pending.enabled and not option.enabled:
            return [
                Check(
                    name,
                    CheckResult.NO_FREEZE,
                    "the guest agent is switched on in PVE but waits for a full stop and start of the guest",
                    f"a reboot inside the guest is not enough: `qm shutdown {guest.vmid} && qm start {guest.vmid}`",
                )
            ]
        told = _pending_told(guest, option, pending)
        if not option.enabled:
            return [
                Check(
                    name,
                    CheckResult.NO_FREEZE,
                    "the guest agent is not switched on in PVE (step 1 of 2)",
                    f"`qm set {guest.vmid} --agent {option.switched_on(freeze=not ignore_option)}`, {restart}",
                )
            ]
        if not option.freeze and not ignore_option:
            return [
                Check(
                    name,
                    CheckResult.NO_FREEZE,
                    f"freezing is switched off in the guest's PVE options ({option.freeze_key}=0)",
                    f"`qm set {guest.vmid} --agent {option.switched_on()}`, {restart}; or name the guest in the "
                    "configuration with ignore_freeze_option = true",
                ),
                *told,
            ]
        return [Check(name, CheckResult.OK, "switched on in PVE"), *told]

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

    def _silent_agent(self, guest: Guest, option: AgentOption, error: Exception) -> Check:
        if isinstance(error, CommandNotSentError) and error.denied:
            return Check("agent", CheckResult.NO_FREEZE, str(error), "docs/privileges.md lists what the token needs")
        if not option.enabled:
            return Check("agent", CheckResult.NO_FREEZE, "not asked: see agent-option")
        commands = "; ".join(f"{family}: {command}" for family, command in INSTALL_COMMANDS.items())
        return Check(
            "agent",
            CheckResult.NO_FREEZE,
            f"the guest agent does not answer: busy, hung, or not installed in the guest (step 2 of 2): {error}",
            f"inside the guest: {commands}",
        )


_STANDS_STILL = Check("agent", CheckResult.NO_FREEZE, "cannot answer while its processors stand still: see running")


def smbios_uuid(config: Mapping[str, object]) -> str:
    """The guest's product UUID from ``smbios1``, lower case; "" when it is not there."""
    for part in str(config.get("smbios1", "")).split(","):
        key, _, value = part.partition("=")
        if key.strip() == "uuid":
            return value.strip().lower()
    return ""


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"[0-9]{1,6}", version)[:3])


def _dotted(version: tuple[int, ...]) -> str:
    return ".".join(map(str, version))


def _named(guest: Guest) -> str:
    return f"{guest.vmid} ({guest.name})" if guest.name else str(guest.vmid)


def _template(guest: Guest) -> Check:
    if guest.template:
        return Check("template", CheckResult.FAILED, "the guest is a template", "templates need no snapshots")
    return Check("template", CheckResult.OK, "not a template")


def _lacks(privilege: str, guest: Guest, result: CheckResult) -> Check:
    return Check(
        "privileges",
        result,
        f"the API token lacks the privilege {privilege} on /vms/{guest.vmid}",
        "docs/privileges.md has the commands that grant it",
    )


def _running(guest: Guest, current: Mapping[str, object]) -> Check:
    if current.get("status") != "running":
        said = f" ({clean(str(current['status']), 40)!r})" if "status" in current else ""
        return Check(
            "running",
            CheckResult.WARNING,
            f"PVE does not say whether the guest runs{said}: it is taken for one that does",
            f"`qm status {guest.vmid} --verbose` on {guest.node}",
        )
    state = clean(str(current.get("qmpstatus", "running")), 40)
    if state == "running":
        return Check("running", CheckResult.OK, "running")
    return Check(
        "running",
        CheckResult.NO_FREEZE,
        f"its processors stand still ({state}): its agent cannot answer",
        f"{locks.resume_of(guest)}; for io-error, mend its storage first",
    )


def _off(guest: Guest) -> Check:
    if guest.lock == locks.HIBERNATED:
        return Check("running", CheckResult.WARNING, "hibernated: its disks are as mounted as when its RAM was saved")
    return Check("running", CheckResult.OK, "shut down: its disks are at rest")


def _node_offline(guest: Guest) -> Check:
    return Check(
        "node",
        CheckResult.FAILED,
        f"its node {guest.node} is offline: nothing can be asked of the guest, or done with it",
        f"bring {guest.node} back (`pvecm status` on another node); where HA moves the guest, try again then",
    )


def _pending_told(guest: Guest, now: AgentOption, then: AgentOption | None) -> list[Check]:
    """What waits for the guest's next start and would change whether PVE freezes it."""
    if then is None or (then.enabled, then.freeze) == (now.enabled, now.freeze):
        return []
    waits = "on" if then.enabled and then.freeze else "off"
    return [
        Check(
            "agent-pending",
            CheckResult.WARNING,
            f"freezing by PVE is switched {waits} only from the guest's next full stop and start on: until then "
            "PVE goes by the option as it was",
            f"`qm shutdown {guest.vmid} && qm start {guest.vmid}`",
        )
    ]


def _container() -> Check:
    return Check(
        "container",
        CheckResult.NO_FREEZE,
        "a container has no guest agent: PVE freezes its processes and syncs, nothing proves more",
        "use policy prefer or never for containers",
    )


def _thawed(guest: Guest, state: object, commands: Mapping[str, bool] | None = None) -> list[Check]:
    """Frozen or thawed by the agent's word; nothing where it gave none, which is told as what it answered."""
    if state == FreezeState.FROZEN.value:
        may_thaw = (commands or {}).get("guest-fsfreeze-thaw", True)
        remedy = f"`safe-snapshot thaw {guest.vmid}`" if may_thaw else remedies.of_forbidden_thaw(guest.vmid)
        return [Check("thawed", CheckResult.WARNING, "the guest is frozen right now", remedy)]
    return [Check("thawed", CheckResult.OK, "not frozen")] if state == FreezeState.THAWED.value else []


def _ask(channel: AgentChannel, command: str) -> object:
    """What the agent answers, or its AgentRefusedError: one that says no is there. Raises when there is no answer."""
    try:
        return channel.call(command, timeout_seconds=QUICK_SECONDS)
    except AgentRefusedError as error:
        return error


def _status_answer(state: object) -> list[Check]:
    """Without a status there is neither a proof nor a confirmed thaw, so nothing is frozen."""
    if isinstance(state, AgentRefusedError):
        return [_refused("guest-fsfreeze-status", state)]
    if state in [known.value for known in FreezeState]:
        return []
    return [
        Check(
            "freeze-commands",
            CheckResult.NO_FREEZE,
            f"the agent says neither frozen nor thawed, but {clean(repr(state), 60)}",
            "install another agent in the guest: this one is none, or broken",
        )
    ]


def _refused(command: str, error: AgentRefusedError) -> Check:
    return Check(
        "freeze-commands",
        CheckResult.NO_FREEZE,
        f"the agent answers, but refuses {command}: {error}",
        remedies.of_refusal(error.description),
    )


def _freeze_commands(info: object, frozen: bool) -> Check:
    if isinstance(info, AgentRefusedError):
        return _refused("guest-info", info)
    states = _command_states(info)
    if states is None:
        return Check(
            "freeze-commands",
            CheckResult.WARNING,
            "not known: the agent does not list its commands in a way that makes sense",
            "a freeze shows it; it is tried",
        )
    blocked = [name for name in FREEZE_COMMANDS if states.get(name) is False]
    unknown = [name for name in FREEZE_COMMANDS if name not in states]
    # A frozen agent lists freeze as disabled, thaw and status as enabled: that is its state, not its configuration.
    if frozen:
        blocked = [name for name in blocked if name != "guest-fsfreeze-freeze"]
    if blocked:
        return Check(
            "freeze-commands",
            CheckResult.NO_FREEZE,
            f"the agent has {', '.join(blocked)} switched off",
            remedies.ALLOW_COMMAND,
        )
    if unknown:
        return Check(
            "freeze-commands",
            CheckResult.NO_FREEZE,
            f"the agent does not know {', '.join(unknown)}",
            remedies.NEWER_AGENT,
        )
    return Check("freeze-commands", CheckResult.OK, "freeze, thaw and status are enabled")


def _command_states(info: object) -> dict[str, bool] | None:
    """Each command that guest-info lists, and whether it is enabled; None when the list makes no sense.

    The guest is not trusted: its answer may be any JSON.
    """
    listed = info.get("supported_commands") if isinstance(info, dict) else None
    if not isinstance(listed, list) or not listed:
        return None
    states: dict[str, bool] = {}
    for row in listed:
        name, enabled = (row.get("name"), row.get("enabled")) if isinstance(row, dict) else (None, None)
        if not isinstance(name, str) or not isinstance(enabled, bool):
            return None
        states[name] = enabled
    return states
