"""What the hooks inside a guest (contrib/guest/hooks) say of their last window, and what follows for a verdict.

They count windows in a file in the guest's memory. Read before the freeze and after the thaw, a count that is higher by
exactly one belongs to this window: the agent runs the hooks before it answers a freeze, and again before it answers the
thaw. No clock of the guest's is needed, and the guest is asked nothing while it is frozen.

It is the guest's own word about its own databases: whoever is root there can write anything. It is parsed strictly, and
can raise no verdict but filesystem-consistent, and lower none. Over the agent's socket only: the API would want a
privilege that opens every file of the guest (VM.GuestAgent.FileRead).
"""

from __future__ import annotations

import re
from typing import NamedTuple

from snapshot.base.text import counted
from snapshot.model import Verdict, VerdictKind
from snapshot.pve.agent import AgentRefusedError, AgentReplyLostError, CommandNotSentError
from snapshot.pve.qga import SocketChannel

EVIDENCE_FILE = "/run/fsfreeze-hooks/evidence"
EVIDENCE_BYTES = 2048
ASK_SECONDS = 3.0

PREPARED = {"postgresql": "PostgreSQL checkpointed", "mariadb": "MariaDB locked", "mysql": "MySQL locked"}
"""The databases that there are hooks for, and what a hook of theirs has done."""

_WORD = "[a-z][a-z0-9_-]{0,39}"
_EVIDENCE = re.compile(
    r"fsfreeze-hooks 1\nboot (?P<boot>[0-9a-f-]{36})\n"
    r"window (?P<window>[1-9][0-9]{0,8})\nstate (?P<state>[a-z]{1,10})\n"
    rf"(?P<apps>(?:app {_WORD} [1-9][0-9]{{0,3}}\n){{0,20}})(?P<failed>(?:failed {_WORD}\n){{0,20}})end\n"
)


class Marks(NamedTuple):
    """The file's content. Without a file there was no window since the guest booted: number 0 of no boot."""

    boot: str = ""
    window: int = 0
    state: str = ""
    apps: tuple[tuple[str, int], ...] = ()
    """Databases that were ready for the freeze, and how many servers of each."""
    failed: tuple[str, ...] = ()
    """Hooks that failed, before the freeze or after the thaw."""


def marks_of(content: bytes) -> Marks | None:
    """None for anything but what the hooks write."""
    try:
        found = _EVIDENCE.fullmatch(content.decode("ascii"))
    except UnicodeDecodeError:
        return None
    if found is None:
        return None
    apps = tuple((name, int(count)) for _, name, count in map(str.split, found["apps"].splitlines()))
    failed = tuple(line.split()[1] for line in found["failed"].splitlines())
    return Marks(found["boot"], int(found["window"]), found["state"], apps, failed)


def look(channel: SocketChannel | None) -> Marks | None:
    """What the guest's hooks say now; None when that is not known: no socket of the agent's, no right to read files, no
    answer, or nothing that the hooks wrote. Never raises.
    """
    if channel is None:
        return None
    try:
        content = channel.read_file(EVIDENCE_FILE, EVIDENCE_BYTES, timeout_seconds=ASK_SECONDS)
    except (AgentRefusedError, AgentReplyLostError, CommandNotSentError):
        return None
    return Marks() if content is None else marks_of(content)


def after_thaw(verdict: Verdict, before: Marks | None, channel: SocketChannel | None) -> Verdict:
    """The verdict, with the hooks' word. The guest is asked only where that can raise it."""
    if before is None or verdict.kind is not VerdictKind.FILESYSTEM_CONSISTENT:
        return verdict
    return raised(verdict, before, look(channel))


def raised(verdict: Verdict, before: Marks | None, after: Marks | None) -> Verdict:
    """``application-consistent`` where the hooks made databases ready for this very freeze, and they stayed so to the
    thaw. A hook that failed is told in the reason, and raises nothing.
    """
    if verdict.kind is not VerdictKind.FILESYSTEM_CONSISTENT or before is None or after is None:
        return verdict
    is_this_window = after.window == before.window + 1 and before.boot in ("", after.boot)
    if not is_this_window or after.state != "thawed":
        return verdict
    if after.failed:
        return verdict._replace(reason=f"{verdict.reason}; guest hooks failed: {', '.join(after.failed)}")
    apps = [(name, count) for name, count in after.apps if name in PREPARED]
    if not apps:
        return verdict
    words = [PREPARED[name] if count == 1 else f"{PREPARED[name]} ({counted(count, 'server')})" for name, count in apps]
    return Verdict(VerdictKind.APPLICATION_CONSISTENT, f"{verdict.reason}; {', '.join(words)} by the guest's hooks")
