"""How the package's two programs begin: not between two versions."""

from __future__ import annotations

import os
import sys
import time
import types
from pathlib import Path

import pytest

LAUNCHER = Path(__file__).resolve().parents[2] / "contrib/debian/launcher"
MARK = "/run/vzdump-hooks.upgrade"


@pytest.fixture
def mark(tmp_path: Path) -> Path:
    """What the package's preinst makes and its postinst takes away."""
    path = tmp_path / "upgrade"
    path.touch()
    return path


def sleeps(mark: Path, monkeypatch: pytest.MonkeyPatch, ends_after: int) -> tuple[int, bool]:
    """How often the program slept before it began, and whether the upgrade was still going on then."""
    slept: list[float] = []
    began: list[bool] = []

    def sleep(seconds: float) -> None:
        slept.append(seconds)
        if len(slept) == ends_after:
            mark.unlink()

    program = types.ModuleType("the_program")
    program.main = lambda: began.append(mark.exists())  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "the_program", program)
    monkeypatch.setattr(time, "sleep", sleep)
    text = LAUNCHER.read_text().replace(MARK, str(mark)).replace("@MODULE@", "the_program")
    assert str(mark) in text
    exec(compile(text, str(LAUNCHER), "exec"), {})
    (was_there,) = began
    return len(slept), was_there


def test_who_is_called_while_the_files_are_changed_waits_for_the_end(
    mark: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert sleeps(mark, monkeypatch, ends_after=7) == (7, False)


def test_without_an_upgrade_nobody_waits(mark: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mark.unlink()
    assert sleeps(mark, monkeypatch, ends_after=1) == (0, False)


def test_an_upgrade_that_was_killed_costs_no_backup(mark: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor does one whose mark is of tomorrow."""
    assert sleeps(mark, monkeypatch, ends_after=5000)[0] == 1200
    for since in (121, -3600):
        os.utime(mark, (time.time() - since, time.time() - since))
        assert sleeps(mark, monkeypatch, ends_after=5000) == (0, True)
