"""Which module handles which phase, as a table, and what an error there means for the backup."""

from __future__ import annotations

import importlib
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from vzdump_hooks.call import Call, InvocationError, Phase, Say, UnknownPhaseError, parse


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


def dispatch(arguments: Sequence[str], environment: Mapping[str, str], config_path: str | None, say: Say) -> int:
    """Handle one call. An error of ours never fails a backup, unless the policy for this guest is ``require``."""
    try:
        invocation = parse(arguments, environment)
    except UnknownPhaseError as error:
        say(f"{error}: ignored, the backup goes on")
        return 0
    except InvocationError as error:
        say(f"{error}: ignored, a backup would go on")
        return 0 if arguments else 1
    handler = HANDLERS.get(invocation.phase)
    if handler is None:
        return 0
    call = Call(invocation, config_path, say)
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
