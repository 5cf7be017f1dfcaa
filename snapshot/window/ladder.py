"""The routes to one guest's agent. Little is imported: who only looks at a guest has them too."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from snapshot.pve.agent import AgentChannel


class Ladder:
    """The routes to one guest's agent, in the order they are tried, and how to find them again.

    ``peers`` are alternatives to the first route: one of them is tried a round, in turn. ``relocate`` returns a new
    ladder when the guest turns out to have moved, None when that cannot be told, and raises GuestRemovedError.
    ``is_off`` asks a second source whether the guest is off: one route's word for it is no proof.
    ``last_resort`` (SysRq) acts without an answer of the agent's.
    """

    def __init__(
        self,
        routes: Sequence[AgentChannel],
        peers: Sequence[AgentChannel] = (),
        relocate: Callable[[], Ladder | None] = lambda: None,
        last_resort: Callable[[], str] | None = None,
        is_off: Callable[[], bool] = lambda: False,
    ) -> None:
        self.routes = routes
        self.peers = peers
        self.relocate = relocate
        self.last_resort = last_resort
        self.is_off = is_off
        self._turn = 0

    def round(self) -> list[AgentChannel]:
        """The routes of the next round."""
        chosen = list(self.routes)
        if self.peers:
            chosen.insert(1, self.peers[self._turn % len(self.peers)])
            self._turn += 1
        return chosen
