"""What the modelled agent knows: its commands, their arguments, and what a guest says about itself.

Taken from Debian 12's agent in the lab's real guest; tests/contract compares the two.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from typing import Any

FREEZE = "guest-fsfreeze-freeze"
FREEZE_LIST = "guest-fsfreeze-freeze-list"
THAW = "guest-fsfreeze-thaw"
STATUS = "guest-fsfreeze-status"
# The agent's own list (QEMU's qga/main.c): all that is enabled while it believes that it is frozen.
ENABLED_WHILE_FROZEN = frozenset({"guest-ping", "guest-info", "guest-sync", "guest-sync-delimited", STATUS, THAW})
# name -> whether it answers on success, in the order in which a real 7.2 agent lists them.
COMMANDS: dict[str, bool] = {
    **dict.fromkeys(("guest-get-cpustats", "guest-get-diskstats"), True),
    **dict.fromkeys((f"guest-ssh-{verb}-authorized-keys" for verb in ("remove", "add", "get")), True),
    **dict.fromkeys(("guest-get-devices", "guest-get-osinfo", "guest-get-timezone", "guest-get-users"), True),
    **dict.fromkeys(("guest-get-host-name", "guest-exec", "guest-exec-status", "guest-get-memory-block-info"), True),
    **dict.fromkeys(("guest-set-memory-blocks", "guest-get-memory-blocks", "guest-set-user-password"), True),
    **dict.fromkeys(("guest-get-fsinfo", "guest-get-disks", "guest-set-vcpus", "guest-get-vcpus"), True),
    "guest-network-get-interfaces": True,
    **dict.fromkeys(("guest-suspend-hybrid", "guest-suspend-ram", "guest-suspend-disk"), False),
    **dict.fromkeys(("guest-fstrim", THAW, FREEZE_LIST, FREEZE, STATUS), True),
    **dict.fromkeys((f"guest-file-{verb}" for verb in ("flush", "seek", "write", "read", "close", "open")), True),
    "guest-shutdown": False,
    **dict.fromkeys(("guest-info", "guest-set-time", "guest-get-time", "guest-ping"), True),
    **dict.fromkeys(("guest-sync", "guest-sync-delimited"), True),
}
# Commands this build of the agent has but does not do, with their arguments: the rest takes none.
UNSUPPORTED = frozenset({"guest-get-devices"})
ARGUMENTS: dict[str, tuple[str, type | None, bool]] = {
    "guest-sync": ("id", int, True),
    "guest-sync-delimited": ("id", int, True),
    FREEZE_LIST: ("mountpoints", list, False),
    "guest-shutdown": ("mode", str, False),
    "guest-file-open": ("path", str, True),
}
JSON_TYPES = {int: "integer", list: "array", str: "string"}


@dataclasses.dataclass(frozen=True)
class GuestFacts:
    """What a guest says about itself. ``LINUX`` is the lab's real guest."""

    osinfo: Mapping[str, str]
    host_name: str = "lab"
    addresses: tuple[str, ...] = ("192.0.2.101",)
    fsinfo: tuple[Mapping[str, Any], ...] = ()
    version: str = "7.2.22"


_VIRTIO_DISK = {
    "bus-type": "virtio",
    "bus": 0,
    "unit": 0,
    "pci-controller": {"bus": 0, "slot": 1, "domain": 0, "function": 0},
    "dev": "/dev/vda",
    "target": 0,
}
LINUX = GuestFacts(
    osinfo={
        "name": "Lab guest",
        "kernel-release": "6.1.0-56-cloud-amd64",
        "version": "1",
        "pretty-name": "Lab guest 1",
        "version-id": "1",
        "kernel-version": "#1 SMP PREEMPT_DYNAMIC Debian 6.1.192-2 (2026-11-16)",
        "machine": "x86_64",
        "id": "lab",
    },
    fsinfo=(
        {
            "name": "vda",
            "total-bytes": 52685824,
            "mountpoint": "/data",
            "disk": [_VIRTIO_DISK],
            "used-bytes": 15360,
            "type": "ext4",
        },
    ),
)
WINDOWS = GuestFacts(
    osinfo={
        "name": "Microsoft Windows",
        "kernel-release": "20348",
        "version": "Microsoft Windows Server 2022",
        "variant": "server",
        "pretty-name": "Windows Server 2022 Standard",
        "version-id": "2022",
        "variant-id": "server",
        "kernel-version": "10.0",
        "machine": "x86_64",
        "id": "mswindows",
    },
    host_name="WIN-LAB",
    fsinfo=(
        {
            "name": "\\\\?\\Volume{4c1b02c1-0000-0000-0000-100000000000}\\",
            "total-bytes": 52685824,
            "mountpoint": "C:\\",
            "disk": [],
            "used-bytes": 15360,
            "type": "NTFS",
        },
    ),
)


def interfaces(addresses: Iterable[str]) -> list[dict[str, Any]]:
    """What guest-network-get-interfaces answers for a guest with these addresses."""
    statistics = {f"{way}-{what}": 0 for way in ("tx", "rx") for what in ("packets", "errs", "bytes", "dropped")}

    def interface(name: str, hardware: str, pairs: list[tuple[str, int]]) -> dict[str, Any]:
        found = [
            {"ip-address-type": "ipv6" if ":" in ip else "ipv4", "ip-address": ip, "prefix": prefix}
            for ip, prefix in pairs
        ]
        return {"name": name, "ip-addresses": found, "statistics": statistics, "hardware-address": hardware}

    return [
        interface("lo", "00:00:00:00:00:00", [("127.0.0.1", 8), ("::1", 128)]),
        interface("dummy0", "02:00:00:00:00:01", [(ip, 64 if ":" in ip else 24) for ip in addresses]),
    ]
