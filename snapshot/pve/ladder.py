"""Ladder: the routes to one guest's agent in their order, and which of them are left out for a while.

Which routes there are is decided in routes.py. Little is imported, since who only asks for a guest's state has one too.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence

from snapshot.pve.agent import AgentChannel

MOVED_TEXT = "does not exist"
"""PVE's answer when the guest's configuration is not on that node: it migrated, or it was removed."""

SHORTEST_REST = 2
LONGEST_REST = 32
"""Rounds that a silent route is left out at most: a minute at the slowest pace, where the others answer at once."""


class Ladder:
    """The routes to one guest's agent, in the order they are tried, and how to find them again.

    What is nearest comes first. ``peers`` are alternatives to a route: one of them is tried a round, in turn, as number
    ``peers_at``. Peers that are not known yet are looked for with ``find_peers`` when their turn comes, never before
    the first request: None means that nobody could be asked now.

    A route that was silent (no answer from the API itself, whatever the agent does) rests: for two rounds, then four,
    and so on, and comes last when its rest is over. So a host that hangs costs its time limit now and then, and not in
    each round. Where all routes are silent nobody rests.

    ``relocate`` returns a new ladder when the guest turns out to have moved, None when that cannot be told, and raises
    GuestRemovedError when it is proven to be nowhere. ``is_off`` asks a second source whether the guest is off: one
    route's word for it is no proof.
    ``written`` tells how many bytes the guest's disks were written so far, None when that is not known: a second source
    beside the agent's memory.
    ``last_resort`` (SysRq) acts without an answer of the agent's.
    ``moves`` is called ahead of each route that is tried: whoever watches us knows that we do not hang. Must not block.
    """

    def __init__(
        self,
        routes: Sequence[AgentChannel],
        peers: Sequence[AgentChannel] = (),
        relocate: Callable[[], Ladder | None] = lambda: None,
        last_resort: Callable[[], str] | None = None,
        is_off: Callable[[], bool] = lambda: False,
        *,
        written: Callable[[], int | None] = lambda: None,
        find_peers: Callable[[], Sequence[AgentChannel] | None] = lambda: (),
        peers_at: int = 1,
        moves: Callable[[], None] = lambda: None,
    ) -> None:
        self.routes = routes
        self.relocate = relocate
        self.last_resort = last_resort
        self.is_off = is_off
        self.written = written
        self.moves = moves
        self._peers: Sequence[AgentChannel] | None = peers or None
        self._find_peers = find_peers
        self._peers_at = peers_at
        self._turn = 0
        self._rests: list[_Rest] = []

    @property
    def peers(self) -> Sequence[AgentChannel]:
        """Those known so far."""
        return self._peers or ()

    @property
    def fastest(self) -> AgentChannel:
        """The route to ask first: the nearest that is known to answer."""
        known = (*self.routes, *self.peers)
        return next((channel for channel in known if not self.rests(channel)), known[0])

    def rests(self, channel: AgentChannel) -> bool:
        """Whether ``channel`` was silent when it was asked last."""
        return self._rest_of(channel) is not None

    def look_for_peers(self) -> None:
        """Find the peers, if they are not known: before anything is at risk, or when their turn has come."""
        if self._peers is None:
            with contextlib.suppress(Exception):  # whatever it is, the routes that are known go on
                self._peers = self._find_peers()

    def round(self) -> Iterator[AgentChannel]:
        """The routes of the next round. Each is made out only when the one before it did not do."""
        for rest in self._rests:
            rest.rounds -= 1
        late: list[AgentChannel] = []
        resting: list[AgentChannel] = []
        is_heard = False
        for channel in self._in_order():
            rest_of = self._rest_of(channel)
            if rest_of is None:
                self.moves()
                yield channel
                is_heard |= self._answered(channel)
            else:
                (resting if rest_of.rounds > 0 else late).append(channel)
        for channel in late:
            self.moves()
            yield channel
            is_heard |= self._answered(channel)
        for channel in [] if is_heard else resting:
            self.moves()
            yield channel
            self._answered(channel)

    def _in_order(self) -> Iterator[AgentChannel]:
        for number, channel in enumerate(self.routes, 1):
            yield channel
            if number == min(self._peers_at, len(self.routes)):
                self.moves()
                self.look_for_peers()
                yield from self._peer_of_this_round()

    def _peer_of_this_round(self) -> Sequence[AgentChannel]:
        """The next in turn; one that rests has its turn only when all the others rest for longer."""
        in_turn = [(self._turn + number) % len(self.peers) for number in range(len(self.peers))]
        number = min(in_turn, key=self._rest_of_peer, default=None)
        if number is None:
            return []
        self._turn = number + 1
        return [self.peers[number]]

    def _rest_of_peer(self, number: int) -> int:
        rest = self._rest_of(self.peers[number])
        return 0 if rest is None else max(1, rest.rounds)

    def _rest_of(self, channel: AgentChannel) -> _Rest | None:
        return next((rest for rest in self._rests if rest.channel is channel), None)

    def _answered(self, channel: AgentChannel) -> bool:
        """The round goes on past ``channel``: did anybody answer there?"""
        if channel.is_silent:
            self.let_rest(channel)
        else:
            self._rests = [rest for rest in self._rests if rest.channel is not channel]
        return not channel.is_silent

    def let_rest(self, channel: AgentChannel) -> None:
        """Leave a silent route out for a while."""
        rest = self._rest_of(channel)
        if rest is None:
            self._rests.append(_Rest(channel))
        else:
            rest.again()


class _Rest:
    """For how many rounds a route is left out."""

    def __init__(self, channel: AgentChannel) -> None:
        self.channel = channel
        self.rounds = self._length = SHORTEST_REST

    def again(self) -> None:
        """It was silent once more."""
        self.rounds = self._length = min(2 * self._length, LONGEST_REST)
