"""A node to set up: its files below a folder, the lab's PVE behind it, and setups in processes of their own."""

from __future__ import annotations

import contextlib
import os
import signal
import stat
import sys
import traceback
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from snapshot.errors import ApiDeniedError, ApiFailureError
from snapshot.setup import back, plan
from snapshot.setup.node import Places, node_name
from snapshot.setup.pve import Pve
from snapshot.setup.record import Record
from snapshot.setup.step import TakenBack
from snapshot.setup.units import UNITS
from tests.lab.node.host import Host
from tests.lab.node.node import LabNode
from tests.lab.node.ops import load_all, perform
from tests.lab.node.pvesh_fake import find

load_all()


class DirectTransport:
    """The lab's methods without a process between: a setup is killed inside PVE's own writing, too."""

    name = "pvesh"

    def __init__(self, root: Path, node: str) -> None:
        self._host = Host(root)
        self._node = node
        self.calls: list[tuple[str, str]] = []

    def request(
        self, method: str, path: str, params: Mapping[str, object] | None = None, *, timeout_seconds: float = 10.0
    ) -> object:
        found = find(method, path)
        assert found is not None, (method, path)
        template, values = found
        self.calls.append((method, path))
        given = {key: str(value) for key, value in (params or {}).items()}
        answer = perform(self._host, method, template, {**given, **values, "_front": self._node}, "root@pam")
        if answer.get("status") == 403:
            raise ApiDeniedError(answer["message"], status=403)
        if "status" in answer:
            raise ApiFailureError(f"pvesh answered {answer['status']}: {answer['message']}", status=answer["status"])
        return answer["data"]

    def close(self) -> None:
        pass


