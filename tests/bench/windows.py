"""Freeze windows as the guest itself records them, from its freeze hook to its thaw hook, in one run on one guest."""

from __future__ import annotations

from collections.abc import Callable

from snapshot.pve.https import Endpoint, HttpsTransport
from tests.bench.table import show
from tests.lab.fixtures import real_available
from tests.lab.guest.qmp import qmp
from tests.lab.guest.real import RealGuest
from tests.lab.guest.scripted import ScriptedGuest
from tests.lab.site import Site, site


def main(runs: int) -> None:
    """Measure and print; interleaved, so that a busy moment of the machine hits every kind alike."""
    real = real_available()
    with site(RealGuest if real else ScriptedGuest) as lab:
        token_id, _, secret = lab.node.token_file.read_text().strip().partition("=")
        api = HttpsTransport(Endpoint(lab.node.host, lab.node.port, token_id, secret, lab.node.ca_file))
        kinds: dict[str, Callable[[str], None]] = {
            "direct sockets: freeze, snapshot, thaw": lambda name: _direct(lab, name),
            "PVE's own freeze in a snapshot task": lambda name: _pve(lab, api, name),
            "safe-snapshot on the guest's node": lambda name: _ours(lab, name, "pve1"),
            "safe-snapshot from elsewhere (API only)": lambda name: _ours(lab, name, ""),
            "safe-snapshot, PVE's own freezing off": lambda name: _pve_keeps_out(lab, lambda: _ours(lab, name, "pve1")),
            "vzdump's own freeze (PVE 9.2)": lambda name: _backup(lab, None),
            "vzdump-hook, owner hook": lambda name: _backup(lab, "hook"),
            "owner hook, PVE's own freezing off": lambda name: _pve_keeps_out(lab, lambda: _backup(lab, "hook")),
            "vzdump-hook, owner vzdump": lambda name: _backup(lab, "vzdump"),
        }
        found: dict[str, list[float]] = {name: [] for name in kinds}
        for number in range(runs):
            for position, (kind, take) in enumerate(kinds.items()):
                before = len(lab.guest.windows())
                take(f"b{number}k{position}")
                found[kind] += lab.guest.windows()[before : before + 1]
        what = "real guest under TCG" if real else "scripted guest (no QEMU here)"
        show(f"Freeze windows, seen from inside the guest ({what})", "ms", found)


def _direct(lab: Site, name: str) -> None:
    with lab.guest.agent() as agent, qmp(lab.guest.run / f"{lab.guest.vmid}.qmp3") as monitor:
        agent.command("guest-fsfreeze-freeze")
        monitor.execute("blockdev-snapshot-internal-sync", {"device": "drive0", "name": name})
        agent.command("guest-fsfreeze-thaw")


def _pve(lab: Site, api: HttpsTransport, name: str) -> None:
    upid = api.request("POST", "nodes/pve1/qemu/100/snapshot", {"snapname": name, "vmstate": 0})
    lab.node.wait_task(str(upid))


def _ours(lab: Site, name: str, node: str) -> None:
    lab.settings.setdefault("local", {})["node"] = node
    lab.write_config()
    run = lab.safe_snapshot("100", "--name", name, "--policy", "require", "--quiet")
    if run.exit_code != 0:
        raise RuntimeError(run.text)


def _pve_keeps_out(lab: Site, take: Callable[[], None]) -> None:
    """With freeze-fs=0 in the guest's options PVE asks its agent nothing while the guest is frozen by us."""
    lab.only_we_freeze()
    try:
        take()
    finally:
        lab.node.set_config(100, agent="1")
        lab.rules = ""


def _backup(lab: Site, owner: str | None) -> None:
    if owner is not None:
        lab.settings["hook"] = {"owner": owner}
    job = lab.vzdump(100, script=None if owner else "/bin/true")
    with job:
        result = job.wait()
    if not result.ok:
        raise RuntimeError("\n".join(result.log_lines))
