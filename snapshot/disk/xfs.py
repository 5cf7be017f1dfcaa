"""XFS: is the last thing in its log what a freeze writes?

A freeze writes everything out and then covers the log: it logs the superblock alone and writes it back (kernel 5.12 and
later; fs/xfs/xfs_log.c, xfs_log_cover). Before, it wrote an unmount record, logged the superblock, and did not write it
back: cannot tell. An unmount leaves an unmount record. An XFS in which nothing was logged for a minute covers its log
too: at rest on the disk then, freeze or not.

So it was at rest where the newest record changes the superblock alone, the superblock names that record as its own, and
nothing older than the record in front of it was still to be written back when it was logged, as its tail says. Whatever
else the newest record changes, it was in use.

Layout: fs/xfs/libxfs/xfs_log_format.h. The log is a ring of sectors, each of which carries the number of its round
(``cycle``) in front; what that overwrote stands in its record's header.
"""

from __future__ import annotations

from snapshot.disk.blocks import Blocks, CannotTellError
from snapshot.disk.xfslog import Log, open_ring
from snapshot.disk.xfsops import Content, content_of
from snapshot.model import AtRest


def is_xfs(blocks: Blocks) -> bool:
    """Whether XFS's magic number stands where it should."""
    return blocks.size >= 512 and blocks.read(0, 4) == b"XFSB"


def judge(blocks: Blocks) -> tuple[AtRest, str]:
    """Its word and why. CannotTellError."""
    ring = open_ring(blocks)
    log = Log(ring)
    newest = log.newest()
    if ring.superblock_lsn > newest.lsn:
        raise CannotTellError("its superblock is newer than its log")
    content = content_of(ring, newest)
    if content is Content.OTHER:
        return AtRest.NOT_CLEAN, "it was in use: the last thing in its log is a change that a mount replays"
    if content is Content.UNMOUNT:
        # In front of it the superblock was logged and written back, but by mkfs, which has logged nothing.
        if newest.is_first or ring.superblock_lsn != log.before(newest).lsn:
            raise CannotTellError("it was unmounted, or never mounted, but its superblock does not bear that out")
        return AtRest.CLEAN, "it was at rest: its log ends with an unmount"
    if ring.superblock_lsn != newest.lsn:
        raise CannotTellError("its superblock was logged last and is not written back, as it is in a freeze")
    if newest.tail > newest.lsn:
        raise CannotTellError("its log names a tail that makes no sense")
    if newest.tail != newest.lsn and newest.tail != log.before(newest).lsn:
        raise CannotTellError("its superblock was logged while older changes were still to be written back")
    return AtRest.CLEAN, "it was at rest: its log ends with the superblock, as a freeze leaves it"
