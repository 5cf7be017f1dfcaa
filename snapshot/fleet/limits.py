"""Who may begin: at most so many at once overall, on a node, on a storage. Pure.

Whoever waits is looked at in the order in which it came, and begins when all that it needs is free; one that does not
fit keeps no other from what it does not need itself. So no slot stays empty that somebody could use, and nobody waits
for ever: those that began later end, and whoever stands first begins when they have.

A unit of several guests (a group) needs several slots of one kind at once, and begins as a whole. While it waits nobody
who came later takes a slot of such a kind, or single guests would overtake it for ever; one that is larger than a limit
begins when nobody else has a slot of that kind.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Iterable, Iterator, Mapping
from typing import NamedTuple, TypeVar

from snapshot.model import Node

K = TypeVar("K", bound=Hashable)


class Resource(NamedTuple):
    """What only so many may use at once. ``name`` is empty for the run as a whole."""

    kind: str
    name: str = ""


RUN = Resource("run")
Needs = Mapping[Resource, int]


def node_of(name: Node) -> Resource:
    """A node."""
    return Resource("node", name)


def storage_of(name: str, node: str = "") -> Resource:
    """A storage: shared ones without a node."""
    return Resource("storage", f"{node}/{name}")


def needs_of(nodes: Iterable[Node]) -> Needs:
    """What a unit with guests on these nodes needs to begin."""
    found = list(nodes)
    return Counter({RUN: len(found)}) + Counter(map(node_of, found))


class AtOnce(NamedTuple):
    """The limits."""

    run: int
    node: int
    storage: int

    def of(self, resource: Resource) -> int:
        """How many may use it."""
        limit: int = getattr(self, resource.kind)
        return limit


class Ledger:
    """Who has what."""

    def __init__(self, limits: AtOnce) -> None:
        self.limits = limits
        self._held: dict[Hashable, Counter[Resource]] = {}
        self._used: Counter[Resource] = Counter()

    def used(self, resource: Resource) -> int:
        """How many slots are taken."""
        return self._used[resource]

    def fits(self, needs: Needs) -> bool:
        """Whether all of it is free."""
        return all(
            self._used[resource] + count <= self.limits.of(resource) or self._used[resource] == 0
            for resource, count in needs.items()
        )

    def take(self, holder: Hashable, needs: Needs) -> None:
        """``holder`` has it from here on, besides what it has already."""
        self._held.setdefault(holder, Counter()).update(needs)
        self._used.update(needs)

    def give_back(self, holder: Hashable) -> None:
        """``holder`` has nothing any more."""
        self._used -= self._held.pop(holder, Counter())

    def admit(self, waiting: Iterable[tuple[K, Needs]]) -> Iterator[K]:
        """Those that may begin now, in order; each has what it needs when it is handed out."""
        kept: set[Resource] = set()
        for holder, needs in waiting:
            if self.fits(needs) and not kept & needs.keys():
                self.take(holder, needs)
                yield holder
            else:
                kept |= {resource for resource, count in needs.items() if count > 1}
