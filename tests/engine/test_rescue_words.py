"""What the rescue says while it goes on, and where it could not help: whoever waits at 03:00 reads this and no more."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from tests.engine import kit
from tests.engine.kit import FREEZE, QUICK_LIMITS, check
from tests.engine.test_console import on_a_terminal
from tests.engine.test_foreign_freezes import left_behind
from tests.lab.guest.scripted import ScriptedGuest
from tests.lab.site import Site, site, wait_for

WAYS = ("agent socket /", "https://127.0.0.1:", "pvesh: ")


@pytest.fixture
def stuck() -> Iterator[Site]:
    """On the node of guest 100, which is frozen, and whose agent is dead."""
    with site(ScriptedGuest, limits=dict(QUICK_LIMITS)) as lab:
        lab.on_the_node()
        kit.the_guest(lab).ask(FREEZE)
        kit.the_guest(lab).kill_agent()
        lab.settings["thaw"] = {"owner_limit_seconds": 8}
        lab.write_config()
        yield lab


@pytest.mark.parametrize("whom", ["100", "all"])
def test_the_rescue_says_what_each_way_answered_and_for_how_long_it_goes_on(stuck: Site, whom: str) -> None:
    stuck.settings["thaw"]["owner_limit_seconds"] = 100
    stuck.write_config()
    with stuck.start("thaw", whom) as run:
        assert run.stderr is not None
        lines = [run.stderr.readline() for _ in range(4)]
        assert run.poll() is None, "while it goes on"
        assert "guest 100: not thawed yet, every way is tried for another" in lines[0]
        assert "Ctrl-C ends only the trying" in lines[0]
        for line, way in zip(lines[1:], WAYS, strict=True):
            assert f"guest 100: {way}" in line, lines
        run.terminate()


@pytest.mark.parametrize("line", ["-q thaw 100", "-q thaw all --json"])
def test_where_no_way_helps_all_answers_are_told_and_the_runbook_and_the_reset_last(stuck: Site, line: str) -> None:
    run = check(stuck, stuck.safe_snapshot(*line.split()), thawed=False)
    assert run.exit_code == 8, run
    assert "not thawed yet" not in run.text, "-q silences what is said meanwhile"
    text = " ".join(run.text.split())
    for way in WAYS:
        assert way in text
    assert text.index("fsfreeze --unfreeze") < text.index("qm sendkey 100 alt-sysrq-j") < text.index("qm reset 100")
    assert "docs/runbooks/guest-still-frozen.md" in text


def test_a_recovery_tells_it_to_who_waits_at_a_terminal_and_to_no_journal(stuck: Site) -> None:
    left_behind(stuck, at=time.time() - 60, freeze_outcome="acknowledged")
    assert "not thawed yet" in on_a_terminal(stuck, "recover")
    run = check(stuck, stuck.safe_snapshot("recover"), thawed=False)
    assert "not thawed yet" not in run.text
    assert run.exit_code == 8


@pytest.mark.parametrize("flags", ["", "-q"])
def test_a_run_whose_own_thaw_fails_says_what_each_way_answers(flags: str) -> None:
    with site(ScriptedGuest, limits=dict(QUICK_LIMITS)) as lab:
        lab.on_the_node()
        lab.settings["thaw"] = {"owner_limit_seconds": 6}
        lab.write_config()
        lab.node.set(task_delays={"before": 20.0})
        with lab.start("100", "--max-window", "2", *flags.split()) as run:
            assert wait_for(kit.the_guest(lab).is_frozen)
            kit.the_guest(lab).kill_agent()
            assert run.stderr is not None
            meanwhile, error, rest = run.stderr.read().partition("MAY STILL BE FROZEN")
            assert run.wait() == 8
        text = " ".join((error + rest).split())
        for way in WAYS:
            assert way in text, "all of it in the end"
            assert (f"no thaw confirmed yet, Ctrl-C does not end the trying: {way}" in meanwhile) is (not flags)
