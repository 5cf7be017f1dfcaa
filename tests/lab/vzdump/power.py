"""Switching a guest off and on for a backup in ``stop`` mode.

The driver runs in a process of its own and cannot start a guest that a test owns. The test serves its callbacks on a
socket; the driver asks for ``shutdown`` or ``start`` and waits. Without a socket the driver pauses the guest's
processors instead, which is all that a hook can tell apart by asking the agent.
"""

from __future__ import annotations

import contextlib
import json
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Literal

from tests.lab.vzdump.errors import Die

Verb = Literal["shutdown", "start"]
Power = Callable[[Verb, int], None]  # what to do, vmid; an exception's text becomes the driver's error


@contextlib.contextmanager
def power_server(path: Path, power: Power) -> Iterator[Path]:
    """Serve ``power`` on the unix socket ``path`` for the length of a block."""
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()
        listener.settimeout(0.1)
        done = threading.Event()
        thread = threading.Thread(target=_serve, args=(listener, power, done), daemon=True)
        thread.start()
        try:
            yield path
        finally:
            done.set()
            thread.join()
            path.unlink(missing_ok=True)


def ask_power(path: Path, verb: Verb, vmid: int) -> None:
    """The driver's side. Raises Die with the callback's error."""
    with socket.socket(socket.AF_UNIX) as channel:
        channel.connect(str(path))
        channel.sendall(json.dumps([verb, vmid]).encode() + b"\n")
        with channel.makefile("rb") as answers:
            error = json.loads(answers.readline() or b'"nobody answered"')
    if error is not None:
        raise Die(error)


def _serve(listener: socket.socket, power: Power, done: threading.Event) -> None:
    while not done.is_set():
        try:
            channel, _ = listener.accept()
        except TimeoutError:
            continue
        with channel, channel.makefile("rwb") as stream:
            channel.settimeout(None)
            verb, vmid = json.loads(stream.readline())
            try:
                power(verb, vmid)
                answer = None
            except Exception as error:  # noqa: BLE001 - whatever the test's callback raises is the guest's failure
                answer = f"command 'qm {verb} {vmid}' failed: {error}"
            stream.write(json.dumps(answer).encode() + b"\n")
