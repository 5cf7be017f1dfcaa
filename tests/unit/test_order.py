"""The order of the tests among workers (tests/order.py)."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.order import LONG, SHORT, spread

ROOT = Path(__file__).resolve().parents[2]
MODULES = [
    *(f"tests/unit/test_{letter}.py" for letter in "abc" for _ in range(40)),
    *(f"tests/engine/test_{letter}.py" for letter in "ab" for _ in range(7)),
    *(f"tests/real/test_{letter}.py" for letter in "abc" for _ in range(3)),
    *("tests/other/test_a.py" for _ in range(10)),
]


@pytest.mark.parametrize("workers", [1, 2, 4, 7])
def test_every_test_is_there_once(workers: int) -> None:
    assert sorted(spread(MODULES, workers)) == list(range(len(MODULES)))


def test_each_share_begins_with_the_longest_and_ends_with_the_shortest() -> None:
    order = [MODULES[place] for place in spread(MODULES, 3)]
    share = len(order) // 3
    for number in range(3):
        own = order[number * share : (number + 1) * share]
        assert own[0].startswith("tests/real/")
        assert own[-1].startswith("tests/unit/")
        kinds = [(2 if name.startswith("tests/unit/") else 1 if "real" not in name else 0) for name in own]
        assert kinds == sorted(kinds)


def test_what_there_is_of_nothing_else_makes_shares_too() -> None:
    assert sorted(spread(["tests/real/test_a.py"] * 5, 4)) == [0, 1, 2, 3, 4]
    assert spread([], 4) == []


def test_what_is_named_is_there() -> None:
    assert all((ROOT / start).exists() for start in (*LONG, *SHORT))
