"""Results as lines and as JSON: the shape that programs rely on, and no result that cannot be rendered."""

from __future__ import annotations

import itertools
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from snapshot.errors import (
    InterruptedBySignalError,
    NotConsistentError,
    SafeSnapshotError,
    StillFrozenError,
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
from snapshot.recovery.strangers import Recovered
from snapshot.recovery.survey import Survey
from snapshot.report import text
from snapshot.take.request import Result
from snapshot.window.verdict import Proof
from tests.unit.kit import GUEST, record

UPID = "UPID:pve1:0003A5F1:00C4D9E2:68F0A1B7:qmsnapshot:100:root@pam!safe:"
KEYS = [
    "version",
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


def parsed(rendered: str) -> dict[str, Any]:
    assert rendered.isascii()
    tree = json.loads(rendered, parse_constant=lambda name: pytest.fail(f"{name} is not JSON"))
    assert tree["version"] == text.JSON_VERSION == 1
    return dict(tree)


@pytest.mark.parametrize("result", [full(), empty()], ids=["full", "empty"])
def test_a_run_has_every_key_of_version_1_whatever_happened(result: Result) -> None:
    tree = parsed(text.result_json(result))
    assert list(tree)[: len(KEYS)] == KEYS  # new keys may come behind


def test_a_good_run_as_json() -> None:
    tree = parsed(text.result_json(full()))
    assert tree["vmid"] == 100
    assert tree["guest"]["kind"] == "qemu"
    assert tree["guest"]["node"] == "pve1"
    assert (tree["snapshot"], tree["snapshot_exists"], tree["policy"], tree["plan"]) == ("s1", True, "prefer", None)
    assert tree["checks"][0] == {"name": "ok", "result": "ok", "message": "found ok", "remedy": "do this"}
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
    tree = parsed(text.result_json(empty()))
    for key in ("guest", "plan", "freeze", "thaw", "upid", "task", "verdict"):
        assert tree[key] is None, key
    assert tree["window"] == dict.fromkeys(
        ("id", "freezing_seconds", "held_seconds", "thawing_seconds", "window_seconds")
    )
    assert tree["error"] == {"kind": "NotConsistentError", "message": "no", "remedy": "do this", "exit_code": 6}
    assert tree["exit_code"] == 6


def test_every_kind_of_outcome_can_be_rendered() -> None:
    for outcome, proof, kind, exists in itertools.product(FreezeOutcome, Proof, VerdictKind, (True, False, None)):
        freeze, verdict = FreezeReply(outcome), Verdict(kind, "why")
        result = replace(full(), freeze=freeze, proof=proof, snapshot_exists=exists, verdict=verdict)
        tree = parsed(text.result_json(result))
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


def test_an_error_before_there_was_a_result_has_the_same_object() -> None:
    tree = parsed(text.error_json(StillFrozenError("frozen", remedy="act now")))
    assert tree["exit_code"] == tree["error"]["exit_code"] == 8
    assert tree["error"]["kind"] == "StillFrozenError"


def test_a_signal_is_an_error_with_the_shells_exit_code() -> None:
    assert parsed(text.error_json(InterruptedBySignalError(15)))["exit_code"] == 143


def test_a_check_as_json_and_as_lines() -> None:
    facts: dict[str, object] = {
        "os": "Debian",
        "filesystems": ["/", "/data"],
        "path": Path("/x"),
        "state": Policy.NEVER,
    }
    health = Health(GUEST, CHECKS, facts, frozen=True)
    tree = parsed(text.health_json(health, 4))
    assert (tree["frozen"], tree["exit_code"], len(tree["checks"])) == (True, 4, len(CHECKS))
    assert tree["facts"] == {"os": "Debian", "filesystems": ["/", "/data"], "path": "/x", "state": "never"}
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


def test_what_recover_found_as_json() -> None:
    found = [Recovered(100, "pve1", "thawed", "2 filesystems", "abc"), Recovered(101, "pve1", "foreign", "x", ok=False)]
    tree = parsed(text.recovered_json(found, 8))
    assert [w["outcome"] for w in tree["windows"]] == ["thawed", "foreign"]
    assert [w["ok"] for w in tree["windows"]] == [True, False]
    assert tree["exit_code"] == 8


def test_every_class_of_error_has_a_code_of_the_table_and_words() -> None:
    table = list(exit_codes())
    codes = [code for code, _, _ in table]
    assert codes == sorted(set(codes))
    assert codes == [*range(1, 14), 128]
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
