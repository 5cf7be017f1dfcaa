"""The house stays as CONTRIBUTING's table has it: no arrow up, no circle, no file that is too long or has no room."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.unit.house import FILE_LINES, FUNCTION_LINES, NESTING, faults, floors

ROOT = Path(__file__).resolve().parents[2]
TABLE = floors((ROOT / "CONTRIBUTING.md").read_text())
SOURCES = {
    str(path.relative_to(ROOT)): path.read_text()
    for package in ("snapshot", "vzdump_hooks")
    for path in sorted((ROOT / package).rglob("*.py"))
}


def test_the_house_was_found() -> None:
    assert len(SOURCES) > 100
    assert len(TABLE) > 20
    assert sorted(set(TABLE.values())) == list(range(1, max(TABLE.values()) + 1)), "a floor is missing"


def test_nothing_stands_against_the_table_or_a_limit() -> None:
    found = faults(SOURCES, TABLE)
    assert not found, "\n".join(["", *(f"{key}  # {what}" for key, what in found.items())])


GROUND, UPPER = "snapshot/low/", "snapshot/high/"
HOUSE = {
    "snapshot/__init__.py": '"""The engine."""\n',
    "snapshot/low/__init__.py": '"""The ground."""\n',
    "snapshot/low/one.py": "import os\n",
    "snapshot/low/two.py": "from snapshot.low.one import os\n",
    "snapshot/high/three.py": "from snapshot.low import one, two\n",
    "snapshot/entry.py": "from snapshot.high.three import one\n",
}
FLOORS = {GROUND: 1, UPPER: 2, "snapshot/entry.py": 3}


def nested(depth: int) -> str:
    return (
        "def f():\n"
        + "".join("    " * n + f"if x{n}:\n" for n in range(1, depth + 1))
        + "    " * (depth + 1)
        + "pass\n"
    )


def test_a_house_in_order_has_no_fault() -> None:
    assert not faults(HOUSE, FLOORS)


@pytest.mark.parametrize(
    ("changed", "key"),
    [
        ({"snapshot/low/one.py": "import snapshot.entry\n"}, "upward: snapshot/low/one.py -> snapshot/entry.py"),
        (
            {"snapshot/low/one.py": "if TYPE_CHECKING:\n    from snapshot.high.three import x\n"},
            "upward: snapshot/low/one.py -> snapshot/high/three.py",
        ),
        (
            {"snapshot/low/one.py": 'x = late("snapshot.high.three:x")\n'},
            "upward: snapshot/low/one.py -> snapshot/high/three.py",
        ),
        (
            {"snapshot/low/one.py": 'COMMANDS = {"two": "snapshot.low.two:os"}\n'},
            "circle: snapshot/low/one.py, snapshot/low/two.py",
        ),
        (
            {"snapshot/low/one.py": "from snapshot.low import two\n"},
            "circle: snapshot/low/one.py, snapshot/low/two.py",
        ),
        (
            {"snapshot/low/one.py": "def f():\n    # 9 ms\n    from snapshot.low.two import x\n"},
            "circle: snapshot/low/one.py, snapshot/low/two.py",
        ),
        ({"snapshot/four.py": ""}, "no room: snapshot/four.py"),
        ({"snapshot/other/five.py": ""}, "no room: snapshot/other/five.py"),
        ({"snapshot/other/__init__.py": '"""A folder."""\n'}, "no room: snapshot/other/__init__.py"),
        (
            {"snapshot/high/three.py": "def f():\n    import os  # noqa: PLC0415 - slow\n"},
            "inside: snapshot/high/three.py -> os",
        ),
        (
            {"snapshot/high/three.py": "def f():\n    import re  # 3 ms\n    x = 1\n    import os\n"},
            "inside: snapshot/high/three.py -> os",
        ),
        ({"snapshot/high/three.py": "\n" * (FILE_LINES + 1)}, "long file: snapshot/high/three.py"),
        (
            {"snapshot/high/three.py": "def f():\n" + "    x = 1\n" * FUNCTION_LINES},
            "long function: snapshot/high/three.py f",
        ),
        ({"snapshot/high/three.py": nested(NESTING + 1)}, "deep: snapshot/high/three.py f"),
        ({"snapshot/low/one.py": "class A:\n    pass\n", "snapshot/high/three.py": "class A: ..."}, "two classes: A"),
        ({"snapshot/low/__init__.py": "from snapshot.low.one import os\n"}, "not empty: snapshot/low/__init__.py"),
    ],
)
def test_each_kind_of_fault_is_seen(changed: dict[str, str], key: str) -> None:
    assert key in faults(HOUSE | changed, FLOORS)


def test_a_row_without_a_file_is_seen() -> None:
    assert set(faults(HOUSE, FLOORS | {"snapshot/gone.py": 1})) == {"empty room: snapshot/gone.py"}


def test_what_is_just_within_the_limits_is_no_fault() -> None:
    within = {
        "snapshot/high/three.py": nested(NESTING) + "def g():\n" + "    x = 1\n" * (FUNCTION_LINES - 1),
        "snapshot/high/five.py": "def f():\n    # 80 ms and 245 modules\n    import os\n    import re\n",
        "snapshot/high/six.py": "def f():\n" + "    if x:\n        pass\n" + "    elif x:\n        pass\n" * NESTING,
        "snapshot/high/seven.py": "\n" * FILE_LINES,
    }
    assert not faults(HOUSE | within, FLOORS)


def test_the_table_is_read_with_its_braces() -> None:
    page = "| floor | room | what |\n| --- | --- | --- |\n| 1 | `a/{b,c}.py` | nouns |\n| 2 | `a/d/` | more |\n"
    assert floors(page) == {"a/b.py": 1, "a/c.py": 1, "a/d/": 2}
