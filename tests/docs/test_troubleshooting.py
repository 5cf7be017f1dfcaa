"""docs/troubleshooting.md: each message that it explains is one that somebody says."""

from __future__ import annotations

import re

import pytest

from tests.docs.said import TEXTS
from tests.docs.written import ROOT

PAGE = (ROOT / "docs/troubleshooting.md").read_text("utf-8")
ROWS = re.findall(r"(?m)^\| (`.*?) \|", PAGE)
MESSAGES = [message for cell in ROWS for message in re.findall(r"`([^`]+)`", cell)]


def test_the_page_was_read() -> None:
    assert len(MESSAGES) > 40


@pytest.mark.parametrize("message", MESSAGES)
def test_a_message_of_the_page_is_said_by_somebody(message: str) -> None:
    pieces = [piece.strip() for piece in message.split("...")]
    assert any(all(piece in text for piece in pieces) for text in TEXTS), message


def test_who_must_act_now_finds_it_first() -> None:
    assert PAGE.index("MAY STILL BE FROZEN") < PAGE.index("## The agent")
    assert "\n| `MAY STILL BE FROZEN` |" in PAGE.partition("\n## ")[2].partition("\n## ")[0]
