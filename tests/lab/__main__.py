"""``make lab``: a PVE cluster in a box to play with, until Ctrl-C. ``make lab ARGS="--scripted --nodes 3"``.

Boots an ext4 and an XFS guest, adds a Windows-like one, a database that takes its time and a container, starts the
nodes in front of them, and prints both ways in, what to try and what to break. Without QEMU, or with ``--scripted``,
the guests are scripted ones.
"""

from __future__ import annotations

import argparse
import contextlib
import re
import shlex
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import FrameType
from typing import NamedTuple

from snapshot.base.text import clean
from tests.lab.fixtures import real_available
from tests.lab.guest.agentfacts import WINDOWS
from tests.lab.guest.agentmodel import Faults
from tests.lab.guest.base import Filesystem, Guest
from tests.lab.guest.real import RealGuest
from tests.lab.guest.scripted import ScriptedGuest
from tests.lab.node.node import PRIVILEGES, TOKEN_ID, GuestSpec, LabNode
from tests.lab.rundir import run_directory
from tests.lab.site import BIN, Site

REPOSITORY = Path(__file__).resolve().parents[2]
MOST_NODES = 16
VSS_SECONDS = 10.0
"""For so long Windows holds its writes."""
FLUSH_SECONDS = 2.0
"""So long the database's own freeze hook takes."""


class Member(NamedTuple):
    """A guest of the lab, as the player is told of it."""

    vmid: int
    name: str
    what: str
    node: str
    tags: str = ""


def main() -> int:
    """Run until Ctrl-C or SIGTERM; everything that was started or written is gone afterwards."""
    parser = argparse.ArgumentParser(prog="make lab ARGS=...", description=__doc__.replace("``", "`"))
    parser.add_argument("--scripted", action="store_true", help="scripted guests, also where real ones could run")
    parser.add_argument("--nodes", type=_nodes, default=2, help=f"1 to {MOST_NODES} nodes in the cluster (default 2)")
    parser.add_argument("--pve-version", type=_version, default="9.2.6", help="qemu-server's version (default 9.2.6)")
    options = parser.parse_args()
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _interrupt)
    try:
        real = not options.scripted and real_available()
        if not real and not options.scripted:
            print("Real guests cannot run here (`make test` says why): these are scripted ones.")
        print(f"Starting five guests on {options.nodes} node(s) ...", flush=True)
        with cluster(options.nodes, options.pve_version, is_real=real) as (lab, members):
            print(usage(lab, members), flush=True)
            while True:
                time.sleep(0.5)  # a signal just ahead of the sleep does not end it
    except KeyboardInterrupt:
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)  # what is being put away is put away whole
        print("\nThe lab is gone.")
    except OSError as error:
        print(f"The lab has gone: {clean(str(error), 200)}", file=sys.stderr)
        print("Run it again, or with guests that need no QEMU: make lab ARGS=--scripted", file=sys.stderr)
        return 1
    return 0


def _nodes(text: str) -> int:
    if not text.isdecimal() or not 1 <= int(text) <= MOST_NODES:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number from 1 to {MOST_NODES}")
    return int(text)


def _version(text: str) -> str:
    if not re.fullmatch(r"[0-9]+(\.[0-9]+)*", text):
        raise argparse.ArgumentTypeError(f"{text!r} is not a version like 9.2.6 or 8.4.1")
    return text


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


@contextlib.contextmanager
def cluster(count: int, pve_version: str, *, is_real: bool) -> Iterator[tuple[Site, list[Member]]]:
    """Guests and nodes; our commands find on this machine what they would find on the first node."""
    nodes = tuple(f"pve{number}" for number in range(1, count + 1))
    kind = "real" if is_real else "scripted"
    members = [
        Member(100, "web1", f"Linux on ext4, {kind}", nodes[0], "prod;snap-daily-7"),
        Member(101, "files1", f"Linux on XFS, {kind}", nodes[0], "prod"),
        Member(102, "win1", f"Windows-like: lets go after {VSS_SECONDS:g} s", nodes[0]),
        Member(103, "db1", f"a database that flushes for {FLUSH_SECONDS:g} s", nodes[-1], "prod"),
        Member(104, "ct1", "a container", nodes[0]),
    ]
    with contextlib.ExitStack() as stack:
        run = stack.enter_context(run_directory())
        guests = {guest.vmid: guest for guest in _guests(run, is_real=is_real)}
        for guest in guests.values():
            guest.start()
            stack.callback(guest.stop)
        node = stack.enter_context(
            LabNode(run / "node", [_spec(one, run) for one in members], nodes=nodes, pve_version=pve_version)
        )
        node.token_secret = node.add_token(TOKEN_ID, (*PRIVILEGES, "Datastore.Audit"))
        node.token_file.write_text(f"{node.token_id}={node.token_secret}\n")
        lab = Site(run, node, guests)
        _act_as_the_node(lab)
        _put_into_a_path(lab)
        stack.callback(lab.kill_guards)
        yield lab, members


def _guests(run: Path, *, is_real: bool) -> list[Guest]:
    def linux(vmid: int, fs: Filesystem) -> Guest:
        return RealGuest(vmid, run, fs=fs) if is_real else ScriptedGuest(vmid, run, fs=fs)

    return [
        linux(100, "ext4"),
        linux(101, "xfs"),
        ScriptedGuest(102, run, facts=WINDOWS, faults=Faults(self_thaw_after=VSS_SECONDS), hook=False),
        ScriptedGuest(103, run, faults=Faults(freeze_sleep=FLUSH_SECONDS)),
    ]


