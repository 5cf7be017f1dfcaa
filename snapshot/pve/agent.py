"""The guest agent's commands, over whichever channel: what was asked, what came back, and what that means.

A channel (AgentChannel) carries one command to one guest's agent. Over the API every call is preceded by PVE's own 3 s
guest-ping, so "QEMU guest agent is not running" means *busy or gone* and that nothing was sent (PVE/API2/Qemu/Agent.pm,
PVE::QemuServer::Agent::assert_agent_available); an error of the agent itself arrives as HTTP 200.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Protocol

from snapshot.base.text import clean
from snapshot.errors import ApiDeniedError, ApiFailureError, ApiUnreachableError, ReplyLostError
from snapshot.model import FreezeOutcome, FreezeReply, FreezeState, Guest
from snapshot.pve.connection import Heard
from snapshot.pve.transport import Transport

STATUS_SECONDS = 8.0
"""Read timeout for quick commands: PVE's 3 s ping, its 5 s for the command."""

MOST_FILESYSTEMS = 1_000_000

_DISABLED = re.compile(r"(?:The c|C)ommand \S+ has been disabled\b")
"""How an agent refuses a command unread: blocked by its configuration, or not allowed while it is frozen. Only QEMU 6.0
to 9.0 say which (qapi/qmp-dispatch.c); before 4.2 the class is GenericError."""
_HOOK_FAILED = re.compile(
    r"fsfreeze hook has (?:failed|terminated abnormally)"
    r"|child process has (?:failed to execute fsfreeze hook|terminated abnormally)"
)


class AgentRefusedError(Exception):
    """The agent itself answered with an error. ``kind`` is its class, e.g. ``CommandNotFound``."""

    def __init__(self, kind: str, description: str) -> None:
        super().__init__(f"{description} ({kind})" if kind else description)
        self.kind = kind
        self.description = description

    @property
    def is_forbidden(self) -> bool:
        """Whether the agent has not even begun: the command is unknown to it, blocked, or, of all but the thaw and what
        only asks, not allowed while it is frozen.
        """
        return self.kind == "CommandNotFound" or _DISABLED.match(self.description) is not None


class CommandNotSentError(Exception):
    """The command certainly did not reach the agent: no API, no privilege, agent busy or gone, guest off.

    ``guest_off``: one route says so, which proves nothing yet.
    """

    def __init__(self, message: str, *, guest_off: bool = False, denied: bool = False, busy_or_gone: bool = False):
        super().__init__(message)
        self.guest_off = guest_off
        self.denied = denied
        self.busy_or_gone = busy_or_gone


class AgentReplyLostError(Exception):
    """The command may have reached the agent; no answer did. Also any answer that makes no sense."""


class AgentChannel(Protocol):
    """One way to one guest's agent."""

    name: str
    is_silent: bool
    """The last call got no answer, or none that makes sense, from what stands before the agent (the API, pvesh)."""

    def call(self, command: str, *, timeout_seconds: float, keep_open: bool = False) -> object:
        """The ``return`` of ``guest-<command>``. Raises AgentRefusedError, CommandNotSentError, AgentReplyLostError.

        ``keep_open``: another call follows at once, so a connection to the agent stays open for it after an answer. The
        agent serves nobody else until then: ``release``.
        """
        ...

    def sit(self, *, awaits_knock: bool = False) -> bool:
        """Keep the agent's one seat from now to the next call, where this route leads to it, and let the others pass
        meanwhile; False where it is not ours, and calls are as ever. Never raises.

        ``awaits_knock``: the first of the others waits until we have asked, for half a second at most. See ``knock``.
        """
        ...

    def knock(self, seconds: float) -> float | None:
        """Wait for the first of the others: the last instant (monotonic) at which it was not there yet. None when
        nobody comes within ``seconds``, when it did not wait any longer, or without a seat. From then on nobody passes
        before the next call, and that goes over this very seat or is not sent.
        """
        ...

    def heard(self, ask_seconds: float | None = None) -> Sequence[Heard]:
        """What the agent has said in turns of ours, on a seat that is kept, since the last call: the oldest first.

        Returns at once. ``ask_seconds``: from now on it is asked so often, in our turn only, and while nobody waits.
        """
        ...

    def release(self) -> None:
        """Let go of a seat or connection that was kept, if there is one. Never raises."""
        ...


class Seatless:
    """What an AgentChannel without a seat to keep says of it: each of its calls makes a connection of its own."""

    def sit(self, *, awaits_knock: bool = False) -> bool:
        """See AgentChannel.sit."""
        return False

    def knock(self, seconds: float) -> float | None:
        """See AgentChannel.knock."""
        return None

    def heard(self, ask_seconds: float | None = None) -> Sequence[Heard]:
        """See AgentChannel.heard."""
        return ()

    def release(self) -> None:
        """See AgentChannel.release."""


