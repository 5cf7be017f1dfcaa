"""The commands of the lab's shell, each as on the node ``$LAB_NODE``: the first one, unless it is set.

``safe-snapshot`` is the real one, and its doctor looks at the lab's node in place of this machine. ``pvesh``, ``qm``,
``pct``, ``pvesm`` and ``vzdump`` are thin layers over what the lab's node does, with the words that our remedies name.

    python tests/lab/shell.py <lab's folder> <program> [arguments]
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).resolve().parents[2])

from snapshot.pve import vzdumpconf
from tests.lab.node import pvesh_fake
from tests.lab.node.host import Host
from tests.lab.node.ops import OPERATIONS, load_all, perform
from tests.lab.node.ops_power import SWITCHES
from tests.lab.node.tasks import Upid

WRONG = 255
HOOK = "usr/bin/vzdump-hook"
_VOLUME = re.compile(r"[\w-]+:(\d+)/vm-\d+-disk-0\.qcow2")


class Here(NamedTuple):
    """Where a command runs."""

    run: Path
    host: Host
    node: str


def safe_snapshot(here: Here, words: Sequence[str]) -> int:
    """The real program. What it says of "this machine" is said of the lab's node."""
    tasks = here.host.root / "var/log/pve/tasks/index"  # of all nodes; each has one of its own in PVE
    if tasks.exists():
        mine = [line for line in tasks.read_text().splitlines(keepends=True) if line.startswith(f"UPID:{here.node}:")]
        (here.run / here.node / "tasks/index").write_text("".join(mine))
    if "doctor" in words:
        from snapshot.doctor import machine

        machine.Machine.__init__.__defaults__ = (here.host.root, lambda argv: None)
    if "setup" in words:
        return _complain("the lab's nodes are set up, and setup would change this machine: nothing was changed")
    from snapshot.cli import main

    sys.argv = ["safe-snapshot", "--config", str(here.run / here.node / "config.toml"), *words]
    return main.main()


def vzdump(here: Here, words: Sequence[str]) -> int:
    """A backup, with the script that the node's vzdump.conf names."""
    from tests.lab.vzdump import job

    if not any(word.isdecimal() or word in ("-h", "--help") for word in words):
        return _complain("400 not enough arguments\nvzdump {<vmid>} [OPTIONS]     (in the lab: vzdump --help)")
    options = ["--root", str(here.host.root), "--run", str(here.run), "--node", here.node]
    options += ["--terminal", "--qemu-server-version", here.host.settings.pve_version]
    conf = here.host.root / "etc/vzdump.conf"
    if named := os.fsdecode(vzdumpconf.script(conf.read_bytes())) if conf.exists() else "":
        ours = here.run / here.node / "vzdump-hook"
        options += ["--script", str(ours if named == f"/{HOOK}" else here.host.root / named.lstrip("/"))]
    return job.main([*options, *words])


def pvesh(here: Here, words: Sequence[str]) -> int:
    """See pvesh_fake."""
    return pvesh_fake.main([str(here.host.root), here.node, *words])


def pvesm(here: Here, words: Sequence[str]) -> int:
    """The path of a disk, which is all that it tells."""
    found = _VOLUME.fullmatch(words[1]) if len(words) == 2 and words[0] == "path" else None
    if not found:
        return _complain("USAGE: pvesm path <volume>     (all that the lab's has)")
    print(here.run / f"{found[1]}.qcow2")
    return 0


_VERBS: dict[str, tuple[str, str, tuple[str, ...]]] = {
    "config": ("GET", "/config", ()),
    "status": ("GET", "/status/current", ()),
    "listsnapshot": ("GET", "/snapshot", ()),
    "set": ("PUT", "/config", ()),
    "unlock": ("PUT", "/config", ()),
    "snapshot": ("POST", "/snapshot", ("snapname",)),
    "delsnapshot": ("DELETE", "/snapshot/{snapname}", ("snapname",)),
    **{verb: ("POST", f"/status/{verb}", ()) for verb in SWITCHES},
}
"""Of qm and pct: the method, the path below the guest's, and the words that stand behind the vmid."""


