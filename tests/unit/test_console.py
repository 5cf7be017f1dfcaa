"""Lines for a person: how they are folded, and when they have colours."""

from __future__ import annotations

import io
import os
import pty
import termios
from pathlib import Path

import pytest

from snapshot.base import terminal
from snapshot.base.terminal import GREEN, PLAIN, RED, YELLOW
from snapshot.report import console

LONG = "a guest's agent that does not answer is asked over every route, one after the other, until it says so"


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture(autouse=True)
def plain_surroundings(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("COLUMNS", "NO_COLOR", "JOURNAL_STREAM"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TERM", "xterm")


@pytest.mark.parametrize(
    ("front", "further"),
    [
        ("", 4),
        ("ERROR: ", 4),
        ("warning: ", 4),
        ("  ", 6),
        ("  0.264 s  ", 11),
        ("        ok  ", 12),
        (" NO FREEZE  ", 12),
        ("  100  ", 7),
    ],
)
def test_a_line_that_is_too_long_goes_on_below_its_text(front: str, further: int) -> None:
    first, *more = console.lines_of(f"{front}{LONG}", io.StringIO())
    assert first.startswith(front + LONG[:20])
    assert more
    assert all(line.startswith(" " * further) and line[further] != " " for line in more)
    assert all(len(line) <= 80 for line in (first, *more))
    assert " ".join(line.strip() for line in (first, *more)) == f"{front}{LONG}".strip()


def test_a_line_that_fits_is_not_touched() -> None:
    for line in ("", "x" * 80, "VMID  NAME      VERDICT", "    a  b    c"):
        assert console.lines_of(line, io.StringIO()) == [line]


def test_a_command_and_a_path_stay_in_one_piece() -> None:
    command = f"`qm set 100 --agent {'x' * 70}`"
    path = f"/{'y' * 90}"
    lines = console.lines_of(f"{LONG}; {command}, or look at {path}", io.StringIO())
    assert [line.strip() for line in lines if len(line) > 80] == [f"{command},", path]


def test_the_width_is_the_terminals(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    assert console.lines_of(LONG, io.StringIO()) == [LONG]
    monkeypatch.setenv("COLUMNS", "50")
    assert max(map(len, console.lines_of(LONG, io.StringIO()))) <= 50
    monkeypatch.setenv("COLUMNS", "7")
    assert max(map(len, console.lines_of(LONG, io.StringIO()))) <= 40


def test_each_stream_has_its_own_width(monkeypatch: pytest.MonkeyPatch) -> None:
    screen, end = pty.openpty()
    with os.fdopen(end, "w") as narrow:
        termios.tcsetwinsize(narrow, (10, 60))
        assert terminal.size(narrow) == (60, 10)
        assert (
            max(map(len, console.lines_of(LONG, narrow))) <= 60 < max(map(len, console.lines_of(LONG, io.StringIO())))
        )
        monkeypatch.setenv("COLUMNS", "100")
        assert terminal.size(narrow) == (100, 10)
    os.close(screen)


def test_a_line_for_systemds_journal_stays_whole(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with (tmp_path / "journal").open("w") as stream:
        found = os.fstat(stream.fileno())
        monkeypatch.setenv("JOURNAL_STREAM", f"{found.st_dev}:{found.st_ino}")
        assert console.shown(f"ERROR: {LONG}", stream) == f"ERROR: {LONG}"


@pytest.mark.parametrize(
    ("line", "colour", "word"),
    [
        ("ERROR: it failed", RED, "ERROR"),
        ("Error: no such command", RED, "Error"),
        ("    FAILED  lock: locked", RED, "FAILED"),
        ("FROZEN: the guest is frozen right now", RED, "FROZEN"),
        ("NOT POSSIBLE: it is a template", RED, "NOT POSSIBLE"),
        ("guest 100 (web) on pve1 is FROZEN, by us", RED, "is FROZEN"),
        (" 101  web  NOT DONE  -", RED, "NOT DONE"),
        ("warning: the metrics were not written", YELLOW, "warning"),
        ("   warning  storage: not known", YELLOW, "warning"),
        ("snapshot s1 of qemu/100: crash-consistent: the agent is off", YELLOW, "crash-consistent"),
        ("2026 qemu/100  snapshot  -  unknown", YELLOW, "unknown"),
        ("        ok  lock: not locked", GREEN, "ok"),
        ("ready: this guest can be snapshotted consistently", GREEN, "ready"),
        (" 100  web  filesystem-consistent  25 ms", GREEN, "filesystem-consistent"),
        ("snapshot s1 of qemu/100: application-consistent: frozen", GREEN, "application-consistent"),
        ("snapshot s1 of qemu/100: offline: it was shut down", GREEN, "offline"),
    ],
)
def test_the_word_that_matters_has_a_colour_on_a_terminal(
    line: str, colour: str, word: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert console.shown(line, Terminal()) == line.replace(word, f"{colour}{word}{PLAIN}", 1)
    assert console.shown(line, io.StringIO()) == line, "a pipe"
    monkeypatch.setenv("TERM", "dumb")
    assert console.shown(line, Terminal()) == line
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("NO_COLOR", "1")
    assert console.shown(line, Terminal()) == line


@pytest.mark.parametrize(
    "line",
    ["guest 100: begun", "no open window, no frozen guest", "  filesystem-consistent at best", "unknown words", ""],
)
def test_what_is_no_verdict_has_none(line: str) -> None:
    assert console.shown(line, Terminal()) == line
