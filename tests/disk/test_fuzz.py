"""A few thousand mutated blocks with each run of the tests; `make fuzz-disks` does a million."""

from __future__ import annotations

from tests.disk import fuzz


def test_no_mutated_block_makes_a_wrong_word_or_reads_without_bound() -> None:
    tally = fuzz.run(4000, seed=15)
    assert not tally.wrong, tally.wrong[:5]
    assert sum(tally.said.values()) == 4000
    changed = sum(count for what, count in tally.said.items() if what.endswith(": cannot-tell"))
    assert changed > 400, "the blocks that were mutated do not matter"
