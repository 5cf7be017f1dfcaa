"""``vzdump-hook``: what vzdump starts, up to eleven times a guest. Exit status 0 or 1, never a traceback.

A phase with nothing to do leaves from here, having imported next to nothing.
"""

from __future__ import annotations

import gc
import os
import sys

from vzdump_hooks.say import say

TYPE_CHECKING = False  # typing's own is slow to import
if TYPE_CHECKING:  # 3 ms, where nothing else in the interpreter's start has needed them
    from collections.abc import Mapping, Sequence

IDLE_PHASES = frozenset({"job-init", "pre-stop", "pre-restart"})
"""job-init comes before the node-wide lock: another job may be running. The others fire before the archive too."""

CONFIG_PATH = "/etc/vzdump-hooks/config.toml"
NOTES_OPTION = b"write_notes"
COMMANDS_FOLDER = "hooks.d"

USAGE = """\
usage: vzdump-hook [--config FILE] PHASE [MODE VMID]

vzdump calls this program in every phase of every backup. Set it in /etc/vzdump.conf and nothing else:

    script: /usr/bin/vzdump-hook

It arms a guard, freezes the guest, lets vzdump take its point in time, thaws, and says what the backup is worth.
Settings: /etc/vzdump-hooks/config.toml. By hand it does nothing useful; see safe-snapshot.
"""


def main() -> None:
    """The entry point."""
    gc.disable()  # a call lives for less than a second, most of it imports: looking for garbage is a tenth of that
    try:
        _fill_descriptors()
        code = run(sys.argv[1:], os.environ)
    except KeyboardInterrupt:
        code = 1
    except Exception as error:  # noqa: BLE001 - half an installation must not cost a backup either
        say(f"WARNING: internal error ({type(error).__name__}: {error}); reinstall vzdump-hooks; the backup goes on")
        code = 0
    # All is said and closed. To take the interpreter down in order costs 7 ms, and vzdump waits with the guest frozen.
    os._exit(code)


def run(arguments: Sequence[str], environment: Mapping[str, str]) -> int:
    """One call of vzdump's: 0, or 1 when this backup shall fail. Whatever happens, it is said in one line."""
    config_path, rest = _own_options(arguments)
    if rest[:1] in (["--help"], ["-h"]):
        sys.stdout.write(USAGE)
        sys.stdout.flush()
        return 0
    commands = _own_commands(config_path or CONFIG_PATH)
    is_idle = _is_idle(rest, environment, config_path or CONFIG_PATH)
    if is_idle and not commands:
        return 0
    from vzdump_hooks import dispatch  # noqa: PLC0415 - 3.5 ms and 6 modules that an idle phase must not pay for

    return dispatch.dispatch(rest, environment, config_path, say, commands, is_idle=is_idle)


def _fill_descriptors() -> None:
    """A standard descriptor that is closed would become the number of the next file we open: the journal's, say."""
    for descriptor in (0, 1, 2):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest free number, which is this one


def _own_options(arguments: Sequence[str]) -> tuple[str | None, list[str]]:
    """``--config FILE`` before the phase, for wrappers and tests: vzdump itself passes no options."""
    rest = list(arguments)
    if len(rest) >= 2 and rest[0] == "--config":
        return rest[1], rest[2:]
    return None, rest


def _is_idle(arguments: Sequence[str], environment: Mapping[str, str], config_path: str) -> bool:
    """Phases with nothing to do: other jobs may be running, it is too early, or the guest is none of ours."""
    phase, mode = (*arguments, "", "")[:2]
    if phase in IDLE_PHASES:
        return True
    if phase == "log-end":
        return not _wants_notes(config_path)
    is_container = environment.get("VMTYPE") == "lxc"
    return (phase == "post-restart" and (mode in ("stop", "suspend") or is_container)) or (
        phase == "backup-start" and is_container
    )


def _own_commands(config_path: str) -> str:
    """The folder of the administrator's own commands, beside the configuration; "" when there is nothing in it."""
    folder = os.path.join(os.path.dirname(os.path.abspath(config_path)), COMMANDS_FOLDER)
    try:
        with os.scandir(folder) as entries:
            return folder if any(entry.name[0] != "." for entry in entries) else ""
    except FileNotFoundError:
        return ""
    except OSError:
        return folder  # what is wrong with it is told where its commands would be called


def _wants_notes(config_path: str) -> bool:
    """Whether the configuration speaks of the verdict in the notes at all, not counting comments: all log-end is for.

    To load the configuration would cost more than all the rest of that phase.
    """
    try:
        with open(config_path, "rb") as file:
            return any(NOTES_OPTION in line and not line.lstrip().startswith(b"#") for line in file)
    except OSError:
        return False
