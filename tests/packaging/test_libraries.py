"""scripts/test-libraries: what it calls tested was run, and with the libraries that it names."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).resolve().parents[2]
SCRIPT = CHECKOUT / "scripts/test-libraries"
SETS = {
    release: dict(pin.split("==") for pin in pins.split())
    for release, pins in re.findall(r'^ +(\d+)\) echo "(.+)" ;;$', SCRIPT.read_text(), re.MULTILINE)
}
NEWER = {name: f"{version}.1" for name, version in SETS["13"].items()}
PYTHON = f"""#!/bin/sh
case "$*" in
  *platform*) echo 3.11.0 ;;
  "-m pip "*) ;;
  "-m pytest "*) echo "== $PYTEST in 1.00s =="; exit $STATUS ;;
  *) PYTHONPATH=${{0%/bin/python}}/site exec {sys.executable} "$@" ;;
esac
"""


def ran(
    tmp_path: Path, libraries: str, has: dict[str, str], says: str = "7 passed", status: int = 0
) -> tuple[int, str]:
    """Its exit status and last line, in an environment that ``has`` these libraries and whose pytest ``says`` that."""
    venv = tmp_path / f"libraries/{libraries}-3.11.0"
    (venv / "bin").mkdir(parents=True)
    (venv / "bin/python").write_text(PYTHON)
    (venv / "bin/python").chmod(0o755)
    for name, version in has.items():
        metadata = venv / f"site/{name.replace('-', '_')}-{version}.dist-info/METADATA"
        metadata.parent.mkdir(parents=True)
        metadata.write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
    done = subprocess.run(
        [SCRIPT, "--libraries", libraries, "--python", venv / "bin/python", "tests/unit"],
        env={**os.environ, "LAB_CACHE": str(tmp_path), "PYTEST": says, "STATUS": str(status)},
        capture_output=True,
        text=True,
        check=False,
    )
    return done.returncode, done.stdout.splitlines()[-1]


def test_the_lower_bounds_are_debian_12s_and_there_are_no_upper_ones() -> None:
    """It is those that the tests run with."""
    needed = tomllib.loads((CHECKOUT / "pyproject.toml").read_text())["project"]["dependencies"]
    assert sorted(needed) == sorted(f"{name}>={version}" for name, version in SETS["12"].items() if name != "urllib3")


@pytest.mark.parametrize(("libraries", "has"), [("12", SETS["12"]), ("13", SETS["13"]), ("newest", NEWER)])
def test_the_line_of_a_combination_has_its_versions_and_counts(
    tmp_path: Path, libraries: str, has: dict[str, str]
) -> None:
    code, line = ran(tmp_path, libraries, has)
    assert code == 0
    assert line.endswith(f": {', '.join(f'{name} {version}' for name, version in has.items())}: 7 passed in 1.00s")


@pytest.mark.parametrize(
    ("libraries", "has"),
    [
        ("12", {**SETS["12"], "tenacity": "8.2.2"}),
        ("13", {**SETS["13"], "urllib3": "1.26.12"}),
        ("newest", SETS["13"]),
        ("newest", {**NEWER, "proxmoxer": SETS["13"]["proxmoxer"]}),
    ],
)
def test_an_environment_that_quietly_has_other_versions_is_not_called_tested(
    tmp_path: Path, libraries: str, has: dict[str, str]
) -> None:
    code, line = ran(tmp_path, libraries, has)
    assert code == 1
    assert "NOT RUN: the environment has click" in line


def test_tests_that_fail_or_are_not_there_fail_the_target(tmp_path: Path) -> None:
    code, line = ran(tmp_path, "12", SETS["12"], "no tests ran", 5)
    assert code == 1
    assert "FAILED" in line


def test_a_python_that_is_not_here_fails_the_target(tmp_path: Path) -> None:
    done = subprocess.run(
        [SCRIPT, "--libraries", "12", "--python", tmp_path / "python3.11"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert "NOT RUN: no such Python" in done.stdout
