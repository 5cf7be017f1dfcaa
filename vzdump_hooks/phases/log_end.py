"""log-end: the verdict into the backup's notes, where that is wanted. The verdict itself stands since backup-end.

Where the configuration does not speak of it, entry.py leaves before it comes here.
"""

from __future__ import annotations

from vzdump_hooks.call import Call


def run(call: Call) -> bool:
    """Advisory: a non-zero exit would only be a warning."""
    from vzdump_hooks.phases.archive_notes import write_verdict  # noqa: PLC0415 - 106 ms and 295 modules, and an option

    write_verdict(call.invocation, call.config_path, call.say)
    return False
