"""Lines for systemd's journal say how much they matter; lines for everybody else do not."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from snapshot.base import streams
from snapshot.recovery.strangers import Recovered
from snapshot.report import text

ROOT = Path(__file__).resolve().parents[2]
_SAY = """
from snapshot.base import streams
streams.prepare()
streams.out("event=recovered", streams.NOTICE)
streams.out("one\\ntwo")
streams.err("ERROR: three")
streams.err("warning: four")
"""


def said(tmp_path: Path, *, is_journal: bool) -> list[str]:
    """What a process of ours writes, both streams in one file, which is what systemd connected it to or is not."""
    with (tmp_path / "log").open("w+") as log:
        found = os.fstat(log.fileno())
        stream = f"{found.st_dev}:{found.st_ino if is_journal else found.st_ino + 1}"
        subprocess.run(
            [sys.executable, "-c", _SAY],
            stdout=log,
            stderr=log,
            env={"JOURNAL_STREAM": stream},
            cwd=ROOT,
            timeout=60,
            check=True,
        )
    return (tmp_path / "log").read_text().splitlines()


def test_each_line_for_the_journal_has_its_level(tmp_path: Path) -> None:
    assert said(tmp_path, is_journal=True) == [
        "<5>event=recovered",
        "<6>one",
        "<6>two",
        "<3>ERROR: three",
        "<4>warning: four",
    ]


def test_lines_for_anything_else_have_none(tmp_path: Path) -> None:
    """A unit's output that goes on into a pipe or a file, say."""
    assert said(tmp_path, is_journal=False) == ["event=recovered", "one", "two", "ERROR: three", "warning: four"]


@pytest.mark.parametrize(
    ("outcome", "ok", "level"),
    [
        ("thawed", True, streams.NOTICE),
        ("was-thawed", True, streams.NOTICE),
        ("watched", True, streams.NOTICE),
        ("foreign", True, streams.NOTICE),
        ("foreign", False, streams.ERROR),
        ("stuck", False, streams.ERROR),
        ("unreachable", False, streams.ERROR),
        ("in-progress", True, streams.INFO),
        ("not-known", True, streams.INFO),
    ],
)
def test_what_recover_did_matters_more_than_what_it_found_as_it_was(outcome: str, ok: bool, level: int) -> None:
    """The minute's unit keeps what is below a notice out of the journal."""
    line, warning = text.recovered_logfmt([Recovered(100, "pve1", outcome, "", ok=ok)], ["a full disk"])
    assert line.level == level
    assert warning == streams.Line('event=warning detail="a full disk"', streams.WARNING)
