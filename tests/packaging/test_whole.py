"""`make package-test` has no test that was only skipped."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tests.packaging.debian import CHECKOUT

SOME = """
import pytest

@pytest.mark.parametrize("suite", ["bookworm", "trixie"])
def test_in(suite): pass

def test_beside(): pass
"""
SKIPPED = """
def test_without(): pytest.skip("gpg is not installed")

@pytest.mark.skipif(True, reason="zsh is not installed")
def test_unmarked(): pass
"""


def run(path: Path) -> subprocess.CompletedProcess[str]:
    plugin = ["-p", "tests.packaging.whole", "-p", "no:cacheprovider"]
    return subprocess.run(
        [sys.executable, "-m", "pytest", *plugin, path], cwd=CHECKOUT, capture_output=True, text=True, check=False
    )


def test_what_is_skipped_fails_and_what_ran_is_counted(tmp_path: Path) -> None:
    path = tmp_path / "test_some.py"
    path.write_text(SOME)
    done = run(path)
    counts = "package-test: tests passed: 1 in Debian 12, 1 in Debian 13, 1 of the package itself\n"
    assert done.returncode == 0, done.stdout
    assert counts in done.stdout
    path.write_text(SOME + SKIPPED)
    done = run(path)
    assert done.returncode == 1, done.stdout
    assert counts in done.stdout
    assert "not tried here: Skipped: gpg is not installed" in done.stdout
    assert "not tried here: Skipped: zsh is not installed" in done.stdout


def test_the_target_runs_with_it() -> None:
    assert "-m pytest -p tests.packaging.whole " in (CHECKOUT / "scripts/package-test").read_text()
