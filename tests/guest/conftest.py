"""Fixtures: the pretended guest that the test asks for by its kind, under one shell or under each."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.guest.sandbox import SHELLS, Sandbox, sandbox


@pytest.fixture(params=SHELLS)
def guest(request: pytest.FixtureRequest, kind: type[Sandbox]) -> Iterator[Sandbox]:
    with sandbox(kind, request.param) as found:
        yield found


@pytest.fixture
def dash_guest(kind: type[Sandbox]) -> Iterator[Sandbox]:
    with sandbox(kind) as found:
        yield found
