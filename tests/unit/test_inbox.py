"""What wakes a guard, over a real socket."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator

import pytest

from snapshot.base.clock import SystemClock
from snapshot.guard.inbox import ProcessInbox
from snapshot.guard.link import Op
from snapshot.guard.seams import Happening


@pytest.fixture
def link(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[ProcessInbox, socket.socket]]:
    """An inbox and its owner's end of the connection. Signals stay pytest's."""
    monkeypatch.setattr(ProcessInbox, "_catch_signals", lambda inbox: None)
    owner, guard = socket.socketpair()
    inbox = ProcessInbox(guard, (), SystemClock())
    yield inbox, owner
    owner.close()
    inbox.close()


@pytest.mark.parametrize("seconds", [3_000_000.0, 1e18, float("inf"), None])
def test_a_wait_of_any_length_is_a_wait(link: tuple[ProcessInbox, socket.socket], seconds: float | None) -> None:
    """epoll counts milliseconds in 32 bits: a window of 35 days was the end of its guard."""
    inbox, owner = link
    owner.sendall(b'{"op": "frozen"}\n')
    assert inbox.wait(seconds) == (Op.FROZEN, {})
    owner.close()
    message = inbox.wait(seconds)
    assert message is not None
    assert message.what is Happening.OWNER_GONE


@pytest.mark.parametrize(
    "line", [b"[" * 100_000, b'{"op": "disarm", "late_seconds": 1%s}' % (b"0" * 400), b"\xff", b"{}"]
)
def test_a_line_that_makes_no_sense_is_passed_over(link: tuple[ProcessInbox, socket.socket], line: bytes) -> None:
    inbox, owner = link
    owner.sendall(line + b"\n" + json.dumps({"op": "thawing"}).encode() + b"\n")
    message = inbox.wait(5.0)
    while message is not None and message.what is not Op.THAWING:
        message = inbox.wait(5.0)
    assert message is not None


def test_a_guard_that_hangs_up_is_seen_by_its_owner(link: tuple[ProcessInbox, socket.socket]) -> None:
    inbox, owner = link
    inbox.close()
    owner.settimeout(5.0)
    assert owner.recv(1) == b""
    assert inbox.wait(0.0) is None
