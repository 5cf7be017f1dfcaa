"""Where the filesystems are: partition tables and LVM, what is set aside, and tables that lie."""

from __future__ import annotations

import struct

import pytest

from snapshot.disk.blocks import Budget, Pieces
from snapshot.disk.layout import BIOS_BOOT, ESP
from snapshot.disk.lvm import volumes
from snapshot.model import AtRest
from tests.disk import kit
from tests.disk.kit import LINUX, MIB, SECTOR, Logged, Memory, ext4, extended, gpt, lvm, mbr, word, words, xfs
from tests.unit.kit import VirtualClock

CLEAN, NOT_CLEAN, CANNOT_TELL = AtRest.CLEAN, AtRest.NOT_CLEAN, AtRest.CANNOT_TELL
REST, USE = ext4(needs_recovery=False), ext4(needs_recovery=True)
XREST = xfs([Logged("inode"), Logged("sb")])
FAT = b"\xebX\x90mkfs.fat".ljust(82, b"\0") + b"FAT32   ".ljust(428, b"\0") + b"\x55\xaa" + bytes(MIB - 512)
SWAP = bytes(4086) + b"SWAPSPACE2" + bytes(MIB - 4096)
NTFS = b"\xebR\x90NTFS    ".ljust(510, b"\0") + b"\x55\xaa" + bytes(MIB - 512)


def test_primary_partitions_each_have_their_word() -> None:
    found = words(Memory(mbr([(0x83, REST), (0x83, XREST)], 16 * MIB)))
    assert [(one.where, one.kind, one.word) for one in found] == [
        ("scsi0 partition 1", "ext4", CLEAN),
        ("scsi0 partition 2", "xfs", CLEAN),
    ]


def test_logical_partitions_are_found_in_their_chain() -> None:
    found = words(Memory(extended([REST, USE, REST], 16 * MIB)))
    assert [(one.where, one.word) for one in found] == [
        ("scsi0 partition 5", CLEAN),
        ("scsi0 partition 6", NOT_CLEAN),
        ("scsi0 partition 7", CLEAN),
    ]


def test_a_machine_with_an_efi_partition_and_swap_is_clean_when_its_filesystem_was() -> None:
    disk = gpt([(ESP, FAT), (BIOS_BOOT, bytes(MIB)), (LINUX, SWAP), (LINUX, REST)], 16 * MIB)
    found = words(Memory(disk))
    assert [one.is_set_aside for one in found] == [True, True, True, False]
    assert word(Memory(disk)).word is CLEAN


@pytest.mark.parametrize("magic_at", [4096, 54])
def test_a_superblock_that_was_left_of_something_earlier_cannot_tell(magic_at: int) -> None:
    image = bytearray(REST)
    image[magic_at : magic_at + 8] = b"\xfc\x4e\x2b\xa9" + bytes(4) if magic_at == 4096 else b"FAT16   "
    (found,) = words(Memory(bytes(image)))
    assert found.word is CANNOT_TELL
    assert "two filesystems" in found.reason


def test_a_superblock_in_front_of_the_first_partition_cannot_tell() -> None:
    image = bytearray(mbr([(0x83, REST)], 8 * MIB))
    image[1024:2048] = USE[1024:2048]
    assert word(Memory(bytes(image))).word is CANNOT_TELL


def test_one_filesystem_in_use_decides() -> None:
    assert word(Memory(gpt([(LINUX, REST), (LINUX, NTFS), (LINUX, USE)], 16 * MIB))).word is NOT_CLEAN


def test_one_that_cannot_tell_keeps_all_from_being_clean() -> None:
    found = word(Memory(gpt([(LINUX, REST), (LINUX, NTFS)], 16 * MIB)))
    assert found.word is CANNOT_TELL
    assert "partition 2" in found.reason


@pytest.mark.parametrize(
    ("image", "kind"),
    [(NTFS, "NTFS"), (FAT, "FAT"), (b"LUKS\xba\xbe".ljust(MIB, b"\0"), "LUKS"), (b"\x01".ljust(MIB, b"\x02"), "")],
)
def test_what_has_no_word_cannot_tell(image: bytes, kind: str) -> None:
    (found,) = words(Memory(image))
    assert (found.kind, found.word, found.is_set_aside) == (kind, CANNOT_TELL, False)


def test_an_empty_disk_has_no_word() -> None:
    assert word(Memory(bytes(MIB))).word is CANNOT_TELL


def test_a_gpt_that_does_not_fit_its_checksum_cannot_tell() -> None:
    for at in (512 + 40, 1024 + 130):
        image = bytearray(gpt([(LINUX, REST), (LINUX, USE)], 16 * MIB))
        image[at] ^= 1
        (found,) = words(Memory(bytes(image)))
        assert found.word is CANNOT_TELL
        assert "checksum" in found.reason


def test_a_chain_of_logical_partitions_that_runs_in_a_circle_ends() -> None:
    image = bytearray(extended([REST, REST], 16 * MIB))
    second = 2048 + 64 + len(REST) // SECTOR
    struct.pack_into("<BBBBBBBBII", image, second * SECTOR + 462, 0, 0, 0, 0, 5, 0, 0, 0, 0, 64)
    found = words(Memory(bytes(image)))
    assert found[-1].word is CANNOT_TELL
    assert "circle" in found[-1].reason


def test_a_partition_beyond_the_end_of_the_disk_cannot_tell() -> None:
    image = bytearray(mbr([(0x83, REST)], 8 * MIB))
    struct.pack_into("<I", image, 446 + 12, 1 << 31)
    (found,) = words(Memory(bytes(image)))
    assert found.word is CANNOT_TELL
    assert "beyond" in found.reason


