"""The single checks: what PVE and the guest's agent have answered, and what that means for a freeze.

Pure. Who asks, and in which order, stands in preflight.py; disks and filesystems have files of their own.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping

from snapshot.base.text import clean
from snapshot.model import Check, CheckResult, FreezeState, Guest
from snapshot.pve import locks, remedies
from snapshot.pve.agent import AgentRefusedError, AgentReplyLostError, CommandNotSentError
from snapshot.pve.guests import AgentOption

FREEZE, THAW, STATUS = FREEZE_COMMANDS = ("guest-fsfreeze-freeze", "guest-fsfreeze-thaw", "guest-fsfreeze-status")

INSTALL_COMMANDS: Mapping[str, str] = {
    "Debian/Ubuntu": "apt install qemu-guest-agent && systemctl enable --now qemu-guest-agent",
    "Alpine": "apk add qemu-guest-agent && rc-update add qemu-guest-agent default && rc-service qemu-guest-agent start",
    "RHEL family": "dnf install qemu-guest-agent && systemctl enable --now qemu-guest-agent",
    "Windows": "run the installer in the folder guest-agent of the VirtIO driver ISO",
}
"""The second set-up step, inside the guest (pve-docs, qm.adoc)."""

FREEZE_PRIVILEGES = ("VM.GuestAgent.FileSystemMgmt", "VM.GuestAgent.Unrestricted", "VM.Monitor")
"""Any one of them lets a token freeze: the first two since qemu-server 9.0.3, the last one before."""
ASK_PRIVILEGES = ("VM.GuestAgent.Audit", "VM.GuestAgent.Unrestricted", "VM.Monitor")
"""Any one of them lets a token ask the agent what it can do."""

LEAVES_ALONE = (9, 1, 10)
"""The qemu-server that first leaves a guest alone which it finds frozen in its own snapshot task."""
OBEYS_OPTION = (9, 1, 5)
"""The one whose snapshots first go by freeze-fs=0."""


# -- the guest, as PVE knows it


def found(guest: Guest) -> Check:
    """It is there."""
    named = f"{guest.vmid} ({guest.name})" if guest.name else str(guest.vmid)
    return Check("found", CheckResult.OK, f"{guest.kind.value} {named} on node {guest.node}")


def node_offline(guest: Guest) -> Check:
    """Its node is off."""
    return Check(
        "node",
        CheckResult.FAILED,
        f"its node {guest.node} is offline: nothing can be asked of the guest, or done with it",
        f"bring {guest.node} back (`pvecm status` on another node); where HA moves the guest, try again then",
    )


def template(guest: Guest) -> Check:
    """Whether it is a template."""
    if guest.template:
        return Check("template", CheckResult.FAILED, "the guest is a template", "templates need no snapshots")
    return Check("template", CheckResult.OK, "not a template")


def name(wanted: str, taken: Collection[str]) -> Check:
    """Whether the snapshot's name is free."""
    if wanted in taken:
        return Check("name", CheckResult.FAILED, f"there is a snapshot {wanted!r} already", "choose another --name")
    return Check("name", CheckResult.OK, f"{wanted!r} is free")


def privileges(guest: Guest, held: Collection[str], *, to_snapshot: bool, to_freeze: bool) -> Check:
    """Whether the token may do what it will have to."""
    if to_snapshot and "VM.Snapshot" not in held:
        return _lacks("VM.Snapshot", guest, CheckResult.FAILED)
    for enough in (FREEZE_PRIVILEGES, ASK_PRIVILEGES) if to_freeze else ():
        if not set(enough) & set(held):
            return _lacks(f"{enough[0]} (before PVE 9: {enough[-1]})", guest, CheckResult.NO_FREEZE)
    return Check("privileges", CheckResult.OK, "the token has what it needs")


def _lacks(privilege: str, guest: Guest, result: CheckResult) -> Check:
    return Check(
        "privileges",
        result,
        f"the API token lacks the privilege {privilege} on /vms/{guest.vmid}",
        "docs/privileges.md has the commands that grant it",
    )


def off(guest: Guest) -> Check:
    """A guest that does not run."""
    if guest.lock == locks.HIBERNATED:
        return Check("running", CheckResult.WARNING, "hibernated: its disks are as mounted as when its RAM was saved")
    return Check("running", CheckResult.OK, "shut down: its disks are at rest")


