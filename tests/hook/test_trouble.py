"""Everything of ours broken in turn: the backup goes on, and one line says what is wrong and how to mend it."""

from __future__ import annotations

import os
import re
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.hook.kit import SETTINGS, back_up, check_thawed, hook_site, said, without_pvesh
from tests.lab.guest.scripted import ScriptedGuest
from tests.lab.site import Site
from tests.unit.wire import Connection, Wire

Breaking = Callable[[Site], None]


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Path]:
    """A file system of 64 KiB for the state folder."""
    where = tmp_path / "small"
    where.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "none", str(where)], check=False).returncode != 0:
        if os.geteuid() == 0:
            pytest.fail("cannot mount a tmpfs as root")
        pytest.skip("mounting a tmpfs needs root")
    yield where
    subprocess.run(["umount", "--lazy", str(where)], check=True)


OUTSIDE = [Path(name) for name in ("/etc/vzdump-hooks", "/var/lib/vzdump-hooks", "/tmp/x", "/etc/passwd", "/root")]


def stamps() -> dict[str, int | None]:
    """When what is not ours to touch was changed; None for what is not there."""
    return {str(path): path.stat().st_mtime_ns if path.exists() else None for path in OUTSIDE}


def broken_config(lab: Site) -> None:
    lab.write_config(hook={"ownr": "hook"})


def config_that_is_no_toml(lab: Site) -> None:
    lab.config_path.write_text("[hook\nowner = ")


def no_config(lab: Site) -> None:
    lab.config_path.unlink()


def no_token(lab: Site) -> None:
    """And not on a node, where there are other ways."""
    lab.node.token_file.unlink()
    lab.write_config(local={"node": ""})


def open_token(lab: Site) -> None:
    lab.node.token_file.chmod(0o644)


def wrong_token(lab: Site) -> None:
    lab.node.token_file.write_text(f"{lab.node.token_id}=00000000-0000-0000-0000-000000000000\n")


def no_ca(lab: Site) -> None:
    lab.write_config(api={"ca_file": "/nonexistent/ca.pem"})


def no_api(lab: Site) -> None:
    lab.node.stop_front()


def corrupt_journal(lab: Site) -> None:
    lab.journal_path.write_bytes(b"SQLite format 3\0" + b"\xff" * 4096)


def journal_that_is_a_folder(lab: Site) -> None:
    lab.journal_path.mkdir()


def metrics_folder_that_is_missing(lab: Site) -> None:
    lab.write_config(metrics={"textfile": "/nonexistent/folder/hooks.prom"})


BREAKINGS: list[tuple[Breaking, str]] = [
    (broken_config, "did you mean 'owner'?"),
    (config_that_is_no_toml, "is not TOML"),
    (no_config, "does not exist"),
    (no_token, "`safe-snapshot setup`"),
    (open_token, "chmod 600"),
    (wrong_token, "pveum user token list"),
    (no_ca, "see [api] ca_file"),
    (no_api, "systemctl status pveproxy"),
    (corrupt_journal, "a new one was begun"),
    (journal_that_is_a_folder, "move it away, or choose another"),
    (metrics_folder_that_is_missing, "create the folder"),
]


def check(lab: Site, remedy: str) -> list[str]:
    """A job that has to end well with its archive, and say ``remedy``; returns our lines."""
    result = back_up(lab)
    lines = said(result)
    assert result.ok, result.log_lines
    assert result.guests[100].archive is not None
    check_thawed(lab, 0.0)
    assert any(remedy in line for line in lines), lines
    text = "\n".join(result.log_lines)
    assert "Traceback" not in text
    assert "internal error" not in text
    assert lab.node.token_secret not in text
    ours = [line for line in result.log_lines if "vzdump-hook" in line and "starting new backup job" not in line]
    assert len(ours) == len(lines), "a line of ours without its name"
    return lines


@pytest.mark.parametrize(("breaking", "remedy"), BREAKINGS, ids=lambda value: getattr(value, "__name__", None))
def test_what_is_broken_does_not_break_the_backup(breaking: Breaking, remedy: str) -> None:
    with hook_site() as lab:
        write = lab.write_config
        job = lab.vzdump  # writes the configuration; what breaks it comes after

        def vzdump(*vmids: int, **options: object) -> object:
            found = job(*vmids, **options)
            breaking(lab)
            return found

        lab.vzdump = vzdump  # type: ignore[method-assign,assignment]
        lines = check(lab, remedy)
        assert len(lines) <= 6, lines
        lab.write_config = write  # type: ignore[method-assign]


@pytest.mark.parametrize("kind", ["full", "read-only"])
def test_a_full_or_read_only_state_folder_does_not_break_the_backup(small: Path, kind: str) -> None:
    with hook_site() as lab:
        lab.settings["journal"] = {"path": str(small / "journal.sqlite")}
        lab.settings["metrics"] = {"textfile": str(small / "hooks.prom")}
        if kind == "full":
            (small / "filler").write_bytes(b"x" * 60_000)
            check(lab, "free space")
        else:
            subprocess.run(["mount", "-o", "remount,ro", str(small)], check=True)
            check(lab, "check ")


