"""The administrator's own commands: which count, how one is called, and that none of them holds anybody up."""

from __future__ import annotations

import json
import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from snapshot.base.signals import SignalGate
from snapshot.commands import folder as hooks
from snapshot.commands.output import LONGEST_LINE, MOST_BYTES, MOST_LINES
from snapshot.commands.runner import Outcome, run_commands
from snapshot.errors import InterruptedBySignalError
from tests.lab.guest.base import pid_is_alive
from tests.lab.site import wait_for

NOBODY = 65534
AS_ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="another user is needed")
HANG_SECONDS = 60.0
"""A command that is not ended at all is noticed by this."""


class Own:
    """A folder of commands, and what was said while they ran."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.said: list[str] = []
        folder.mkdir(mode=0o755)
        folder.chmod(0o755)

    def add(self, name: str, body: str, *, shebang: str = "#!/bin/sh", mode: int = 0o755) -> Path:
        path = self.folder / name
        path.write_text(f"{shebang}\n{body}\n")
        path.chmod(mode)
        return path

    def run(
        self,
        phase: str = "verdict",
        arguments: tuple[str, ...] = (),
        environment: Mapping[str, str] | None = None,
        document: Mapping[str, object] | None = None,
        *,
        seconds: float = HANG_SECONDS,
        until_failure: bool = False,
    ) -> list[Outcome]:
        return run_commands(
            self.folder,
            phase,
            arguments,
            environment,
            document,
            say=self.said.append,
            timeout_seconds=seconds,
            until_failure=until_failure,
        )

    def names(self) -> list[str]:
        """Of those that are run."""
        return [command.name for command in hooks.find(self.folder, os.geteuid()) if not command.refused]

    def refused(self) -> dict[str, str]:
        return {command.name: command.refused for command in hooks.find(self.folder, os.geteuid()) if command.refused}


@pytest.fixture
def own(tmp_path: Path) -> Own:
    return Own(tmp_path / "hooks.d")


# ------------------------------------------------------------------------------------------------------- which count


def test_a_missing_and_an_empty_folder_have_no_commands(own: Own, tmp_path: Path) -> None:
    assert own.run() == []
    assert hooks.find(tmp_path / "nowhere", os.geteuid()) == []


def test_commands_are_called_in_the_order_of_their_names_whatever_became_of_those_before(own: Own) -> None:
    for name in ("20-b", "10-a", "9-z", "30-c"):
        own.add(name, f"echo here; exit {int(name == '10-a')}")
    assert [(outcome.name, bool(outcome.problem)) for outcome in own.run()] == [
        ("10-a", True), ("20-b", False), ("30-c", False), ("9-z", False),
    ]  # fmt: skip
    assert own.said == [f"{name}: here" for name in ("10-a", "20-b", "30-c", "9-z")]


def test_the_first_that_fails_is_the_last_where_it_vetoes(own: Own) -> None:
    own.add("05-refused", "echo here", mode=0o775)
    own.add("10-a", "exit 3")
    own.add("20-b", "echo here")
    assert [str(outcome) for outcome in own.run(until_failure=True)][1:] == ["10-a: ended with 3"]
    assert own.said == []


def test_what_editors_and_package_managers_leave_behind_is_no_command(own: Own) -> None:
    for name in (
        ".hidden",
        "a~",
        "a.bak",
        "a.dpkg-old",
        "a.dpkg-dist",
        "a.ucf-new",
        "a.rpmsave",
        "a.swp",
        "a.disabled",
    ):
        own.add(name, "exit 1")
    own.add("README", "not for anybody to run", mode=0o644)
    (own.folder / "lib").mkdir()
    own.add("10-mine", "exit 0")
    own.add("vzdump-hook-script.pl", "exit 0")
    assert own.names() == ["10-mine", "vzdump-hook-script.pl"], "PVE's own example would be missed by nobody"
    assert own.refused() == {}


def test_a_name_that_run_parts_would_pass_over_is_told(own: Own) -> None:
    own.add("copy (1)", "exit 0")
    assert "rename it" in own.refused()["copy (1)"]


def test_whatever_a_name_is_made_of_one_line_says_that_it_is_refused(own: Own, tmp_path: Path) -> None:
    name = b"a\nERROR: b\x1b[31m\xff".decode(errors="surrogateescape")
    own.add(name, "exit 0")
    own.add(f"2{name}", "exit 0", mode=0o775)
    (own.folder / "30-link").symlink_to(f"/nowhere/{name}")
    lines = [*hooks.refused_lines(tmp_path / "config.toml", os.geteuid()), *map(str, own.run())]
    assert len(lines) == 6
    assert all(line.isprintable() for line in lines), lines


@pytest.mark.parametrize("number", [hooks.MOST, 10_000])
def test_a_folder_that_is_full_of_programs_is_refused_in_one_line(own: Own, number: int) -> None:
    for count in range(number):
        (own.folder / f"{count}-one").touch(0o755)
    (own.folder / "README").touch(0o644)
    if number == hooks.MOST:
        assert len(own.names()) == number
    else:
        assert own.refused() == {
            "hooks.d": "it has 10000 executables, and 100 at most are called: take out what is no command of yours"
        }


@pytest.mark.parametrize("mode", [0o775, 0o757, 0o777])
def test_a_file_that_others_may_write_to_is_refused(own: Own, mode: int) -> None:
    path = own.add("10-mine", "echo here", mode=mode)
    (outcome,) = own.run()
    assert outcome.is_refused
    assert f"`chmod go-w {path}`" in outcome.problem
    assert own.said == []


@AS_ROOT
def test_a_file_of_another_user_is_refused(own: Own) -> None:
    path = own.add("10-mine", "echo here")
    os.chown(path, NOBODY, NOBODY)
    (outcome,) = own.run()
    assert outcome.is_refused
    assert f"belongs to uid {NOBODY}: `chown root {path}`" in outcome.problem
    assert own.said == []


@pytest.mark.parametrize("is_linked", [False, True])
def test_a_folder_that_somebody_may_exchange_for_another_is_refused(
    own: Own, tmp_path: Path, *, is_linked: bool
) -> None:
    """He needs no right to the folder itself, only to one above it, on whichever way to it."""
    own.add("10-mine", "echo here")
    above, folder = tmp_path, own.folder
    if is_linked:
        above = tmp_path / "linked"
        above.mkdir()
        (above / "here").symlink_to(tmp_path)
        folder = above / "here" / "hooks.d"
    above.chmod(0o777)
    (command,) = hooks.find(folder, os.geteuid())
    assert command.refused.startswith(f"{above} above it can be written by everybody")
    assert f"`chmod go-w {above}`" in command.refused
    above.chmod(0o1777)
    assert [command.refused for command in hooks.find(folder, os.geteuid())] == [""], "as /tmp: nobody renames ours"
    above.chmod(0o755)
    assert [command.refused for command in hooks.find(folder, os.geteuid())] == [""]


@AS_ROOT
def test_a_folder_below_another_users_is_refused(own: Own, tmp_path: Path) -> None:
    own.add("10-mine", "echo here")
    os.chown(tmp_path, NOBODY, NOBODY)
    (outcome,) = own.run()
    assert outcome.is_refused
    assert f"{tmp_path} above it belongs to uid {NOBODY}" in outcome.problem
    assert own.said == []


def test_one_that_another_takes_away_is_said_to_be_gone(own: Own) -> None:
    own.add("10-a", f"rm {own.folder}/20-b")
    own.add("20-b", "echo here")
    assert own.run()[1].problem.endswith("it was taken away a moment ago, perhaps by another own command")


def test_a_link_out_of_the_folder_is_refused_and_one_within_it_is_not(own: Own, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.write_text("#!/bin/sh\necho outside\n")
    outside.chmod(0o755)
    (own.folder / "lib").mkdir()
    own.add("lib/deeper", "echo deeper")
    own.add("10-mine", "echo here")
    for name, target in (
        ("20-out", str(outside)), ("30-up", "../outside"), ("40-twice", "20-out"), ("50-gone", "nothing"),
        ("60-deeper", "lib/deeper"), ("70-in", "10-mine"), ("80-self", "80-self"),
    ):  # fmt: skip
        (own.folder / name).symlink_to(target)
    assert own.names() == ["10-mine", "70-in"]
    assert set(own.refused()) == {"20-out", "30-up", "40-twice", "50-gone", "60-deeper", "80-self"}
    assert "link out of its folder" in own.refused()["40-twice"]


def test_what_is_no_regular_file_is_refused_and_nobody_waits_for_it(own: Own) -> None:
    os.mkfifo(own.folder / "10-pipe", 0o755)
    (outcome,) = own.run()
    assert outcome.is_refused


@pytest.mark.parametrize("kind", ["writable", "sticky", "a link", "a file", pytest.param("nobody's", marks=AS_ROOT)])
def test_of_a_folder_that_is_not_ours_alone_nothing_is_run(own: Own, tmp_path: Path, kind: str) -> None:
    own.add("10-mine", "echo here")
    if kind in ("writable", "sticky"):
        own.folder.chmod(0o775 if kind == "writable" else 0o1777)
    elif kind == "nobody's":
        os.chown(own.folder, NOBODY, NOBODY)
    else:
        own.folder = own.folder.rename(tmp_path / "elsewhere").with_name("hooks.d")
        own.folder.symlink_to("elsewhere") if kind == "a link" else own.folder.touch()
    (outcome,) = own.run()
    assert (outcome.name, outcome.is_refused) == ("hooks.d", True)
    assert own.said == []


# -------------------------------------------------------------------------------------------------- how it is called


def test_a_command_gets_the_arguments_and_the_environment_and_nothing_else(own: Own, tmp_path: Path) -> None:
    own.add("10-mine", 'echo "$@"; pwd; tr "\\0" "\\n" </proc/$$/environ | sort; cat')
    own.add("20-fds", "exec ls -l /proc/self/fd")
    with open(tmp_path / "handed-down", "w") as handed_down:
        os.set_inheritable(handed_down.fileno(), True)
        own.run("backup-start", ("snapshot", "100"), {"VMTYPE": "qemu", "HOSTNAME": "w\u00e9b"})
    assert own.said[:2] == ["10-mine: backup-start snapshot 100", "10-mine: /"]
    variables = {
        line.removeprefix("10-mine: ").partition("=")[0]
        for line in own.said
        if line.startswith("10-mine: ") and "=" in line
    }
    assert variables - {"PWD", "OLDPWD", "_", "SHLVL"} == {"HOSTNAME", "PATH", "VMTYPE"}
    open_files = [line.partition(" -> ")[2] for line in own.said if line.startswith("20-fds: ") and " -> " in line]
    assert len(open_files) == 4, "the three and ls's own"
    assert open_files[0] == "/dev/null"
    assert open_files[1] == open_files[2]
    assert not any("handed-down" in target for target in open_files)


def test_a_phase_of_ours_comes_with_one_json_object_that_nobody_has_to_read(own: Own) -> None:
    own.add("10-reads", "cat")
    own.add("20-does-not", "exit 0")
    document = {"guest": {"vmid": 100, "name": "w\u00e9b"}, "reason": "x" * 200_000}
    assert [outcome.problem for outcome in own.run(document={"guest": document["guest"]})] == ["", ""]
    found = json.loads(own.said[0].removeprefix("10-reads: "))
    assert found == {"version": 1, "phase": "verdict", "guest": {"vmid": 100, "name": "w\u00e9b"}}
    assert [outcome.problem for outcome in own.run(document=document)] == ["", ""], "larger than a pipe"


@pytest.mark.parametrize(
    ("body", "problem"),
    [("exit 3", "ended with 3"), ("kill -9 $$", "was ended by signal 9 (SIGKILL)"), ("exit 255", "ended with 255")],
)
def test_how_it_ended_is_told(own: Own, body: str, problem: str) -> None:
    own.add("10-mine", body)
    assert own.run() == [Outcome("10-mine", problem)]


@pytest.mark.parametrize("shebang", ["#!/nowhere/perl", "#! /bin/sh\r", "#!/etc/passwd/sh -e"])
def test_a_script_that_cannot_be_started_is_told_with_the_usual_cause(own: Own, shebang: str) -> None:
    own.add("10-mine", "exit 0", shebang=shebang)
    (outcome,) = own.run()
    assert outcome.problem.startswith("cannot be started (")
    assert outcome.problem.endswith("as #!/bin/sh")
    assert not outcome.is_refused


def test_one_without_a_first_line_is_run_by_sh_as_vzdump_does(own: Own) -> None:
    own.add("10-mine", "echo $1", shebang="")
    assert own.run() == [Outcome("10-mine")]
    assert own.said == ["10-mine: verdict"]


# ---------------------------------------------------------------------------------------------------- nobody is held


def test_one_that_does_not_end_is_ended_with_all_that_it_started(own: Own, tmp_path: Path) -> None:
    own.add("10-hangs", f"echo begun; sleep 600 & echo $! >{tmp_path}/child; wait")
    own.add("20-next", "echo here")
    began = time.monotonic()
    hangs, following = own.run(seconds=0.5)
    assert time.monotonic() - began < HANG_SECONDS
    assert hangs.problem == "was ended by us: it did not end within 0.5 s ([commands] timeout_seconds)"
    assert not following.problem
    assert own.said == ["10-hangs: begun", "20-next: here"]
    child = int((tmp_path / "child").read_text())
    assert wait_for(lambda: not pid_is_alive(child))


def test_one_that_does_not_listen_to_term_is_killed_and_its_children_too(own: Own, tmp_path: Path) -> None:
    body = f"trap '' TERM; sleep 600 & echo $! >{tmp_path}/child; while :; do sleep 600; done"
    own.add("10-deaf", body)
    (outcome,) = own.run(seconds=0.3)
    assert "was ended by us" in outcome.problem
    child = int((tmp_path / "child").read_text())
    assert wait_for(lambda: not pid_is_alive(child))


@pytest.mark.parametrize(
    "how",
    [
        "kill -STOP $$",
        "kill -STOP 0",
        "exec >&- 2>&-; while :; do sleep 600; done",
    ],
    ids=["stops itself", "stops its group", "closes its output"],
)
def test_one_that_stands_still_is_ended(own: Own, tmp_path: Path, how: str) -> None:
    own.add("10-stands", f"echo $$ >{tmp_path}/pid; {how}")
    (outcome,) = own.run(seconds=0.5)
    assert "was ended by us" in outcome.problem
    assert wait_for(lambda: not pid_is_alive(int((tmp_path / "pid").read_text())))


def test_a_flood_costs_neither_the_log_nor_memory_and_is_no_failure(own: Own) -> None:
    own.add("10-flood", "yes a line of a flood | head -c 100000000; echo the last line")
    own.add("20-one-line", "head -c 100000000 /dev/zero | tr '\\0' x")
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert [outcome.problem for outcome in own.run()] == ["", ""]
    assert (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) < 32 * 1024
    assert len(own.said) <= 2 * (MOST_LINES + 1)
    assert sum(map(len, own.said)) < 2 * MOST_BYTES
    assert max(map(len, own.said)) < LONGEST_LINE + 50
    assert own.said[-1].startswith("20-one-line: 99")
    assert own.said[-1].endswith("more bytes of its output are not shown")


def test_an_endless_flood_is_ended_at_the_limit(own: Own) -> None:
    own.add("10-flood", "exec yes")
    (outcome,) = own.run(seconds=0.5)
    assert "was ended by us" in outcome.problem


@pytest.mark.parametrize("daemon", ["sleep 60 & ", "setsid sleep 60 & ", "setsid sh -c 'yes; sleep 60' & "])
def test_a_daemon_that_keeps_its_pipes_holds_nobody_up(own: Own, tmp_path: Path, daemon: str) -> None:
    own.add("10-daemon", f"{daemon} echo $! >{tmp_path}/child; echo done")
    began = time.monotonic()
    try:
        (outcome,) = own.run()
        assert time.monotonic() - began < HANG_SECONDS / 2
        assert not outcome.problem
        if "yes" not in daemon:
            assert own.said == ["10-daemon: done"]
            assert pid_is_alive(int((tmp_path / "child").read_text())), "it may go on: an off-site copy, say"
    finally:
        os.kill(int((tmp_path / "child").read_text()), signal.SIGKILL)


def test_one_that_closes_its_output_and_goes_on_is_waited_for(own: Own) -> None:
    own.add("10-quiet", "exec >&- 2>&-; sleep 0.3; exit 4")
    assert own.run() == [Outcome("10-quiet", "ended with 4")]


def run_interrupted(own: Own) -> None:
    """Run them; the signal that comes meanwhile comes through."""
    gate = SignalGate()
    try:
        with pytest.raises(InterruptedBySignalError), gate.open():
            own.run()
    finally:
        gate.restore()


def test_who_is_interrupted_leaves_no_command_behind(own: Own, tmp_path: Path) -> None:
    own.add("10-hangs", f"echo $$ >{tmp_path}/pid; kill -TERM {os.getpid()}; exec sleep 600")
    run_interrupted(own)
    assert not pid_is_alive(int((tmp_path / "pid").read_text()))


def test_a_signal_while_a_command_is_started_leaves_none_behind(own: Own, monkeypatch: pytest.MonkeyPatch) -> None:
    own.add("10-hangs", "exec sleep 600")
    started: list[subprocess.Popen[bytes]] = []
    start = subprocess.Popen

    def interrupted(*arguments: Any, **options: Any) -> subprocess.Popen[bytes]:
        started.append(start(*arguments, **options))
        os.kill(os.getpid(), signal.SIGTERM)
        return started[-1]

    monkeypatch.setattr(subprocess, "Popen", interrupted)
    run_interrupted(own)
    assert not pid_is_alive(started[0].pid)


def test_one_that_is_ended_may_clean_up(own: Own) -> None:
    own.add("10-cleans", "trap 'sleep 0.3; echo cleaned up; exit' TERM; sleep 600 & wait")
    (outcome,) = own.run(seconds=0.5)
    assert "was ended by us" in outcome.problem
    assert own.said == ["10-cleans: cleaned up"]


KILLED = """
import sys
from pathlib import Path
from snapshot.commands.runner import run_commands
run_commands(Path(sys.argv[1]), "verdict", say=lambda line: print(line, flush=True), timeout_seconds=600)
"""


@pytest.mark.parametrize(
    "how", ["exec sleep 600", "sleep 600 & {note}; wait", "trap '' TERM; sleep 600 & {note}; wait"]
)
def test_who_is_killed_leaves_no_command_behind(own: Own, tmp_path: Path, how: str) -> None:
    """SIGKILL, of us alone: nothing of ours can act any more."""
    note = f"echo $$ $! >{tmp_path}/pids; echo begun"
    own.add("10-hangs", how.format(note=note) if "{note}" in how else f"{note}; {how}")
    start = [sys.executable, "-c", KILLED, str(own.folder)]
    with subprocess.Popen(start, cwd=Path(__file__).parents[2], stdout=subprocess.PIPE) as killed:
        assert killed.stdout is not None
        assert killed.stdout.readline() == b"10-hangs: begun\n", "it is followed by now"
        killed.kill()
    pids = [int(word) for word in (tmp_path / "pids").read_text().split()]
    try:
        assert wait_for(lambda: not any(map(pid_is_alive, pids)), 30), f"still there: {pids}"
    finally:
        for pid in filter(pid_is_alive, pids):
            os.kill(pid, signal.SIGKILL)


def test_a_signal_while_a_deaf_command_is_ended_does_not_save_it(own: Own, tmp_path: Path) -> None:
    """vzdump's TERM, between ours and our KILL."""
    own.add("10-deaf", f"trap 'kill -TERM {os.getpid()}' TERM; echo $$ >{tmp_path}/pid; while :; do sleep 0.1; done")
    gate = SignalGate()
    try:
        with pytest.raises(InterruptedBySignalError), gate.open():
            own.run(seconds=0.5)
    finally:
        gate.restore()
    assert not pid_is_alive(int((tmp_path / "pid").read_text()))


def test_nothing_stays_open(own: Own) -> None:
    own.add("10-mine", "echo here; cat >/dev/null")
    own.add("20-hangs", "sleep 600")
    own.add("30-not", "exit 0", shebang="#!/nowhere")
    before = os.listdir("/proc/self/fd")
    own.run(document={"guest": 100}, seconds=0.2)
    assert os.listdir("/proc/self/fd") == before


def test_control_characters_of_an_output_do_not_reach_the_log(own: Own) -> None:
    own.add(
        "10-mine",
        "import sys; sys.stdout.buffer.write(b'\\x1b[31mred\\r\\nTASK OK\\xff')",
        shebang=f"#!{sys.executable}",
    )
    own.run()
    assert all(line.isprintable() for line in own.said)
    assert own.said[1].startswith("10-mine: TASK OK")
