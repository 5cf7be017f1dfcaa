"""``safe-snapshot setup`` as it is typed: what it shows, asks, refuses and prints; over a pvesh of its own process."""

from __future__ import annotations

import json
import os
import pty
import re
import signal
import sys
import time
from pathlib import Path

import pytest

from tests.json_schema import follows_the_schema
from tests.lab.node.ops_backup import read_jobs, write_jobs
from tests.lab.node.usercfg import UserFile
from tests.lab.site import Run, run_command
from tests.setup.kit import Bench

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="setup is root's")

ROOT = Path(__file__).resolve().parents[2]
PROGRAM = """
import os, sys
from pathlib import Path
from snapshot.cli import main, setup
from snapshot.setup.node import Places
root, pve, pvesh = map(Path, sys.argv[1:4])
del sys.argv[1:4]
setup.PLACES = Places(
    config=root / "etc/vzdump-hooks/config.toml", vzdump_conf=root / "etc/vzdump.conf", pve=pve,
    hook=root / "usr/bin/vzdump-hook", state=root / "var/lib/vzdump-hooks", proc=root / "proc",
    textfiles=root / "var/lib/prometheus/node-exporter", pvesh=str(pvesh), systemctl=str(root / "usr/bin/systemctl"),
)
main.main()
"""


@pytest.fixture
def bench(folder: Path) -> Bench:
    found = Bench(folder)
    found.lab._file.put(found.lab.settings)
    found.sendmail.write_text(f"#!/bin/sh\ncat >>{folder}/mail\n")
    return found


def argv(bench: Bench, *arguments: str, pvesh: Path | None = None) -> list[str]:
    places = [str(bench.root), str(bench.places.pve), str(pvesh or bench.lab.pvesh)]
    return [sys.executable, "-c", PROGRAM, *places, "setup", *arguments]


ENVIRONMENT = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C.UTF-8", "PYTHONPATH": str(ROOT)}


def run(bench: Bench, *arguments: str, pvesh: Path | None = None) -> Run:
    done = run_command(argv(bench, *arguments, pvesh=pvesh), env=ENVIRONMENT)
    if not {"--json", "--dry-run"} & {*arguments}:  # commands and changes of files are shown as they are
        narrow(done.stdout)
    return done


def narrow(shown: str) -> None:
    """No line is wider than 80 columns, but for a single word or a command."""
    for line in shown.splitlines():
        assert len(line) <= 80 or len(line.split()) == 1 or "`" in line, line


def at_a_terminal(bench: Bench, answers: str, *arguments: str) -> tuple[int, str]:
    """Exit status and what the terminal showed."""
    pid, terminal = pty.fork()
    if pid == 0:
        os.execve(sys.executable, argv(bench, *arguments), ENVIRONMENT)
    os.write(terminal, answers.encode())
    shown = b""
    while True:
        try:
            data = os.read(terminal, 65536)
        except OSError:  # the other end is closed
            break
        if not data:
            break
        shown += data
    _, status = os.waitpid(pid, 0)
    os.close(terminal)
    text = shown.decode().replace("\r\n", "\n")
    narrow(re.sub(r"^.*\[y/N\].*$", "", text, flags=re.MULTILINE))
    return os.waitstatus_to_exitcode(status), text


def test_it_shows_asks_once_does_and_the_way_back_is_byte_for_byte(bench: Bench) -> None:
    before = bench.files()
    status, shown = at_a_terminal(bench, "y\n")
    assert status == 0, shown
    assert shown.count("[y/N]") == 1
    assert shown.count("role FreezeGuard: make it, with VM.Audit VM.Snapshot") == 1, "the plan is told once"
    steps = re.findall(r"^ *(\d+)\. ", shown, re.MULTILINE)
    assert [f" step {number} of {len(steps)}\n" in shown for number in steps] == [True] * len(steps) != []
    assert "is not installed: nobody looks" not in shown, "the doctor tells that"
    assert "pve1 is set up" in shown
    assert "mail to root: " in shown
    assert b"To: root" in (bench.folder / "mail").read_bytes()
    again = run(bench, "--yes")
    assert (again.exit_code, again.stdout.splitlines()[-1]) == (0, "pve1 is set up: nothing to do")
    status, shown = at_a_terminal(bench, "y\n", "--undo")
    assert status == 0, shown
    assert shown.rstrip().endswith("pve1 is as it was before setup")
    kept = {name: what for name, what in bench.files().items() if "user.cfg" not in name and "/priv" not in name}
    assert kept == before
    nothing = run(bench, "--undo", "--yes")
    assert (nothing.exit_code, nothing.stdout) == (0, "setup has changed nothing on pve1: nothing to take back\n")


