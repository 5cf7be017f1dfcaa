"""A run of safe-snapshot that the tests fork (tests/lab/forked.py) is what one that is started is."""

from __future__ import annotations

import os
import re
import signal
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import click
import pytest

from snapshot.cli.main import main_group
from tests.lab.forked import Zygote
from tests.lab.guest.scripted import ScriptedGuest
from tests.lab.site import BIN, Run, Site, environment, run_command, site, wait_for

_VARIES = re.compile(r"\s*\b\d+(\.\d+)? m?s\b|pid \d+")
SERVE = ("metrics", "serve", "--port", "0")
COMMANDS = main_group.list_commands(click.Context(main_group))


@pytest.fixture
def lab() -> Iterator[Site]:
    with site(ScriptedGuest) as found:
        yield found


def what(run: Run) -> tuple[int, str, str]:
    """All of a run but its times and pids."""
    return run.exit_code, _VARIES.sub(" ?", run.stdout), _VARIES.sub(" ?", run.stderr)


def children() -> list[int]:
    """The runs that the zygote has begun and not seen the end of."""
    pid = Zygote.get(environment())._process.pid
    return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def links(pid: int) -> set[str]:
    """What its descriptors are of sockets and pipes."""
    found = {os.readlink(file) for file in Path(f"/proc/{pid}/fd").iterdir()}
    return {link for link in found if link.startswith(("socket:", "pipe:"))}


def is_called(pid: int) -> str:
    return Path(f"/proc/{pid}/comm").read_text().strip()


@pytest.mark.parametrize(
    "arguments",
    [
        ("--version",),
        ("check", "100"),
        ("--json", "status"),
        ("100", "--name", "s1", "--policy", "require"),
        ("nonsense",),
        (),
        ("thaw", "999"),
        ("history", "--limit", "none"),
    ],
    ids=" ".join,
)
def test_it_says_and_does_what_a_started_one_does(arguments: tuple[str, ...]) -> None:
    runs, windows = [], []
    for forks in (True, False):
        with site(ScriptedGuest) as lab:
            lab.forks = forks  # type: ignore[misc] - of this site alone
            runs.append(what(lab.safe_snapshot(*arguments)))
            rows = lab.windows() if lab.journal_path.exists() else []
            windows.append([(row.state, row.verdict, row.filesystems_thawed) for row in rows])
    assert runs[0] == runs[1]
    assert windows[0] == windows[1]


def test_it_has_its_tests_folder_and_umask_and_no_file_of_the_zygotes(
    lab: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(lab.run)
    zygote = Zygote.get(environment())._process.pid
    before = os.umask(0o027)
    try:
        with ThreadPoolExecutor() as pool:
            running = pool.submit(lab.safe_snapshot, *SERVE)
            assert wait_for(lambda: [is_called(pid) for pid in children()] == ["safe-snapshot"], 60)
            (pid,) = children()
            try:
                proc = Path(f"/proc/{pid}")
                assert (proc / "cwd").readlink() == lab.run
                assert "Umask:\t0027" in (proc / "status").read_text()
                assert (proc / "fd" / "0").readlink() == Path("/dev/null")
                assert wait_for(lambda: not links(pid) & links(zygote)), "the zygote lets go of a run's streams"
            finally:
                os.kill(pid, signal.SIGKILL)
        assert running.result().exit_code == -signal.SIGKILL
    finally:
        os.umask(before)


def test_one_that_takes_too_long_is_killed(lab: Site) -> None:
    with pytest.raises(subprocess.TimeoutExpired):
        lab.safe_snapshot(*SERVE, timeout=0.3)
    assert wait_for(lambda: not children())
    assert lab.safe_snapshot("--version").exit_code == 0, "the next one runs"


@pytest.mark.parametrize("name", COMMANDS)
def test_each_command_is_whole_where_nothing_but_it_has_been_imported(name: str) -> None:
    """A forked run has the modules of all commands: one that lives on another's imports is found here."""
    run = run_command([str(BIN / "safe-snapshot"), name, "--help"])
    assert (run.exit_code, run.stderr) == (0, "")
    assert run.stdout.startswith(f"Usage: safe-snapshot {name} ")
