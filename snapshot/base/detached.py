"""Starting a process of ours that outlives its parent, and the socket it reports back on.

The child connects back to an abstract unix socket: nothing on disk, the same way for a detached process and for a
systemd unit, and no descriptor inherited. Only a process of our own uid is believed (SO_PEERCRED). Standard library
only, and little of it: the hook starts processes in a phase whose cost counts.
"""

from __future__ import annotations

import os
import select
import shutil
import socket
import struct
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from snapshot.base.aside import reap
from snapshot.base.clock import Clock, SystemClock
from snapshot.base.text import clean
from snapshot.base.unit import credentials_folder

SYSTEMD_RUNNING = Path("/run/systemd/system")
"""Exists exactly when systemd is running (sd_booted(3)); the systemctl binary alone proves nothing."""

QUEUE = 64
"""Of connections that wait to be accepted: other users' processes can knock at the address too."""

CONNECT_SECONDS = 3.0
"""How long a process that was started may wait for its turn at its starter's address."""

LINE_SECONDS = 60.0
LONGEST_LINE = 1 << 20

LONGEST_COMPLAINT = 4096
"""Bytes of what systemd-run says that are kept; the rest is read and thrown away."""

ENVIRONMENT = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C.UTF-8"}

ACCEPT_LOOK_SECONDS = 0.25
"""How often a process that does not report is looked at: one that ended at once is noticed at once."""


def interpreter() -> str:
    """Our Python. ``sys.executable`` can be empty under vzdump's emptied environment (no PATH to look it up in)."""
    if sys.executable:
        return sys.executable
    in_prefix = Path(sys.prefix) / "bin" / "python3"
    return str(in_prefix) if in_prefix.exists() else os.readlink("/proc/self/exe")


def systemd_is_running() -> bool:
    """Whether a transient unit can be started from here."""
    return (
        SYSTEMD_RUNNING.is_dir()
        and os.geteuid() == 0
        and shutil.which("systemd-run", path=ENVIRONMENT["PATH"]) is not None
    )


def start_process(arguments: Sequence[str]) -> subprocess.Popen[bytes]:
    """``python -I -m <arguments>`` in a session of its own, with nothing inherited but where our unit's credentials
    are. Raises OSError.
    """
    folder = credentials_folder()
    credentials = {"CREDENTIALS_DIRECTORY": folder} if folder else {}
    return subprocess.Popen(  # noqa: S603 - our own interpreter, arguments without a shell
        [interpreter(), "-I", "-m", *arguments],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
        close_fds=True,
        cwd="/",
        env=ENVIRONMENT | credentials,
    )


def start_unit(
    arguments: Sequence[str], *, unit: str, description: str, properties: Mapping[str, str], timeout_seconds: float
) -> None:
    """The same as a transient systemd unit, outside the caller's control group. OSError, with what systemd-run said.

    Its start is not waited for: whoever wants to know that it has started lets it report.
    """
    command = [
        shutil.which("systemd-run", path=ENVIRONMENT["PATH"]) or "systemd-run",
        "--quiet",
        "--no-block",
        "--collect",
        "--no-ask-password",
        f"--unit={unit}",
        f"--description={description}",
        *(f"--property={key}={value}" for key, value in properties.items()),
        "--",
        interpreter(),
        "-I",
        "-m",
        *arguments,
    ]
    status, said = run(command, timeout_seconds)
    if status != 0:
        raise ChildProcessError(f"systemd-run ended with {status}: {said or 'without a word'}")


def run(command: Sequence[str], timeout_seconds: float, stdin: int = subprocess.DEVNULL) -> tuple[int, str]:
    """Exit status and the beginning of standard error, fit for one line. Past the limit it is killed: TimeoutError.

    Whatever it prints: its pipe is emptied, so that it cannot stand still, and no more is kept than can be shown.
    """
    clock = SystemClock()
    deadline = clock.monotonic() + timeout_seconds
    process = subprocess.Popen(  # noqa: S603 - a fixed program, arguments without a shell
        command, stdin=stdin, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, env=ENVIRONMENT
    )
    assert process.stderr is not None
    with process.stderr:
        said = b""
        waiting = select.poll()
        waiting.register(process.stderr, select.POLLIN)
        while (left := deadline - clock.monotonic()) > 0:
            if not waiting.poll(left * 1000):
                continue
            data = os.read(process.stderr.fileno(), 65536)
            if not data:
                break
            said += data[: LONGEST_COMPLAINT - len(said)]
    try:
        status = process.wait(max(0.0, deadline - clock.monotonic()))
    except subprocess.TimeoutExpired:
        raise TimeoutError(f"{command[0]} did not end within {timeout_seconds:g} s") from None
    finally:
        if process.returncode is None:
            process.kill()
            reap(process)
    return status, clean(said.decode(errors="replace"))


