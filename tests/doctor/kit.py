"""A clinic: a lab site on which everything is well, and a machine of files and programs that the test writes.

``with clinic() as found`` gives one; break something in it, and ``found.visit()`` is the doctor's examination.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest import mock

from snapshot.base.clock import Clock, SystemClock
from snapshot.base.procfs import ProcessIdentity, boot_id, process_start
from snapshot.doctor import habits, past
from snapshot.doctor.examine import Examination, Surroundings, examine
from snapshot.doctor.machine import SERVICE, TIMER, Machine
from snapshot.journal.looks import GuestLook
from snapshot.journal.store import Journal
from snapshot.model import Vmid
from snapshot.pve.qga import SYNC_SECONDS, SocketChannel
from tests.engine.kit import QUICK_LIMITS
from tests.lab.guest.base import Guest
from tests.lab.guest.scripted import ScriptedGuest
from tests.lab.node.certs import authority
from tests.lab.site import Site, site
from tests.unit.kit import record

RIGHTS = ("VM.Audit", "VM.Snapshot", "VM.GuestAgent.Audit", "VM.GuestAgent.FileSystemMgmt", "Sys.Audit")
HOOK = "/usr/bin/vzdump-hook"


class ShiftedClock(SystemClock):
    """The system's clock, and so many seconds more."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds

    def time(self) -> float:
        return super().time() + self._seconds


@dataclass
class Clinic:
    """A site, a machine, and what the machine's programs say."""

    lab: Site
    root: Path
    said: dict[str, str | None] = field(default_factory=dict)
    """What a program prints, by its name; None: it cannot be run."""
    clock: Clock = field(default_factory=SystemClock)
    is_read_only: bool = False
    """The journal's folder cannot be written to."""
    is_full: bool = False
    """The disk under the journal has less than it should."""
    is_silent: bool = False
    """The only agent answers nothing, so an answer needs not be waited for."""

    @property
    def guest(self) -> ScriptedGuest:
        assert isinstance(self.lab.guest, ScriptedGuest)
        return self.lab.guest

    def visit(self, *vmids: int, within_seconds: float = 60.0) -> Examination:
        """The doctor's."""
        machine = Machine(self.root, lambda argv: self.said.get(argv[0]))
        around = Surroundings(self.clock, ProcessIdentity.own(), machine)
        limit = 1 << 62 if self.is_full else habits.FREE_BYTES
        with (
            mock.patch.object(habits, "FREE_BYTES", limit),
            mock.patch.object(past, "can_write", return_value=not self.is_read_only),
            mock.patch.object(SocketChannel.__init__, "__defaults__", (0.1 if self.is_silent else SYNC_SECONDS,)),
        ):
            return examine(self.lab.config_path, around, [Vmid(vmid) for vmid in vmids], within_seconds=within_seconds)

    def codes(self, *vmids: int) -> set[str]:
        """The codes that it finds."""
        return {one.code for one in self.visit(*vmids).findings}

    def silence(self) -> None:
        """The only guest's agent is gone."""
        self.guest.kill_agent()
        self.is_silent = True

    def elsewhere(self) -> None:
        """The doctor stands on no node. What lies on one alone cannot be asked then."""
        self.config(local={"node": ""})

    def by_api(self) -> None:
        """The guests' agents are asked over the API, since their sockets are not where they should be."""
        self.config(local={"socket_folder": str(self.root / "none")})

    def grant(self, *privileges: str) -> None:
        """The token has these privileges on / and no others."""
        entry = self.lab.node.settings.tokens[self.lab.node.token_id]
        tokens = {self.lab.node.token_id: {**entry, "acl": [["/", list(privileges)]]}}
        self.lab.node.set(tokens=tokens)

    def well_elsewhere(self, node: str, script: str = HOOK) -> None:
        """Another node, which names a script."""
        self.grant(*RIGHTS, "Datastore.Audit")
        self.lab.node.set(vzdump={node: {"script": script} if script else {}})

    def jobs(self, *jobs: dict[str, Any]) -> None:
        """The cluster's backup jobs."""
        self.lab.node.set(jobs=list(jobs))

    def foreign_ca(self) -> None:
        """A CA file of somebody else's."""
        path = self.lab.run / "other-ca.pem"
        path.write_bytes(authority("Other").certificate)
        self.config(api={"ca_file": str(path)})

    def ahead(self, days: float, *, keep_now: bool = False) -> None:
        """This machine's clock is ahead; with ``keep_now`` so is all that it has written."""
        self.clock = ShiftedClock(days * 86400)
        if keep_now:
            now = time.time() + days * 86400
            self.metrics_at(now)
            self.lab.journal_path.unlink()
            self.run_at(now - 3600)
            self.look_at(seen_at=now)

    def metrics_at(self, at: float) -> None:
        """When the metrics were last written."""
        os.utime(self.lab.metrics_path, (at, at))

    def conf_since(self, at: float) -> None:
        """When vzdump.conf was last written."""
        os.utime(self.root / "etc/vzdump.conf", (at, at))

    def open_window(self, owner: int) -> None:
        """A window of the guest that the process ``owner`` sees to."""
        who = {"owner_pid": owner, "owner_pid_start": process_start(owner), "boot_id": boot_id()}
        with self.journal() as found:
            found.begin(record("ours", 100, at=time.time(), state="armed", **who))

    def write(self, name: str, text: str, mode: int = 0o644) -> Path:
        """A file of the machine."""
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        path.chmod(mode)
        return path

    def exporter(
        self,
        *flags: str,
        name: str = "/usr/bin/prometheus-node-exporter",
        pid: int = 77,
        is_elsewhere: bool = False,
    ) -> None:
        """A node_exporter that runs, perhaps in a container."""
        for number, words in ((pid, [name, *flags]), (1, ["/sbin/init"]), ("self", ["doctor"])):
            path = self.write(f"proc/{number}/cmdline", "\0".join(words) + "\0")
            root = path.with_name("root")
            root.unlink(missing_ok=True)
            root.symlink_to(self.root / "container" if number == pid and is_elsewhere else self.root)
        (self.root / "container").mkdir(exist_ok=True)

    def units(self, timer: str = "active", state: str = "enabled", result: str = "success") -> None:
        """What systemctl says of the two."""
        load = "loaded" if timer else "not-found"
        self.said["systemctl"] = (
            f"Id={TIMER}\nLoadState={load}\nActiveState={timer or 'inactive'}\nUnitFileState={state}\n\n"
            f"Id={SERVICE}\nLoadState={load}\nActiveState=inactive\nUnitFileState=enabled\nResult={result}\n"
            f"ExecMainStatus={0 if result == 'success' else 8}\n"
        )

    def config(self, **tables: dict[str, Any]) -> None:
        """Lay tables over the configuration for good."""
        for name, values in tables.items():
            self.lab.settings.setdefault(name, {}).update(values)
        self.lab.write_config()

    def rule(self, **values: Any) -> None:
        """A [[guest]] table."""
        lines = [f"{key} = {value!r}".replace("'", '"').replace("True", "true") for key, value in values.items()]
        self.lab.rules += "[[guest]]\n" + "\n".join(lines) + "\n"
        self.lab.write_config()

    @contextlib.contextmanager
    def journal(self) -> Iterator[Journal]:
        """The journal, to write to."""
        with contextlib.closing(Journal(self.lab.journal_path)) as found:
            yield found

    def look_at(self, vmid: int = 100, **values: Any) -> None:
        """What recover has last seen of a guest."""
        now = time.time()
        seen = GuestLook(
            f"qemu/{vmid}", vmid, "pve1", f"guest{vmid}", True, now, diskwrite=7, asked_at=now, state="thawed"
        )
        with self.journal() as found:
            found.put_looks([seen._replace(**{"first_seen_at": now, **values})])

    def run_at(self, at: float, vmid: int = 100) -> None:
        """A guarded backup that ended then."""
        ended = {"state": "thawed", "closed_at": at, "verdict": "filesystem-consistent", "reason": "proven"}
        with self.journal() as found:
            found.begin(record(f"run-{vmid}", vmid, at=at - 1, source="vzdump", owner="hook"))
            found.update(f"run-{vmid}", **ended)

    def task(self, upid: str, ended_at: float) -> None:
        """A backup task in PVE's archive index, in which the hook was not called."""
        path = self.lab.node.root / "var/log/pve/tasks/index"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{upid} {int(ended_at):08X} OK\n")


