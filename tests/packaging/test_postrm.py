"""What a purge takes away, by the package's own script on folders of ours."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

POSTRM = Path(__file__).resolve().parents[2] / "contrib/debian/postrm"
PLACES = ("/etc/vzdump-hooks", "/var/lib/vzdump-hooks", "/var/lib/prometheus")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A root folder with all that an administrator may have written."""
    for place in PLACES:
        (tmp_path / place.lstrip("/")).mkdir(parents=True)
    etc = tmp_path / "etc/vzdump-hooks"
    for name in ("config.toml", "token", "webhook", "heartbeat"):
        (etc / name).write_text("x")
    (tmp_path / "var/lib/vzdump-hooks/journal.sqlite").write_text("x")
    return tmp_path


def purge(root: Path) -> None:
    text = POSTRM.read_text().replace("@UNITS@", "")
    for place in PLACES:
        text = text.replace(place, f"{root}{place}")
    assert f"{root}/etc" in text
    subprocess.run(["sh", "-s", "purge"], input=text, text=True, check=True, timeout=60)


def test_a_purge_leaves_own_commands_where_they_are(root: Path) -> None:
    mine = root / "etc/vzdump-hooks/hooks.d/10-mine"
    mine.parent.mkdir()
    mine.write_text("#!/bin/sh\n")
    purge(root)
    assert mine.exists()
    assert [path.name for path in (root / "etc/vzdump-hooks").iterdir()] == ["hooks.d"], "no secret is left"
    assert not (root / "var/lib/vzdump-hooks").exists()


@pytest.mark.parametrize("with_folder", [True, False])
def test_a_purge_leaves_nothing_where_there_are_none(root: Path, *, with_folder: bool) -> None:
    if with_folder:
        (root / "etc/vzdump-hooks/hooks.d").mkdir()
    purge(root)
    assert not (root / "etc/vzdump-hooks").exists()
    purge(root)