def _spec(member: Member, run: Path) -> GuestSpec:
    config: dict[str, str | None] = {"tags": member.tags or None}
    if member.what == "a container":
        return GuestSpec(member.vmid, kind="lxc", node=member.node, config={**config, "hostname": member.name})
    return GuestSpec(member.vmid, run, node=member.node, config={**config, "name": member.name})


def _act_as_the_node(lab: Site) -> None:
    """Let our commands use what they would find on the node itself: sockets, pvesh, task logs."""
    lab.settings["local"] = {
        "node": lab.node.node,
        "socket_folder": str(lab.run),
        "pvesh": str(lab.node.pvesh),
        "task_folder": str(lab.node.root / "var/log/pve/tasks"),
        "vzdump_pid_file": str(lab.node.root / "var/run/vzdump.pid"),
    }
    lab.write_config()


def _put_into_a_path(lab: Site) -> None:
    """``enter``, to be read by a shell: the commands as they are typed on a node."""
    programs = lab.run / "bin"
    programs.mkdir()
    root, python = lab.node.root, sys.executable
    vzdump = [python, "-m", "tests.lab.vzdump.job", "--root", str(root), "--run", str(lab.run)]
    vzdump += ["--script", lab.hook_script(), "--qemu-server-version", lab.node.settings.pve_version]
    for name, words in {
        "safe-snapshot": [str(BIN / "safe-snapshot"), "--config", str(lab.config_path)],
        "vzdump": vzdump,
        "vzdump-hook": [lab.hook_script()],
        "pvesh": [str(lab.node.pvesh)],
    }.items():
        place = f"cd {shlex.quote(str(REPOSITORY))} && " if name == "vzdump" else ""
        (programs / name).write_text(f'#!/bin/sh\n{place}exec {shlex.join(words)} "$@"\n')
        (programs / name).chmod(0o755)
    (programs / "kill-when").write_text(KILL_WHEN)
    (programs / "kill-when").chmod(0o755)
    (lab.run / "enter").write_text(f"export PATH={shlex.quote(str(programs))}:$PATH\n")


KILL_WHEN = """#!/bin/sh
# kill-when WORDS COMMAND ...: show what the command says, and SIGKILL it as soon as it says these words
words=$1
shift
sh -c 'echo $$; exec "$@"' sh "$@" 2>&1 | (read pid; sed -u "/$words/q"; kill -9 "$pid")
"""

TRY = (
    ("safe-snapshot check all", "can each of these be frozen?"),
    ("safe-snapshot 100 before-upgrade", "a snapshot, frozen and proven"),
    ("safe-snapshot all", "all of them at once"),
    ("vzdump 100", "the other way in: a backup"),
    ("safe-snapshot history", "what became of each window"),
    ("safe-snapshot list all", "the snapshots, and what they are worth"),
    ("safe-snapshot doctor", "what is wrong with this installation?"),
)
BREAK = (
    ("pvesh create /nodes/pve1/qemu/100/agent/fsfreeze-freeze", "somebody else freezes a guest ..."),
    ("safe-snapshot status", "... it is told, with exit code 8 ..."),
    ("safe-snapshot thaw 100", "... and thawed by hand"),
    ("kill-when 'freeze requested' safe-snapshot 103", "the owner dies as it freezes ..."),
    ("safe-snapshot history 103", "... and its guard thawed the guest"),
    ("pvesh set /nodes/pve1/qemu/101/config --lock backup", "a backup is at work on it ..."),
    ("safe-snapshot 101", "... it is left alone, with what to do"),
)


def usage(lab: Site, members: list[Member]) -> str:
    """What the player needs to know."""
    guests = [f"  {one.vmid}  {one.name:<7} {one.what:<34} {one.node:<6} {one.tags}".rstrip() for one in members]
    facts = {
        "configuration": lab.config_path,
        "node's files": lab.node.root,
        "token": f"{lab.node.token_id}, in {lab.node.token_file}",
        "CA file": lab.node.ca_file,
        **{f"API of {name}": url for name, url in lab.node.urls.items()},
    }
    lines = [
        *guests,
        "",
        *(f"  {name:14} {value}" for name, value in facts.items()),
        "",
        "Two ways in, safe-snapshot and vzdump. In another shell, first:",
        f"  . {lab.run / 'enter'}",
        "",
        "Try:",
        *_shown(TRY),
        "",
        "Break:",
        *_shown(BREAK),
        "",
        "Each command has --help. Ctrl-C here ends the lab and leaves nothing of it.",
        "What it was built from stays: `make clean` removes .venv and .lab (600 MB).",
    ]
    return "\n".join(["", *lines])


def _shown(commands: tuple[tuple[str, str], ...]) -> list[str]:
    """A command, and what it shows: behind it, or below one that is long."""
    lines: list[str] = []
    for command, what in commands:
        lines += [f"  {command:<34} # {what}"] if len(command) <= 34 else [f"  {command}", f"  {'':<34} # {what}"]
    return lines


if __name__ == "__main__":
    sys.exit(main())
