"""Faults between a client and the node, chosen at run time by method, path and the number of the call.

What a fault does is named in ACTIONS; ``when`` says whether the request is acted on first. Faults are asked in the
order they were added, and the first that applies is used.

A test that does something while a call is on its way holds the call (``hold``) and releases it: a delay would be a race
with a slow machine. A delay is for what is itself a matter of time, such as a limit that passes.
"""

from __future__ import annotations

import asyncio
import re
import time
from dataclasses import dataclass
from typing import Any

ACTIONS = {
    "drop": "close the connection without an answer: before acting the request is lost, after it the reply",
    "delay": "wait `delay` seconds, then go on as usual",
    "hold": "wait until LabNode.release(), then go on as usual; the client may have left by then",
    "hang": "never answer; the connection stays open",
    "status": "answer with `status`, `reason` and `body` (empty unless given)",
    "body": "answer 200 with `body` and `content_type` instead of PVE's JSON",
    "kill": "SIGKILL the whole server, its workers included",
}
WHEN = ("before", "after")
HOLD_SECONDS = 240.0
"""A held call that nobody releases is broken off: far longer than any test lasts, for hangs only."""
LOOK_SECONDS = 0.02
"""How often a waiting call is looked at."""


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
    held: bool = False  # what any fault does first: wait until LabNode.release(). A hold does nothing else
    status: int = 500
    reason: str = ""
    body: str = ""
    content_type: str = "application/json;charset=UTF-8"
    seen: int = 0
    hits: int = 0
    holding: int = 0  # how many calls it holds now

    def __post_init__(self) -> None:
        if self.do not in ACTIONS:
            raise ValueError(f"no such fault: {self.do!r}; known: {', '.join(ACTIONS)}")
        if self.when not in WHEN:
            raise ValueError(f"when must be one of {WHEN}, not {self.when!r}")
        self.held = self.held or self.do == "hold"

    def applies(self, node: str, method: str, path: str) -> bool:
        """Count a call and say whether the fault hits it."""
        if self.method not in (None, method) or self.node not in (None, node) or not re.search(self.path, path):
            return False
        self.seen += 1
        if self.do == "hold" and not self.held:
            return False
        if self.seen < (self.nth or 1) or (self.times is not None and self.hits >= self.times):
            return False
        self.hits += 1
        return True

    async def until_released(self) -> bool:
        """Wait until the rule holds nothing any more; False when nobody released it in HOLD_SECONDS."""
        give_up = time.monotonic() + HOLD_SECONDS
        self.holding += 1
        try:
            while self.held and time.monotonic() < give_up:
                await asyncio.sleep(LOOK_SECONDS)
        finally:
            self.holding -= 1
        return not self.held


class Faults:
    """The rules of one server."""

    def __init__(self) -> None:
        self._rules: list[Fault] = []

    def add(self, rule: dict[str, Any]) -> None:
        self._rules.append(Fault(**rule))

    def clear(self) -> None:
        """No rules any more; what they hold goes on."""
        self.release()
        self._rules.clear()

    def release(self) -> None:
        """Let every held call go on. The present rules hold no further one."""
        for rule in self._rules:
            rule.held = False

    def held(self) -> int:
        """How many calls are held right now."""
        return sum(rule.holding for rule in self._rules)

    def hits(self) -> int:
        """How many calls were hit so far by the rules that are in force."""
        return sum(rule.hits for rule in self._rules)

    def find(self, node: str, method: str, path: str) -> Fault | None:
        """The rule for this call; every rule that could match counts the call."""
        found = [rule for rule in self._rules if rule.applies(node, method, path)]
        for rule in found[1:]:
            rule.hits -= 1
        return found[0] if found else None
