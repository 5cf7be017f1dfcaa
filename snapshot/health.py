"""The preflight: everything that is looked at before a guest is put at risk, each check with a name and a remedy."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

from snapshot.errors import ApiError, ApiFailureError, GuestUnfitError
from snapshot.model import Check, CheckResult, FreezeState, Guest, GuestKind, Health, Policy, Vmid
from snapshot.pve import agent
from snapshot.pve.agent import AgentChannel, AgentRefusedError, AgentReplyLostError, CommandNotSentError
from snapshot.pve.guests import AgentOption, GuestApi
from snapshot.pve.transport import clean

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
        config = self._api.config(guest)
        lock = str(config.get("lock") or guest.lock)
        current = self._api.current(guest)
        guest = guest._replace(lock=lock, running=current.get("status") == "running")
        wanted = wish(guest)
        checks.append(_template(guest))
        if for_snapshot:
            checks.append(_lock(guest))
            checks += self._snapshot_checks(guest, snapshot_name)
        checks += self._privileges(guest, wanted, for_snapshot)
        if not guest.running:
            checks.append(Check("running", CheckResult.OK, "shut down: its disks are at rest"))
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
            return health
        more, facts, frozen = self._freeze_checks(guest, config, option, wanted.ignore_freeze_option, details)
        return health._replace(checks=(*checks, *more), facts=facts, frozen=frozen)

    def _snapshot_checks(self, guest: Guest, name: str | None) -> list[Check]:
        checks = []
        try:
            can = self._api.can_snapshot(guest)
        except ApiFailureError as error:
            checks.append(Check("storage", CheckResult.WARNING, f"PVE does not say whether it can: {error.message}"))
        else:
            checks.append(
                Check("storage", CheckResult.OK, "all disks can be snapshotted")
                if can
                else Check(
                    "storage",
                    CheckResult.FAILED,
                    "a disk is on storage that cannot take snapshots",
                    "move it to qcow2, LVM-thin, ZFS or Ceph (`qm move-disk`), or use vzdump",
                )
            )
        if name is not None:
            taken = name in self._api.snapshots(guest)
            checks.append(
                Check("name", CheckResult.FAILED, f"there is a snapshot {name!r} already", "choose another --name")
                if taken
                else Check("name", CheckResult.OK, f"{name!r} is free")
            )
        return checks

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
        self, guest: Guest, config: Mapping[str, object], option: AgentOption, ignore_option: bool, details: bool
    ) -> tuple[list[Check], dict[str, object], bool]:
        checks = [self._not_this_machine(config), self._agent_option(guest, option, ignore_option)]
        channel = self._channel_for(guest)
        try:
            info = channel.call("info", timeout_seconds=QUICK_SECONDS)
            state = agent.status(channel)
        except (CommandNotSentError, AgentReplyLostError, AgentRefusedError) as error:
            checks.append(self._silent_agent(guest, option, error))
            return checks, {}, False
        version = clean(str(info.get("version", "?")), 40) if isinstance(info, dict) else "?"
        checks.append(Check("agent", CheckResult.OK, f"answers (version {version})"))
        frozen = state is FreezeState.FROZEN
        checks += [_freeze_commands(info, frozen), _thawed(guest, frozen)]
        facts: dict[str, object] = {"agent_version": version}
        if details and not frozen:
            facts |= guest_facts(channel)
        return checks, facts, frozen

    def _look_at_freeze(self, health: Health, guest: Guest) -> Health:
        try:
            frozen = agent.status(self._channel_for(guest)) is FreezeState.FROZEN
        except (CommandNotSentError, AgentReplyLostError, AgentRefusedError):
            return health  # who asked for RAM goes by the journal then
        return health._replace(checks=(*health.checks, _thawed(guest, frozen)), frozen=frozen)

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
        return Check("not-this-machine", CheckResult.OK, "this program runs on another machine")

    def _agent_option(self, guest: Guest, option: AgentOption, ignore_option: bool) -> Check:
        name = "agent-option"
        if self._agent_is_pending(guest):
            return Check(
                name,
                CheckResult.NO_FREEZE,
                "the guest agent is switched on in PVE but waits for a full stop and start of the guest",
                f"a reboot inside the guest is not enough: `qm shutdown {guest.vmid} && qm start {guest.vmid}`",
            )
        if not option.enabled:
            return Check(
                name,
                CheckResult.NO_FREEZE,
                "the guest agent is not switched on in PVE (step 1 of 2)",
                f"`qm set {guest.vmid} --agent enabled=1`, then a full stop and start: "
                f"`qm shutdown {guest.vmid} && qm start {guest.vmid}`",
            )
        if not option.freeze and not ignore_option:
            return Check(
                name,
                CheckResult.NO_FREEZE,
                "freezing is switched off in the guest's PVE options (freeze-fs=0)",
                f"`qm set {guest.vmid} --agent enabled=1,freeze-fs=1`, or name the guest in the configuration with "
                "ignore_freeze_option = true",
            )
        return Check(name, CheckResult.OK, "switched on in PVE")

    def _agent_is_pending(self, guest: Guest) -> bool:
        try:
            rows = self._api.pending(guest)
        except ApiError:
            return False
        row = next((r for r in rows if r.get("key") == "agent"), {})
        if "pending" not in row:
            return False
        now, then = AgentOption.parse(row.get("value")), AgentOption.parse(row.get("pending"))
        return then.enabled and not now.enabled

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


def smbios_uuid(config: Mapping[str, object]) -> str:
    """The guest's product UUID from ``smbios1``, lower case; "" when it is not there."""
    for part in str(config.get("smbios1", "")).split(","):
        key, _, value = part.partition("=")
        if key.strip() == "uuid":
            return value.strip().lower()
    return ""