def qm(here: Here, words: Sequence[str]) -> int:
    """Virtual machines."""
    if list(words[:2]) == ["guest", "cmd"] and len(words) == 4:
        path = f"/nodes/{here.node}/qemu/{words[2]}/agent/{words[3]}"
        verb = "get" if pvesh_fake.find("GET", path) else "create"
        return pvesh(here, [verb, path])
    return _guest("qm", "qemu", here, words)


def pct(here: Here, words: Sequence[str]) -> int:
    """Containers."""
    return _guest("pct", "lxc", here, words)


def _guest(tool: str, kind: str, here: Here, words: Sequence[str]) -> int:
    if list(words) == ["list"]:
        return _list(kind, here)
    method, below, names = _VERBS.get(words[0] if words else "", ("", "", ()))
    template = f"/nodes/{{node}}/{kind}/{{vmid}}{below}"
    behind = 2 + len(names)
    if (method, template) not in OPERATIONS or len(words) < behind or not words[1].isdecimal():
        known = [(verb, *entry) for verb, entry in _VERBS.items()]
        lines = [
            f"       {tool} {verb} <vmid>{''.join(f' <{name}>' for name in names)}"
            for verb, method, below, names in sorted(known)
            if (method, f"/nodes/{{node}}/{kind}/{{vmid}}{below}") in OPERATIONS
        ]
        lines += ["       qm guest cmd <vmid> <command>"] if tool == "qm" else []
        return _complain("\n".join([f"USAGE: {tool} <COMMAND> [ARGS] [OPTIONS]", "", f"       {tool} list", *lines]))
    try:
        given: dict[str, Any] = dict(pvesh_fake.parse_options(list(words[behind:])))
    except ValueError as error:
        return _complain(f"400 unable to parse option\n{error}")
    if words[0] == "unlock":
        given = {"delete": "lock", "skiplock": 1}
    given |= dict(zip(names, words[2:], strict=False))
    given |= {"node": here.node, "vmid": words[1], "_kind": kind, "_front": here.node}
    answer = perform(here.host, method, template, given, "root@pam")
    if "status" in answer:
        return _complain(answer["message"])
    data = answer["data"]
    if isinstance(data, str) and (upid := Upid.parse(data)):
        pvesh_fake.follow(here.host, upid)
        return 0 if here.host.tasks.exit_status(upid).startswith(("OK", "WARNINGS")) else WRONG
    _show(words[0], data)
    return 0


def _show(verb: str, data: Any) -> None:
    if verb == "status":
        print(f"status: {data['status']}")
    elif verb == "config":
        print("\n".join(f"{key}: {value}" for key, value in sorted(data.items()) if key != "digest"))
    elif verb == "listsnapshot":
        print("\n".join(f"`-> {one['name']:<30} {one['description'].partition(chr(10))[0]}" for one in data))


def _list(kind: str, here: Here) -> int:
    values = {"node": here.node, "_kind": kind}
    found = perform(here.host, "GET", f"/nodes/{{node}}/{kind}", values, "root@pam")["data"]
    print(f"{'VMID':>10} {'NAME':<20} {'STATUS':<10} LOCK")
    for one in found:
        print(f"{one['vmid']:>10} {one['name']:<20} {one['status']:<10} {one.get('lock', '')}".rstrip())
    return 0


def _complain(text: str) -> int:
    print(text, file=sys.stderr, flush=True)
    return WRONG


PROGRAMS: dict[str, Callable[[Here, Sequence[str]], int]] = {
    "safe-snapshot": safe_snapshot,
    "vzdump": vzdump,
    "pvesh": pvesh,
    "pvesm": pvesm,
    "qm": qm,
    "pct": pct,
}


def main(argv: Sequence[str]) -> int:
    """Run one of them."""
    folder, program, *words = argv
    host = Host(Path(folder) / "node")
    nodes = list(host.settings.nodes)
    node = os.environ.get("LAB_NODE") or nodes[0]
    if node not in nodes:
        return _complain(f"LAB_NODE={node}: the lab's nodes are {', '.join(nodes)}")
    if program != "safe-snapshot":
        load_all()
    return PROGRAMS[program](Here(Path(folder), host, node), words)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