def new_address(window_id: str) -> str:
    """A name in the abstract socket namespace that nobody guesses."""
    return f"vzdump-hooks/{window_id}/{os.urandom(8).hex()}"  # as secrets does, without its imports


def listen(address: str) -> socket.socket:
    """A listening socket at ``address``."""
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    listener.bind("\0" + address)
    listener.listen(QUEUE)
    return listener


def connect(address: str) -> socket.socket | None:
    """The connection to whoever listens at ``address``; None when nobody of our uid does, or has room for us in time.

    A queue that others keep full makes a connection wait for its turn.
    """
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        _limit_sending(connection, CONNECT_SECONDS)
        connection.connect("\0" + address)
        if peer_uid(connection) == os.geteuid():
            _limit_sending(connection, 0.0)
            return connection
    except OSError:
        pass  # nobody there: the same as somebody else there
    connection.close()
    return None


def _limit_sending(connection: socket.socket, seconds: float) -> None:
    """unix(7) waits for room in a listener's queue as long as for room in a buffer; a time limit of Python's does not
    wait at all. 0: for ever.
    """
    whole = int(seconds)
    limit = struct.pack("@ll", whole, int((seconds - whole) * 1e6))
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, limit)


def accept(listener: socket.socket, timeout_seconds: float, clock: Clock) -> socket.socket:
    """The first connection from a process of our own uid. TimeoutError after ``timeout_seconds``, whoever comes."""
    deadline = clock.monotonic() + timeout_seconds
    refused = 0
    while (left := deadline - clock.monotonic()) > 0:
        listener.settimeout(left)
        try:
            connection, _ = listener.accept()
        except TimeoutError:
            break
        if peer_uid(connection) == os.geteuid():
            return connection
        connection.close()
        refused += 1
    raise TimeoutError(f"timed out; {refused} connections of other users were refused" if refused else "timed out")


def accept_from(
    process: subprocess.Popen[bytes] | None, listener: socket.socket, timeout_seconds: float, clock: Clock
) -> socket.socket:
    """The connection of a process that was just started (None: by systemd). TimeoutError, or at once
    ChildProcessError when it has ended.
    """
    deadline = clock.monotonic() + timeout_seconds
    while True:
        try:
            return accept(listener, ACCEPT_LOOK_SECONDS, clock)
        except TimeoutError:
            if process is not None and process.poll() is not None:
                raise ChildProcessError(f"it ended with {process.returncode}") from None
            if clock.monotonic() >= deadline:
                raise TimeoutError(f"nothing within {timeout_seconds:g} s") from None


def peer_uid(connection: socket.socket) -> int:
    """The uid of the process at the other end (unix(7), SO_PEERCRED)."""
    raw = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
    return int(struct.unpack("3i", raw)[1])


def read_line(connection: socket.socket) -> bytes:
    """One line with its end; the connection's own time limit (LINE_SECONDS without one) holds for all of it.

    TimeoutError; ConnectionResetError when the connection ends before the line does, or the line has no end.
    """
    clock, usual = SystemClock(), connection.gettimeout()
    limit = usual or LINE_SECONDS
    deadline = clock.monotonic() + limit
    line = b""
    try:
        while not line.endswith(b"\n"):
            left = deadline - clock.monotonic()
            if left <= 0:
                raise TimeoutError(f"no whole line within {limit:g} s")
            connection.settimeout(left)
            data = connection.recv(65536)
            if not data:
                raise ConnectionResetError("it ended before it had said anything")
            line += data
            if len(line) > LONGEST_LINE:
                raise ConnectionResetError("an endless line")
    finally:
        connection.settimeout(usual)
    return line
