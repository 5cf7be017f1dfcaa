"""However slow everybody is who is told: the next recovery does not wait for it."""

from __future__ import annotations

import email.utils
from collections import Counter
from typing import Any

import pytest

from snapshot.commands.runner import GRACE_SECONDS, Outcome
from snapshot.journal import outbox
from snapshot.journal.store import Journal
from snapshot.notify import letter, sending, tell, ways
from snapshot.pve.https_post import NotSentError
from tests.metrics.conftest import World
from tests.notify.receivers import WebServer, answer
from tests.notify.test_alarms import events, round_of
from tests.notify.test_own_commands import add

MOST_SECONDS = 35.0
"""What docs/notify.md promises: with own commands COMMANDS_SECONDS more."""


def put_letters(world: World, count: int, *more_ways: str) -> None:
    with world.journal.transaction("written") as db:
        for number in range(count):
            body = letter.test_body(f"{number:032x}", "pve1", world.clock.now)
            outbox.put(db, f"{number:032x}", (ways.MAIL, ways.WEBHOOK, *more_ways), body, world.clock.now)


@pytest.mark.parametrize("is_taken", [True, False])
@pytest.mark.parametrize("with_commands", [True, False])
def test_a_round_is_bounded_however_slow_everybody_is_and_each_way_gets_its_turn(
    told: World, monkeypatch: pytest.MonkeyPatch, *, with_commands: bool, is_taken: bool
) -> None:
    """In virtual time: each attempt takes all the time that it may."""
    attempts = Counter[str]()

    def slow(way: str, *_: object, **__: object) -> None:
        attempts[way] += 1
        told.clock.now += ways.SECONDS_OF[way]()
        if not is_taken:
            raise NotSentError("no whole answer")

    def slow_commands(*_: object) -> list[str]:
        slow_on = told.clock.now
        attempts[ways.COMMANDS] += 1
        told.clock.now = slow_on + ways.COMMANDS_SECONDS
        return []

    def slow_beat(*_: object, **__: object) -> None:
        told.clock.now += ways.BEAT_SECONDS

    monkeypatch.setattr(ways, "send_letter", slow)
    monkeypatch.setattr(ways, "call_commands", slow_commands)
    monkeypatch.setattr(ways, "beat", slow_beat)
    own = add(told, "10-slow", "#!/bin/sh\n") if with_commands else None
    put_letters(told, 20, *([ways.COMMANDS] if with_commands else []))
    began = told.clock.now
    tell.after_recovery(told.config, lambda: Journal(told.config.journal.path), [], told.clock, own)
    limit = MOST_SECONDS + (ways.COMMANDS_SECONDS if with_commands else 0)
    assert told.clock.now - began <= limit
    assert set(attempts) == {ways.MAIL, ways.WEBHOOK, *([ways.COMMANDS] if with_commands else [])}
    for _ in range(40):
        told.clock.now += 60
        began = told.clock.now
        tell.after_recovery(told.config, lambda: Journal(told.config.journal.path), [], told.clock, own)
        assert told.clock.now - began <= limit
    assert not is_taken or not told.journal.query("SELECT 1 FROM outbox"), "all of it was sent in the end"


def test_a_receiver_that_is_fast_gets_all_that_waits_in_one_round(told: World, web: WebServer) -> None:
    put_letters(told, 20)
    (mail, webhook) = sending.send_due(told.journal, told.config, told.clock)
    assert (mail.detail, webhook.detail) == ("20 messages sent", "20 messages sent")
    assert [each["id"] for each in web.letters] == [f"{number:032x}" for number in range(20)]


@pytest.mark.parametrize("count", [1, 3, 10])
def test_own_commands_share_one_limit(world: World, monkeypatch: pytest.MonkeyPatch, count: int) -> None:
    for number in range(count):
        own = add(world, f"{number:02}-slow", "#!/bin/sh\n")
    world.config = world.config._replace(commands=world.config.commands._replace(timeout_seconds=600.0))
    limits = list[float]()

    def run_commands(*_: object, timeout_seconds: float, **__: Any) -> list[Outcome]:
        limits.append(timeout_seconds)
        return []

    monkeypatch.setattr(ways, "run_commands", run_commands)
    world.failed_run(100)
    told_once = tell.after_recovery(world.config, lambda: Journal(world.config.journal.path), [], world.clock, own)
    assert told_once == []
    world.failed_run(101)
    world.good_run(100)
    world.clock.now += 60
    tell.after_recovery(world.config, lambda: Journal(world.config.journal.path), [], world.clock, own)
    assert len(limits) == 3, "one phase, then both"
    for phases in (limits[:1], limits[1:]):
        assert sum(count * (limit + GRACE_SECONDS) for limit in phases) <= max(ways.COMMANDS_SECONDS, 3.0 * 2 * count)
        assert min(phases) >= 1.0


@pytest.mark.parametrize(
    ("wanted", "minutes"),
    [("300", 5), ("0", 1), ("in a while", 1), ("-5", 1), ("9999999", 15), ("date", 4), ("9" * 500, 1)],
)
def test_a_receiver_that_asks_for_time_is_given_it(told: World, web: WebServer, wanted: str, minutes: int) -> None:
    """But no more than a letter waits at the most between two attempts."""
    if wanted == "date":
        wanted = email.utils.formatdate(told.clock.now + 60 + 240, usegmt=True)
    told.failed_run(100)
    web.handler = answer(429, **{"Retry-After": wanted})
    told.config = told.config._replace(notify=told.config.notify._replace(mail_to="", heartbeat_file=None))
    (said,) = round_of(told)
    assert f"it answered 429; tried again in {60 * minutes} s" in said
    web.handler = answer(200)
    for _ in range(minutes - 1):
        assert round_of(told) == []
    assert len(web.letters) == 1
    round_of(told)
    round_of(told)
    assert len(web.letters) == 2
    assert len({each["id"] for each in web.letters}) == 1
    assert len(events(web)) == 2
