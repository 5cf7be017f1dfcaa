"""The guest agent and the kernel it speaks to, as a state machine without sockets, threads or a clock.

Bytes of a client in, bytes for a client out; time is an argument everywhere (seconds, any origin, never backwards).
What it answers, and when it does not, was taken from a real agent: see tests/contract, which asks both the same
questions. Where the agent's memory and the kernel's state part (see `status` below), the model keeps both:

    frozen   what the kernel holds: the truth, for oracles
    flag     what the agent believes and reports by guest-fsfreeze-status

Virtual time::

    model = AgentModel()
    answer = model.exchange("guest-fsfreeze-freeze", now=0.0, timeout=10.0)
    answer.value, answer.at      # 1, 0.0

or event by event: ``connect``, ``receive``, ``advance`` up to ``next_at``, ``disconnect``.
"""

from __future__ import annotations

import base64
import collections
import dataclasses
import itertools
import json
import math
from collections.abc import Iterable, Mapping
from typing import Any, Literal

from tests.lab.guest.agentfacts import (
    ARGUMENTS,
    COMMANDS,
    ENABLED_WHILE_FROZEN,
    FREEZE,
    FREEZE_LIST,
    JSON_TYPES,
    LINUX,
    STATUS,
    THAW,
    UNSUPPORTED,
    GuestFacts,
    interfaces,
)
from tests.lab.guest.qjson import JsonReader, ParseError, Value

Client = object
_DELIMITER = b"\xff"

VSS_TEXT = "couldn't hold writes: fsfreeze is limited up to 10 seconds: "


@dataclasses.dataclass(frozen=True)
class Refusal:
    """An error that the agent answers instead of doing the command; ``times`` counts down, None is for ever."""

    class_: str
    desc: str
    times: int | None = None


EVIDENCE = "/run/fsfreeze-hooks/evidence"
BOOT_ID = "01234567-89ab-cdef-0123-456789abcdef"


@dataclasses.dataclass
class Faults:
    """What goes wrong. All of it can be changed at any time; a command that has begun keeps what it began with.

    Times are seconds; ``math.inf`` is a command that never ends, until the agent is killed.
    """

    # Before the command does anything / after its effect, before its answer.
    delay: dict[str, float] = dataclasses.field(default_factory=dict)
    linger: dict[str, float] = dataclasses.field(default_factory=dict)
    refuse: dict[str, Refusal] = dataclasses.field(default_factory=dict)
    # command -> how many of its answers vanish although the command was done; None is all.
    lose_replies: dict[str, int | None] = dataclasses.field(default_factory=dict)
    # The freeze hook's knobs, as in the real guest.
    freeze_sleep: float = 0.0
    thaw_sleep: float = 0.0
    freeze_exit: int = 0
    thaw_exit: int = 0
    # Commands switched off with `qemu-ga -b`.
    blocked: frozenset[str] = frozenset()
    # A thaw that is acknowledged with a count and thaws nothing: a kernel that lies. How often; None is for ever.
    false_thaws: int | None = 0
    # Windows: VSS lets go by itself after so many seconds (10 there). The status stays `frozen`, the next thaw fails.
    self_thaw_after: float | None = None
    # A status that is always this, whatever the agent did.
    status: Literal["frozen", "thawed"] | None = None
    # What contrib/guest/hooks say of their last window, a line each (`app mariadb 1`); empty: they are not installed.
    hooks_say: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True)
class Answer:
    """What became of ``AgentModel.exchange``: ``reply`` is None when none came in time. ``at`` is when that was."""

    reply: Mapping[str, Any] | None
    at: float

    @property
    def value(self) -> Any:
        """The ``return`` value, or None."""
        return None if self.reply is None else self.reply.get("return")

    @property
    def error(self) -> Mapping[str, str] | None:
        """The error's ``class`` and ``desc``, or None."""
        return None if self.reply is None else self.reply.get("error")


