"""The agent's own unix socket on the guest's node: works with the whole PVE API down. Root only.

QEMU serves one client at a time (PVE's own calls included): a connect succeeds and nothing answers until the other one
has left, so every call here is bounded and holds the socket only for itself. A command is sent only once our own sync
was answered (connection.py), so a call that times out in its sync has certainly not left a command behind.

Every change of clients may cost 100 ms (seat.py). Hence ``keep_open``: the proof, the thaw and the status after it
share one connection; and ``sit``: it is the one that was there before the freeze.
"""

from __future__ import annotations

import base64
import contextlib
import json
from collections.abc import Sequence
from pathlib import Path

from snapshot.base.clock import Clock
from snapshot.base.text import clean
from snapshot.pve.agent import AgentRefusedError, AgentReplyLostError, CommandNotSentError, unwrap
from snapshot.pve.backlog import listener_at
from snapshot.pve.connection import SENTINEL, Connection, Heard
from snapshot.pve.seat import Seat

SOCKET_FOLDER = Path("/var/run/qemu-server")
"""Where PVE puts ``<vmid>.qga`` (PVE::QemuServer::Helpers::qga_socket)."""

_NO_SUCH_FILE = "No such file or directory"
"""The C library's words, behind the agent's own (qga/commands-posix.c, guest_file_handle_add's caller)."""

SYNC_SECONDS = 3.0
"""How long the agent may take to answer a sync before it counts as busy or gone: PVE's own limit for its ping."""

SIT_SECONDS = 1.0
"""How long the seat is waited for, before anything is at risk."""


class SocketChannel:
    """AgentChannel over ``path``."""

    is_silent = False
    """Nothing stands before the agent here."""

    def __init__(self, path: Path, clock: Clock, sync_seconds: float = SYNC_SECONDS) -> None:
        self.name = f"agent socket {path}"
        self._path = path
        self._clock = clock
        self._sync_seconds = sync_seconds
        self._connection: Connection | None = None
        """Open during a call, and after one that was to keep it open."""
        self._seat: Seat | None = None
        """While it is kept, the connection is its."""
        self._is_knocked = False
        """Somebody waits behind this connection for what we send: no other one will do."""

    def call(self, command: str, *, timeout_seconds: float, keep_open: bool = False) -> object:
        """See AgentChannel.call."""
        deadline = self._clock.monotonic() + timeout_seconds
        is_answered = False
        try:
            connection = self._synced(min(deadline, self._clock.monotonic() + self._sync_seconds))
            try:
                answer = connection.ask(command, deadline)
            except OSError as error:
                raise AgentReplyLostError(f"{self.name}: no answer to guest-{command}: {clean(str(error))}") from error
            is_answered = True
        finally:
            if not (is_answered and keep_open):
                self.release()
        return _result(answer, self.name)

    def read_file(self, path: str, most_bytes: int, *, timeout_seconds: float) -> bytes | None:
        """The beginning of a file in the guest, which may be anything; None where there is none. Raises as ``call``.

        Never while the guest is frozen, or on a seat that is kept: the agent would not open it, and others wait.
        """
        deadline = self._clock.monotonic() + timeout_seconds

        def ask(command: str, **arguments: object) -> object:
            try:
                return _result(connection.ask(command, deadline, arguments), self.name)
            except OSError as error:
                raise AgentReplyLostError(f"{self.name}: no answer to guest-{command}: {clean(str(error))}") from error

        try:
            connection = self._synced(min(deadline, self._clock.monotonic() + self._sync_seconds))
            try:
                handle = ask("file-open", path=path)
            except AgentRefusedError as error:
                if error.description.endswith(_NO_SUCH_FILE):
                    return None
                raise
            try:
                return _content(ask("file-read", handle=handle, count=most_bytes), self.name)[:most_bytes]
            finally:
                ask("file-close", handle=handle)
        finally:
            self.release()

    def sit(self, *, awaits_knock: bool = False) -> bool:
        """See AgentChannel.sit."""
        if self._seat is not None:
            return self._seat.wait_for_turn(0.0)
        listener = listener_at(self._path)
        if listener is None:
            return False
        try:
            self._seat = seat = Seat(self._path, listener, self._connection, self._clock, awaits_knock=awaits_knock)
        except RuntimeError:  # no thread can be started
            self.release()
            return False
        self._connection, self._is_knocked = None, False
        is_ours = seat.wait_for_turn(SIT_SECONDS)
        if awaits_knock and not is_ours:
            self.release()
        return is_ours

    def heard(self, ask_seconds: float | None = None) -> Sequence[Heard]:
        """See AgentChannel.heard."""
        return self._seat.heard(ask_seconds) if self._seat is not None else ()

    def knock(self, seconds: float) -> float | None:
        """See AgentChannel.knock."""
        at = self._seat.knock(seconds) if self._seat is not None else None
        self._is_knocked = at is not None
        return at

    def release(self) -> None:
        """See AgentChannel.release."""
        self._get_up()
        self._is_knocked = False
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _get_up(self) -> None:
        """The connection is ours again."""
        if self._seat is not None:
            self._connection, self._seat = self._seat.hold(), None

    def _synced(self, deadline: float) -> Connection:
        """The kept connection, else a new one, once the agent has answered our sync over it."""
        self._get_up()
        try:
            if self._connection is not None:
                # One that QEMU let go of meanwhile tells nothing about the agent.
                lost = () if self._is_knocked else (BrokenPipeError, ConnectionResetError)
                with contextlib.suppress(*lost):
                    self._connection.sync(deadline)
                    return self._connection
                self.release()
            self._connection = connection = Connection(self._clock)
            connection.open(self._path, deadline)
            connection.sync(deadline)
            return connection
        except OSError as error:
            busy = isinstance(error, TimeoutError | BlockingIOError | ConnectionResetError | BrokenPipeError)
            raise CommandNotSentError(
                f"{self.name}: {'busy or gone' if busy else clean(str(error))}", busy_or_gone=busy
            ) from error


def _content(answer: object, name: str) -> bytes:
    try:
        return base64.b64decode(answer["buf-b64"], validate=True)  # type: ignore[index]
    except (TypeError, LookupError, ValueError):
        raise AgentReplyLostError(f"{name}: no content in the answer to guest-file-read") from None


def _result(line: bytes, name: str) -> object:
    try:
        answer = json.loads(line.lstrip(SENTINEL))
    except (ValueError, RecursionError):
        raise AgentReplyLostError(f"{name}: an answer that is not JSON: {clean(repr(line[:80]))}") from None
    if not isinstance(answer, dict) or not ("return" in answer or "error" in answer):
        raise AgentReplyLostError(f"{name}: an answer that is not the agent's: {clean(repr(line[:80]))}")
    if "error" in answer:
        unwrap(answer)
    return answer["return"]


__all__ = ["SOCKET_FOLDER", "AgentRefusedError", "SocketChannel"]
