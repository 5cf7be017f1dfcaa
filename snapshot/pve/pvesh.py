"""``pvesh`` as a transport: works on the node with pveproxy down. Root only; about a second a call (a Perl start).

Its habits (PVE/CLI/pvesh.pm): agent errors exit 0 like the API; a text on stderr and exit 111 or 2
is what HTTP would call a 500; 255 with "400 ..." a bad parameter; tasks run in the foreground and the UPID is the last
line of stdout.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
from collections.abc import Mapping
from typing import Self
from urllib.parse import unquote

from snapshot.base import interruption
from snapshot.base.aside import Aside, reap
from snapshot.base.clock import Clock, SystemClock
from snapshot.base.signals import whole
from snapshot.base.text import clean
from snapshot.config.token import NO_NODE
from snapshot.errors import ApiUnreachableError, ReplyLostError
from snapshot.pve.transport import error_of_status, most_bytes

_VERBS = {"GET": "get", "POST": "create", "PUT": "set", "DELETE": "delete"}
_UPID = re.compile(r'"?(UPID:[^"\s]+:)"?\s*\Z')


START_SECONDS = 6.0
"""What pvesh needs for its own start on a busy node (about a second on an idle one), on top of the request's time."""

LOOK_SECONDS = 0.05
"""How often a pvesh that runs is looked at for what it has said so far."""

_hanging: dict[str, Aside[int]] = {}
"""The last run of each program that did not even end when it was killed: the next would hang on the same."""


def command(program: str, method: str, path: str, params: Mapping[str, object] | None = None) -> list[str]:
    """The argv of a request."""
    # Not a URL: what is quoted for one (a UPID) must be plain here (PVE/CLI/pvesh.pm takes the path as it is).
    argv = [program, _VERBS[method], f"/{unquote(path)}", "--output-format", "json"]
    for key, value in (params or {}).items():
        argv += [f"--{key}", str(value)]
    return argv


class PveshTransport:
    """Runs ``pvesh <verb> /<path>``. ``program`` may be a path, for nodes with an unusual PATH. What ``inherits`` names
    is open in pvesh too, for as long as it runs: a lock, say, which it holds beyond our own end.
    """

    def __init__(
        self, program: str = "/usr/bin/pvesh", clock: Clock | None = None, inherits: tuple[int, ...] = ()
    ) -> None:
        self.name = "pvesh"
        self._program = program
        self._clock = clock or SystemClock()
        self._inherits = inherits

    def request(
        self, method: str, path: str, params: Mapping[str, object] | None = None, *, timeout_seconds: float = 10.0
    ) -> object:
        """See Transport.request."""
        argv = command(self._program, method, path, params)
        hangs = _hanging.get(self._program)
        if hangs is not None and not hangs.is_over:
            raise ApiUnreachableError(
                f"{self._program} is not started again: an earlier one hangs, and cannot even be killed",
                remedy="a disk or /etc/pve that does not answer keeps it: `systemctl status pve-cluster`, `dmesg`",
            )
        ends_at = self._clock.monotonic() + timeout_seconds + START_SECONDS
        is_task = method != "GET" and "/agent/" not in path
        with contextlib.ExitStack() as left:
            try:
                with whole():
                    run = left.enter_context(_Run(argv, most_bytes(path), self._inherits, outlasts_us=is_task))
            except OSError as error:
                remedy = NO_NODE if isinstance(error, FileNotFoundError) else "it is for root alone: run it as root"
                text = f"{self._program} cannot be run ({error.strerror})"
                raise ApiUnreachableError(text, remedy=remedy) from error
            while not run.ends_within(LOOK_SECONDS):
                interruption.mind()
                run.check()
                if self._clock.monotonic() >= ends_at:
                    raise ReplyLostError("pvesh did not answer in time: the request may still be carried out")
            exit_code, out, err = run.end()
        if exit_code != 0:
            raise error_of_status(_status_of(exit_code, err), err, self.name)
        return _parse(out)

    def close(self) -> None:
        """Nothing stays open."""


class _Run:
    """One pvesh. Leaving the context ends it with its children, unless it outlasts us.

    A task runs in pvesh's foreground and dies with it, or when nobody reads what it prints (PVE::RESTEnvironment,
    fork_worker): a snapshot would be cut off in the middle. So pvesh writes into memory that needs no reader, and one
    that has started a task is left alone.
    """

    def __init__(self, argv: list[str], most_bytes: int, inherits: tuple[int, ...], *, outlasts_us: bool) -> None:
        self._most_bytes = most_bytes
        self._outlasts_us = outlasts_us
        self._is_over = False
        self._program = argv[0]
        with contextlib.ExitStack() as opened:
            self._out, self._err = (
                opened.enter_context(os.fdopen(os.memfd_create("pvesh"), "rb")) for _ in ("stdout", "stderr")
            )
            self._process = subprocess.Popen(  # noqa: S603 - a fixed program, arguments without a shell
                argv,
                stdin=subprocess.DEVNULL,
                stdout=self._out,
                stderr=self._err,
                start_new_session=True,
                pass_fds=inherits,
                env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C"},
            )
            self._opened = opened.pop_all()

    def __enter__(self) -> Self:
        return self

    def ends_within(self, seconds: float) -> bool:
        """Whether pvesh ends in that time."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(seconds)
            self._is_over = True
        return self._is_over

    def check(self) -> None:
        """ReplyLostError when pvesh has said too much."""
        if any(os.fstat(file.fileno()).st_size > self._most_bytes for file in (self._out, self._err)):
            self._outlasts_us = False
            raise ReplyLostError(f"pvesh said more than {self._most_bytes >> 20} MiB: that is no answer of PVE's")

    def end(self) -> tuple[int, str, str]:
        """Exit code, stdout and stderr."""
        self.check()
        out, err = (os.pread(file.fileno(), self._most_bytes, 0) for file in (self._out, self._err))
        return self._process.returncode, out.decode(errors="replace"), err.decode(errors="replace")

    def __exit__(self, *_: object) -> None:
        with self._opened, whole():
            if self._is_over:
                return
            if self._outlasts_us:
                Aside(self._process.wait, "pvesh")  # somebody has to notice its end
                return
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
            hangs = reap(self._process)
            if hangs is not None:
                _hanging[self._program] = hangs


def _status_of(exit_code: int, stderr: str) -> int:
    leading = re.match(r"\s*(\d{3})\b", stderr)
    if leading:
        return int(leading[1])
    if "ermission check failed" in stderr or "ermission denied" in stderr:
        return 403
    return 500 if exit_code > 0 else 599


def _parse(out: str) -> object:
    try:
        return json.loads(out) if out.strip() else None
    except (ValueError, RecursionError):
        pass
    upid = _UPID.search(out)
    if upid:
        return upid[1]
    raise ReplyLostError(f"pvesh gave an answer that is not JSON: {clean(out, 80)}")
