"""Fixtures: a pretended guest, under one shell or under each."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.guesthooks.sandbox import SHELLS, Sandbox, sandbox


@pytest.fixture(params=SHELLS)
def guest(request: pytest.FixtureRequest) -> Iterator[Sandbox]:
    with sandbox(request.param) as found:
        yield found


@pytest.fixture
def dash_guest() -> Iterator[Sandbox]:
    with sandbox() as found:
        yield found
