"""What stands around a run: the configuration, the token, the journal, the metrics. None of it may freeze a guest."""

from __future__ import annotations

import contextlib
import os
import shutil
import sqlite3
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.engine import kit
from tests.engine.kit import check, take
from tests.lab.guest.scripted import ScriptedGuest
from tests.lab.site import Site, run_command, wait_for

NOBODY = 65534


@contextlib.contextmanager
def tmpfs(folder: Path, options: str) -> Iterator[Path]:
    """A file system of its own; skips where that is not allowed."""
    folder.mkdir(exist_ok=True)
    if os.geteuid() or subprocess.run(["mount", "-t", "tmpfs", "-o", options, "t", folder], check=False).returncode:
        pytest.skip("mounting is not allowed here")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", folder], check=True)


def fill(folder: Path) -> None:
    with contextlib.suppress(OSError), (folder / "ballast").open("wb", buffering=0) as file:
        while True:
            file.write(b"\0" * 4096)


# ---------------------------------------------------------------- the configuration


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("[api\n", "is not TOML"),
        ("\xff", "is not TOML"),
        ("[freeze]\npolcy = 'require'\n", "unknown key 'freeze.polcy'; did you mean 'policy'?"),
        ("[frieze]\n", "unknown key 'frieze'; did you mean 'freeze'?"),
        ("[freeze]\npolicy = 'sometimes'\n", "it must be one of: require, prefer, never"),
        ("[freeze]\nmax_window_seconds = 'long'\n", "'freeze.max_window_seconds' must be a number"),
        ("[freeze]\nmax_window_seconds = -1\n", "it must be a positive number"),
        ("[freeze]\nmax_window_seconds = nan\n", "it must be a positive number"),
        ("[api]\nport = '8006'\n", "'api.port' must be a whole number"),
        ("[api]\nport = 99999\n", "is not a port number"),
        ("[api]\nhost = 'https://pve1:8006/'\n", "without https://"),
        ("[api]\nhost = ''\n", "[api] host"),
        ("[api]\ntoken_id = 'root'\n", "user@realm!tokenname"),
        ("[api]\nca_file = 'ca.pem'\n", "must be an absolute path"),
        ("[snapshot]\nname_prefix = '1 bad'\n", "[snapshot] name_prefix"),
        ("[snapshot]\nname_prefix = 'much-too-long-for-a-date-behind-it'\n", "[snapshot] name_prefix"),
        ("[guest]\nvmid = 100\n", "write [[guest]]"),
        ("[[guest]]\nvmid = 100\ntag = 'x'\n", "exactly one of vmid, tag and pool"),
        ("freeze = 1\n", "must be a table"),
        ("[api]\nhost = 'pve1:99999'\n", "[api] host: 99999 is not a port number"),
        ("[api]\npeers = ['pve1', '[::1]:0']\n", "[api] peers: 0 is not a port number"),
        pytest.param("x = " + "[" * 5000 + "]" * 5000 + "\n", "is not TOML", id="brackets"),
        pytest.param("[api]\nport = " + "9" * 5000 + "\n", "is not TOML", id="digits"),
    ],
)
def test_a_wrong_configuration_is_named_before_anything_is_done(lab: Site, text: str, says: str) -> None:
    lab.config_path.write_text(text)
    run = check(lab, lab.safe_snapshot("100"))
    assert run.exit_code == 3, run
    assert says in run.stderr
    assert len(run.stderr.splitlines()) == 1
    assert not lab.node.requests()


def test_a_configuration_that_is_a_folder(lab: Site) -> None:
    run = check(lab, run_command([*lab.command()[:1], "--config", str(lab.run), "100"]))
    assert run.exit_code == 3, run
    assert "not a regular file" in run.stderr


def as_nobody(lab: Site, *arguments: str) -> kit.Run:
    """Run as a user without rights."""
    if os.geteuid():
        pytest.skip("needs root to become nobody")
    for folder in (lab.run, *lab.config_path.parents):
        if folder.is_relative_to("/tmp") and folder != Path("/tmp"):
            folder.chmod(0o755)
    command = ["setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups", *lab.command(*arguments)]
    return check(lab, run_command(command))


@pytest.mark.skipif(shutil.which("setpriv") is None, reason="setpriv is not installed")
@pytest.mark.parametrize(
    "arguments", ["100", "check 100", "doctor", "status", "history", "thaw 100", "drill 100 --yes"]
)
def test_a_configuration_that_may_not_be_read(lab: Site, arguments: str) -> None:
    lab.config_path.chmod(0o600)
    lab.node.token_file.parent.chmod(0o700)
    run = as_nobody(lab, *arguments.split())
    assert run.exit_code, run
    assert "Permission denied" in run.stderr, run
    assert "run it as root" in run.stderr, run


