"""A configuration in which the API cannot be reached: what a guard is given whose API route is cut.

Nothing of the node is touched. The host is an address that is routed nowhere (RFC 5737), so a request hangs or is
refused as with a host that is gone; all else is the configuration as it was read.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import closing, suppress
from enum import Enum
from pathlib import Path

from snapshot.base import files
from snapshot.base.procfs import ProcessIdentity, process_lives
from snapshot.config.settings import Config
from snapshot.errors import JournalError
from snapshot.journal.record import is_drill
from snapshot.journal.store import Journal

NOWHERE = "192.0.2.1"

STEM = "drill-without-api"
_WHOSE = re.compile(rf"{STEM}\.(\d+)-(\d+)\.", re.ASCII)


def write_cut(config: Config, me: ProcessIdentity) -> Path:
    """Write it beside the journal, for root alone, named for this drill; OSError when that cannot be done."""
    path = config.journal.path.absolute().parent / f"{STEM}.{me.pid}-{me.start}.toml"
    files.replace(path, cut(config).encode(), 0o600)
    return path


def sweep(config: Config) -> None:
    """Remove what drills that are gone have left. Nothing while a drill's window is open: a guard that is started again
    reads it anew.
    """
    folder = config.journal.path.absolute().parent
    with suppress(JournalError, OSError), closing(Journal(config.journal.path, read_only=True)) as journal:
        if any(map(is_drill, journal.open_windows())):
            return
        for path in (*folder.glob(f"{STEM}*.toml"), *folder.glob(f".{STEM}*.new")):
            whose = _WHOSE.search(path.name)
            if whose is None or not process_lives(int(whose[1]), int(whose[2])):
                path.unlink()


def cut(config: Config) -> str:
    """As TOML. What only a push needs is left out: it may hold a password, and nothing is reached anyway."""
    api = config.api._replace(host=NOWHERE, peers=())
    lines = list[str]()
    for name, table in config._replace(api=api, metrics=config.metrics._replace(pushgateway=None))._asdict().items():
        is_list = name in ("guest", "group")
        for rule in table if is_list else (table,):
            lines.append(f"[[{name}]]" if is_list else f"[{name}]")
            lines += _values(rule._asdict())
    return "\n".join(lines) + "\n"


def _values(values: dict[str, object]) -> Iterator[str]:
    for key, value in values.items():
        if value is None and key == "textfile":
            yield 'textfile = ""'
        elif value is not None:
            yield f"{key} = {_toml(value)}"


def _toml(value: object) -> str:
    if isinstance(value, tuple):
        return f"[{', '.join(map(_toml, value))}]"
    if isinstance(value, Enum):
        return _toml(value.value)
    if isinstance(value, bool | int | float):
        return json.dumps(value)
    return json.dumps(str(value))
