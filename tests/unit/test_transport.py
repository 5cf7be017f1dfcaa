"""Foreign words and statuses, made fit for an operator."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from snapshot.base.text import clean
from snapshot.errors import ApiDeniedError, ApiFailureError, ReplyLostError
from snapshot.pve.transport import GATEWAY_STATUSES, error_of_status


@given(st.text(), st.integers(1, 400))
def test_clean_text_is_one_printable_line_within_its_limit(text: str, limit: int) -> None:
    line = clean(text, limit)
    assert line.isprintable()
    assert len(line) <= limit
    assert line == line.strip()
    assert "  " not in line


@given(st.integers(100, 999), st.text())
def test_every_status_is_one_of_three_errors_with_a_text(status: int, text: str) -> None:
    error = error_of_status(status, text, "pve1")
    assert error.message.startswith("pve1")
    assert error.message.isprintable()
    if status in (401, 403):
        assert isinstance(error, ApiDeniedError)
    elif status in GATEWAY_STATUSES:
        assert isinstance(error, ReplyLostError)
    else:
        assert isinstance(error, ApiFailureError)
        assert error.status == status


@pytest.mark.parametrize("text", ["", "  ", "\x00\n"])
def test_a_status_without_words_gets_some(text: str) -> None:
    assert "HTTP status 500 without a text" in error_of_status(500, text, "pve1").message
