"""What is looked at before a drill: nothing is frozen where a part is broken that would have to thaw.

Each check has the part's name. What the doctor knows too is his word, by his codes; the drill itself looks at what he
does not: the guards, whether the journal can be written, the guest's socket. What only shows when it is used (a mail,
the metrics' file) is used at the drill's end.
"""

from __future__ import annotations

import stat
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from pathlib import Path

from snapshot.config.settings import Config, LauncherKind
from snapshot.doctor.facts import Look
from snapshot.doctor.findings import NOT_KNOWN
from snapshot.errors import JournalError
from snapshot.guard.launcher import uses_systemd
from snapshot.journal.store import Journal
from snapshot.model import Check, CheckResult, Vmid
from snapshot.pve.access import Access

AHEAD_SECONDS = 5.0
"""How far ahead of the clock a window in the journal may lie: the clock has gone back since."""

UNHEARD = frozenset({"textfile-folder", "textfile-not-read"})
"""Codes of the doctor's for metrics that nobody reads."""

PARTS: Mapping[str, str] = {
    **dict.fromkeys(("recover-not-run", "recover-fails", "look-old"), "unit"),
    **dict.fromkeys(("no-token", "token-unusable", "api-denied"), "token"),
    **dict.fromkeys(("no-way", "api-unreachable", "api-failing", "certificate-refused", "certificate-expires"), "api"),
    **dict.fromkeys(("state-folder", "state-full", "journal-broken"), "state"),
    **dict.fromkeys(("clock-off", "clock-not-synced"), "clock"),
    **dict.fromkeys((*UNHEARD, "metrics-stale", "nobody-told"), "metrics"),
    "letters-not-sent": "notify",
}
"""The doctor's codes that are about a part of the drill's."""
_BROKEN = frozenset(
    {
        *("recover-not-run", "token-unusable", "api-denied", "no-way", "api-unreachable", "api-failing"),
        *("certificate-refused", "state-folder"),
    }
)
"""Those with which no guest is frozen on purpose."""
_WELL = {"recover": "unit", "api": "token"}
"""Looks of the doctor's that say something where all is well, by their names, and the part that is well then."""

_OK, _WARNING, _FAILED = CheckResult.OK, CheckResult.WARNING, CheckResult.FAILED


def parts(access: Access, vmid: Vmid, looks: Sequence[Look]) -> tuple[Check, ...]:
    """Every part that thaws, or tells of it. ``looks``: the doctor's. Nothing raises."""
    found = (*_guards(access), *asked(looks), *_state(access), *_socket(access, vmid))
    broken = {check.name for check in found if check.result is _FAILED}
    return tuple(check for check in found if check.result is not _OK or check.name not in broken)


def asked(looks: Sequence[Look]) -> Iterator[Check]:
    """What the doctor has found of the drill's parts, by their names; that all is well where he found nothing."""
    for look in looks:
        checks = list(_of_look(look))
        if not checks and look.name in _WELL:
            yield Check(_WELL[look.name], _OK, look.text)
        yield from checks


def _of_look(look: Look) -> Iterator[Check]:
    for found in look.findings:
        part = PARTS.get(found.code, "")
        if found.code == NOT_KNOWN and look.name == "recover":
            part = "unit"
        if part:
            result = _FAILED if found.code in _BROKEN else _WARNING
            yield Check(part, result, found.text, found.remedy, found.code)


def unheard(checks: Sequence[Check], config: Config) -> str:
    """Why nobody would see the metrics, as the doctor found it, and what to do; "" where somebody does. The guest is
    thawed all the same, so nothing waits for that: it is named at the drill's end.
    """
    if config.metrics.pushgateway is not None:
        return ""
    return next((f"{check.message}: {check.remedy}" for check in checks if check.code in UNHEARD), "")


def _guards(access: Access) -> Iterator[Check]:
    if uses_systemd(access.config):
        yield Check("systemd", _OK, "guards are units of their own: systemd starts a killed one again")
        return
    is_chosen = access.config.guard.launcher is LauncherKind.DETACHED
    why = '[guard] launcher = "detached"' if is_chosen else "systemd does not run here, or we are not root"
    yield Check("systemd", _WARNING, f"{why}: nobody starts a killed guard again, so its round is not played")


def _state(access: Access) -> Iterator[Check]:
    """The journal can be written, and the clock has not gone back behind it."""
    path = access.config.journal.path
    now = access.clock.time()
    try:
        with closing(Journal(path)) as journal:
            journal.set_note("drill-begun", "1", now)
            newest = max((window.intent_at for window in journal.history(limit=1)), default=0.0)
    except JournalError as error:
        yield Check("state", _FAILED, error.message, error.remedy or f"look at {path.parent}")
        return
    yield Check("state", _OK, f"{path} can be written")
    if newest > now + AHEAD_SECONDS:
        what = f"it is {newest - now:.0f} s behind the newest window in the journal: it was set back"
        yield Check("clock", _FAILED, what, "`timedatectl` shows it; chrony sets it right")
    else:
        yield Check("clock", _OK, "not behind the journal")


def _socket(access: Access, vmid: Vmid) -> tuple[Check, ...]:
    """The agent's own socket: the one way that needs nothing but QEMU."""
    folder = access.config.local.socket_folder
    remedy = "see [local] socket_folder; PVE's is /var/run/qemu-server"
    if not access.local_node:
        missing = "" if folder.is_dir() else f"there is no folder {folder}, so "
        what = f"{missing}this machine passes for no node: a drill is held on the guest's own"
        return (Check("socket", _FAILED, what, remedy),)
    path = folder / f"{vmid}.qga"
    if not _is_socket(path):
        return (Check("socket", _FAILED, f"{path} is no agent's socket, or is not there", remedy),)
    return (Check("socket", _OK, f"{path} is there"),)


def _is_socket(path: Path) -> bool:
    try:
        return stat.S_ISSOCK(path.stat().st_mode)
    except OSError:
        return False
