"""``--monitor``: one line by the Monitoring Plugins' guidelines, and an exit status that monitoring believes."""

from __future__ import annotations

import errno
import re
from collections.abc import Iterator
from pathlib import Path
from unittest import mock

import pytest
from click.testing import CliRunner

from snapshot.cli.main import main_group
from snapshot.doctor.examine import Examination
from snapshot.doctor.facts import Look
from snapshot.doctor.findings import CODES, Finding, Severity, finding
from snapshot.doctor.guests import Diagnosis
from snapshot.doctor.worth import Best, Worth
from snapshot.errors import ConfigError
from snapshot.report import doctor as report
from tests.doctor.kit import Clinic, clinic
from tests.engine.kit import check

FIGURE = re.compile(r"[a-z_]+=\d+(\.\d+)?s?;\d*;\d*;\d*(;\d*)?")
"""label=value[UOM];warn;crit;min;max"""
ERROR, WARNING, NOTE = (finding(code, "x", "what | it is") for code in ("no-script", "agent-silent", "replicated"))
UNSEEN = finding("not-examined", "guest 101", "no time")


def found(*findings: Finding) -> Examination:
    return Examination((Look("any", "", findings),), (), 0.0)


@pytest.mark.parametrize(
    ("findings", "status"),
    [
        ((), 0),
        ((NOTE, NOTE), 0),
        ((WARNING, NOTE), 1),
        ((WARNING, ERROR), 2),
        ((UNSEEN, NOTE), 3),
        ((UNSEEN, WARNING), 1),
        ((UNSEEN, ERROR), 2),
    ],
)
def test_the_worst_that_is_known_decides_and_what_was_not_examined_is_never_ok(
    findings: tuple[Finding, ...], status: int
) -> None:
    seen = found(*findings)
    assert report.monitor_status(seen) == status
    line = report.monitor_line(seen, 1.5)
    assert line.startswith(f"SAFE-SNAPSHOT {('OK', 'WARNING', 'CRITICAL', 'UNKNOWN')[status]} - ")
    text, bar, figures = line.partition(" | ")
    assert bar
    assert "|" not in text + figures
    assert "\n" not in line
    assert all(FIGURE.fullmatch(one) for one in figures.split(" ")), figures


def test_what_is_found_several_times_is_told_once_with_its_number() -> None:
    other = finding("agent-silent", "guest 9", "what")
    line = report.monitor_line(found(WARNING, WARNING, NOTE, WARNING, other, ERROR), 1.5)
    assert "; x no-script; x agent-silent (3); guest 9 agent-silent | " in line
    assert "; x agent-silent (2); guest 1 agent-silent; guest 2 agent-silent and 2 more | " in report.monitor_line(
        found(WARNING, WARNING, *(finding("agent-silent", f"guest {number}", "what") for number in range(1, 5))), 1.5
    )


def test_the_figures_are_what_was_found() -> None:
    """Each has a number of its own, so none can stand in another's place."""
    good, bad = Worth(Best.OFFLINE, "off"), Worth(Best.CRASH_CONSISTENT, "no agent")

    def row(vmid: int, snapshot: Worth, backup: Worth, *findings: Finding) -> Diagnosis:
        return Diagnosis(vmid, "", "pve1", "qemu", True, "?", "?", snapshot, backup, None, findings)

    rows = [row(vmid, good, bad) for vmid in range(100, 105)]
    rows += [row(vmid, good, good) for vmid in range(105, 109)]
    rows += [row(109, bad, bad, UNSEEN, NOTE), row(110, bad, bad, UNSEEN, WARNING)]
    seen = Examination((Look("any", "", (ERROR, NOTE, *[WARNING] * 5)),), tuple(rows), 0.0)
    assert report.monitor_line(seen, 1.5).partition(" | ")[2].split() == [
        "errors=1;;0;0",
        "warnings=8;0;;0",
        "notes=2;;;0",
        "guests=11;;;0",
        "snapshots_consistent=9;;;0;11",
        "backups_consistent=4;;;0;11",
        "not_examined=2;;;0;11",
        "time=1.50s;;;0",
    ]
    assert " - 1 error, 8 warnings, 11 guests; " in report.monitor_line(seen, 1.5)


@pytest.mark.parametrize("severity", Severity)
def test_every_code_has_a_status(severity: Severity) -> None:
    status = {Severity.ERROR: 2, Severity.WARNING: 1, Severity.NOTE: 0}[severity]
    for code in CODES:
        one = finding(code, "x", "y")
        if one.severity is severity and code != "not-examined":
            assert report.monitor_status(found(one)) == status, code


def test_who_may_not_read_the_configuration_is_not_examined(tmp_path: Path) -> None:
    path = tmp_path / "config.toml"
    path.touch()
    with mock.patch.object(Path, "open", side_effect=PermissionError(errno.EACCES, "Permission denied")):
        done = CliRunner().invoke(main_group, ["--config", str(path), "doctor", "--monitor"])
    assert isinstance(done.exception, ConfigError)
    assert done.exception.remedy == "run it as root"


@pytest.fixture
def lab() -> Iterator[Clinic]:
    with clinic() as well:
        yield well


def test_the_command_ends_with_that_status(lab: Clinic) -> None:
    lab.elsewhere()
    run = check(lab.lab, lab.lab.safe_snapshot("doctor", "--monitor"))
    assert (run.exit_code, run.stderr) == (0, ""), run
    assert len(run.stdout.splitlines()) == 1
    assert "backups_consistent=0" in run.stdout
    assert "guests=1;;;0 snapshots_consistent=1;;;0;1" in run.stdout
    lab.guest.kill_agent()
    run = lab.lab.safe_snapshot("--json", "doctor", "--monitor")
    assert run.exit_code == 1, run
    assert "guest 100 agent-silent" in run.stdout
    lab.config(api={"port": 1})
    run = lab.lab.safe_snapshot("doctor", "--monitor")
    assert run.exit_code == 2, run
    assert "api api-unreachable" in run.stdout


@pytest.mark.parametrize(
    "arguments", [("--monitor", "nonsense"), ("--monitor", "--no-such-option"), ("--monitor", "--within", "nan")]
)
def test_a_command_line_that_is_wrong_is_unknown_and_one_line(lab: Clinic, arguments: tuple[str, ...]) -> None:
    """Nagios takes click's exit status 2 for CRITICAL."""
    run = lab.lab.safe_snapshot("doctor", *arguments)
    assert run.exit_code == 3, run
    assert run.stdout.startswith("SAFE-SNAPSHOT UNKNOWN - ")
    assert len(run.stdout.splitlines()) == 1


def test_a_configuration_that_is_not_there_is_unknown(lab: Clinic) -> None:
    lab.lab.config_path.unlink()
    run = lab.lab.safe_snapshot("doctor", "--monitor")
    assert run.exit_code == 3, run
    assert "does not exist" in run.stdout