class ApiChannel(Seatless):
    """The agent through ``/nodes/{node}/qemu/{vmid}/agent``."""

    _GETS = frozenset({"info", "get-fsinfo", "get-osinfo", "get-host-name", "get-time", "network-get-interfaces"})

    def __init__(self, transport: Transport, guest: Guest) -> None:
        self.name = transport.name
        self.transport = transport
        self.is_silent = False
        self._guest = guest

    def call(self, command: str, *, timeout_seconds: float, keep_open: bool = False) -> object:
        """See AgentChannel.call."""
        method = "GET" if command in self._GETS else "POST"
        path = f"{self._guest.path}/agent/{command}"
        self.is_silent = False
        try:
            answer = self.transport.request(method, path, timeout_seconds=timeout_seconds)
        except (ApiUnreachableError, ApiDeniedError) as error:
            self.is_silent = isinstance(error, ApiUnreachableError)
            raise CommandNotSentError(str(error), denied=isinstance(error, ApiDeniedError)) from error
        except ReplyLostError as error:
            self.is_silent = not error.is_answered
            raise AgentReplyLostError(str(error)) from error
        except ApiFailureError as error:
            raise _classify_failure(error, self._guest.vmid) from error
        if not isinstance(answer, dict) or "result" not in answer:
            self.is_silent = True
            raise AgentReplyLostError(f"{self.name} gave no result for guest-{command}: {clean(repr(answer), 80)}")
        return unwrap(answer["result"])


def unwrap(result: object) -> object:
    """``result`` of the API, or AgentRefusedError when it carries the agent's error (HTTP 200 all the same)."""
    if isinstance(result, dict) and "error" in result:
        error = result["error"]
        if not isinstance(error, dict):
            raise AgentRefusedError("", clean(str(error)))
        raise AgentRefusedError(clean(str(error.get("class", ""))), clean(str(error.get("desc", "unknown error"))))
    return result


_BUSY_OR_GONE = re.compile(r"\bQEMU guest agent is not running\Z")
_NOT_SENT = (
    _BUSY_OR_GONE,
    re.compile(r"\bNo QEMU guest agent configured\Z"),
    re.compile(r"\bConfiguration file '[^' ]*' does not exist\Z"),
    re.compile(r"\bhostname lookup '[^' ]*' failed - "),
)
"""PVE's 500s that come before the command is sent (assert_agent_available, load_config, proxying to the node)."""

_QUOTING = re.compile(r"'|\bfailed -|\bqga command\b")
"""What stands in front of words that are not PVE's own: an agent chooses what follows ``got wrong command id '``."""


def _says(text: str, what: re.Pattern[str]) -> bool:
    """Whether PVE itself says ``what``: at the end of its message, behind nothing but where it came from.

    pvesh's text also holds what ssh says on the way to another node.
    """
    found = what.search(text)
    return found is not None and _QUOTING.search(text[: found.start()]) is None


def _classify_failure(error: ApiFailureError, vmid: int) -> CommandNotSentError | AgentReplyLostError:
    text = error.message
    if _says(text, re.compile(rf"\bVM {vmid} is not running\Z")):
        return CommandNotSentError(text, guest_off=True)
    if error.status in (400, 501) or any(_says(text, known) for known in _NOT_SENT):
        return CommandNotSentError(text, busy_or_gone=_says(text, _BUSY_OR_GONE))
    return AgentReplyLostError(text)


def freeze(channel: AgentChannel, timeout_seconds: float, *, keep_open: bool = False) -> FreezeReply:
    """Ask for a freeze and say what became of it; never raises for what PVE or the agent may answer.

    An agent that says no before it starts (frozen already, a command that is unknown or blocked, a freeze hook that
    failed) refused cleanly: what is frozen then is somebody else's. After any other error of its something may be.
    """
    try:
        count = channel.call("fsfreeze-freeze", timeout_seconds=timeout_seconds, keep_open=keep_open)
    except CommandNotSentError as error:
        return FreezeReply(FreezeOutcome.REFUSED, detail=str(error))
    except AgentRefusedError as error:
        return FreezeReply(
            FreezeOutcome.REFUSED if _is_clean_refusal(error) else FreezeOutcome.FAILED, detail=str(error)
        )
    except AgentReplyLostError as error:
        return FreezeReply(FreezeOutcome.UNKNOWN, detail=str(error))
    filesystems = count_of(count)
    if filesystems is None:
        return FreezeReply(FreezeOutcome.UNKNOWN, detail=f"the agent's answer is not a count: {clean(repr(count), 60)}")
    if filesystems == 0:
        return FreezeReply(FreezeOutcome.NOTHING_FROZEN, detail="the agent froze no filesystem at all")
    return FreezeReply(FreezeOutcome.ACKNOWLEDGED, filesystems=filesystems)


def count_of(answer: object) -> int | None:
    """The number of filesystems in the answer to a freeze or thaw; None for anything that cannot be one.

    The guest is not trusted: a number that fits no database column is no count either.
    """
    if isinstance(answer, bool) or not isinstance(answer, int) or not 0 <= answer <= MOST_FILESYSTEMS:
        return None
    return answer


def hook_has_failed(text: str) -> bool:
    """Whether the guest's own freeze hook has failed, or was killed: nothing is frozen then, or after a thaw all *is*
    thawed. In the words of agents before QEMU 9.1, and since (execute_fsfreeze_hook, ga_run_command).
    """
    return _HOOK_FAILED.search(text) is not None


def _is_clean_refusal(error: AgentRefusedError) -> bool:
    return error.is_forbidden or hook_has_failed(error.description)


def status(channel: AgentChannel, timeout_seconds: float = STATUS_SECONDS, *, keep_open: bool = False) -> FreezeState:
    """What the agent remembers. Raises AgentRefusedError, CommandNotSentError, AgentReplyLostError."""
    answer = channel.call("fsfreeze-status", timeout_seconds=timeout_seconds, keep_open=keep_open)
    try:
        return FreezeState(answer)
    except ValueError:
        raise AgentReplyLostError(f"fsfreeze-status is neither frozen nor thawed: {clean(repr(answer), 60)}") from None
