"""ext4 and XFS: each word only with its evidence, and "cannot tell" for whatever does not fit together."""

from __future__ import annotations

import struct

import pytest

from snapshot.base.crc32c import crc32c
from snapshot.disk.word import FilesystemWord
from snapshot.model import AtRest
from tests.disk import kit
from tests.disk.kit import LOG_AT, SECTOR, Logged, Memory, ext4, word, words, xfs

CLEAN, NOT_CLEAN, CANNOT_TELL = AtRest.CLEAN, AtRest.NOT_CLEAN, AtRest.CANNOT_TELL


def of(image: bytes) -> FilesystemWord:
    (found,) = words(Memory(image))
    return found


def test_the_checksum_is_the_one_that_everybody_means() -> None:
    assert crc32c(b"123456789") ^ 0xFFFFFFFF == 0xE3069283


@pytest.mark.parametrize("checksum", [True, False])
def test_an_ext4_whose_flag_is_off_and_whose_journal_is_empty_was_at_rest(checksum: bool) -> None:
    assert of(ext4(needs_recovery=False, checksum=checksum))[:3] == ("scsi0", "ext4", CLEAN)


@pytest.mark.parametrize("checksum", [True, False])
def test_an_ext4_whose_flag_is_on_was_in_use(checksum: bool) -> None:
    found = of(ext4(needs_recovery=True, checksum=checksum))
    assert found.word is NOT_CLEAN, found
    assert "needs recovery" in found.reason


def test_an_ext4_that_was_just_mounted_was_in_use_though_its_journal_is_empty() -> None:
    assert of(ext4(needs_recovery=True, journal_start=0)).word is NOT_CLEAN


def test_an_ext4_says_whether_its_journal_was_looked_at() -> None:
    image = bytearray(ext4(needs_recovery=False))
    assert of(bytes(image)).reason == "it was at rest: its journal is empty"
    image[1024 + 0xFD] = 0  # no copy of the journal's inode
    image[1024:2048] = kit.sealed_ext4(image[1024:2048])
    assert of(bytes(image)).reason == "it was at rest: its superblock says so, under its checksum"


@pytest.mark.parametrize(
    ("image", "why"),
    [
        (ext4(needs_recovery=False, journal_start=1), "its journal is not empty"),
        (ext4(needs_recovery=True, journal_start=0, checksum=False), "no checksum tells"),
        (ext4(needs_recovery=False, has_journal=False), "it has no journal"),
        (ext4(needs_recovery=False, group=1), "makes no sense"),
    ],
    ids=["full journal", "nothing bears it out", "no journal", "a spare superblock"],
)
def test_an_ext4_whose_witnesses_differ_cannot_tell(image: bytes, why: str) -> None:
    found = of(image)
    assert found.word is CANNOT_TELL, found
    assert why in found.reason


@pytest.mark.parametrize("needs_recovery", [True, False])
def test_an_ext4_flag_that_flips_is_caught_by_the_checksum(needs_recovery: bool) -> None:
    image = bytearray(ext4(needs_recovery=needs_recovery))
    image[1024 + 0x60] ^= 4
    found = of(bytes(image))
    assert found.word is CANNOT_TELL
    assert "checksum" in found.reason


def test_an_ext4_journal_that_does_not_fit_its_checksum_cannot_tell() -> None:
    image = bytearray(ext4(needs_recovery=False, journal_start=5))
    image[kit.JOURNAL_BLOCK * 1024 + 0x1C : kit.JOURNAL_BLOCK * 1024 + 0x20] = bytes(4)
    assert of(bytes(image)).word is CANNOT_TELL


def test_an_ext4_with_unknown_features_cannot_tell() -> None:
    image = bytearray(ext4(needs_recovery=False))
    superblock = image[1024:2048]
    superblock[0x62] |= 0x80
    image[1024:2048] = kit.sealed_ext4(superblock)
    assert of(bytes(image)).word is CANNOT_TELL


def test_a_damaged_ext4_at_rest_says_that_it_is_damaged() -> None:
    assert "e2fsck" in of(ext4(needs_recovery=False, state=3)).reason


# -- XFS --------------------------------------------------------------------------------------------------------------

BUSY = [Logged("inode"), Logged("inode")]


@pytest.mark.parametrize(
    "records",
    [
        [*BUSY, Logged("sb"), Logged("sb")],
        [*BUSY, Logged("sb")],
        [Logged("sb", tail_back=0)],
        [*BUSY, Logged("sb"), Logged("unmount")],
        [*BUSY, Logged("sb"), Logged("unmount"), Logged("sb")],
    ],
    ids=["covered twice", "covered once", "mounted and frozen", "unmounted", "mounted again and frozen"],
)
@pytest.mark.parametrize("first_at", [0, 40, 1020])
@pytest.mark.parametrize("cycle", [1, 7])
def test_an_xfs_that_ends_as_a_freeze_leaves_it_was_at_rest(records: list[Logged], first_at: int, cycle: int) -> None:
    found = of(xfs(records, first_at=first_at, cycle=cycle))
    assert found[:3] == ("scsi0", "xfs", CLEAN), found


