"""What `doctor` found: lines for a person, a table of 80 columns, and one line for a monitoring system."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence

from snapshot.base.text import clean, counted
from snapshot.doctor.examine import Examination
from snapshot.doctor.facts import Look
from snapshot.doctor.findings import NOT_EXAMINED, Finding, Severity
from snapshot.doctor.guests import Diagnosis, is_consistent
from snapshot.doctor.worth import Best
from snapshot.report.folded import WIDTH, folded
from snapshot.report.monitor import EXIT_CRITICAL, EXIT_OK, EXIT_UNKNOWN, EXIT_WARNING, monitor_text
from snapshot.report.text import check_lines, fact_lines

_MARKS = {Severity.ERROR: "ERROR", Severity.WARNING: "warning", Severity.NOTE: "note"}
_WORDS = {
    Best.FILESYSTEM_CONSISTENT: "filesystem",
    Best.OFFLINE: "offline",
    Best.CRASH_CONSISTENT: "crash",
    Best.UNKNOWN: "unknown",
    Best.NONE: "none",
    Best.NOT_KNOWN: "?",
}
_COLUMNS = (("agent", 8), ("freeze", 6), ("snapshot", 10), ("backup", 10), ("last", 7))
LEGEND = (
    "Worth at best: filesystem- or crash-consistent, offline, none, unknown (nothing",
    "can prove it), ? (not known). last: the last guarded run in this journal.",
)


def lines(found: Examination, *, named: bool, verbose: bool, terse: bool) -> list[str]:
    """Everything, for a person. ``named``: guests were named, so notes are told too; ``terse``: the closing line."""
    if terse:
        return [closing(found)]
    shows_notes = named or verbose
    said = ["installation"]
    for look in found.looks:
        said += _of_look(look)
    said += [*_not_known(found.looks), "", *table(found.guests, found.now), *_why(found.guests)]
    for row in found.guests:
        said += _of_guest(row, shows_notes=shows_notes)
        if named and len(found.guests) == 1:  # what is not well has been told as a finding
            well = [line for check in row.checks if not check.code for line in check_lines(check)]
            said += [piece for line in (*well, *fact_lines(row.facts)) for piece in folded(line, further=12)]
    hidden = 0 if shows_notes else sum(1 for row in found.guests for f in row.findings if f.severity is Severity.NOTE)
    more = f"; {counted(hidden, 'note')} about guests: --verbose" if hidden else ""
    return [*said, "", *folded(f"{closing(found)}{more}", further=8)]


def _of_look(look: Look) -> list[str]:
    said = [line for one in look.findings for line in _lines(one)]
    if look.because and look.text:
        said += folded(f"{look.name}: {look.text}: see {look.because}", _margin("?"))
    return said if said or look.because else folded(f"{look.name}: {look.text}", _margin("ok"))


def _not_known(looks: Iterable[Look]) -> list[str]:
    """What is not known because of another's finding, one line a cause."""
    names: dict[str, list[str]] = {}
    for look in looks:
        if look.because and not look.text:
            names.setdefault(look.because, []).append(look.name)
    return [
        line
        for because, some in names.items()
        for line in folded(f"{', '.join(some)}: not known: see {because}", _margin("?"))
    ]


def _lines(found: Finding) -> list[str]:
    said = folded(f"{found.code}: {found.subject}: {found.text}", _margin(_MARKS[found.severity]))
    return [*said, *folded(found.remedy, f"{_margin('')}-> ")] if found.remedy else said


def _margin(mark: str) -> str:
    return f"{mark:>9}  "


def _of_guest(row: Diagnosis, *, shows_notes: bool) -> Iterator[str]:
    shown = [f for f in row.findings if shows_notes or f.severity is not Severity.NOTE]
    if shown:
        name = f" ({clean(row.name, 60)})" if row.name else ""
        yield ""
        yield from folded(f"guest {row.vmid}{name} on {row.node}")
        for one in shown:
            yield from _lines(one)


def table(rows: Sequence[Diagnosis], now: float) -> list[str]:
    """A line a guest, none longer than WIDTH."""
    if not rows:
        return ["no guest was examined"]
    first = max(4, *(len(str(row.vmid)) for row in rows))
    name = WIDTH - first - 1 - sum(width + 1 for _, width in _COLUMNS)
    widths = (name, *(width for _, width in _COLUMNS))

    def line(vmid: object, *words: str) -> str:
        cells = (_ascii(clean(word, width)).ljust(width) for word, width in zip(words, widths, strict=True))
        return " ".join([str(vmid).rjust(first), *cells]).rstrip()

    said = [line("vmid", "name", *(title for title, _ in _COLUMNS))]
    for row in rows:
        worths = (_WORDS[row.snapshot.best], _WORDS[row.backup.best])
        said.append(line(row.vmid, row.name, row.agent, row.freeze, *worths, _age(row.last_run_at, now)))
    return [*said, *LEGEND]