@pytest.mark.skipif(shutil.which("setpriv") is None, reason="setpriv is not installed")
def test_a_monitor_that_may_not_look_knows_nothing(lab: Site) -> None:
    lab.config_path.chmod(0o600)
    run = as_nobody(lab, "doctor", "--monitor")
    assert run.exit_code == 3, run
    assert run.stdout.startswith("SAFE-SNAPSHOT UNKNOWN - the configuration ")
    assert run.stdout.count("\n") == 1


@pytest.mark.skipif(shutil.which("setpriv") is None, reason="setpriv is not installed")
@pytest.mark.parametrize("policy", ["require", "prefer"])
def test_a_user_who_may_not_write_the_journal_freezes_nothing(lab: Site, policy: str) -> None:
    lab.config_path.chmod(0o644)
    (lab.run / "state").chmod(0o755)
    os.chown(lab.node.token_file, NOBODY, NOBODY)
    for folder in (lab.node.root, lab.node.root / "etc", lab.node.root / "etc/pve"):
        folder.chmod(0o755)
    run = as_nobody(lab, "100", "--name", "s1", "--policy", policy)
    assert run.exit_code == (9 if policy == "require" else 10), run
    assert "journal" in run.text
    assert not lab.node.requests("fsfreeze-freeze")
    assert ("s1" in kit.snapshots(lab)) == (policy == "prefer")


# ---------------------------------------------------------------- the token


def test_no_token_at_all(lab: Site) -> None:
    lab.node.token_file.unlink()
    run = take(lab)
    assert run.exit_code == 3, run


def test_a_token_that_others_may_read(lab: Site) -> None:
    lab.node.token_file.chmod(0o644)
    run = take(lab)
    assert run.exit_code == 3, run
    assert f"chmod 600 {lab.node.token_file}" in run.stderr


@pytest.mark.parametrize("text", ["", "\n", "two words", "a@b!c=d\ne@f!g=h\n"])
def test_a_token_file_without_a_token_never_shows_what_is_in_it(lab: Site, text: str) -> None:
    kit.write_secret(lab.node.token_file, text)
    run = take(lab)
    assert run.exit_code == 3, run
    assert "two words" not in run.text
    assert "=h" not in run.text


# ---------------------------------------------------------------- the journal


def corrupt(path: Path) -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(b"this is not a database, but it is long enough to be looked at. " * 100)


def of_a_newer_version(path: Path) -> None:
    path.parent.mkdir(exist_ok=True)
    with contextlib.closing(sqlite3.connect(path)) as database:
        database.execute("PRAGMA user_version = 99")


def a_folder(path: Path) -> None:
    path.mkdir(parents=True)


def in_a_file(path: Path) -> None:
    shutil.rmtree(path.parent, ignore_errors=True)
    path.parent.write_text("not a folder")


BROKEN: dict[str, tuple[Callable[[Path], None], str]] = {
    "newer": (of_a_newer_version, "was written by a newer version"),
    "a folder": (a_folder, "no regular file"),
    "its folder is a file": (in_a_file, "journal"),
}
POLICIES = {"require": 9, "prefer": 10, "never": 10}


def check_no_freeze(lab: Site, policy: str, says: str) -> None:
    run = take(lab, "--policy", policy)
    assert run.exit_code == POLICIES[policy], run
    assert says in run.text
    assert not lab.node.requests("fsfreeze-freeze"), "no guest is frozen without the journal"
    assert ("s1" in kit.snapshots(lab)) == (policy != "require")
    if policy != "require":
        assert "crash-consistent" in run.stdout


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("how", BROKEN)
def test_without_a_journal_nothing_is_frozen(lab: Site, how: str, policy: str) -> None:
    breaks, says = BROKEN[how]
    breaks(lab.journal_path)
    check_no_freeze(lab, policy, says)


def test_with_a_corrupt_journal_a_new_one_is_begun_and_the_guest_is_frozen(lab: Site) -> None:
    corrupt(lab.journal_path)
    run = take(lab, "--policy", "require")
    assert run.exit_code == 0, run
    assert "filesystem-consistent" in run.stdout
    assert "a new one was begun" in run.stderr


@pytest.mark.parametrize("policy", POLICIES)
def test_on_a_read_only_file_system_nothing_is_frozen(lab: Site, policy: str) -> None:
    with tmpfs(lab.run / "state", "ro,size=1m"):
        check_no_freeze(lab, policy, "journal")