@pytest.mark.parametrize(
    "records",
    [
        BUSY,
        [Logged("sb"), Logged("sb"), Logged("inode")],
        [Logged("unmount"), Logged("inode", sectors=40)],
        [*BUSY, Logged("agf")],
    ],
)
@pytest.mark.parametrize("first_at", [0, 40, 1020])
def test_an_xfs_that_ends_with_another_change_was_in_use(records: list[Logged], first_at: int) -> None:
    found = of(xfs(records, first_at=first_at, cycle=3))
    assert found[:3] == ("scsi0", "xfs", NOT_CLEAN), found


def test_an_xfs_whose_superblock_was_logged_in_the_middle_of_work_cannot_tell() -> None:
    found = of(xfs([*BUSY, Logged("inode"), Logged("sb", tail_back=3)]))
    assert found.word is CANNOT_TELL
    assert "older changes" in found.reason


@pytest.mark.parametrize("records", [[Logged("unmount")], [*BUSY, Logged("unmount")]])
def test_an_xfs_whose_unmount_the_superblock_does_not_bear_out_cannot_tell(records: list[Logged]) -> None:
    found = of(xfs(records))
    assert found.word is CANNOT_TELL
    assert "does not bear that out" in found.reason


def test_a_superblock_of_ext4_in_a_place_where_it_does_not_belong_cannot_tell() -> None:
    image = bytearray(kit.EXT4_SIZE)
    image[:4096] = ext4(needs_recovery=False)[:4096]
    found = of(bytes(image))
    assert found.word is CANNOT_TELL
    assert "journal is not where" in found.reason


def test_an_xfs_whose_superblock_was_logged_and_not_written_back_cannot_tell() -> None:
    found = of(xfs([*BUSY, Logged("sb")], written_back=False))
    assert found.word is CANNOT_TELL
    assert "not written back" in found.reason


@pytest.mark.parametrize("last", ["sb", "inode"])
def test_an_xfs_that_has_lost_the_end_of_its_log_cannot_tell(last: str) -> None:
    image = bytearray(xfs([*BUSY, Logged("sb")], first_at=8, cycle=4))
    kept = xfs([Logged("sb"), Logged(last)], first_at=4, cycle=4)[LOG_AT : LOG_AT + 1024 * SECTOR]
    image[LOG_AT : LOG_AT + len(kept)] = kept
    found = of(bytes(image))
    assert found.word is CANNOT_TELL
    assert "newer than its log" in found.reason


def test_an_xfs_whose_last_transaction_has_no_end_cannot_tell() -> None:
    assert of(xfs([Logged("sb"), Logged("torn")])).word is not CLEAN


@pytest.mark.parametrize("sector", [0, 1, 2, 3])
def test_an_xfs_record_with_a_flipped_bit_never_changes_its_word(sector: int) -> None:
    records = [Logged("sb"), Logged("sb")]
    sound = xfs(records, first_at=8)
    for bit in range(sector, SECTOR * 8, 23):
        image = bytearray(sound)
        image[LOG_AT + (8 + sector) * SECTOR + bit // 8] ^= 1 << bit % 8
        found = of(bytes(image))
        assert found.word is not NOT_CLEAN, (sector, bit, found)


def test_an_xfs_in_which_writes_were_on_their_way_cannot_tell() -> None:
    image = bytearray(xfs([Logged("inode"), Logged("inode"), Logged("sb")], first_at=100, cycle=4))
    struct.pack_into(">I", image, LOG_AT + 50 * SECTOR, 3)
    found = of(bytes(image))
    assert found.word is CANNOT_TELL
    assert "being written" in found.reason


@pytest.mark.parametrize(
    ("at", "value", "why"),
    [(224, 0, "checksum"), (48, 0, "checksum")],
)
def test_an_xfs_superblock_that_does_not_fit_its_checksum_cannot_tell(at: int, value: int, why: str) -> None:
    image = bytearray(xfs([Logged("sb")]))
    image[at : at + 8] = bytes([value]) * 8
    found = of(bytes(image))
    assert found.word is CANNOT_TELL
    assert why in found.reason


def test_an_xfs_costs_little_to_read() -> None:
    disk = Memory(xfs([*BUSY, Logged("sb")]))
    assert word(disk).word is CLEAN
    assert disk.bytes_read < 2 << 20
