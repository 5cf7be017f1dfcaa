"""The window is as short as the platform allows: what must not stand inside it."""

from __future__ import annotations

import pytest

from snapshot.model import Policy
from tests.engine import inprocess
from tests.lab.site import Site


@pytest.mark.parametrize("longest", [30, 12, 9])
def test_no_connection_is_opened_between_the_freeze_and_the_snapshot_request(lab: Site, longest: int) -> None:
    """Each time limit has a connection of its own (snapshot.pve.https): those in use before the freeze are open."""
    lab.write_config(freeze={"max_window_seconds": longest})
    limits: list[tuple[str, float]] = []
    result = inprocess.snapshot(lab, "s1", Policy.REQUIRE, limits)
    assert result.exit_code == 0, result
    requests = [request for request, _ in limits]
    frozen = next(n for n, request in enumerate(requests) if request.endswith("/fsfreeze-freeze"))
    thawed = next(n for n, request in enumerate(requests) if request.endswith("/fsfreeze-thaw"))
    opened = {limit for _, limit in limits[: frozen + 1]}
    assert [entry for entry in limits[frozen + 1 : thawed] if entry[1] not in opened] == []
