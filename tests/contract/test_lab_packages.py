"""A guest can be made of Debian 12's packages and of Debian 13's, which keep the same files in other folders."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest

from tests.lab import fixtures, packages
from tests.lab.guest import image

PROGRAM = b"#!busybox, static"
BUILT_IN = "\n".join(f"kernel/{name}.ko" for name in sum(image._MODULES.values(), ()))


@pytest.fixture(params=["", "usr/"], ids=["debian-12", "debian-13"])
def layout(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """An empty cache, and apt and dpkg that have packages of one layout."""
    prefix: str = request.param
    files = {
        "linux-image-9": {
            "boot/vmlinuz-9": b"kernel",
            f"{prefix}lib/modules/9/modules.builtin": BUILT_IN.encode(),
            "usr/share/doc/copyright": b"",
        },
        "busybox-static": {f"{prefix}bin/busybox": PROGRAM, "usr/share/doc/copyright": b""},
        "qemu-guest-agent": {"usr/sbin/qemu-ga": b"agent"},
    }

    def run(*command: str | Path, cwd: Path | None = None) -> str:
        if command[0] == "apt-cache":
            return "  Depends: linux-image-9\n"
        if command[0] == "apt-get":
            assert cwd is not None
            (cwd / f"{command[-1]}.deb").write_text(str(command[-1]))
        if command[0] == "dpkg":
            for name, content in files[Path(command[2]).read_text()].items():
                file = Path(command[3]) / name
                file.parent.mkdir(parents=True, exist_ok=True)
                file.write_bytes(content)
        return ""

    monkeypatch.setenv("LAB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(os, "uname", lambda: SimpleNamespace(machine="x86_64"))
    monkeypatch.setattr(packages, "run", run)
    return prefix


def test_a_guest_is_made_of_packages_of_either_layout(layout: str) -> None:
    built = image.image.__wrapped__()
    assert built.kernel.read_bytes() == b"kernel"
    assert PROGRAM in built.initrd.read_bytes()


def test_a_cache_that_was_made_before_serves_as_it_is(
    layout: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    packages.fetch()
    before = tmp_path / "before"
    shutil.copytree(tmp_path / "cache/packages", before / "packages", symlinks=True)
    for path in before.glob("packages/*/*"):
        if path.is_symlink():
            path.unlink()
    monkeypatch.setenv("LAB_CACHE", str(before))
    assert PROGRAM in image.image.__wrapped__().initrd.read_bytes()


def test_packages_of_a_third_layout_are_told_in_a_sentence(
    layout: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for file in packages.fetch().busybox.rglob("busybox"):
        file.unlink()
    monkeypatch.setattr(fixtures, "_TOOLS", ())
    monkeypatch.setattr(fixtures, "image", image.image.__wrapped__)
    why = fixtures._why_not.__wrapped__()
    assert why is not None
    assert why.startswith("no guest can be made of Debian's packages: ")
    assert "bin/busybox" in why
    assert not list((tmp_path / "cache/image").glob("*"))
