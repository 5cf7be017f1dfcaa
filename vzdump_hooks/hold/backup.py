"""One guest's backup as the holder process sees it: who freezes, and what is done when we should and cannot.

Holding a freeze of ours is ours.py's business, watching vzdump's own is vzdumps.py's. No line is written anywhere
by a process that has to thaw while the guest is frozen.
"""

from __future__ import annotations

from snapshot.config.settings import FreezeOwner
from snapshot.journal.book import JournalBook
from snapshot.model import Guest
from snapshot.pve.routes import build_ladder
from vzdump_hooks.hold.order import HoldOrder, HoldReport
from vzdump_hooks.hold.ours import HookHold
from vzdump_hooks.hold.tools import HoldTools
from vzdump_hooks.hold.vzdumps import VzdumpWatch


def hold_backup(order: HoldOrder, guest: Guest, tools: HoldTools) -> list[str]:
    """Hold one backup's window, start to end, by whoever freezes; then metrics.

    Returns when the window is closed and recorded, with what could not be written, for our own log.
    """
    book = JournalBook(tools.open_journal)
    is_heard = tools.watch.catch_up()
    problems: list[str] = []
    # The API is asked for the routes once, before anything is at risk: where it hangs that takes its time.
    ladder = build_ladder(tools.access, guest, ahead=True)
    why = order.not_ours_because
    if not is_heard and not why:
        # A guest must not stay frozen until its deadline because nobody sees that its backup has begun.
        task = "vzdump's log does not show this guest's backup" if order.upid else "this backup's task was not found"
        why = f"{task}, so it cannot be followed"
    if not is_heard and order.required:
        tools.report(HoldReport(False, why))
        return problems
    nothing_to_freeze = cannot_guard = False
    if order.freeze_owner is FreezeOwner.HOOK and not why:
        hold = HookHold(order, guest, tools, book, ladder)
        why = hold.run()
        problems += hold.problems
        if not why:
            return problems + book.publish(tools.publish)
        nothing_to_freeze, cannot_guard = hold.found_nothing, hold.cannot_guard
        if order.required:
            tools.report(HoldReport(False, why))
            return problems + book.publish(tools.publish)
    watching = VzdumpWatch(order, guest, tools, book, ladder)
    watching.run(why, is_heard=is_heard, with_guard=not cannot_guard, nothing_to_freeze=nothing_to_freeze)
    return problems + watching.problems + book.publish(tools.publish)
