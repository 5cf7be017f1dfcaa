"""The commands by name, and where each of them stands. One is loaded when it is asked for: whoever thaws a guest does
not wait for what sets up an installation.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, MutableMapping

import click

from snapshot.base.late import load

COMMANDS = {
    "take": "snapshot.cli.take:take",
    "check": "snapshot.cli.check:check",
    "doctor": "snapshot.cli.doctor:doctor",
    "thaw": "snapshot.cli.thaw:thaw",
    "recover": "snapshot.cli.recover:recover",
    "status": "snapshot.cli.status:status",
    "history": "snapshot.cli.history:history",
    "report": "snapshot.cli.report:report",
    "metrics": "snapshot.cli.metrics:metrics",
    "notify": "snapshot.cli.notify:notify",
    "setup": "snapshot.cli.setup:setup",
    "drill": "snapshot.cli.drill:drill",
    "list": "snapshot.cli.retention:list_snapshots",
    "prune": "snapshot.cli.retention:prune_snapshots",
    "verify": "snapshot.cli.verify:verify",
}


class LateCommands(MutableMapping[str, click.Command]):
    """What click.Group keeps its commands in. The names are known; a command is loaded when it is looked up."""

    def __init__(self, where: Mapping[str, str]) -> None:
        self._where = dict(where)
        self._loaded: dict[str, click.Command] = {}

    def __getitem__(self, name: str) -> click.Command:
        if name not in self._loaded:
            self._loaded[name] = load(self._where[name])
        return self._loaded[name]

    def __setitem__(self, name: str, command: click.Command) -> None:
        self._where[name], self._loaded[name] = "", command

    def __delitem__(self, name: str) -> None:
        del self._where[name]
        self._loaded.pop(name, None)

    def __iter__(self) -> Iterator[str]:
        return iter(self._where)

    def __len__(self) -> int:
        return len(self._where)
