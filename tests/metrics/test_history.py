"""``safe-snapshot history`` and ``report``: what they say, and that reading never stands in a backup's way."""

from __future__ import annotations

import csv
import inspect
import io
import json
import os
import re
import threading
import time
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from snapshot.cli.line import Session
from snapshot.cli.main import main_group
from snapshot.errors import JournalError, SafeSnapshotError
from snapshot.journal.store import Journal
from snapshot.report import digest, history, htmlparts, htmlwords, lengths
from snapshot.report.history import Question
from tests.json_schema import follows_the_schema
from tests.metrics import fleet
from tests.metrics.conftest import DAY, START, World


class WorldsSession(Session):
    """A session in the world's time, with its configuration."""

    def __init__(self, world: World) -> None:
        super().__init__()
        self.clock = world.clock  # type: ignore[assignment]
        self.config = lambda: world.config  # type: ignore[method-assign]


def run(world: World, *arguments: str) -> Result:
    # Before click 8.2 the two streams are one unless asked for, after it they cannot be asked for.
    apart = {"mix_stderr": False} if "mix_stderr" in inspect.signature(CliRunner).parameters else {}
    return CliRunner(**apart).invoke(main_group, arguments, obj=WorldsSession(world))  # type: ignore[arg-type]


def windows_of(result: Result) -> list[list[list[str]]]:
    """The words of each line, in one list a window: what stands below it is indented."""
    found: list[list[list[str]]] = []
    for line in result.stdout.splitlines():
        if line[0] == " ":
            found[-1].append(line.split())
        else:
            found.append([line.split()])
    return found


def test_history_shows_the_newest_first_with_verdict_and_reason(world: World) -> None:
    world.good_run(100)
    world.clock.now += 60
    world.failed_run(200, stage="hold", reason="deadline")
    world.clock.now += 60
    world.armed(300)
    result = run(world, "history")
    head, *windows = windows_of(result)
    assert head == [["TIME", "GUEST", "SOURCE", "WINDOW", "VERDICT"]]
    assert [lines[0][1] for lines in windows] == ["qemu/300", "qemu/200", "qemu/100"]
    assert "(armed)" in windows[0][0]
    assert windows[1][0][-1] == "crash-consistent"
    assert "[hold: deadline]" in " ".join(windows[1][1])
    assert windows[2][0][-3:] == ["300", "ms", "filesystem-consistent"]


def test_a_window_whose_guard_had_to_thaw_says_so_before_anybody_has_judged_it(world: World) -> None:
    window = world.armed(100)
    world.journal.update(window, state="thawed", guard_cause="owner-died", thawed_at=world.clock.now)
    said = " ".join(run(world, "history").stdout.split())
    assert "its guard thawed the guest (owner-died); `safe-snapshot recover` closes the window" in said


def test_history_names_the_snapshot_and_whose_it_is_in_lines_for_a_console(world: World) -> None:
    window = world.good_run(100)
    world.journal.update(window, snapshot_name="before-upgrade", guest_name="web1", reason="a word " * 30)
    (_, *below) = run(world, "history").stdout.splitlines()[1:]
    assert below[0].startswith("    web1 on pve1, snapshot before-upgrade: a word a word")
    assert " ".join(line.strip() for line in below).endswith(("a word " * 30).strip())
    widest = world.good_run(999999999)
    world.journal.update(widest, node="n" * 63, guest_name="g" * 70, snapshot_name="s" * 40, window_seconds=1e5)
    lines = run(world, "history", "999999999").stdout.splitlines()
    assert not [line for line in lines if len(line) > 80 and " " in line.strip()], "only one word may be longer"


