"""The single checks, second part: what a guest's agent has answered, and what that means for a freeze. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping

from snapshot.base.text import clean
from snapshot.model import Check, CheckResult, FreezeState, Guest
from snapshot.pve import remedies
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

FROZEN_NOW = "frozen-now"

LEAVES_ALONE = (9, 1, 10)
"""The qemu-server that first leaves a guest alone which it finds frozen in its own snapshot task."""
OBEYS_OPTION = (9, 1, 5)
"""The one whose snapshots first go by freeze-fs=0."""


def silent_agent(option: AgentOption, error: CommandNotSentError | AgentReplyLostError, *, stands_still: bool) -> Check:
    """An agent that did not answer. ``stands_still``: the guest's processors do, so it could not."""
    if stands_still:
        why = "cannot answer while its processors stand still: see running"
        return Check("agent", CheckResult.NO_FREEZE, why, code="processors-stand-still")
    if isinstance(error, CommandNotSentError) and error.denied:
        needs = "docs/privileges.md lists what the token needs"
        return Check("agent", CheckResult.NO_FREEZE, str(error), needs, "privilege-missing")
    if not option.enabled:
        return Check("agent", CheckResult.NO_FREEZE, "not asked: see agent-option", code="agent-off")
    commands = "; ".join(f"{family}: {command}" for family, command in INSTALL_COMMANDS.items())
    return Check(
        "agent",
        CheckResult.NO_FREEZE,
        f"the guest agent does not answer: busy, hung, or not installed in the guest (step 2 of 2): {error}",
        f"inside the guest: {commands}",
        "agent-silent",
    )


def silent_pve(error: CommandNotSentError | AgentReplyLostError) -> Check:
    """What stands before the agent gave no answer to pass on: that is no word about the agent."""
    return Check(
        "api",
        CheckResult.NO_FREEZE,
        f"the guest agent could not be asked, for PVE did not answer, or in a way that makes no sense: {error}",
        "check [api] host and port: they must name pveproxy itself; `systemctl status pveproxy pvedaemon` on the node",
        "agent-not-asked",
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
            "agent-broken",
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
            "commands-not-known",
        )
    blocked = [command for command in FREEZE_COMMANDS if states.get(command) is False]
    unknown = [command for command in FREEZE_COMMANDS if command not in states]
    # A frozen agent lists freeze as disabled, thaw and status as enabled: that is its state, not its configuration.
    if frozen:
        blocked = [command for command in blocked if command != FREEZE]
    if blocked:
        what, remedy = f"the agent has {', '.join(blocked)} switched off", remedies.ALLOW_COMMAND
        code = "thaw-blocked" if THAW in blocked and FREEZE not in blocked else "freeze-blocked"
        return Check("freeze-commands", CheckResult.NO_FREEZE, what, remedy, code)
    if unknown:
        what, remedy = f"the agent does not know {', '.join(unknown)}", remedies.NEWER_AGENT
        return Check("freeze-commands", CheckResult.NO_FREEZE, what, remedy, "agent-too-old")
    return Check("freeze-commands", CheckResult.OK, "freeze, thaw and status are enabled")


def _refused(command: str, error: AgentRefusedError) -> Check:
    return Check(
        "freeze-commands",
        CheckResult.NO_FREEZE,
        f"the agent answers, but refuses {command}: {error}",
        remedies.of_refusal(error.description),
        "agent-too-old" if "not been found" in error.description else "freeze-blocked",
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
        return [Check("thawed", CheckResult.WARNING, "the guest is frozen right now", remedy, FROZEN_NOW)]
    return [Check("thawed", CheckResult.OK, "not frozen")] if state == FreezeState.THAWED.value else []


def proof(option: AgentOption, version: str) -> Check:
    """What a snapshot of the guest can be at best: before 9.1.10 PVE thaws it inside its own snapshot task.

    From 9.1.5 on it leaves a guest alone whose option says so (PVE::QemuServer::Agent). ``version``: of qemu-server.
    """
    since, can = _proven_since(option), can_be_proven(option, version)
    dotted = ".".join(map(str, since))
    best = f"snapshots are filesystem-consistent at best from qemu-server {dotted} on, unknown before"
    if can is None:
        return Check("proof", CheckResult.OK, f"{best}; PVE does not say which one runs (it takes Sys.Audit)")
    if can:
        return Check("proof", CheckResult.OK, f"filesystem-consistent at best (qemu-server {version})")
    return Check(
        "proof",
        CheckResult.WARNING,
        f"unknown at best, with qemu-server {version if version[-1] != '.' else version + 'x'}: before "
        f"{dotted} PVE thaws the guest inside its own snapshot task; backups by vzdump-hook can be proven",
        "upgrade PVE; from 9.1.5 on docs/safe-snapshot.md has a way out",
        "pve-thaws-early",
    )


def can_be_proven(option: AgentOption, version: str) -> bool | None:
    """Whether PVE leaves a guest alone that we have frozen before its snapshot task, so that a status after the point
    in time proves something; None when the version of qemu-server is not known.
    """
    if not version:
        return None
    return tuple(int(part) for part in re.findall(r"[0-9]{1,6}", version)[:3]) >= _proven_since(option)


def _proven_since(option: AgentOption) -> tuple[int, int, int]:
    return LEAVES_ALONE if option.freeze else OBEYS_OPTION
