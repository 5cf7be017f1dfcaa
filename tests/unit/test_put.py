"""``files.put``, where an operator said: what stands there may go, or come, at any moment."""

from __future__ import annotations

import os
import threading
from pathlib import Path
from typing import Any

import pytest

from snapshot.base import files


def test_a_file_that_goes_while_it_is_looked_at_is_written_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, look = tmp_path / "page.html", os.stat
    path.write_text("old")

    def goes(seen: Any, **options: Any) -> os.stat_result:
        found = look(seen, **options)
        if os.fspath(seen) == str(path):
            path.unlink(missing_ok=True)
        return found

    monkeypatch.setattr(os, "stat", goes)
    files.put(path, b"new", 0o644)
    monkeypatch.undo()
    assert path.read_bytes() == b"new"


def test_a_pipe_is_written_to_and_stays(tmp_path: Path) -> None:
    path, read = tmp_path / "pipe", []
    os.mkfifo(path)
    reader = threading.Thread(target=lambda: read.append(path.read_bytes()))
    reader.start()
    files.put(path, b"page", 0o644)
    reader.join()
    assert read == [b"page"]
    assert path.is_fifo()


def test_what_cannot_be_looked_at_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="File name too long"):
        files.put(tmp_path / ("x" * 300), b"page", 0o644)
    with pytest.raises(OSError):  # noqa: PT011 - a folder in its place
        files.put(tmp_path, b"page", 0o644)
