"""The object that every command prints with ``--json``: its frame, its errors, and the schema published of it."""

from __future__ import annotations

import copy
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from snapshot import errors
from snapshot.errors import Failure, InterruptedBySignalError, JournalError, SafeSnapshotError, StillFrozenError
from snapshot.model import ThawReport
from snapshot.report.envelope import VERSION, Envelope
from tests.json_schema import PUBLISHED, STRICT, closed, follows_the_schema
from tests.unit.kit import record

CODES = [
    "failed no-turn usage configuration guest-unfit guest-removed storage-full",
    "api api-unreachable api-denied api-failure node-offline reply-lost",
    "not-consistent group-ended not-clean snapshot-failed no-quorum still-frozen",
    "journal journal-busy not-recorded freeze-unclear guard window-taken",
    "foreign-freeze findings not-pruned cannot-tell interrupted",
]
FAILURES = [c for c in vars(errors).values() if isinstance(c, type) and issubclass(c, Failure)]


def one_of(cls: type[Any]) -> Failure:
    """An error of the class."""
    if cls is InterruptedBySignalError:
        return InterruptedBySignalError(15)
    more = {"status": 500} if "status" in cls.__init__.__code__.co_varnames else {}
    error = cls("it went wrong", remedy="mend it", **more)
    assert isinstance(error, SafeSnapshotError)
    return error


def parsed(envelope: Envelope) -> dict[str, Any]:
    """What it prints, and it follows the schema."""
    return follows_the_schema(json.loads(envelope.render()))


def test_the_words_of_errors_stay_since_scripts_compare_them() -> None:
    """One that goes or is renamed raises the version."""
    assert [cls.code for cls in FAILURES] == " ".join(CODES).split()
    assert VERSION == 2


@pytest.mark.parametrize("cls", FAILURES, ids=lambda cls: cls.code)
def test_every_kind_of_error_has_its_word_and_its_exit_code(cls: type[Any]) -> None:
    error = one_of(cls)
    found = parsed(Envelope("take", {}, ("careful",), error))
    assert found == {
        "version": 2,
        "command": "take",
        "warnings": ["careful"],
        "error": {"code": cls.code, "message": error.message, "remedy": error.remedy, "exit_code": error.exit_code},
        "exit_code": error.exit_code,
    }


def test_a_class_of_another_room_has_the_word_of_the_one_it_is_a_kind_of() -> None:
    class TodaysError(JournalError):
        pass

    assert parsed(Envelope("recover", {}, (), TodaysError("broken")))["error"]["code"] == "journal"


def test_a_warning_is_told_once() -> None:
    assert parsed(Envelope("history", {"windows": []}, ("a", "b", "a")))["warnings"] == ["a", "b"]


def streamed(items: Iterator[object]) -> tuple[str, int]:
    pieces: list[str] = []
    exit_code = Envelope("history", {}, ("careful",)).stream("windows", items, pieces.append)
    return "".join(pieces), exit_code


@pytest.mark.parametrize("count", [0, 1, 3])
def test_a_streamed_object_is_the_one_that_is_printed_whole(count: int) -> None:
    items = [{"number": number} for number in range(count)]
    text, exit_code = streamed(iter(items))
    assert exit_code == 0
    assert json.loads(text) == json.loads(Envelope("history", {"windows": items}, ("careful",)).render())


@pytest.mark.parametrize("error", [StillFrozenError("no more", remedy="act"), InterruptedBySignalError(15)], ids=str)
def test_an_error_amid_a_list_stands_behind_it_in_one_whole_object(error: Failure) -> None:
    def broken() -> Iterator[object]:
        yield {"number": 1}
        raise error

    text, exit_code = streamed(broken())
    found = json.loads(text)
    assert found["windows"] == [{"number": 1}]
    assert found["error"]["message"] == error.message
    assert found["exit_code"] == exit_code == error.exit_code


def test_before_the_first_item_was_read_nothing_is_written() -> None:
    def broken() -> Iterator[object]:
        raise JournalError("cannot be read")
        yield

    pieces: list[str] = []
    with pytest.raises(JournalError):
        Envelope("history").stream("windows", broken(), pieces.append)
    assert pieces == []


GOOD = {"version": 2, "command": "thaw", "warnings": [], "error": None, "exit_code": 0}
THAW = {"vmid": 100, "thaw": ThawReport(confirmed=True, attempts=1)._asdict()}


@pytest.mark.parametrize(
    "change",
    [
        {"version": 1},
        {"command": "Thaw"},
        {"exit_code": 8},
        {"error": {"code": "StillFrozenError", "message": "", "remedy": "", "exit_code": 8}, "exit_code": 8},
        {"error": {"code": "still-frozen", "message": "", "remedy": "", "exit_code": 8}},
        {"warnings": None},
        {"vmid": "100"},
        {"unheard": 1},
    ],
    ids=str,
)
def test_the_schema_refuses_what_is_wrong(change: dict[str, Any]) -> None:
    follows_the_schema(copy.deepcopy(GOOD | THAW))
    assert not STRICT.is_valid(GOOD | THAW | change)


def test_the_published_schema_is_a_schema() -> None:
    """A validator does not ask: it passes over a word that it does not know."""
    Draft202012Validator.check_schema(closed(PUBLISHED))


@pytest.mark.parametrize("column", ["kind", "owner", "state", "freeze_outcome", "verdict"])
def test_the_schema_names_every_word_of_a_windows_columns(column: str) -> None:
    frame = GOOD | {"command": "status", "frozen": [], "unknown": [], "lost_windows": [], "silences": []}
    window = record()._asdict()
    follows_the_schema(frame | {"windows": [window]})
    assert not STRICT.is_valid(frame | {"windows": [window | {column: "unheard"}]})


@pytest.mark.parametrize("missing", [*GOOD, *THAW])
def test_the_schema_misses_each_key(missing: str) -> None:
    assert not STRICT.is_valid({key: value for key, value in (GOOD | THAW).items() if key != missing})


def test_the_help_loads_nothing_that_only_one_command_needs() -> None:
    """Counted in modules, since time depends on the machine; the commands load theirs when they run."""
    script = "import sys, snapshot.cli.main; print(*sys.modules)"
    root = Path(__file__).resolve().parents[2]
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, cwd=root)
    loaded = set(run.stdout.split())
    assert not loaded & {"prometheus_client", "snapshot.report.html", "snapshot.report.digest", "http.server"}
