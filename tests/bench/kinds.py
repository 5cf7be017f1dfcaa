"""The ways to a frozen snapshot or backup that are compared: a name, and what takes one."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Callable, Sequence
from typing import Any

from snapshot.pve.https import Endpoint, HttpsTransport
from tests.lab.guest.qmp import qmp
from tests.lab.site import Site
from tests.lab.vzdump.testing import QUICK

DIRECT = "direct sockets: freeze, snapshot, thaw"
PVE = "PVE's own freeze in a snapshot task"
ON_THE_NODE = "safe-snapshot on the guest's node"
KNOCK = "safe-snapshot at the knock"
ELSEWHERE = "safe-snapshot from elsewhere (API only)"
ALONE = "safe-snapshot, PVE's own freezing off"
VZDUMP = "vzdump's own freeze"
HOOK = "vzdump-hook, owner hook"
HOOK_KNOCK = "owner hook at the knock"
HOOK_ALONE = "owner hook, PVE's own freezing off"
HOOK_VZDUMP = "vzdump-hook, owner vzdump"
HOOK_OWN = "owner hook, own commands"
HOOK_VZDUMP_OWN = "owner vzdump, own commands"
BACKUPS = (VZDUMP, HOOK, HOOK_KNOCK, HOOK_ALONE, HOOK_VZDUMP, HOOK_OWN, HOOK_VZDUMP_OWN)

OWN_COMMAND = """#!/bin/sh
# In every phase: some time, a flood, and a daemon that keeps its pipe for a while.
sleep 0.1
yes | head -c 10000000
sleep 3 &
"""

Take = Callable[[str], str]
"""Takes a snapshot of that name, or a backup; the UPID of PVE's task, "" where there is none of it."""


def kinds(lab: Site, disks: Sequence[str] = ("drive0",)) -> dict[str, Take]:
    """Every kind, on the first guest of the site. RuntimeError with its output from one that failed.

    A snapshot of ours that is not proven is one, where PVE lets it be proven: since qemu-server 9.1.10.
    """
    token_id, _, secret = lab.node.token_file.read_text().strip().partition("=")
    api = HttpsTransport(Endpoint(lab.node.host, lab.node.port, token_id, secret, lab.node.ca_file))
    return {
        DIRECT: lambda name: _direct(lab, name, disks),
        PVE: lambda name: _pve(lab, api, name),
        ON_THE_NODE: lambda name: ours(lab, name, "pve1"),
        KNOCK: lambda name: _at_the_knock(lab, lambda: ours(lab, name, "pve1")),
        ELSEWHERE: lambda name: ours(lab, name, ""),
        ALONE: lambda name: _pve_keeps_out(lab, lambda: ours(lab, name, "pve1")),
        VZDUMP: lambda _: backup(lab, None),
        HOOK: lambda _: backup(lab, "hook"),
        HOOK_KNOCK: lambda _: _at_the_knock(lab, lambda: backup(lab, "hook")),
        HOOK_ALONE: lambda _: _pve_keeps_out(lab, lambda: backup(lab, "hook")),
        HOOK_VZDUMP: lambda _: backup(lab, "vzdump"),
        HOOK_OWN: lambda _: with_own_command(lab, OWN_COMMAND, lambda: backup(lab, "hook")),
        HOOK_VZDUMP_OWN: lambda _: with_own_command(lab, OWN_COMMAND, lambda: backup(lab, "vzdump")),
    }


def setting(text: str) -> dict[str, dict[str, Any]]:
    """``table.key=value`` (TOML) as tables of the configuration. ValueError for what is none."""
    tables = tomllib.loads(text)
    if not tables or not all(isinstance(values, dict) for values in tables.values()):
        raise ValueError(f"{text}: no table.key=value")
    return tables


def overlay(lab: Site, settings: Sequence[str]) -> None:
    """Lay settings over the site's configuration: see setting."""
    for text in settings:
        for table, values in setting(text).items():
            lab.settings.setdefault(table, {}).update(values)
    lab.write_config()


def _direct(lab: Site, name: str, disks: Sequence[str]) -> str:
    with lab.guest.agent() as agent, qmp(lab.guest.run / f"{lab.guest.vmid}.qmp3") as monitor:
        agent.command("guest-fsfreeze-freeze")
        for disk in disks:
            monitor.execute("blockdev-snapshot-internal-sync", {"device": disk, "name": name})
        agent.command("guest-fsfreeze-thaw")
    return ""


def _pve(lab: Site, api: HttpsTransport, name: str) -> str:
    upid = str(api.request("POST", "nodes/pve1/qemu/100/snapshot", {"snapname": name, "vmstate": 0}))
    lab.node.wait_task(upid)
    return upid


def ours(lab: Site, name: str, node: str, policy: str = "") -> str:
    """A snapshot of that name, on ``node`` or from elsewhere; ``policy``: else the strictest that can be proven."""
    lab.settings.setdefault("local", {})["node"] = node
    lab.write_config()
    policy = policy or ("require" if lab.node.settings.at_least("9.1.10") else "prefer")
    run = lab.safe_snapshot("--json", "100", "--name", name, "--policy", policy, "--quiet")
    if run.exit_code != 0:
        raise RuntimeError(run.text)
    told: dict[str, Any] = json.loads(run.stdout)
    return str(told.get("upid") or "")


def _pve_keeps_out(lab: Site, take: Callable[[], str]) -> str:
    """With freeze-fs=0 in the guest's options PVE asks its agent nothing while the guest is frozen by us: its snapshots
    from 9.1.5 on. The option's oldest name is known to every version.
    """
    lab.only_we_freeze("1,freeze-fs-on-backup=0")
    try:
        return take()
    finally:
        lab.node.set_config(100, agent="1")
        lab.rules = ""


def _at_the_knock(lab: Site, take: Callable[[], str]) -> str:
    """From the fourth of our short freezes on; before it the guest is frozen in sequence."""
    lab.settings.setdefault("freeze", {})["at_the_knock"] = True
    lab.write_config()
    try:
        return take()
    finally:
        lab.settings["freeze"]["at_the_knock"] = False
        lab.write_config()


def with_own_command(lab: Site, text: str, take: Callable[[], str], mode: int = 0o755) -> str:
    """Take one with that command in the folder. RuntimeError as from ``take``."""
    folder = lab.run / "hooks.d"
    folder.mkdir(mode=0o755, exist_ok=True)
    folder.chmod(0o755)
    path = folder / "10-bench"
    path.write_text(text)
    path.chmod(mode)
    try:
        return take()
    finally:
        path.unlink()


def backup(lab: Site, owner: str | None) -> str:
    """With our hook and that owner, or without one. RuntimeError with its log from one that failed."""
    if owner is not None:
        lab.settings.setdefault("hook", {})["owner"] = owner
    job = lab.vzdump(100, script=None if owner else "/bin/true", limits=QUICK)
    with job:
        result = job.wait()
    if not result.ok:
        raise RuntimeError("\n".join(result.log_lines))
    return str(result.upid)
