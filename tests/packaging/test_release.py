"""What may be released: CHANGELOG, version and tags have to agree, and nothing may be left out of the commit."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.packaging.debian import CHECKOUT

GOOD = "# Changelog\n\n## Unreleased\n\n## 1.2.0 - 2026-12-01\n\n- New.\n\n## 1.1.9 - 2026-11-01\n\n- Old.\n"


def git(tree: Path, *words: str) -> None:
    who = ["-c", "user.name=a", "-c", "user.email=a@b.example"]
    subprocess.run(["git", *who, *words], cwd=tree, check=True, capture_output=True)


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A repository with no more than a release is judged by."""
    (tmp_path / "scripts").mkdir()
    shutil.copy(CHECKOUT / "scripts/release", tmp_path / "scripts")
    (tmp_path / "pyproject.toml").write_text('[project]\nname = "vzdump-hooks"\nversion = "1.2.0"\n')
    (tmp_path / "CHANGELOG.md").write_text(GOOD)
    git(tmp_path, "init", "--quiet")
    git(tmp_path, "add", "--all")
    git(tmp_path, "commit", "--quiet", "--message", "all")
    return tmp_path


def judged(tree: Path) -> tuple[int, str]:
    done = subprocess.run(
        [tree / "scripts/release", "--check"],
        capture_output=True,
        text=True,
        env={"PATH": os.environ["PATH"], "HOME": str(tree)},
        check=False,
    )
    return done.returncode, done.stderr


def test_what_agrees_may_be_released(tree: Path) -> None:
    assert judged(tree) == (0, "release: 1.2.0 of 2026-12-01\n")
    git(tree, "tag", "v1.2.0")
    assert judged(tree)[0] == 0, "its own tag"


BAD = {
    "another version": (GOOD.replace("## 1.2.0", "## 1.3.0"), "it has to be '1.2.0 - <day>'"),
    "no day": (GOOD.replace(" - 2026-12-01", ""), "it has to be '1.2.0 - <day>'"),
    "a day that is none": (GOOD.replace("2026-12-01", "2026-13-01"), "2026-13-01 is no day"),
    "no version": ("# Changelog\n\n## Unreleased\n", "its newest version is 'none'"),
    "something unreleased": (GOOD.replace("Unreleased\n", "Unreleased\n\n- Half done.\n"), "still: - Half done."),
    "an older one that is not": (GOOD.replace("1.1.9", "1.10.0"), "1.10.0 stands below 1.2.0 and is not older"),
    "twice the same": (GOOD.replace("1.1.9", "1.2.0"), "1.2.0 stands below 1.2.0 and is not older"),
}


@pytest.mark.parametrize("case", BAD)
def test_what_does_not_agree_is_not_released(tree: Path, case: str) -> None:
    text, said = BAD[case]
    (tree / "CHANGELOG.md").write_text(text)
    git(tree, "commit", "--quiet", "--all", "--message", "bad")
    status, shown = judged(tree)
    assert status == 1
    assert said in shown
    assert len(shown.splitlines()) == 1


def test_what_is_not_committed_is_not_released(tree: Path) -> None:
    (tree / "new").touch()
    assert judged(tree) == (1, "release: there is something uncommitted: git status\n")


def test_a_tag_of_another_commit_is_not_released_again(tree: Path) -> None:
    git(tree, "tag", "v1.2.0")
    git(tree, "commit", "--quiet", "--allow-empty", "--message", "more")
    assert judged(tree) == (1, "release: v1.2.0 is another commit's tag: raise the version\n")
