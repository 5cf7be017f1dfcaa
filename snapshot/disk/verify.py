"""A guest's snapshot, disk by disk: where PVE keeps each, what stands on it, and the word of all together."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from typing import NamedTuple

from snapshot.base.clock import Clock
from snapshot.base.text import clean
from snapshot.disk.blocks import Blocks, Budget, CannotTellError
from snapshot.disk.examine import words_of
from snapshot.disk.where import snapshot_of
from snapshot.disk.word import DiskWord, FilesystemWord, Word, together
from snapshot.model import Guest, GuestKind
from snapshot.preflight.disks import disks
from snapshot.pve.guests import GuestApi

MOST_FILESYSTEMS = 256
"""Of one guest."""

_NO_FILESYSTEM = ("efidisk", "tpmstate")

OpenVolume = Callable[[str, str, Budget], AbstractContextManager[Blocks]]
"""Opens a volume's snapshot by both names: ``where.snapshot_of``."""


class Verified(NamedTuple):
    """What the disks of one snapshot say."""

    word: DiskWord
    filesystems: tuple[FilesystemWord, ...] = ()


def verify(guest: Guest, snapshot: str, api: GuestApi, clock: Clock, open_volume: OpenVolume = snapshot_of) -> Verified:
    """The word of each filesystem in the snapshot, and of all. Reads on this node alone, and only reads.

    Raises the errors of Transport.request; nothing that a disk holds raises anything.
    """
    if guest.kind is GuestKind.LXC:
        return Verified(DiskWord(Word.CANNOT_TELL, "a container's filesystems are the node's own: nothing tells"))
    found = tuple(_words(guest, api.snapshot_config(guest, snapshot), snapshot, clock, open_volume))
    return Verified(together(found), found)


def _words(
    guest: Guest, config: Mapping[str, object], snapshot: str, clock: Clock, open_volume: OpenVolume
) -> Iterator[FilesystemWord]:
    count = 0
    for key, volume in disks(guest, config):
        if key.startswith(_NO_FILESYSTEM):
            continue
        for word in _of_disk(key, volume, snapshot, clock, open_volume):
            count += 1
            if count > MOST_FILESYSTEMS:
                yield FilesystemWord(key, "", Word.CANNOT_TELL, "there are more filesystems than are looked at")
                return
            yield word


def _of_disk(key: str, volume: str, snapshot: str, clock: Clock, open_volume: OpenVolume) -> Iterator[FilesystemWord]:
    try:
        with open_volume(volume, snapshot, Budget(clock)) as blocks:
            yield from words_of(blocks, key)
    except CannotTellError as error:
        yield FilesystemWord(key, "", Word.CANNOT_TELL, str(error))
    except OSError as error:
        why = clean(f"its volume cannot be read: {error.strerror or error}", 160)
        yield FilesystemWord(key, "", Word.CANNOT_TELL, why)
