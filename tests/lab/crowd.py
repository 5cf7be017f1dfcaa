"""Many scripted guests on several nodes of one cluster, and what a run over all of them takes of memory."""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from tests.lab.guest.scripted import ScriptedGuest
from tests.lab.node.node import PRIVILEGES, TOKEN_ID, GuestSpec, LabNode
from tests.lab.rundir import run_directory
from tests.lab.site import Site

FIRST = 100


@contextlib.contextmanager
def crowd(count: int, nodes: tuple[str, ...], **settings: Any) -> Iterator[Site]:
    """``count`` guests, vmids 100 and on, spread over the nodes in turn. 500 are there in some ten seconds."""
    with contextlib.ExitStack() as stack:
        run = stack.enter_context(run_directory())
        guests = {vmid: ScriptedGuest(vmid, run) for vmid in range(FIRST, FIRST + count)}
        for guest in guests.values():
            guest.start()
            stack.callback(guest.stop)
        specs = [GuestSpec(vmid, run, node=nodes[vmid % len(nodes)]) for vmid in guests]
        node = stack.enter_context(LabNode(run / "node", specs, nodes=nodes, **settings))
        secret = node.add_token(TOKEN_ID, (*PRIVILEGES, "Datastore.Audit"))
        node.token_secret = secret
        node.token_file.write_text(f"{TOKEN_ID}={secret}\n")
        found = Site(run, node, dict(guests))
        found.write_config()
        stack.callback(found.kill_guards)
        yield found


class Sample(NamedTuple):
    """All processes of a site at one instant."""

    at: float
    pss_mb: Counter[str]
    """By the name of the process: what is shared counts for each of those that share it in part."""
    processes: Counter[str]

    @property
    def total_mb(self) -> float:
        """Of all."""
        return sum(self.pss_mb.values())


class MemoryWatch(threading.Thread):
    """Looks every ``seconds`` at all processes that were started with this site's configuration, and their forks."""

    def __init__(self, lab: Site, seconds: float = 2.0) -> None:
        super().__init__(name="memory", daemon=True)
        self.samples: list[Sample] = []
        self._mark = str(lab.config_path).encode()
        self._seconds = seconds
        self._over = threading.Event()

    def run(self) -> None:
        while not self._over.wait(self._seconds):
            self.samples.append(self._look())

    def end(self) -> list[Sample]:
        """Its samples."""
        self._over.set()
        self.join()
        return self.samples

    def _look(self) -> Sample:
        memory, count = Counter[str](), Counter[str]()
        for name in filter(str.isdigit, os.listdir("/proc")):
            folder = Path("/proc", name)
            with contextlib.suppress(OSError):
                if self._mark in (folder / "cmdline").read_bytes():
                    kind = (folder / "comm").read_text().strip()
                    memory[kind] += _pss_kb(folder) / 1024  # type: ignore[assignment]
                    count[kind] += 1
        return Sample(time.monotonic(), memory, count)


def _pss_kb(folder: Path) -> int:
    for line in (folder / "smaps_rollup").read_text().splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1])
    return 0
