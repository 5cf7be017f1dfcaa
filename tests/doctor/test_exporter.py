"""Which folders the running node_exporters read: by their command lines, their roots, and /proc as it is."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from snapshot.doctor.exporter import DEBIANS_FOLDER, RunningExporter, running

Proc = Callable[..., Path]
FLAG = "--collector.textfile.directory"


@pytest.fixture
def proc(tmp_path: Path) -> Proc:
    """A /proc with a first process, ourselves and one more."""

    def write(*words: str, pid: int = 7, root: str = "root", ends: str = "\0") -> Path:
        for name in ("root", root):
            (tmp_path / name).mkdir(exist_ok=True)
        for number, argv, its in ((1, ["/sbin/init"], "root"), ("self", ["x"], "root"), (pid, words, root)):
            folder = tmp_path / "proc" / str(number)
            folder.mkdir(parents=True, exist_ok=True)
            (folder / "cmdline").write_bytes(os.fsencode("\0".join(argv) + ends))
            (folder / "root").unlink(missing_ok=True)
            (folder / "root").symlink_to(tmp_path / its)
        return tmp_path / "proc"

    return write


@pytest.mark.parametrize(
    ("words", "folders"),
    [
        (["node_exporter"], []),
        (["/usr/bin/prometheus-node-exporter"], [DEBIANS_FOLDER]),
        (["/usr/bin/prometheus-node-exporter", f"{FLAG}=/a"], ["/a"]),
        (["/opt/node_exporter-1.8.2", f"{FLAG}=/a/b", "--web.x"], ["/a/b"]),
        (["node_exporter", FLAG, "/a b"], ["/a b"]),
        (["node_exporter", FLAG[1:], "/a"], ["/a"]),
        (["node_exporter", f"{FLAG[1:]}=/a"], ["/a"]),
        (["node_exporter", f"{FLAG}=/a", FLAG, "/b", f"{FLAG}=/c/*", f"{FLAG}=/a"], ["/a", "/b", "/c/*"]),
        (["node_exporter", f"{FLAG}=/a", FLAG], ["/a"]),
        (["node_exporter", f"{FLAG}="], []),
        (["node_exporter", f"{FLAG}=/a=b"], ["/a=b"]),
        (["node_exporter", "--web.x", FLAG.lstrip("-")], []),
    ],
)
@pytest.mark.parametrize("ends", ["\0", ""])
def test_where_it_looks(proc: Proc, words: list[str], folders: list[str], ends: str) -> None:
    assert running(proc(*words, ends=ends)) == (RunningExporter(7, tuple(folders)),)


@pytest.mark.parametrize(
    ("words", "is_off"),
    [
        (["--no-collector.textfile"], True),
        (["-no-collector.textfile"], True),
        (["--collector.disable-defaults"], True),
        (["--collector.disable-defaults", "--collector.textfile"], False),
        (["--collector.textfile"], False),
    ],
)
@pytest.mark.parametrize("name", ["node_exporter", "prometheus-node-exporter"])
def test_one_whose_textfile_collector_is_off_reads_no_folder(
    proc: Proc, name: str, words: list[str], is_off: bool
) -> None:
    (found,) = running(proc(name, *words, f"{FLAG}=/a")) or ()
    assert (found.is_off, found.folders) == (is_off, () if is_off else ("/a",))
    assert found.reads(Path("/a")) is not is_off


@pytest.mark.parametrize("words", [["vi", "node_exporter"], ["/usr/bin/pushgateway"], []])
def test_what_is_none(proc: Proc, words: list[str]) -> None:
    assert running(proc(*words)) == ()


def test_of_one_with_another_root_no_folder_is_ours(proc: Proc) -> None:
    (found,) = running(proc("node_exporter", f"{FLAG}=/a", root="container")) or ()
    assert (found.is_elsewhere, found.reads(Path("/a")), found.folder) == (True, False, None)


def test_of_one_whose_root_may_not_be_looked_at_nothing_is_known(proc: Proc) -> None:
    folder = proc("node_exporter", f"{FLAG}=/a")
    (folder / "7/root").unlink()
    (found,) = running(folder) or ()
    assert (found.is_elsewhere, found.reads(Path("/a")), found.folder) == (None, None, None)
    assert found.reads(Path("/b")) is False


@pytest.mark.skipif(os.geteuid() != 0, reason="mounts are root's")
def test_one_with_mounts_of_its_own_and_our_root_is_one_of_ours() -> None:
    """As systemd starts a service with ProtectSystem: its folders are this machine's."""
    words = ["node_exporter", "-c", "read x", f"{FLAG}=/a"]
    call = [sys.executable, "-c", f"import os; os.execv('/bin/sh', {words!r})"]
    with subprocess.Popen(["unshare", "--mount", *call], stdin=subprocess.PIPE, stderr=subprocess.PIPE) as started:
        found: list[RunningExporter] = []
        while started.poll() is None and not found:
            found = [one for one in running() or () if one.pid == started.pid]
        _, said = started.communicate()
    if b"unshare failed" in said:
        pytest.skip("no mount namespace can be made here")
    assert found == [RunningExporter(started.pid, ("/a",))]


@pytest.mark.parametrize(
    ("pattern", "folder", "is_read"),
    [
        ("/a/*", "/a/b", True),
        ("/a/*", "/a/b/c", False),
        ("/a/*/t?xt", "/a/b/text", True),
        ("/a/[bc]", "/a/b", True),
        ("/a/[^b]", "/a/b", False),
        ("/a/", "/a", True),
        ("//a/./b", "/a/b", True),
        ("/a/B", "/a/b", False),
        ("b", "/a/b", False),
        ("/b", "/a/b", False),
    ],
)
def test_a_folder_is_read_that_the_pattern_names(pattern: str, folder: str, is_read: bool) -> None:
    assert RunningExporter(7, (pattern,)).reads(Path(folder)) is is_read


@pytest.mark.parametrize("named", ["/a/*", "/a/b?", "/[a]", "/a\\b", "a", "/a\nb"])
def test_no_pattern_and_no_odd_name_is_a_folder_to_write_to(named: str) -> None:
    assert RunningExporter(7, (named,)).folder is None
    assert RunningExporter(7, (named, "/b")).folder == Path("/b")


def test_a_proc_that_does_not_show_the_first_process_tells_of_nobody(proc: Proc) -> None:
    """As with hidepid, to others than root: what is not shown may run all the same."""
    folder = proc("node_exporter")
    (folder / "1/cmdline").unlink()
    assert running(folder) is None
    assert running(folder / "nowhere") is None


def test_all_of_them_are_found(proc: Proc) -> None:
    folder = proc("node_exporter", f"{FLAG}=/a", pid=900)
    proc("/usr/bin/prometheus-node-exporter", pid=70)
    assert running(folder) == (RunningExporter(70, (DEBIANS_FOLDER,)), RunningExporter(900, ("/a",)))
