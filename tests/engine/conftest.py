"""Sites for the engine's tests: a scripted guest on a lab node, fresh for each test."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.engine.kit import QUICK_LIMITS
from tests.lab.guest.scripted import ScriptedGuest
from tests.lab.site import Site, site


@pytest.fixture
def lab() -> Iterator[Site]:
    """A scripted guest 100 on the node pve1, and our commands."""
    with site(ScriptedGuest, limits=dict(QUICK_LIMITS)) as found:
        yield found
        assert found.node.server_log() == "", found.node.server_log()


@pytest.fixture
def guest(lab: Site) -> ScriptedGuest:
    """The lab's guest."""
    found = lab.guest
    assert isinstance(found, ScriptedGuest)
    return found
