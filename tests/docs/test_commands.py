"""Each command of the pages is one that there is, with the options that it takes.

Ours are read by the program's own command line here, and run by tests/engine/test_commands_of_the_pages.py. Proxmox
VE's own need a node: they are held against its own tables. Of the system's a shell must understand the line.
"""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path

import click
import pytest

from snapshot.cli.main import main_group
from tests.docs.options import TABLE, problem
from tests.docs.said import COMMANDS_OF_MESSAGES, TEXTS
from tests.docs.written import COMMANDS, OURS, PAGES, PVE, ROOT, Command, blocks, by, commands_of, explained, is_command

OPTIONS = json.loads(TABLE.read_text("utf-8"))
SHOWN_ONLY = {("safe-snapshot", "run"), ("safe-snapshot", "(")}
"""A line of a description; a line of CheckMK's."""


def test_the_pages_were_read() -> None:
    assert len(by(OURS)) > 100
    assert len(by(PVE)) > 50
    assert {command.program for command in COMMANDS} >= OURS | {"qm", "pvesh", "pveum", "vzdump"}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_a_block_of_commands_holds_nothing_else(page: Path) -> None:
    for mark, body in blocks(page.read_text("utf-8")):
        for line in body if mark == "sh" else ():
            assert not line.strip() or is_command(explained(line)), f"{line!r}: a program that tests/docs does not know"


@pytest.mark.parametrize("command", by(PVE), ids=str)
def test_a_command_of_pves_has_the_words_that_pve_knows(command: Command) -> None:
    assert problem(command.words, command.is_whole, OPTIONS) == ""


@pytest.mark.parametrize("command", COMMANDS_OF_MESSAGES, ids=str)
def test_a_command_of_pves_in_a_message_has_the_words_that_pve_knows(command: Command) -> None:
    assert problem(command.words, command.is_whole, OPTIONS) == ""


def test_pve_8_is_told_its_own_name_of_the_option_that_ends_its_freezing() -> None:
    """It refuses `qm set --agent freeze-fs=0` (its agent_fmt has freeze-fs-on-backup); later versions take either."""
    texts = [*TEXTS, *(page.read_text("utf-8") for page in PAGES)]
    shown = [line for text in texts for line in text.splitlines() if re.search("qm set .*freeze-fs", line)]
    assert len(shown) > 2
    assert not [line for line in shown if "freeze-fs-on-backup=0" not in line]


@pytest.mark.parametrize(
    "line",
    [
        "qm freeze 100", "qm set 100 --agnet 1", "qm set 100 --agent enabled=1,freeze=0", "vzdump 100 --mode live",
        "pvesh get /cluster/resource", "pvesh get /cluster/resources --kind vm", "qm sendkey 100", "qm reset 100 101",
    ],
)  # fmt: skip
def test_a_word_that_pve_does_not_know_is_noticed(line: str) -> None:
    assert problem(line.split(), True, OPTIONS)


@pytest.mark.parametrize("command", [one for one in by(OURS) if one.words[:2] not in SHOWN_ONLY], ids=str)
def test_a_command_of_ours_has_the_words_that_we_know(command: Command) -> None:
    if command.program == "vzdump-hook":
        assert command.words[1] == "--self-test"
        return
    words = list(command.words[1:])
    with main_group.make_context("safe-snapshot", [], resilient_parsing=True) as ctx:
        words = words[main_group._skip_own_options(ctx, words) :]
        if words and words[0].startswith("-"):
            words.insert(0, main_group.default_command)
        known = {name for param in main_group.get_params(ctx) for name in param.opts}
        if words:
            name, found, words = main_group.resolve_command(ctx, words)
            assert found is not None, f"no such command: {name}"
            known |= {"--help"} | _options(found)
            if isinstance(found, click.Group) and words:
                inner = found.get_command(ctx, words[0])
                assert inner is not None, f"no such command: {name} {words[0]}"
                known |= _options(inner)
    assert {word.partition("=")[0] for word in words if word.startswith("-")} <= known


def _options(command: click.Command) -> set[str]:
    return {name for param in command.params for name in (*param.opts, *param.secondary_opts)}


def test_a_shell_understands_every_line() -> None:
    lines = {command.line for page in PAGES for command in commands_of(page) if command.words[1:2] != ("(",)}
    text = "\n".join(sorted(lines)) + "\n"
    done = subprocess.run(["bash", "-n"], input=text, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
