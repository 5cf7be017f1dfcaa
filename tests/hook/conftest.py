"""A scripted guest on a node that runs backup jobs, fresh for each test."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.hook.kit import HandMadeJob, by_hand, hook_site
from tests.lab.guest.scripted import ScriptedGuest
from tests.lab.node.tasks import process_called
from tests.lab.site import Site


@pytest.fixture(autouse=True)
def named_like_vzdump() -> Iterator[None]:
    """Where a test plays vzdump, its process is let through to the agent as vzdump is."""
    with process_called("vzdump"):
        yield


@pytest.fixture
def lab() -> Iterator[Site]:
    """A scripted guest 100 on the node pve1."""
    with hook_site() as found:
        yield found


@pytest.fixture
def guest(lab: Site) -> ScriptedGuest:
    """The lab's guest."""
    found = lab.guest
    assert isinstance(found, ScriptedGuest)
    return found


@pytest.fixture
def job(lab: Site, monkeypatch: pytest.MonkeyPatch) -> Iterator[HandMadeJob]:
    """A backup job of guest 100 that the test plays."""
    with by_hand(lab, monkeypatch) as found:
        yield found