def test_history_of_one_guest_since_a_time_and_only_failures(world: World) -> None:
    world.failed_run(100)
    world.clock.now += 3 * DAY
    world.failed_run(100)
    world.good_run(100)
    world.failed_run(200)
    assert len(json.loads(run(world, "history", "--json").stdout)["windows"]) == 4
    assert len(json.loads(run(world, "history", "100", "--json").stdout)["windows"]) == 3
    assert len(json.loads(run(world, "history", "100", "--failed", "--json").stdout)["windows"]) == 2
    (one,) = json.loads(run(world, "history", "100", "--failed", "--since", "2d", "--json").stdout)["windows"]
    assert one["failure_reason"] == "refused"
    assert one["vmid"] == 100


def test_json_and_csv_hold_the_same_and_none_of_our_internals(world: World) -> None:
    world.good_run(100)
    world.failed_run(200)
    found = json.loads(run(world, "history", "--json").stdout)
    assert follows_the_schema(found)["command"] == "history"
    rows = list(csv.DictReader(io.StringIO(run(world, "history", "--csv").stdout)))
    assert [r["id"] for r in rows] == [w["id"] for w in found["windows"]]
    assert list(rows[0]) == list(found["windows"][0]) == list(history.FIELDS)
    assert not {"owner_pid", "guard_pid", "boot_id", "counted"} & set(rows[0])
    assert rows[0]["failure_stage"] == "freeze"
    assert rows[1]["failure_stage"] == ""
    assert run(world, "history", "--json", "--csv").exit_code == 2


@pytest.mark.parametrize("is_there", [True, False])
def test_an_empty_journal_and_one_that_has_not_begun_are_an_empty_list(world: World, is_there: bool) -> None:
    if not is_there:
        world.journal.close()
        world.config.journal.path.unlink()
    shown = run(world, "history")
    assert (shown.stdout, shown.exit_code) == ("", 0)
    assert " ".join(shown.stderr.split()).startswith("no freeze window yet: the journal ")
    assert follows_the_schema(json.loads(run(world, "history", "--json").stdout))["windows"] == []
    assert run(world, "history", "--csv").stdout.split(",")[0] == "time"
    assert world.config.journal.path.exists() == is_there, "a reader makes none"
    assert " ".join(run(world, "history", "100").stderr.split()).startswith("no freeze window yet: the journal ")
    if is_there:
        world.good_run(100)
        assert "no freeze window is like that" in run(world, "history", "101").stderr


def test_a_report_before_the_first_window_is_a_page_and_begins_no_journal(world: World, tmp_path: Path) -> None:
    world.journal.close()
    world.config.journal.path.unlink()
    made = run(world, "report", "--html", str(tmp_path / "page.html"))
    assert made.exit_code == 0, made.output
    assert "</html>" in (tmp_path / "page.html").read_text()
    assert not world.config.journal.path.exists()


def test_a_journal_that_cannot_be_read_leaves_standard_output_to_the_error_object(world: World) -> None:
    """Half an object in front of the error's would be no JSON."""
    world.journal.close()
    world.config.journal.path.unlink()
    world.config.journal.path.mkdir()
    for option in ("--json", "--csv"):
        result = run(world, "history", option)
        assert isinstance(result.exception, JournalError)
        assert result.stdout == ""


