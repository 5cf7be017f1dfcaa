"""`make lab`: what it prints works, and Ctrl-C leaves nothing behind."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.lab.site import Started, wait_for

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_lab_says_how_to_use_it_and_goes_away_cleanly(number: int) -> None:
    command = [sys.executable, "-m", "tests.lab", "--scripted", "--nodes", "2"]
    with Started(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as lab:
        assert lab.stdout
        text = ""
        for line in lab.stdout:
            text += line
            if "Ctrl-C" in line:
                break
        assert not [line for line in text.splitlines() if len(line) > 80]
        config = Path(re.search(r"configuration +(\S+)", text)[1])  # type: ignore[index]
        assert 'node = "pve1"' in config.read_text()
        lab.send_signal(number)
        assert lab.wait(30) == 0
    assert not config.parent.exists()


def commands_of(text: str, head: str) -> list[str]:
    """What stands below a head, without the remarks."""
    below = text.partition(f"\n{head}:\n")[2].partition("\n\n")[0].splitlines()
    return [command for line in below if (command := line.partition("# ")[0].strip())]


def test_what_the_lab_says_to_try_and_to_break_can_be_typed_as_it_stands() -> None:
    """In the order in which it stands there; the exit codes are those that an operator would see."""
    command = [sys.executable, "-m", "tests.lab", "--scripted"]
    with Started(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as lab:
        assert lab.stdout
        text = ""
        for line in lab.stdout:
            text += line
            if "Ctrl-C" in line:
                break
        enter = re.search(r"^  (\. \S+/enter)$", text, re.MULTILINE)
        assert enter, text

        def typed(line: str) -> subprocess.CompletedProcess[str]:
            return subprocess.run(
                ["/bin/sh", "-c", f"{enter[1]}\n{line}"],
                cwd="/",
                capture_output=True,
                text=True,
                check=False,
                timeout=300,
            )

        tried = {line: typed(line) for line in commands_of(text, "Try")}
        broken = {line: typed(line) for line in commands_of(text, "Break")}
        kill, history = list(broken)[3:5]
        was_thawed = wait_for(lambda: "(thawed)" in typed(history).stdout.splitlines()[1], 60)
        settled = typed("safe-snapshot recover")
        lab.send_signal(signal.SIGTERM)
        assert lab.wait(60) == 0
    for done in (*tried.values(), *broken.values()):
        assert "Traceback" not in done.stdout + done.stderr, done
        assert "not found" not in done.stderr, done
    assert {line: done.returncode for line, done in tried.items() if done.returncode} == {"safe-snapshot doctor": 14}
    assert "5 guests: 4 filesystem-consistent, 1 crash-consistent" in tried["safe-snapshot all"].stdout
    assert tried["safe-snapshot history"].stdout.count("vzdump") == 1
    codes = {line: done.returncode for line, done in broken.items()}
    assert codes["safe-snapshot status"] == 8
    assert codes["safe-snapshot thaw 100"] == 0
    assert broken[kill].stdout.endswith("freeze requested\n"), broken[kill]
    assert "Killed" in broken[kill].stderr, broken[kill]
    assert was_thawed, broken[history]
    assert codes["safe-snapshot 101"] == 4
    assert "qm unlock 101" in " ".join(broken["safe-snapshot 101"].stderr.split())
    assert settled.returncode == 0, settled


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("--nodes 0", "'0' is not a number from 1 to 16"),
        ("--nodes many", "'many' is not a number"),
        ("--pve-version new", "'new' is not a version like 9.2.6"),
    ],
)
def test_what_the_lab_cannot_be_is_said_before_anything_is_started(line: str, says: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tests.lab", "--scripted", *line.split()],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert says in done.stderr
    assert "Traceback" not in done.stderr
