"""A signal that ends a run: where it may come through, and what the operator must know then."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager

from snapshot.errors import InterruptedBySignalError
from snapshot.model import Verdict, VerdictKind
from snapshot.pve import remedies
from snapshot.take.request import Tools
from snapshot.take.run import Run


def let_signals_through(tools: Tools) -> None:
    """Where a signal that was held back may end the run."""
    with tools.gate.open():
        pass


@contextmanager
def what_is_there_told(run: Run) -> Iterator[None]:
    """A run that is interrupted inside says whether there is a snapshot now, and what it is worth."""
    try:
        yield
    except InterruptedBySignalError as signalled:
        raise _told(run, signalled) from None


def _told(run: Run, signalled: InterruptedBySignalError) -> InterruptedBySignalError:
    """The guest is thawed: there is time to ask."""
    snapshot, window, number = run.snapshot, run.window, signalled.signal_number
    if snapshot is not None and snapshot.exists is None:
        snapshot.find_out()
    if snapshot is not None and snapshot.exists and run.verdict is None:
        run.verdict = Verdict(VerdictKind.UNKNOWN, f"the run was {signalled.message} before it was judged")
        snapshot.describe(run.verdict)
    exists = snapshot.exists if snapshot is not None else False
    thaw = window.report if window is not None else None
    thawed = "; the guest is thawed" if thaw is not None and thaw.confirmed else ""
    what = {
        True: f"the snapshot {run.name} is there",
        False: "there is no snapshot of this run",
        None: f"PVE may still be at work on the snapshot {run.name}",
    }[exists]
    command = remedies.tool(run.guest) if run.guest else "qm"
    remedy = f"look at `{command} listsnapshot {run.request.vmid}`" if exists is None else ""
    name = signal.Signals(number).name
    return InterruptedBySignalError(number, f"ended by signal {number} ({name}){thawed}; {what}", remedy=remedy)
