"""A lab node's server process as its LabNode sees it: forked from a zygote, steered over a control channel."""

from __future__ import annotations

import atexit
import contextlib
import json
import os
import select
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

START_SECONDS = 30.0


class _Zygote:
    """The process that servers are forked from: one a test process, started with the first node."""

    _instance: _Zygote | None = None

    def __init__(self) -> None:
        self._owner = os.getpid()
        self._lock = threading.Lock()
        self._orders, theirs = socket.socketpair()
        code = "from tests.lab.node.server import zygote; zygote()"
        root = Path(__file__).resolve().parents[3]
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-c", code],
                cwd=root,
                stdin=theirs.fileno(),
                start_new_session=True,
                stdout=subprocess.DEVNULL,
            )
        atexit.register(self._end)

    @classmethod
    def get(cls) -> _Zygote:
        if cls._instance is None or cls._instance._owner != os.getpid() or cls._instance._process.poll() is not None:
            cls._instance = cls()
        return cls._instance

    def fork(self, root: Path, channel: socket.socket) -> int:
        """Start a server for a lab root; returns its pid."""
        with self._lock:
            socket.send_fds(self._orders, [json.dumps({"root": str(root)}).encode()], [channel.fileno()])
            answer = self._orders.recv(4096)
        if not answer:
            raise RuntimeError("the lab node's zygote has died")
        return int(json.loads(answer)["pid"])

    def _end(self) -> None:
        if self._owner == os.getpid():
            self._orders.close()
            self._process.wait(10)


class ServerProcess:
    """One server process and the channel to it."""

    def __init__(self, root: Path, on_key: Callable[[int, str], None]) -> None:
        self._on_key = on_key
        self._channel, theirs = socket.socketpair()
        with theirs:
            self.pid = _Zygote.get().fork(root, theirs)
        self._pidfd = os.pidfd_open(self.pid)
        self._stream = self._channel.makefile("rb")
        self._answers: dict[int, dict[str, Any]] = {}
        self._arrived = threading.Condition()
        self._next = 0
        self._ended = False
        self._ready: dict[str, Any] | None = None
        self._reader = threading.Thread(target=self._read, name="lab-node-control", daemon=True)
        self._reader.start()

    def wait_ready(self) -> str | None:
        """None when the server listens, otherwise what went wrong."""
        with self._arrived:
            self._arrived.wait_for(lambda: self._ready or self._ended, START_SECONDS)
        if self._ready is None:
            return "it ended" if self._ended else f"nothing within {START_SECONDS} s"
        return None if self._ready["event"] == "ready" else str(self._ready["text"])

    def order(self, do: str, **fields: Any) -> Any:
        """Send an order and wait for the answer. Raises RuntimeError."""
        with self._arrived:
            self._next += 1
            number = self._next
        self._send({"id": number, "do": do, **fields})
        with self._arrived:
            self._arrived.wait_for(lambda: number in self._answers or self._ended, START_SECONDS)
            answer = self._answers.pop(number, {"error": "the lab node is gone"})
        if "error" in answer:
            raise RuntimeError(answer["error"])
        return answer["result"]

    def kill(self) -> None:
        """SIGKILL the server's process group and wait for its end."""
        if not self._has_ended(0):
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.pid, signal.SIGKILL)
            self._has_ended(START_SECONDS)
        self.close()

    def _has_ended(self, seconds: float) -> bool:
        end = select.poll()  # select() knows 1024 descriptors, and a test with many guests has more
        end.register(self._pidfd, select.POLLIN)
        return bool(end.poll(seconds * 1000))

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._channel.shutdown(socket.SHUT_RDWR)
        self._reader.join(START_SECONDS)
        self._stream.close()
        self._channel.close()
        if self._pidfd >= 0:
            os.close(self._pidfd)
            self._pidfd = -1

    def _send(self, message: dict[str, Any]) -> None:
        with contextlib.suppress(OSError):
            self._channel.sendall(json.dumps(message).encode() + b"\n")

    def _read(self) -> None:
        with contextlib.suppress(OSError, ValueError):
            for line in self._stream:
                message = json.loads(line)
                if message.get("event") == "key":
                    self._on_key(message["vmid"], message["name"])
                    self._send({"key": message["key"]})
                    continue
                with self._arrived:
                    if "event" in message:
                        self._ready = message
                    else:
                        self._answers[message["id"]] = message
                    self._arrived.notify_all()
        with self._arrived:
            self._ended = True
            self._arrived.notify_all()
