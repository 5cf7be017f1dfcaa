"""What a node knows of its guests by itself, from files that anybody may have left there."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest

from snapshot.pve import here
from snapshot.pve.here import guests_here


@pytest.fixture
def folders(tmp_path: Path) -> tuple[Path, Path]:
    sockets, configs = tmp_path / "qemu-server", tmp_path / "conf"
    sockets.mkdir()
    configs.mkdir()
    return sockets, configs


def test_a_guest_runs_that_has_an_agents_socket_or_a_living_qemu(folders: tuple[Path, Path]) -> None:
    sockets, configs = folders
    (sockets / "100.qga").touch()
    (sockets / "101.pid").write_text(f"{os.getpid()}\n")
    (sockets / "102.pid").write_text("4194304999\n")
    (sockets / "103.pid").write_text("nonsense")
    (sockets / "104.pid").mkdir()
    for name in ("²00.qga", "99.qga", "0100.qga", f"{'1' * 200}.qga", "100.qmp", "x.qga", ".qga"):
        (sockets / name).touch()
    found = guests_here(sockets, "pve1", configs)
    assert [guest.vmid for guest in found] == [100, 101]
    assert all(guest.running and guest.node == "pve1" for guest in found)


def test_name_tags_and_lock_come_from_its_configuration(folders: tuple[Path, Path]) -> None:
    sockets, configs = folders
    (sockets / "100.qga").touch()
    (configs / "100.conf").write_text(
        "# name: not me\nname: db\x1b[31m\ntags: prod;web,x\nlock: backup\n[s1]\nname: old\ntags: old\n"
    )
    (guest,) = guests_here(sockets, "pve1", configs)
    assert (guest.name, guest.tags, guest.lock) == ("db [31m", ("prod", "web", "x"), "backup")


def test_a_folder_that_is_not_there_holds_no_guests(tmp_path: Path) -> None:
    assert guests_here(tmp_path / "none", "pve1", tmp_path / "none") == ()


def test_a_cluster_file_system_that_hangs_costs_the_names_and_not_the_guests(
    folders: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    sockets, configs = folders
    goes_on = threading.Event()
    real = Path.open

    def hangs(path: Path, *rest: object, **values: object) -> object:
        if path.suffix == ".conf":
            goes_on.wait(30)
        return real(path, *rest, **values)  # type: ignore[call-overload]

    (sockets / "100.qga").touch()
    (configs / "100.conf").write_text("name: db\n")
    monkeypatch.setattr(Path, "open", hangs)
    monkeypatch.setattr(here, "CONFIG_SECONDS", 0.2)
    (guest,) = guests_here(sockets, "pve1", configs)
    assert (guest.vmid, guest.name) == (100, "")
    goes_on.set()
