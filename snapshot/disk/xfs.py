"""XFS: is the last thing in its log what a freeze writes?

A freeze writes everything out and then covers the log: it logs the superblock alone (kernel 5.12 and later;
fs/xfs/xfs_log.c, xfs_log_cover), or writes an unmount record and then the superblock (before; not tried here). An
unmount leaves an unmount record. An XFS in which nothing was logged for a minute covers its log too: at rest on the
disk then, freeze or not. So the newest record changes the superblock alone, and nothing older than the record in front
of it was still to be written back when it was logged: its tail says so. Whatever else it changes, it was in use.

Layout: fs/xfs/libxfs/xfs_log_format.h. The log is a ring of sectors, each of which carries the number of its round
(``cycle``) in front; what that overwrote stands in its record's header.
"""

from __future__ import annotations

from snapshot.disk.blocks import Blocks, CannotTellError
from snapshot.disk.word import Word
from snapshot.disk.xfslog import Log, open_ring
from snapshot.disk.xfsops import Content, content_of


def is_xfs(blocks: Blocks) -> bool:
    """Whether XFS's magic number stands where it should."""
    return blocks.size >= 512 and blocks.read(0, 4) == b"XFSB"


def judge(blocks: Blocks) -> tuple[Word, str]:
    """Its word and why. CannotTellError."""
    ring = open_ring(blocks)
    log = Log(ring)
    newest = log.newest()
    content = content_of(ring, newest)
    if content is Content.OTHER:
        return Word.NOT_CLEAN, "it was in use: the last thing in its log is a change that a mount replays"
    if content is Content.UNMOUNT:
        return Word.CLEAN, "it was at rest: its log ends with an unmount"
    if newest.tail > newest.lsn:
        raise CannotTellError("its log names a tail that makes no sense")
    if newest.tail != newest.lsn and newest.tail != log.before(newest).lsn:
        raise CannotTellError("its superblock was logged while older changes were still to be written back")
    return Word.CLEAN, "it was at rest: its log ends with the superblock, as a freeze leaves it"
