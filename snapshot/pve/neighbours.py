"""The cluster's nodes, as an earlier run of this machine has seen them: another one takes over when the host is down.

Away from a node, and where the configuration names no peers, that is all there is to go by when the first request of a
run finds nobody. The journal keeps the addresses; each answers with a certificate of the cluster's CA, or is not
believed. A guard is told them by its owner: it reads no journal before it thaws.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable
from contextlib import closing
from typing import TYPE_CHECKING

from snapshot.config.settings import DAY_SECONDS, HOST, Config
from snapshot.errors import ApiError, ConfigError, JournalError
from snapshot.journal.store import Journal
from snapshot.pve.guests import GuestApi

if TYPE_CHECKING:
    from snapshot.pve.access import Access

NOTE = "cluster-nodes"
"""In the journal: a list of addresses."""


def with_neighbours(config: Config) -> Config:
    """``config`` with the peers that an earlier run has seen, where it names none itself."""
    if config.api.peers:
        return config
    found: object = []
    with (
        contextlib.suppress(JournalError, ValueError),
        closing(Journal(config.journal.path, read_only=True, mends=False)) as journal,
    ):
        found = json.loads(journal.note(NOTE) or "[]")
    hosts = [host for host in found if isinstance(host, str) and HOST.match(host)] if isinstance(found, list) else []
    return config._replace(api=config.api._replace(peers=tuple(host for host in hosts if host != config.api.host)))


def remember(access: Access, open_journal: Callable[[], Journal]) -> None:
    """Note who there is, once a day. What fails is for next time."""
    clock = access.clock
    if access.api is None or access.local_node:
        return
    with contextlib.suppress(ApiError, ConfigError, JournalError), closing(open_journal()) as journal:
        seen = journal.query("SELECT at FROM notes WHERE key = ?", (NOTE,))
        if seen and 0 <= clock.time() - float(seen[0]["at"]) < DAY_SECONDS:
            return
        addresses = GuestApi(access.main).node_addresses()
        if addresses:
            journal.set_note(NOTE, json.dumps(sorted(addresses.values())), clock.time())
