"""All disks of a guest together: which are asked, and what one whose storage hangs costs the others."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import pytest

from snapshot.disk import verify
from snapshot.disk.blocks import Blocks, Bounded, Budget
from snapshot.model import AtRest, Guest
from snapshot.pve.guests import GuestApi
from tests.disk.kit import Memory, ext4
from tests.unit.kit import GUEST, ScriptedTransport, VirtualClock

DISKS = {"scsi0": "st:vm-100-disk-0", "scsi1": "st:vm-100-disk-1", "scsi2": "st:vm-100-disk-2,size=4G"}


class Api(GuestApi):
    """A guest whose snapshot has these disks."""

    def __init__(self, config: Mapping[str, object]) -> None:
        super().__init__(ScriptedTransport({}))
        self._config = config

    def snapshot_config(self, guest: Guest, name: str) -> Mapping[str, object]:
        return self._config


def test_a_storage_that_hangs_costs_its_limit_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(verify, "GRACE_SECONDS", 0.0)
    over, asked = threading.Event(), []

    @contextmanager
    def opened(volume: str, _snapshot: str, budget: Budget) -> Iterator[Blocks]:
        asked.append(volume)
        over.wait()
        yield Bounded(Memory(ext4(needs_recovery=True)), budget)

    try:
        found = verify.verify(GUEST, "s1", Api(DISKS), VirtualClock(), opened, seconds=0.0)
    finally:
        over.set()
    assert found.word.word is AtRest.CANNOT_TELL
    assert [one.reason for one in found.filesystems] == [
        "its storage does not answer",
        *["not looked at: the storage of scsi0 hangs"] * 2,
    ]
    assert asked == ["st:vm-100-disk-0"]


def test_every_disk_has_its_word_and_what_holds_no_filesystem_is_not_asked() -> None:
    @contextmanager
    def opened(volume: str, _snapshot: str, budget: Budget) -> Iterator[Blocks]:
        yield Bounded(Memory(ext4(needs_recovery=volume.endswith("1"))), budget)

    more = {"efidisk0": "st:vm-100-disk-3", "tpmstate0": "st:vm-100-disk-4", "ide2": "iso:x.iso,media=cdrom"}
    found = verify.verify(GUEST, "s1", Api({**DISKS, **more}), VirtualClock(), opened)
    assert [(one.where, one.word) for one in found.filesystems] == [
        ("scsi0", AtRest.CLEAN),
        ("scsi1", AtRest.NOT_CLEAN),
        ("scsi2", AtRest.CLEAN),
    ]
    assert found.word.word is AtRest.NOT_CLEAN


def test_a_fault_of_ours_ends_no_run() -> None:
    @contextmanager
    def opened(_volume: str, _snapshot: str, _budget: Budget) -> Iterator[Blocks]:
        raise ZeroDivisionError
        yield

    found = verify.verify(GUEST, "s1", Api(DISKS), VirtualClock(), opened)
    assert {one.word for one in found.filesystems} == {AtRest.CANNOT_TELL}
    assert "please report it" in found.word.reason
