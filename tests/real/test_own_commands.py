"""The administrator's own commands around real guests: whatever one does, it does not do it inside the freeze, by the
guest's own record, and the backup or snapshot ends as vzdump's rules say, judged by the disk.

A command writes when it begins and ends into the guest itself, on the clock on which the guest's agent hook writes when
it is frozen and thawed.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import sys
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import pytest

from tests.hook.kit import back_up, check_thawed, hook_site, newest, said
from tests.lab.fixtures import real_guest
from tests.lab.guest.base import pid_is_alive
from tests.lab.guest.oracle import Judgement, judge, judge_image
from tests.lab.site import Site

pytestmark = pytest.mark.real

OWNERS = ("hook", "vzdump")
CONSISTENT = "filesystem-consistent"
NOBODY = 65534

MARK = """
import socket, sys
path, word = sys.argv[1:]
note = "{ read -r _; read -r _; read -r _ _ now _; } </proc/timer_list; echo $now " + word + " >>/run/lab/own.log"
with socket.socket(socket.AF_UNIX) as channel:
    channel.settimeout(30)
    channel.connect(path)
    channel.sendall(f"{word} {note}\\n".encode())
    text = b""
    while f"<rc {word} 0>".encode() not in text:
        text += channel.recv(65536)
"""
COMMAND = """#!/bin/sh
mark() {{ {python} -IS {run}/mark.py {control} "$1:$2:{name}"; }}
case "$1" in {phases})
    mark begin "$1"
    ({body})
    status=$?
    mark end "$1"
    exit $status;;
esac
"""
AROUND = "post-restart|before-freeze|verdict|backup-end"


class Kind(NamedTuple):
    """A way in which a command may misbehave, and what is to become of the backup."""

    name: str
    body: str
    phases: str = AROUND
    state: str = "ok"
    is_frozen: bool = True
    line: str = ""
    """Of the job's log."""
    seconds: float = 60.0
    """The limit of each command."""
    mode: int = 0o755


KINDS = (
    Kind("behaves", "true", "*"),
    Kind("sleeps", "sleep 20"),
    Kind(
        "fails", "exit 3", "before-freeze|verdict|log-end", line="fails: ended with 3 in before-freeze; the backup goes"
    ),
    Kind("vetoes", "exit 3", "post-restart", "err", False, "vetoes: ended with 3; this guest's backup fails"),
    Kind("fails-late", "exit 3", "backup-end", "err", line="late: ended with 3; this guest is reported as failed"),
    Kind(
        "floods", "yes a line of it | head -c 100000000", "before-freeze|verdict", line="more bytes of its output are"
    ),
    Kind("daemon", "sleep 300 & echo $! >>{run}/daemons", "before-freeze|backup-end|verdict"),
    Kind("hangs", "sleep 300", "before-freeze", line="hangs: was ended by us", seconds=1.0),
    Kind("not-roots", "exit 3", "*", line="own command not-roots: not run: ", mode=0o775),
)
TOGETHER = tuple(
    kind._replace(body=kind.body.replace("20", "0.5"))
    for kind in KINDS
    if kind.name in ("behaves", "sleeps", "fails", "floods", "daemon", "not-roots")
)
"""All of those that let a backup end well, in one: what runs for each change."""


def kinds(without: Sequence[str] = ()) -> pytest.MarkDecorator:
    """As a parameter."""
    alone = [pytest.param((one,), id=one.name, marks=pytest.mark.slow) for one in KINDS if one.name not in without]
    return pytest.mark.parametrize("kinds", [pytest.param(TOGETHER, id="together"), *alone])


@pytest.fixture(scope="module")
def site() -> Iterator[Site]:
    with hook_site(real_guest) as found:
        (found.run / "mark.py").write_text(MARK)
        yield found


@pytest.fixture
def lab(site: Site) -> Iterator[Site]:
    """The guest's record is empty, and no daemon stays behind."""
    site.guest.shell("true >/run/lab/own.log; true >/run/lab/hook.log")
    yield site
    daemons = site.run / "daemons"
    for pid in daemons.read_text().split() if daemons.exists() else ():
        with contextlib.suppress(ProcessLookupError):
            os.kill(int(pid), signal.SIGKILL)
    daemons.unlink(missing_ok=True)


def add(lab: Site, kinds: Sequence[Kind]) -> None:
    folder = lab.run / "hooks.d"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(mode=0o755)
    folder.chmod(0o755)
    for kind in kinds:
        values = {"phases": kind.phases, "body": kind.body.replace("{run}", str(lab.run)), "name": kind.name}
        path = folder / kind.name
        path.write_text(COMMAND.format(python=sys.executable, control=lab.guest.control_socket, run=lab.run, **values))
        path.chmod(kind.mode)
        if kind.mode != 0o755 and os.geteuid() == 0:
            os.chown(path, NOBODY, NOBODY)
    lab.settings["commands"] = {"timeout_seconds": min(kind.seconds for kind in kinds)}
    lab.write_config()


