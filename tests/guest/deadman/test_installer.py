"""The installer on the trees that the distributions' packages leave behind (its part that needs no running guest)."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.guest.deadman.sandbox import SCRIPT
from tests.guest.sandbox import SHELLS, shell_path

INSTALLER = SCRIPT.with_name("install.sh")
PROGRAM = "/usr/local/sbin/fsfreeze-deadman"


def write(tree: Path, name: str, text: str = "", mode: int = 0o644) -> Path:
    path = tree / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(mode)
    return path


def debian(tree: Path) -> None:
    """qemu-guest-agent 7.2: the unit gives no -F, so the packaged dispatcher is never called."""
    write(tree, "etc/os-release", 'ID=debian\nVERSION_ID="12"\n')
    write(tree, "usr/sbin/qemu-ga", mode=0o755)
    write(tree, "usr/sbin/fsfreeze", mode=0o755)
    write(tree, "etc/qemu/fsfreeze-hook", mode=0o755)
    write(
        tree,
        "lib/systemd/system/qemu-guest-agent.service",
        "[Service]\nExecStart=-/usr/sbin/qemu-ga\nRestart=always\n",
    )


def alpine(tree: Path) -> None:
    """No dispatcher, no -F, settings in conf.d."""
    write(tree, "etc/os-release", "ID=alpine\n")
    write(tree, "usr/bin/qemu-ga", mode=0o755)
    write(tree, "sbin/fsfreeze", mode=0o755)
    write(tree, "etc/conf.d/qemu-guest-agent", '# GA_METHOD="virtio-serial"\n# command_args="-F"\n')


def rhel(tree: Path) -> None:
    """The unit passes -F with the path from sysconfig: the packaged dispatcher."""
    write(tree, "etc/os-release", 'ID="rocky"\nID_LIKE="rhel centos fedora"\n')
    write(tree, "usr/bin/qemu-ga", mode=0o755)
    write(tree, "usr/sbin/fsfreeze", mode=0o755)
    write(tree, "etc/qemu-ga/fsfreeze-hook", mode=0o755)
    (tree / "etc/qemu-ga/fsfreeze-hook.d").mkdir()
    write(
        tree,
        "usr/lib/systemd/system/qemu-guest-agent.service",
        "[Service]\nEnvironmentFile=/etc/sysconfig/qemu-ga\nExecStart=/usr/bin/qemu-ga --method=virtio-serial \\\n"
        "  --blacklist=${BLACKLIST_RPC} \\\n  -F${FSFREEZE_HOOK_PATHNAME}\n",
    )
    write(tree, "etc/sysconfig/qemu-ga", "# comment\nFSFREEZE_HOOK_PATHNAME=/etc/qemu-ga/fsfreeze-hook\n")


FAMILIES: dict[str, Callable[[Path], None]] = {"debian": debian, "alpine": alpine, "rhel": rhel}


def install(tree: Path, *options: str, shell: str = "dash") -> subprocess.CompletedProcess[str]:
    words = [shell_path(shell), *(["sh"] if shell == "busybox" else []), str(INSTALLER), "--root", str(tree), *options]
    return subprocess.run(words, capture_output=True, text=True, timeout=30, check=False)


def files(tree: Path) -> dict[str, str]:
    """Every file below the tree that is not a folder, with what it holds or points to."""
    found = {}
    for path in sorted(tree.rglob("*")):
        if path.is_symlink():
            found[str(path.relative_to(tree))] = f"-> {path.readlink()}"
        elif path.is_file():
            found[str(path.relative_to(tree))] = path.read_text()
    return found


@pytest.mark.parametrize("shell", SHELLS)
@pytest.mark.parametrize("family", FAMILIES)
def test_install_twice_and_uninstall_leaves_the_tree_as_it_was(tmp_path: Path, family: str, shell: str) -> None:
    FAMILIES[family](tmp_path)
    before = files(tmp_path)
    first = install(tmp_path, "--limit", "45", shell=shell)
    assert first.returncode == 0, first
    assert f"family {family}" in first.stdout
    installed = files(tmp_path)
    assert "LIMIT=45\n" in installed["etc/fsfreeze-deadman.conf"]

    second = install(tmp_path, shell=shell)
    assert second.returncode == 0, second
    assert files(tmp_path) == installed, "the limit that was chosen, and all else, is kept"
    assert "wrote" not in second.stdout

    gone = install(tmp_path, "--uninstall", shell=shell)
    assert gone.returncode == 0, gone
    assert files(tmp_path) == before


@pytest.mark.parametrize("family", ["debian", "alpine"])
def test_without_a_hook_on_its_command_line_the_agents_configuration_names_ours(tmp_path: Path, family: str) -> None:
    FAMILIES[family](tmp_path)
    install(tmp_path)
    assert (tmp_path / "etc/qemu/qemu-ga.conf").read_text() == f"[general]\nfsfreeze-hook={PROGRAM}\n"
    assert (tmp_path / PROGRAM[1:]).read_text() == SCRIPT.read_text()
    assert "NEXT=\n" in (tmp_path / "etc/fsfreeze-deadman.conf").read_text()


def test_where_a_dispatcher_runs_ours_is_one_of_its_scripts_and_the_last(tmp_path: Path) -> None:
    rhel(tmp_path)
    done = install(tmp_path)
    assert "ignores their exit status" in done.stdout
    script = tmp_path / "etc/qemu-ga/fsfreeze-hook.d/zz-fsfreeze-deadman"
    assert script.stat().st_mode & 0o111
    assert script.read_text() == SCRIPT.read_text()
    assert not (tmp_path / "etc/qemu").exists()


def test_a_hook_that_was_configured_before_is_called_by_ours_and_comes_back(tmp_path: Path) -> None:
    debian(tmp_path)
    text = "[general]\nverbose=true\nfsfreeze-hook = /opt/app/quiesce\nblock-rpcs=guest-exec\n[other]\nx=1\n"
    config = write(tmp_path, "etc/qemu/qemu-ga.conf", text)
    assert install(tmp_path).returncode == 0
    assert config.read_text().count("fsfreeze-hook") == 1
    assert f"[general]\nfsfreeze-hook={PROGRAM}\nverbose=true" in config.read_text()
    assert "NEXT=/opt/app/quiesce\n" in (tmp_path / "etc/fsfreeze-deadman.conf").read_text()
    install(tmp_path)
    assert "NEXT=/opt/app/quiesce\n" in (tmp_path / "etc/fsfreeze-deadman.conf").read_text()
    install(tmp_path, "--uninstall")
    assert "fsfreeze-hook=/opt/app/quiesce" in config.read_text()
    assert "[other]\nx=1\n" in config.read_text()


def test_a_hook_on_the_command_line_that_is_no_dispatcher_is_not_touched(tmp_path: Path) -> None:
    debian(tmp_path)
    override = "[Service]\nExecStart=\nExecStart=/usr/sbin/qemu-ga -F/opt/app/quiesce\n"
    write(tmp_path, "etc/systemd/system/qemu-guest-agent.service.d/hook.conf", override)
    before = files(tmp_path)
    done = install(tmp_path)
    assert done.returncode == 1
    assert "-F/opt/app/quiesce, which outranks its configuration" in done.stderr
    assert files(tmp_path) == before


def test_an_f_without_a_name_means_the_packaged_dispatcher(tmp_path: Path) -> None:
    debian(tmp_path)
    (tmp_path / "etc/qemu/fsfreeze-hook.d").mkdir()
    override = "[Service]\nExecStart=\nExecStart=/usr/sbin/qemu-ga -F\n"
    write(tmp_path, "etc/systemd/system/qemu-guest-agent.service.d/hook.conf", override)
    assert install(tmp_path).returncode == 0
    assert (tmp_path / "etc/qemu/fsfreeze-hook.d/zz-fsfreeze-deadman").exists()


@pytest.mark.parametrize(
    ("family", "missing", "words"),
    [
        ("debian", "usr/sbin/qemu-ga", "apt install qemu-guest-agent"),
        ("alpine", "usr/bin/qemu-ga", "apk add qemu-guest-agent"),
        ("rhel", "usr/bin/qemu-ga", "dnf install qemu-guest-agent"),
        ("alpine", "sbin/fsfreeze", "apk add util-linux-misc"),
    ],
)
def test_what_is_missing_is_named_with_the_command_that_installs_it(
    tmp_path: Path, family: str, missing: str, words: str
) -> None:
    FAMILIES[family](tmp_path)
    (tmp_path / missing).unlink()
    before = files(tmp_path)
    done = install(tmp_path)
    assert done.returncode == 1
    assert words in done.stderr
    assert files(tmp_path) == before


@pytest.mark.parametrize("options", [["--limit", "0"], ["--limit", "2m"], ["--on-failure", "panic"], ["--what"]])
def test_a_wrong_option_changes_nothing(tmp_path: Path, options: list[str]) -> None:
    debian(tmp_path)
    before = files(tmp_path)
    assert install(tmp_path, *options).returncode == 1
    assert files(tmp_path) == before
