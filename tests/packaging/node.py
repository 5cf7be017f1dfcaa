"""A Debian tree with the package as a PVE node: the lab's API on PVE's own port, its pvesh and vzdump behind relays.

What stands in the tree is the tree's own; /etc/pve, the task logs and the guests' sockets are the lab's.
"""

from __future__ import annotations

import contextlib
import json
import os
import pty
import random
import re
import socketserver
import subprocess
import threading
from collections.abc import Iterator
from typing import Any

from tests.lab.guest.scripted import ScriptedGuest
from tests.lab.site import Site, site
from tests.lab.site import environment as lab_environment
from tests.packaging.debian import Tree

NODE = os.uname().nodename.partition(".")[0]
"""A chroot has its machine's name, and so the node has it too."""
PORT = 8006
RELAY = """#!/usr/bin/python3 -I
import json, socket, sys
with socket.socket(socket.AF_UNIX) as there:
    there.connect("/run/relay.sock")
    there.sendall(json.dumps(sys.argv).encode() + b"\\n")
    status, out, err = json.loads(there.makefile("rb").readline())
sys.stdout.write(out)
sys.stderr.write(err)
sys.exit(status)
"""
MAIL = "#!/bin/sh\ncat >>/var/mail/root\n"


class NodeTree:
    """A tree that is a node. ``lab`` is what stands behind it."""

    def __init__(self, tree: Tree, lab: Site) -> None:
        self.tree = tree
        self.lab = lab

    def shell(self, command: str, answers: str = "") -> tuple[int, str]:
        """A line typed at a terminal of the node: exit status, and what was shown."""
        # As the lab's own, wide: what is said is looked for in whole lines.
        environment = {**lab_environment(), "TERM": "dumb"}
        pid, terminal = pty.fork()
        if pid == 0:
            os.chroot(self.tree.root)
            os.chdir("/root")
            os.execve("/bin/sh", ["/bin/sh", "-c", command], environment)
        if answers:
            os.write(terminal, answers.encode())
        shown = b""
        with contextlib.suppress(OSError):  # the other end is closed
            while data := os.read(terminal, 65536):
                shown += data
        _, status = os.waitpid(pid, 0)
        os.close(terminal)
        return os.waitstatus_to_exitcode(status), shown.decode(errors="replace").replace("\r\n", "\n")

    def ok(self, command: str, answers: str = "") -> str:
        status, shown = self.shell(command, answers)
        assert status == 0, shown
        return shown

    def read(self, name: str) -> str:
        return (self.tree.root / name).read_text(encoding="latin-1")

    def relayed(self, argv: list[str]) -> tuple[int, str, str]:
        """What a program of the lab does for one of the tree's."""
        name, *arguments = argv
        if name.endswith("pvesh"):
            done = subprocess.run([self.lab.node.pvesh, *arguments], capture_output=True, text=True, check=False)
            return done.returncode, done.stdout, done.stderr
        return self._vzdump(arguments)

    def _vzdump(self, arguments: list[str]) -> tuple[int, str, str]:
        """``vzdump <vmid> ...`` with the script that the tree's own vzdump.conf names, called in the tree."""
        named = re.findall(r"^\s*script:\s*(\S+)", self.read("etc/vzdump.conf"), re.MULTILINE)
        wrapper = self.lab.run / "in-the-tree"
        wrapper.write_text(f'#!/bin/sh\nexec /usr/sbin/chroot {self.tree.root} {named[-1]} "$@"\n')
        wrapper.chmod(0o755)
        with self.lab.vzdump(int(arguments[0]), script=str(wrapper), node=NODE) as job:
            result = job.wait()
        return int(result.exitstatus != "OK"), "\n".join(result.log_lines) + "\n", ""


class _Relay(socketserver.ThreadingUnixStreamServer):
    daemon_threads = True
    node: NodeTree


class _Handler(socketserver.StreamRequestHandler):
    server: _Relay

    def handle(self) -> None:
        answer: tuple[int, str, str]
        try:
            answer = self.server.node.relayed(json.loads(self.rfile.readline()))
        except Exception as error:  # noqa: BLE001 - the test shows it
            answer = (99, "", f"the lab failed: {error!r}\n")
        with contextlib.suppress(OSError):
            self.wfile.write(json.dumps(answer).encode() + b"\n")


@contextlib.contextmanager
def node_tree(tree: Tree, guests: int = 1, **settings: Any) -> Iterator[NodeTree]:
    """The tree as the only node of its cluster, with so many guests: 100, 101, ..."""
    # PVE's port is one of a kind, and somebody else may have it: the tree has a localhost of its own.
    network = f"127.{random.randrange(2, 250)}.{os.getpid() % 250}"
    with contextlib.ExitStack() as stack:
        lab = stack.enter_context(
            site(*[ScriptedGuest] * guests, nodes=(NODE,), network=network, port=PORT, **settings)
        )
        root, pve = tree.root, lab.node.root
        (pve / "var/run/qemu-server").mkdir()
        (root / "etc/pve").mkdir()
        (root / "var/log/pve").mkdir(parents=True)
        (root / "var/mail").mkdir(exist_ok=True)
        (root / "etc/hosts").write_text(f"{network}.1 localhost {NODE}\n")
        for inside, there in (
            ("etc/pve", pve / "etc/pve"),
            ("var/log/pve", pve / "var/log/pve"),
            ("run", pve / "var/run"),
            ("run/qemu-server", lab.run),
        ):
            subprocess.run(["mount", "--bind", there, root / inside], check=True)
            stack.callback(subprocess.run, ["umount", "--lazy", root / inside], check=True)
        for name, text in (("bin/pvesh", RELAY), ("bin/vzdump", RELAY), ("sbin/sendmail", MAIL)):
            (root / "usr" / name).write_text(text)
            (root / "usr" / name).chmod(0o755)
        found = NodeTree(tree, lab)
        relay = stack.enter_context(_Relay(str(pve / "var/run/relay.sock"), _Handler))
        relay.node = found
        threading.Thread(target=relay.serve_forever, daemon=True).start()
        stack.callback(relay.shutdown)
        yield found
