"""The single checks: what PVE has answered about a guest, and what that means for a freeze.

Pure. Who asks, and in which order, stands in preflight.py; what its agent has answered is judged in answers.py, disks
and filesystems have files of their own.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

from snapshot.base.text import clean
from snapshot.model import Check, CheckResult, Guest, Policy
from snapshot.pve import locks
from snapshot.pve.guests import AgentOption

FREEZE_PRIVILEGES = ("VM.GuestAgent.FileSystemMgmt", "VM.GuestAgent.Unrestricted", "VM.Monitor")
"""Any one of them lets a token freeze: the first two since qemu-server 9.0.3, the last one before."""
ASK_PRIVILEGES = ("VM.GuestAgent.Audit", "VM.GuestAgent.Unrestricted", "VM.Monitor")
"""Any one of them lets a token ask the agent what it can do."""

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
        "node-offline",
    )


def template(guest: Guest) -> Check:
    """Whether it is a template."""
    if guest.template:
        return Check(
            "template", CheckResult.FAILED, "the guest is a template", "templates need no snapshots", "template"
        )
    return Check("template", CheckResult.OK, "not a template")


def name(wanted: str, taken: Collection[str]) -> Check:
    """Whether the snapshot's name is free."""
    if wanted in taken:
        taken_text = f"there is a snapshot {wanted!r} already"
        return Check("name", CheckResult.FAILED, taken_text, "choose another --name", "name-taken")
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
        "privilege-missing",
    )


def off(guest: Guest) -> Check:
    """A guest that does not run."""
    if guest.lock == locks.HIBERNATED:
        text = "hibernated: its disks are as mounted as when its RAM was saved"
        return Check("running", CheckResult.WARNING, text, f"`{locks.tool(guest)} resume {guest.vmid}`", "hibernated")
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
            "running-not-known",
        )
    state = clean(str(current.get("qmpstatus", "running")), 40)
    if state == "running":
        return Check("running", CheckResult.OK, "running")
    return Check(
        "running",
        CheckResult.NO_FREEZE,
        f"its processors stand still ({state}): its agent cannot answer",
        f"{locks.resume_of(guest)}; for io-error, mend its storage first",
        "processors-stand-still",
    )


def container(policy: Policy) -> Check:
    """A container, whatever it is. ``policy``: what is set for it."""
    remedy = "a database in it needs a dump of its own: docs/containers.md"
    return Check(
        "container",
        CheckResult.NO_FREEZE,
        "a container has no guest agent: PVE freezes its processes and syncs, nothing proves more",
        "use policy prefer or never for it" if policy is Policy.REQUIRE else remedy,
        "container",
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
            "own-machine",
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
                "agent-pending",
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
                "agent-off",
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
                "freeze-off",
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
            "agent-pending",
        )
    ]


def _restart(guest: Guest) -> str:
    return f"`qm shutdown {guest.vmid} && qm start {guest.vmid}`"
