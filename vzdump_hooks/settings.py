"""The configuration as the hook finds it: /etc/vzdump-hooks/config.toml, or what ``--config`` names."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from snapshot.config import reading
from snapshot.config.settings import Config, FreezeOwner, local_node
from snapshot.errors import ConfigError
from snapshot.journal.store import Journal
from vzdump_hooks.say import say


class Loaded(NamedTuple):
    """A configuration, and what is wrong with its file, as lines for the operator."""

    config: Config
    problems: tuple[str, ...] = ()


def load(config_path: str | None) -> Loaded:
    """The configuration; a missing default file means the defaults. Of a broken one, what can be read.

    Which guest is to be frozen cannot be known from a part: then nothing is frozen by us, and vzdump's own freezes are
    watched. A policy ``require`` that can be read holds. ConfigError off a node, where nothing can be done without it.
    """
    path = Path(config_path) if config_path else None
    try:
        return Loaded(reading.load(path))
    except ConfigError:
        config, problems = reading.load_lenient(path)
        if not local_node(config):
            raise
    rules = tuple(rule._replace(owner=None) for rule in config.guest)
    return Loaded(config._replace(hook=config.hook._replace(owner=FreezeOwner.VZDUMP), guest=rules), tuple(problems))


def load_config(config_path: str | None) -> Config:
    """The configuration alone: its problems are said at job-start and backup-start."""
    return load(config_path).config


def open_journal(config: Config, *, read_only: bool = False) -> Journal:
    """The journal; what it says of itself (it was broken, and begun anew) goes to vzdump's log. Raises JournalError."""
    return Journal(config.journal.path, read_only=read_only, say=say)