def test_a_journal_that_breaks_amid_the_reading_leaves_one_whole_object(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    for vmid in range(100, 108):
        world.good_run(vmid)
    query, asked = Journal.query, []

    def breaks(journal: Journal, sql: str, values: tuple[object, ...]) -> object:
        asked.append(sql)
        if len(asked) > 2:
            raise JournalError("it broke")
        return query(journal, sql, values)

    monkeypatch.setattr(history, "BATCH", 5)
    monkeypatch.setattr(Journal, "query", breaks)
    result = run(world, "history", "--json")
    found = follows_the_schema(json.loads(result.stdout))
    assert 0 < len(found["windows"]) < 8
    assert (found["error"]["code"], result.exit_code) == ("journal", 9)


def test_what_a_guest_says_is_no_formula_in_a_spreadsheet(world: World) -> None:
    window = world.good_run(100)
    world.journal.update(
        window, reason="=HYPERLINK(1)", freeze_detail='+1,"x"\n2', thaw_detail="@SUM(A1)", thaw_route="-x"
    )
    text = run(world, "history", "--csv").stdout
    (row,) = csv.DictReader(io.StringIO(text, newline=""))
    assert row["reason"] == "'=HYPERLINK(1)"
    assert row["freeze_detail"] == '\'+1,"x" 2'
    assert (row["thaw_detail"], row["thaw_route"]) == ("'@SUM(A1)", "'-x")
    (found,) = json.loads(run(world, "history", "--json").stdout)["windows"]
    assert found["reason"] == "=HYPERLINK(1)"


def test_lines_are_limited_unless_told_otherwise_and_it_is_said(world: World) -> None:
    fleet.fill(world.journal, 10, 7, world.clock.now)
    result = run(world, "history")
    assert len(windows_of(result)) == 51
    assert "--limit 0 shows all" in result.stderr
    assert len(windows_of(run(world, "history", "--limit", "0"))) == 71
    assert len(json.loads(run(world, "history", "--json").stdout)["windows"]) == 70


@pytest.mark.parametrize("form", [(), ("--json",), ("--csv",)], ids=str)
def test_a_limit_beyond_every_number_of_the_machine_is_no_limit(world: World, form: tuple[str, ...]) -> None:
    fleet.fill(world.journal, 10, 7, world.clock.now)
    endless = run(world, "history", "--limit", "9" * 30, *form)
    assert endless.exit_code == 0
    assert endless.stdout == run(world, "history", "--limit", "0", *form).stdout


def test_what_a_guest_says_cannot_paint_on_the_operators_terminal(world: World) -> None:
    window = world.good_run(100)
    world.journal.update(window, reason="\x1b[2Jnice\r\nFAKE LINE\x07")
    (_, line) = run(world, "history").stdout.splitlines()[1:]
    assert line.startswith("    ")
    assert line.endswith("[2Jnice FAKE LINE")


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("90m", 5400), ("36h", 36 * 3600), ("7d", 7 * DAY), ("2w", 14 * DAY), ("1y", 365 * DAY)],
)
def test_since_takes_spans(text: str, seconds: float) -> None:
    assert history.parse_since(text, START) == START - seconds


def test_since_takes_local_dates_and_refuses_the_rest_by_name(world: World) -> None:
    assert history.parse_since("2026-01-31", START) == time.mktime((2026, 1, 31, 0, 0, 0, 0, 0, -1))
    assert history.parse_since("2026-01-31T03:30", START) == time.mktime((2026, 1, 31, 3, 30, 0, 0, 0, -1))
    # As history itself prints them, wherever the reader is.
    assert history.parse_since("2026-01-31T03:30:00+0100", START) == 1769826600
    assert history.parse_since("2026-01-31T02:30Z", START) == 1769826600
    for bad in ("yesterday", "7", "-3d", "2026-13-01", ""):
        result = run(world, "history", "--since", bad)
        assert result.exit_code == 2
        assert "neither a span (36h, 7d, 2w, 1y) nor a date" in result.stderr


def test_windows_of_one_instant_are_neither_lost_nor_doubled_between_batches(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    for vmid in range(100, 123):
        world.good_run(vmid, seconds=0)
    monkeypatch.setattr(history, "BATCH", 5)
    found = [w.vmid for w in history.windows(world.config.journal.path, Question())]
    assert sorted(found) == list(range(100, 123))


def test_a_reader_in_the_middle_of_history_does_not_keep_an_intent_from_being_written(world: World) -> None:
    fleet.fill(world.journal, 50, 60, world.clock.now, project=False)
    reading = history.windows(world.config.journal.path, Question())
    next(reading)
    started = time.monotonic()
    world.armed(100)
    assert time.monotonic() - started < 1
    assert sum(1 for _ in reading) > 2000


class _Page(HTMLParser):
    """Which elements a page has, whether they are closed, and where it would load from."""

    VOID = frozenset({"meta", "link", "br", "img"})

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[str] = []
        self.words: list[str] = []
        self.loads: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.loads += [str(v) for k, v in attrs if k in ("src", "href", "srcset", "data", "action")]
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] != "style":
            self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())


