"""Many separate runs at once on one node, each with a guard of its own: every guest is frozen, every run recorded."""

from __future__ import annotations

import json

import pytest

from snapshot.journal.record import WindowRecord
from snapshot.pve.turns import WINDOWS_AT_ONCE
from tests.lab.guest.scripted import ScriptedGuest
from tests.lab.site import Site, site

FOR_HANGS = 600.0


def most_at_once(windows: list[WindowRecord]) -> int:
    """The largest number of windows that were open at one instant."""
    edges = [(w.intent_at, 1) for w in windows] + [(w.closed_at or float("inf"), -1) for w in windows]
    most = open_now = 0
    for _, change in sorted(edges):
        open_now += change
        most = max(most, open_now)
    return most


def all_at_once(lab: Site) -> None:
    runs = [lab.start("--json", str(vmid)) for vmid in lab.guests]
    for run in runs:
        out, err = run.communicate(timeout=FOR_HANGS)
        assert run.returncode == 0, f"{out}\n{err}"
        assert json.loads(out)["verdict"]["kind"] == "filesystem-consistent", out
    windows = lab.windows()
    assert {w.vmid for w in windows} == set(lab.guests)
    assert {w.verdict for w in windows} == {"filesystem-consistent"}
    assert all(w.closed_at for w in windows)
    assert most_at_once(windows) <= WINDOWS_AT_ONCE
    metrics = lab.metrics_path.read_text()
    assert [vmid for vmid in lab.guests if f'id="qemu/{vmid}"' not in metrics] == []
    assert not any(guest.is_frozen() for guest in lab.guests.values())


def test_ten_runs_at_once_all_freeze_their_guests_and_are_recorded() -> None:
    with site(*[ScriptedGuest] * 10) as lab:
        all_at_once(lab)


@pytest.mark.slow
@pytest.mark.timeout(FOR_HANGS)
@pytest.mark.parametrize("where", ["on the node", "elsewhere"])
def test_a_hundred_runs_at_once_all_freeze_their_guests_and_are_recorded(where: str) -> None:
    with site(*[ScriptedGuest] * 100) as lab:
        if where == "on the node":
            lab.on_the_node()
        all_at_once(lab)