@pytest.mark.parametrize("arguments", [(), ("--undo",), ("--json",)])
def test_nobody_to_ask_and_no_yes_changes_nothing_and_exits_2(bench: Bench, arguments: tuple[str, ...]) -> None:
    before = bench.files()
    done = run(bench, *arguments)
    assert done.exit_code == 2
    assert "there is nobody to ask" in done.text
    assert bench.files() == before


def test_a_no_changes_nothing(bench: Bench) -> None:
    before = bench.files()
    status, shown = at_a_terminal(bench, "n\n")
    assert (status, "nothing was changed" in shown) == (1, True)
    assert bench.files() == before


def test_a_dry_run_prints_every_command_and_file_and_changes_nothing(bench: Bench) -> None:
    assert run(bench, "--dry-run").stdout.count("nobody looks") == 1
    bench.install_units()
    before = bench.files()
    done = run(bench, "--dry-run")
    assert done.exit_code == 0
    assert bench.files() == before
    for line in (
        "create /access/roles --roleid FreezeGuard --privs VM.Audit,VM.Snapshot",
        "create /access/users --userid freeze-guard@pve --comment 'made by safe-snapshot setup, with the role Freeze",
        "set /access/acl --path / --users freeze-guard@pve --roles FreezeGuard --propagate 1",
        "create /access/users/freeze-guard@pve/token/hooks-pve1 --privsep 0",
        f"+script: {bench.places.hook}",
        '+mail_to = "root"',
        "systemctl enable safe-snapshot-recover.service",
    ):
        assert line in done.stdout, line


def test_the_jobs_question_comes_only_where_there_is_such_a_job(bench: Bench) -> None:
    mine = bench.root / "root/mine"
    mine.write_text("#!/bin/sh\n")
    mine.chmod(0o755)
    write_jobs(bench.lab.root, {"b1": {"schedule": "21:00", "script": str(mine)}})
    status, shown = at_a_terminal(bench, "y\ny\n")
    assert (status, shown.count("[y/N]")) == (0, 2), shown
    told, more = shown.split("with them, too:\n")
    assert re.search(r"^ *\d+\. job b1: take its own script", more, re.MULTILINE)
    assert "user freeze-guard@pve: make it" in told
    assert "user freeze-guard@pve: make it" not in more
    assert "script" not in read_jobs(bench.lab.root)["b1"]


def test_json_is_one_object_that_follows_the_schema(bench: Bench) -> None:
    for arguments in (("--dry-run",), ("--yes",), ("--yes",), ("--undo", "--dry-run"), ("--undo", "--yes")):
        done = run(bench, "--json", *arguments)
        assert done.exit_code == 0, done.text
        assert done.stderr == ""
        follows_the_schema(done.json)
        assert done.json["node"] == "pve1"
    assert [found["left"] for found in done.json["taken_back"]] == [""] * len(done.json["taken_back"])
    assert len(done.json["taken_back"]) > 4


@pytest.mark.parametrize("arguments", [("--config", "/etc/other.toml", "--yes"), ("--undo", "--jobs", "--yes")])
def test_what_makes_no_sense_is_refused(bench: Bench, arguments: tuple[str, ...]) -> None:
    assert run(bench, *arguments).exit_code == 2


def test_a_pve_that_refuses_is_told_with_how_far_it_came_and_the_next_run_goes_on(bench: Bench) -> None:
    refusing = bench.root / "usr/bin/pvesh"
    refusing.write_text(
        f'#!/bin/sh\n[ "$1 $2" = "set /access/acl" ] && {{ echo "no quorum!" >&2; exit 5; }}\n'
        f'exec {bench.lab.pvesh} "$@"\n'
    )
    refusing.chmod(0o755)
    done = run(bench, "--yes", pvesh=refusing)
    assert done.exit_code == 5
    assert "no quorum!" in done.stderr
    assert re.search(r"^\d of \d steps are done: run setup again to go on, or with --undo$", done.stderr, re.MULTILINE)
    assert not bench.places.vzdump_conf.exists()
    assert run(bench, "--yes").exit_code == 0