def guest_facts(channel: AgentChannel) -> dict[str, object]:
    """OS, host name, addresses and filesystems as the agent tells them; what it does not tell is left out."""
    facts: dict[str, object] = {}
    for name, command, read in (
        ("os", "get-osinfo", _os_name),
        ("host_name", "get-host-name", lambda a: clean(str(a["host-name"]), 80)),
        ("addresses", "network-get-interfaces", _addresses),
        ("filesystems", "get-fsinfo", _filesystems),
    ):
        try:
            facts[name] = read(channel.call(command, timeout_seconds=QUICK_SECONDS))
        except (CommandNotSentError, AgentReplyLostError, AgentRefusedError, KeyError, TypeError, AttributeError):
            continue
    return facts


def _os_name(answer: object) -> str:
    values = answer if isinstance(answer, dict) else {}
    return clean(str(values.get("pretty-name") or values.get("name") or values["id"]), 80)


def _addresses(answer: object) -> list[str]:
    found = []
    for interface in answer if isinstance(answer, list) else []:
        for address in interface.get("ip-addresses", []):
            text = clean(str(address["ip-address"]), 60)
            if not text.startswith(("127.", "::1", "fe80")):
                found.append(text)
    return found


def _filesystems(answer: object) -> list[str]:
    rows = answer if isinstance(answer, list) else []
    return [clean(f"{row['mountpoint']} ({row['type']})", 80) for row in rows]


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
    state = clean(str(current.get("qmpstatus", "running")), 40)
    if state == "running":
        return Check("running", CheckResult.OK, "running")
    return Check(
        "running",
        CheckResult.NO_FREEZE,
        f"its processors stand still ({state}): its agent cannot answer",
        f"`qm resume {guest.vmid}`; for io-error, mend its storage first",
    )


def _lock(guest: Guest) -> Check:
    if guest.lock:
        return Check(
            "lock",
            CheckResult.FAILED,
            f"the guest is locked ({guest.lock})",
            "wait for the running task; when none runs (`pvesh get /cluster/tasks`): "
            f"`{'pct' if guest.kind is GuestKind.LXC else 'qm'} unlock {guest.vmid}`",
        )
    return Check("lock", CheckResult.OK, "not locked")


def _container() -> Check:
    return Check(
        "container",
        CheckResult.NO_FREEZE,
        "a container has no guest agent: PVE freezes its processes and syncs, nothing proves more",
        "use policy prefer or never for containers",
    )


def _thawed(guest: Guest, frozen: bool) -> Check:
    if frozen:
        remedy = f"`safe-snapshot thaw {guest.vmid}`"
        return Check("thawed", CheckResult.WARNING, "the guest is frozen right now", remedy)
    return Check("thawed", CheckResult.OK, "not frozen")


def _freeze_commands(info: object, frozen: bool) -> Check:
    listed = info.get("supported_commands") if isinstance(info, dict) else None
    states = {str(c.get("name")): bool(c.get("enabled")) for c in listed or [] if isinstance(c, dict)}
    missing = [name for name in FREEZE_COMMANDS if not states.get(name, False)]
    # A frozen agent lists freeze as disabled, thaw and status as enabled: that is its state, not its configuration.
    if frozen and missing == ["guest-fsfreeze-freeze"]:
        missing = []
    if missing:
        return Check(
            "freeze-commands",
            CheckResult.NO_FREEZE,
            f"the agent has {', '.join(missing)} switched off or does not know it",
            "look for block-rpcs / BLACKLIST_RPC in the guest's qemu-ga configuration (/etc/sysconfig/qemu-ga, "
            "/etc/qemu/qemu-ga.conf)",
        )
    return Check("freeze-commands", CheckResult.OK, "freeze, thaw and status are enabled")
