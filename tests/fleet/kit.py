"""Sites with several scripted guests, and what must hold of every run with many guests."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from snapshot.base.procfs import process_lives
from snapshot.journal.record import WindowRecord
from tests.engine.kit import QUICK_LIMITS, check
from tests.json_schema import follows_the_schema
from tests.lab.guest.scripted import ScriptedGuest
from tests.lab.node.node import PRIVILEGES, TOKEN_ID
from tests.lab.site import Run, Site, Started, site, wait_for

SOON = 60.0
"""A bound for hangs only."""


@contextlib.contextmanager
def guests(count: int, *, nodes: tuple[str, ...] = ("pve1",), **settings: Any) -> Iterator[Site]:
    """``count`` guests, 100 and on, spread over the nodes in turn; the token may see how full storages are."""
    limits = {**QUICK_LIMITS, **settings.pop("limits", {})}
    with site(*[ScriptedGuest] * count, nodes=nodes, limits=limits, **settings) as lab:
        secret = lab.node.add_token(TOKEN_ID, (*PRIVILEGES, "Datastore.Audit"))
        lab.node.token_secret = secret
        lab.node.token_file.write_text(f"{TOKEN_ID}={secret}\n")
        for number, vmid in enumerate(lab.guests):
            if node := nodes[number % len(nodes)]:
                lab.node.move_guest(vmid, node)
        yield lab
        assert lab.node.server_log() == "", lab.node.server_log()


def take(lab: Site, *arguments: str, thawed: bool = True) -> Run:
    """Run it and check what must hold of every run."""
    return check(lab, lab.safe_snapshot(*arguments, timeout=SOON * 2), thawed=thawed)


def outcomes(run: Run) -> dict[int, dict[str, Any]]:
    """The guests of a ``--json`` run, which follows the schema."""
    found = run.json
    assert follows_the_schema(found)
    assert found["command"] == "take"
    assert found["exit_code"] == run.exit_code
    return {one["vmid"]: one for one in found["guests"]}


def codes(run: Run) -> dict[int, int]:
    """The guests' exit codes."""
    return {vmid: one["exit_code"] for vmid, one in outcomes(run).items()}


def guest(lab: Site, vmid: int) -> ScriptedGuest:
    """One guest."""
    found = lab.guests[vmid]
    assert isinstance(found, ScriptedGuest)
    return found


def frozen(lab: Site) -> list[int]:
    """Who is frozen now."""
    return [vmid for vmid in lab.guests if guest(lab, vmid).is_frozen()]


def workers(process: Started) -> list[int]:
    """The pids of a run's workers, the first one first; not of the nursery of their guards, which is a child too."""
    found = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    mine = [int(pid) for pid in found if os.getpgid(int(pid)) == int(pid)]
    return [pid for pid in mine if Path(f"/proc/{pid}/comm").read_text().strip() == "safe-snapshot"]


def held(lab: Site, count: int = 1) -> bool:
    """Whether so many calls are held now."""
    return wait_for(lambda: lab.node.held() >= count, SOON)


def finished(process: Started) -> Run:
    """Its end."""
    stdout, stderr = process.communicate(timeout=SOON * 2)
    return Run(process.returncode, stdout, stderr, 0.0)


def most_at_once(windows: list[WindowRecord]) -> int:
    """How many windows were open at the same time, by the journal."""
    edges = [(w.intent_at, 1) for w in windows] + [(w.thawed_at or w.closed_at or 9e10, -1) for w in windows]
    most = now = 0
    for _, change in sorted(edges):
        now += change
        most = max(most, now)
    return most


def stopped(pid: int) -> bool:
    """Whether a process is stopped (SIGSTOP, Ctrl-Z)."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "T"


def gone(pid: int, start: int) -> bool:
    """Whether a process has ended."""
    return wait_for(lambda: not process_lives(pid, start), SOON)


def kill(pid: int, number: int = signal.SIGKILL) -> None:
    """Send a signal."""
    os.kill(pid, number)
