"""Which kind of window a guest's backup gets from the holder: one of ours, or one over vzdump's own freeze.

Ours is held in ours.py, vzdump's in vzdumps.py. The holder writes no line anywhere while the guest is frozen: it has to
thaw.
"""

from __future__ import annotations

from snapshot.journal.book import JournalBook
from snapshot.model import Guest
from snapshot.pve.routes import build_ladder
from vzdump_hooks.hold.order import HoldOrder, HoldReport
from vzdump_hooks.hold.ours import OurWindow
from vzdump_hooks.hold.tools import HoldTools
from vzdump_hooks.hold.vzdumps import VzdumpsWindow


def hold_window(order: HoldOrder, guest: Guest, tools: HoldTools) -> list[str]:
    """Hold one backup's window, start to end, by whoever freezes; then metrics.

    Returns when the window is closed and recorded, with what could not be written, for our own log.
    """
    book = JournalBook(tools.open_journal)
    is_heard = tools.follower.catch_up()
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
    if order.freezes_itself and not why:
        ours = OurWindow(order, guest, tools, book, ladder)
        why = ours.run()
        problems += ours.problems
        if not why:
            return problems + book.publish(tools.publish)
        nothing_to_freeze, cannot_guard = ours.found_nothing, ours.cannot_guard
        if order.required:
            tools.report(HoldReport(False, why))
            return problems + book.publish(tools.publish)
    vzdumps = VzdumpsWindow(order, guest, tools, book, ladder)
    vzdumps.run(why, is_heard=is_heard, with_guard=not cannot_guard, nothing_to_freeze=nothing_to_freeze)
    return problems + vzdumps.problems + book.publish(tools.publish)
