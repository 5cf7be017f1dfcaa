"""What ``--help`` prints: for a terminal of 80 columns, as one has it on a console at night."""

from __future__ import annotations

import click
import pytest
from click.testing import CliRunner

from snapshot.cli.main import main_group
from vzdump_hooks.entry import USAGE

WIDTH = 80


@pytest.mark.parametrize("name", ["", *main_group.commands])
def test_no_help_is_wider_than_a_console(name: str) -> None:
    shown = CliRunner().invoke(main_group, [*filter(None, [name]), "--help"], terminal_width=WIDTH)
    assert shown.exit_code == 0
    assert not [line for line in shown.output.splitlines() if len(line) > WIDTH]


def test_the_hooks_help_is_not_wider_either() -> None:
    assert not [line for line in USAGE.splitlines() if len(line) > WIDTH]


def test_each_command_has_its_line_in_the_list() -> None:
    shown = CliRunner().invoke(main_group, ["--help"], terminal_width=WIDTH).output
    assert isinstance(main_group, click.Group)
    assert all(f"  {name} " in shown for name in main_group.commands)
