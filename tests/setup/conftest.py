"""What the tests of setup share."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest


@pytest.fixture
def folder() -> Iterator[Path]:
    """In memory where that can be: some hundred setups, each of which waits for a disk again and again."""
    memory = "/dev/shm"
    with tempfile.TemporaryDirectory(prefix="setup-", dir=memory if os.access(memory, os.W_OK) else None) as name:
        yield Path(name)
