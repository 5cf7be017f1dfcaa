"""Faults between a client and the node, chosen at run time by method, path and the number of the call.

What a fault does is named in ACTIONS; ``when`` says whether the request is acted on first. Faults are asked in the
order they were added, and the first that applies is used.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

ACTIONS = {
    "drop": "close the connection without an answer: before acting the request is lost, after it the reply",
    "delay": "wait `delay` seconds, then go on as usual",
    "hang": "never answer; the connection stays open",
    "status": "answer with `status`, `reason` and `body` (empty unless given)",
    "body": "answer 200 with `body` and `content_type` instead of PVE's JSON",
    "kill": "SIGKILL the whole server, its workers included",
}
WHEN = ("before", "after")


@dataclass
class Fault:
    """One rule. ``path`` is a regular expression searched in the URL path; ``nth`` counts matching calls from 1."""

    path: str
    do: str
    when: str = "before"
    method: str | None = None
    node: str | None = None  # only at this node's front
    nth: int | None = None  # only from this matching call on; None: from the first
    times: int | None = 1  # how many calls it hits; None: every one
    delay: float = 0.0
    status: int = 500
    reason: str = ""
    body: str = ""
    content_type: str = "application/json;charset=UTF-8"
    seen: int = 0
    hits: int = 0

    def __post_init__(self) -> None:
        if self.do not in ACTIONS:
            raise ValueError(f"no such fault: {self.do!r}; known: {', '.join(ACTIONS)}")
        if self.when not in WHEN:
            raise ValueError(f"when must be one of {WHEN}, not {self.when!r}")

    def applies(self, node: str, method: str, path: str) -> bool:
        """Count a call and say whether the fault hits it."""
        if self.method not in (None, method) or self.node not in (None, node) or not re.search(self.path, path):
            return False
        self.seen += 1
        if self.seen < (self.nth or 1) or (self.times is not None and self.hits >= self.times):
            return False
        self.hits += 1
        return True


class Faults:
    """The rules of one server."""

    def __init__(self) -> None:
        self._rules: list[Fault] = []

    def add(self, rule: dict[str, Any]) -> None:
        self._rules.append(Fault(**rule))

    def clear(self) -> None:
        self._rules.clear()

    def hits(self) -> int:
        """How many calls were hit so far by the rules that are in force."""
        return sum(rule.hits for rule in self._rules)

    def find(self, node: str, method: str, path: str) -> Fault | None:
        """The rule for this call; every rule that could match counts the call."""
        found = [rule for rule in self._rules if rule.applies(node, method, path)]
        for rule in found[1:]:
            rule.hits -= 1
        return found[0] if found else None
