"""The configuration as the hook finds it: /etc/vzdump-hooks/config.toml, or what ``--config`` names."""

from __future__ import annotations

from pathlib import Path

from snapshot import config as configuration
from snapshot.config import Config
from snapshot.journal import Journal
from vzdump_hooks.entry import say


def load_config(config_path: str | None) -> Config:
    """The configuration. ConfigError when it is broken; a missing default file means the defaults."""
    path = Path(config_path) if config_path else configuration.DEFAULT_PATH
    return configuration.load(path, required=config_path is not None)


def open_journal(config: Config, *, read_only: bool = False) -> Journal:
    """The journal; what it says of itself (it was broken, and begun anew) goes to vzdump's log. Raises JournalError."""
    return Journal(config.journal.path, read_only=read_only, say=say)
