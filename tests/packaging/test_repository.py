"""From a signed repository into a Debian that has nothing, over an older version, and out again: apt, and no PyPI."""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
import subprocess
import time
import zipfile
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from snapshot.cli.commands import COMMANDS
from snapshot.journal.schema import VERSION
from tests.packaging.debian import CHECKOUT, Tree, build, debian, require_root
from tests.packaging.node import NODE, NodeTree, node_tree
from tests.packaging.test_contents import TAB
from tests.packaging.test_setup import an_older_configuration

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]

PVE = {"bookworm": "8.4.0", "trixie": "9.2.6"}
FIRST = "fc2e480"
"""The commit that 0.1.0 was: its journal has version 1."""
SOURCE = "deb [signed-by=/usr/share/keyrings/vzdump-hooks.gpg] file:/srv/repository stable main\n"


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    require_root()
    return build(tmp_path_factory.mktemp("package"))


@pytest.fixture(scope="module")
def repository(package: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Signed with a key that is thrown away behind the tests."""
    home = tmp_path_factory.mktemp("keys")
    home.chmod(0o700)
    environment = {**os.environ, "GNUPGHOME": str(home)}
    key = "nobody@vzdump-hooks.example"
    make = ["gpg", "--batch", "--quiet", "--passphrase", "", "--quick-gen-key", key, "ed25519", "sign", "2d"]
    subprocess.run(make, env=environment, check=True, capture_output=True)
    folder = tmp_path_factory.mktemp("repository") / "apt"
    program = CHECKOUT / "contrib/debian/repository"
    subprocess.run([program, key, folder, package], env=environment, check=True, capture_output=True)
    refused = subprocess.run(
        [program, "somebody@vzdump-hooks.example", folder, package],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (refused.returncode, refused.stdout) == (1, "")
    assert "there is no secret key somebody@vzdump-hooks.example" in refused.stderr
    yield folder
    subprocess.run(["gpgconf", "--kill", "all"], env=environment, check=True)


def offer(tree: Tree, repository: Path) -> None:
    """The repository, as its own last lines say; and a network by the names that this machine knows."""
    shutil.copytree(repository, tree.root / "srv/repository")
    (tree.root / "usr/share/keyrings").mkdir(exist_ok=True)
    shutil.copy(repository / "vzdump-hooks.gpg", tree.root / "usr/share/keyrings")
    (tree.root / "etc/apt/sources.list.d/vzdump-hooks.list").write_text(SOURCE)
    shutil.copy("/etc/resolv.conf", tree.root / "etc/resolv.conf")
    # A mirror may be one of another day.
    settings = 'Acquire::Check-Valid-Until "false";\nAcquire::Check-Date "false";\n'
    (tree.root / "etc/apt/apt.conf.d/99day").write_text(settings)


def traces(tree: Tree) -> set[str]:
    """What speaks of us anywhere in the tree, but for the repository and what dpkg and apt know of it."""
    names = ("vzdump-hook", "vzdump_hook", "safe-snapshot")
    known = ("var/lib/apt", "var/cache/apt", "var/log", "usr/share/keyrings", "etc/apt", "var/lib/dpkg/info-")
    found = tree.files("usr", "etc", "var", "root", "lib")
    return {name for name in found if any(one in name for one in names) and not name.startswith(known)}


@pytest.fixture(params=list(PVE))
def bare(request: pytest.FixtureRequest, repository: Path) -> Iterator[Tree]:
    """What debootstrap calls minbase, and nothing else; the repository is configured."""
    with debian(request.param, ()) as tree:
        offer(tree, repository)
        yield tree


def install(tree: Tree) -> str:
    tree.ok("apt-get", "update", network=True)
    return tree.ok("apt-get", "install", "-y", "--no-install-recommends", "vzdump-hooks", network=True)


# What each command says on a node that setup has just set up, with one guest that had a backup and a snapshot.
LINES = {
    "safe-snapshot --version": "safe-snapshot, version ",
    "safe-snapshot doctor 100": "100",
    "safe-snapshot check 100": "100",
    "safe-snapshot 100 --name before-upgrade": "snapshot before-upgrade of qemu/100",
    "safe-snapshot all --label daily --keep 7": "100",
    "safe-snapshot status": "no open window, no frozen guest",
    "safe-snapshot list 100": "100",
    "safe-snapshot prune 100 --keep 3 --dry-run": "",
    "safe-snapshot history": "100",
    "safe-snapshot report --html /root/report.html": "",
    "safe-snapshot metrics print": "pve_fsfreeze_",
    "safe-snapshot notify --test": "mail",
    "safe-snapshot recover": "",
    "safe-snapshot thaw 100": "100",
    "vzdump-hook --self-test 100": "100",
    "vzdump-hook --help": "vzdump calls this program",
}
FINDS = {"safe-snapshot doctor 100": 14, "safe-snapshot 100 --name before-upgrade": 6}
"""Exit codes other than 0 that are no fault: no systemd runs here, and PVE 8 thaws by itself."""


ELSEWHERE = {"take", "setup", "drill", "verify"}
"""Called without its word; called above; test_setup.py's; needs a disk behind the guest."""


def test_from_the_signed_repository_through_a_backup_to_a_purge(bare: Tree, request: pytest.FixtureRequest) -> None:
    suite = request.node.callspec.params["bare"]
    assert bare.run("python3", "--version").returncode != 0, "the root is bare"
    assert "next, `safe-snapshot setup`" in install(bare)
    assert not list(bare.root.glob("usr/bin/pip*"))
    assert bare.ok("dpkg", "--verify", "vzdump-hooks") == ""
    with node_tree(bare, pve_version=PVE[suite]) as node:
        node.ok("safe-snapshot setup", "y\n")
        log = node.ok("vzdump 100")
        assert "guest 100, frozen for" in log
        assert "filesystem-consistent" in log
        for line, said in LINES.items():
            status, shown = node.shell(line)
            assert status in (0, FINDS.get(line, 0)), f"{line}\n{shown}"
            assert said in shown, f"{line}\n{shown}"
        assert {line.split()[1] for line in LINES if line.startswith("safe-")} >= set(COMMANDS) - ELSEWHERE
        offered_live(node)
        assert not node.lab.guest.is_frozen()
        status, shown = node.shell("apt-get remove -y vzdump-hooks")
        assert status != 0
        assert "/etc/vzdump.conf still names /usr/bin/vzdump-hook" in shown
        node.ok("safe-snapshot setup --undo --yes")
        node.ok("apt-get remove -y vzdump-hooks")
        assert (bare.root / "var/lib/vzdump-hooks/journal.sqlite").exists(), "a removal keeps what was recorded"
        node.ok("rm -f /root/report.html && apt-get purge -y vzdump-hooks")
        assert {name for name in traces(bare) if not name.startswith("etc/pve")} == set()


def offered_live(node: NodeTree) -> None:
    """Vmids and names of snapshots, from PVE at each Tab."""
    (node.tree.root / "root/tab").write_text(TAB)
    wanted = [("safe-snapshot check", "1", "100"), ("vzdump-hook --self-test", "1", "100")]
    wanted += [("safe-snapshot verify 100", "before", "before-upgrade")] if "verify" in COMMANDS else []
    for line, word, expected in wanted:
        path = f"/usr/share/bash-completion/completions/{line.split()[0]}"
        # PVE has 1.5 s, or nothing is offered: a busy machine may need another Tab.
        offered = (node.ok(f"bash /root/tab {path} '{line}' {word}").split() for _ in range(40))
        assert any(expected in words for words in offered), line


def test_a_package_that_somebody_has_changed_is_not_installed(repository: Path) -> None:
    with debian("bookworm", ()) as tree:
        offer(tree, repository)
        (changed,) = tree.root.glob("srv/repository/dists/stable/main/binary-amd64/Packages")
        changed.write_text(changed.read_text().replace("Section: admin", "Section: mine"))
        changed.with_name("Packages.gz").unlink()
        done = tree.run("apt-get", "update", network=True)
        assert done.returncode != 0 or "Hash Sum mismatch" in done.stderr, done
        assert tree.run("apt-get", "install", "-y", "vzdump-hooks", network=True).returncode != 0


# ----------------------------------------------------------------------- builds


def sources(tree: Tree) -> None:
    """The checkout's own files at /root/sources: no repository, no environment."""
    ignored = shutil.ignore_patterns(".git", ".venv", ".lab", "tests", ".*_cache", "dist", "__pycache__", "*.egg-info")
    shutil.copytree(CHECKOUT, tree.root / "root/sources", ignore=ignored)


@pytest.mark.parametrize("suite", PVE)
def test_debians_own_back_end_builds_the_wheel(suite: str, repository: Path) -> None:
    with debian(suite, ()) as tree:
        offer(tree, repository)
        sources(tree)
        tree.ok("apt-get", "update", network=True)
        tree.ok("apt-get", "install", "-y", "--no-install-recommends", "python3-hatchling", network=True)
        build_it = (
            "cd /root/sources && python3 -c 'from hatchling.build import build_wheel; print(build_wheel(\"/root\"))'"
        )
        assert tree.ok("sh", "-c", build_it).startswith("vzdump_hooks-")
        (wheel,) = (tree.root / "root").glob("*.whl")
        with zipfile.ZipFile(wheel) as found:
            (metadata,) = (found.read(name).decode() for name in found.namelist() if name.endswith("/METADATA"))
        assert "\nLicense-Expression: MIT\n" in metadata


@pytest.mark.parametrize("suite", PVE)
def test_the_package_is_built_with_no_more_than_it_depends_on(suite: str) -> None:
    """No network, no pip, no git, no compiler; and what came out is installed and runs."""
    with debian(suite) as tree:
        sources(tree)
        for program in ("git", "pip", "pip3", "cc"):
            assert tree.run("which", program).returncode != 0
        shown = tree.ok("sh", "-c", "cd / && PYTHON=python3 /root/sources/contrib/debian/build /root/out")
        tree.ok("dpkg", "--install", shown.strip())
        assert "safe-snapshot, version " in tree.ok("safe-snapshot", "--version")


# --------------------------------------------------------------------- upgrade


@pytest.fixture(scope="module")
def first(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The package of 0.1.0, built from its own commit by its own script, which takes setuptools from PyPI."""
    require_root()
    folder = tmp_path_factory.mktemp("first")
    archive = subprocess.run(["git", "-C", CHECKOUT, "archive", FIRST], capture_output=True, check=False)
    if archive.returncode != 0:
        pytest.skip(f"this clone does not have the commit of 0.1.0, {FIRST}")
    subprocess.run(["tar", "-x", "-C", folder], input=archive.stdout, check=True)
    subprocess.run(["python3", "-m", "venv", folder / "venv"], check=True)
    environment = {**os.environ, "PYTHON": str(folder / "venv/bin/python"), "SOURCE_DATE_EPOCH": "1790000000"}
    built = [folder / "contrib/debian/build", folder / "out"]
    done = subprocess.run(built, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return Path(done.stdout.strip())


@pytest.mark.parametrize("suite", PVE)
def test_an_upgrade_from_0_1_0_lets_an_open_window_end_and_keeps_all_that_was_there(
    suite: str, first: Path, package: Path
) -> None:
    with debian(suite) as tree, node_tree(tree, pve_version=PVE[suite]) as node:
        shutil.copy(first, tree.root / "root/old.deb")
        shutil.copy(package, tree.root / "root/new.deb")
        node.ok("dpkg --install /root/old.deb")
        assert "version 0.1.0" in node.ok("safe-snapshot --version")
        an_older_configuration(node)
        config = tree.root / "etc/vzdump-hooks/config.toml"
        token, mine = node.read("etc/vzdump-hooks/token"), config.read_text()
        node.ok("vzdump 100")
        wrapper = node.lab.run / "in-the-tree"
        wrapper.write_text(f'#!/bin/sh\nexec /usr/sbin/chroot {tree.root} /usr/bin/vzdump-hook "$@"\n')
        wrapper.chmod(0o755)
        with node.lab.vzdump(100, script=str(wrapper), node=NODE, backup_delay=8.0, archive_seconds=1.0) as job:
            until = time.monotonic() + 60
            while not node.lab.guest.is_frozen():
                assert time.monotonic() < until, "the backup has frozen nothing"
                time.sleep(0.05)
            shown = node.ok("dpkg --install /root/new.deb </dev/null")
            assert "guest 100 is in a freeze window: waiting for its end" in shown
            assert not node.lab.guest.is_frozen()
            result = job.wait()
        log = "\n".join(result.log_lines)
        assert result.exitstatus == "OK", log
        assert "filesystem-consistent" in log, log
        assert config.read_text() == mine
        assert node.read("etc/vzdump-hooks/token") == token
        assert "no open window, no frozen guest" in node.ok("safe-snapshot status")
        shown = node.ok("safe-snapshot --json history")
        kept = json.loads(shown[shown.index("{") :])["windows"]
        assert [window["verdict"] for window in kept] == ["filesystem-consistent"] * 2, kept
        node.ok("vzdump 100")
        with closing(sqlite3.connect(tree.root / "var/lib/vzdump-hooks/journal.sqlite")) as journal:
            assert journal.execute("PRAGMA user_version").fetchone() == (VERSION,)
        # It was a conffile once, and dpkg asks about it no more, now or later.
        config.write_text(f"{mine}\n# changed\n")
        node.ok("dpkg --install /root/new.deb </dev/null")
        assert config.read_text() == f"{mine}\n# changed\n"
        (tree.root / "etc/vzdump.conf").write_text("mode: snapshot\n")
        node.ok("dpkg --purge vzdump-hooks")
        assert {name for name in traces(tree) if not name.startswith("etc/pve")} == set()
