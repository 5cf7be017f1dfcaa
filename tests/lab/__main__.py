"""``make lab``: a PVE cluster in a box to play with, until Ctrl-C. ``make lab ARGS="--scripted --nodes 3"``.

Boots an ext4 and an XFS guest, adds a Windows-like one, a database that takes its time and a container, starts the
nodes in front of them, and prints both ways in, what to try and what to break. Without QEMU, or with ``--scripted``,
the guests are scripted ones.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
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
from tests.lab.shell import HOOK, PROGRAMS
from tests.lab.site import Site
from tests.lab.vzdump.power import Verb, power_server

SHELL = Path(__file__).with_name("shell.py")
PVESH = SHELL.with_name("node") / "pvesh_fake.py"
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
        stack.enter_context(power_server(node.root / "lab" / "power", functools.partial(_switch, guests)))
        sites = [_as_the_node(name, run, node, guests) for name in nodes]
        _put_into_a_path(run, node, sites[0])
        for lab in sites:
            stack.callback(lab.kill_guards)
        yield sites[0], members


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


def _switch(guests: dict[int, Guest], verb: Verb, vmid: int) -> None:
    """What qm does to a guest that it starts or stops: its disk stays as it is."""
    guest = guests[vmid]
    if verb == "shutdown":
        guest.stop()
    elif isinstance(guest, RealGuest | ScriptedGuest):
        guest.start_again()


def _as_the_node(name: str, run: Path, node: LabNode, guests: dict[int, Guest]) -> Site:
    """What our commands find on a node: a configuration and a journal, its guests' sockets, pvesh, task logs."""
    lab = Site(run / name, node, guests)
    lab.run.mkdir()
    for vmid in guests:
        if node.config(vmid).node == name:
            for suffix in ("qga", "qmp", "pid"):
                (lab.run / f"{vmid}.{suffix}").symlink_to(run / f"{vmid}.{suffix}")
    _program(lab.run / "pvesh", [sys.executable, str(PVESH), str(node.root), name])
    _program(lab.run / "sendmail", ["sh", "-c", f"cat >>{lab.run}/mail"])
    lab.settings["api"] = {"host": str(node.settings.nodes[name]["address"])}
    lab.settings["notify"] = {"mail_to": "root", "sendmail": str(lab.run / "sendmail")}
    lab.settings["local"] = {
        "node": name,
        "socket_folder": str(lab.run),
        "pvesh": str(lab.run / "pvesh"),
        "task_folder": str(_tasks_of(lab)),
        "vzdump_pid_file": str(node.root / "var/run/vzdump.pid"),
    }
    lab.write_config()
    lab.hook_script()
    return lab


def _tasks_of(lab: Site) -> Path:
    """The node's task folder: all nodes share the lab's, but for the index, which the lab's shell writes."""
    shared, mine = lab.node.root / "var/log/pve/tasks", lab.run / "tasks"
    mine.mkdir()
    (mine / "active").symlink_to(shared / "active")
    for digit in "0123456789ABCDEF":
        (shared / digit).mkdir(exist_ok=True)
        (mine / digit).symlink_to(shared / digit)
    return mine


def _put_into_a_path(run: Path, node: LabNode, first: Site) -> None:
    """``enter``, to be read by a shell: the commands as they are typed on a node, which calls our hook."""
    programs = run / "bin"
    programs.mkdir()
    (node.root / "proc/1").mkdir(parents=True)
    (node.root / "proc/1/cmdline").write_text("/sbin/init\0")
    (node.root / "etc/vzdump.conf").write_text(f"script: /{HOOK}\n")
    (node.root / HOOK).symlink_to(first.run / "vzdump-hook")
    for name in PROGRAMS:
        _program(programs / name, [sys.executable, str(SHELL), str(run), name])
    (programs / "vzdump-hook").write_text(f'#!/bin/sh\nexec {run}/${{LAB_NODE:-{node.node}}}/vzdump-hook "$@"\n')
    (programs / "kill-when").write_text(KILL_WHEN)
    for path in programs.iterdir():
        path.chmod(0o755)
    (run / "enter").write_text(f"export PATH={shlex.quote(str(programs))}:$PATH\n")


def _program(path: Path, words: list[str]) -> None:
    path.write_text(f'#!/bin/sh\nexec {shlex.join(words)} "$@"\n')
    path.chmod(0o755)


KILL_WHEN = """#!/bin/sh
# kill-when WORDS COMMAND ...: show what the command says, and SIGKILL it as soon as it says these words
words=$1
shift
sh -c 'echo $$; exec "$@"' sh "$@" 2>&1 | (read pid; sed -u "/$words/q"; kill -9 "$pid")
"""

TRY = (
    ("safe-snapshot check all", "can each of these be frozen?"),
    ("safe-snapshot 100 upgrade", "a snapshot, frozen and proven ..."),
    ("safe-snapshot verify 100 upgrade", "... and what its disk says (of 100, 101)"),
    ("safe-snapshot all", "all of them at once"),
    ("vzdump 100", "the other way in: a backup"),
    ("safe-snapshot history", "what became of each; also: list all"),
    ("safe-snapshot doctor", "what is wrong with this installation?"),
)
BREAK = (
    ("qm guest cmd 100 fsfreeze-freeze", "somebody else freezes a guest ..."),
    ("safe-snapshot status", "... it is told, with exit code 8 ..."),
    ("safe-snapshot thaw 100", "... and thawed by hand"),
    ("kill-when 'freeze requested' safe-snapshot 103", "see history 103"),
    ("qm set 101 --lock backup", "a backup is at work on it ..."),
    ("safe-snapshot 101", "... it is left alone, with what to do:"),
    ("qm unlock 101", "unlocked; also: qm stop 101, start 101"),
)


def usage(lab: Site, members: list[Member]) -> str:
    """What the player needs to know, on one screen."""
    run = lab.run.parent
    lines = [f"{one.vmid}  {one.name:<7} {one.what:<34} {one.node:<6} {one.tags}".rstrip() for one in members]
    lines += [f"In another shell:  . {run / 'enter'}     (LAB_NODE=pve2 COMMAND: there)"]
    lines += [f"{lab.config_path}, ../node/ is PVE's /, pve1/mail: alarms"]
    lines += ["Try:", *_shown(TRY), "Break:", *_shown(BREAK)]
    lines += ["Ctrl-C ends it, nothing is left; `make clean` takes .venv and .lab too: 600 MB"]
    return "\n".join(lines)


def _shown(commands: tuple[tuple[str, str], ...]) -> list[str]:
    """A command, and what it shows."""
    return [f"  {command:<33} # {what}" for command, what in commands]


if __name__ == "__main__":
    sys.exit(main())
