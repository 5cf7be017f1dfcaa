"""Which module handles which phase, as a table, and what an error there means for the backup."""

from __future__ import annotations

import importlib
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from vzdump_hooks.call import Call, Invocation, InvocationError, Phase, Say, UnknownPhaseError, parse


class Handler(NamedTuple):
    """``module`` in vzdump_hooks.phases with a ``run(call)``. ``fatal``: exit 1 fails this guest's backup here.

    Where it is not, vzdump only warns about a non-zero exit (PVE/VZDump.pm), and we never use one.
    """

    module: str
    fatal: bool


HANDLERS: Mapping[Phase, Handler] = {
    Phase.JOB_START: Handler("job", False),
    Phase.BACKUP_START: Handler("backup_start", True),
    Phase.POST_RESTART: Handler("post_restart", True),
    Phase.BACKUP_END: Handler("backup_end", True),
    Phase.BACKUP_ABORT: Handler("backup_end", False),
    Phase.LOG_END: Handler("log_end", False),
    Phase.JOB_END: Handler("job", False),
    Phase.JOB_ABORT: Handler("job", False),
}
"""The phases without a handler have nothing to do: entry.py leaves before it comes here."""


AFTER_OURS = frozenset({Phase.BACKUP_END, Phase.BACKUP_ABORT, Phase.LOG_END, Phase.JOB_END, Phase.JOB_ABORT})
"""In these the administrator's own commands come behind our thaw and verdict; in all others before our freeze. None
may run in between: vzdump waits for us meanwhile, and the guest with it."""

SWEPT_BEFORE = frozenset({Phase.JOB_INIT, Phase.JOB_START, Phase.BACKUP_START})
"""Before the administrator's own commands are called in these, what dead runs of ours left frozen is thawed: no guest
waits for a command, which may take a minute, or veto all that is ours.
"""

VETOED = frozenset({Phase.BACKUP_START, Phase.POST_RESTART})
"""Where an own command fails, vzdump ends the guest's backup: nothing of ours is begun any more."""


def dispatch(
    arguments: Sequence[str],
    environment: Mapping[str, str],
    config_path: str | None,
    say: Say,
    commands: str = "",
    *,
    is_idle: bool = False,
) -> int:
    """Handle one call. An error of ours never fails a backup, unless the policy for this guest is ``require``.

    ``commands``: the folder of the administrator's own, "" where there are none; one that fails fails what vzdump says
    that it fails. ``is_idle``: they are all there is to do.
    """
    try:
        invocation = parse(arguments, environment)
    except UnknownPhaseError as error:
        say(f"{error}: ignored, the backup goes on")
        return int(_theirs(None, arguments, Call(Invocation(Phase.JOB_INIT), config_path, say, environment, commands)))
    except InvocationError as error:
        say(f"{error}: ignored, a backup would go on")
        return 0 if arguments else 1
    call = Call(invocation, config_path, say, environment, commands)
    is_after = invocation.phase in AFTER_OURS
    failed = not is_after and _theirs(invocation, arguments, call)
    if failed and invocation.phase in VETOED:
        return 1
    code = 0 if is_idle else _ours(call)
    failed = failed or (is_after and _theirs(invocation, arguments, call))
    return 1 if failed else code


def _theirs(invocation: Invocation | None, arguments: Sequence[str], call: Call) -> bool:
    """Call the administrator's own commands; True when one failed. A phase that we do not know may be known to them."""
    if not call.commands:
        return False
    from vzdump_hooks import own  # noqa: PLC0415 - 37 ms and 68 modules, only where there are any
    from vzdump_hooks.phases import sweep  # noqa: PLC0415 - as above

    try:
        if invocation is not None and invocation.phase in SWEPT_BEFORE:
            sweep.before_commands(call)
        return own.vzdumps_phase(call, arguments, is_known=invocation is not None)
    except Exception as error:  # noqa: BLE001 - as below
        call.say(f"WARNING: own commands: internal error ({type(error).__name__}: {error}); the backup goes on")
        return False


def _ours(call: Call) -> int:
    """Our own work in this phase."""
    handler = HANDLERS.get(call.invocation.phase)
    if handler is None:
        return 0
    try:
        module = importlib.import_module(f"vzdump_hooks.phases.{handler.module}")
        failed: bool = module.run(call)
    except Exception as error:  # noqa: BLE001 - the last line of defence: the operator gets one line
        return 1 if _own_error(call, error) and handler.fatal else 0
    return 1 if failed and handler.fatal else 0


def _own_error(call: Call, error: Exception) -> bool:
    """Say it, count it; True when the policy for this guest is ``require``."""
    from vzdump_hooks import trouble  # noqa: PLC0415 - 18 ms and 39 modules, only when there is trouble

    return trouble.report(call.invocation, call.config_path, error, call.say)
