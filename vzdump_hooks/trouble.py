"""An error of ours in a phase: a line in the log, a count for the metrics, and whether `require` fails the backup."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing, suppress

from snapshot.config.settings import Config
from snapshot.errors import ConfigError, SafeSnapshotError
from snapshot.journal.series import hook_error
from snapshot.model import Policy
from vzdump_hooks.call import Invocation, Mode, Phase
from vzdump_hooks.settings import Loaded, load_config, open_journal
from vzdump_hooks.tasklog.worker import find_worker

SAID_IN = frozenset({Phase.JOB_START, Phase.BACKUP_START})
"""A broken configuration is said once in the job's log and once in each guest's, not in every phase."""


def report(invocation: Invocation, config_path: str | None, error: Exception, say: Callable[[str], None]) -> bool:
    """Say what went wrong in this phase. True when policy ``require`` wants a freeze of this guest."""
    ours = isinstance(error, SafeSnapshotError)
    text = str(error) if ours else f"internal error ({type(error).__name__}: {error}); please report it"
    try:
        config = load_config(config_path)
    except ConfigError as broken:
        if invocation.phase in SAID_IN:
            say(f"WARNING: {broken}; until then guests are backed up without our freeze")
        return False
    required = is_required(invocation, config)
    outcome = "policy require: this guest's backup fails" if required else "the backup goes on"
    say(f"WARNING: {invocation.phase.value}: {text}; {outcome}")
    _count(invocation.phase, config)
    return required


def is_required(invocation: Invocation, config: Config) -> bool:
    """Whether policy ``require`` wants a freeze of this guest, as far as is known without asking PVE about it."""
    return (
        invocation.vmid is not None
        and invocation.is_qemu
        and invocation.mode is not Mode.STOP
        and config.for_guest(invocation.vmid).policy is Policy.REQUIRE
    )


def broken(phase: Phase, found: Loaded, say: Callable[[str], None]) -> None:
    """Say and count a configuration that can only be read in part."""
    if not found.problems:
        return
    more = f" (and {len(found.problems) - 1} more: `safe-snapshot check`)" if len(found.problems) > 1 else ""
    say(f"WARNING: {found.problems[0]}{more}; until it is mended we freeze nothing, and watch vzdump's own freezes")
    _count(phase, found.config)


def _count(phase: Phase, config: Config) -> None:
    if find_worker(config).is_self_test:
        return
    with suppress(SafeSnapshotError), closing(open_journal(config)) as journal, journal.transaction("written") as db:
        hook_error(db, phase.value)  # a count that is lost, the line is not
