"""What stands in setup's way, and what it says then: where a person is needed, nothing is called well."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from snapshot.base.procfs import ProcessIdentity
from snapshot.config.settings import Config, JournalConfig, LocalConfig
from snapshot.errors import SafeSnapshotError
from snapshot.setup import back
from tests.lab.site import Run
from tests.setup.kit import Bench
from tests.setup.test_command import run

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="setup is root's")


@pytest.fixture
def bench(folder: Path) -> Bench:
    found = Bench(folder)
    found.lab._file.put(found.lab.settings)
    return found


def names(bench: Bench, script: bytes) -> bytes:
    bench.places.vzdump_conf.write_bytes(b"script: " + script.replace(b"%s", os.fsencode(bench.root)) + b"\n")
    return bench.places.vzdump_conf.read_bytes()


@pytest.mark.parametrize("name", [b"'%s/root/mine'", b"%s/root", b"/odd\0name", b"relative.sh"])
def test_a_script_that_is_left_keeps_the_node_from_being_called_guarded(bench: Bench, name: bytes) -> None:
    before = names(bench, name)
    for _ in range(2):  # when there is nothing to do but that, too
        found = bench.set_up()
        assert found.unguarded.startswith(f"{bench.places.vzdump_conf} still names ")
    assert not found.steps
    assert bench.places.vzdump_conf.read_bytes() == before


def test_no_node_is_called_set_up_whose_backups_call_somebody_else(bench: Bench) -> None:
    before = names(bench, b"/odd\0name")
    for _ in range(2):
        done = run(bench, "--yes")
        assert done.exit_code == 1, done.text
        assert "no backup of pve1 is guarded yet" in done.stderr
        assert f"`script: {bench.places.hook}`" in done.stderr
        assert "is set up" not in done.text
    assert run(bench, "--yes", "--json").json["error"]["exit_code"] == 1
    assert "is set up" not in run(bench, "--dry-run").text
    assert bench.places.vzdump_conf.read_bytes() == before
    assert run(bench, "--undo", "--yes").exit_code == 0


@pytest.fixture
def full(bench: Bench) -> Iterator[Path]:
    """The state folder, on a file system without room."""
    try:
        subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4k", "none", bench.places.state], check=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("nothing can be mounted here")
    (bench.places.state / "filled").write_bytes(b"x" * 4096)
    yield bench.places.state
    subprocess.run(["umount", bench.places.state], check=True)


def test_a_full_disk_is_told_with_the_step_and_where_to_look(bench: Bench, full: Path) -> None:
    before = bench.files()
    done = run(bench, "--yes")
    assert done.exit_code == 1
    assert "this step failed: " in done.stderr
    assert str(full) in done.stderr
    assert "No space left on device" in done.stderr
    assert bench.files() == before


@pytest.fixture
def immutable(bench: Bench) -> Iterator[Path]:
    path = bench.places.vzdump_conf
    path.write_bytes(b"mode: snapshot\n")
    yield path
    subprocess.run(["chattr", "-i", path], check=False)


def unfolded(text: str) -> str:
    """What was said, whatever the width of the terminal."""
    return " ".join(text.split())


def freeze_file(path: Path) -> None:
    if subprocess.run(["chattr", "+i", path], check=False, capture_output=True).returncode != 0:
        pytest.skip("no file can be made immutable here")


def test_a_file_that_nobody_may_change_is_named_both_ways(bench: Bench, immutable: Path) -> None:
    freeze_file(immutable)
    done = run(bench, "--yes")
    assert done.exit_code == 1
    assert f"this step failed: {immutable}: script:" in unfolded(done.stderr)
    assert "Operation not permitted" in unfolded(done.stderr)
    assert run(bench, "--yes").exit_code == 1
    subprocess.run(["chattr", "-i", immutable], check=True)
    assert run(bench, "--yes").exit_code == 0
    freeze_file(immutable)
    done = run(bench, "--undo", "--yes")
    assert done.exit_code == 1
    assert f"{immutable} cannot be taken back (Operation not permitted)" in unfolded(done.stderr)
    subprocess.run(["chattr", "-i", immutable], check=True)
    assert run(bench, "--undo", "--yes").exit_code == 0
    assert immutable.read_bytes() == b"mode: snapshot\n"


def test_a_pve_that_cannot_be_asked_is_told_with_what_to_do(bench: Bench) -> None:
    silent = bench.root / "usr/bin/pvesh"
    silent.write_text("#!/bin/sh\necho ipcc_send_rec failed >&2\nexit 255\n")
    silent.chmod(0o755)
    before = bench.files()
    done: Run = run(bench, "--yes", pvesh=silent)
    assert done.exit_code == 5
    assert f"ipcc_send_rec failed; nothing was changed; does `{silent} get /access/roles` answer?" in unfolded(
        done.stderr
    )
    assert bench.files() == before


def test_nothing_is_taken_back_while_a_backup_runs(bench: Bench) -> None:
    me = ProcessIdentity.own()
    tasks = bench.root / "tasks"
    tasks.mkdir()
    config = Config()._replace(
        journal=JournalConfig(bench.places.state / "journal.sqlite"), local=LocalConfig(task_folder=tasks)
    )
    back.check_quiet(config)
    line = f"UPID:pve1:{{pid:08X}}:{me.start:08X}:6928A0B4:{{kind}}::root@pam: 0\n"
    gone = line.format(pid=0x7FFFFFFF, kind="vzdump")
    (tasks / "active").write_text(gone + line.format(pid=me.pid, kind="vncproxy"))
    back.check_quiet(config)
    (tasks / "active").write_text(gone + line.format(pid=me.pid, kind="vzdump"))
    with pytest.raises(SafeSnapshotError, match="a backup runs on this node: nothing was changed"):
        back.check_quiet(config)


def test_a_record_of_a_later_version_is_left_to_it(bench: Bench) -> None:
    before = b'{"version": 1, "entries": [{"kind": "moon", "name": "x", "facts": {}}]}'
    bench.places.record.write_bytes(before)
    done = run(bench, "--undo", "--yes")
    assert done.exit_code == 1
    assert "a change of a kind that this version does not know (moon)" in unfolded(done.stderr)
    assert bench.places.record.read_bytes() == before


def test_the_plan_says_that_a_message_is_sent(bench: Bench) -> None:
    told = "one message is sent on each way of [notify]"
    assert any(told in note for note in bench.plan().notes)
    bench.set_up()
    assert not any(told in note for note in bench.plan().notes)


def test_units_that_systemctl_cannot_tell_of_are_not_called_missing(bench: Bench) -> None:
    Path(bench.places.systemctl).write_text("#!/bin/sh\necho Failed to connect to bus >&2; exit 1\n")
    found = bench.plan()
    assert "timer and its service: cannot be enabled (Failed to connect to bus)" in found.timer_note
    assert not any("safe-snapshot-recover" in note for note in found.notes), "one cause, one line"


def test_a_unit_that_is_masked_alone_is_told_alone(bench: Bench) -> None:
    bench.install_units()
    text = Path(bench.places.systemctl).read_text()
    mask = 'case "$1 $unit" in "is-enabled safe-snapshot-recover.%s") echo masked; exit 1;; esac\n'
    for unit in ("service", "timer"):
        Path(bench.places.systemctl).write_text(text.replace('case "$1" in', f'{mask % unit}case "$1" in', 1))
        found = bench.plan()
        told = [*found.notes, found.timer_note]
        assert (
            [note for note in told if "masked" in note] == [note for note in told if f"r.{unit}: masked" in note] != []
        )
        assert bool(found.timer_note) is (unit == "timer")
