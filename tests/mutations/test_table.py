"""Every mutation still applies, and its catchers exist. Whether they catch it: ``make mutations``."""

from __future__ import annotations

import ast
import functools
from pathlib import Path

import pytest

from tests.mutations.__main__ import MOST_BYTES, ROOT, Baseline, DoesNotApplyError, main, mutated, share
from tests.mutations.table import MUTATIONS, Mutation, mutation


@pytest.mark.parametrize("change", MUTATIONS, ids=lambda change: change.name)
def test_a_mutation_applies_and_stays_python(change: Mutation) -> None:
    for path, text in mutated(change, ROOT):
        assert text != path.read_text(encoding="utf-8")
        if path.suffix == ".py":
            ast.parse(text)


@functools.cache
def _functions(file: Path) -> frozenset[str]:
    tree = ast.parse(file.read_text(encoding="utf-8"))
    return frozenset(node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef))


@pytest.mark.parametrize("change", MUTATIONS, ids=lambda change: change.name)
def test_the_tests_that_must_catch_it_exist(change: Mutation) -> None:
    assert change.catchers
    for catcher in change.catchers:
        file, _, name = catcher.partition("[")[0].partition("::")  # a catcher may be one case of a test
        assert (ROOT / file).exists(), f"there is no {file}"
        assert not name or name in _functions(ROOT / file), f"{file} has no {name}"


def test_no_two_mutations_have_one_name() -> None:
    names = [change.name for change in MUTATIONS]
    assert len(names) == len(set(names))


def test_a_mutation_of_text_that_is_gone_does_not_pass_unnoticed(tmp_path: Path) -> None:
    (tmp_path / "file.py").write_text("a = 1\n")
    with pytest.raises(DoesNotApplyError):
        list(mutated(mutation("gone", "file.py", "b = 2", "b = 3"), tmp_path))


def test_a_catcher_that_fails_without_the_mutation_too_catches_nothing(tmp_path: Path) -> None:
    (tmp_path / "test_good.py").write_text("def test_it():\n    assert True\n")
    (tmp_path / "test_bad.py").write_text("def test_it():\n    assert False\n")
    baseline = Baseline(tmp_path)
    assert baseline.trouble(mutation("any", "file.py", "a", "b", "test_good.py")) == []
    (why,) = baseline.trouble(mutation("any", "file.py", "a", "b", "test_good.py", "test_bad.py"))
    assert why.startswith("test_bad.py (without the mutation: pytest ended with 1: ")


def test_a_catcher_that_is_killed_or_takes_all_memory_is_told_as_what_it_is(tmp_path: Path) -> None:
    (tmp_path / "test_killed.py").write_text("import os\ndef test_it():\n    os.kill(os.getpid(), 9)\n")
    (tmp_path / "test_hungry.py").write_text(f"def test_it():\n    bytearray({MOST_BYTES})\n")
    killed, hungry = Baseline(tmp_path).trouble(
        mutation("any", "file.py", "a", "b", "test_killed.py", "test_hungry.py")
    )
    assert killed.startswith("test_killed.py (without the mutation: pytest was killed by SIGKILL: ")
    assert hungry.startswith("test_hungry.py (without the mutation: pytest ended with 1: ")


@pytest.mark.parametrize("text", ["malformed", "", "1", "0/3", "4/3", "1/0", "-1/3", "1/2/3", "1/ 3"])
def test_a_share_that_is_none_is_told_in_one_line(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main([f"--share={text}", "--list"])
    assert ended.value.code == 2
    assert f"{text!r} is no share" in capsys.readouterr().err.splitlines()[-1]


def test_each_share_is_two_numbers() -> None:
    assert [share("1/1"), share("3/3")] == [(1, 1), (3, 3)]
