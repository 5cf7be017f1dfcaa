"""pytest's plugin of `make package-test`: what is skipped fails, and a last line counts what passed on which Debian."""

from __future__ import annotations

from collections import Counter
from collections.abc import Generator

import pytest

WHERE = {"bookworm": "in Debian 12", "trixie": "in Debian 13", "": "of the package itself"}


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """What could not be tried here was not tried."""
    report = yield
    if report.skipped and isinstance(report.longrepr, tuple):
        report.outcome, report.longrepr = "failed", f"not tried here: {report.longrepr[2]}"
    return report


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """How many passed in which root."""
    ran = Counter(
        next((suite for suite in WHERE if suite in report.nodeid.rpartition("[")[2]), "")
        for report in terminalreporter.getreports("passed")
    )
    told = ", ".join(f"{ran[suite]} {where}" for suite, where in WHERE.items())
    terminalreporter.write_line(f"package-test: tests passed: {told}")
