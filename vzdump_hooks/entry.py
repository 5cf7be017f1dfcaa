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
       vzdump-hook [--config FILE] --self-test GUEST
       vzdump-hook --version

vzdump calls this program in every phase of every backup. Set it in
/etc/vzdump.conf and nothing else (`safe-snapshot setup` does):

    script: /usr/bin/vzdump-hook

It arms a guard, freezes the guest, lets vzdump take its point in time, thaws,
and says what the backup is worth.
--self-test plays all phases as vzdump's worker would, and makes no backup:
GUEST (vmid or name) is frozen for a moment.
Settings: /etc/vzdump-hooks/config.toml. Else by hand it does nothing useful;
see safe-snapshot.
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
    config_path, rest, has_commands = _own_options(arguments)
    if rest[:1] == ["--self-test"]:
        from vzdump_hooks import selftest  # noqa: PLC0415 - 150 ms that no phase of a backup needs

        return selftest.main(rest[1:], config_path)
    if rest[:1] in (["--help"], ["-h"]):
        sys.stdout.write(USAGE)
        sys.stdout.flush()
        return 0
    if rest[:1] == ["--version"]:
        from importlib import metadata  # noqa: PLC0415 - 20 ms that no phase of a backup needs

        sys.stdout.write(f"vzdump-hook, version {metadata.version('vzdump-hooks')}\n")
        sys.stdout.flush()
        return 0
    if _is_a_slip(rest):
        said = f"no such option: {rest[0][:40]!a}\n\n" if rest else ""
        sys.stdout.write(said + USAGE)
        sys.stdout.flush()
        return 1
    commands = _own_commands(config_path or CONFIG_PATH) if has_commands else ""
    is_idle = _is_idle(rest, environment, config_path or CONFIG_PATH)
    if is_idle and not commands:
        return 0
    from vzdump_hooks import dispatch  # noqa: PLC0415 - 3.5 ms and 6 modules that an idle phase must not pay for

    return dispatch.dispatch(rest, environment, config_path, say, commands, is_idle=is_idle)


def _is_a_slip(rest: Sequence[str]) -> bool:
    """Somebody at a terminal, and no phase: vzdump gives one each time, and reads what we print through a pipe."""
    return (not rest or rest[0].startswith("-")) and sys.stdout is not None and sys.stdout.isatty()


def _fill_descriptors() -> None:
    """A standard descriptor that is closed would become the number of the next file we open: the journal's, say."""
    for descriptor in (0, 1, 2):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest free number, which is this one


def _own_options(arguments: Sequence[str]) -> tuple[str | None, list[str], bool]:
    """``--config FILE`` before the phase, for wrappers and tests: vzdump itself passes no options. ``--no-commands``
    behind it is the self-test's: the administrator's own commands may copy, page or stop something.
    """
    config_path, rest = None, list(arguments)
    if len(rest) >= 2 and rest[0] == "--config":
        config_path, rest = rest[1], rest[2:]
    has_commands = rest[:1] != ["--no-commands"]
    return config_path, rest if has_commands else rest[1:], has_commands


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
