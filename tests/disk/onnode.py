"""Our commands on the lab's node, with PVE's ``pvesm`` in their way: it names one file for whatever volume."""

from __future__ import annotations

from pathlib import Path

from tests.lab.site import Run, Site, environment, run_command


def put_pvesm(lab: Site, disk: Path) -> None:
    """``pvesm path <volume>`` prints ``disk`` from now on."""
    program = lab.node.root / "usr/bin/pvesm"
    program.write_text(f'#!/bin/sh\n[ "$1" = path ] && echo "{disk}"\n')
    program.chmod(0o755)


def on_node(lab: Site, *arguments: str) -> Run:
    """Run safe-snapshot to its end."""
    path = f"{lab.node.root}/usr/bin:{environment()['PATH']}"
    return run_command(lab.command(*arguments), env={**environment(), "PATH": path})
