"""Collects what was measured, from every worker process, and prints it at the end of the run."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from typing import Any

import pytest

from tests.process import figures

_PROPERTY = "frozen for"


@pytest.fixture(autouse=True)
def _measured(request: pytest.FixtureRequest) -> Iterator[None]:
    yield
    request.node.user_properties += [(_PROPERTY, item) for item in figures.MEASURED.items()]
    figures.MEASURED.clear()


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """The bounds, median and worst."""
    found: dict[str, list[float]] = defaultdict(list)
    for report in terminalreporter.getreports(""):  # where pytest keeps what is neither passed nor failed
        for kind, item in getattr(report, "user_properties", ()):
            if kind == _PROPERTY and report.when == "teardown":
                found[item[0]] += item[1]
    if found:
        terminalreporter.section("how long the guest stayed frozen")
        for line in figures.summary(found):
            terminalreporter.write_line(line)
