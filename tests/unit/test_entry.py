"""Where the program starts: with our own modules alone, whatever the environment names."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

PROGRAMS = Path(sys.executable).parent
STRANGER = "import pathlib\npathlib.Path(__file__).with_name('ran').touch()\nraise ImportError('a stranger')\n"


@pytest.mark.parametrize(
    ("program", "words", "exit_code"),
    [
        ("safe-snapshot", ["--version"], 0),
        ("safe-snapshot", ["take", "99"], 2),
    ],
)
@pytest.mark.parametrize("stranger", ["click", "snapshot/config", "tomllib"])
def test_no_module_of_a_folder_that_the_environment_names_is_loaded(
    tmp_path: Path, program: str, words: list[str], exit_code: int, stranger: str
) -> None:
    module = tmp_path / f"{stranger}.py"
    module.parent.mkdir(exist_ok=True)
    module.write_text(STRANGER)
    environment = {"PATH": "/usr/bin:/bin", "PYTHONPATH": str(tmp_path)}
    done = subprocess.run(
        [PROGRAMS / program, *words],
        env=environment,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == exit_code, done
    assert not list(tmp_path.rglob("ran"))
    assert "Traceback" not in done.stderr
