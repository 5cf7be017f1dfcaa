"""The sweep: windows that earlier runs left open are closed, and their guests thawed, before anything else begins."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

from snapshot.base.clock import SystemClock
from snapshot.base.procfs import ProcessIdentity
from snapshot.config.settings import Config
from snapshot.errors import SafeSnapshotError
from snapshot.journal.file import is_absent
from vzdump_hooks.call import Call
from vzdump_hooks.settings import load_config, open_journal


def before_commands(call: Call) -> None:
    """Before the administrator's own commands are called: in a guest's phase its own windows, in a job's all.

    What keeps it from being done is said by what is ours in this phase or the next, which meets it too.
    """
    try:
        config = load_config(call.config_path)
        if is_absent(config.journal.path):
            return
        with closing(open_journal(config)) as journal:
            left_open = journal.open_windows(call.invocation.vmid)
        if left_open:
            sweep(config, call)
    except SafeSnapshotError:
        return


def sweep(config: Config, call: Call) -> None:
    """Close what earlier runs left open, and say what came of it. Raises as recover does."""
    # 95 ms and 264 modules, only when there is something
    from snapshot.guard.launcher import ProcessLauncher  # noqa: PLC0415
    from snapshot.pve.access import open_access  # noqa: PLC0415
    from snapshot.recovery.recover import recover  # noqa: PLC0415

    clock = SystemClock()
    path = Path(call.config_path).absolute() if call.config_path else None
    found = recover(
        open_access(config, clock),
        ProcessIdentity.own(),
        lambda: open_journal(config),
        lambda line, at=None: None,
        ProcessLauncher(config, path, clock).adopt,
        everywhere=False,  # vzdump waits
    )
    for item in found:
        if item.outcome != "in-progress":
            call.say(f"guest {item.vmid}: a window was left open: {item.outcome} ({item.detail})")