def _report(world: World, *arguments: str) -> _Page:
    target = world.folder / "report.html"
    result = run(world, "report", "--html", str(target), *arguments)
    assert result.exception is None, result.output
    text = target.read_text()
    page = _Page(text)
    assert page.open == []
    # Self-contained: nothing to load, no script, and the page itself forbids both.
    assert page.loads == []
    assert "script" not in page.tags
    assert not re.search(r"url\(|@import|https?://", text)
    return page


def test_the_page_is_one_whole_file_without_network_or_script(world: World) -> None:
    fleet.fill(world.journal, 20, 30, world.clock.now)
    page = _report(world)
    assert "600 runs of 20 guests" in page.text
    for head in (
        "Windows of backups over time",
        "How long windows of backups are",
        "Guests",
        "Failures",
        "Newest runs",
        "Slowest guests in backups",
    ):
        assert head in page.text


def test_the_page_says_what_the_journal_says(world: World) -> None:
    for _ in range(3):
        world.good_run(100, seconds=0.2)
        world.clock.now += DAY
    world.failed_run(200, stage="hold", reason="deadline")
    window = world.armed(300)
    world.journal.update(window, state="stuck")
    page = _report(world).text
    assert "Snapshots 75.0 % consistent 5 snapshots of 3 guests" in page
    assert "Consistent 3 of 4 judged" in page
    assert "Failed 1 (20.0 %)" in page
    assert "A GUEST MAY STILL BE FROZEN" in page
    assert "qemu/300 (guest-300) on pve1, since" in page
    assert "window broke: the point in time did not come before the deadline" in page
    assert "1 snapshot; guest 200. hold: deadline" in page
    assert re.search(r"qemu/100 guest-100 pve1 filesystem-consistent \S+ \S+ 3 of 3 0 ", page)
    assert re.search(r"qemu/200 guest-200 pve1 crash-consistent \S+ \S+ 0 of 1 1 ", page)


def test_an_empty_journal_gives_a_page_that_says_so(world: World) -> None:
    page = _report(world)
    assert "No run has been recorded yet" in page.text
    assert "svg" not in page.tags


def test_a_page_about_guests_that_are_never_frozen_draws_no_empty_picture(world: World) -> None:
    window = world.intent(100, kind="lxc", deadline_at=START)
    world.journal.update(window, verdict="crash-consistent", closed_at=START, state="thawed")
    page = _report(world)
    assert "nothing was frozen" in page.text
    assert "No run failed." in page.text


def test_names_of_guests_are_text_on_the_page_not_markup(world: World) -> None:
    world.good_run(100, guest_name="<script>alert(1)</script>&<b>")
    page = _report(world)
    assert "<script>alert(1)</script>&<b>" in page.text


def test_a_page_that_cannot_be_written_is_a_line_and_leaves_the_old_one(world: World) -> None:
    world.good_run()
    missing = world.folder / "no" / "such" / "report.html"
    failure = run(world, "report", "--html", str(missing)).exception
    assert isinstance(failure, SafeSnapshotError)
    assert f"{missing} cannot be written" in str(failure)


def test_a_device_is_written_to_and_a_link_is_followed_neither_is_replaced(world: World) -> None:
    """As root, `--html /dev/null` must not cost the machine its /dev/null."""
    world.good_run()
    pipe, text = world.folder / "pipe", list[str]()
    os.mkfifo(pipe)
    reader = threading.Thread(target=lambda: text.append(pipe.read_text()), daemon=True)
    reader.start()
    assert run(world, "report", "--html", str(pipe)).exception is None
    assert pipe.is_fifo()
    reader.join(10)
    assert text[0].startswith("<!doctype html>")
    target, link = world.folder / "target.html", world.folder / "link.html"
    target.write_text("old")
    link.symlink_to(target)
    assert run(world, "report", "--html", str(link)).exception is None
    assert link.is_symlink()
    assert target.read_text() == text[0]


