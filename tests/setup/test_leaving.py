"""The package may not leave while somebody's backups need it: what its removal finds, on files of a node."""

from __future__ import annotations

import os
import time
from contextlib import closing
from pathlib import Path

import pytest

from snapshot.config.settings import Config, JournalConfig, LocalConfig, MetricsConfig
from snapshot.journal.store import Journal
from snapshot.setup import leaving
from tests.unit.kit import record

NOW = 1_800_000_000.0
HOUR = 3600.0
WRAPPER = '#!/bin/sh\n# mine\nlogger begun\nexec /usr/bin/vzdump-hook "$@"\n'


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A node's files, of which none names us."""
    for folder in ("etc/pve", "etc/cron.d", "root", "usr/bin", "usr/local/bin", "state", "tasks"):
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / "usr/bin/vzdump-hook").write_text("#!/bin/sh\n")
    (tmp_path / "etc/pve/local").symlink_to("nodes/pve1")
    (tmp_path / "etc/vzdump.conf").write_text("mode: snapshot\n#script: /usr/bin/vzdump-hook\n")
    (tmp_path / "etc/pve/jobs.cfg").write_text("vzdump: backup-1\n\tschedule 21:00\n\tscript /root/my-own\n")
    (tmp_path / "root/my-own").write_text("#!/bin/sh\n# instead of vzdump-hook\nexit 0\n")
    return tmp_path


def config(root: Path) -> Config:
    return Config()._replace(
        journal=JournalConfig()._replace(path=root / "state/journal.sqlite"),
        local=LocalConfig()._replace(task_folder=root / "tasks"),
        metrics=MetricsConfig()._replace(textfile=root / "state/vzdump_hooks.prom"),
    )


def reasons(root: Path, *, anyway: bool = False) -> str:
    return "\n".join(leaving.reasons(root, config(root), NOW, anyway=anyway))


def backed_up(root: Path, at: float, **values: object) -> None:
    """The journal has a backup's window of that time."""
    with closing(Journal(root / "state/journal.sqlite")) as journal:
        row = record(f"at-{at}", source="vzdump", intent_at=at, deadline_at=at + 30, **values)
        journal.begin(row)
        journal.update(row.id, closed_at=at + 5, verdict="filesystem-consistent", reason="proven", state="thawed")


def old(root: Path, hours: float) -> None:
    """Nothing of PVE's configuration was changed for so long."""
    for name in ("etc/vzdump.conf", "etc/pve/jobs.cfg", "etc/pve", "etc"):
        os.utime(root / name, (NOW - hours * HOUR, NOW - hours * HOUR))


NAMED = {
    "plain": ("etc/vzdump.conf", "script: /usr/bin/vzdump-hook\n"),
    "without a space": ("etc/vzdump.conf", "script:/usr/bin/vzdump-hook"),
    "quoted": ("etc/vzdump.conf", 'script: "/usr/bin/vzdump-hook"\n'),
    "in single quotes": ("etc/vzdump.conf", "script: '/usr/bin/vzdump-hook' \r\n"),
    "a link": ("etc/vzdump.conf", "script: /usr/local/bin/backup-hook\n"),
    "wrapped": ("etc/vzdump.conf", "script: /root/wrapper\n"),
    "wrapped and quoted": ("etc/vzdump.conf", 'script: "/root/wrapper"\n'),
    "a job": ("etc/pve/jobs.cfg", "vzdump: backup-1\n\tschedule 21:00\n\tscript /usr/bin/vzdump-hook\n"),
    "a wrapped job": ("etc/pve/jobs.cfg", "vzdump: a\n\tall 1\n\nvzdump: backup-1\n\tscript /root/wrapper\n"),
    "this node's job": ("etc/pve/jobs.cfg", "vzdump: a\n\tnode pve1\n\tscript /usr/bin/vzdump-hook\n"),
    "cron": ("etc/cron.d/mine", "0 2 * * * root vzdump 100 --script /usr/bin/vzdump-hook --quiet\n"),
    "cron, quoted": ("etc/cron.d/mine", "0 2 * * * root vzdump 100 --script='/root/wrapper'\n"),
    "an old job": ("etc/pve/vzdump.cron", "0 2 * * 6 root vzdump 100 --script /usr/bin/vzdump-hook\n"),
}


