"""What the doctor prints: a table of 80 columns whatever guests are called, reasons, remedies, JSON by its schema."""

from __future__ import annotations

import io
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from snapshot.cli import doctor as command
from snapshot.doctor.examine import Examination
from snapshot.doctor.facts import Look
from snapshot.doctor.findings import finding
from snapshot.doctor.guests import Diagnosis
from snapshot.doctor.worth import Best, Worth
from snapshot.model import Check, CheckResult
from snapshot.report import doctor as report
from snapshot.report.folded import folded
from tests.doctor.kit import Clinic, clinic
from tests.engine.kit import check
from tests.json_schema import follows_the_schema
from tests.lab.guest.scripted import ScriptedGuest

GOOD = Worth(Best.FILESYSTEM_CONSISTENT, "proven")
CRASH = Worth(Best.CRASH_CONSISTENT, "the guest's own PVE option turns freezing off")
NOW = 1_790_000_000.0


def row(vmid: int = 100, name: str = "db", **values: object) -> Diagnosis:
    ordinary = Diagnosis(vmid, name, "pve1", "qemu", True, "9.2.0", "yes", GOOD, GOOD, NOW - 7 * 3600, ())
    return ordinary._replace(**values)  # type: ignore[arg-type]


@pytest.mark.parametrize("vmid", [100, 99_999, 999_999_999])
@pytest.mark.parametrize("name", ["", "db", "x" * 200, "漢字" * 20, "a\x1b[31m\nb\u202e"])
@pytest.mark.parametrize("best", Best)
def test_no_line_of_the_table_is_longer_than_80_columns(vmid: int, name: str, best: Best) -> None:
    worth = Worth(best, "why " * 200)
    rows = [
        row(vmid, name, agent="漢10.0.2.91.3", freeze="FROZEN", snapshot=worth, backup=worth),
        row(100, last_run_at=0.0),
    ]
    lines = report.table(rows, NOW)
    assert max(map(len, lines)) <= 80
    assert all(line.isprintable() and line.isascii() for line in lines)
    titles = ("agent", "freeze", "snapshot", "backup", "last")
    starts = [lines[0].index(title) for title in titles]
    for line in lines[1:3]:
        assert all(line[start - 1] == " " for start in starts), "a column runs into the next"


def test_the_table_uses_all_of_the_80_columns() -> None:
    line = report.table([row(999_999_999, "x" * 80, last_run_at=NOW - 86400 * 1234.0)], NOW)[1]
    assert len(line.ljust(80)) == 80
    assert "x" * 23 in line


def paragraphs(lines: list[str]) -> list[str]:
    """Each in one line."""
    return [" ".join(paragraph.split()) for paragraph in "\n".join(lines).split("\n\n")]


def is_narrow(line: str) -> bool:
    """Whether it fits into 80 columns, or is wider by one word or one command in backticks alone."""
    words = re.sub(r"`[^`]*`", "command", line.strip().removeprefix("-> ")).split()
    return len(line) <= 80 or len(words) == 1


WORDS = st.lists(
    st.one_of(
        st.text("abc-/.,;:`", min_size=1, max_size=12),
        st.text("abc/", min_size=60, max_size=120),
        st.text("ab ", min_size=1, max_size=100).map(lambda text: f"`{text}`"),
    ),
    max_size=30,
).map(" ".join)


@given(WORDS, st.text(" >-", max_size=20), st.one_of(st.none(), st.integers(0, 20)))
def test_no_line_is_wider_than_80_columns_but_for_one_word_and_none_is_lost(
    text: str, first: str, further: int | None
) -> None:
    lines = folded(text, first, further)
    assert " ".join(" ".join(lines).split()) == " ".join(f"{first}{text}".split())
    beginning, *rest = [line.removeprefix(first) for line in lines[:1]] + lines[1:]
    for line in rest:
        assert len(line) - len(line.lstrip()) == (len(first) if further is None else further)
    for indent, line in ((len(first), beginning), *((0, line) for line in rest)):
        words = re.sub(r"`[^`]*`", "command", line).split()
        assert indent + len(line) <= 80 or len(words) == 1, line
    for copied in re.findall(r"`[^`]*`", text):
        assert any(copied in line for line in lines), "what is copied stays in one piece"


@pytest.mark.parametrize("named", [True, False])
def test_no_line_of_findings_looks_and_checks_is_wider_than_80_columns(named: bool) -> None:
    text = "a rather long word on what was found, and more of it " * 4
    path = "/a" * 60
    one = finding("agent-silent", "guest 100", f"{text} {path} {text}", f"{text} `{text}` {path}", 100)
    checks = tuple(Check("any", CheckResult.OK, f"{text} {path} {text}") for _ in range(2))
    seen = row(name="n" * 70, node="m" * 70, findings=(one,), checks=checks, facts={"addresses": [text, path]})
    looks = (Look("api", text), Look("configuration", path), Look("clock", "", (one,)), Look("jobs", text, (), "api"))
    found = Examination((*looks, *(Look(f"look{n}", "", (), "api") for n in range(20))), (seen,), NOW)
    lines = report.lines(found, named=named, verbose=False, terse=False)
    assert all(map(is_narrow, lines)), "\n".join(lines)
    assert paragraphs(lines)[0].count(path) == 3
    assert any(f"`{text}`" in line for line in lines)


