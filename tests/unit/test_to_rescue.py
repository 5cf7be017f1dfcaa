"""Which guest a thaw by hand is for."""

from __future__ import annotations

import contextlib
from pathlib import Path

import pytest

from snapshot.config.settings import Config, JournalConfig
from snapshot.errors import GuestRemovedError
from snapshot.journal.store import Journal
from snapshot.model import Vmid
from snapshot.pve.access import Access
from snapshot.recovery.byhand import guest_to_thaw
from tests.unit.kit import ScriptedTransport, VirtualClock, record

OTHERS = [{"vmid": 7, "type": "qemu", "node": "pve1", "status": "running"}]


def test_a_guest_with_an_open_window_is_tried_whatever_one_hosts_list_says(tmp_path: Path) -> None:
    path = tmp_path / "journal.sqlite"
    access = Access(
        Config(journal=JournalConfig(path=path)), VirtualClock(), ScriptedTransport({"cluster/resources": OTHERS}), ""
    )
    with pytest.raises(GuestRemovedError):
        guest_to_thaw(access, Vmid(100))
    assert not path.exists(), "a look makes no journal"
    with contextlib.closing(Journal(path)) as journal:
        journal.begin(record(state="frozen"))
    assert guest_to_thaw(access, Vmid(100)).node == "pve1"
    with pytest.raises(GuestRemovedError):
        guest_to_thaw(access, Vmid(101))
