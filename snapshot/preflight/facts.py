"""What a guest tells of itself through its agent: OS, host name, addresses, filesystems. The guest is not trusted."""

from __future__ import annotations

from typing import NamedTuple

from snapshot.base.text import clean
from snapshot.model import Check, CheckResult
from snapshot.pve import agent, remedies
from snapshot.pve.agent import AgentChannel, AgentRefusedError, AgentReplyLostError, CommandNotSentError

NO_FREEZE_TYPES = frozenset(
    {
        *("zfs", "tmpfs", "ramfs", "overlay", "squashfs", "erofs", "iso9660", "udf", "cdfs"),
        *("vfat", "fat", "fat32", "msdos", "exfat", "ntfs3", "fuseblk"),
        *("nfs", "nfs4", "cifs", "smb3", "9p", "virtiofs"),
    }
)
"""Filesystems whose drivers take no freeze (Linux: no ``freeze_fs``; Windows: VSS does not know them). Lower case."""
VIRTFS = "/home/virtfs/"
"""Where cPanel mounts the same filesystems again for each user."""


class Filesystem(NamedTuple):
    """One row of guest-get-fsinfo: what the agent would try to freeze. ZFS and network mounts are in none."""

    mountpoint: str
    kind: str
    device: str

    @property
    def can_freeze(self) -> bool:
        """Whether its driver does, as far as its type tells."""
        return self.kind.lower() not in NO_FREEZE_TYPES and not self.kind.startswith("fuse.")

    def __str__(self) -> str:
        return f"{self.mountpoint} ({self.kind})"


def filesystems(channel: AgentChannel) -> list[Filesystem] | None:
    """What the agent lists; None when it does not say, or its list makes no sense."""
    rows = _ask(channel, "get-fsinfo")
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        return None
    return [
        Filesystem(
            *(clean(str(row.get(key, "?")), limit) for key, limit in (("mountpoint", 60), ("type", 20), ("name", 60)))
        )
        for row in rows
    ]


def check_of(found: list[Filesystem] | None) -> list[Check]:
    """Whether anything in the guest can be frozen, and what is known to make trouble."""
    name = "filesystems"
    if found is None:
        text = "not known: the agent does not list its filesystems in a way that makes sense"
        return [
            Check(name, CheckResult.WARNING, text, "a freeze shows what it can; it is tried", "filesystems-not-known")
        ]
    if not any(one.can_freeze for one in found):
        seen = ", ".join(map(str, found[:5])) or "none"
        return [
            Check(
                name,
                CheckResult.NO_FREEZE,
                f"nothing in the guest can be frozen: ZFS and network filesystems cannot, and its agent lists {seen}",
                "set policy never for it; what such a guest writes is as safe as its own journal makes it",
                "nothing-to-freeze",
            )
        ]
    loops = [one for one in found if one.device.startswith("loop") and one.can_freeze]
    again = [one for one in found if one.mountpoint.startswith(VIRTFS)]
    trouble = [
        (loops, "a loop mount can deadlock the guest in a freeze", remedies.LOOP_MOUNT, "loop-mount"),
        (
            again,
            "cPanel's virtfs mounts make the freeze of older agents fail",
            "install a newer agent in the guest",
            "virtfs",
        ),
    ]
    return [
        Check(name, CheckResult.WARNING, f"{what}: {', '.join(map(str, which[:5]))}", remedy, code)
        for which, what, remedy, code in trouble
        if which
    ]


def guest_facts(channel: AgentChannel, found: list[Filesystem] | None) -> dict[str, object]:
    """OS, host name, addresses and filesystems as the agent tells them; what it does not tell is left out."""
    told = {
        "os": _os_name(_ask(channel, "get-osinfo")),
        "host_name": _text(_ask(channel, "get-host-name"), "host-name"),
        "addresses": _addresses(_ask(channel, "network-get-interfaces")),
        "filesystems": [str(one) for one in found or ()],
    }
    return {name: value for name, value in told.items() if value}


def _ask(channel: AgentChannel, command: str) -> object:
    try:
        return channel.call(command, timeout_seconds=agent.STATUS_SECONDS)
    except (CommandNotSentError, AgentReplyLostError, AgentRefusedError):
        return None


def _text(answer: object, key: str) -> str:
    value = answer.get(key) if isinstance(answer, dict) else None
    return clean(value, 80) if isinstance(value, str) else ""


def _os_name(answer: object) -> str:
    return next((name for key in ("pretty-name", "name", "id") if (name := _text(answer, key))), "")


def _addresses(answer: object) -> list[str]:
    interfaces = [row for row in answer if isinstance(row, dict)] if isinstance(answer, list) else []
    listed = (interface.get("ip-addresses") for interface in interfaces)
    found = (_text(row, "ip-address") for rows in listed if isinstance(rows, list) for row in rows)
    return [address for address in found if address and not address.startswith(("127.", "::1", "fe80"))]
