"""A guest that is not emulated: the same Debian, its servers and its agent on their own disk, in mounts, processes and
a network of their own, on this machine's kernel and at its speed. QEMU's storage daemon has the disk and takes its
snapshots: the lab's node finds what it finds of any guest. Needs root, loop devices and FUSE.
"""

from __future__ import annotations

import contextlib
import os
import pty
import select
import shutil
import socket
import subprocess
import threading
import time
import tty
from pathlib import Path

from tests.guest.hooks.databases import GUEST_FILES, DatabaseGuest, image
from tests.lab import packages
from tests.lab.guest.base import BOOT_TIMEOUT_SECONDS

_PATH = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_SPACES = ("--mount", "--pid", "--net", "--ipc", "--uts")
# A frozen filesystem that nobody thaws outlives its mount, and this machine's loop device with it.
_KEEPER = """read -r _
nsenter --target "$1" --mount timeout 10 fsfreeze --unfreeze /
kill -9 "$1"
"""


class EnclosedGuest(DatabaseGuest):
    """What a guest of the lab is, without a machine of its own: it cannot be paused or reset."""

    def __init__(self, vmid: int, run: Path) -> None:
        super().__init__(vmid, run)
        self._outer: subprocess.Popen[bytes] | None = None
        self._first = 0

    @property
    def running(self) -> bool:
        return super().running and (self._outer is None or self._outer.poll() is None)

    def start(self) -> None:
        began = time.monotonic()
        self.run.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(image() / "disk.qcow2", self.disk)
        export, root = self.run / f"{self.vmid}.raw", self.run / f"{self.vmid}.root"
        export.touch()
        root.mkdir(exist_ok=True)
        self._process = subprocess.Popen(self._storage(export), stdin=subprocess.DEVNULL)
        deadline = time.monotonic() + BOOT_TIMEOUT_SECONDS
        while not (self.qmp_own.exists() and export.stat().st_size):
            self._check_boot(deadline)
        self.pid_file.write_text(f"{self.pid}\n")
        master, slave = pty.openpty()
        tty.setraw(slave)
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(str(self.agent_socket))
        listener.listen(1)
        threading.Thread(target=_relay, args=(listener, master), daemon=True).start()
        words = ["unshare", *_SPACES, "--fork", "--kill-child", "bash", GUEST_FILES / "enclosure", export, root]
        self._outer = subprocess.Popen([*words, os.ttyname(slave)], stdin=subprocess.DEVNULL)
        children = Path(f"/proc/{self._outer.pid}/task/{self._outer.pid}/children")
        while not (text := children.read_text()):
            self._check_boot(deadline)
        self._first = int(text)
        keeper = ["sh", "-c", _KEEPER, "keeper", str(self._first)]
        self._keeper = subprocess.Popen(keeper, stdin=subprocess.PIPE, stderr=subprocess.DEVNULL)
        self.wait_agent()
        self.boot_seconds = time.monotonic() - began

    def stop(self) -> None:
        if self._keeper is not None:
            self._keeper.communicate(b"\n")
            self._keeper = None
        if self._outer is not None:
            self._outer.wait()
            self._outer = None
        super().stop()

    def control(self, line: str, timeout: float = 10.0) -> tuple[int, str]:
        words = ["nsenter", "--target", str(self._first), *_SPACES, "env", "-i", _PATH]
        done = subprocess.run(
            [*words, "bash", "-c", line],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=timeout,
            check=False,
        )
        return done.returncode, done.stdout.rstrip("\n")

    def copy_in(self, source: Path, target: str) -> None:
        """It has no disk for that: its files are reached by its first process."""
        path = Path(f"/proc/{self._first}/root{target}")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(source.read_bytes())
        path.chmod(0o755)

    def wait_for_servers(self) -> None:
        self.shell("until mariadb -e ''; do sleep 0.1; done 2>/dev/null")

    def restart_agent(self) -> None:
        self.shell("pkill qemu-ga")
        self.wait_agent()

    def log(self) -> str:
        return self.shell("tail -n 5 /dev/kmsg")

    def run_load(self) -> None:
        self.shell("(while :; do setsid --wait bash /opt/lab/load; sleep 0.2; done) >/dev/null 2>&1 &")

    def restart_mariadb(self) -> None:
        """It comes again by itself, and the load too."""

    def _storage(self, export: Path) -> list[str]:
        drive = f"driver=qcow2,node-name={self.drive_node},file.driver=file,file.filename={self.disk}"
        words = [packages.tool("qemu-storage-daemon"), "--blockdev", drive]
        for number, path in enumerate(self._monitors()):
            words += ["--chardev", f"socket,path={path},server=on,wait=off,id=m{number}"]
            words += ["--monitor", f"chardev=m{number}"]
        fuse = f"type=fuse,id=disk,node-name={self.drive_node},mountpoint={export},writable=on"
        return [*words, "--export", fuse]


def _relay(listener: socket.socket, terminal: int) -> None:
    """One client at a time, as QEMU does it: the others wait in the queue, and what nobody reads is lost."""
    while True:
        client, _ = listener.accept()
        with client, contextlib.suppress(OSError):
            while select.select([terminal], [], [], 0)[0]:
                os.read(terminal, 65536)
            _carry(client, terminal)


def _carry(client: socket.socket, terminal: int) -> None:
    """Both ways, until the client has gone."""
    while True:
        ready, _, _ = select.select([client, terminal], [], [])
        if client in ready:
            data = client.recv(1024)
            if not data:
                return
            os.write(terminal, data)
        if terminal in ready:
            client.sendall(os.read(terminal, 65536))
