"""`make lab`: what it prints works, and Ctrl-C leaves nothing behind."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
from itertools import takewhile
from pathlib import Path

import pytest

from tests.lab.site import Started, wait_for

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_lab_says_how_to_use_it_and_goes_away_cleanly(number: int) -> None:
    command = [sys.executable, "-m", "tests.lab", "--scripted", "--nodes", "2"]
    with Started(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as lab:
        assert lab.stdout
        text = ""
        for line in lab.stdout:
            text += line
            if "Ctrl-C" in line:
                break
        assert not [line for line in text.splitlines() if len(line) > 80]
        assert len(text.splitlines()) <= 1 + 24
        config = Path(re.search(r"^(\S+/config.toml), ", text, re.MULTILINE)[1])  # type: ignore[index]
        assert 'node = "pve1"' in config.read_text()
        lab.send_signal(number)
        assert lab.wait(30) == 0
    assert not config.parent.exists()


def commands_of(text: str, head: str) -> list[str]:
    """What stands below a head, without the remarks."""
    below = text.partition(f"\n{head}:\n")[2].splitlines()
    return [line.partition("# ")[0].strip() for line in takewhile(lambda line: line.startswith("  "), below)]


def test_what_the_lab_says_to_try_and_to_break_can_be_typed_as_it_stands() -> None:
    """In the order in which it stands there; the exit codes are those that an operator would see."""
    command = [sys.executable, "-m", "tests.lab", "--scripted"]
    with Started(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as lab:
        assert lab.stdout
        text = ""
        for line in lab.stdout:
            text += line
            if "Ctrl-C" in line:
                break
        enter = re.search(r"(\. /\S+/enter)", text)
        assert enter, text

        def typed(line: str) -> subprocess.CompletedProcess[str]:
            return subprocess.run(
                ["/bin/sh", "-c", f"{enter[1]}\n{line}"],
                cwd="/",
                capture_output=True,
                text=True,
                check=False,
                timeout=300,
            )

        tried = {line: typed(line) for line in commands_of(text, "Try")}
        broken = {line: typed(line) for line in commands_of(text, "Break")}
        kill = next(line for line in broken if "kill-when" in line)
        history = "safe-snapshot history 103"
        was_thawed = wait_for(lambda: "(thawed)" in typed(history).stdout.splitlines()[1], 60)
        settled = typed("safe-snapshot recover")
        lab.send_signal(signal.SIGTERM)
        assert lab.wait(60) == 0
    for done in (*tried.values(), *broken.values()):
        assert "Traceback" not in done.stdout + done.stderr, done
        assert "not found" not in done.stderr, done
    assert {line: done.returncode for line, done in tried.items() if done.returncode} == {
        "safe-snapshot verify 100 upgrade": 16  # its disk is a pretended one
    }
    assert "frozen for" in tried["vzdump 100"].stdout
    doctor = tried["safe-snapshot doctor"].stdout
    assert "vzdump-hook on 2 nodes" in doctor
    assert "0 errors, 0 warnings" in doctor
    assert "5 guests: 4 filesystem-consistent, 1 crash-consistent" in tried["safe-snapshot all"].stdout
    assert tried["safe-snapshot history"].stdout.count("vzdump") == 1
    codes = {line: done.returncode for line, done in broken.items()}
    assert codes["safe-snapshot status"] == 8
    assert codes["safe-snapshot thaw 100"] == 0
    assert broken[kill].stdout.endswith("freeze requested\n"), broken[kill]
    assert "Killed" in broken[kill].stderr, broken[kill]
    assert was_thawed
    assert codes["safe-snapshot 101"] == 4
    assert "qm unlock 101" in " ".join(broken["safe-snapshot 101"].stderr.split())
    assert broken["qm unlock 101"].returncode == 0
    assert settled.returncode == 0, settled


PLAYED = """
for guest in 100 102; do safe-snapshot $guest kept -q && qm stop $guest && qm status $guest && qm start $guest; done
vzdump 100 >/dev/null; qm listsnapshot 102; qm delsnapshot 102 kept; qm list; pct list; qm config 101
export LAB_NODE=pve2
vzdump 103 | grep 'Finished Backup'; qm list; safe-snapshot --json drill 103 --yes >/dev/null; echo drill $?
safe-snapshot doctor
"""


def test_guests_go_off_and_on_and_each_node_sees_its_own_in_the_lab() -> None:
    command = [sys.executable, "-m", "tests.lab", "--scripted"]
    with Started(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as lab:
        assert lab.stdout
        enter = next(found[1] for line in lab.stdout if (found := re.search(r"(\. /\S+/enter)", line)))

        def typed(lines: str) -> str:
            line = f"{enter}\n{lines}"
            return subprocess.run(["/bin/sh", "-c", line], cwd="/", capture_output=True, text=True, check=False).stdout

        said = typed(PLAYED)
        assert said.count("status: stopped") == 2, said
        assert said.count("`-> kept ") == 1, said
        assert [line.split()[0] for line in said.splitlines() if "running" in line] == [
            "100",
            "101",
            "102",
            "104",
            "103",
        ]
        assert "Finished Backup of VM 103" in said
        assert "drill 0\n" in said
        assert "vzdump-hook on 2 nodes" in said
        assert "none of the last nights' ran without vzdump-hook" in said
        root = Path(enter[2:]).parent / "node"
        (root / "etc/vzdump.conf").write_text("")
        doctor = typed("safe-snapshot doctor; safe-snapshot setup")
        assert doctor.count("no-script: node pve") == 2, doctor
        assert ">>/etc/" not in doctor
        assert "frozen" not in typed("vzdump 101")
        lab.send_signal(signal.SIGTERM)
        assert lab.wait(60) == 0


@pytest.mark.parametrize("version", ["9.2.6", "8.4.0"])
def test_a_self_test_in_the_lab_is_well_on_each_node(version: str) -> None:
    command = [sys.executable, "-m", "tests.lab", "--scripted", "--pve-version", version]
    with Started(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as lab:
        assert lab.stdout
        enter = next(found[1] for line in lab.stdout if (found := re.search(r"(\. /\S+/enter)", line)))
        for node, vmid in (("pve1", 100), ("pve2", 103)):
            lines = f"{enter}\nexport LAB_NODE={node}\nvzdump-hook --self-test {vmid} 2>&1; echo code $?\n"
            said = subprocess.run(
                ["/bin/sh", "-c", f"{lines}safe-snapshot --json history {vmid}"],
                cwd="/",
                capture_output=True,
                text=True,
                check=False,
            ).stdout
            played, _, history = said.partition("code 0\n")
            assert "WARNING" not in played, said
            (window,) = json.loads(history)["windows"]
            assert (window["source"], window["verdict"]) == ("drill", "filesystem-consistent"), said
        lab.send_signal(signal.SIGTERM)
        assert lab.wait(60) == 0


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("--nodes 0", "'0' is not a number from 1 to 16"),
        ("--nodes many", "'many' is not a number"),
        ("--pve-version new", "'new' is not a version like 9.2.6"),
    ],
)
def test_what_the_lab_cannot_be_is_said_before_anything_is_started(line: str, says: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tests.lab", "--scripted", *line.split()],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert says in done.stderr
    assert "Traceback" not in done.stderr