def test_what_is_not_known_because_of_another_finding_is_told_once_and_never_as_well() -> None:
    looks = (
        Look("api", "", (finding("api-unreachable", "api", "refused"),)),
        Look("jobs", "", because="api"),
        Look("clock", "it follows a time server", because="api"),
        Look("nodes", "", because="api"),
        Look("backups", "", because="journal"),
    )
    lines = report.lines(Examination(looks, (), NOW), named=False, verbose=False, terse=False)
    assert [line.strip() for line in lines[2:5]] == [
        "?  clock: it follows a time server: see api",
        "?  jobs, nodes: not known: see api",
        "?  backups: not known: see journal",
    ]
    assert not any(line.startswith("       ok") for line in lines)


def test_guests_of_one_reason_share_a_paragraph() -> None:
    rows = [row(vmid, snapshot=CRASH, backup=CRASH) for vmid in range(100, 400)]
    seen = report.lines(Examination((), tuple(rows), NOW), named=False, verbose=False, terse=False)
    text = " ".join(" ".join(seen).split())
    assert text.count("turns freezing off") == 1
    assert "snapshot and backup crash-consistent at best" in text
    assert "off: 100-399 " in text + " "
    assert max(len(line) for line in seen[:-1]) <= 80


@pytest.mark.parametrize(
    ("vmids", "shown"),
    [
        ([], ""),
        ([100], "100"),
        ([100, 101], "100, 101"),
        ([100, 101, 102, 104, 106, 107, 108], "100-102, 104, 106-108"),
    ],
)
def test_vmids_that_follow_each_other_are_told_as_a_range(vmids: list[int], shown: str) -> None:
    assert report.ranges(vmids) == shown


def test_notes_about_guests_are_counted_until_somebody_asks_for_them() -> None:
    noted = row(findings=(finding("replicated", "guest 100", "it is", vmid=100),))
    found = Examination((Look("api", "answers"),), (noted,), NOW)
    assert paragraphs(report.lines(found, named=False, verbose=False, terse=False))[-1].endswith(
        "; 1 note about guests: --verbose"
    )
    for named, verbose in ((True, False), (False, True)):
        assert "replicated: guest 100: it is" in "\n".join(
            report.lines(found, named=named, verbose=verbose, terse=False)
        )
    assert report.lines(found, named=True, verbose=True, terse=True) == [report.closing(found)]


@pytest.fixture
def lab() -> Clinic:
    with clinic(ScriptedGuest, ScriptedGuest) as well:
        well.elsewhere()
        well.lab.guests[101].kill_agent()
        yield well


def test_the_command_names_guest_code_and_remedy(lab: Clinic) -> None:
    run = check(lab.lab, lab.lab.safe_snapshot("doctor"))
    assert run.exit_code == 14, run
    assert run.stderr == ""
    lines = run.stdout.splitlines()
    assert "guest 101 (guest101) on pve1" in lines
    assert any("agent-silent: guest 101: " in line for line in lines)
    assert "apt install qemu-guest-agent" in run.stdout
    assert "VirtIO" not in run.stdout, "it is no Windows"
    assert "1 warning" in paragraphs(lines)[-1]
    assert all(map(is_narrow, lines)), "\n".join(lines)
    assert run.stdout.index(" 101 guest101") < run.stdout.index(" 100 guest100"), "the worst first"


def test_one_guest_by_name_is_told_with_every_check(lab: Clinic) -> None:
    run = check(lab.lab, lab.lab.safe_snapshot("doctor", "100"))
    assert run.exit_code == 0, run
    for line in (
        "freeze-commands: freeze, thaw and status are enabled",
        "filesystems: /data (ext4)",
        "os: Lab guest 1",
    ):
        assert line in run.stdout
    assert "guest101" not in run.stdout
    quiet = check(lab.lab, lab.lab.safe_snapshot("doctor", "100", "--quiet"))
    assert len(quiet.stdout.splitlines()) == 1


def test_the_object_fits_its_schema(lab: Clinic) -> None:
    found = follows_the_schema(check(lab.lab, lab.lab.safe_snapshot("--json", "doctor")).json)
    assert [one["vmid"] for one in found["guests"]] == [101, 100]
    assert found["guests"][0]["findings"][0]["code"] == "agent-silent"
    assert found["error"]["code"] == "findings"
    assert found["counts"]["warnings"] == 1
    assert {one["name"] for one in found["installation"]} >= {"api", "clock", "script", "recover", "journal"}


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize("is_terminal", [True, False])
def test_how_far_it_is_is_told_on_a_terminal_alone(monkeypatch: pytest.MonkeyPatch, is_terminal: bool) -> None:
    stream = Terminal() if is_terminal else io.StringIO()
    monkeypatch.setattr("sys.stderr", stream)
    for done in (1, 2, 3):
        command.show_progress(done, 3)
    said = stream.getvalue()
    assert said.startswith("\r1 of 3 guests examined") if is_terminal else not said
    assert "\n" not in said
    assert said.rstrip("\r").rpartition("\r")[2].strip() == "", "nothing is left of it"


def test_a_guest_that_is_named_twice_is_examined_once(lab: Clinic) -> None:
    found = check(lab.lab, lab.lab.safe_snapshot("--json", "doctor", "100", "100")).json
    assert len(found["guests"]) == 1
