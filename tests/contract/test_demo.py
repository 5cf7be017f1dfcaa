"""``make demo``: it is OK only when every verdict of ours is the disk's own word."""

from __future__ import annotations

import re
import sys
from types import ModuleType, SimpleNamespace
from typing import Any, cast

import pytest

import tests.lab.__main__ as lab
from tests.lab import demo
from tests.lab.guest.oracle import Judgement
from tests.lab.site import Site
from tests.unit.kit import record

CONSISTENT, CRASHED = Judgement(True, "off", None), Judgement(False, "on", None)


@pytest.mark.parametrize(
    ("ours", "disk", "good"),
    [
        ("filesystem-consistent", CONSISTENT, True),
        ("crash-consistent", CRASHED, True),
        ("unknown", CONSISTENT, False),
        ("unknown", CRASHED, False),
        ("crash-consistent", CONSISTENT, False),
        ("filesystem-consistent", CRASHED, False),
        (None, CONSISTENT, False),
    ],
)
def test_a_verdict_that_is_not_the_disks_fails_the_demo(
    ours: str | None, disk: Judgement, good: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    windows: list[Any] = [record("w2", source="vzdump", verdict="memory"), record("w1", verdict=ours)]
    site = cast("Site", SimpleNamespace(windows=lambda: windows))
    assert demo.agrees(site, "snapshot", disk) is good
    assert ("OTHERWISE" in capsys.readouterr().out) is not good


def test_the_story_is_the_same_without_real_guests(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(demo, "real_available", lambda: False)
    monkeypatch.setattr(demo, "why_no_real", lambda: "there is no QEMU")
    assert demo.main() == 0
    said = capsys.readouterr().out
    assert said.endswith("\nDEMO OK: every verdict agrees with the disk\n")
    assert said.count("as the disk says") == 3
    assert re.findall(r"^== (.*)$", said, re.MULTILINE) == [
        "Can this guest be frozen?",
        "A safe snapshot: frozen, proven, thawed",
        "The same without a freeze, for contrast",
        "safe-snapshot is killed (SIGKILL) while the guest is frozen",
        "A vzdump backup with `script: vzdump-hook`",
        "What Prometheus sees",
    ]


def test_a_step_that_fails_is_a_demo_that_fails(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(demo, "real_available", lambda: False)
    monkeypatch.setattr(demo, "agrees", lambda lab, source, said: False)
    assert demo.main() == 1
    assert "DEMO FAILED" in capsys.readouterr().out


@pytest.mark.parametrize("program", [demo, lab])
def test_a_guest_that_does_not_boot_is_told_and_is_no_traceback(
    program: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def boots_never(*_: object, **__: object) -> None:
        raise TimeoutError("guest 100 does not answer: Kernel panic")

    monkeypatch.setattr(sys, "argv", ["make"])
    monkeypatch.setattr(program, "real_available", lambda: True)
    for name in ("RealGuest", "site") if program is demo else ("RealGuest",):
        monkeypatch.setattr(program, name, boots_never)
    assert program.main() == 1
    said = "".join(capsys.readouterr())
    assert "guest 100 does not answer: Kernel panic" in said
    assert "again" in said