@contextlib.contextmanager
def clinic(
    *guests: Callable[[int, Path], Guest], nodes: tuple[str, ...] = ("pve1",), **settings: Any
) -> Iterator[Clinic]:
    """A node pve1 on which everything is as it should be: no probe finds anything."""
    settings.setdefault("jobs", [{"id": "backup-1", "all": 1, "mode": "snapshot"}])
    settings.setdefault("limits", dict(QUICK_LIMITS))
    with site(*guests, nodes=nodes, **settings) as lab:
        lab.settings["local"] = {
            "node": "pve1",
            "task_folder": str(lab.node.root / "var/log/pve/tasks"),
            "pvesh": str(lab.node.pvesh),
            "socket_folder": str(lab.run),
        }
        lab.write_config()
        found = Clinic(lab, lab.run / "machine")
        found.write("etc/vzdump.conf", f"script: {HOOK}\n")
        found.write(HOOK.lstrip("/"), "#!/bin/sh\n", 0o755)
        found.units()
        found.said["timedatectl"] = "yes\n"
        found.exporter(f"--collector.textfile.directory={lab.metrics_path.parent}")
        lab.metrics_path.write_text("")
        found.run_at(time.time() - 3600)
        found.look_at()
        os.chmod(lab.run / "metrics", 0o755)
        yield found
        assert lab.node.server_log() == "", lab.node.server_log()
