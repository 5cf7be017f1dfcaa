"""Runs the administrator's own commands for one phase, one after the other: bounded in time, memory and log.

    run_commands(folder, phase, arguments, environment, document, say=..., timeout_seconds=...) -> list[Outcome]

A command is called as ``<path> <phase> [<arguments>...]``, in a session of its own. Nothing of its caller's is handed
down but the environment given: standard output and error are one pipe of ours, standard input is /dev/null, or a file
in memory with the document as one JSON object. Whatever it leaves behind holds nobody up: the pipe is read until the
command itself has ended, not until its end of file. And whoever kills us ends it: keeper.py.

It must never be called while a guest is frozen by us.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import select
import signal
import subprocess
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from snapshot.base import interruption
from snapshot.base.aside import reap
from snapshot.base.clock import Clock, SystemClock
from snapshot.base.signals import whole
from snapshot.commands.document import OURS_UNKNOWN
from snapshot.commands.folder import Command, find
from snapshot.commands.keeper import Keeper
from snapshot.commands.output import Output

VERSION = 1
"""Of the JSON object; it rises when a key changes its meaning or goes, not when one is added."""

PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
"""Where the environment has none: vzdump's has not."""

GRACE_SECONDS = 2.0
"""From TERM to KILL. vzdump gives its own worker 5 s, and us with it."""

_GONE = ": it was taken away a moment ago, perhaps by another own command"

DRAINED_BYTES = 1 << 20
"""How much of the output is read once the command has ended: a pipe holds less, and who goes on writing is not it."""


class Outcome(NamedTuple):
    """What became of one command. ``problem``: "" when it ended with 0, else what happened and what to do."""

    name: str
    problem: str = ""
    is_refused: bool = False
    """It was not run at all: it is not root's alone, say. The problem says which, and the mend."""

    def __str__(self) -> str:
        return f"{self.name}: {self.problem or 'done'}"

    def line(self, phase: str) -> str:
        """What became of it in a phase of ours, for a person; one that is refused was so before any phase."""
        return f"own command {self}" + ("" if self.is_refused else f" in {phase} ({OURS_UNKNOWN})")


def run_commands(
    folder: Path,
    phase: str,
    arguments: Sequence[str] = (),
    environment: Mapping[str, str] | None = None,
    document: Mapping[str, object] | None = None,
    *,
    say: Callable[[str], None],
    timeout_seconds: float,
    until_failure: bool = False,
    clock: Clock | None = None,
) -> list[Outcome]:
    """Call each command of ``folder`` for ``phase`` in the order of their names, and return what became of each.

    Refused ones are outcomes too; a missing or an empty folder has none. ``environment``: all that they get, and a PATH
    where it has none. ``document``: what they read on standard input, with ``version`` and ``phase`` put in front;
    without one it is at its end. ``say`` gets their output, line by line, and nothing else: who calls this tells the
    outcomes, and knows what they mean. ``timeout_seconds`` is for each command. ``until_failure``: the first that fails
    is the last one called.

    Raises nothing of its own. What a signal raises in an open SignalGate passes through, with the command ended.
    """
    clock = clock or SystemClock()
    data = b"" if document is None else _json(phase, document)
    call = _Call((phase, *arguments), {"PATH": PATH, **(environment or {})}, data, say, timeout_seconds, clock)
    outcomes = []
    for command in find(folder, os.geteuid()):
        outcome = _refusal(command) if command.refused else _run(command, call)
        outcomes.append(outcome)
        if until_failure and outcome.problem and not outcome.is_refused:
            break
    return outcomes


class _Call(NamedTuple):
    """What is the same for all commands of a phase."""

    arguments: tuple[str, ...]
    environment: Mapping[str, str]
    data: bytes
    say: Callable[[str], None]
    timeout_seconds: float
    clock: Clock


def _json(phase: str, document: Mapping[str, object]) -> bytes:
    return json.dumps({"version": VERSION, "phase": phase, **document}).encode() + b"\n"


def _refusal(command: Command) -> Outcome:
    return Outcome(command.name, f"not run: {command.refused}", is_refused=True)