def running(guest: Guest, current: Mapping[str, object]) -> Check:
    """A guest that is not known to be off."""
    if current.get("status") != "running":
        said = f" ({clean(str(current['status']), 40)!r})" if "status" in current else ""
        unclear = f"PVE does not say whether the guest runs{said}"
        if current.get("status") == "stopped":
            unclear = "PVE calls the guest stopped, which its own node (elsewhere: PVE's list) does not bear out"
        return Check(
            "running",
            CheckResult.WARNING,
            f"{unclear}: it is taken for one that runs",
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


def container() -> Check:
    """A container, whatever it is."""
    return Check(
        "container",
        CheckResult.NO_FREEZE,
        "a container has no guest agent: PVE freezes its processes and syncs, nothing proves more",
        "use policy prefer or never for containers",
    )


def not_this_machine(config: Mapping[str, object], our_uuid: str) -> Check:
    """Whether the guest is another machine than this one; ``our_uuid``: this machine's product UUID, "" if unknown."""
    check, theirs = "not-this-machine", _smbios_uuid(config)
    if theirs and our_uuid == theirs:
        return Check(
            check,
            CheckResult.FAILED,
            "this program runs inside the very guest it should freeze: it could never thaw it",
            "run safe-snapshot on a PVE node or another machine",
        )
    if not (theirs and our_uuid):
        whose = "the guest" if our_uuid else "this machine"
        return Check(check, CheckResult.OK, f"not compared: {whose} has no product UUID to be known by")
    return Check(check, CheckResult.OK, "this program runs on another machine")


def _smbios_uuid(config: Mapping[str, object]) -> str:
    """The guest's product UUID from ``smbios1``, lower case; "" when it is not there."""
    for part in str(config.get("smbios1", "")).split(","):
        key, _, value = part.partition("=")
        if key.strip() == "uuid":
            return value.strip().lower()
    return ""


# -- its agent's option in PVE


def agent_option(guest: Guest, option: AgentOption, pending: AgentOption | None, ignore_option: bool) -> list[Check]:
    """Whether PVE has the agent switched on, and lets it freeze. ``pending``: the option after the next start."""
    check = "agent-option"
    restart = (
        "then a full stop and start, which the option waits for (a reboot inside the guest is not enough): "
        f"{_restart(guest)}"
    )
    if pending is not None and pending.enabled and not option.enabled:
        return [
            Check(
                check,
                CheckResult.NO_FREEZE,
                "the guest agent is switched on in PVE but waits for a full stop and start of the guest",
                f"a reboot inside the guest is not enough: {_restart(guest)}",
            )
        ]
    waiting = _pending(guest, option, pending)
    if not option.enabled:
        return [
            Check(
                check,
                CheckResult.NO_FREEZE,
                "the guest agent is not switched on in PVE (step 1 of 2)",
                f"`qm set {guest.vmid} --agent {option.switched_on(freeze=not ignore_option)}`, {restart}",
            )
        ]
    if not option.freeze and not ignore_option:
        return [
            Check(
                check,
                CheckResult.NO_FREEZE,
                f"freezing is switched off in the guest's PVE options ({option.freeze_key}=0)",
                f"`qm set {guest.vmid} --agent {option.switched_on()}`, {restart}; or name the guest in the "
                "configuration with ignore_freeze_option = true",
            ),
            *waiting,
        ]
    return [Check(check, CheckResult.OK, "switched on in PVE"), *waiting]


def _pending(guest: Guest, now: AgentOption, then: AgentOption | None) -> list[Check]:
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
            _restart(guest),
        )
    ]


def _restart(guest: Guest) -> str:
    return f"`qm shutdown {guest.vmid} && qm start {guest.vmid}`"


# -- its agent, as it answers


def silent_agent(option: AgentOption, error: CommandNotSentError | AgentReplyLostError, *, stands_still: bool) -> Check:
    """An agent that did not answer. ``stands_still``: the guest's processors do, so it could not."""
    if stands_still:
        why = "cannot answer while its processors stand still: see running"
        return Check("agent", CheckResult.NO_FREEZE, why)
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


def silent_pve(error: CommandNotSentError | AgentReplyLostError) -> Check:
    """What stands before the agent gave no answer to pass on: that is no word about the agent."""
    return Check(
        "api",
        CheckResult.NO_FREEZE,
        f"the guest agent could not be asked, for PVE did not answer, or in a way that makes no sense: {error}",
        "check [api] host and port: they must name pveproxy itself; `systemctl status pveproxy pvedaemon` on the node",
    )


