"""What a package index is told of us, and that the wheel has all of the program and nothing else."""

from __future__ import annotations

import tomllib
import zipfile
from pathlib import Path

from hatchling import build

CHECKOUT = Path(__file__).resolve().parents[2]
PROJECT = tomllib.loads((CHECKOUT / "pyproject.toml").read_text())["project"]
OLDEST_BACK_END = "hatchling>=1.12"
"""Debian 12's."""


def test_the_licence_is_an_expression_and_said_once() -> None:
    """The form before it, a table, is taken no more from 2027-02-18 on; nor is a classifier beside an expression."""
    assert PROJECT["license"] == "MIT"
    assert not [one for one in PROJECT["classifiers"] if one.startswith("License ::")]


def test_the_back_end_is_one_that_debian_12_has_too() -> None:
    system = tomllib.loads((CHECKOUT / "pyproject.toml").read_text())["build-system"]
    assert system == {"requires": [OLDEST_BACK_END], "build-backend": "hatchling.build"}
    assert "Programming Language :: Python :: 3.13" not in PROJECT["classifiers"], "hatchling 1.12 ends at it"


def test_an_index_is_told_who_where_and_how_ready() -> None:
    (author,) = PROJECT["authors"]
    assert author["name"] in (CHECKOUT / "LICENSE").read_text()
    assert {"Homepage", "Documentation", "Changelog", "Issues"} <= set(PROJECT["urls"])
    assert [one for one in PROJECT["classifiers"] if one.startswith("Development Status ::")]


def test_the_wheel_has_every_file_of_the_two_packages_and_nothing_beside(tmp_path: Path) -> None:
    name = build.build_wheel(str(tmp_path))
    with zipfile.ZipFile(tmp_path / name) as wheel:
        inside = {one for one in wheel.namelist() if ".dist-info/" not in one}
    ours = {
        str(path.relative_to(CHECKOUT))
        for package in ("snapshot", "vzdump_hooks")
        for path in (CHECKOUT / package).rglob("*")
        if path.is_file() and path.suffix != ".pyc"
    }
    assert inside == ours
    assert {"snapshot/py.typed", "snapshot/setup/sample.toml", "vzdump_hooks/py.typed"} <= inside