@dataclasses.dataclass
class _Job:
    """The command in hand: steps with the instants at which they happen, then an answer."""

    command: str
    request_id: Any
    steps: collections.deque[tuple[float, str]]  # (seconds after the step before, what)
    due: float
    reply: dict[str, Any] = dataclasses.field(default_factory=dict)
    delimited: bool = False


class AgentModel:
    """One guest: its agent, its agent's channel, and as much of its kernel as a freeze touches.

    ``mounts`` is how many file systems a freeze freezes. ``hook=False`` is an agent without ``-F``. ``faults`` and
    ``facts`` may be changed while it runs.
    """

    def __init__(
        self,
        *,
        mounts: int = 1,
        facts: GuestFacts = LINUX,
        faults: Faults | None = None,
        hook: bool = True,
        writer_period: float = 0.02,
        epoch: float = 1_700_000_000.0,
        now: float = 0.0,
    ) -> None:
        self.mounts = mounts
        self.facts = facts
        self.faults = faults or Faults()
        self.hook = hook
        # What the guest's own hook has recorded: (instant, "freeze" or "thaw").
        self.hook_log: list[tuple[float, str]] = []
        # The truth over time: (instant, how many of the file systems the kernel holds from then on).
        self.transitions: list[tuple[float, int]] = []
        # Every command that was begun, with its instant: for assertions.
        self.executed: list[tuple[float, str]] = []
        self.flag = False
        self._frozen_mounts = 0
        self._saved_flag = False
        self._vss_expired = False
        self._self_thaw_at: float | None = None
        self._period = writer_period
        self._epoch = epoch
        self._now = now
        self._born = now
        self._alive = True
        self._stopped = False
        self._paused = False
        self._suspended = False
        self._reader = JsonReader()
        self._pending: collections.deque[Value | ParseError] = collections.deque()
        self._job: _Job | None = None
        self._unsent: collections.deque[bytes] = collections.deque()
        self._clients: collections.deque[Client] = collections.deque()
        # What clients sent that no agent has taken: bytes by client, lost when the client leaves.
        self._waiting: dict[Client, bytes] = {}
        # Clients that left while QEMU was stopped by a signal: it will read their last words all the same.
        self._left: list[Client] = []
        self._out: list[tuple[Client, bytes]] = []

    # -- the truth ----------------------------------------------------------------------------------------------------

    @property
    def frozen(self) -> bool:
        """Whether the kernel holds any writes, as of the last instant the model was told of."""
        return self._frozen_mounts > 0

    @property
    def all_frozen(self) -> bool:
        """Whether it holds all of them: only then is a snapshot of this instant consistent."""
        return 0 < self.mounts <= self._frozen_mounts

    @property
    def busy(self) -> bool:
        """Whether a command is in hand or waits: such a guest may still freeze by itself."""
        return self._job is not None or bool(self._pending) or bool(self._unsent)

    def all_frozen_at(self, instant: float) -> bool:
        """``all_frozen``, for an instant in the past."""
        held = 0
        for at, mounts in self.transitions:
            if at > instant:
                break
            held = mounts
        return 0 < self.mounts <= held

    def counter(self, now: float) -> int:
        """The last number the guest's writer has on disk: it stands still while the guest is frozen."""
        self.run_until(now)
        thawed_seconds, since, held = 0.0, self._born, 0
        for at, mounts in [*self.transitions, (now, 0)]:
            if not held:
                thawed_seconds += at - since
            since, held = at, mounts
        return math.floor(thawed_seconds / self._period)

    # -- the channel --------------------------------------------------------------------------------------------------

    def connect(self, client: Client, now: float) -> None:
        """A client connects. It is served when every client before it has left."""
        self.run_until(now)
        self._clients.append(client)
        self._waiting[client] = b""
        self._attend()

    def disconnect(self, client: Client, now: float) -> None:
        """A client leaves. What it sent and no agent took is lost; what was taken stays and will be executed."""
        self.run_until(now)
        if self._suspended:
            self._left.append(client)
        elif client in self._waiting:
            self._clients.remove(client)
            del self._waiting[client]
            self._attend()

    def receive(self, client: Client, data: bytes, now: float) -> None:
        """A client's bytes, in any portions."""
        self.run_until(now)
        self._waiting[client] += data
        self._attend()

    def advance(self, now: float) -> list[tuple[Client, bytes]]:
        """Let time pass up to ``now``; what is to be sent to clients, oldest first."""
        self.run_until(now)
        out, self._out = self._out, []
        return out

    def next_at(self) -> float | None:
        """The next instant at which something happens by itself, or None."""
        instants = [] if self._self_thaw_at is None else [self._self_thaw_at]
        if self._job is not None and self._runs():
            instants.append(self._job.due)
        finite = [instant for instant in instants if instant != math.inf]
        return min(finite) if finite else None

    def exchange(
        self, command: str, arguments: Mapping[str, Any] | None = None, *, now: float, timeout: float
    ) -> Answer:
        """One client's whole visit in virtual time: connect, sync and command in one write, as PVE does, then leave.

        Answers of earlier visits are skipped by the sync. Returns at the reply, or at ``now + timeout`` without one.
        """
        client = object()
        token = next(_tokens)
        request = {"execute": command} if arguments is None else {"execute": command, "arguments": dict(arguments)}
        sync = {"execute": "guest-sync-delimited", "arguments": {"id": token}}
        self.connect(client, now)
        self.receive(client, _DELIMITER + b"\n".join(json.dumps(part).encode() for part in (sync, request)), now)
        deadline = now + timeout
        received = b""
        synced = False
        at = now
        while True:
            received += b"".join(data for to, data in self.advance(at) if to is client)
            *lines, received = received.split(b"\n")
            for line in lines:
                reply = json.loads(line.rpartition(_DELIMITER)[2])
                if synced:
                    self.disconnect(client, at)
                    return Answer(reply, at)
                synced = _DELIMITER in line and reply.get("return") == token
            following = self.next_at()
            if following is None or following > deadline:
                self.disconnect(client, deadline)
                return Answer(None, deadline)
            at = max(at, following)

    # -- what else happens to a guest ---------------------------------------------------------------------------------

    def stop_agent(self, now: float) -> None:
        """SIGSTOP the agent: requests are taken into the guest, and wait there."""
        self.run_until(now)
        self._stopped = True

    def continue_agent(self, now: float) -> None:
        """SIGCONT the agent: it goes on with what waits."""
        self.run_until(now)
        self._stopped = False
        self._wake()

    def pause(self, now: float) -> None:
        """The machine's processors stand still (QMP stop); what a client sends now stays outside."""
        self.run_until(now)
        self._paused = True

    def resume(self, now: float) -> None:
        """QMP cont."""
        self.run_until(now)
        self._paused = False
        self._wake()

    def suspend_qemu(self, now: float) -> None:
        """SIGSTOP QEMU. Unlike with ``pause``, the request of a client that then leaves is carried out later."""
        self.run_until(now)
        self._suspended = True

    def continue_qemu(self, now: float) -> None:
        """SIGCONT QEMU."""
        self.run_until(now)
        self._suspended = False
        left, self._left = self._left, []
        for client in left:
            if self._clients and self._clients[0] is client and self._alive and not self._paused:
                self._pending.extend(self._reader.feed(self._waiting[client]))
                self._waiting[client] = b""
            self.disconnect(client, now)
        self._wake()

    def kill_agent(self, now: float) -> None:
        """SIGKILL the agent. What was frozen stays frozen; what waited in the guest is lost."""
        self.run_until(now)
        self._alive = False
        self._stopped = False
        self._saved_flag = self.flag
        self._job = None
        self._pending.clear()
        self._unsent.clear()
        self._reader = JsonReader()

    def start_agent(self, now: float, *, keep_state: bool = True) -> None:
        """Start a killed agent; ``keep_state=False`` loses the file in which it remembers that it is frozen."""
        self.run_until(now)
        self._alive = True
        self.flag = self._saved_flag and keep_state
        self._attend()

    def reset(self, now: float) -> None:
        """The machine is reset: nothing is frozen any more, and the agent starts anew."""
        self.kill_agent(now)
        self._set_frozen(0, now)
        self._self_thaw_at = None
        self._vss_expired = False
        self._paused = False
        self.hook_log.clear()
        self.start_agent(now, keep_state=False)

    def freeze_from_inside(self, now: float) -> None:
        """Somebody in the guest freezes behind the agent's back."""
        self.run_until(now)
        self._set_frozen(self.mounts, now)

    def thaw_from_inside(self, now: float, mounts: int | None = None) -> None:
        """Somebody in the guest (fsfreeze -u, SysRq j) thaws behind the agent's back: all, or so many mounts."""
        self.run_until(now)
        self._set_frozen(0 if mounts is None else max(0, self._frozen_mounts - mounts), now)

    # -- the agent's loop ---------------------------------------------------------------------------------------------

    def _runs(self) -> bool:
        return self._alive and not (self._stopped or self._paused or self._suspended)

    def _attend(self) -> None:
        """Hand the bytes of the client in turn to the guest; its driver takes them even for a stopped agent."""
        if self._clients and self._alive and not (self._paused or self._suspended):
            client = self._clients[0]
            data, self._waiting[client] = self._waiting[client], b""
            self._pending.extend(self._reader.feed(data))
        self._work()

    def _wake(self) -> None:
        if self._job is not None:
            self._job.due = max(self._job.due, self._now)
        self._attend()

    def run_until(self, now: float) -> None:
        """Let time pass up to ``now``; what is to be sent stays for ``advance``."""
        while (at := self.next_at()) is not None and at <= now:
            self._now = max(self._now, at)
            if self._self_thaw_at is not None and self._self_thaw_at <= at:
                self._self_thaw_at = None
                self._vss_expired = True
                self._set_frozen(0, at)
            else:
                self._step()
                self._work()
        self._now = max(self._now, now)
        self._work()

    def _work(self) -> None:
        """Go on as far as possible without time passing."""
        while self._runs():
            if self._unsent:
                # The agent waits in its write until somebody connects, and does nothing else meanwhile.
                if not self._clients:
                    return
                self._out.append((self._clients[0], self._unsent.popleft()))
            elif self._job is not None:
                if self._job.due > self._now:
                    return
                self._step()
            elif self._pending:
                self._begin(self._pending.popleft())
            else:
                return

    def _begin(self, message: Value | ParseError) -> None:
        if isinstance(message, ParseError):
            self._unsent.append(_line(_error("GenericError", message.desc)))
            return
        request = message.value
        problem = self._problem(request)
        identity = request.get("id") if isinstance(request, dict) else None
        if problem is not None:
            self._unsent.append(_line(_identified(problem, identity)))
            return
        command = request["execute"]
        self.executed.append((self._now, command))
        delay = self.faults.delay.get(command, 0.0)
        refusal = self._refusal(command)
        if refusal is not None:
            steps: list[tuple[float, str]] = [(delay, "refuse")]
            job_reply = _error(refusal.class_, refusal.desc)
        else:
            steps, job_reply = self._steps(command, request.get("arguments") or {}, delay)
        steps.append((self.faults.linger.get(command, 0.0), "answer"))
        first, _ = steps[0]
        self._job = _Job(command, identity, collections.deque(steps), self._now + first, job_reply)
        self._job.delimited = command == "guest-sync-delimited" and "return" in job_reply

    def _steps(
        self, command: str, arguments: Mapping[str, Any], delay: float
    ) -> tuple[list[tuple[float, str]], dict[str, Any]]:
        if command in (FREEZE, FREEZE_LIST):
            nothing = command == FREEZE_LIST and not self._known_mounts(arguments.get("mountpoints"))
            sleep = self.faults.freeze_sleep if self.hook else 0.0
            return [(delay, "freeze-hook"), (sleep, "freeze-none" if nothing else "freeze")], {}
        if command == THAW:
            sleep = self.faults.thaw_sleep if self.hook else 0.0
            return [(delay, "thaw"), (sleep, "thaw-hook")], {}
        return [(delay, "compute")], {"return": arguments.get("id")}

    def _known_mounts(self, wanted: Iterable[str] | None) -> bool:
        return wanted is None or bool({fs["mountpoint"] for fs in self.facts.fsinfo} & set(wanted))

    def _step(self) -> None:
        """Do the job's step that is due, and set the instant of the next."""
        job = self._job
        if job is None or not job.steps:
            return
        at = job.due
        _, what = job.steps.popleft()
        if what == "answer":
            self._job = None
            self._answer(job)
            return
        job.reply = self._do(what, job, at)
        if "error" in job.reply and what != "thaw-hook":
            job.steps = collections.deque(step for step in job.steps if step[1] == "answer")
        wait, _ = job.steps[0]
        job.due = at + wait

    def _do(self, what: str, job: _Job, at: float) -> dict[str, Any]:
        if what == "freeze-hook":
            if self.hook:
                self.hook_log.append((at, "freeze"))
            return {}
        if what in ("freeze", "freeze-none"):
            if self.hook and self.faults.freeze_exit:
                return _error("GenericError", f"fsfreeze hook has failed with status {self.faults.freeze_exit}")
            return {"return": self._freeze(at) if what == "freeze" else 0}
        if what == "thaw":
            return self._thaw(at)
        if what == "thaw-hook":
            if self.hook and self.faults.thaw_exit:
                return _error("GenericError", f"fsfreeze hook has failed with status {self.faults.thaw_exit}")
            return job.reply
        if what == "compute" and not job.delimited and job.command != "guest-sync":
            return {"return": self._compute(job.command, at)}
        return job.reply

    def _freeze(self, at: float) -> int:
        count = self.mounts - self._frozen_mounts
        self._set_frozen(self.mounts, at)
        self.flag = count > 0
        if count and self.faults.self_thaw_after is not None:
            self._vss_expired = False
            self._self_thaw_at = at + self.faults.self_thaw_after
        return count

    def _thaw(self, at: float) -> dict[str, Any]:
        count = self._frozen_mounts
        self.flag = False
        self._self_thaw_at = None
        if self.hook:
            self.hook_log.append((at, "thaw"))
        if self._vss_expired:
            self._vss_expired = False
            return _error("GenericError", VSS_TEXT)
        if not self._spend_false_thaw(count):
            self._set_frozen(0, at)
        return {"return": count}

    def _spend_false_thaw(self, count: int) -> bool:
        left = self.faults.false_thaws
        if count == 0 or left == 0:
            return False
        if left is not None:
            self.faults.false_thaws = left - 1
        return True

    def _set_frozen(self, mounts: int, at: float) -> None:
        if mounts != self._frozen_mounts:
            self.transitions.append((at, mounts))
        self._frozen_mounts = mounts

    def _refusal(self, command: str) -> Refusal | None:
        refusal = self.faults.refuse.get(command)
        if refusal is None or refusal.times == 0:
            return None
        if refusal.times is not None:
            self.faults.refuse[command] = dataclasses.replace(refusal, times=refusal.times - 1)
        return refusal

    def _answer(self, job: _Job) -> None:
        left = self.faults.lose_replies.get(job.command, 0)
        if left != 0:
            if left is not None:
                self.faults.lose_replies[job.command] = left - 1
            return
        if "return" in job.reply and not COMMANDS[job.command]:
            return
        line = _line(_identified(job.reply, job.request_id))
        self._unsent.append(_DELIMITER + line if job.delimited else line)

    # -- the commands -------------------------------------------------------------------------------------------------

    def _enabled(self, command: str) -> bool:
        if command in self.faults.blocked or command in UNSUPPORTED:
            return False
        return not self.flag or command in ENABLED_WHILE_FROZEN

    def _problem(self, request: Any) -> dict[str, Any] | None:
        """The agent's error for a request that is not carried out, or None."""
        if not isinstance(request, dict):
            return _error("GenericError", "QMP input must be a JSON object")
        for key, value in request.items():
            if key == "execute" and not isinstance(value, str):
                return _error("GenericError", "QMP input member 'execute' must be a string")
            if key == "arguments" and not isinstance(value, dict):
                return _error("GenericError", "QMP input member 'arguments' must be an object")
            if key not in ("execute", "arguments", "id"):
                return _error("GenericError", f"QMP input member '{key}' is unexpected")
        if "execute" not in request:
            return _error("GenericError", "QMP input lacks member 'execute'")
        command = request["execute"]
        if command not in COMMANDS:
            return _error("CommandNotFound", f"The command {command} has not been found")
        if not self._enabled(command):
            barred = command in self.faults.blocked or command in UNSUPPORTED
            why = "" if barred else ": the agent is in frozen state"
            return _error("CommandNotFound", f"Command {command} has been disabled{why}")
        if command in ("guest-file-read", "guest-file-close"):
            return None
        problem = _argument_problem(command, request.get("arguments", {}))
        path = request.get("arguments", {}).get("path")
        if problem is None and command == "guest-file-open" and (path != EVIDENCE or not self._evidence()):
            return _error("GenericError", f"failed to open file '{path}' (mode: 'r'): No such file or directory")
        return problem

    def _evidence(self) -> str:
        """The hooks' file in the guest's memory; "" where they are not installed, or before their first window."""
        number = [event for _, event in self.hook_log].count("freeze")
        if not self.faults.hooks_say or not number:
            return ""
        state = {"freeze": "frozen", "thaw": "thawed"}[self.hook_log[-1][1]]
        lines = ("fsfreeze-hooks 1", f"boot {BOOT_ID}", f"window {number}", f"state {state}", *self.faults.hooks_say)
        return "\n".join((*lines, "end", ""))

    def _compute(self, command: str, at: float) -> Any:
        if command == "guest-file-open":
            return 1000
        if command == "guest-file-read":
            return {"buf-b64": base64.b64encode(self._evidence().encode()).decode(), "count": 0, "eof": True}
        if command == STATUS:
            return self.faults.status or ("frozen" if self.flag else "thawed")
        simple: dict[str, Any] = {
            "guest-ping": {},
            "guest-get-osinfo": self.facts.osinfo,
            "guest-get-fsinfo": list(self.facts.fsinfo),
            "guest-get-host-name": {"host-name": self.facts.host_name},
            "guest-get-timezone": {"zone": "UTC", "offset": 0},
            "guest-get-users": [],
            "guest-get-vcpus": [{"online": True, "can-offline": False, "logical-id": 0}],
        }
        if command in simple:
            return simple[command]
        if command == "guest-info":
            listing = [
                {"enabled": self._enabled(name), "name": name, "success-response": answers}
                for name, answers in COMMANDS.items()
            ]
            return {"version": self.facts.version, "supported_commands": listing}
        if command == "guest-network-get-interfaces":
            return interfaces(self.facts.addresses)
        if command == "guest-get-time":
            return int((self._epoch + at) * 1e9)
        return {}


_tokens = itertools.count(1)


def _argument_problem(command: str, arguments: Mapping[str, Any]) -> dict[str, Any] | None:
    name, kind, required = ARGUMENTS.get(command, ("", None, False))
    if required and name not in arguments:
        return _error("GenericError", f"Parameter '{name}' is missing")
    for key, value in arguments.items():
        if key != name:
            return _error("GenericError", f"Parameter '{key}' is unexpected")
        if kind is not None and (not isinstance(value, kind) or isinstance(value, bool)):
            return _error("GenericError", f"Invalid parameter type for '{key}', expected: {JSON_TYPES[kind]}")
    return None


def _error(class_: str, desc: str) -> dict[str, Any]:
    return {"error": {"class": class_, "desc": desc}}


def _identified(reply: dict[str, Any], identity: Any) -> dict[str, Any]:
    """The reply with the request's ``id``, where the real agent puts it."""
    if identity is None:
        return reply
    return {"id": identity, **reply} if "error" in reply else {**reply, "id": identity}


def _line(reply: Mapping[str, Any]) -> bytes:
    return json.dumps(reply).encode() + b"\n"
