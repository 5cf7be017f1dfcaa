"""What the drill makes of the doctor's findings: which part each is about, and what it keeps the drill from."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from snapshot.base.clock import SystemClock
from snapshot.base.procfs import ProcessIdentity
from snapshot.base.signals import NoGate
from snapshot.cli.drill import _lines as shown
from snapshot.config import reading
from snapshot.config.settings import Config, MetricsConfig, Pushgateway
from snapshot.doctor.findings import CODES
from snapshot.drill import drill
from snapshot.drill.drill import DrillReport, DrillTools, held
from snapshot.drill.ready import PARTS, UNHEARD, asked, parts, unheard
from snapshot.drill.rounds import KINDS
from snapshot.model import Check, CheckResult
from snapshot.pve.access import open_access
from tests.doctor.kit import Clinic, clinic
from tests.unit.kit import GUEST

OK, WARNING, FAILED = CheckResult.OK, CheckResult.WARNING, CheckResult.FAILED


@pytest.fixture
def well() -> Iterator[Clinic]:
    with clinic() as found:
        yield found


def checks(found: Clinic) -> list[Check]:
    return list(asked(found.visit(100).looks))


def test_where_the_doctor_finds_nothing_the_parts_are_well(well: Clinic) -> None:
    assert [(check.name, check.result) for check in checks(well)] == [("token", OK), ("unit", OK)]


CASES: list[tuple[Callable[[Clinic], None], str, CheckResult, str]] = [
    (lambda c: c.units(timer="inactive"), "unit", FAILED, "recover-not-run"),
    (lambda c: c.units(state="disabled"), "unit", FAILED, "recover-not-run"),
    (lambda c: c.units(result="exit-code"), "unit", WARNING, "recover-fails"),
    (lambda c: c.said.update(systemctl=None), "unit", WARNING, "not-known"),
    (lambda c: c.lab.node.token_file.write_text("\0"), "token", FAILED, "token-unusable"),
    (lambda c: c.config(api={"port": 1}), "api", FAILED, "api-unreachable"),
    (lambda c: c.exporter("--collector.textfile.directory=/else"), "metrics", WARNING, "textfile-not-read"),
]  # fmt: skip


@pytest.mark.parametrize(("arrange", "part", "result", "code"), CASES, ids=[f"{c[1]}-{c[3]}" for c in CASES])
def test_a_finding_of_the_doctors_is_named_as_the_part_that_it_is_about(
    well: Clinic, arrange: Callable[[Clinic], object], part: str, result: CheckResult, code: str
) -> None:
    arrange(well)
    assert (part, result, code) in [(check.name, check.result, check.code) for check in checks(well)]


def test_a_part_that_is_broken_is_not_called_well_too(well: Clinic) -> None:
    well.is_read_only = True
    config = reading.load(well.lab.config_path)
    found = parts(open_access(config, SystemClock()), GUEST.vmid, well.visit(100).looks)
    assert {check.result for check in found if check.name == "state"} == {FAILED}


def test_every_code_is_one_of_the_doctors() -> None:
    assert set(PARTS) <= set(CODES)
    assert set(PARTS) >= UNHEARD


def test_metrics_that_nobody_reads_are_a_broken_alarm_and_the_remedy_is_told(
    well: Clinic, monkeypatch: pytest.MonkeyPatch
) -> None:
    well.exporter("--collector.textfile.directory=/else", name="/usr/bin/node_exporter")
    monkeypatch.setattr(drill, "KINDS", ())
    config, clock = reading.load(well.lab.config_path), SystemClock()
    access = open_access(config, clock)
    tools = DrillTools(
        config,
        well.lab.config_path,
        access,
        access,
        clock,
        ProcessIdentity.own(),
        NoGate(),
        lambda line: None,
        10.0,
        lambda spec: None,
    )
    report = held(DrillReport(GUEST, tuple(checks(well))), tools)
    assert report.error is not None
    assert report.error.message == "the drill failed: metrics"
    (tried,) = report.alarms
    assert "node_exporter (pid 77) reads /else" in tried.detail
    assert 'textfile = "/else/' in tried.detail, "what to do"


def test_a_round_that_is_not_played_is_not_called_kept() -> None:
    *_, last = shown(DrillReport(GUEST, not_played=KINDS[-1:]), [])
    assert last == "the drill of guest 100: every bound kept that was tried; NOT SHOWN: guard-killed (see the warning)"
    *_, last = shown(DrillReport(GUEST), [])
    assert last == "the drill of guest 100: every bound kept"


def test_metrics_that_are_pushed_need_no_reader() -> None:
    told = [Check("metrics", WARNING, "not read", "mend it", "textfile-not-read")]
    assert unheard(told, Config()) == "not read: mend it"
    pushed = MetricsConfig(pushgateway=Pushgateway("http://gw:9091"))
    assert unheard(told, Config()._replace(metrics=pushed)) == ""
