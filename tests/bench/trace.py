"""``make bench ARGS=trace``: who did what in which millisecond of a real window, as a table and a picture in docs/.

Of each kind the run with the median window is told. What is recorded: the guest's own hook log; who sits and who waits
at the agent's socket (seats.py); PVE's calls to agent and QEMU, and its API's requests (the lab node's notes); the
window's parts in our journal. All on this machine's monotonic clock; the guest's is compared with it (clocks.py).
"""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from pathlib import Path

from snapshot.journal.record import WindowRecord
from tests.bench import picture
from tests.bench.clocks import guest_ahead
from tests.bench.kinds import ELSEWHERE, HOOK, ON_THE_NODE, PVE, Take, kinds, overlay
from tests.bench.seats import Seats
from tests.bench.timeline import Call, Recorded, Timeline, timeline
from tests.lab.fixtures import why_no_real
from tests.lab.guest.real import RealGuest
from tests.lab.node.tasks import Upid
from tests.lab.site import Site, site

TRACED = (ON_THE_NODE, ELSEWHERE, PVE, HOOK)
PAGE = Path(__file__).parents[2] / "docs" / "window.md"
PICTURE = PAGE.with_suffix(".svg")
_BEGIN, _END = "<!-- traces: written by `make bench ARGS=trace` -->\n", "<!-- end of the traces -->\n"
_TICKS_A_SECOND = 100
"""In which /proc tells when a process began (USER_HZ)."""


def main(runs: int, settings: Sequence[str] = (), page: Path = PAGE) -> list[Timeline]:
    """Trace ``runs`` windows of each kind, and write the median one of each into the page and its picture."""
    if why := why_no_real():
        raise SystemExit(f"a trace needs a real guest: {why}")
    found: dict[str, list[Timeline]] = {kind: [] for kind in TRACED}
    with site(RealGuest) as lab:
        overlay(lab, settings)
        ways = kinds(lab)
        for number in range(runs):
            for position, kind in enumerate(TRACED):
                recorded = record(lab, ways[kind], f"t{number}k{position}")
                found[kind].append(timeline(kind, recorded))
    chosen = [sorted(lines, key=lambda line: line.window)[len(lines) // 2] for lines in found.values()]
    for line in chosen:
        print("\n" + "\n".join(_table(line)))
    write(page, chosen, runs)
    print(f"\nwritten: {page} and {page.with_suffix('.svg')}")
    return chosen


def record(lab: Site, take: Take, name: str) -> Recorded:
    """One window, and all that can be seen of it. RuntimeError when the guest recorded none."""
    guest = lab.guest
    calls = guest.run / f"{guest.vmid}.calls"
    calls.write_text("")
    lab.node.forget_requests()
    past = _newest(lab)
    ahead, _ = guest_ahead(guest)
    before = len(guest.hook_log())
    try:
        with Seats(guest.agent_socket) as seats:
            upid = take(name)
    finally:
        notes = calls.read_text()
        calls.unlink()
    events = guest.hook_log()[before:]
    frozen = next((at for at, event in events if event == "freeze"), None)
    thawed = next((at for at, event in events if event == "thaw" and frozen is not None and at > frozen), None)
    if frozen is None or thawed is None:
        raise RuntimeError(f"the guest recorded no window: {events}")
    newest = _newest(lab)
    return Recorded(
        frozen=(frozen - ahead, thawed - ahead),
        stays=seats.stays,
        calls=noted(notes),
        requests=lab.node.requests(),
        workers=_workers(lab, upid),
        record=newest if newest is not None and (past is None or newest.id != past.id) else None,
        unix_ahead=time.time() - time.monotonic(),
    )


def noted(notes: str) -> list[Call]:
    """PVE's calls, from the lab's notes of them."""
    return [Call(**json.loads(note)) for note in notes.splitlines()]


def _newest(lab: Site) -> WindowRecord | None:
    return next(iter(lab.windows()), None) if lab.journal_path.exists() else None


def _workers(lab: Site, text: str) -> dict[int, tuple[float, float]]:
    """The task's worker: its start as the kernel tells it (10 ms), its end by the last line of its log."""
    upid = Upid.parse(text)
    if upid is None:
        return {}
    asleep = time.clock_gettime(time.CLOCK_BOOTTIME) - time.monotonic()
    unix_ahead = time.time() - time.monotonic()
    ended = lab.node.tasks.path(upid).stat().st_mtime - unix_ahead
    return {upid.pid: (upid.pstart / _TICKS_A_SECOND - asleep, ended)}


def write(page: Path, lines: Sequence[Timeline], runs: int) -> None:
    """Put the traces in place of those that the page has, and draw its picture. ValueError: it has no such place."""
    text = page.read_text()
    head, begin, rest = text.partition(_BEGIN)
    _, end, tail = rest.partition(_END)
    if not begin or not end:
        raise ValueError(f"{page} has no place for the traces")
    told = [f"Measured {time.strftime('%Y-%m-%d')}: the run with the median window of {runs} of each kind.\n"]
    for line in lines:
        told.append(f"### {line.kind}: {line.window:.0f} ms\n\n" + "\n".join(_table(line)) + "\n")
    drawn = page.with_suffix(".svg")
    drawn.write_text(picture.timelines(lines))
    page.write_text(f"{head}{begin}\n![The same as a picture]({drawn.name})\n\n" + "\n".join(told) + f"\n{end}{tail}")


def _table(line: Timeline) -> list[str]:
    rows = ["| from ms | to ms | who | what |", "| ---: | ---: | --- | --- |"]
    for step in line.steps:
        until = "" if step.is_instant else f"{step.end:.0f}"
        rows.append(f"| {step.begin:.0f} | {until} | {step.whose} | {step.words} |")
    return rows
