"""Fixture: which guest is pretended here."""

from __future__ import annotations

import pytest

from tests.guest.deadman.sandbox import DeadmanGuest


@pytest.fixture
def kind() -> type[DeadmanGuest]:
    return DeadmanGuest
