"""One window on one time axis: what the guest, the agent's socket, PVE and we did, in milliseconds from its freeze.

What was recorded comes in as arguments, see trace.py; nothing here looks at a clock or a file.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from snapshot.journal.record import WindowRecord
from tests.bench.seats import Connection
from tests.lab.node.node import Request

GUEST, OURS, API, WORKER = "guest", "we", "PVE's API", "PVE's worker"
SEAT, QUEUE = "the agent's seat", "waiting for it"
LANES = (GUEST, OURS, SEAT, QUEUE, API, WORKER)
BEFORE_MS, BEHIND_MS = 150.0, 60.0
"""How much is told of what was in front of the window and behind it."""

_SAME_SECONDS = 0.02
"""How far a connection's life may be from that of the call it belongs to, both ends together."""
_INSTANT_MS = 0.5
_WAITED_MS = 2.0
"""Less may be the time between two looks at the socket."""


@dataclass(frozen=True)
class Call:
    """A call of PVE's to an agent or to QEMU, over a connection of its own (tests/lab/node/qmp.py). Monotonic."""

    execute: str
    pid: int
    called: float
    left: float


@dataclass(frozen=True)
class Recorded:
    """All that was recorded of one window. Instants of time.monotonic(), but for ``record``, which has Unix times."""

    frozen: tuple[float, float]
    """The guest's freeze hook and its thaw hook."""
    stays: Sequence[Connection] = ()
    calls: Sequence[Call] = ()
    requests: Sequence[Request] = ()
    workers: Mapping[int, tuple[float, float]] = dataclasses.field(default_factory=dict)
    """PVE's tasks: the worker's pid -> when it began and ended."""
    record: WindowRecord | None = None
    """The journal's, of a window of ours."""
    unix_ahead: float = 0.0
    """time.time() - time.monotonic()."""


@dataclass(frozen=True)
class Step:
    """A line of the table, and its bars in the picture: (lane, from, to)."""

    whose: str
    begin: float
    end: float
    words: str
    bars: tuple[tuple[str, float, float], ...] = ()
    label: str = ""
    """For a bar that has room for it."""

    def moved(self, zero: float) -> Step:
        """In milliseconds from ``zero``."""
        bars = tuple((lane, 1000 * (begin - zero), 1000 * (end - zero)) for lane, begin, end in self.bars)
        return dataclasses.replace(self, begin=1000 * (self.begin - zero), end=1000 * (self.end - zero), bars=bars)

    @property
    def is_instant(self) -> bool:
        """Whether it took no time that could be seen; of a step in milliseconds."""
        return self.end - self.begin < _INSTANT_MS


@dataclass(frozen=True)
class Timeline:
    """One window in milliseconds from the guest's freeze hook, its steps in their order."""

    kind: str
    window: float
    steps: tuple[Step, ...]

    def as_json(self) -> dict[str, Any]:
        """For the JSON file."""
        rows = [{"whose": s.whose, "begin_ms": s.begin, "end_ms": s.end, "words": s.words} for s in self.steps]
        return {"kind": self.kind, "window_ms": self.window, "steps": rows}


def timeline(kind: str, found: Recorded) -> Timeline:
    """The steps that fall into the window, or close to it."""
    zero, end = found.frozen
    window = 1000 * (end - zero)
    steps = [
        Step(GUEST, zero, zero, "freeze hook: the window begins", ((GUEST, zero, end),), f"frozen {window:.0f} ms"),
        Step(GUEST, end, end, "thaw hook: the window ends"),
        *_ours(found),
        *_socket(found),
        *_qemu(found),
        *_requests(found),
        *_tasks(found),
    ]
    near = [step for step in (step.moved(zero) for step in steps) if _is_near(step, window)]
    return Timeline(kind, window, tuple(sorted(near, key=lambda step: (step.begin, step.end))))


def _is_near(step: Step, window: float) -> bool:
    return step.end >= -BEFORE_MS and step.begin <= window + BEHIND_MS


