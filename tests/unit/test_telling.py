"""What is said of a thaw that takes long, and that nobody waits for who reads it."""

from __future__ import annotations

import threading

import pytest

from snapshot.base.aloud import Aloud
from snapshot.base.clock import SystemClock
from snapshot.pve.ladder import Ladder
from snapshot.thaw.telling import AGAIN_SECONDS, Answers, News, in_words
from snapshot.thaw.thawer import Thawer
from tests.unit.kit import ScriptedChannel, VirtualClock, busy, lost
from tests.unit.test_thaw import THAWING

SOCKET, API, PVESH = "agent socket /x/100.qga", "https://n1:8006", "pvesh"


@pytest.fixture
def clock() -> VirtualClock:
    return VirtualClock()


def test_each_way_is_told_once_and_then_now_and_then_that_it_goes_on(clock: VirtualClock) -> None:
    said: list[str] = []
    telling = News(100, clock.monotonic() + 120, clock, lambda line, at=None: said.append(line))
    clock.sleep(3)
    for _ in range(40):
        telling.heard(SOCKET, f"{SOCKET}: busy or gone")
        telling.heard(API, f"{API} answered 500: x")
        clock.sleep(1)
    assert said == [
        "guest 100: not thawed yet, every way is tried for another 117 s; Ctrl-C ends only the trying",
        f"guest 100: {SOCKET}: busy or gone",
        f"guest 100: {API}: answered 500: x",
        "guest 100: still not thawed, tried for another 97 s: the same answers",
    ]
    clock.sleep(AGAIN_SECONDS)
    telling.heard(API, "403")
    telling.heard(SOCKET, f"{SOCKET}: busy or gone")
    assert said[4:] == [f"guest 100: still not thawed, tried for another 57 s: {API}: 403"]


def test_the_ways_with_the_same_answer_are_told_together() -> None:
    text = "answered 500: QEMU guest agent is not running"
    answers = {
        SOCKET: f"{SOCKET}: busy or gone",
        API: f"{API} {text}",
        PVESH: "x",
        "https://n2:8006": f"https://n2:8006 {text}",
    }
    assert in_words(answers) == f"{SOCKET}: busy or gone; {API}, https://n2:8006: {text}; pvesh: x"


def test_a_thaw_knows_what_every_way_has_answered_and_tells_it(clock: VirtualClock) -> None:
    heard: list[str] = []
    routes = [
        ScriptedChannel(clock, name="socket", thaw=busy(), status=busy()),
        ScriptedChannel(clock, name="api", thaw=lost("got timeout"), status=lost("got timeout")),
        ScriptedChannel(clock, name="pvesh", thaw=1, status="frozen"),
    ]
    answers = Answers(lambda name, answer: heard.append(name) or 1 / 0)  # type: ignore[arg-type, func-returns-value]
    work = Thawer(Ladder(routes, last_resort=lambda: "SysRq j sent"), THAWING, clock, answers)
    report = work.until_confirmed(20.0)
    assert not report.confirmed
    assert heard[:4] == ["socket", "api", "pvesh", "socket"], "and who listens may fail"
    assert answers.last == {
        "socket": "QEMU guest agent is not running",
        "api": "got timeout",
        "pvesh": "pvesh: it acknowledges the thaw, and says frozen",
        "last resort": "SysRq j sent",
    }


def test_nobody_waits_for_a_terminal_that_stands_still() -> None:
    goes_on, said = threading.Event(), list[tuple[str, float]]()

    def say(line: str, at: float) -> None:
        goes_on.wait(5.0)
        said.append((line, at))

    with Aloud(say, SystemClock()) as tell:
        tell("one", 1.0)
        tell("two", 2.0)
        assert not said
        goes_on.set()
    assert said == [("one", 1.0), ("two", 2.0)], "all of it before the closing line"
