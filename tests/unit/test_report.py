"""Results as lines and as JSON: the shape that programs rely on, and no result that cannot be rendered."""

from __future__ import annotations

import itertools
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from snapshot.errors import (
    ApiUnreachableError,
    JournalError,
    NotConsistentError,
    SafeSnapshotError,
    exit_codes,
)
from snapshot.journal.looks import GuestLook
from snapshot.model import (
    Check,
    CheckResult,
    FreezeOutcome,
    FreezeReply,
    Health,
    Policy,
    ThawReport,
    Upid,
    Verdict,
    VerdictKind,
    Vmid,
    WindowTimes,
)
from snapshot.pve.tasks import TaskEnd
from snapshot.recovery.frozen import Round
from snapshot.recovery.survey import Survey
from snapshot.report import text
from snapshot.report.envelope import Envelope, result_data
from snapshot.take.request import Result
from snapshot.window.verdict import Proof
from tests.json_schema import follows_the_schema
from tests.unit.kit import GUEST, record

UPID = "UPID:pve1:0003A5F1:00C4D9E2:68F0A1B7:qmsnapshot:100:root@pam!safe:"
KEYS = [
    "version",
    "command",
    "vmid",
    "guest",
    "snapshot",
    "snapshot_exists",
    "policy",
    "plan",
    "checks",
    "window",
    "freeze",
    "proof",
    "thaw",
    "upid",
    "task",
    "verdict",
    "disk",
    "warnings",
    "error",
    "exit_code",
]
CHECKS = tuple(Check(r.value, r, f"found {r.value}", "do this") for r in CheckResult)


def full() -> Result:
    return Result(
        vmid=Vmid(100),
        name="s1",
        policy=Policy.PREFER,
        guest=GUEST,
        checks=CHECKS,
        freeze=FreezeReply(FreezeOutcome.ACKNOWLEDGED, 2),
        proof=Proof.STILL_FROZEN,
        thaw=ThawReport(confirmed=True, attempts=1, filesystems=2, route="agent socket"),
        times=WindowTimes(0.1, 0.05, 0.02),
        window_id="abc",
        upid=Upid.parse(UPID),
        task=TaskEnd("OK", ("line", "TASK OK")),
        snapshot_exists=True,
        verdict=Verdict(VerdictKind.FILESYSTEM_CONSISTENT, "2 filesystems frozen"),
        warnings=("same", "same", "other é\u2028"),
    )


def empty() -> Result:
    return Result(vmid=Vmid(100), name="s1", policy=Policy.REQUIRE, error=NotConsistentError("no", remedy="do this"))


def parsed(result: Result) -> dict[str, Any]:
    """The object of a run, as a program reads it."""
    rendered = Envelope("take", result_data(result), tuple(result.warnings), result.error).render()
    assert rendered.isascii()
    tree = json.loads(rendered, parse_constant=lambda name: pytest.fail(f"{name} is not JSON"))
    return follows_the_schema(tree)


@pytest.mark.parametrize("result", [full(), empty()], ids=["full", "empty"])
def test_a_run_has_every_key_whatever_happened(result: Result) -> None:
    tree = parsed(result)
    assert list(tree)[: len(KEYS)] == KEYS  # new keys may come behind


def test_a_good_run_as_json() -> None:
    tree = parsed(full())
    assert tree["vmid"] == 100
    assert tree["guest"]["kind"] == "qemu"
    assert tree["guest"]["node"] == "pve1"
    assert (tree["snapshot"], tree["snapshot_exists"], tree["policy"], tree["plan"]) == ("s1", True, "prefer", None)
    assert tree["checks"][0] == {"name": "ok", "result": "ok", "message": "found ok", "remedy": "do this", "code": ""}
    assert tree["window"] == {
        "id": "abc",
        "freezing_seconds": 0.1,
        "held_seconds": 0.05,
        "thawing_seconds": 0.02,
        "window_seconds": pytest.approx(0.17),
    }
    assert tree["freeze"] == {"outcome": "acknowledged", "filesystems": 2, "detail": ""}
    assert tree["proof"] == "still frozen"
    assert tree["thaw"]["confirmed"] is True
    assert tree["thaw"]["filesystems"] == 2
    assert tree["upid"] == UPID
    assert tree["task"] == {"exitstatus": "OK", "log": ["line", "TASK OK"]}
    assert tree["verdict"] == {"kind": "filesystem-consistent", "reason": "2 filesystems frozen"}
    assert tree["warnings"] == ["same", "other é\u2028"]
    assert (tree["error"], tree["exit_code"]) == (None, 0)


def test_a_run_that_did_nothing_as_json() -> None:
    tree = parsed(empty())
    for key in ("guest", "plan", "freeze", "thaw", "upid", "task", "verdict"):
        assert tree[key] is None, key
    assert tree["window"] == dict.fromkeys(
        ("id", "freezing_seconds", "held_seconds", "thawing_seconds", "window_seconds")
    )
    assert tree["error"] == {"code": "not-consistent", "message": "no", "remedy": "do this", "exit_code": 6}
    assert tree["exit_code"] == 6