# -- LVM: the metadata is LVM's own -----------------------------------------------------------------------------------


def test_linear_volumes_are_read_where_their_pieces_are() -> None:
    # XFS's log lies in the piece that is elsewhere when the volume is cut differently: 24 MiB in two pieces.
    found = words(Memory(lvm({"root": REST, "wide": XREST})))
    assert [(one.where, one.kind, one.word) for one in found] == [
        ("scsi0 vg0/root", "ext4", CLEAN),
        ("scsi0 vg0/wide", "xfs", CLEAN),
    ]


def test_a_volume_in_a_partition_is_found() -> None:
    found = words(Memory(gpt([(LINUX, REST), (LINUX, lvm({"root": USE, "wide": REST}))], 128 * MIB)))
    assert [(one.where, one.word) for one in found] == [
        ("scsi0 partition 1", CLEAN),
        ("scsi0 partition 2 vg0/root", NOT_CLEAN),
        ("scsi0 partition 2 vg0/wide", CLEAN),
    ]


def test_a_second_piece_is_read_from_where_it_lies() -> None:
    image = bytearray(lvm({"root": bytes(24 * MIB)}))
    image[MIB + 6 * kit.EXTENT : MIB + 6 * kit.EXTENT + 4] = b"here"
    from_second_piece = kit_volume(bytes(image)).read(4 * kit.EXTENT - 2, 8)
    assert from_second_piece == b"\0\0here\0\0"


def kit_volume(image: bytes) -> Pieces:
    disk = Memory(image)
    return Pieces(disk, volumes(disk)[0].pieces)


@pytest.mark.parametrize(
    ("old", "new", "why"),
    [
        (b"stripe_count = 1", b"stripe_count = 2", "not linear"),
        (b'type = "striped"', b'type = "thin"   ', "not linear"),
        (b'"pv0", 4', b'"pv1", 4', "several disks"),
        (b"segment_count = 1", b"segment_count = 9", "makes no sense"),
    ],
)
def test_a_volume_that_is_not_linear_on_this_disk_cannot_tell(old: bytes, new: bytes, why: str) -> None:
    found = words(Memory(lvm({"root": REST, "wide": REST}, kit.edited_lvm_header(old, new))))
    assert CANNOT_TELL in [one.word for one in found]
    assert any(why in one.reason for one in found if one.word is CANNOT_TELL), found


@pytest.mark.parametrize("at", [512 + 40, 4096 + 48])
def test_lvm_metadata_that_does_not_fit_its_checksum_cannot_tell(at: int) -> None:
    image = bytearray(lvm({"root": REST, "wide": REST}))
    image[at] ^= 1
    (found,) = words(Memory(bytes(image)))
    assert found.word is CANNOT_TELL
    assert "checksum" in found.reason


def test_metadata_that_opens_sections_without_end_is_refused_at_a_depth() -> None:
    found = words(Memory(lvm({}, kit.edited_lvm_header(b"# Generated by LVM2", b"a{" * 99))))
    assert [one.word for one in found] == [CANNOT_TELL]


def test_quotes_without_an_end_are_not_each_followed_to_the_end_of_the_text() -> None:
    (found,) = words(Memory(lvm({}, kit.edited_lvm_header(b"creation_time = 1795887069", b'"\\' * 31_000))))
    assert (found.word, found.reason) == (CANNOT_TELL, "LVM's metadata makes no sense")


@pytest.mark.parametrize("status", [b'["READ", "WRITE"]', b'"VISIBLE"', b"7"])
def test_a_part_of_another_volume_is_not_taken_for_a_filesystem(status: bytes) -> None:
    """A half of a mirror that was left behind, or what a cache has in front of it, holds something old."""
    old = b'gggggg"\nstatus = ["READ", "WRITE", "VISIBLE"]'
    header = kit.edited_lvm_header(old, b'gggggg"\nstatus = ' + status)
    assert [one.where for one in words(Memory(lvm({"root": USE, "wide": REST}, header)))] == ["scsi0 vg0/wide"]


@pytest.mark.parametrize("back", [64 << 10, 8 << 10], ids=["0.90", "1.0"])
def test_a_member_of_a_raid_whose_mark_is_at_its_end_cannot_tell(back: int) -> None:
    member = bytearray(REST)
    assert word(Memory(gpt([(LINUX, bytes(member))], 16 * MIB))).word is CLEAN
    member[-back : 4 - back] = b"\xfc\x4e\x2b\xa9"
    for disk in (bytes(member), gpt([(LINUX, bytes(member))], 16 * MIB)):
        found = word(Memory(disk))
        assert (found.word, "RAID" in found.reason) == (CANNOT_TELL, True), found


# -- bounds -----------------------------------------------------------------------------------------------------------


def test_reading_stops_at_its_bounds() -> None:
    for bound in ({"byte_limit": 4096}, {"reads": 3}, {"seconds": -1.0}):
        found = words(Memory(mbr([(0x83, REST)] * 4, 16 * MIB)), Budget(VirtualClock(), **bound))
        assert found[-1].word is CANNOT_TELL, bound
        assert "too" in found[-1].reason


def test_a_dozen_filesystems_with_logs_of_a_usual_size_are_within_the_bounds() -> None:
    one = xfs([Logged("inode"), Logged("sb")], first_at=4096, cycle=3, sectors=8192)
    found = words(Memory(gpt([(LINUX, one)] * 16, 130 * MIB)))
    assert [one.word for one in found] == [CLEAN] * 16, found[-1]
