"""Each command of ours in the pages is run, on a node of the lab with guests that the pages could mean."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.docs.written import OURS, Command, by
from tests.engine.kit import check
from tests.lab.guest.scripted import ScriptedGuest
from tests.lab.node.node import GuestSpec
from tests.lab.site import Site, site

ELSEWHERE = {
    ("safe-snapshot", "setup"): "tests/setup: it writes into this machine's /etc",
    ("safe-snapshot", "drill"): "tests/drill: it kills",
    ("safe-snapshot", "notify", "--test"): "tests/notify: it needs a mail server, or one for webhooks",
    ("safe-snapshot", "verify"): "tests/disk: it reads disks",
    ("safe-snapshot", "metrics", "serve"): "tests/metrics: it does not end",
    ("vzdump-hook", "--self-test"): "tests/hook/test_self_test.py",
    ("safe-snapshot", "run"): "a line of a description, and no command",
    ("safe-snapshot", "("): "a line of CheckMK's",
    ("safe-snapshot", "--group", "NAME"): "NAME stands for one",
}
WITHOUT_GUEST = {"check", "list", "prune", "drill", "thaw", "take", "metrics", "report", "notify"}
RULES = '[[group]]\nname = "shop"\nguests = ["100", "102"]\n'
WELL = {0, 4, 14}
"""Done; a guest that the lab does not have, or a name that another page has used; findings of the doctor."""
UNFIT = re.compile(r"no guest|guest \d+ (does not exist|is not there)|there is a snapshot '[\w-]+' already")


def is_run(command: Command) -> bool:
    """Not one that is run elsewhere, nor a command's bare name in a sentence."""
    if any(command.words[: len(words)] == words for words in ELSEWHERE):
        return False
    return command.is_whole or len(command.words) > 2 or command.words[1] not in WITHOUT_GUEST | {"--logfmt"}


COMMANDS = [command for command in by(OURS) if is_run(command)]


def as_the_pages_mean(found: Site) -> None:
    """Of three guests with an agent those that the pages speak of; and one that is off, and a container."""
    tags = {100: "prod;snap-daily-7", 101: "prod", 102: "backup"}
    for vmid, words in tags.items():
        found.node.set_config(vmid, tags=words, name=f"web{vmid - 99}")
    off = found.run / "off"
    found.node.add_guest(GuestSpec(105, config={"name": "tmp", "tags": "test"}, run=off, running=False))
    found.node.add_guest(
        GuestSpec(111, kind="lxc", config={"hostname": "mail", "tags": "backup"}, run=off, running=False)
    )


@pytest.fixture(scope="module")
def lab() -> Iterator[Site]:
    with site(ScriptedGuest, ScriptedGuest, ScriptedGuest) as found:
        as_the_pages_mean(found)
        found.rules = RULES
        found.on_the_node()
        yield found


@pytest.fixture(autouse=True)
def folder(tmp_path: Path) -> Iterator[None]:
    """Files that a command writes are written here."""
    before = Path.cwd()
    os.chdir(tmp_path)
    yield
    os.chdir(before)


def test_most_of_them_are_run() -> None:
    assert len(COMMANDS) > 80


@pytest.mark.parametrize("command", COMMANDS, ids=str)
def test_a_command_of_the_pages_does_its_work(lab: Site, command: Command) -> None:
    run = check(lab, lab.safe_snapshot(*command.words[1:]))
    assert run.exit_code in WELL | ({1, 2, 3} if "--monitor" in command.words else set()), run
    assert run.exit_code != 4 or UNFIT.search(run.text), run
