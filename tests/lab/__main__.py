"""``make lab``: a PVE node in a box to play with, until Ctrl-C.

Boots an ext4 and an XFS guest, starts a node in front of them and prints how to use it. Without QEMU, or with
``--scripted``, the guests are scripted ones.
"""

from __future__ import annotations

import argparse
import functools
import re
import shlex
import signal
import sys
import time
from types import FrameType

from tests.lab.fixtures import real_available
from tests.lab.guest.base import Filesystem
from tests.lab.guest.real import RealGuest
from tests.lab.guest.scripted import ScriptedGuest
from tests.lab.site import BIN, Site, site

FILESYSTEMS: tuple[Filesystem, ...] = ("ext4", "xfs")
MOST_NODES = 16


def main() -> int:
    """Run until Ctrl-C or SIGTERM; everything that was started or written is gone afterwards."""
    parser = argparse.ArgumentParser(prog="python -m tests.lab", description=__doc__)
    parser.add_argument("--scripted", action="store_true", help="scripted guests, also where real ones could run")
    parser.add_argument("--nodes", type=_nodes, default=1, help=f"1 to {MOST_NODES} nodes in the cluster (default 1)")
    parser.add_argument("--pve-version", type=_version, default="9.2.6", help="qemu-server's version (default 9.2.6)")
    options = parser.parse_args()
    real = not options.scripted and real_available()
    if not real and not options.scripted:
        print("Real guests cannot run here (see `make test`): these are scripted ones.")
    makers = [functools.partial(RealGuest if real else ScriptedGuest, fs=fs) for fs in FILESYSTEMS]
    nodes = tuple(f"pve{number}" for number in range(1, options.nodes + 1))
    signal.signal(signal.SIGTERM, _interrupt)
    try:
        print("Starting two guests and a node ...", flush=True)
        with site(*makers, nodes=nodes, pve_version=options.pve_version) as lab:
            _act_as_the_node(lab)
            print(usage(lab, "real" if real else "scripted"), flush=True)
            while True:
                time.sleep(3600)
    except KeyboardInterrupt:
        print("\nThe lab is gone.")
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


def usage(lab: Site, kind: str) -> str:
    """What the player needs to know."""
    node = lab.node
    guests = ", ".join(f"{vmid} ({guest.fs}, {kind})" for vmid, guest in lab.guests.items())
    command = shlex.join([str(BIN / "safe-snapshot"), "--config", str(lab.config_path)])
    token = f"Authorization: PVEAPIToken={node.token_id}={node.token_secret}"
    facts = {
        "guests": guests,
        "API": "  ".join(f"{name} {url}" for name, url in node.urls.items()),
        "CA file": node.ca_file,
        "token": f"{node.token_id}, its secret in {node.token_file}",
        "configuration": lab.config_path,
        "node's files": f"{node.root}  (etc/pve, var/log/pve/tasks, usr/bin/pvesh)",
    }
    tries = [
        f"{command} check 100",
        f"{command} 100",
        shlex.join(["curl", "--cacert", str(node.ca_file), "-H", token, f"{node.url}/api2/json/cluster/resources"]),
        f"{node.pvesh} create /nodes/{node.node}/qemu/100/agent/fsfreeze-status",
    ]
    lines = [f"  {name:14} {value}" for name, value in facts.items()]
    return "\n".join(["", *lines, "", "Try:", *(f"  {line}" for line in tries), "", "Ctrl-C ends it."])


if __name__ == "__main__":
    sys.exit(main())
