"""What is looked at before a drill: nothing is frozen where a part is broken that would have to thaw.

Each check has the part's name. What only shows when it is used (a mail, the metrics' file) is used at the drill's end.
"""

from __future__ import annotations

import stat
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

from snapshot.base import detached
from snapshot.config.settings import LauncherKind
from snapshot.config.token import has_file
from snapshot.doctor.machine import TIMER
from snapshot.errors import ApiDeniedError, ApiError, ConfigError, JournalError
from snapshot.guard.launcher import uses_systemd
from snapshot.journal.store import Journal
from snapshot.model import Check, CheckResult, Vmid
from snapshot.pve.access import Access
from snapshot.pve.credentials import Credentials

SYSTEMCTL_SECONDS = 10.0

AHEAD_SECONDS = 5.0
"""How far ahead of the clock a window in the journal may lie: the clock has gone back since."""

_OK, _WARNING, _FAILED = CheckResult.OK, CheckResult.WARNING, CheckResult.FAILED


def parts(access: Access, vmid: Vmid) -> tuple[Check, ...]:
    """Every part that thaws, or tells of it. Nothing raises."""
    return tuple(c for check in (_unit, _guards, _token, _state) for c in check(access)) + _socket(access, vmid)


def _unit(access: Access) -> Iterator[Check]:
    if not detached.systemd_is_running():
        what = "systemd does not run here, or we are not root: nothing is said of the timer"
        yield Check("unit", _WARNING, what)
        return
    for word, what in (("is-enabled", "is not enabled"), ("is-active", "does not run")):
        try:
            status, _ = detached.run(("systemctl", "--quiet", word, TIMER), SYSTEMCTL_SECONDS)
        except OSError as error:
            yield Check("unit", _FAILED, f"systemctl cannot be asked ({error})")
            return
        if status != 0:
            yield Check("unit", _FAILED, f"{TIMER} {what}", f"`systemctl enable --now {TIMER}`")
            return
    yield Check("unit", _OK, f"{TIMER} is enabled and runs")


def _guards(access: Access) -> Iterator[Check]:
    if uses_systemd(access.config):
        yield Check("systemd", _OK, "guards are units of their own: systemd starts a killed one again")
        return
    is_chosen = access.config.guard.launcher is LauncherKind.DETACHED
    why = '[guard] launcher = "detached"' if is_chosen else "systemd does not run here, or we are not root"
    yield Check("systemd", _WARNING, f"{why}: nobody starts a killed guard again, so its round is not played")


def _token(access: Access) -> Iterator[Check]:
    if access.api is None:
        yield _no_token(access)
        return
    try:
        access.api.request("GET", "version", timeout_seconds=AHEAD_SECONDS)
    except ApiDeniedError as error:
        yield Check("token", _FAILED, error.message, error.remedy)
    except ApiError as error:
        yield Check("api", _FAILED, error.message, error.remedy or "look at pveproxy and pvedaemon on the node")
    else:
        yield Check("token", _OK, f"{access.api.name} takes it")


def _no_token(access: Access) -> Check:
    if not has_file(access.config):
        return Check("token", _WARNING, "there is none: pvesh stands in for the API")
    try:
        (access.credentials or Credentials(access.config)).wait()
    except (ConfigError, ApiError) as error:
        return Check("token", _FAILED, error.message, error.remedy)
    return Check("token", _FAILED, "it cannot be used", "see [api] token_file")


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
