"""The units of contrib/systemd as text; tests/process runs them under a real systemd, without a real pvesh."""

from __future__ import annotations

from pathlib import Path

import pytest

UNITS = Path(__file__).resolve().parents[2] / "contrib/systemd"


@pytest.mark.parametrize("name", ["safe-snapshot-recover.service", "sample/safe-snapshot@.service"])
def test_pvesh_can_reach_a_guest_on_another_node_from_within_the_unit(name: str) -> None:
    """It goes there by ssh with the key in /root/.ssh, which ProtectHome=yes hides."""
    settings = dict(line.split("=", 1) for line in (UNITS / name).read_text().splitlines() if "=" in line[:40])
    assert settings["ProtectHome"] == "read-only"
    assert settings["ReadWritePaths"] == "-/etc/pve"
    assert {"AF_UNIX", "AF_INET", "AF_INET6"} <= set(settings["RestrictAddressFamilies"].split())
