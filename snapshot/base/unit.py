"""What systemd tells a process of the unit that it runs in, by its environment (systemd.exec(5), sd_notify(3)).

The one place beside the programs' entries where the environment is read: these are no settings, and each holds for this
process alone. Outside a unit all of it is empty. Standard library only.
"""

from __future__ import annotations

import os


def notify_socket() -> str:
    """Where the service manager listens for what we tell it of ourselves."""
    return os.environ.get("NOTIFY_SOCKET", "")


def credentials_folder() -> str:
    """Where the unit's credentials are, for as long as it runs."""
    return os.environ.get("CREDENTIALS_DIRECTORY", "")


def journal_stream() -> str:
    """Device and inode of what systemd connected to its journal as our output: ``8:12345``."""
    return os.environ.get("JOURNAL_STREAM", "")
