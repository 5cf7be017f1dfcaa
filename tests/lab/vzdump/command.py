"""How vzdump runs a hook script: IPC::Open3 and the reading of both streams to their end.

Source: pve-manager ``PVE/VZDump.pm`` (run_hook_script), pve-common ``PVE/Cmd.pm`` (run). Both streams are read until
end of file, with no time limit: whoever holds one of them open holds the backup up. The child is not killed when the
worker is interrupted, and every descriptor without close-on-exec is handed down (tests.lab.vzdump.task tells which).
"""

from __future__ import annotations

import errno
import os
import re
import select
import shlex
import signal
from collections.abc import Callable, Sequence
from pathlib import Path

from tests.lab.vzdump.errors import DEATHS, Die

_READ_BYTES = 4096
_LINE = re.compile(rb"([^\x08\r\n]*)(?:\n|\x08+|\r\n?)")


def hook_environment(pairs: dict[str, str]) -> dict[bytes, bytes]:
    """The whole environment of a hook: what Perl calls true in ``pairs``, and two settings of run_command."""
    wanted = {name: value for name, value in pairs.items() if value not in ("", "0")}
    wanted |= {"LC_ALL": "C", "LVM_SUPPRESS_FD_WARNINGS": "1"}
    return {os.fsencode(name): os.fsencode(value) for name, value in wanted.items()}


def run_command(command: Sequence[str], environment: dict[bytes, bytes], log: Callable[[bytes], None]) -> None:
    """Run a command to its end; every line of both its streams goes to ``log``.

    Raises Die with PVE's words when it cannot be started, fails, or the worker is interrupted meanwhile.
    """
    shown = " ".join(shlex.quote(word) for word in command)
    try:
        _run(command, environment, log)
    except DEATHS as error:
        raise Die(f"command '{shown}' failed: {error}") from None


def _run(command: Sequence[str], environment: dict[bytes, bytes], log: Callable[[bytes], None]) -> None:
    ours: list[int] = []
    try:
        pid = _spawn(command, environment, ours)
        lines = {descriptor: _Lines(log) for descriptor in ours}
        while ours:
            for descriptor in select.select(ours, [], [], 1.0)[0]:
                data = os.read(descriptor, _READ_BYTES)
                if data:
                    lines[descriptor].feed(data)
                else:
                    ours.remove(descriptor)
                    os.close(descriptor)
        for rest in lines.values():
            rest.end()
        status = os.waitpid(pid, 0)[1]
    finally:
        for descriptor in ours:
            os.close(descriptor)
    if os.WIFSIGNALED(status):
        raise Die(f"got signal {os.WTERMSIG(status)}")
    if code := os.waitstatus_to_exitcode(status):
        raise Die(f"exit code {code}")


def _spawn(command: Sequence[str], environment: dict[bytes, bytes], ours: list[int]) -> int:
    """Start the command with its stdin at the end and a pipe for each of its streams; fills ``ours``."""
    stdin, never = os.pipe()
    os.close(never)
    theirs = [stdin]
    try:
        for _ in range(2):
            reader, writer = os.pipe()
            ours.append(reader)
            theirs.append(writer)
        actions = [(os.POSIX_SPAWN_DUP2, descriptor, target) for target, descriptor in enumerate(theirs)]
        defaults = [signal.SIGPIPE, signal.SIGXFSZ]  # Python ignores them; a child of Perl finds the defaults
        argv = list(command)
        try:
            try:
                return os.posix_spawn(argv[0], argv, environment, file_actions=actions, setsigdef=defaults)
            except OSError as error:
                if error.errno != errno.ENOEXEC:
                    raise
                # Perl's exec is execvp: a script without an interpreter line is the shell's.
                shell = ["/bin/sh", *argv]
                return os.posix_spawn(shell[0], shell, environment, file_actions=actions, setsigdef=defaults)
        except OSError as error:
            where = "/usr/share/perl5/PVE/Cmd.pm line 126."
            raise Die(f"open3: exec of {' '.join(argv)} failed: {error.strerror} at {where}") from error
    finally:
        for descriptor in theirs:
            os.close(descriptor)


class _Lines:
    """Cuts a stream at ``\\n``, ``\\r`` and runs of ``\\b``; reads of 4 KiB may cut a ``\\r\\n`` in two, as in Perl."""

    def __init__(self, log: Callable[[bytes], None]) -> None:
        self._log = log
        self._begun = b""

    def feed(self, data: bytes) -> None:
        at = 0
        while match := _LINE.match(data, at):
            self._log(self._begun + match[1])
            self._begun = b""
            at = match.end()
        self._begun += data[at:]

    def end(self) -> None:
        if self._begun not in (b"", b"0"):
            self._log(self._begun)


def check_script(script: str) -> None:
    """What run_hook_script looks at before every call. Raises Die."""
    if not Path(script).is_file():
        raise Die(f"Error: The hook script '{script}' does not exist.")
    if not os.access(script, os.X_OK):
        raise Die(f"Error: The hook script '{script}' is not executable.")
