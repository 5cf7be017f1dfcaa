"""log-end: the verdict into the backup's notes, where that is wanted. The verdict itself was settled at backup-end."""

from __future__ import annotations

from vzdump_hooks.dispatch import Call

DEFAULT_PATH = "/etc/vzdump-hooks/config.toml"
OPTION = b"write_notes"


def run(call: Call) -> bool:
    """Advisory: a non-zero exit would only be a warning."""
    if not _mentions(call.config_path or DEFAULT_PATH):
        return False
    from vzdump_hooks.backup_notes import write_verdict  # noqa: PLC0415 - heavy, and an option

    write_verdict(call.invocation, call.config_path, call.say)
    return False


def _mentions(path: str) -> bool:
    """Whether the configuration speaks of the option at all, not counting comments.

    Where it does not, this phase has nothing to do: loading the configuration would cost more than all the rest of it.
    """
    try:
        with open(path, "rb") as file:
            return any(OPTION in line and not line.lstrip().startswith(b"#") for line in file)
    except OSError:
        return False