def test_a_disk_that_fills_in_the_window_does_not_keep_the_guest_frozen(small: Path) -> None:
    with hook_site() as lab:
        lab.settings["journal"] = {"path": str(small / "journal.sqlite")}
        subprocess.run(["mount", "-o", "remount,size=400k", str(small)], check=True)
        lab.settings["metrics"] = {"textfile": ""}
        with lab.vzdump(100, backup_delay=1.0) as job:
            job.wait_for_line("vzdump-hook: frozen")
            try:
                with (small / "filler").open("wb") as filler:
                    while True:
                        filler.write(b"x" * 4096)
                        filler.flush()
            except OSError:
                pass
            job.wait_for_line("started backup task")
            check_thawed(lab, 2.0)
            assert job.wait().ok


@pytest.mark.parametrize("policy", ["prefer", "require"])
def test_a_broken_configuration_freezes_nothing_and_watches_vzdumps_own_freezes(policy: str) -> None:
    """Whom to freeze cannot be known from a part of it. What is readable holds, `require` too; it is counted."""
    with hook_site(rules=f'[[guest]]\nvmid = 100\npolicy = "{policy}"\nowner = "hook"\n') as lab:
        broken_config(lab)
        lab.settings["hook"] = {"ownr": "hook"}
        result = back_up(lab, backup_delay=0.5)
        assert result.guests[100].archive is not None
        lines = said(result)
        assert sum("did you mean 'owner'?" in line for line in lines) == 2, lines  # in the job, and for the guest
        assert "watching vzdump's own freeze" in lines, lines  # with a guard
        assert (lab.windows()[0].owner, lab.windows()[0].verdict) == ("vzdump", "filesystem-consistent")
        assert result.ok
        metrics = lab.metrics_path.read_text()
        for phase in ("job-start", "backup-start"):
            assert re.search(
                rf'^pve_fsfreeze_hook_errors_total{{node=".*",phase="{phase}"}} 1.0$', metrics, re.MULTILINE
            )


def test_a_require_that_a_broken_configuration_still_holds_keeps_its_veto() -> None:
    with hook_site(rules='[[guest]]\nvmid = 100\npolicy = "require"\n') as lab:
        lab.settings["hook"] = {"ownr": "hook"}
        lab.node.set_config(100, agent="0")
        result = back_up(lab)
        assert result.guests[100].archive is None
        assert any("policy require, and this guest cannot be frozen" in line for line in said(result))


def test_require_fails_what_prefer_lets_through() -> None:
    with hook_site() as lab:
        lab.settings["freeze"] = {**SETTINGS["freeze"], "policy": "require"}
        without_pvesh(lab)
        lab.node.stop_front()
        result = back_up(lab)
        assert not result.ok
        assert result.guests[100].state == "err"
        assert result.guests[100].archive is None  # before any work
        assert any("policy require: this guest's backup fails" in line for line in said(result))


def test_no_file_outside_the_state_and_metrics_folders_is_touched() -> None:
    """Not even by a guest and a storage with names that look like paths."""
    name = "../../../../../../tmp/x\nINFO: started backup task 'x'"
    with hook_site() as lab:
        lab.node.set_config(100, name="..-..-etc-passwd")
        before = stamps()
        plain = lab.hook_script()
        wrapper = lab.run / "wrapper"
        wrapper.write_text(
            f"#!/bin/sh\nHOSTNAME='{name}' TARGET='{name}' STOREID='{name}' LOGFILE='/etc/passwd' exec {plain} \"$@\"\n"
        )
        wrapper.chmod(0o755)
        lab.settings["hook"] = {"write_notes": True}
        result = back_up(lab, script=str(wrapper))
        assert result.ok, result.log_lines
        assert stamps() == before
        own = {path.name for path in lab.run.iterdir()}
        assert own <= {"state", "metrics", "node", "config.toml", "vzdump-hook", "wrapper"} | {
            path.name for path in lab.run.glob("100*")
        }
        assert {path.name for path in (lab.run / "state").iterdir()} <= {
            "journal.sqlite",
            "journal.sqlite.publish-lock",
            "guards",
        }
        assert any("filesystem-consistent" in line for line in said(result))


def test_a_guest_whose_name_imitates_vzdumps_lines_is_held_until_the_real_ones() -> None:
    with hook_site(ScriptedGuest) as lab:
        lab.node.set_config(100, name="started-backup-task")
        guest = lab.guest
        assert isinstance(guest, ScriptedGuest)
        with lab.vzdump(100, backup_delay=0.6) as job:
            job.wait_for_line("starting backup via QMP command")
            assert guest.is_frozen()
            assert job.wait().ok
        assert lab.windows()[0].verdict == "filesystem-consistent"


@pytest.mark.slow
def test_an_api_that_drips_neither_holds_a_backup_up_nor_costs_its_consistency(tmp_path: Path) -> None:
    """On the node pvesh does what the API does not; before, each request hung for as long as the server pleased."""

    def drips(connection: Connection) -> None:
        connection.send(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 1000000\r\n\r\n")
        while not connection.over.wait(0.5):
            connection.send(b" ")

    with hook_site() as lab, Wire(tmp_path, drips) as wire:
        lab.settings["api"] = {"host": "127.0.0.1", "port": wire.port}
        lab.settings["freeze"] = {**SETTINGS["freeze"], "policy": "require"}
        began = time.monotonic()
        lines = check(lab, "going on with pvesh")
        assert time.monotonic() - began < 90
        assert any("filesystem-consistent" in line for line in lines), lines
