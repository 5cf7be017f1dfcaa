"""What test folders share: real guests with one place that decides between skipping and failing."""

from __future__ import annotations

import functools
import os
from pathlib import Path
from typing import Any

import pytest

from tests.lab.guest.image import blank_disk, image
from tests.lab.guest.real import RealGuest
from tests.lab.packages import LabUnavailableError, tool

_TOOLS = ("qemu-system-x86_64", "qemu-img", "debugfs", "xfs_db", "xfs_logprint")


@functools.cache
def _why_not() -> str | None:
    try:
        for name in _TOOLS:
            tool(name)
        image()
        blank_disk("ext4")
    except LabUnavailableError as error:
        return str(error)
    return None


def why_no_real() -> str:
    """Why real guests cannot be built here, "" when they can."""
    return _why_not() or ""


def real_available() -> bool:
    """Whether real guests can be built here; builds or downloads what is missing."""
    return _why_not() is None


def require_real() -> None:
    """Skip the test when real guests cannot run here; with ``LAB_REQUIRED=1`` (CI, ``make test``) fail it instead."""
    why = _why_not()
    if why is None:
        return
    if os.environ.get("LAB_REQUIRED") == "1":
        pytest.fail(f"LAB_REQUIRED=1, and there are no real guests here: {why}", pytrace=False)
    pytest.skip(f"no real guests here: {why}")


def real_guest(vmid: int, run: Path, **options: Any) -> RealGuest:
    """A RealGuest, not yet started, after ``require_real``. Arguments as for RealGuest."""
    require_real()
    return RealGuest(vmid, run, **options)