@pytest.mark.parametrize("case", NAMED)
def test_what_still_names_the_hook_keeps_the_package(root: Path, case: str) -> None:
    name, text = NAMED[case]
    (root / name).write_text(text)
    (root / "root/wrapper").write_text(WRAPPER)
    (root / "usr/local/bin/backup-hook").symlink_to("../../bin/vzdump-hook")
    said = reasons(root)
    assert "still names /usr/bin/vzdump-hook" in said
    assert "safe-snapshot setup --undo" in said
    assert reasons(root, anyway=True) == said, "vzdump would fail all the same"


UNNAMED = {
    "comments": ("etc/vzdump.conf", "# script: /usr/bin/vzdump-hook\nmode: snapshot\n"),
    "another program": ("etc/vzdump.conf", "script: /usr/bin/vzdump-hook-of-mine\n"),
    "a script that is not there": ("etc/vzdump.conf", "script: /root/gone\n"),
    "another node's job": ("etc/pve/jobs.cfg", "vzdump: a\n\tnode pve2\n\tscript /usr/bin/vzdump-hook\n"),
    "a cron line in a comment": ("etc/cron.d/mine", "#0 2 * * * root vzdump 1 --script /usr/bin/vzdump-hook\n"),
    "the minute's recovery": ("etc/cron.d/mine", "* * * * * root safe-snapshot recover # vzdump-hook\n"),
}


@pytest.mark.parametrize("case", UNNAMED)
def test_what_does_not_call_the_hook_keeps_nobody(root: Path, case: str) -> None:
    name, text = UNNAMED[case]
    (root / name).write_text(text)
    assert reasons(root) == ""


def test_who_called_it_last_night_keeps_it_though_nothing_names_it(root: Path) -> None:
    (root / "etc/vzdump.conf").write_text("mode: snapshot\n")
    old(root, 30)
    assert reasons(root) == ""
    backed_up(root, NOW - 27 * HOUR)
    assert reasons(root) == "", "a day and more ago"
    backed_up(root, NOW - 8 * HOUR)
    said = reasons(root)
    assert time.strftime("%Y-%m-%dT%H:%M", time.localtime(NOW - 8 * HOUR)) in said
    assert "vzdump --script" in said
    assert reasons(root, anyway=True) == ""


def test_a_file_that_was_changed_since_last_night_explains_who_called_it(root: Path) -> None:
    """It named us then, and was mended: by hand, or by setup --undo."""
    old(root, 30)
    backed_up(root, NOW - 8 * HOUR)
    os.utime(root / "etc/pve/jobs.cfg", (NOW - 1 * HOUR, NOW - 1 * HOUR))
    assert reasons(root) == ""


def test_a_file_that_went_since_last_night_explains_who_called_it(root: Path) -> None:
    """setup --undo takes a vzdump.conf away that setup had made."""
    old(root, 30)
    backed_up(root, NOW - 8 * HOUR)
    assert reasons(root) != ""
    (root / "etc/vzdump.conf").unlink()
    os.utime(root / "etc", (NOW - 1 * HOUR, NOW - 1 * HOUR))
    assert reasons(root) == ""


def test_a_window_that_is_open_keeps_it(root: Path) -> None:
    with closing(Journal(root / "state/journal.sqlite")) as journal:
        journal.begin(record(source="snapshot", intent_at=NOW - 1, deadline_at=NOW + 30))
    assert "a freeze window is open (guest 100)" in reasons(root)


def test_a_journal_that_cannot_be_read_keeps_nobody(root: Path) -> None:
    (root / "state/journal.sqlite").touch()
    assert reasons(root) == ""
    (root / "state/journal.sqlite").write_bytes(b"no journal" * 1000)
    assert reasons(root) == ""


def test_the_packages_script_knows_a_refusal_from_a_broken_program() -> None:
    prerm = (Path(__file__).resolve().parents[2] / "contrib/debian/prerm").read_text()
    assert f"    {leaving.REFUSE}) echo" in prerm
    assert leaving.REFUSE not in (0, 1, 2, leaving.NOT_KNOWN), "Python's own, of a module that cannot be loaded"


def test_the_textfile_goes_and_one_that_is_not_ours_stays(root: Path) -> None:
    path = root / "state/vzdump_hooks.prom"
    leaving.forget_metrics(config(root))
    path.write_text("node_load1 1\n")
    leaving.forget_metrics(config(root))
    assert path.exists()
    path.write_text("# TYPE pve_fsfreeze_windows_total counter\n")
    leaving.forget_metrics(config(root))
    assert not path.exists()
