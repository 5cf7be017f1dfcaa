"""What is said of several guests: whose exit code a run ends with, the one error for all, and the table."""

from __future__ import annotations

import itertools
import threading

import click
import pytest

from snapshot.cli import completion
from snapshot.cli.group import is_name, names_guests
from snapshot.config.choice import Choice, Grounds, LeftOut
from snapshot.errors import (
    WORST_FIRST,
    ApiUnreachableError,
    ForeignFreezeError,
    GuestRemovedError,
    GuestUnfitError,
    InterruptedBySignalError,
    NotConsistentError,
    StillFrozenError,
    exit_codes,
    worst_of,
)
from snapshot.journal.looks import GuestLook
from snapshot.recovery.frozen import Round
from snapshot.recovery.survey import Survey
from snapshot.report import many, text
from tests.unit.kit import GUEST


def test_every_exit_code_has_its_place_among_the_worst() -> None:
    assert sorted(WORST_FIRST) == sorted(found.number for found in exit_codes())


def test_the_worst_is_who_needs_somebody_most() -> None:
    frozen, signal = StillFrozenError("frozen"), InterruptedBySignalError(15)
    foreign, unfit = ForeignFreezeError("foreign"), GuestUnfitError("unfit")
    for some in itertools.permutations((None, unfit, foreign, signal, frozen)):
        assert worst_of(some) is frozen
    assert worst_of([unfit, None, foreign]) is foreign
    assert worst_of([foreign, signal]) is signal
    assert worst_of([None, None]) is None
    assert worst_of([]) is None


def test_one_error_for_all_has_the_worst_ones_code_and_remedy_and_says_how_many() -> None:
    found = [(100, NotConsistentError("no agent", remedy="install it")), (101, None), (102, GuestRemovedError("gone"))]
    error = many.error_of_all(found)
    assert error is not None
    assert (error.exit_code, error.code) == (6, "not-consistent")
    assert str(error) == "2 of 3 guests: guest 100: no agent; install it"
    assert many.error_of_all([(100, None)]) is None
    assert many.error_of_all([]) is None
    alone = many.error_of_all(found[:1])
    assert alone is not None
    assert alone.message == "guest 100: no agent"


def test_the_table_names_all_of_a_few_left_out_and_of_many_those_on_the_line() -> None:
    out = [LeftOut(GUEST._replace(vmid=200 + n), Grounds.TAG, "not tagged x", named=n == 3) for n in range(9)]  # type: ignore[arg-type]
    few, lot = Choice((GUEST,), tuple(out[:2])), Choice((GUEST,), tuple(out))
    row = many.GuestLine(GUEST, "ready")
    assert [r.guest.vmid for r in many.all_rows([row], few, verbose=False)] == [100, 200, 201]
    assert [r.guest.vmid for r in many.all_rows([row], lot, verbose=False)] == [100, 203]
    assert len(many.all_rows([row], lot, verbose=True)) == 10
    assert many.closing([(1, "ready"), (0, "FROZEN")], lot) == "1 guest: 1 ready; 9 left out"
    head, line = many.table([row])
    assert (head.split(), line.split()) == (["VMID", "NAME", "NODE", "RESULT"], ["100", "web", "pve1", "ready"])
    assert many.table([]) == []


def test_a_foreign_name_stays_in_its_column() -> None:
    lines = many.table([many.GuestLine(GUEST._replace(name="x" * 300 + "\n\x1b"), "ready")])
    assert all(line.isprintable() and len(line) < 80 for line in lines)


@pytest.mark.parametrize(
    "word", ["100", "100-199", "100,web1", "all", "all,100", "web*", "*", "[ab]x", "w?b", "tag:x", "3cx"]
)
def test_a_first_word_that_no_command_can_be_names_guests(word: str) -> None:
    assert names_guests(word)


@pytest.mark.parametrize("word", ["web1", "chek", "allx", "al", "doctor", "-x*", "--all", ""])
def test_a_first_word_that_may_be_a_command_does_not(word: str) -> None:
    assert not names_guests(word)


def test_a_hint_at_a_guest_of_that_name_is_given_for_names_alone() -> None:
    assert is_name("web1")
    assert not any(map(is_name, ("100", "w\u00e4b", "a b", "", "all", "tag:x")))


def test_a_status_of_guests_that_nobody_looked_at_is_not_well() -> None:
    """PVE could not be asked, and they are not this node's."""
    down = ApiUnreachableError("down")
    look = GuestLook(GUEST.id, GUEST.vmid, GUEST.node, GUEST.name, running=True, seen_at=0.0, state="thawed")
    found = Survey((), Round((look,), {look.id: GUEST}, down), frozenset(), frozenset(), {}, None)
    assert found.of(lambda vmid: vmid == 100).error is None
    assert found.of(lambda vmid: vmid == 100).blind_spot
    assert found.of(lambda vmid: vmid == 555).error is down
    assert "no open window" not in " ".join(text.survey_lines(found.of(lambda vmid: vmid == 555), 0.0))


def test_completion_waits_for_no_answer_beyond_its_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    over = threading.Event()

    def never(*_: object) -> None:
        over.wait(20)
        over.set()

    monkeypatch.setattr(completion, "WITHIN_SECONDS", 0.05)
    monkeypatch.setattr(completion, "open_access", never)
    assert completion.listed(click.Context(click.Command("x"))) == ()
    assert not over.is_set(), "it waited until the call had ended"
    over.set()
