"""Each fixed word of a failure has a sentence, and a remedy for the page of `report`."""

from __future__ import annotations

import pytest

from snapshot.journal.families import FAILURES
from snapshot.report import failures
from snapshot.words import Word


@pytest.mark.parametrize("word", Word)
def test_each_word_has_its_own_remedy(word: Word) -> None:
    """One that has none gets its line in REMEDIES of snapshot/report/failures.py."""
    assert failures.told(word.value) == (word.sentence, failures.REMEDIES[word])


@pytest.mark.parametrize("stage", sorted({stage for stage, _ in FAILURES}))
def test_each_stage_says_what_it_means_for_the_run(stage: str) -> None:
    """One that has none gets its line in STAGES of snapshot/report/failures.py."""
    assert failures.STAGES[stage]


def test_the_codes_of_checks_and_errors_are_explained_and_an_unknown_word_has_a_remedy_at_least() -> None:
    assert failures.told("agent-off").sentence.startswith("The guest agent is not switched on in PVE")
    assert failures.told("storage-full").sentence.startswith("A storage of the guest is too full")
    assert failures.told("from-the-future") == ("", failures.told("usage").remedy)
