"""The lab's control port: a line whose beginning got lost is never run, and comes again."""

from __future__ import annotations

import socket
import threading
from pathlib import Path

import pytest

from tests.lab.guest import RealGuest, _converse
from tests.lab.rundir import run_directory

ORPHANS = "(for n in 1 2 3 4 5 6 7 8 9 10; do for t in 5 20 50 90; do (usleep ${t}000 &); done; usleep 9000; done) &"


@pytest.mark.real
def test_a_line_reaches_a_guest_whose_first_shell_loses_children(session_guest: RealGuest) -> None:
    """Each child that ended while the shell read a line cost it the line's beginning, and a test in six its answer."""
    if not session_guest.running:
        session_guest.start()
    for number in range(100):
        if number % 10 == 0:
            session_guest.shell(f"{ORPHANS} >/dev/null 2>&1")
        assert session_guest.control(f"echo {number}; (exit 3)") == (3, str(number))


@pytest.mark.parametrize("lost", ["a1.7", ".7", "7"])
def test_a_garbled_line_is_sent_again(lost: str) -> None:
    def guest(listener: socket.socket) -> None:
        with listener.accept()[0] as channel, channel.makefile("rwb", buffering=0) as port:
            heard.append(port.readline())
            port.write(f"<garbled {lost}>\n".encode())
            heard.append(port.readline())
            port.write(b"<begin a1.7>\nhi\n\n<rc a1.7 0>\n")

    heard: list[bytes] = []
    with run_directory() as run, listening(run / "port") as listener:
        thread = threading.Thread(target=guest, args=(listener,))
        thread.start()
        assert _converse(run / "port", "a1.7", "echo hi", 10.0).endswith("<rc a1.7 0>\n")
        thread.join()
    assert heard == [b"a1.7 echo hi #a1.7\n"] * 2


@pytest.mark.parametrize("left_behind", ["a1.6", "x", ""])
def test_an_answer_to_somebody_elses_line_repeats_nothing(left_behind: str) -> None:
    def guest(listener: socket.socket) -> None:
        with listener.accept()[0] as channel, channel.makefile("rwb", buffering=0) as port:
            port.write(f"<garbled {left_behind}>\n".encode())
            heard.append(port.readline())
            port.write(b"<begin a1.7>\n\n<rc a1.7 0>\n")
            heard.append(port.readline())

    heard: list[bytes] = []
    with run_directory() as run, listening(run / "port") as listener:
        thread = threading.Thread(target=guest, args=(listener,))
        thread.start()
        _converse(run / "port", "a1.7", "true", 10.0)
        thread.join()
    assert heard == [b"a1.7 true #a1.7\n", b""]


def listening(path: Path) -> socket.socket:
    """QEMU's end."""
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(path))
    listener.listen()
    return listener
