"""Whole commands on a console of 80 columns: piped, and on a terminal with and without colours."""

from __future__ import annotations

import json
import os
import pty
import re
import subprocess

import pytest

from tests.engine import kit
from tests.fleet import kit as fleet
from tests.lab.site import Run, Site, environment, run_command

HANGS_SECONDS = 120
UNBREAKABLE = re.compile(r" *(\S+|`[^`]*`\S*)")
"""A path, a task's id or a command: to be copied in one piece."""


def console(lab: Site, *arguments: str, **variables: str) -> Run:
    """A command as it is printed where nobody says how wide the console is."""
    plain = {name: value for name, value in environment().items() if name != "COLUMNS"}
    return run_command(lab.command(*arguments), env=plain | variables)


def too_wide(run: Run) -> list[str]:
    """Lines that a console of 80 columns would cut or break."""
    return [line for line in run.text.splitlines() if len(line) > 80 and not UNBREAKABLE.fullmatch(line)]


LINES = (
    "check 100",
    "100 --dry-run",
    "100",
    "-v 100",
    "100 101",
    "all --dry-run",
    "check all",
    "-v check all",
    "100 --name s1 --policy require",
    "history",
    "list all",
    "prune all --keep 1 --dry-run",
    "prune all --keep 1",
    "status",
    "thaw 100",
    "thaw all",
    "recover",
    "doctor",
    "notify",
    "metrics serve --address 203.0.113.7",
    "drill 100",
    "drill 100 --yes",
    "web1",
    "check nobody",
    "999",
    "100 thaw",
    "--bogus",
    "100 --policy requier",
    "setup --undo --jobs",
)


def test_no_line_for_a_person_is_wider_than_the_console() -> None:
    with fleet.guests(2) as lab:
        lab.node.set_config(101, agent="0")
        found = {line: too_wide(console(lab, *line.split())) for line in LINES}
        for lock in ("backup", "snapshot-delete"):
            lab.node.set_config(100, lock=lock)
            for line in ("check 100", "100", "100 101 --wait 0", "status"):
                found[f"{line} ({lock})"] = too_wide(console(lab, *line.split()))
        assert not {line: wide for line, wide in found.items() if wide}


def test_a_frozen_guest_is_told_in_lines_that_fit(lab: Site) -> None:
    kit.the_guest(lab).ask("guest-fsfreeze-freeze")
    found = {line: too_wide(console(lab, *line.split())) for line in ("status", "check 100", "100", "recover")}
    lab.node.stop_front()
    found |= {f"{line}, no API": too_wide(console(lab, *line.split())) for line in ("status", "check 100", "100")}
    assert not {line: wide for line, wide in found.items() if wide}


def test_what_is_for_a_program_is_not_folded(lab: Site) -> None:
    run = console(lab, "--json", "100")
    assert json.loads(run.stdout)
    assert max(map(len, run.stdout.splitlines())) > 80, "a text in it"
    told = console(lab, "100", "--logfmt").stdout.splitlines()
    assert max(map(len, told)) > 80
    assert all(re.match(r"\S+=", line) or line.startswith("event=") for line in told), told
    monitor = console(lab, "doctor", "--monitor").stdout
    assert monitor.count("\n") == 1
    assert len(monitor) > 81


def on_a_terminal(lab: Site, *arguments: str, **variables: str) -> str:
    """What a terminal is sent."""
    screen, console_end = pty.openpty()
    plain = {name: value for name, value in environment().items() if name != "COLUMNS"}
    with subprocess.Popen(
        lab.command(*arguments), stdin=console_end, stdout=console_end, stderr=console_end, env=plain | variables
    ) as process:
        os.close(console_end)
        said = b""
        try:
            while piece := os.read(screen, 65536):
                said += piece
        except OSError:
            pass  # Linux says EIO when the other end is closed
        process.wait(HANGS_SECONDS)
    os.close(screen)
    return said.decode()


@pytest.mark.parametrize(
    ("variables", "in_colour"),
    [
        ({"TERM": "xterm-256color"}, True),
        ({"TERM": "xterm-256color", "NO_COLOR": ""}, True),
        ({"TERM": "xterm-256color", "NO_COLOR": "1"}, False),
        ({"TERM": "dumb"}, False),
        ({}, False),
    ],
    ids=str,
)
def test_colours_are_for_a_terminal_that_has_them_and_wants_them(
    lab: Site, variables: dict[str, str], in_colour: bool
) -> None:
    said = on_a_terminal(lab, "check", "100", **variables)
    assert "ready" in said
    assert ("\x1b[32mready\x1b[0m" in said) == in_colour
    assert ("\x1b" in said) == in_colour
    assert "\x1b" not in console(lab, "check", "100", **variables).text, "a pipe"


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("thaw all", "guest 100 is thawed"),
        ("thaw guest100", "guest 100 is thawed"),
        ("recover", "guest 100 on pve1: foreign"),
        ("prune all --keep 1", "no option keeps it"),
        ("thaw 100 999", "guest 999: guest 999 does not exist"),
    ],
)
def test_a_terminal_is_told_each_line_once(line: str, told: str) -> None:
    """A pipe gets the outcome on standard output whatever standard error has said."""
    with fleet.guests(2) as lab:
        for _ in range(2 if "prune" in line else 0):
            assert lab.safe_snapshot("101").exit_code == 0
        kit.the_guest(lab).ask("guest-fsfreeze-freeze")
        on_the_screen = " ".join(on_a_terminal(lab, *line.split()).split())
        assert on_the_screen.count(told) == 1, on_the_screen
