"""The administrator's own commands are one of the ways: alarm and alarm-over, one JSON object each."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from snapshot.journal.store import Journal
from snapshot.notify import tell, ways
from snapshot.notify.ways import Own
from tests.hooks_schema import follows_the_schema
from tests.metrics.conftest import World
from tests.notify.receivers import WebServer

NOTES = """#!{python} -IS
import sys
with open({path!r}, "a") as file:
    file.write(sys.argv[1] + " " + sys.stdin.read())
"""


def add(world: World, name: str, text: str) -> Own:
    folder = world.folder / "hooks.d"
    folder.mkdir(mode=0o755, exist_ok=True)
    folder.chmod(0o755)
    (folder / name).write_text(text)
    (folder / name).chmod(0o755)
    return Own(folder, lambda line: None)


def round_of(world: World, own: Own) -> list[str]:
    world.clock.now += 60
    return tell.after_recovery(world.config, lambda: Journal(world.config.journal.path), [], world.clock, own)


@pytest.fixture
def notes(world: World) -> Path:
    return world.folder / "notes"


def told_of(notes: Path) -> list[dict[str, Any]]:
    found = []
    for line in notes.read_text().splitlines() if notes.exists() else []:
        phase, _, text = line.partition(" ")
        told = follows_the_schema(json.loads(text))
        assert told["phase"] == phase
        assert {event["event"] for event in told["events"]} == {phase}
        found.append(told)
    return found


def test_own_commands_are_told_of_an_alarm_and_of_its_end_once_each(world: World, notes: Path) -> None:
    """Without any [notify]: the folder is enough."""
    own = add(world, "10-notes", NOTES.format(python=sys.executable, path=str(notes)))
    world.failed_run(100)
    for _ in range(3):
        assert round_of(world, own) == []
    world.failed_run(101)
    world.good_run(100)
    for _ in range(3):
        assert round_of(world, own) == []
    found = [(told["phase"], told["events"][0]["key"]) for told in told_of(notes)]
    run = "run:qemu/{}:snapshot".format
    assert found == [("alarm", run(100)), ("alarm", run(101)), ("alarm-over", run(100))]
    assert told_of(notes)[1]["id"] == told_of(notes)[2]["id"]
    assert told_of(notes)[0]["events"][0]["guest"] == {"vmid": 100, "name": "guest-100", "node": "pve1"}


@pytest.mark.parametrize(
    ("script", "why"), [("exit 3", "ended with 3"), ("exec sleep 300", "was ended by us")], ids=["fails", "hangs"]
)
def test_one_that_fails_or_hangs_is_said_and_not_called_again(
    told: World, web: WebServer, monkeypatch: pytest.MonkeyPatch, script: str, why: str
) -> None:
    monkeypatch.setattr(ways, "COMMANDS_SECONDS", 0.5)
    monkeypatch.setattr(ways, "COMMAND_SECONDS", 0.5)
    own = add(told, "10-bad", f"#!/bin/sh\n{script}\n")
    told.failed_run(100)
    began = time.monotonic()
    (line,) = round_of(told, own)
    assert time.monotonic() - began < 20
    assert f"own command 10-bad: {why}" in line
    assert line.startswith("notify: commands: ")
    assert "a command ends with 0 in a phase that it does not know" in line
    assert round_of(told, own) == []
    assert len(web.letters) == 1, "the other ways are none of its business"


def test_a_folder_that_is_empty_is_no_way(world: World) -> None:
    own = add(world, "10-off", "#!/bin/sh\n")
    (own.folder / "10-off").chmod(0o644)
    assert not own.are_there
    world.failed_run(100)
    assert round_of(world, own) == []
    assert not world.journal.query("SELECT 1 FROM outbox")
