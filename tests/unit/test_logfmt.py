"""Log lines as a collector parses them: nothing that a guest or PVE says can end a value or the line."""

from __future__ import annotations

import json
import re

import pytest

from snapshot.base import logfmt
from snapshot.guard.link import GuardSpec
from tests.campaign.kit import guard_spec

UPID = "UPID:pve1:0003A5F1:01B2C3D4:65A1B2C3:vzdump:100:root@pam!token:"


def parse(line: str) -> dict[str, str]:
    """As Loki's logfmt parser does: bare words, and strings in double quotes with escapes."""
    pairs = re.findall(r'(\w+)=("(?:[^"\\]|\\.)*"|\S+)', line)
    assert " ".join(f"{key}={value}" for key, value in pairs) == line, "nothing is left over"
    return {key: json.loads(value) if value.startswith('"') else value for key, value in pairs}


def test_plain_values_are_bare_and_empty_ones_are_left_out() -> None:
    line = logfmt.line("thawed", vmid=100, node="pve1", window_seconds=0.61649, route="", upid=None)
    assert line == "event=thawed vmid=100 node=pve1 window_seconds=0.616"


@pytest.mark.parametrize("text", ['say "no"', "a\nb\r\x00c", "back\\slash", "x y=z", "ümlaut", '" vmid=999 x="', "a=b"])
def test_a_value_cannot_break_out_of_its_quotes(text: str) -> None:
    line = logfmt.line("step", detail=text, vmid=100)
    assert "\n" not in line
    assert parse(line) == {"event": "step", "detail": text, "vmid": "100"}


def test_a_guard_of_a_backup_names_the_task_and_the_phase() -> None:
    spec = guard_spec(upid=UPID)
    again = GuardSpec.from_json(spec.to_json())
    assert parse(logfmt.line("thawing", **again.log_keys)) == {
        "event": "thawing",
        "vmid": "100",
        "node": "a",
        "window": "w1",
        "phase": "post-restart",
        "upid": UPID,
    }
    assert "upid" not in parse(logfmt.line("thawing", **guard_spec().log_keys))
