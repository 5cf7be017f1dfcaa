"""PVE's side of QEMU's sockets: one connection a command, PVE's time limits and PVE's words for what goes wrong.

Modelled on the behaviour of PVE::QMPClient.  A guest agent command is written together with a
``guest-sync-delimited`` in one go, so a caller that gives up leaves both in the agent's channel; answers of earlier
callers are skipped by their number, and one with a higher number (it begins with the caller's pid) fails the call, as
in PVE: "not running" once, and well at the next attempt. Tests talk to guests through tests.lab.guest.qga instead.
"""

from __future__ import annotations

import contextlib
import errno
import itertools
import json
import os
import re
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.lab.node.errors import Die

_SYNCED_ANSWER = re.compile(rb"^.*\xff([^\n]+}\r?\n[^\n]+})\r?\n(.*)$", re.DOTALL)
_RETRY_SECONDS = 0.1
_sequence = itertools.count(1)


class PeerTimeout(Die):
    """The peer did not answer in time; the command may still be executed."""


def agent_command(
    vmid: int, path: Path, execute: str, arguments: dict[str, Any] | None = None, *, timeout: float
) -> Any:
    """A guest agent command: its ``return``, or ``{"error": {...}}`` when the agent refused. Raises Die."""
    number = int(f"{os.getpid()}0{next(_sequence)}")
    sync = {"execute": "guest-sync-delimited", "arguments": {"id": number}}
    request = json.dumps(sync) + "\n" + json.dumps({"execute": execute, "arguments": arguments or {}}) + "\n"
    deadline = time.monotonic() + timeout
    name = f"VM {vmid} qga command '{execute}' failed - "
    with _naming(name), _noted(path, execute), _connect(vmid, path, "qga", timeout) as peer:
        _send(peer, request.encode(), deadline)
        buffer = b""
        while True:
            buffer += _receive(peer, deadline)
            match = _SYNCED_ANSWER.match(buffer)
            if not match:
                continue
            buffer = match[2]
            sync_line, answer_line = match[1].split(b"\n", 1)
            echoed = int(json.loads(sync_line).get("return") or 0)
            if echoed < number:
                continue  # an earlier caller's answer, left over in the channel
            if echoed != number:
                raise Die(f"got wrong command id '{echoed}' (expected {number})")
            answer = json.loads(answer_line)
            return {"error": answer["error"]} if answer.get("error") else answer.get("return")


def qmp_command(vmid: int, path: Path, execute: str, arguments: dict[str, Any] | None = None, *, timeout: float) -> Any:
    """A QMP command over a connection of its own: its ``return``. Raises Die, also for QEMU's own errors."""
    deadline = time.monotonic() + timeout
    name = f"VM {vmid} qmp command '{execute}' failed - "
    with _naming(name), _noted(path, execute), _connect(vmid, path, "qmp", timeout) as peer:
        buffer = b""
        result: Any = None
        for number, (command, values) in enumerate((("qmp_capabilities", {}), (execute, arguments or {}))):
            request = {"execute": command, "arguments": values, "id": number}
            _send(peer, json.dumps(request).encode() + b"\n", deadline)
            while True:
                while b"\n" not in buffer:
                    buffer += _receive(peer, deadline)
                line, buffer = buffer.split(b"\n", 1)
                message = json.loads(line)
                if "error" in message:
                    raise Die(message["error"]["desc"].rstrip("\n"))
                if message.get("id") == number:
                    result = message.get("return")
                    break
        return result


@contextlib.contextmanager
def _noted(path: Path, execute: str) -> Iterator[None]:
    """Note the call in ``<vmid>.calls``, where somebody has put that file: ``called`` in front of its connect, ``left``
    behind its close (time.monotonic), and whose it is. Written when the connection is closed, so it keeps nobody.
    """
    called = time.monotonic()
    try:
        yield
    finally:
        note = {"execute": execute, "pid": os.getpid(), "called": called, "left": time.monotonic()}
        with contextlib.suppress(FileNotFoundError):
            output = os.open(path.with_suffix(".calls"), os.O_WRONLY | os.O_APPEND)
            os.write(output, json.dumps(note).encode() + b"\n")
            os.close(output)


@contextlib.contextmanager
def _naming(prefix: str) -> Any:
    """PVE names the command in front of whatever went wrong with it."""
    try:
        yield
    except Die as error:
        raise type(error)(prefix + str(error)) from None
    except (OSError, ValueError) as error:
        raise Die(f"{prefix}{error}") from None


def _connect(vmid: int, path: Path, kind: str, timeout: float) -> socket.socket:
    """Connect, trying again while the listener's queue is full (EAGAIN) and the time limit lasts."""
    deadline = time.monotonic() + timeout
    for attempt in itertools.count(1):
        peer = socket.socket(socket.AF_UNIX)
        peer.setblocking(False)
        try:
            peer.connect(str(path))
        except OSError as error:
            peer.close()
            if error.errno not in (errno.EAGAIN, errno.EINTR):
                raise Die(f"unable to connect to VM {vmid} {kind} socket - {error.strerror}") from None
            if time.monotonic() >= deadline:
                text = f"unable to connect to VM {vmid} {kind} socket - timeout after {attempt} retries"
                raise Die(text) from None
            time.sleep(min(_RETRY_SECONDS, timeout))
        else:
            return peer
    raise AssertionError("unreachable")


def _send(peer: socket.socket, data: bytes, deadline: float) -> None:
    peer.settimeout(_left(deadline))
    try:
        peer.sendall(data)
    except TimeoutError:
        raise PeerTimeout("got timeout") from None


def _receive(peer: socket.socket, deadline: float) -> bytes:
    peer.settimeout(_left(deadline))
    try:
        data = peer.recv(65536)
    except TimeoutError:
        raise PeerTimeout("got timeout") from None
    if not data:
        raise Die("client closed connection")
    return data


def _left(deadline: float) -> float:
    left = deadline - time.monotonic()
    if left <= 0:
        raise PeerTimeout("got timeout")
    return left