class Bench:
    """A node's files. The lab's node needs not be started: nothing here goes over HTTPS."""

    def __init__(self, folder: Path, node: str = "pve1", *, nodes: tuple[str, ...] = (), **settings: Any) -> None:
        self.lab = LabNode(folder / "pve", nodes=nodes or (node,), **settings)
        self.add_node(folder, node)

    def add_node(self, folder: Path, node: str) -> None:
        """The folders of a node as the package leaves them."""
        self.folder, self.node = folder, node
        root = folder / node
        for name in ("etc/vzdump-hooks", "var/lib/vzdump-hooks", "usr/bin", "root", "proc"):
            (root / name).mkdir(parents=True)
        for pid in ("1", "self"):
            (root / "proc" / pid).mkdir()
            (root / "proc" / pid / "cmdline").write_bytes(b"/sbin/init\0")
            (root / "proc" / pid / "root").symlink_to(root)
        hook = root / "usr/bin/vzdump-hook"
        hook.write_text("#!/bin/sh\n")
        hook.chmod(0o755)
        self.root = root
        self.places = Places(
            config=root / "etc/vzdump-hooks/config.toml",
            vzdump_conf=root / "etc/vzdump.conf",
            pve=self.lab.root / "etc/pve",
            hook=hook,
            state=root / "var/lib/vzdump-hooks",
            proc=root / "proc",
            pvesh=str(self.lab.pvesh),
            textfiles=root / "var/lib/prometheus/node-exporter",
            systemctl=str(self._systemctl()),
        )
        self.token_file = root / "etc/vzdump-hooks/token"
        self.sendmail = root / "usr/bin/sendmail"
        self.sendmail.write_text("#!/bin/sh\n")
        self.sendmail.chmod(0o755)
        self.write_config()

    def _systemctl(self) -> Path:
        """systemctl over files in a folder: ``<unit>`` is there, ``<unit>.on`` is enabled."""
        units, program = self.root / "units", self.root / "usr/bin/systemctl"
        units.mkdir()
        program.write_text(f"""#!/bin/sh
cd {units} || exit 1
for unit; do :; done
case "$1" in
  is-enabled) [ -e "$unit" ] || {{ echo not-found; exit 4; }}
    [ -e "$unit.on" ] && echo enabled || {{ echo disabled; exit 1; }} ;;
  enable) : >"$unit.on" ;;
  disable) rm -f "$unit.on" ;;
esac
""")
        program.chmod(0o755)
        return program

    def run_exporter(self, *words: str, root: Path | None = None) -> None:
        """A node_exporter that runs, perhaps below a root of its own."""
        folder = self.places.proc / "12"
        folder.mkdir()
        (folder / "root").symlink_to(root or self.root)
        (folder / "cmdline").write_bytes(b"\0".join(word.encode() for word in words) + b"\0")

    def install_units(self) -> None:
        """As somebody does who installs by hand: nothing is enabled."""
        for unit in UNITS:
            (self.root / "units" / unit).touch()

    def units_on(self) -> list[str]:
        return sorted(path.stem for path in (self.root / "units").glob("*.on"))

    def write_config(self, text: str = "") -> None:
        """A configuration of an operator's; what it has to say to point at this folder stands at its end."""
        mine = f'[notify]\nsendmail = "{self.sendmail}"\n' if "[notify]" not in text else ""
        if "[api]" not in text:
            mine += f'[api]\ntoken_file = "{self.token_file}"\n'
        self.places.config.write_text(text + mine)

    def pve(self) -> Pve:
        pve = Pve(self.places.pvesh)
        pve.transport = DirectTransport(self.lab.root, self.node)
        pve.accounts = type(pve.accounts)(pve.transport)
        return pve

    def plan(self, *, with_jobs: bool = False) -> plan.SetupPlan:
        return plan.make(self.places, self.pve(), Record.open(self.places.record), self.node, with_jobs=with_jobs)

    def set_up(self, *, with_jobs: bool = False) -> plan.SetupPlan:
        """As the command does it, after a yes."""
        assert node_name(self.places) == self.lab.node
        record = Record.open(self.places.record)
        found = plan.make(self.places, self.pve(), record, self.node, with_jobs=with_jobs)
        for step in found.steps:
            assert step.what
            assert step.shows()
            step.do(record)
        return found

    def take_back(self) -> list[TakenBack]:
        return back.take_back(self.places, self.pve(), Record.open(self.places.record), lambda line: None)

    def files(self) -> dict[str, tuple[int, int, int, bytes]]:
        """Everything on the node and in PVE's own folder: mode, owner and bytes, links by their target."""
        found: dict[str, tuple[int, int, int, bytes]] = {}
        for top in (self.root, self.lab.root / "etc/pve"):
            for path in sorted(top.rglob("*")):
                status = path.lstat()
                data = b""
                if stat.S_ISREG(status.st_mode):
                    data = path.read_bytes()
                elif path.is_symlink():
                    data = os.fsencode(os.readlink(path))
                if ".tmp." in path.name:
                    continue  # what a killed PVE leaves, as the real one does (PVE::Tools, file_set_contents)
                found[str(path)] = (stat.S_IMODE(status.st_mode), status.st_uid, status.st_gid, data)
        return found


_OPENED = os.O_WRONLY | os.O_RDWR | os.O_CREAT
_EVENTS = {"os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.chmod", "os.chown", "subprocess.Popen"}


def _changes(event: str, arguments: tuple[Any, ...]) -> bool:
    """Whether this is the moment before something on a disk may change."""
    if event == "open":
        return isinstance(arguments[2], int) and bool(arguments[2] & _OPENED)
    return event in _EVENTS


def killed_at(moment: int, work: Callable[[], object]) -> bool:
    """Do ``work`` in a process of its own that is killed for good before its n-th change of anything on a disk.
    False when it ended before that; AssertionError when it failed.
    """
    sys.stdout.flush()
    pid = os.fork()
    if pid == 0:
        count = 0

        def hook(event: str, arguments: tuple[Any, ...]) -> None:
            nonlocal count
            if _changes(event, arguments):
                count += 1
                if count == moment:
                    os.kill(os.getpid(), signal.SIGKILL)

        code = 1
        try:
            sys.addaudithook(hook)
            work()
            code = 0
        except BaseException:  # noqa: BLE001 - a forked copy of pytest must not go on
            traceback.print_exc()
        finally:
            os._exit(code)
    _, status = os.waitpid(pid, 0)
    if os.WIFSIGNALED(status):
        assert os.WTERMSIG(status) == signal.SIGKILL
        return True
    assert os.waitstatus_to_exitcode(status) == 0, "it failed: see above"
    return False


@contextlib.contextmanager
def umask(value: int) -> Iterator[None]:
    earlier = os.umask(value)
    try:
        yield
    finally:
        os.umask(earlier)
