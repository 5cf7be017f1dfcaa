"""Where PVE's storages keep a snapshot: the paths of their plugins, without the storages."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from snapshot.disk import where
from snapshot.disk.blocks import Budget, CannotTellError
from snapshot.disk.where import snapshot_of
from tests.disk.kit import MIB
from tests.disk.qcow2kit import qcow2
from tests.unit.kit import VirtualClock


class Tools:
    """The node's tools by script: each call is noted."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.calls: list[tuple[str, ...]] = []

    def __call__(self, command: tuple[str, ...], _seconds: float) -> str:
        self.calls.append(command)
        return self.path + "\n" if command[0] == "pvesm" else ""


def test_a_qcow2_is_read_by_its_internal_snapshot(tmp_path: Path) -> None:
    file = tmp_path / "vm-100-disk-0.qcow2"
    file.write_bytes(qcow2(b"here".ljust(MIB, b"\0")))
    tools = Tools(str(file))
    with snapshot_of("local:100/vm-100-disk-0.qcow2", "snap", Budget(VirtualClock()), tools) as blocks:
        assert blocks.read(0, 4) == b"here"
    assert tools.calls == [("pvesm", "path", "local:100/vm-100-disk-0.qcow2")]


def test_a_btrfs_volume_is_read_in_the_snapshots_folder(tmp_path: Path) -> None:
    for folder, content in (("vm-100-disk-0", b"now."), ("vm-100-disk-0@snap", b"then")):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "disk.raw").write_bytes(content.ljust(4096, b"\0"))
    tools = Tools(str(tmp_path / "vm-100-disk-0" / "disk.raw"))
    with snapshot_of("btr:100/vm-100-disk-0.raw", "snap", Budget(VirtualClock()), tools) as blocks:
        assert blocks.read(0, 4) == b"then"


def test_a_thin_snapshot_is_activated_and_deactivated_again_whatever_happens() -> None:
    tools = Tools("/dev/none-of-this-name/vm-100-disk-0")
    with pytest.raises(OSError, match="No such file"), snapshot_of("thin:vm-100-disk-0", "s1", _budget(), tools):
        pass
    lv = "none-of-this-name/snap_vm-100-disk-0_s1"
    assert tools.calls[1:] == [("lvchange", "-ay", "-K", lv), ("lvchange", "-an", lv)]


def test_a_thin_snapshot_that_cannot_be_deactivated_again_keeps_its_word(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    made = tmp_path / "snap_vm-100-disk-0_s1"
    monkeypatch.setattr(where, "Path", lambda _text: made)

    def run(command: tuple[str, ...], _seconds: float) -> str:
        if command[1] == "-an":
            raise CannotTellError("lvchange failed: it is in use")
        if command[0] == "lvchange":
            made.write_bytes(bytes(4096))
        return "/dev/vg/vm-100-disk-0\n"

    with snapshot_of("thin:vm-100-disk-0", "s1", _budget(), run) as blocks:
        assert blocks.size == 4096


def test_a_thin_snapshot_that_is_active_already_stays_so(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    made = tmp_path / "snap_vm-100-disk-0_s1"
    made.write_bytes(bytes(4096))
    monkeypatch.setattr(where, "Path", lambda _text: made)
    tools = Tools("/dev/vg/vm-100-disk-0")
    with snapshot_of("thin:vm-100-disk-0", "s1", _budget(), tools) as blocks:
        assert blocks.size == 4096
    assert tools.calls == [("pvesm", "path", "thin:vm-100-disk-0")]


@pytest.mark.parametrize(
    ("path", "why"),
    [
        ("/dev/zvol/rpool/data/vm-100-disk-0", "zfs set snapdev=visible rpool/data/vm-100-disk-0"),
        ("/dev/rbd-pve/0a0b/pool/vm-100-disk-0", "vm-100-disk-0@s1"),
        ("/mnt/x/vm-100-disk-0.vmdk", "not known here"),
    ],
)
def test_a_snapshot_that_is_not_there_is_not_made(path: str, why: str) -> None:
    with pytest.raises(CannotTellError, match=why), snapshot_of("st:vm-100-disk-0", "s1", _budget(), Tools(path)):
        pass


def test_a_chain_of_volumes_is_not_taken_for_the_present(tmp_path: Path) -> None:
    file = tmp_path / "vm-100-disk-0.qcow2"
    for made in (file, tmp_path / "snap-s1-vm-100-disk-0.qcow2"):
        made.write_bytes(qcow2(bytes(MIB)))
    with pytest.raises(CannotTellError, match="chain"), snapshot_of("d:100/x.qcow2", "s1", _budget(), Tools(str(file))):
        pass


@pytest.mark.parametrize("volume", ["/dev/sda", "-x:y", "a:b c", "none"])
def test_what_is_no_volume_of_pve_is_asked_of_nobody(volume: str) -> None:
    tools = Tools("/etc/passwd")
    with pytest.raises(CannotTellError, match="not on a storage"), snapshot_of(volume, "s1", _budget(), tools):
        pass
    assert tools.calls == []


def test_rbd_is_read_through_qemu(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    class Through:
        def __init__(self, image: str, _budget: Budget) -> None:
            asked.append(image)

    monkeypatch.setattr(where, "ThroughQemu", Through)
    path = "rbd:pool/ns/vm-100-disk-0:conf=/etc/ceph/ceph.conf:id=admin:keyring=/etc/pve/priv/ceph/st.keyring"
    with snapshot_of("st:vm-100-disk-0", "s1", _budget(), Tools(path)):
        pass
    assert asked == [path.replace("disk-0:", "disk-0@s1:")]


def test_a_chain_on_lvm_is_not_looked_for_in_a_thin_pool() -> None:
    tools = Tools("/dev/vg/vm-100-disk-0.qcow2")
    with pytest.raises(CannotTellError, match="chain"), snapshot_of("lvm:vm-100-disk-0", "s1", _budget(), tools):
        pass
    assert len(tools.calls) == 1


@pytest.mark.parametrize("kind", [stat.S_IFCHR, stat.S_IFBLK, stat.S_IFIFO])
def test_a_file_that_is_something_else_is_not_even_opened(kind: int, monkeypatch: pytest.MonkeyPatch) -> None:
    image, real = "/nowhere/vm-100-disk-0.qcow2", os.stat
    made = os.stat_result((kind | 0o600, *[0] * 9))
    monkeypatch.setattr(os, "stat", lambda path, **rest: made if str(path) == image else real(path, **rest))
    tools = Tools(image)
    with pytest.raises(CannotTellError, match="no file"), snapshot_of("d:100/x.qcow2", "s1", _budget(), tools):
        pass


def test_a_link_to_a_device_is_no_file(tmp_path: Path) -> None:
    (tmp_path / "vm-100-disk-0.qcow2").symlink_to("/dev/null")
    tools = Tools(str(tmp_path / "vm-100-disk-0.qcow2"))
    with pytest.raises(CannotTellError, match="no file"), snapshot_of("d:100/x.qcow2", "s1", _budget(), tools):
        pass


def _budget() -> Budget:
    return Budget(VirtualClock())