@pytest.mark.parametrize("policy", POLICIES)
def test_on_a_full_file_system_nothing_is_frozen(lab: Site, policy: str) -> None:
    with tmpfs(lab.run / "state", "size=64k") as folder:
        fill(folder)
        check_no_freeze(lab, policy, "journal")


def test_a_journal_that_breaks_in_the_window_is_begun_anew_and_the_guest_thawed(
    lab: Site, guest: ScriptedGuest
) -> None:
    lab.node.set(task_delays={"before": 0.7})
    process = lab.start("100", "--name", "s1", "--policy", "require")
    assert wait_for(guest.is_frozen)
    corrupt(lab.journal_path)
    stdout, stderr = process.communicate(timeout=60)
    assert process.returncode == 0, stderr
    # The owner or the guard meets it first, and that one says so in its own log.
    assert len(list(lab.journal_path.parent.glob("*.broken-*"))) == 1
    assert "begun anew" in lab.safe_snapshot("status").stdout
    assert "filesystem-consistent" in stdout
    assert not guest.is_frozen()


def test_a_disk_that_fills_up_in_the_window_is_reported_and_the_guest_thawed(lab: Site, guest: ScriptedGuest) -> None:
    with tmpfs(lab.run / "state", "size=256k") as folder:
        lab.node.set(task_delays={"before": 0.7})
        process = lab.start("100", "--name", "s1", "--policy", "require")
        assert wait_for(guest.is_frozen)
        fill(folder)
        stdout, stderr = process.communicate(timeout=60)
        assert process.returncode == 10, stdout + stderr
        assert "filesystem-consistent" in stdout
        assert not guest.is_frozen()


# ---------------------------------------------------------------- the metrics


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("how", ["no folder", "its folder is a file", "full", "read-only"])
def test_metrics_that_cannot_be_written_change_nothing_else(lab: Site, how: str, policy: str) -> None:
    folder = lab.run / "metrics"
    with contextlib.ExitStack() as stack:
        if how in ("full", "read-only"):
            stack.enter_context(tmpfs(folder, "ro,size=1m" if how == "read-only" else "size=16k"))
            fill(folder)
        else:
            shutil.rmtree(folder, ignore_errors=True)
            if how != "no folder":
                folder.write_text("not a folder")
        run = take(lab, "--policy", policy)
    assert run.exit_code == 10, run
    assert "metrics" in run.stdout
    assert str(lab.metrics_path) in run.stdout
    assert "s1" in kit.snapshots(lab)
    expected = "filesystem-consistent" if policy != "never" else "crash-consistent"
    assert expected in run.stdout
    assert kit.window(lab).verdict == expected
    assert kit.window(lab).closed_at is not None


def test_no_metrics_are_no_trouble(lab: Site) -> None:
    lab.write_config(metrics={"textfile": ""})
    assert take(lab).exit_code == 0
    assert not lab.metrics_path.exists()


# ---------------------------------------------------------------- the guard


@pytest.mark.parametrize("policy", ["require", "prefer"])
def test_without_a_guard_nothing_is_frozen(lab: Site, policy: str) -> None:
    """systemd is asked for and does not run here."""
    lab.write_config(guard={"launcher": "systemd", "arm_timeout_seconds": 2})
    run = take(lab, "--policy", policy)
    assert run.exit_code == (12 if policy == "require" else 0), run
    assert "guard" in run.text
    assert not lab.node.requests("fsfreeze-freeze")
    assert kit.window(lab).closed_at is not None
    assert ("s1" in kit.snapshots(lab)) == (policy == "prefer")


# ---------------------------------------------------------------- secrets


def test_the_secret_is_in_no_file_no_message_and_no_command_line(lab: Site, guest: ScriptedGuest) -> None:
    lab.node.set(task_delays={"before": 0.5})
    process = lab.start("100", "--name", "s1", "--verbose")
    assert wait_for(guest.is_frozen)
    lines = []
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            line = (folder / "cmdline").read_bytes().decode(errors="replace")
            if str(lab.run) in line or "snapshot" in line:
                lines.append(line + (folder / "environ").read_bytes().decode(errors="replace"))
    stdout, stderr = process.communicate(timeout=60)
    assert lines
    secret = lab.node.token_secret
    assert secret not in "".join(lines) + stdout + stderr
    for path in (lab.journal_path, lab.metrics_path, lab.config_path):
        assert secret.encode() not in path.read_bytes()
    assert secret not in kit.description(lab)


def test_the_files_we_make_are_not_for_everybody(lab: Site) -> None:
    shutil.rmtree(lab.run / "state", ignore_errors=True)
    assert take(lab).exit_code == 0
    assert lab.journal_path.stat().st_mode & 0o007 == 0
    assert lab.journal_path.parent.stat().st_mode & 0o007 == 0
