"""Mutated disks: whatever one changed block holds, nothing crashes, reads are bounded, and no word is wrong.

A word is wrong when a disk that was in use is called clean, or one that was at rest is called not-clean: the change may
only turn either into "cannot tell". Run by hand: ``python -m tests.disk.fuzz --blocks 1000000``.
"""

from __future__ import annotations

import argparse
import random
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from typing import NamedTuple

from snapshot.disk.blocks import MOST_BYTES, MOST_READS, Bounded, Budget, CannotTellError
from snapshot.disk.examine import words_of
from snapshot.disk.layout import ESP
from snapshot.disk.qcow2 import Qcow2Snapshot
from snapshot.disk.word import together
from snapshot.model import AtRest, DiskWord
from tests.disk.kit import LINUX, MIB, Logged, Memory, ext4, extended, gpt, lvm, mbr, xfs
from tests.disk.qcow2kit import qcow2
from tests.unit.kit import VirtualClock

BUSY = [Logged("inode"), Logged("inode")]


class Subject(NamedTuple):
    """A disk to be mutated, how it is looked at, and what it says when it is whole."""

    name: str
    disk: Memory
    look: Callable[[Memory], DiskWord]
    word: AtRest


def plain(disk: Memory) -> DiskWord:
    """As a raw volume."""
    budget = Budget(VirtualClock())
    found = together(words_of(Bounded(disk, budget), "scsi0"))
    assert budget.bytes_left > -MOST_BYTES, "read on beyond its bound"
    return found


def as_qcow2(disk: Memory) -> DiskWord:
    """As a qcow2 file with a snapshot ``snap``."""
    budget = Budget(VirtualClock())
    try:
        return together(words_of(Qcow2Snapshot(Bounded(disk, budget), "snap"), "scsi0"))
    except CannotTellError as error:
        return DiskWord(AtRest.CANNOT_TELL, str(error))


def subjects() -> Iterator[Subject]:
    """Each kind of disk, at rest and in use."""
    for word, is_used in ((AtRest.CLEAN, False), (AtRest.NOT_CLEAN, True)):
        one = ext4(needs_recovery=is_used)
        bare = ext4(needs_recovery=is_used, checksum=False)
        log = xfs([*BUSY] if is_used else [*BUSY, Logged("sb"), Logged("sb")], first_at=20, cycle=3, sectors=512)
        fresh = xfs([Logged("unmount"), *BUSY] if is_used else [*BUSY, Logged("sb")], sectors=512)
        for name, image in {
            "ext4": one,
            "ext4 without checksums": bare,
            "xfs": log,
            "xfs in its first round": fresh,
            "mbr": mbr([(0x83, one), (0x83, log)], 16 * MIB),
            "logical": extended([bare, one], 8 * MIB),
            "gpt": gpt([(ESP, bytes(MIB)), (LINUX, one), (LINUX, log)], 16 * MIB),
            "lvm": lvm({"root": one, "wide": one}),
            "gpt with both": gpt([(LINUX, ext4(needs_recovery=False)), (LINUX, one), (LINUX, log)], 16 * MIB),
            "lvm with both": lvm({"root": ext4(needs_recovery=False), "wide": one}),
        }.items():
            yield Subject(name, Memory(image), plain, word)
        yield Subject("qcow2", Memory(qcow2(one)), as_qcow2, word)


_INTERESTING = (0, 1, 0x7F, 0x80, 0xFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, 0x7FFFFFFFFFFFFFFF, 0xFFFFFFFFFFFFFFFF)


def mutate(block: bytearray, random_: random.Random, other: bytes) -> None:
    """One of several kinds of change, in place. ``other``: another block of the same disk."""
    kind = random_.randrange(7)
    if kind == 0:
        for _ in range(random_.randint(1, 8)):
            block[random_.randrange(len(block))] ^= 1 << random_.randrange(8)
    elif kind == 1:
        at = random_.randrange(len(block))
        run = random_.randbytes(min(len(block) - at, random_.randint(1, 64)))
        block[at : at + len(run)] = run
    elif kind == 2:
        width = random_.choice((1, 2, 4, 8))
        at = random_.randrange(0, len(block) - width + 1)
        value = random_.choice(_INTERESTING) & ((1 << 8 * width) - 1)
        block[at : at + width] = value.to_bytes(width, random_.choice(("little", "big")))
    elif kind == 3:
        block[:] = random_.randbytes(len(block))
    elif kind == 4:
        block[:] = bytes(len(block))
    elif kind == 5:
        at = random_.randrange(len(block))
        block[at:] = bytes(len(block) - at)
    else:
        block[:] = other


class Tally(NamedTuple):
    """How many blocks were mutated, what was said, and which words were wrong."""

    said: Counter[str]
    wrong: list[str]


def touched(subject: Subject, size: int, longest: int) -> list[int]:
    """The blocks that are looked at, by readings of up to ``longest`` bytes: others cannot matter."""
    seen: set[int] = set()
    read = subject.disk.read

    def noting(offset: int, length: int) -> bytes:
        if length <= longest:
            seen.update(range(offset // size, -(-(offset + length) // size)))
        return read(offset, length)

    subject.disk.read = noting  # type: ignore[method-assign]
    try:
        found = subject.look(subject.disk)
    finally:
        subject.disk.read = read  # type: ignore[method-assign]
    assert found.word is subject.word, (subject.name, found)
    return sorted(number for number in seen if (number + 1) * size <= len(subject.disk.data))


def run(blocks: int, seed: int) -> Tally:
    """Mutate ``blocks`` blocks, one at a time, over all subjects."""
    random_ = random.Random(seed)
    everything = list(subjects())
    sizes, reaches = (512, 4096), (16 << 10, 16 << 10, MOST_BYTES)  # two of three where single structures are
    places = {(id(s), size, reach): touched(s, size, reach) for s in everything for size in sizes for reach in reaches}
    said: Counter[str] = Counter()
    wrong: list[str] = []
    for number in range(blocks):
        subject = everything[number % len(everything)]
        size = random_.choice(sizes)
        where = places[id(subject), size, random_.choice(reaches)]
        place = random_.choice(where) * size
        kept = bytes(subject.disk.data[place : place + size])
        block = bytearray(kept)
        at = random_.choice(where) * size
        mutate(block, random_, bytes(subject.disk.data[at : at + size]))
        subject.disk.data[place : place + size] = block
        subject.disk.reads = subject.disk.bytes_read = 0
        found = subject.look(subject.disk)
        assert subject.disk.reads <= MOST_READS, subject.name
        assert subject.disk.bytes_read <= MOST_BYTES, subject.name
        said[f"{subject.name}, {subject.word.value}: {found.word.value}"] += 1
        if found.word not in (subject.word, AtRest.CANNOT_TELL):
            wrong.append(f"{subject.name}, block {number} at {place}: {subject.word.value} became {found}")
        subject.disk.data[place : place + size] = kept
    return Tally(said, wrong)


def main() -> None:
    """Mutate as many as asked for, and print what was said."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--blocks", type=int, default=1_000_000)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    tally = run(options.blocks, options.seed)
    for what, count in sorted(tally.said.items()):
        print(f"{count:8} {what}")
    print(f"{options.blocks} mutated blocks, seed {options.seed}: {len(tally.wrong)} wrong words")
    for line in tally.wrong[:20]:
        print(line)
    sys.exit(1 if tally.wrong else 0)


if __name__ == "__main__":
    main()
