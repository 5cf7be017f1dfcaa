"""The pictures of a run: the tables as bars, and windows as timelines one below the other on one scale."""

from __future__ import annotations

from collections.abc import Sequence

from tests.bench.svg import WIDTH, box, drawing, line, step, text
from tests.bench.timeline import API, BEFORE_MS, BEHIND_MS, GUEST, LANES, OURS, QUEUE, WORKER, Step, Timeline

_NAMES_WIDTH = 120.0
_ROW, _GAP = 16.0, 4.0
_LETTER_WIDTH = 5.6
_SAME_MS = 2.0
"""So much may one bar overlap the next in one row: they are looked at once a millisecond."""
_COLOURS = {GUEST: "guest", OURS: "ours", API: "api", WORKER: "worker"}


def timelines(lines: Sequence[Timeline]) -> str:
    """An SVG file: each window's lanes, all on the same milliseconds from the guest's freeze."""
    longest = max((line.window for line in lines), default=0.0) + BEHIND_MS
    scale = _Scale(longest)
    parts, y = [_key()], 40.0
    for one in lines:
        drawn, y = _panel(one, y, scale)
        parts += drawn
    names = ", ".join(f"{one.kind} {one.window:.0f} ms" for one in lines)
    return drawing(y, "\n".join(parts), f"Freeze windows on a time axis: {names}.")


class _Scale:
    """Milliseconds to a place on the page."""

    def __init__(self, longest: float) -> None:
        self.longest = longest
        self._unit = (WIDTH - _NAMES_WIDTH - 20) / (BEFORE_MS + longest)

    def x(self, at: float) -> float:
        return _NAMES_WIDTH + (min(max(at, -BEFORE_MS), self.longest) + BEFORE_MS) * self._unit


def _key() -> str:
    parts, x = [], 10.0
    for whose, colour in _COLOURS.items():
        parts += [box(x, 12, 12, 12, colour), text(x + 17, 22, whose)]
        x += 45 + 7 * len(whose)
    return "".join(parts) + text(x, 22, "pale: waits for the agent's seat; ms from the guest's freeze hook", "soft")


def _panel(one: Timeline, y: float, scale: _Scale) -> tuple[list[str], float]:
    """One window from ``y`` on; its parts and where it ends."""
    parts = [text(10, y + 13, f"{one.kind}: {one.window:.0f} ms", "title")]
    top = y = y + 20
    for lane in LANES:
        bars = [(begin, end, each) for each in one.steps for name, begin, end in each.bars if name == lane]
        if not bars:
            continue
        rows: list[float] = []
        drawn = []
        for begin, end, each in sorted(bars, key=lambda bar: bar[:2]):
            row = next((number for number, free in enumerate(rows) if free <= begin + _SAME_MS), len(rows))
            rows[row : row + 1] = [end]
            drawn.append(_bar(each, lane, scale, begin, end, y + row * (_ROW + 2)))
        parts += [text(_NAMES_WIDTH - 8, y + 12, lane, "end"), *drawn]
        y += len(rows) * (_ROW + 2) + _GAP
    behind = [box(scale.x(0), top, scale.x(one.window) - scale.x(0), y - top, "window")]
    distance = step(BEFORE_MS + scale.longest, 16)
    at = -distance * (BEFORE_MS // distance)
    while at <= scale.longest:
        behind.append(line(scale.x(at), top, scale.x(at), y, "grid"))
        parts.append(text(scale.x(at), y + 12, f"{at:g}", "soft mid"))
        at += distance
    return behind + parts, y + 34


def _bar(each: Step, lane: str, scale: _Scale, begin: float, end: float, y: float) -> str:
    left, right = scale.x(begin), scale.x(end)
    waits = " waits" if lane == QUEUE else ""
    shown = box(left, y, right - left, _ROW, f"bar {_COLOURS[each.whose]}{waits}", each.words)
    if each.label and right - left >= _LETTER_WIDTH * len(each.label) + 4:
        shown += text(left + 3, y + 12, each.label, "" if waits else "in")
    return shown
