"""A guest's snapshot, disk by disk: where PVE keeps each, what stands on it, and the word of all together."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from typing import NamedTuple

from snapshot.base.aside import Aside
from snapshot.base.clock import Clock
from snapshot.base.text import clean
from snapshot.disk.blocks import MOST_SECONDS, Blocks, Budget, CannotTellError
from snapshot.disk.examine import words_of
from snapshot.disk.where import snapshot_of
from snapshot.disk.word import FilesystemWord, together
from snapshot.model import AtRest, DiskWord, Guest, GuestKind
from snapshot.preflight.disks import disks
from snapshot.pve.guests import GuestApi

MOST_FILESYSTEMS = 256
"""Of one guest."""

GRACE_SECONDS = 5.0
"""How long after a disk's own limit its reading may take to notice it."""

_NO_FILESYSTEM = ("efidisk", "tpmstate")

OpenVolume = Callable[[str, str, Budget], AbstractContextManager[Blocks]]
"""Opens a volume's snapshot by both names: ``where.snapshot_of``."""


class Verified(NamedTuple):
    """What the disks of one snapshot say."""

    word: DiskWord
    filesystems: tuple[FilesystemWord, ...] = ()


def verify(
    guest: Guest,
    snapshot: str,
    api: GuestApi,
    clock: Clock,
    open_volume: OpenVolume = snapshot_of,
    *,
    seconds: float = math.inf,
) -> Verified:
    """The word of each filesystem in the snapshot, and of all. Reads on this node alone, and only reads; ``seconds``
    for all disks together, MOST_SECONDS for each.

    A storage that hangs keeps a thread of ours, not the caller; no further disk is asked then.

    Raises the errors of Transport.request; nothing that a disk holds raises anything.
    """
    if guest.kind is GuestKind.LXC:
        return Verified(DiskWord(AtRest.CANNOT_TELL, "a container's filesystems are the node's own: nothing tells"))
    until = clock.monotonic() + seconds

    def of_disk(key: str, volume: str) -> tuple[FilesystemWord, ...]:
        limit = max(0.0, min(MOST_SECONDS, until - clock.monotonic()))
        budget = Budget(clock, seconds=limit)
        reading = Aside(lambda: tuple(_of_disk(key, lambda: open_volume(volume, snapshot, budget))), f"reads {key}")
        return reading.result(limit + GRACE_SECONDS)

    found = tuple(_words(guest, api.snapshot_config(guest, snapshot), of_disk))
    return Verified(together(found), found)


def _words(
    guest: Guest, config: Mapping[str, object], of_disk: Callable[[str, str], tuple[FilesystemWord, ...]]
) -> Iterator[FilesystemWord]:
    count, hangs = 0, ""
    for key, volume in disks(guest, config):
        if key.startswith(_NO_FILESYSTEM):
            continue
        try:
            words = () if hangs else of_disk(key, volume)
        except TimeoutError:
            hangs = key
        if hangs:
            why = "its storage does not answer" if hangs == key else f"not looked at: the storage of {hangs} hangs"
            words = (FilesystemWord(key, "", AtRest.CANNOT_TELL, why),)
        for word in words:
            count += 1
            if count > MOST_FILESYSTEMS:
                yield FilesystemWord(key, "", AtRest.CANNOT_TELL, "there are more filesystems than are looked at")
                return
            yield word


def _of_disk(key: str, opened: Callable[[], AbstractContextManager[Blocks]]) -> Iterator[FilesystemWord]:
    """Of one disk, no more than are looked at, and one."""
    return itertools.islice(_all_of_disk(key, opened), MOST_FILESYSTEMS + 1)


def _all_of_disk(key: str, opened: Callable[[], AbstractContextManager[Blocks]]) -> Iterator[FilesystemWord]:
    try:
        with opened() as blocks:
            yield from words_of(blocks, key)
    except CannotTellError as error:
        yield FilesystemWord(key, "", AtRest.CANNOT_TELL, str(error))
    except OSError as error:
        why = clean(f"its volume cannot be read: {error.strerror or error}", 160)
        yield FilesystemWord(key, "", AtRest.CANNOT_TELL, why)
    except Exception as bug:  # noqa: BLE001 - what a guest wrote must not end a run, whatever it has found in us
        why = f"an error of ours while it was read ({type(bug).__name__}): please report it"
        yield FilesystemWord(key, "", AtRest.CANNOT_TELL, why)