def _ascii(text: str) -> str:
    """PVE's names are DNS names, an agent's version is digits; anything else may take more columns than it has letters.

    What was cut off ends in a tilde.
    """
    return text.replace("…", "~").encode("ascii", "replace").decode()


def _age(at: float | None, now: float) -> str:
    if at is None:
        return "-"
    seconds = max(0.0, now - at)
    if seconds < 2 * 3600:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.0f} h" if seconds < 3 * 86400 else f"{seconds / 86400:.0f} d"


def _why(rows: Iterable[Diagnosis]) -> list[str]:
    """Why guests are worth no more, one paragraph a reason."""
    by_reason: dict[tuple[str, str], list[int]] = {}
    for row in rows:
        worths = {"snapshot": row.snapshot, "backup": row.backup}
        if row.snapshot == row.backup:
            worths = {"snapshot and backup": row.snapshot}
        for what, worth in worths.items():
            if worth.best is not Best.FILESYSTEM_CONSISTENT and worth.best is not Best.OFFLINE:
                by_reason.setdefault((f"{what} {worth.best.value}", worth.why), []).append(row.vmid)
    said: list[str] = []
    for (what, why), vmids in by_reason.items():
        text = f"{what} at best: {clean(why, 300)}: {ranges(sorted(vmids))}"
        said += ["", *folded(text)]
    return said


def ranges(vmids: Sequence[int]) -> str:
    """``100, 102-110``: hundreds of guests may share a reason."""
    runs: list[list[int]] = []
    for vmid in vmids:
        if runs and vmid == runs[-1][-1] + 1:
            runs[-1].append(vmid)
        else:
            runs.append([vmid])
    shown = (f"{run[0]}-{run[-1]}" if len(run) > 2 else ", ".join(map(str, run)) for run in runs)
    return ", ".join(shown)


def counts(found: Examination) -> Mapping[str, int]:
    """How many findings of each severity, guests, and those that can be had consistently at best."""
    severities = {s: sum(1 for one in found.findings if one.severity is s) for s in Severity}
    return {
        "errors": severities[Severity.ERROR],
        "warnings": severities[Severity.WARNING],
        "notes": severities[Severity.NOTE],
        "guests": len(found.guests),
        "snapshots_consistent": sum(1 for row in found.guests if is_consistent(row.snapshot)),
        "backups_consistent": sum(1 for row in found.guests if is_consistent(row.backup)),
        "not_examined": sum(1 for row in found.guests if any(f.code == NOT_EXAMINED for f in row.findings)),
    }


def closing(found: Examination) -> str:
    """The one line that says it all."""
    n = counts(found)
    unseen = f", {n['not_examined']} not examined" if n["not_examined"] else ""
    return (
        f"doctor: {counted(n['errors'], 'error')}, {counted(n['warnings'], 'warning')}, {counted(n['notes'], 'note')}; "
        f"{counted(n['guests'], 'guest')}{unseen}, consistent or offline at best: {n['snapshots_consistent']} as "
        f"snapshots, {n['backups_consistent']} as backups; each code: docs/findings.md"
    )


def monitor_status(found: Examination) -> int:
    """The exit status for a monitoring system: what is wrong first, then what could not be found out."""
    known = [one for one in found.findings if one.code != NOT_EXAMINED]
    if any(one.severity is Severity.ERROR for one in known):
        return EXIT_CRITICAL
    if any(one.severity is Severity.WARNING for one in known):
        return EXIT_WARNING
    return EXIT_UNKNOWN if len(known) < len(found.findings) else EXIT_OK


def monitor_line(found: Examination, seconds: float) -> str:
    """One line by the Monitoring Plugins' guidelines: state, the worst of it, a bar, figures with their limits."""
    n = counts(found)
    worst = Counter((one.subject, one.code) for one in found.findings if one.severity is not Severity.NOTE)
    text = f"{counted(n['errors'], 'error')}, {counted(n['warnings'], 'warning')}, {counted(n['guests'], 'guest')}"
    for (subject, code), times in list(worst.items())[:3]:
        text += f"; {subject} {code}{f' ({times})' if times > 1 else ''}"
    if len(worst) > 3:
        text += f" and {sum(list(worst.values())[3:])} more"
    figures = [
        f"errors={n['errors']};;0;0",
        f"warnings={n['warnings']};0;;0",
        f"notes={n['notes']};;;0",
        f"guests={n['guests']};;;0",
        f"snapshots_consistent={n['snapshots_consistent']};;;0;{n['guests']}",
        f"backups_consistent={n['backups_consistent']};;;0;{n['guests']}",
        f"not_examined={n['not_examined']};;;0;{n['guests']}",
        f"time={seconds:.2f}s;;;0",
    ]
    return monitor_text(monitor_status(found), text, figures)