class Call(NamedTuple):
    """One call of a command, in the guest's time."""

    phase: str
    name: str
    began: float
    ended: float


def calls(lab: Site) -> list[Call]:
    """As the guest has recorded them; one that was ended lasts until the next one begins."""
    found: list[Call] = []
    for line in lab.guest.shell("cat /run/lab/own.log").splitlines():
        at, word = line.split()
        what, phase, name = word.split(":")
        seconds = int(at) / 1e9
        if what == "end":
            found[-1] = found[-1]._replace(ended=seconds)
            continue
        if found and found[-1].ended == float("inf"):
            found[-1] = found[-1]._replace(ended=seconds)
        found.append(Call(phase, name, seconds, float("inf")))
    return found


def check_none_inside(lab: Site, kinds: Sequence[Kind]) -> list[tuple[str, str]]:
    """By the guest's own record, of which the calls are returned: phase and command."""
    log = lab.guest.hook_log()
    is_frozen = all(kind.is_frozen for kind in kinds)
    assert [event for _, event in log] == (["freeze", "thaw"] if is_frozen else []), log
    found = calls(lab)
    if is_frozen:
        frozen, thawed = log[0][0], log[1][0]
        if kinds[0].name == "hangs":  # nobody records when it was ended; that it was is in the log
            found[-1] = found[-1]._replace(ended=found[-1].began)
        inside = [call for call in found if call.began < thawed and frozen < call.ended]
        assert not inside, f"inside {frozen} to {thawed}: {inside}"
    return [(call.phase, call.name) for call in found]


def expected(kinds: Sequence[Kind], phases: Sequence[str]) -> list[tuple[str, str]]:
    """Those that are called, in the order of their names in each phase."""
    called = sorted((kind for kind in kinds if kind.mode == 0o755), key=lambda kind: kind.name)
    return [
        (phase, kind.name)
        for phase in phases
        for kind in called
        if kind.phases == "*" or phase in kind.phases.split("|")
    ]


OF_A_BACKUP = (
    "job-init", "job-start", "backup-start", "pre-stop", "pre-restart", "post-restart", "before-freeze",
    "verdict", "backup-end", "log-end", "job-end",
)  # fmt: skip


@pytest.mark.parametrize("owner", OWNERS)
@kinds()
def test_a_backup_ends_as_vzdumps_rules_say_and_nothing_runs_inside_its_freeze(
    lab: Site, kinds: Sequence[Kind], owner: str
) -> None:
    add(lab, kinds)
    lab.settings["hook"] = {"owner": owner}
    result = back_up(lab, timeout=240.0, terminal=True)
    (state,) = {kind.state for kind in kinds}
    assert result.guests[100].state == state, result.log_lines
    assert result.ok == (state == "ok")
    assert len(result.log_lines) < 2000
    text = "\n".join(said(result))
    assert [kind.name for kind in kinds if kind.line not in text] == [], text
    check_thawed(lab)
    assert check_none_inside(lab, kinds) == expected(kinds, OF_A_BACKUP)
    archive = result.guests[100].archive
    assert (archive is not None) == all(kind.is_frozen for kind in kinds)
    if archive is not None:
        check_verdict(newest(lab).verdict, judge_image(archive, lab.guest.fs), owner)
        archive.unlink()
    check_daemons(lab, kinds)


@kinds(without=("vetoes", "fails-late"))
def test_a_snapshot_is_consistent_and_nothing_runs_inside_its_freeze(lab: Site, kinds: Sequence[Kind]) -> None:
    add(lab, kinds)
    name = f"s-{kinds[-1].name}"
    run = lab.safe_snapshot("100", "--name", name, timeout=240.0)
    assert run.exit_code == 0, run
    text = run.text
    assert [kind.name for kind in kinds if kind.line.partition(";")[0] not in text] == [], text
    check_thawed(lab)
    assert check_none_inside(lab, kinds) == expected(kinds, ("before-freeze", "verdict"))
    check_verdict(newest(lab).verdict, judge(lab.guest.disk, name, lab.guest.fs), "snapshot")
    check_daemons(lab, kinds)


def check_verdict(verdict: str | None, judgement: Judgement, owner: str) -> None:
    """vzdump's own freeze may be over before anybody has asked: it is not called good then."""
    assert judgement.consistent, judgement.evidence
    assert verdict == CONSISTENT or (owner == "vzdump" and verdict == "unknown")


def check_daemons(lab: Site, kinds: Sequence[Kind]) -> None:
    """They live, and nobody has waited for them."""
    if "daemon" in [kind.name for kind in kinds]:
        pids = (lab.run / "daemons").read_text().split()
        assert pids
        assert all(pid_is_alive(int(pid)) for pid in pids)
