"""docs/many-guests.md: each command of ours that stands beside another tool's is run, and means whom the page says."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest

from snapshot.config.labels import labels_of
from tests.json_schema import follows_the_schema
from tests.lab.node.node import GuestSpec
from tests.lab.site import Site, site

PAGE = (Path(__file__).parents[2] / "docs" / "many-guests.md").read_text()
BESIDE = PAGE.partition("## Beside other tools")[2]


def rows(head: str) -> list[list[str]]:
    """The cells of the table under this head."""
    lines = BESIDE[BESIDE.index(head) :].splitlines()
    table = lines[2 : lines.index("")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in table]


CLUSTER = rows("| vmid | name |")
SELECTIONS = rows("| theirs | ours | means |")
LABELS = rows("| theirs | ours: the guest's tag")
COMMANDS = [
    (command, means) for _, ours, means in (*SELECTIONS, *LABELS) for command in re.findall(r"`(safe-.*?)`", ours)
]
EXAMPLES = [line.partition("   ")[0] for line in re.findall(r"(?m)^safe-snapshot .*", PAGE)]


@pytest.fixture(scope="module")
def lab() -> Iterator[Site]:
    """The page's own cluster; nobody is running, which a check takes for well."""
    with site(nodes=("pve1", "pve2", "pve3")) as found:
        for vmid, name, node, pool, tags, what in CLUSTER:
            config: dict[str, str | None] = {"tags": tags or None}
            config["hostname" if what == "container" else "name"] = name
            if what == "template":
                config["template"] = "1"
            kind = "lxc" if what == "container" else "qemu"
            found.node.add_guest(
                GuestSpec(
                    int(vmid), kind=kind, node=node, pool=pool, config=config, run=found.run / "off", running=False
                )
            )
        yield found


def meant(lab: Site, command: str) -> list[int]:
    program, *words = shlex.split(command)
    assert program == "safe-snapshot"
    done = lab.safe_snapshot("--json", *words)
    assert done.exit_code == 0, done
    found = follows_the_schema(done.json)
    guests: list[dict[str, dict[str, int]]] = found.get("guests", [found])
    return [one["guest"]["vmid"] for one in guests]


def test_the_page_was_read() -> None:
    assert len(CLUSTER) == 7
    assert len(SELECTIONS) > 25
    assert len(LABELS) > 5
    assert len(COMMANDS) == len(SELECTIONS) + len(LABELS)
    peers = ("cv4pve-autosnap", "eve4pve-autosnap", "pve-zsync", "proxmox-autosnap", "zrepl", "sanoid", "vzdump")
    for peer in (*peers, "zfs-auto-snapshot", "Proxmox Backup Server", "pve-autosnap"):
        assert any(peer in theirs for theirs, *_ in (*SELECTIONS, *LABELS)), peer


@pytest.mark.parametrize(("command", "means"), COMMANDS, ids=[f"{n}: {c}" for n, (c, _) in enumerate(COMMANDS)])
def test_a_command_beside_another_tools_means_whom_the_page_says(lab: Site, command: str, means: str) -> None:
    assert meant(lab, command) == [int(vmid) for vmid in means.split()]


@pytest.mark.parametrize("row", LABELS, ids=[row[0] for row in LABELS])
def test_a_tag_beside_another_tools_label_is_a_label(row: list[str]) -> None:
    for tag in re.findall(r"`(snap-[^`]*)`", row[1]):
        assert labels_of([tag]).labels
        assert not labels_of([tag]).odd


@pytest.mark.parametrize(
    "text", ["snap-daily", "snap-7", "snap_daily_7", "snapdaily7", "snaps-daily-7", "snap-dayly-7"]
)
def test_a_tag_that_the_page_calls_odd_is_told(text: str) -> None:
    assert f"`{text}`" in PAGE
    assert labels_of([text]).odd


@pytest.mark.parametrize("command", EXAMPLES)
def test_an_example_is_a_line_that_is_understood(lab: Site, command: str) -> None:
    """Its guests are other ones than the page's cluster has, so some are named by nobody."""
    program, *words = shlex.split(command)
    assert program == "safe-snapshot"
    done = lab.safe_snapshot(*words)
    assert done.exit_code in (0, 4), done
    assert done.exit_code == 0 or "no guest" in done.stderr, done
