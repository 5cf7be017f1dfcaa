"""What the doctor may find: one table of codes, the source of docs/findings.md. Pure.

A code is a fixed word: monitoring and scripts go by it. A check of the preflight has the same word in ``Check.code``.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from typing import NamedTuple

from snapshot.base.text import clean
from snapshot.doctor.codes import CODES as INSTALLATION_CODES
from snapshot.doctor.codes import Code
from snapshot.doctor.guestcodes import GUEST_CODES
from snapshot.model import Check

CODES: Mapping[str, Code] = {**INSTALLATION_CODES, **GUEST_CODES}
"""Every code. A test holds each to a case that raises it and one that does not."""


class Severity(Enum):
    """How serious a finding is."""

    ERROR = "error"
    """Guests are not guarded, or one needs help now."""
    WARNING = "warning"
    """Something will not be as good as it should, or nobody would be told."""
    NOTE = "note"
    """Worth knowing; nothing has to be done. What cannot be asked from where the doctor stands is one too."""


class Finding(NamedTuple):
    """One thing that was found."""

    code: str
    """A word with a heading in docs/findings.md."""
    severity: Severity
    subject: str
    """What it is about: ``guest 100``, ``node pve1``, ``job backup-1``, ``configuration``."""
    text: str
    """What was found, in one line."""
    remedy: str = ""
    """What to do about it: a command for this very guest or machine wherever one can be given."""
    vmid: int | None = None
    """The guest that it is about."""


def finding(code: str, subject: str, text: str, remedy: str = "", vmid: int | None = None) -> Finding:
    """A finding with the severity that the table gives its code. KeyError for a word that is none."""
    return Finding(code, Severity(CODES[code].severity), subject, clean(text, 600), clean(remedy, 900), vmid)


def of_check(check: Check, vmid: int) -> Finding | None:
    """A check of the preflight as a finding; None where all is well."""
    if not check.code:
        return None
    return finding(check.code, f"guest {vmid}", check.message, check.remedy, vmid)


NOT_EXAMINED = "not-examined"
NOT_KNOWN = "not-known"


def not_known(subject: str, text: str, remedy: str = "", vmid: int | None = None) -> Finding:
    """What cannot be asked from here. Never called well."""
    return finding(NOT_KNOWN, subject, text, remedy, vmid)


def worst_first(found: Finding) -> int:
    """A key to sort by."""
    return list(Severity).index(found.severity)
