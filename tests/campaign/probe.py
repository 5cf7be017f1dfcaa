"""A witness inside one of our processes: what happens between the decision to thaw and the first thaw request?

``python -m tests.campaign.probe OUT owner <arguments of safe-snapshot>`` or ``... OUT guard <arguments of the guard>``
runs the real command and writes to OUT, as JSON, what it did in between: system calls that write, files and databases
opened, programs started, modules imported, connections made, log records. Sockets are not files: a message to the guard
and the request itself do not count.
"""

from __future__ import annotations

import http.client
import json
import logging
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from snapshot.cli import main as cli
from snapshot.guard import __main__ as guard
from snapshot.guard.inbox import ProcessInbox
from snapshot.guard.seams import Happening, Message
from snapshot.pve import connection
from snapshot.window.window import Window

THAW = b"fsfreeze-thaw"
WRITES = "syscw"
"""Of /proc/self/io: write system calls of all threads, also those of SQLite and of C libraries (proc(5))."""
AUDITED = ("open", "import", "os.", "sqlite3.", "subprocess.", "shutil.", "tempfile.", "socket.connect", "socket.bind")


class Witness:
    """Between ``decided`` and the first ``requested`` everything is noted; what comes after does not matter."""

    def __init__(self, out: Path) -> None:
        self._out = out
        self._watching = False
        self._done = False
        self._writes = 0
        self._modules: set[str] = set()
        self._noted: list[str] = []
        # Opened ahead: opening it would be noted.
        self._io = Path("/proc/self/io").open(encoding="ascii")  # noqa: SIM115 - for the life of the process
        sys.addaudithook(self._on_event)
        factory = logging.getLogRecordFactory()

        def record(*args: Any, **values: Any) -> logging.LogRecord:
            self._note("log record")
            return factory(*args, **values)

        logging.setLogRecordFactory(record)

    def decided(self) -> None:
        """Somebody has decided to thaw; only the last decision before the request counts."""
        if not self._done:
            self._modules, self._noted, self._writes = set(sys.modules), [], self._write_calls()
            self._watching = True

    def requested(self) -> None:
        """The first bytes of a thaw request are about to leave."""
        if self._watching and not self._done:
            self._done, self._watching = True, False
            writes = self._write_calls() - self._writes
            imported = sorted(set(sys.modules) - self._modules)
            self._out.write_text(json.dumps({"writes": writes, "imported": imported, "noted": self._noted}))

    def _write_calls(self) -> int:
        self._io.seek(0)
        return int(next(line for line in self._io if line.startswith(WRITES)).split()[1])

    def _on_event(self, event: str, arguments: tuple[Any, ...]) -> None:
        if event.startswith(AUDITED):
            self._note(f"{event} {arguments!r:.120}")

    def _note(self, what: str) -> None:
        if self._watching:
            self._noted.append(what)


def before(owner: Any, name: str, action: Callable[..., None]) -> None:
    """Let ``action`` see the arguments of a method ahead of it."""
    real = getattr(owner, name)

    def wrapped(*args: Any, **values: Any) -> Any:
        action(*args, **values)
        return real(*args, **values)

    setattr(owner, name, wrapped)


def install(witness: Witness) -> None:
    """Put the witness where decisions are made and where requests leave: over HTTPS, and over the agent's socket."""

    def sent(_connection: object, data: Any) -> None:
        if isinstance(data, bytes) and THAW in data:
            witness.requested()

    before(http.client.HTTPConnection, "send", sent)

    class Socket(connection.socket.socket):
        def sendall(self, data: Any, flags: int = 0) -> None:
            sent(self, bytes(data))
            super().sendall(data, flags)

    class Module:
        socket = Socket

        def __getattr__(self, name: str) -> Any:
            return getattr(real_module, name)

    real_module = connection.socket
    connection.socket = Module()  # type: ignore[assignment]
    before(Window, "thaw", lambda window: witness.decided() if window.may_be_frozen else None)
    wait = ProcessInbox.wait

    def waited(inbox: ProcessInbox, seconds: float | None) -> Message | None:
        message = wait(inbox, seconds)
        if message is None or isinstance(message.what, Happening):
            witness.decided()
        return message

    ProcessInbox.wait = waited  # type: ignore[method-assign]


def main() -> int:
    """See the module's docstring."""
    out, role, *arguments = sys.argv[1:]
    install(Witness(Path(out)))
    if role == "guard":
        return guard.main(arguments)
    sys.argv = ["safe-snapshot", *arguments]
    cli.main()
    return 0


if __name__ == "__main__":
    sys.exit(main())