def test_a_page_in_a_folder_of_somebody_else_is_written_through_no_link(world: World) -> None:
    world.good_run()
    victim, folder = world.folder / "victim", world.folder / "theirs"
    victim.write_text("precious")
    folder.mkdir(mode=0o777)
    folder.chmod(0o777)
    page = folder / "r.html"
    for name in (page.name, f".{page.name}.{os.getpid()}.new"):
        (folder / name).symlink_to(victim)
    assert run(world, "report", "--html", str(page)).exception is None
    assert victim.read_text() == "precious"
    assert not page.is_symlink()
    assert page.read_text().startswith("<!doctype html>")


@pytest.fixture
def berlin(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("TZ", "Europe/Berlin")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


@pytest.mark.usefixtures("berlin")
def test_a_winters_night_stands_under_its_own_day_in_a_page_made_in_summer(world: World) -> None:
    for month, day in ((3, 10), (4, 10)):
        world.clock.now = time.mktime((2026, month, day, 2, 0, 0, 0, 0, -1))
        world.good_run(100)
    now = time.mktime((2026, 4, 20, 12, 0, 0, 0, 0, -1))
    found = digest.digest(world.config.journal.path, Question(), now)
    assert found.step_seconds == DAY
    (part,) = found.parts
    days = [htmlparts.instant(step, found.step_seconds) for step in part.steps]
    assert [day for day, step in zip(days, part.steps, strict=True) if step.runs] == ["2026-03-10", "2026-04-10"]
    assert len(set(days)) == len(days) == 42


def test_quantiles_are_lengths_that_so_many_windows_keep_within() -> None:
    ordered = [float(number) for number in range(1, 101)]
    assert lengths.quantile(ordered, 95) == 95
    assert lengths.quantile(ordered, 50) == 50
    assert lengths.quantile(ordered[:20], 95) == 19
    assert lengths.quantile(ordered[:3], 50) == 2
    assert lengths.quantile(ordered[:1], 95) == lengths.quantile(ordered[:1], 50) == 1


def test_the_page_can_go_to_standard_output_and_be_about_one_guest(world: World) -> None:
    world.good_run(100)
    world.failed_run(200)
    text = run(world, "report", "--html", "-", "200").stdout
    assert "1 run of 1 guest" in text
    assert "guest-100" not in text


def test_steps_are_whole_and_no_window_is_lost_between_them(world: World) -> None:
    for span, runs in ((DAY / 2, 30), (10 * DAY, 50), (60 * DAY, 60), (300 * DAY, 100), (5 * 365 * DAY, 60)):
        path = world.folder / f"{runs}-{span}.sqlite"
        journal = Journal(path)
        with journal.transaction("written") as db:
            for window in fleet.windows(3, runs, START, span):
                values = window._asdict()
                marks = ", ".join("?" * len(values))
                db.execute(f"INSERT INTO windows ({', '.join(values)}) VALUES ({marks})", list(values.values()))
        journal.close()
        found = digest.digest(path, Question(), START)
        (part,) = found.parts
        assert sum(step.runs for step in part.steps) == part.windows == found.windows == 3 * runs
        assert sum(step.failures for step in part.steps) == sum(guest.failures for guest in found.guests)
        assert 2 <= len(part.steps) <= lengths.MAX_STEPS + 1
        assert htmlparts.pictures(found, part)


def test_percentages_never_round_a_failure_away() -> None:
    assert htmlwords.percent(9999, 10000) == "99.9 %"
    assert htmlwords.percent(1, 10000) == "0.1 %"
    assert htmlwords.percent(0, 10000) == "0 %"
    assert htmlwords.percent(10, 10) == "100 %"
    assert htmlwords.percent(0, 0) == "-"


def test_metrics_print_is_the_textfile_on_standard_output(world: World) -> None:
    world.failed_run(100)
    assert world.publish() == []
    assert run(world, "metrics", "print").stdout == Path(world.textfile).read_text()
