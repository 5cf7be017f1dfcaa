"""A lab for what retention does to a guest."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.lab.guest.scripted import ScriptedGuest
from tests.lab.site import Site, site


@pytest.fixture
def lab() -> Iterator[Site]:
    """Guest 100 on the node pve1, shut down: its disk has no say in what is removed."""
    with site(ScriptedGuest) as found:
        found.guest.stop()
        found.settings.setdefault("snapshot", {})["lost_reply_seconds"] = 5.0
        found.write_config()
        yield found
        assert found.node.server_log() == "", found.node.server_log()
