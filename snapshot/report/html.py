"""The past and the present as one HTML page: no script, no network, light and dark, for a phone, a screen and paper."""

from __future__ import annotations

from html import escape

from snapshot.journal.families import CONSISTENT_VERDICTS
from snapshot.report import htmlguests, htmlparts, htmlwrong
from snapshot.report.digested import Digest, NewestRun
from snapshot.report.htmlwords import count, day, minute, prose, seconds, zone
from snapshot.report.standing import Place, Standing
from snapshot.report.style import STYLE


def page(found: Digest, now: Standing) -> str:
    """The whole page."""
    sections = _sections(found, now) if found.windows else _first_day(found, now)
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">
<meta name="color-scheme" content="light dark">
<title>{escape(_title(found, now))}</title>
<style>{STYLE}</style>
</head>
<body>
<header>
<h1>Freeze windows</h1>
<p class="place">{_place(now.place)}</p>
<p class="soft">{_range(found)}</p>
</header>
<main>
{htmlwrong.stuck(now, found.made_at)}
{_well(now)}
{htmlwrong.missing(now)}
{htmlwrong.in_hand(now)}
{sections}
</main>
<footer>Written by <code>safe-snapshot report</code> at {minute(found.made_at)} from the journal of this machine.
Times are local: {escape(zone(found.made_at))}.</footer>
</body>
</html>
"""


def _title(found: Digest, now: Standing) -> str:
    place = now.place
    where = "/".join(word for word in (place.cluster, place.node or place.machine) if word)
    if found.first_at is None or found.last_at is None:
        return f"Freeze windows of {where}, {day(found.made_at)}"
    return f"Freeze windows of {where}, {day(found.first_at)} to {day(found.last_at)}"


def _place(place: Place) -> str:
    if not place.node:
        return f"As <b>{escape(place.machine)}</b> saw them, by the API of <b>{escape(place.host)}</b>"
    cluster = {"": "which is in no cluster", None: "whose cluster is not known: /etc/pve does not answer"}
    beside = cluster.get(place.cluster) or f"cluster <b>{escape(place.cluster or '')}</b>"
    return f"Node <b>{escape(place.node)}</b>, {beside}"


def _range(found: Digest) -> str:
    """The time of the windows that there are, and what was asked for."""
    asked = f"asked for since {minute(found.since_at)}" if found.since_at is not None else "asked for since ever"
    if found.first_at is None or found.last_at is None:
        return f"No run since {minute(found.since_at)}." if found.since_at is not None else "No run at all."
    beside = [count(number, noun) for number, noun in _beside(found) if number]
    also = f", and {' and '.join(beside)}" if beside else ""
    first, last = minute(found.first_at), minute(found.last_at)
    span = first if first == last else f"{first} to {last}"
    return f"{span}: {count(found.windows, 'run')} of {count(len(found.guests), 'guest')}{also} ({asked})."


def _beside(found: Digest) -> tuple[tuple[int, str], ...]:
    """What is in the journal and is no run."""
    return (found.drills, "drill"), (found.strangers, "foreign freeze")


def _well(now: Standing) -> str:
    """Where nothing is wrong: that, and by whose word."""
    if now.stuck or now.missing:
        return ""
    if now.looked_at is None:
        timer = "<code>systemctl status safe-snapshot-recover.timer</code>"
        why = "nothing is known of those that no run came to"
        return f"<p class=unsure>Nobody has looked at this machine's guests yet, so {why}: {timer}.</p>"
    return f'<p class="well">No guest frozen, and nothing missing, by the look of {minute(now.looked_at)}.</p>'


def _first_day(found: Digest, now: Standing) -> str:
    """No run: what is known all the same, and how the first one comes."""
    if found.before_at is not None:
        command = f"<code>safe-snapshot report --html FILE --since {day(found.before_at)}</code>"
        last = f"the last one before that began at {minute(found.before_at)}"
        return f'<p class="unsure">{last.capitalize()}: {command} shows it.</p>{htmlguests.guests(found, now)}'
    running = [known.look.vmid for known in now.known.values() if known.look.running]
    vmid = str(min(running)) if running else "<vmid>"
    steps = "".join(
        f"<li>{prose(step)}</li>"
        for step in (
            "`safe-snapshot doctor` says whether all is ready, and what is not",
            f"`safe-snapshot {vmid}` takes a snapshot; the next backup comes by itself, where vzdump calls vzdump-hook",
            "each of them is on the next page that is made: what it is worth, how long its guest was frozen, why one "
            "failed and what to do",
        )
    )
    whose = "of these guests " if now.is_part else ""
    return (
        f"<section><h2>No run {whose}has been recorded yet</h2><p>How this page fills:</p>"
        f"<ol>{steps}</ol></section>{htmlguests.guests(found, now)}"
    )


def _sections(found: Digest, now: Standing) -> str:
    return "\n".join(
        (
            htmlparts.cards(found.parts),
            htmlwrong.failures(found),
            htmlwrong.groups(found),
            htmlguests.guests(found, now),
            _newest(found),
            *(htmlparts.pictures(found, part) for part in found.parts),
        )
    )


def _newest(found: Digest) -> str:
    rows = "".join(map(_run, found.newest))
    return (
        '<section><h2>Newest runs</h2><div class="wide"><table class="r"><thead><tr><th>At</th><th>Guest</th>'
        f"<th>Frozen</th><th>Verdict</th></tr></thead><tbody>{rows}</tbody></table></div>"
        '<p class="soft"><code>safe-snapshot history</code> has them all.</p></section>'
    )


def _run(run: NewestRun) -> str:
    called = f" <small>{escape(run.name)}</small>" if run.name else ""
    bad = ' class="bad"' if run.verdict and run.verdict not in CONSISTENT_VERDICTS else ""
    why = f": {prose(run.why)}" if run.why else ""
    disk = f" (disk: {escape(run.disk)})" if run.disk else ""
    unfrozen = ' class="hide"' if run.seconds is None else ""
    return (
        f"<tr><th><span>{minute(run.at)}</span> <small>{htmlparts.noun(run.source)}</small></th>"
        f"<td>{escape(run.guest)}{called}</td><td{unfrozen}>{seconds(run.seconds)}</td>"
        f"<td><span{bad}>{escape(run.verdict) or 'not judged yet'}</span>{why}{disk}</td></tr>"
    )