@pytest.mark.parametrize("says", ["secret", "nothing"])
def test_what_pvesh_prints_around_a_secret_is_in_no_message(bench: Bench, says: str) -> None:
    """An answer that cannot be read may hold the secret all the same."""
    odd = bench.root / "usr/bin/pvesh"
    secret = 'case "$2" in */token/*) echo "perl: odd"; ' + (
        f'{bench.lab.pvesh} "$@"; exit;;' if says == "secret" else "exit;;"
    )
    odd.write_text(f'#!/bin/sh\n{secret} esac\nexec {bench.lab.pvesh} "$@"\n')
    odd.chmod(0o755)
    done = run(bench, "--yes", "--verbose", pvesh=odd)
    assert done.exit_code == 1
    assert "did not tell the secret of the token freeze-guard@pve!hooks-pve1" in " ".join(done.stderr.split())
    for secret in UserFile(bench.lab.root).secrets().values():
        assert secret not in done.text
    assert run(bench, "--yes").exit_code == 0
    assert run(bench, "--undo", "--yes").exit_code == 0


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("change", range(1, 5))
def test_killed_while_pvesh_is_at_work_the_next_waits_for_it_and_finishes(bench: Bench, change: int, when: str) -> None:
    """pvesh outlives its caller: a second setup that did not wait would look before it has done its work."""
    before = bench.files()
    deadly = bench.root / "usr/bin/pvesh"
    act = f'{bench.lab.pvesh} "$@"'
    end = f"kill -9 $PPID; sleep 0.5; {act}" if when == "before" else f"{act}; kill -9 $PPID; sleep 0.2"
    deadly.write_text(
        f'#!/bin/sh\n[ "$1" = get ] && exec {bench.lab.pvesh} "$@"\necho >>{bench.folder}/count\n'
        f'[ $(wc -l <{bench.folder}/count) = {change} ] || exec {bench.lab.pvesh} "$@"\n{end}\n'
    )
    deadly.chmod(0o755)
    done = run(bench, "--yes", pvesh=deadly)
    assert done.exit_code == -signal.SIGKILL
    if change % 2:
        finished = run(bench, "--yes")
        assert finished.exit_code == 0, finished.text
    undone = run(bench, "--undo", "--yes")
    assert undone.exit_code == 0, undone.text
    assert "left:" not in undone.text
    deadly.unlink()
    kept = {name: what for name, what in bench.files().items() if "user.cfg" not in name and "/priv" not in name}
    assert kept == before
    assert "freeze-guard" not in (bench.lab.root / "etc/pve/user.cfg").read_text()


def test_whatever_setup_starts_of_pve_holds_its_turn_until_it_has_ended(bench: Bench) -> None:
    looking = bench.root / "usr/bin/pvesh"
    looking.write_text(
        f"#!/bin/sh\n{{ echo call; for one in /proc/$$/fd/*; do readlink $one; done; }} >>{bench.folder}/open\n"
        f'exec {bench.lab.pvesh} "$@"\n'
    )
    looking.chmod(0o755)
    assert run(bench, "--yes", pvesh=looking).exit_code == 0
    open_files = (bench.folder / "open").read_text().splitlines()
    assert open_files.count(str(bench.places.state.parent)) == open_files.count("call") > 8


def test_two_at_once_take_turns(bench: Bench) -> None:
    began = time.monotonic()
    slow = bench.root / "usr/bin/pvesh"
    slow.write_text(f'#!/bin/sh\nexec {bench.lab.pvesh} "$@"\n')
    slow.chmod(0o755)
    pids = []
    for _ in range(2):
        pid = os.fork()
        if pid == 0:
            nowhere = os.open(os.devnull, os.O_RDWR)
            for descriptor in (0, 1, 2):
                os.dup2(nowhere, descriptor)
            os.execve(sys.executable, argv(bench, "--yes", pvesh=slow), ENVIRONMENT)
        pids.append(pid)
    assert [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in pids] == [0, 0]
    assert time.monotonic() - began < 300
    record = json.loads(bench.places.record.read_text())
    assert [entry["kind"] for entry in record["entries"]].count("token") == 1
