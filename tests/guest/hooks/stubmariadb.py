"""A pretended MariaDB server and its client, for the scripts' tests. Run: stubmariadb.py SOCKET LOG, or as ``mariadb``.

The server keeps what the hook rests on: a lock belongs to a session, and the session ends with its connection, or when
it was idle for its own wait_timeout. ``LOG`` gets a line a change: the instant (monotonic), ``locked`` or ``released``.
"""

from __future__ import annotations

import contextlib
import os
import re
import select
import socket
import sys
import threading
import time
from pathlib import Path

VERSION = os.environ.get("STUB_VERSION", "10.11.6-MariaDB-1")


def serve(path: str, log: str) -> None:
    """Until killed."""
    Path("/proc/self/comm").write_text("mariadbd")
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(path)
    listener.listen()
    number = 0
    while True:
        connection, _ = listener.accept()
        number += 1
        threading.Thread(target=_session, args=(connection, number, log), daemon=True).start()


def _session(connection: socket.socket, number: int, log: str) -> None:
    timeout = 28800
    locked = False
    data = b""
    with contextlib.suppress(OSError), connection:
        while select.select([connection], [], [], timeout)[0] and (more := connection.recv(4096)):
            data += more
            while b";" in data:
                statement, _, data = data.partition(b";")
                text = " ".join(statement.decode().split())
                if found := re.fullmatch(r"SET SESSION wait_timeout=(\d+)", text):
                    timeout = int(found[1])
                elif text in ("BACKUP STAGE BLOCK_COMMIT", "FLUSH TABLES WITH READ LOCK"):
                    if os.environ.get("STUB_BUSY"):
                        connection.sendall(b"ERROR Lock wait timeout exceeded\n\0")
                        return
                    locked = True
                    _note(log, f"locked {text}")
                answer = _answer(text, number)
                connection.sendall((answer + "\n" if answer else "").encode() + b"\0")
    if locked:
        _note(log, "released")


def _answer(text: str, number: int) -> str:
    if text == "SELECT VERSION()":
        return VERSION
    if text == "SELECT @@datadir":
        return os.environ.get("STUB_DATA", "/var/lib/mysql")
    if found := re.fullmatch(r"SELECT '([a-z-]+)', CONNECTION_ID\(\)", text):
        return f"{found[1]}\t{number}"
    return ""


def _note(log: str, what: str) -> None:
    with Path(log).open("a") as file:
        file.write(f"{time.monotonic()} {what}\n")


def client(arguments: list[str]) -> int:
    """As ``mariadb --batch``: one statement after the other, and out at the first error or the input's end."""
    path = next(word.partition("=")[2] for word in arguments if word.startswith("--socket="))
    connection = socket.socket(socket.AF_UNIX)
    connection.connect(path)
    if "-e" in arguments:
        return 0 if all(map(_asked(connection), arguments[arguments.index("-e") + 1].split(";"))) else 1
    for line in sys.stdin:
        if not all(map(_asked(connection), line.split(";"))):
            return 1
    return 0


def _asked(connection: socket.socket):  # type: ignore[no-untyped-def]
    def ask(statement: str) -> bool:
        if not statement.strip():
            return True
        answer = b""
        try:
            connection.sendall(statement.encode() + b";")
            while not answer.endswith(b"\0"):
                more = connection.recv(4096)
                if not more:
                    raise ConnectionResetError("gone away")
                answer += more
        except OSError as error:
            print(f"ERROR 2006: Server has {error}", file=sys.stderr)
            return False
        text = answer[:-1].decode()
        if text.startswith("ERROR"):
            print(text.strip(), file=sys.stderr)
            return False
        print(text, end="", flush=True)
        return True

    return ask


if __name__ == "__main__":
    if Path(sys.argv[0]).name == "mariadb":
        sys.exit(client(sys.argv[1:]))
    serve(*sys.argv[1:])
