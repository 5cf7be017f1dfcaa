"""Guest agent calls with PVE's semantics: the ping before every call, and PVE's own freeze and thaw inside tasks.

Behaviour of PVE::QemuServer::Agent and PVE::QemuConfig, per version.
"""

from __future__ import annotations

import contextlib
import re
from typing import Any

from tests.lab.node.errors import Die
from tests.lab.node.host import Host
from tests.lab.node.qmp import PeerTimeout
from tests.lab.node.tasks import Interrupted, say

_STATUS_ROUNDS = 5
# What `eval` catches in PVE's workers: a signal included, which is how a TERM can get lost in the freeze helper.
_CAUGHT = (Die, Interrupted)


def agent_options(text: str | None) -> dict[str, str]:
    """The parts of the ``agent`` option: ``1,freeze-fs=0`` is enabled=1, freeze-fs=0. Empty when disabled."""
    options: dict[str, str] = {}
    for part in filter(None, (text or "").split(",")):
        key, equals, value = part.partition("=")
        options[key if equals else "enabled"] = value if equals else key
    for old in ("freeze-fs-on-backup", "guest-fsfreeze"):
        if old in options:
            options.setdefault("freeze-fs", options.pop(old))
    return options if options.get("enabled") in ("1", "yes", "on", "true") else {}


def should_freeze(text: str | None) -> bool:
    """Whether the guest's options allow freezing."""
    options = agent_options(text)
    return bool(options) and options.get("freeze-fs", "1") != "0"


def call(host: Host, node: str, vmid: int, command: str) -> Any:
    """What ``.../agent/<command>`` does: the agent's result, its own error included. Raises Die."""
    config = host.load(node, "qemu", vmid)
    if "agent" not in config.values:
        raise Die("No QEMU guest agent configured")
    if not host.pid(vmid):
        raise Die(f"VM {vmid} is not running")
    if not answers(host, vmid):
        raise Die("QEMU guest agent is not running")
    return host.mon(vmid, f"guest-{command}")


def answers(host: Host, vmid: int, *, complain: bool = False) -> bool:
    """PVE's ping, over a connection of its own."""
    try:
        host.mon(vmid, "guest-ping", timeout=host.settings.limit("ping"))
    except _CAUGHT as error:
        if complain:
            say(f"QEMU Guest Agent is not running - {error}")
        return False
    return True


def check(result: Any, text: str) -> Any:
    """Die when the agent refused, or when there is no result at all."""
    if isinstance(result, dict) and (result.get("error") or {}).get("desc"):
        raise Die(f"Agent error: {result['error']['desc']}")
    if result is None:
        raise Die(f"Agent error: {text}")
    return result


# --------------------------------------------------- PVE's own freeze, in tasks


def freeze_applicable(host: Host, agent_option: str | None, vmid: int) -> bool:
    """Whether a task freezes the guest; since 9.1.10 a guest that is frozen already is left alone."""
    settings = host.settings
    if not settings.at_least("9.1.10"):
        wanted = should_freeze if settings.at_least("9.1.6") else agent_options
        asked = bool(wanted(agent_option)) and answers(host, vmid, complain=True)
        # 9.1.5 looked at the option behind the ping.
        return asked and (should_freeze(agent_option) or not settings.at_least("9.1.5"))
    if not should_freeze(agent_option):
        say("skipping guest filesystem freeze - disabled in VM options")
        return False
    if not answers(host, vmid):
        say("skipping guest filesystem freeze - agent configured but not running?")
        return False
    try:
        frozen = is_frozen(host, vmid)
    except _CAUGHT as error:
        say(f"unable to check guest fs freeze status - {error}")
        frozen = False
    if frozen:
        say("skipping guest filesystem freeze - already frozen")
        return False
    return True


def is_frozen(host: Host, vmid: int) -> bool:
    """The agent's own word. Raises Die."""
    return bool(
        check(host.mon(vmid, "guest-fsfreeze-status"), "unable to check guest filesystem freeze status") == "frozen"
    )


def freeze(host: Host, vmid: int) -> None:
    """PVE's freeze: one long wait, then up to five questions whether it worked. Raises Die."""
    seconds = host.settings.limit("task_freeze")
    result: Any = None
    with contextlib.suppress(*_CAUGHT):
        result = host.mon(vmid, "guest-fsfreeze-freeze", timeout=seconds)
    if isinstance(result, dict) and result.get("error"):
        raise Die(f"unable to freeze guest fs - {result['error'].get('desc', 'unknown')}")
    if result is not None:
        return
    status = None
    try:
        status = _status_after_freeze(host, vmid, seconds)
    except _CAUGHT as error:
        raise Die(f"querying status after freezing guest fs failed - {error}") from None
    if status != "frozen":
        raise Die(f"unable to freeze guest fs - unexpected status '{status}'")


def _status_after_freeze(host: Host, vmid: int, seconds: float) -> Any:
    for left in range(_STATUS_ROUNDS, 0, -1):
        say(f"still waiting on guest fs freeze - timeout in {10 * left} minutes")
        try:
            return check(host.mon(vmid, "guest-fsfreeze-status", timeout=seconds), "unknown error")
        except PeerTimeout:
            continue
        except Die as error:
            # noerr: the client's failures arrive as an error without a description, which PVE does not look at
            if re.search(r"command '.*' failed - ", str(error)):
                return None
            raise
    raise Die(f"timeout after {10 * (_STATUS_ROUNDS + 1)} minutes")


def thaw(host: Host, vmid: int) -> None:
    """PVE's thaw: tried once. Before 9.1.5 the agent's own refusal was not looked at. Raises Die."""
    result = host.mon(vmid, "guest-fsfreeze-thaw")
    if host.settings.at_least("9.1.5"):
        check(result, "unable to thaw guest filesystem")


def freeze_in_task(host: Host, vmid: int) -> None:
    """Freeze, and only log a failure: the task goes on and ends OK.

    Before 9.0.23 a bare command with an hour's limit, and the agent's own refusal was not looked at.
    """
    is_bare = not host.settings.at_least("9.0.23")
    try:
        if is_bare:
            host.mon(vmid, "guest-fsfreeze-freeze")
        else:
            freeze(host, vmid)
    except _CAUGHT as error:
        say(f"guest-fsfreeze-freeze problems - {error}" if is_bare else str(error))


def thaw_in_task(host: Host, vmid: int) -> None:
    """Thaw, and only log a failure."""
    try:
        thaw(host, vmid)
    except _CAUGHT as error:
        say(f"guest-fsfreeze-thaw problems - {error}")