def test_every_kind_of_outcome_can_be_rendered() -> None:
    for outcome, proof, kind, exists in itertools.product(FreezeOutcome, Proof, VerdictKind, (True, False, None)):
        freeze, verdict = FreezeReply(outcome), Verdict(kind, "why")
        result = replace(full(), freeze=freeze, proof=proof, snapshot_exists=exists, verdict=verdict)
        tree = parsed(result)
        assert (tree["freeze"]["outcome"], tree["proof"]) == (outcome.value, proof.value)
        assert (tree["verdict"]["kind"], tree["snapshot_exists"]) == (kind.value, exists)
        assert text.result_lines(result)


def test_the_closing_line_says_it_all() -> None:
    *warnings, last = text.result_lines(full())
    assert warnings == ["warning: same", "warning: other é\u2028"]
    assert last == "snapshot s1 of qemu/100, frozen for 170 ms: filesystem-consistent: 2 filesystems frozen"


def test_a_snapshot_that_is_not_there_is_given_no_verdict_line() -> None:
    result = replace(full(), snapshot_exists=False, error=NotConsistentError("no snapshot was made"))
    assert text.result_lines(result)[-1] == "ERROR: no snapshot was made"
    assert not any("filesystem-consistent" in line for line in text.result_lines(result))


def test_an_error_is_the_last_line_with_its_remedy() -> None:
    assert text.result_lines(empty()) == ["ERROR: no; do this"]


def test_a_check_as_lines() -> None:
    facts: dict[str, object] = {
        "os": "Debian",
        "filesystems": ["/", "/data"],
        "path": Path("/x"),
        "state": Policy.NEVER,
    }
    health = Health(GUEST, CHECKS, facts, frozen=True)
    lines = text.health_lines(health)
    assert "  filesystems: /, /data" in lines
    assert lines[-1].startswith("NOT POSSIBLE: ")
    assert sum("-> do this" in line for line in lines) == 3  # what is fine needs no remedy


@pytest.mark.parametrize(
    ("worst", "start"),
    [
        (CheckResult.OK, "ready"),
        (CheckResult.WARNING, "ready"),
        (CheckResult.NO_FREEZE, "NOT FREEZABLE"),
        (CheckResult.FAILED, "NOT POSSIBLE"),
    ],
)
def test_a_checks_last_line_is_the_answer(worst: CheckResult, start: str) -> None:
    assert text.health_lines(Health(GUEST, (Check("x", worst, "why"),)))[-1].startswith(start)


def test_every_class_of_error_has_a_code_of_the_table_and_words() -> None:
    table = list(exit_codes())
    codes = [code for code, _, _ in table]
    assert codes == sorted(set(codes))
    assert codes == [*range(1, 17), 128]
    assert all(words for _, _, words in table)


def classes(of: type[SafeSnapshotError]) -> list[type[SafeSnapshotError]]:
    return [of, *(inner for direct in of.__subclasses__() for inner in classes(direct))]


@pytest.mark.parametrize("cls", classes(SafeSnapshotError), ids=lambda cls: cls.__name__)
def test_every_class_of_error_says_what_happened_in_its_docstring(cls: type[SafeSnapshotError]) -> None:
    assert cls.__doc__
    assert cls.exit_code in {code for code, _, _ in exit_codes()}


@pytest.mark.parametrize(("owner", "words"), [("vzdump", "FROZEN, by vzdump"), ("hook", "FROZEN, by us")])
def test_a_frozen_guest_is_said_to_be_frozen_by_who_froze_it(owner: str, words: str) -> None:
    look = GuestLook("qemu/100", 100, "pve1", "db", True, 1.0, state="frozen")
    found = Survey(
        windows=(record(owner=owner, state="frozen"),),
        round=Round((look,), {"qemu/100": GUEST}, None, 0.0),
        living=frozenset({100}),
        in_need=frozenset(),
        works={},
        problem=None,
    )
    assert any(words in line for line in text.survey_lines(found, 2.0))


def test_a_guest_without_a_name_has_no_brackets() -> None:
    look = GuestLook("qemu/100", 100, "pve1", "", True, 1.0, state="frozen")
    guests = {"qemu/100": GUEST._replace(name="")}
    found = Survey((), Round((look,), guests, None, 0.0), frozenset(), frozenset(), {}, None)
    (line,) = text.survey_lines(found, 2.0)
    assert line.startswith("guest 100 on pve1 is FROZEN, not by us")


@pytest.mark.parametrize("blind", [None, ApiUnreachableError("no answer")], ids=["all-asked", "this-node-alone"])
def test_the_warnings_beside_a_guest_that_needs_help_are_what_went_wrong(blind: SafeSnapshotError | None) -> None:
    found = Survey((record(id="w1"),), Round((), {}, blind, 0.0), frozenset(), frozenset({"w1"}), {}, None)
    assert found.error is not None
    assert found.warnings == ((found.blind_spot,) if blind else ())
    asked = JournalError("broken")
    assert found._replace(problem=asked).warnings == ("broken",)
    assert found._replace(problem=asked, in_need=frozenset()).warnings == ()
