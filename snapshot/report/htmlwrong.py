"""What is, went or stands wrong: stuck guests, what is missing, failures in words; and groups, whole or not."""

from __future__ import annotations

from html import escape

from snapshot.fleet import moment
from snapshot.report.digested import SOURCES, Digest, Failed
from snapshot.report.failures import STAGES, told
from snapshot.report.grouped import GroupDigest, Membership
from snapshot.report.history import plain
from snapshot.report.htmlparts import noun
from snapshot.report.htmlwords import ago, count, minute, prose, seconds
from snapshot.report.standing import Missing, Standing

NAMED = 20
"""So many guests of a kind of silence are named in a line; the others are behind a click."""


def stuck(now: Standing, made_at: float) -> str:
    """The guests that may be frozen and need somebody: on top of everything."""
    if not now.stuck:
        return ""
    items = "".join(
        f"<li><b>{escape(one.guest)}</b>{f' ({escape(one.name)})' if one.name else ''} on {escape(one.node)}"
        f"{_since(one.since_at, made_at)}: {prose(one.why)}. <br>What to do: {prose(one.remedy)}</li>"
        for one in now.stuck
    )
    head = "A GUEST MAY STILL BE FROZEN" if len(now.stuck) == 1 else f"{len(now.stuck)} GUESTS MAY STILL BE FROZEN"
    return (
        f'<section class="alarm"><h2>{head}</h2><p>By what the journal knew when this page was made; '
        f"<code>safe-snapshot status</code> asks what is so now.</p><ul>{items}</ul></section>"
    )


def _since(at: float | None, made_at: float) -> str:
    return f", since {minute(at)} ({ago(made_at - at)})" if at is not None else ""


def in_hand(now: Standing) -> str:
    """Open windows that are no alarm."""
    if not now.in_hand:
        return ""
    items = "".join(
        f"<li>{escape(one.guest)} on {escape(one.node)}, since {minute(one.since_at)}: {prose(one.what)}</li>"
        for one in now.in_hand
    )
    return f"<section><h2>Open when this page was made</h2><ul>{items}</ul></section>"


def missing(now: Standing) -> str:
    """What should have happened and did not."""
    if not now.missing:
        return ""
    return f"<section><h2>Not as it should be</h2>{''.join(map(_missing, now.missing))}</section>"


def _missing(one: Missing) -> str:
    if not one.guests:
        lines = "".join(f"<p>{prose(line)}</p>" for line in one.lines)
        return f"<article><h3>{escape(one.head)}</h3>{lines}{_todo(one.remedy)}</article>"
    named = ", ".join(f"{look.vmid} ({look.name})" if look.name else f"{look.vmid}" for look in one.guests[:NAMED])
    more = f", and {one.number - NAMED:,} more" if one.number > NAMED else ""
    lines = "".join(f"<li>{prose(line)}</li>" for line in one.lines)
    rest = f"<li>and {one.number - len(one.lines):,} more</li>" if one.number > len(one.lines) else ""
    return (
        f"<article><h3>{count(one.number, 'guest')}: {escape(one.head)}</h3><p>{escape(named)}{more}</p>"
        f"{_todo(one.remedy)}<details><summary>Each in words</summary><ul>{lines}{rest}</ul></details></article>"
    )


def _todo(remedy: str) -> str:
    return f'<p class="todo">What to do: {prose(remedy)}</p>' if remedy else ""


def failures(found: Digest) -> str:
    """Each kind of failure in words, how often, whose, and what to do."""
    if not found.failures:
        return '<section><h2>Failures</h2><p class="none">No run failed.</p></section>'
    return f"<section><h2>Failures</h2>{''.join(map(_failed, found.failures))}</section>"


def _failed(one: Failed) -> str:
    words = told(one.reason)
    vmid = one.last_guest.partition("/")[2]
    times = ", ".join(count(one.windows[source], noun(source)) for source in SOURCES if one.windows.get(source))
    guests = f"{'guest' if one.guest_count == 1 else 'guests'} {', '.join(map(str, one.guests))}"
    more = f", and {one.guest_count - len(one.guests):,} more" if one.guest_count > len(one.guests) else ""
    stage = STAGES.get(one.stage, plain(one.stage))
    sentence = words.sentence or plain(one.reason)
    last = f": {prose(one.last_why)}" if one.last_why else ""
    return (
        f"<article><h3>{escape(stage)}: {prose(sentence)}</h3><p>{times}; {guests}{more}. "
        f"<small>{escape(plain(one.stage))}: {escape(plain(one.reason))}</small></p>"
        f"{_todo(words.remedy.replace('<vmid>', vmid))}"
        f'<p class="soft">The last one, {escape(one.last_guest)} at {minute(one.last_at)}{last}</p></article>'
    )


def groups(found: Digest) -> str:
    """Guests that were frozen together, and whether their snapshots are of one point in time."""
    if not found.groups:
        return ""
    return f"<section><h2>Groups</h2>{''.join(map(_group, found.groups))}</section>"


_NUMBERS = "; in seconds: "
"""Where each member's own numbers begin in what is said of its group."""


def _group(group: GroupDigest) -> str:
    badge = f"<b>{moment.ONE}</b>" if group.is_one else f"<em>not {moment.ONE}</em>"
    said, _, numbers = group.said.removeprefix("not ").removeprefix(moment.ONE).lstrip(": ").partition(_NUMBERS)
    said = f"{said.removeprefix('of ')})" if numbers else said.removeprefix("of ")
    numbers = f"In seconds: {numbers.removesuffix(')')}." if numbers else ""
    rows = "".join(map(_member, group.members))
    return (
        f"<article><h3>{escape(group.name)}: {badge}</h3><p>{count(len(group.members), 'guest')} at {minute(group.at)}"
        f"{f': {prose(said)}' if said else ''}</p>"
        f'<p class="soft">{group.ones:,} of {count(group.runs, "run")} of one point in time.</p>'
        f"<details><summary>Each member</summary>{f'<p>{escape(numbers)}</p>' if numbers else ''}"
        f'<div class="wide"><table><thead><tr><th>Guest</th><th>Frozen for</th><th>Verdict</th></tr></thead>'
        f"<tbody>{rows}</tbody></table></div></details></article>"
    )


def _member(member: Membership) -> str:
    called = f" <small>{escape(member.name)}</small>" if member.name else ""
    why = member.why.partition(f"; {moment.ONE}")[0].partition(f"; not {moment.ONE}")[0]
    return (
        f"<tr><th>{member.vmid}{called}</th><td>{seconds(member.seconds)}</td>"
        f"<td>{escape(member.verdict) or 'not judged yet'}: {prose(why)}</td></tr>"
    )
