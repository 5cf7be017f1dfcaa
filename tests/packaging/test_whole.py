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

def test_without(): pytest.skip("gpg is not installed")

@pytest.mark.skipif(True, reason="zsh is not installed")
def test_unmarked(): pass
"""


def test_what_is_skipped_fails_and_what_ran_is_counted(tmp_path: Path) -> None:
    path = tmp_path / "test_some.py"
    path.write_text(SOME)
    plugin = ["-p", "tests.packaging.whole", "-p", "no:cacheprovider"]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *plugin, path], cwd=CHECKOUT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 1, done.stdout
    assert "package-test: tests passed: 1 in Debian 12, 1 in Debian 13, 1 of the package itself\n" in done.stdout
    assert "not tried here: Skipped: gpg is not installed" in done.stdout
    assert "not tried here: Skipped: zsh is not installed" in done.stdout


def test_the_target_runs_with_it() -> None:
    assert "-m pytest -p tests.packaging.whole " in (CHECKOUT / "scripts/package-test").read_text()
