"""Fixture: which guest is pretended here."""

from __future__ import annotations

import pytest

from tests.guest.hooks.sandbox import HooksGuest


@pytest.fixture
def kind() -> type[HooksGuest]:
    return HooksGuest
