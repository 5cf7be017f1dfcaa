"""Each finding has a case that raises it, and one that does not; each case comes to exactly the codes that it names."""

from __future__ import annotations

from pathlib import Path

import pytest

from snapshot.doctor.findings import CODES, NOT_KNOWN, Finding, Severity
from snapshot.preflight import answers, checks, disks, facts
from snapshot.pve import locks
from tests.doctor.cases import NEAR, RAISED, Case
from tests.doctor.kit import clinic
from tests.lab.guest.scripted import ScriptedGuest

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs/findings.md").read_text()


def visit(case: Case) -> tuple[Finding, ...]:
    def guest(vmid: int, run: Path) -> ScriptedGuest:
        return ScriptedGuest(vmid, run, **({} if case.facts is None else {"facts": case.facts}))

    with clinic(guest, **case.site) as found:
        case.prepare(found)
        seen = found.visit(*case.vmids).findings
        found.guest.faults.blocked = frozenset()
        return seen


@pytest.mark.parametrize("case", RAISED, ids=lambda case: case.name)
def test_it_is_found_and_nothing_else_is(case: Case) -> None:
    findings = visit(case)
    assert {one.code for one in findings} == case.codes, "\n".join(map(str, findings))
    for one in findings:
        needs = one.code not in ("no-journal", "replicated", "template", NOT_KNOWN)
        assert one.remedy or not needs, f"{one.code} has no remedy"
        assert "\n" not in one.text + one.remedy


@pytest.mark.parametrize("case", NEAR, ids=lambda case: case.name)
def test_what_looks_alike_is_not_found(case: Case) -> None:
    findings = visit(case)
    assert {one.code for one in findings} == case.codes, "\n".join(map(str, findings))


def test_every_code_has_a_case_that_raises_it() -> None:
    raised = {code for case in RAISED for code in case.codes}
    assert raised == set(CODES)


def test_every_code_has_its_heading_in_the_documentation() -> None:
    headings = [line.removeprefix("### ") for line in PAGE.splitlines() if line.startswith("### ")]
    assert sorted(headings) == sorted(CODES)
    for word, code in CODES.items():
        assert f"### {word}\n\n**{code.severity}** " in PAGE
        assert Severity(code.severity)


def test_every_code_of_a_check_is_one_of_the_table() -> None:
    """The preflight speaks the doctor's words, and knows nothing of the doctor."""
    others = {"name-taken"}  # of a snapshot that is being taken
    for module in (answers, checks, disks, facts, locks):
        source = Path(str(module.__file__)).read_text()
        said = {word.strip('",)') for word in source.split() if word.strip('",)') in CODES}
        assert said <= set(CODES) | others
    assert "agent-silent" in Path(str(answers.__file__)).read_text()
