"""Generated files are up to date with the code they are generated from."""

from __future__ import annotations

import subprocess
import sys

import pytest

from scripts.generators import ROOT, generated

FILES = list(generated())


@pytest.mark.parametrize(("path", "text"), FILES, ids=[str(path.relative_to(ROOT)) for path, _ in FILES])
def test_a_generated_file_is_what_its_generator_writes(path: object, text: str) -> None:
    assert path.read_text("utf-8") == text, "run: .venv/bin/python scripts/generate-docs"  # type: ignore[attr-defined]


def test_the_script_checks_without_writing() -> None:
    done = subprocess.run(
        [sys.executable, ROOT / "scripts" / "generate-docs", "--check"], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (0, "")