def _ours(found: Recorded) -> Iterator[Step]:
    """The window's parts as its owner measured them."""
    record = found.record
    if record is None or record.frozen_at is None or record.freezing_seconds is None:
        return
    answered = record.frozen_at - found.unix_ahead
    if record.thawed_at is not None:  # noted at once, while frozen_at comes behind a word to the guard
        parts = (record.held_seconds or 0.0) + (record.thawing_seconds or 0.0)
        answered = record.thawed_at - parts - found.unix_ahead
    sent = answered - record.freezing_seconds
    yield Step(OURS, sent, answered, "freeze sent, until it is acknowledged", ((OURS, sent, answered),), "freezing")
    if record.held_seconds is None:
        return
    decided = answered + record.held_seconds
    yield Step(
        OURS,
        answered,
        decided,
        "held: until the point in time is over and the guest is proven frozen",
        ((OURS, answered, decided),),
        "held",
    )
    if record.thawing_seconds is not None:
        confirmed = decided + record.thawing_seconds
        by = "the agent's socket" if (record.thaw_route or "").startswith("agent socket") else "the API"
        words = f"thaw decided, until it is confirmed over {by}"
        yield Step(OURS, decided, confirmed, words, ((OURS, decided, confirmed),), "thawing")


def _socket(found: Recorded) -> Iterator[Step]:
    """Who came to the agent's socket: PVE's calls by their own note, everybody else is one of us."""
    left_over = list(found.stays)
    for call in (call for call in found.calls if call.execute.startswith("guest-")):
        whose, name = _caller(found, call), call.execute.removeprefix("guest-").removeprefix("fsfreeze-")
        stay = min(left_over, key=lambda stay: _apart(stay, call), default=None)
        if stay is None or _apart(stay, call) > _SAME_SECONDS:
            yield Step(whose, call.called, call.left, f"agent: {name}", ((whose, call.called, call.left),), name)
            continue
        left_over.remove(stay)
        yield from _stay(stay, whose, f"agent: {name}", name, call.called, call.left)
    for stay in left_over:
        yield from _stay(stay, OURS, "our connection to the agent", "ours", stay.came, stay.left)


def _apart(stay: Connection, call: Call) -> float:
    return abs(stay.came - call.called) + (abs(stay.left - call.left) if stay.left is not None else _SAME_SECONDS)


def _stay(stay: Connection, whose: str, words: str, label: str, came: float, left: float | None) -> Iterator[Step]:
    if left is None:
        return  # it stayed beyond the recording, and so is none of the window
    seated = stay.seated if stay.seated is not None else left
    bars = [(SEAT, seated, left)] if stay.seated is not None else []
    waited = 1000 * (seated - came)
    if waited >= _WAITED_MS:
        bars.append((QUEUE, came, seated))
        words += f", waits {waited:.0f} ms for the seat"
    elif stay.was_empty:
        words += ", the seat had been empty"
    yield Step(whose, came, left, words, tuple(bars), label)


def _qemu(found: Recorded) -> Iterator[Step]:
    """The point in time: PVE's worker's own calls to QEMU."""
    for call in found.calls:
        if call.execute in ("blockdev-snapshot-internal-sync", "transaction"):
            words = f"QEMU: {call.execute}, the point in time"
            yield Step(_caller(found, call), call.called, call.left, words, ((WORKER, call.called, call.left),), "QEMU")


def _requests(found: Recorded) -> Iterator[Step]:
    """What the API was asked; a task that is polled is one step, up to its last answer."""
    polls: list[tuple[str, float, float]] = []
    for request in found.requests:
        if request.done is None:
            continue
        name = request.path.rpartition("/")[2]
        if "/tasks/" in request.path and name == "status":
            polls.append((API, request.at, request.done))
            continue
        path = request.path.removeprefix("/api2/json").lstrip("/").replace("nodes/pve1/qemu/100/", ".../")
        # A task's and a snapshot's own name say nothing, and the documents' tests would look for such a file.
        parts = [what for what in ("task", "snapshot") if f"/{what}s/" in path or f"/{what}/" in path]
        words = f"{request.method} " + (f"the {parts[0]}'s {name}" if parts else path)
        label = name.removeprefix("fsfreeze-")
        yield Step(API, request.at, request.done, words, ((API, request.at, request.done),), label)
    if polls:
        times = f", {len(polls)} times" if len(polls) > 1 else ""
        yield Step(API, polls[0][1], polls[-1][2], f"GET the task's status{times}", tuple(polls))


def _tasks(found: Recorded) -> Iterator[Step]:
    for begin, end in found.workers.values():
        yield Step(WORKER, begin, end, "the task, from its worker's start to its end", ((WORKER, begin, end),), "task")


def _caller(found: Recorded, call: Call) -> str:
    return WORKER if call.pid in found.workers else API
