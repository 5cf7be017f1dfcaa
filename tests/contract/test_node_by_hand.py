"""`make lab`: what it prints works, and Ctrl-C leaves nothing behind."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_lab_says_how_to_use_it_and_goes_away_cleanly(number: int) -> None:
    command = [sys.executable, "-m", "tests.lab", "--scripted", "--nodes", "2"]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as lab:
        assert lab.stdout
        text = ""
        for line in lab.stdout:
            text += line
            if "Ctrl-C" in line:
                break
        pvesh = re.search(r"^  (\S+/pvesh create .*)$", text, re.MULTILINE)
        assert pvesh, text
        done = subprocess.run(pvesh[1].split(), capture_output=True, text=True, check=True)
        assert "thawed" in done.stdout
        config = Path(re.search(r"configuration +(\S+)", text)[1])  # type: ignore[index]
        assert 'node = "pve1"' in config.read_text()
        lab.send_signal(number)
        assert lab.wait(30) == 0
    assert not config.parent.exists()


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
