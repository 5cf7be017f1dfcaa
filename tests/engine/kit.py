"""What every test of the engine checks of a run, whatever it is about: see ``check``."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from snapshot.base.procfs import ProcessIdentity
from snapshot.errors import exit_codes
from snapshot.journal.record import WindowRecord
from snapshot.journal.store import Journal
from tests.lab.guest.agentmodel import Refusal
from tests.lab.guest.scripted import ScriptedGuest
from tests.lab.node.config import GuestConfig
from tests.lab.site import Run, Site, wait_for
from tests.unit.kit import record

FREEZE = "guest-fsfreeze-freeze"
FROZEN_ANYWAY = Refusal("CommandNotFound", f"Command {FREEZE} has been disabled: the agent is in frozen state")
NOT_ALLOWED = Refusal("CommandNotFound", f"Command {FREEZE} has been disabled: the command is not allowed")
KNOWN_EXIT_CODES = {0, *(code for code, _, _ in exit_codes()), 129, 130, 143}
# What the lab's answers take at most when nothing is wrong: PVE's limits, scaled so that a hung call ends soon.
QUICK_LIMITS = {"ping": 0.3, "command": 1.0}


def take(lab: Site, *arguments: str, vmid: int = 100, thawed: bool = True, timeout: float = 60.0) -> Run:
    """Run ``safe-snapshot <vmid> --name s1`` and check what must hold for every run."""
    return check(lab, lab.safe_snapshot(str(vmid), "--name", "s1", *arguments, timeout=timeout), thawed=thawed)


def check(lab: Site, run: Run, *, thawed: bool = True) -> Run:
    """No traceback, no bug, no secret, an exit code of the table, and nothing frozen when the command has ended."""
    said = f"exit {run.exit_code} after {run.seconds:.1f} s\n--- stdout\n{run.stdout}--- stderr\n{run.stderr}"
    assert "Traceback" not in run.text, said
    assert "internal error" not in run.text, said
    assert lab.node.token_secret not in run.text, said
    assert run.exit_code in KNOWN_EXIT_CODES, said
    if thawed:
        for guest in lab.guests.values():
            assert not guest.running or not guest.is_frozen(), f"guest {guest.vmid} is frozen\n{said}"
    return run


def snapshots(lab: Site, vmid: int = 100) -> dict[str, dict[str, str]]:
    """The guest's snapshots as its configuration file has them."""
    return config(lab, vmid).snapshots


def config(lab: Site, vmid: int = 100) -> GuestConfig:
    """The guest's configuration file."""
    return lab.node.config(vmid)


def description(lab: Site, name: str = "s1", vmid: int = 100) -> str:
    """A snapshot's description."""
    return snapshots(lab, vmid)[name].get("description", "")


def window(lab: Site) -> WindowRecord:
    """The newest window of the journal."""
    return lab.windows()[0]


def closes(lab: Site, seconds: float = 15.0) -> bool:
    """Whether the newest window is closed within ``seconds``: by whoever watches it."""
    return wait_for(lambda: window(lab).closed_at is not None, seconds)


def reaches(lab: Site, path: str, seconds: float = 20.0, method: str = "") -> bool:
    """Whether a request whose path contains ``path`` arrives within ``seconds``."""
    return wait_for(lambda: any(method in ("", r.method) for r in lab.node.requests(path)), seconds)


@contextlib.contextmanager
def busy_agent(guest: ScriptedGuest) -> Iterator[None]:
    """The guest agent serves somebody else, who does not leave."""
    with guest.agent() as client:
        client.sync()
        yield


def guest_uuid(lab: Site, vmid: int = 100) -> str:
    """The product UUID that PVE gives the guest."""
    return config(lab, vmid).values["smbios1"].removeprefix("uuid=")


def set_pending(lab: Site, vmid: int = 100, **values: Any) -> None:
    """Options that wait for the guest's next start."""
    found = config(lab, vmid)
    with lab.node.store.locked(found.node, found.kind, vmid, 10) as locked:
        locked.pending.update({key: str(value) for key, value in values.items()})


def seen_frozen(lab: Site, seconds: float, vmid: int = 100) -> None:
    """A look of ``seconds`` ago has found the guest frozen by somebody else."""
    at = time.time() - seconds
    values = {"source": "foreign", "owner": "foreign", "owner_pid": 0, "boot_id": "", "freeze_outcome": "acknowledged"}
    with contextlib.closing(Journal(lab.journal_path)) as journal:
        journal.begin(
            record(f"foreign-{vmid}", vmid, at=at, state="frozen", deadline_at=at + 300, frozen_at=at, **values)
        )


def in_our_window(lab: Site, vmid: int = 100, **values: Any) -> None:
    """An open window of the guest, in good time and held by a living process: this test's."""
    me, now = ProcessIdentity.own(), time.time()
    alive = {"owner_pid": me.pid, "owner_pid_start": me.start, "boot_id": me.boot_id, "state": "frozen"}
    with contextlib.closing(Journal(lab.journal_path)) as journal:
        journal.begin(record("ours", vmid, **({"at": now, "deadline_at": now + 60} | alive | values)))


def write_secret(path: Path, text: str) -> Path:
    """A file that only its owner reads."""
    path.write_text(text)
    path.chmod(0o600)
    return path


def the_guest(lab: Site) -> ScriptedGuest:
    """The site's first guest."""
    assert isinstance(lab.guest, ScriptedGuest)
    return lab.guest


def refuse(lab: Site, refusal: Refusal) -> None:
    """Let the agent refuse every freeze."""
    the_guest(lab).faults.refuse[FREEZE] = refusal
