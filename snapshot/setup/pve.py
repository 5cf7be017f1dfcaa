"""PVE as setup asks and changes it: by pvesh, as root@pam, whom alone PVE lets name a backup's script."""

from __future__ import annotations

import shlex
from collections.abc import Mapping

from snapshot.pve.pvesh import PveshTransport, command
from snapshot.pve.transport import Transport
from snapshot.setup.accounts import Accounts

CHANGE_SECONDS = 60.0
"""For one change: pmxcfs may have to wait for other nodes."""


class Pve:
    """One node's PVE. ``lock``: the descriptor that every program of ours holds for as long as it runs."""

    def __init__(self, program: str, lock: int | None = None) -> None:
        self.program = program
        self.transport: Transport = PveshTransport(program, inherits=() if lock is None else (lock,))
        self.accounts = Accounts(self.transport)

    def change(self, method: str, path: str, params: Mapping[str, object] | None = None) -> object:
        """Do it. Errors as Transport.request."""
        return self.transport.request(method, path, params, timeout_seconds=CHANGE_SECONDS)

    def shown(self, method: str, path: str, params: Mapping[str, object] | None = None) -> str:
        """The same as a line for a shell."""
        words = command(self.program, method, path, params)
        return shlex.join([word for word in words if word not in ("--output-format", "json")])
