"""The drill's rounds: what is broken in each, what must come of it, and what is said of what came. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from snapshot.base.clock import duration
from snapshot.drill.disk import Span, Stillness
from snapshot.journal.record import WindowRecord

PROMISED_SECONDS = 2.0
"""Within so long of its owner's death a guest is thawed, where its agent answers."""

RESTART_PAUSE_SECONDS = 0.5
"""How long systemd waits before it starts a guard again (RestartSec in guard/launcher.py)."""


IDLE = (
    "it wrote nothing for so long that its disks do not tell; let it write meanwhile, "
    "say `while date >>drill; do sync; sleep 1; done` in it"
)


class Breakage(NamedTuple):
    """One round. ``part``: what is at fault when it goes wrong."""

    name: str
    what: str
    part: str
    cuts_api: bool = False
    kills_guard: bool = False

    def bound_seconds(self, arm_seconds: float) -> float:
        """How long after the kill the guest must write again. ``arm_seconds``: how long this machine took to start a
        guard, with its first connections; one that is started again may take twice as long, beside all else.
        """
        return PROMISED_SECONDS + (RESTART_PAUSE_SECONDS + 2 * arm_seconds if self.kills_guard else 0.0)


KINDS = (
    Breakage("owner-killed", "who froze it is killed", "guard"),
    Breakage("api-cut", "who froze it is killed, and its guard has no API", "route", cuts_api=True),
    Breakage("guard-killed", "who froze it is killed, and its guard too", "systemd", kills_guard=True),
)


REMEDIES: Mapping[str, str] = {
    "guard": "`journalctl -t vzdump-hooks-guard` has what it met",
    "freeze": "`safe-snapshot check` of the guest tells what its agent lacks",
    "route": "look at the agent's socket, and whether `pvesh get /version` answers",
    "systemd": "`journalctl -u 'vzdump-hooks-guard-*'` tells what became of it",
}
"""What to do about a part that a round has shown to be broken. Where nothing shows it, the line says what would."""


class SeenRound(NamedTuple):
    """What was seen of one round. Instants are monotonic."""

    kind: Breakage
    arm_seconds: float = 0.0
    frozen_at: float | None = None
    killed_at: float | None = None
    killed_wall_at: float | None = None
    """The same as a Unix time."""
    still: Stillness = Stillness()
    window: WindowRecord | None = None
    """Its row in the journal, at the end."""
    thawed_by_drill: str = ""
    """The route over which the drill itself had to thaw the guest; "" when it had not to."""
    trouble: str = ""
    """What kept the round from its freeze."""
    watching: str = ""
    """What kept the drill from reading the disk; "" for nothing."""


class DrillRound(NamedTuple):
    """What came of one round."""

    name: str
    what: str
    is_kept: bool | None
    """None: nothing shows it."""
    bound_seconds: float
    """How long after the kill the guest had to write again."""
    after: Span | None
    """How long after the kill it did, by its disks; None where they do not show it."""
    stood: Span | None
    """How long it stood still in all, likewise."""
    route: str
    """Who thawed it, over which route, by the journal."""
    part: str
    """What is at fault; "" where the bound is kept."""
    detail: str
    """What is wrong, or why nothing shows it; "" where the bound is kept."""

    @property
    def lines(self) -> list[str]:
        """For a person; the first one says it all."""
        mark = {True: "kept", False: "BROKEN", None: "NOT SHOWN"}[self.is_kept]
        found = [f"{self.name}: {mark}" + (f": {self.detail}" if self.detail else "")]
        if self.is_kept is False and self.part in REMEDIES:
            found.append(f"  -> {REMEDIES[self.part]}")
        if self.stood is not None:
            found.append(f"  it stood still for {self.stood}, by its disks")
        if self.after is not None:
            found.append(f"  and wrote again {self.after} after the kill; promised: {self.bound_seconds:.1f} s")
        if self.route:
            found.append(f"  thawed by {self.route}")
        return found


def judged(seen: SeenRound) -> DrillRound:
    """What a round was worth."""
    kind, still = seen.kind, seen.still
    bound = kind.bound_seconds(seen.arm_seconds)
    is_kept, part, detail = _judgement(seen, bound)
    return DrillRound(kind.name, kind.what, is_kept, bound, still.after, still.stood, _who(seen), part, detail)


def _judgement(seen: SeenRound, bound: float) -> tuple[bool | None, str, str]:
    kind, after = seen.kind, seen.still.after
    if seen.trouble:
        before = "freeze" if seen.arm_seconds else "guard"
        return False, before if seen.frozen_at is None else kind.part, seen.trouble
    if seen.thawed_by_drill:
        return False, kind.part, f"nobody had thawed it when its time was over: {bound:.1f} s were promised"
    if seen.still.wrote_frozen:
        return None, "disk", "it wrote while it was frozen: a swap area, or a file system that its agent leaves out"
    if after is None:
        return None, "disk", seen.watching or IDLE
    if after.least > bound:
        return False, kind.part, f"it was thawed too late: {bound:.1f} s were promised"
    if after.most > bound:
        return None, "disk", "its disks do not tell closely enough"
    return True, "", ""


def _who(seen: SeenRound) -> str:
    """Who thawed the guest: by the journal, and named as its word."""
    window = seen.window
    if seen.thawed_by_drill:
        return f"the drill itself, over {seen.thawed_by_drill}"
    if window is None or window.thawed_at is None:
        return ""
    found = f"its guard over {window.thaw_route or 'an unknown route'}"
    if seen.still.after is None and seen.killed_wall_at is not None:
        # Nothing better is known. It is written down behind the thaw, sometimes seconds later.
        found += f", by our own word {duration(window.thawed_at - seen.killed_wall_at)} after the kill"
    return found