def freeze_status(state: object) -> list[Check]:
    """Whether fsfreeze-status makes sense: without one there is neither a proof nor a confirmed thaw."""
    if isinstance(state, AgentRefusedError):
        return [_refused(STATUS, state)]
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


def freeze_commands(info: object, *, frozen: bool) -> Check:
    """Whether the agent has what a window needs, by its answer to guest-info."""
    if isinstance(info, AgentRefusedError):
        return _refused("guest-info", info)
    states = command_states(info)
    if states is None:
        return Check(
            "freeze-commands",
            CheckResult.WARNING,
            "not known: the agent does not list its commands in a way that makes sense",
            "a freeze shows it; it is tried",
        )
    blocked = [command for command in FREEZE_COMMANDS if states.get(command) is False]
    unknown = [command for command in FREEZE_COMMANDS if command not in states]
    # A frozen agent lists freeze as disabled, thaw and status as enabled: that is its state, not its configuration.
    if frozen:
        blocked = [command for command in blocked if command != FREEZE]
    if blocked:
        what, remedy = f"the agent has {', '.join(blocked)} switched off", remedies.ALLOW_COMMAND
        return Check("freeze-commands", CheckResult.NO_FREEZE, what, remedy)
    if unknown:
        what, remedy = f"the agent does not know {', '.join(unknown)}", remedies.NEWER_AGENT
        return Check("freeze-commands", CheckResult.NO_FREEZE, what, remedy)
    return Check("freeze-commands", CheckResult.OK, "freeze, thaw and status are enabled")


def _refused(command: str, error: AgentRefusedError) -> Check:
    return Check(
        "freeze-commands",
        CheckResult.NO_FREEZE,
        f"the agent answers, but refuses {command}: {error}",
        remedies.of_refusal(error.description),
    )


def command_states(info: object) -> dict[str, bool] | None:
    """Each command that guest-info lists, and whether it is enabled; None when the list makes no sense.

    The guest is not trusted: its answer may be any JSON.
    """
    listed = info.get("supported_commands") if isinstance(info, dict) else None
    if not isinstance(listed, list) or not listed:
        return None
    states: dict[str, bool] = {}
    for row in listed:
        command, enabled = (row.get("name"), row.get("enabled")) if isinstance(row, dict) else (None, None)
        if not isinstance(command, str) or not isinstance(enabled, bool):
            return None
        states[command] = enabled
    return states


def thawed(guest: Guest, state: object, commands: Mapping[str, bool] | None = None) -> list[Check]:
    """Frozen or thawed by the agent's word; nothing where it gave none, which is told as what it answered."""
    if state == FreezeState.FROZEN.value:
        may_thaw = (commands or {}).get(THAW, True)
        remedy = f"`safe-snapshot thaw {guest.vmid}`" if may_thaw else remedies.of_forbidden_thaw(guest.vmid)
        return [Check("thawed", CheckResult.WARNING, "the guest is frozen right now", remedy)]
    return [Check("thawed", CheckResult.OK, "not frozen")] if state == FreezeState.THAWED.value else []


def proof(option: AgentOption, version: str) -> Check:
    """What a snapshot of the guest can be at best: before 9.1.10 PVE thaws it inside its own snapshot task.

    From 9.1.5 on it leaves a guest alone whose option says so (PVE::QemuServer::Agent). ``version``: of qemu-server.
    """
    since = LEAVES_ALONE if option.freeze else OBEYS_OPTION
    dotted = ".".join(map(str, since))
    best = f"snapshots are filesystem-consistent at best from qemu-server {dotted} on, unknown before"
    if not version:
        return Check("proof", CheckResult.OK, f"{best}; PVE does not say which one runs (it takes Sys.Audit)")
    if tuple(int(part) for part in re.findall(r"[0-9]{1,6}", version)[:3]) >= since:
        return Check("proof", CheckResult.OK, f"filesystem-consistent at best (qemu-server {version})")
    return Check(
        "proof",
        CheckResult.WARNING,
        f"unknown at best, with qemu-server {version if version[-1] != '.' else version + 'x'}: before "
        f"{dotted} PVE thaws the guest inside its own snapshot task; backups by vzdump-hook can be proven",
        "upgrade PVE; from 9.1.5 on docs/safe-snapshot.md has a way out",
    )
