"""Virtual time: processes as threads of which exactly one runs at a time, and callbacks in between.

A thread hands the baton on only when it waits, so a run depends on its seed alone. A process that is killed sees
``Killed`` at its next step, whatever it is doing; from then on none of its steps has an effect. Times are seconds.
"""

from __future__ import annotations

import heapq
import itertools
import random
import threading
from collections.abc import Callable
from typing import Any

Callback = Callable[[], None]
_STACK_BYTES = 512 * 1024


class Killed(BaseException):
    """SIGKILL, as the code of a simulated process meets it: no handler of ours catches BaseException."""


class LivelockError(AssertionError):
    """A run that goes on and on."""


class Timer:
    """Something that will happen; ``cancel`` makes it not happen."""

    __slots__ = ("action",)

    def __init__(self, action: Callback | Process) -> None:
        self.action: Callback | Process | None = action

    def cancel(self) -> None:
        self.action = None


class Process:
    """A simulated process. Its code calls ``Scheduler.step`` and ``Scheduler.wait`` and nothing else that blocks."""

    def __init__(self, scheduler: Scheduler, role: str, pid: int, body: Callable[[], Any]) -> None:
        self.role = role
        self.pid = pid
        self.started_at = scheduler.now
        self.ended_at: float | None = None
        self.dead = False
        """Killed. Its code may still be unwinding, without any effect."""
        self.done = False
        """Its thread has nothing more to do."""
        self.steps = 0
        self.stopped_until = 0.0
        self.stops: list[tuple[float, float]] = []
        self.gate_open = False
        self.signal: int | None = None
        self.result: Any = None
        self.error: BaseException | None = None
        self.view: Scheduler = scheduler
        """In whose world it lives, where several share one time."""
        self.at_death: list[Callback] = []
        """What the kernel does when the process ends: its connections are closed."""
        self.baton = threading.Lock()
        self.baton.acquire()
        self.timer: Timer | None = None
        self._body = body
        self._scheduler = scheduler
        self.thread = threading.Thread(target=self._run, name=f"{role}-{pid}", daemon=True)

    @property
    def alive(self) -> bool:
        return not self.dead and self.ended_at is None

    def _run(self) -> None:
        self.baton.acquire()
        try:
            if not self.dead:
                self.result = self._body()
        except Killed:
            pass
        except BaseException as error:  # noqa: BLE001 - a bug of whatever kind, reported by the invariants
            self.error = error
        if not self.dead:
            self._scheduler.end(self)
        self.done = True
        self._scheduler.leave()

    def __repr__(self) -> str:
        return f"{self.role}({self.pid})"


