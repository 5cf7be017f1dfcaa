"""Who is woken by a letter reads what it is about, since when, and a command, in lines that a phone can show."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from snapshot.journal import silences
from snapshot.journal.broken import BEGUN_ANEW_NOTE
from snapshot.journal.labelruns import note_expected, note_run
from snapshot.journal.looks import GuestLook
from snapshot.model import Vmid
from snapshot.notify import alarms, letter, tell
from snapshot.recovery.strangers import Recovered
from tests.metrics.conftest import World
from tests.unit.kit import GUEST

HOUR = 3600.0


def look(world: World, vmid: int, **values: Any) -> GuestLook:
    known: dict[str, Any] = {"running": True, "seen_at": world.clock.now, "state": "thawed", **values}
    return GuestLook(f"qemu/{vmid}", vmid, "pve1", f"name-{vmid}", **known)


def letters(world: World, *recovered: Recovered) -> list[dict[str, Any]]:
    """What a look, a minute later, has to tell."""
    world.clock.now += 60
    tell.write_down(world.journal, world.config, recovered, world.clock.now, ("webhook",))
    found = [json.loads(row["body"]) for row in world.journal.query("SELECT body FROM outbox")]
    with world.journal.transaction("written") as db:
        db.execute("DELETE FROM outbox")
    return found


def everything(world: World) -> tuple[Recovered, ...]:
    """One of each alarm at once; the guests that `recover` could not help."""
    now = world.clock.now
    world.failed_run(100, source="vzdump")
    world.failed_run(101, stage="guard", reason="not-started")
    world.end(
        world.armed(102), verdict="unknown", failure_stage="snapshot", failure_reason="task", reason="no space left"
    )
    world.good_run(103)
    silences.note_config(world.journal, ["[freeze] limit is no number"], now)
    world.journal.set_note(silences.UNHOOKED_NOTE, json.dumps(["UPID:pve1:x", now]), now)
    world.journal.set_note(BEGUN_ANEW_NOTE, repr(now), now)
    world.clock.now += 2000
    world.journal.put_looks([
        *(look(world, vmid, seen_at=now) for vmid in (100, 101, 102)),
        look(world, 103, seen_at=now, run_limit_seconds=60.0),
        look(world, 104, seen_at=now, first_seen_at=now - 40 * HOUR),
        look(world, 105, seen_at=now, state="", why="agent-busy", still_since_at=now - HOUR),
        look(world, 107, seen_at=now, run_limit_seconds=0.0),
    ])  # fmt: skip
    guest = GUEST._replace(vmid=Vmid(107), name="name-107")
    note_expected(world.journal, [(guest, "daily")], now - 40 * HOUR, 0.0)
    note_run(world.journal, "weekly", now, [], [(guest, "the guest is locked (backup)")])
    window = world.intent(106, owner="foreign", source="foreign", state="frozen", frozen_at=now)
    return (Recovered(106, "pve1", "foreign", "GUEST 106 IS FROZEN, by somebody else", window, ok=False),)


def test_there_is_a_letter_of_each_alarm_that_says_what_to_do_as_a_command(world: World) -> None:
    (found,) = letters(world, *everything(world))
    runbooks = {event["key"].partition(":")[0] for event in found["events"]}
    assert runbooks == {"run", "frozen", *alarms.HEADS}
    for event in found["events"]:
        assert re.match(r"(nothing, unless |put it into a backup job; )?`[a-z]", event["todo"]), event
        assert re.search(r"(the|the runbook) [a-z-]+$", event["todo"]), event
        guest = event["guest"]
        if guest is not None:
            assert f"guest {guest['vmid']} ({guest['name']})" in event["what"]
            assert str(guest["vmid"]) in event["todo"]
            assert guest["node"] in event["todo"]
    assert found["title"].endswith("guest 106 (guest-106) MAY STILL BE FROZEN, and 12 more")
    assert re.search(r"\n  since 20\d\d-\d\d-\d\d \d\d:\d\d [+-]\d{4}\n", found["message"])
    assert len(max(found["message"].splitlines(), key=len)) < 300
    assert "The runbooks are in /usr/share/doc/vzdump-hooks/runbooks." in found["message"]


def test_the_end_of_an_alarm_does_not_read_like_the_alarm(world: World) -> None:
    letters(world, *everything(world))
    world.good_run(100, source="vzdump")
    silences.note_config(world.journal, [], world.clock.now)
    (found,) = letters(world)
    assert [event["event"] for event in found["events"]] == ["alarm-over"] * 3
    assert "FROZEN" not in found["text"]
    assert "guest 106 (guest-106): it is not frozen any more\n  it had begun 20" in found["message"]
    assert (
        "guest 100 (guest-100): backup is good again\n  good again: its last backup is filesystem-consistent"
        in (found["message"])
    )
    assert "* over: the configuration cannot be used as it is\n" in found["message"]
    assert found["title"].partition(": ")[2].count("only") == 0


def test_what_an_earlier_version_kept_is_still_an_alarm(world: World) -> None:
    """It had no words for its end."""
    world.failed_run(100)
    letters(world)
    with world.journal.transaction("written") as db:
        ((key, body),) = db.execute("SELECT key, body FROM told").fetchall()
        db.execute("UPDATE told SET body = ? WHERE key = ?", (json.dumps(json.loads(body)[:8]), key))
    world.good_run(100)
    (found,) = letters(world)
    assert found["title"].endswith("over: guest 100 (guest-100): snapshot is crash-consistent only")


@pytest.mark.parametrize("name", ["", "x" * 200, "ä" * 60])
def test_a_title_is_short_whatever_the_guest_is_called(world: World, name: str) -> None:
    world.failed_run(100, guest_name=name)
    world.failed_run(101, guest_name=name)
    (found,) = letters(world)
    assert len(found["title"]) <= letter.LONGEST_TITLE + len(", and 1 more")
    assert found["title"].endswith(", and 1 more")
