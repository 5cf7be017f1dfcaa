"""Starting a process of ours that outlives its parent, and the socket it reports back on.

The child connects back to an abstract unix socket: nothing on disk, the same way for a detached process and for a
systemd unit, and no descriptor inherited. Only a process of our own uid is believed (SO_PEERCRED). Standard library
only, and little of it: the hook starts processes in a phase whose cost counts.
"""

from __future__ import annotations

import os
import shutil
import socket
import struct
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from snapshot.clock import Clock

SYSTEMD_RUNNING = Path("/run/systemd/system")
"""Exists exactly when systemd is running (sd_booted(3)); the systemctl binary alone proves nothing."""

ENVIRONMENT = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C.UTF-8"}


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
    """``python -I -m <arguments>`` in a session of its own, with nothing inherited. Raises OSError."""
    return subprocess.Popen(  # noqa: S603 - our own interpreter, arguments without a shell
        [interpreter(), "-I", "-m", *arguments],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
        close_fds=True,
        cwd="/",
        env=ENVIRONMENT,
    )


def start_unit(
    arguments: Sequence[str], *, unit: str, description: str, properties: Mapping[str, str], timeout_seconds: float
) -> None:
    """The same as a transient systemd unit, outside the caller's control group.

    Raises OSError or subprocess.SubprocessError.
    """
    command = [
        shutil.which("systemd-run", path=ENVIRONMENT["PATH"]) or "systemd-run",
        "--quiet",
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
    subprocess.run(  # noqa: S603 - a fixed program, arguments without a shell
        command, check=True, stdin=subprocess.DEVNULL, capture_output=True, timeout=timeout_seconds, env=ENVIRONMENT
    )


def new_address(window_id: str) -> str:
    """A name in the abstract socket namespace that nobody guesses."""
    return f"vzdump-hooks/{window_id}/{os.urandom(8).hex()}"  # as secrets does, without its imports


def listen(address: str) -> socket.socket:
    """A listening socket at ``address``."""
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    listener.bind("\0" + address)
    listener.listen(1)
    return listener


def connect(address: str) -> socket.socket | None:
    """The connection to whoever listens at ``address``; None when nobody of our uid does."""
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        connection.connect("\0" + address)
        if peer_uid(connection) == os.geteuid():
            return connection
    except OSError:
        pass  # nobody there: the same as somebody else there
    connection.close()
    return None


def accept(listener: socket.socket, timeout_seconds: float, clock: Clock) -> socket.socket:
    """The first connection from a process of our own uid. TimeoutError after ``timeout_seconds``."""
    deadline = clock.monotonic() + timeout_seconds
    while True:
        listener.settimeout(max(0.01, deadline - clock.monotonic()))
        connection, _ = listener.accept()
        if peer_uid(connection) == os.geteuid():
            return connection
        connection.close()


def peer_uid(connection: socket.socket) -> int:
    """The uid of the process at the other end (unix(7), SO_PEERCRED)."""
    raw = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
    return int(struct.unpack("3i", raw)[1])


def read_line(connection: socket.socket) -> bytes:
    """One line with its end. ConnectionResetError when the connection ends before it does."""
    line = b""
    while not line.endswith(b"\n"):
        data = connection.recv(65536)
        if not data:
            raise ConnectionResetError("it ended before it had said anything")
        line += data
    return line