class Scheduler:
    """The heap of what happens next, and whose turn it is."""

    def __init__(self, seed: object, *, most_events: int = 200_000) -> None:
        self.now = 0.0
        self.rng = random.Random(f"{seed}/schedule")
        self.current: Process | None = None
        self.processes: list[Process] = []
        self.on_step: Callable[[Process], None] = lambda process: None
        self._heap: list[tuple[float, float, int, Timer]] = []
        self._numbers = itertools.count()
        self._pids = itertools.count(1000)
        self._horizon = 0.0
        self._driver = threading.Lock()
        self._driver.acquire()
        self._crash: BaseException | None = None
        self._events_left = most_events

    # -- for whoever holds the baton

    def at(self, when: float, action: Callback | Process) -> Timer:
        """Let ``action`` happen at ``when``; things of the same instant come in an order of the seed's choice."""
        timer = Timer(action)
        entry = (max(when, self.now), self.rng.random(), next(self._numbers), timer)
        heapq.heappush(self._heap, entry)
        return timer

    def after(self, seconds: float, action: Callback) -> Timer:
        return self.at(self.now + seconds, action)

    def spawn(self, role: str, body: Callable[[], Any], *, after: float = 0.0, pid: int = 0) -> Process:
        """A new process; it begins by itself. With ``pid`` it is one more thread of that process."""
        process = Process(self, role, pid or next(self._pids), body)
        self.processes.append(process)
        threading.stack_size(_STACK_BYTES)
        process.thread.start()
        process.timer = self.at(self.now + after, process)
        return process

    def process_of(self, pid: int | None) -> Process | None:
        """The process with ``pid``; its first thread speaks for it."""
        return next((p for p in self.processes if p.pid == pid), None)

    def wake(self, process: Process) -> None:
        """Let a waiting process look again."""
        if process is not self.current and process.ended_at is None:
            if process.timer is not None:
                process.timer.cancel()
            process.timer = self.at(self.now, process)

    def kill(self, process: Process) -> None:
        """SIGKILL. In the process itself this raises Killed."""
        if not process.alive:
            return
        process.dead = True
        self.end(process)
        if process is self.current:
            raise Killed
        if process.timer is not None:
            process.timer.cancel()
        process.timer = self.at(self.now, process)  # to unwind

    def stop(self, process: Process, seconds: float) -> None:
        """SIGSTOP, and SIGCONT after ``seconds``: all threads of the process."""
        until = max(process.stopped_until, self.now + seconds)
        for thread in self.processes:
            if thread.pid == process.pid and thread.alive:
                thread.stopped_until = until
                thread.stops.append((self.now, until))

    def end(self, process: Process) -> None:
        process.ended_at = self.now
        for action in process.at_death:
            action()
        process.at_death.clear()

    # -- for the code of processes

    def me(self) -> Process:
        if self.current is None:
            raise RuntimeError("not in a simulated process")
        return self.current

    def step(self) -> Process:
        """One step of the running process: here it may be killed or stopped. Every seam calls this first."""
        process = self.me()
        if process.dead:
            raise Killed
        process.steps += 1
        self.on_step(process)
        while process.stopped_until > self.now:
            self.wait(process.stopped_until)
        return process

    def wait(self, until: float | None) -> None:
        """Let others run until ``until`` or until somebody wakes this process."""
        process = self.me()
        if process.dead:
            raise Killed
        if process.timer is not None:
            process.timer.cancel()
        process.timer = None if until is None else self.at(until, process)
        self._dispatch(process.baton, process)
        while process.stopped_until > self.now and not process.dead:
            process.timer = self.at(process.stopped_until, process)
            self._dispatch(process.baton, process)
        if process.dead:
            raise Killed

    def sleep(self, seconds: float) -> None:
        """Wait for all of ``seconds``, woken or not."""
        until = self.now + seconds
        while self.now < until:
            self.wait(until)

    # -- for the driver

    def run(self, until: float) -> None:
        """Let everything happen up to ``until``. Raises what a callback raised."""
        self._horizon = until
        self._dispatch(self._driver, None)
        if self._crash is not None:
            raise self._crash
        self.now = max(self.now, until)

    def next_at(self) -> float | None:
        """The instant of what happens next, or None."""
        while self._heap and self._heap[0][3].action is None:
            heapq.heappop(self._heap)
        return self._heap[0][0] if self._heap else None

    def close(self) -> None:
        """Kill what is left, so that no thread outlives its world."""
        self._crash = None
        for process in self.processes:
            if not process.done:
                process.dead = True
                process.ended_at = self.now if process.ended_at is None else process.ended_at
                self._heap.clear()
                self._horizon = self.now
                self.current = process
                process.baton.release()
                self._driver.acquire()
                process.thread.join()

    # -- the baton

    def leave(self) -> None:
        """The running thread ends: hand the baton on."""
        self.current = None
        self._dispatch(None, None)

    def _dispatch(self, mine: threading.Lock | None, me: Process | None) -> None:
        """Let others go on until it is the turn of ``mine``; for None, hand the baton on and return."""
        self.current = None
        while True:
            process = self._next()
            if process is not None and process is me:
                self.current = me
                return
            self.current = process
            target = self._driver if process is None else process.baton
            if target is mine:
                return
            target.release()
            if mine is not None:
                mine.acquire()
            return

    def _next(self) -> Process | None:
        """Run callbacks until a process is to go on (that one), or the driver (None)."""
        while self._heap and self._crash is None:
            when, _, _, timer = self._heap[0]
            if timer.action is not None and when > self._horizon:
                return None
            heapq.heappop(self._heap)
            action = timer.action
            if action is None:
                continue
            self.now = max(self.now, when)
            self._events_left -= 1
            if self._events_left < 0:
                self._crash = LivelockError("too many events in one run: something goes round in circles")
                return None
            if isinstance(action, Process):
                action.timer = None
                if not action.done:
                    return action
                continue
            try:
                action()
            except BaseException as error:  # noqa: BLE001 - raised again in the driver's thread
                self._crash = error
        return None


class View(Scheduler):
    """One world's part of a time that several share: its own processes, everything else is the core's."""

    def __init__(self, core: Scheduler) -> None:
        self.core = core
        self.processes = []
        self.on_step = lambda process: None

    @property
    def now(self) -> float:  # type: ignore[override]
        return self.core.now

    @property
    def rng(self) -> random.Random:  # type: ignore[override]
        return self.core.rng

    @property
    def current(self) -> Process | None:  # type: ignore[override]
        return self.core.current

    def at(self, when: float, action: Callback | Process) -> Timer:
        return self.core.at(when, action)

    def spawn(self, role: str, body: Callable[[], Any], *, after: float = 0.0, pid: int = 0) -> Process:
        process = self.core.spawn(role, body, after=after, pid=pid)
        process.view = self
        self.processes.append(process)
        return process

    def wake(self, process: Process) -> None:
        self.core.wake(process)

    def kill(self, process: Process) -> None:
        self.core.kill(process)

    def stop(self, process: Process, seconds: float) -> None:
        self.core.stop(process, seconds)

    def end(self, process: Process) -> None:
        self.core.end(process)

    def me(self) -> Process:
        return self.core.me()

    def step(self) -> Process:
        return self.core.step()

    def wait(self, until: float | None) -> None:
        self.core.wait(until)

    def run(self, until: float) -> None:
        self.core.run(until)

    def next_at(self) -> float | None:
        return self.core.next_at()

    def close(self) -> None:
        """The core closes them all."""