def _run(command: Command, call: _Call) -> Outcome:
    output = Output(command.name, call.say)
    process: subprocess.Popen[bytes] | None = None
    keeper: Keeper | None = None
    try:
        with whole():
            keeper = Keeper(GRACE_SECONDS)
            process = _start(command, call)
            keeper.keep(process.pid)
        if _follow(process, output, call.clock.monotonic() + call.timeout_seconds, call.clock):
            return Outcome(command.name, _problem(process.wait()))
        limit = f"it did not end within {call.timeout_seconds:g} s ([commands] timeout_seconds)"
        return Outcome(command.name, f"was ended by us: {limit}")
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or str(error)
        hint = ""
        if getattr(error, "errno", 0) in (errno.ENOENT, errno.ENOTDIR):
            is_there = os.path.lexists(command.path)
            hint = ": its first line has to name an interpreter that is there, as #!/bin/sh" if is_there else _GONE
        return Outcome(command.name, f"cannot be {'followed' if process else 'started'} ({why}){hint}")
    finally:
        with whole():
            if process is not None:
                _end(process, output, call.clock)
            if keeper is not None:
                keeper.end()
        output.end()


def _start(command: Command, call: _Call) -> subprocess.Popen[bytes]:
    with contextlib.ExitStack() as stack:
        stdin: int = subprocess.DEVNULL
        if call.data:
            # Not a pipe: nobody waits for one that does not read, and no signal comes when it has gone.
            stdin = os.memfd_create("document", os.MFD_CLOEXEC)
            stack.callback(os.close, stdin)
            os.write(stdin, call.data)
            os.lseek(stdin, 0, os.SEEK_SET)
        words = [command.path, *call.arguments]
        try:
            return _popen(words, stdin, call)
        except OSError as error:
            if error.errno != errno.ENOEXEC:
                raise
            return _popen(["/bin/sh", *words], stdin, call)  # without a first line: as vzdump's exec does


def _popen(words: list[str], stdin: int, call: _Call) -> subprocess.Popen[bytes]:
    return subprocess.Popen(  # noqa: S603 - the administrator's own program, without a shell
        words,
        stdin=stdin,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
        cwd="/",
        env=call.environment,
    )


def _follow(process: subprocess.Popen[bytes], output: Output, deadline: float, clock: Clock) -> bool:
    """Read what it prints until it has ended itself; False at the deadline."""
    assert process.stdout is not None
    pipe = process.stdout.fileno()
    ended = os.pidfd_open(process.pid)
    try:
        waiting = select.poll()
        waiting.register(ended, select.POLLIN)
        waiting.register(pipe, select.POLLIN)
        while (left := deadline - clock.monotonic()) > 0:
            ready = [descriptor for descriptor, _ in waiting.poll(interruption.patience(left) * 1000 + 1)]
            interruption.mind()
            if ended in ready:
                _drain(pipe, output)
                return True
            if pipe in ready:
                data = os.read(pipe, 65536)
                output.feed(data)
                if not data:
                    waiting.unregister(pipe)  # closed; it goes on all the same
        return False
    finally:
        os.close(ended)


def _drain(pipe: int, output: Output) -> None:
    """What it had written when it ended."""
    os.set_blocking(pipe, False)
    left = DRAINED_BYTES
    with contextlib.suppress(BlockingIOError):
        while left > 0 and (data := os.read(pipe, 65536)):
            output.feed(data)
            left -= len(data)


def _end(process: subprocess.Popen[bytes], output: Output, clock: Clock) -> None:
    """Let go of it. One that has not ended is ended, with all of its process group: TERM, then KILL."""
    assert process.stdout is not None
    with process.stdout:
        if process.returncode is not None:
            return
        # Its number stays its group's until it is reaped, so nobody else can be meant.
        _signal(process, signal.SIGTERM)
        with contextlib.suppress(OSError):
            _follow(process, output, clock.monotonic() + GRACE_SECONDS, clock)
        _signal(process, signal.SIGKILL)
        reap(process)


def _signal(process: subprocess.Popen[bytes], number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, number)


def _problem(status: int) -> str:
    if status == 0:
        return ""
    if status > 0:
        return f"ended with {status}"
    try:
        name = signal.Signals(-status).name
    except ValueError:
        name = "no name"
    return f"was ended by signal {-status} ({name})"
