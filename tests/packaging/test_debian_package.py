"""Built, installed without a network, run, upgraded, removed and purged, on the Debian of PVE 8 and of PVE 9."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.lab.guest.scripted import ScriptedGuest
from tests.lab.site import run_command, site
from tests.packaging.debian import Tree, build, contents, debian, require_root

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]

PRIVATE = "usr/lib/vzdump-hooks"
SITE = f"{PRIVATE}/lib/python3/site-packages"


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    require_root()
    return build(tmp_path_factory.mktemp("package"))


@pytest.fixture(params=["bookworm", "trixie"])
def tree(request: pytest.FixtureRequest, package: Path) -> Iterator[Tree]:
    """A Debian with the package installed."""
    with debian(request.param) as found:
        shutil.copy(package, found.root / "package.deb")
        found.ok("dpkg", "--install", "/package.deb")
        yield found


def test_nothing_enters_the_systems_own_python(package: Path) -> None:
    lines = contents(package)
    assert not any("dist-packages" in line for line in lines)
    assert all(f"/{SITE}/" in line for line in lines if line.endswith(".py"))
    assert not any("__pycache__" in line for line in lines)


def test_both_commands_run(tree: Tree) -> None:
    assert "safe-snapshot, version 0." in tree.ok("safe-snapshot", "--version")
    assert "vzdump calls this program" in tree.ok("vzdump-hook", "--help")
    assert tree.ok("env", "-i", "/usr/bin/vzdump-hook", "job-init") == ""
    # The guard and the holder are started by the interpreter's own name, isolated.
    start = "import sys; from snapshot.base.detached import interpreter; print(interpreter())"
    python = tree.ok(f"/{PRIVATE}/bin/python3", "-I", "-c", start).strip()
    assert python == f"/{PRIVATE}/bin/python3"
    for module in ("snapshot.guard", "vzdump_hooks.hold"):
        assert "--socket SOCKET" in tree.ok(python, "-I", "-m", module, "--help")


def test_the_system_python_does_not_find_our_modules_but_ours_finds_debians(tree: Tree) -> None:
    assert tree.run("/usr/bin/python3", "-c", "import snapshot").returncode != 0
    where = "import click, proxmoxer, prometheus_client, requests, tenacity; print(proxmoxer.__file__)"
    assert tree.ok(f"/{PRIVATE}/bin/python3", "-I", "-c", where).startswith("/usr/lib/python3/dist-packages/")


def test_it_is_compiled_when_it_is_installed(tree: Tree) -> None:
    compiled = [path for path in (tree.root / SITE).rglob("*.pyc") if "snapshot" in str(path)]
    sources = list((tree.root / SITE / "snapshot").rglob("*.py"))
    assert len(compiled) >= len(sources) > 20


def test_a_snapshot_of_a_guest_with_debians_own_libraries(tree: Tree) -> None:
    """The whole protocol, the guard included, in the installed package against the lab's node."""
    with site(ScriptedGuest) as lab:
        lab.write_config()
        inside = tree.root / lab.run.relative_to("/")
        inside.mkdir(parents=True)
        subprocess.run(["mount", "--bind", lab.run, inside], check=True)
        try:
            command = ["safe-snapshot", "--config", str(lab.config_path), "--json", "100", "--policy", "require"]
            run = run_command(["chroot", str(tree.root), *command])
            assert run.exit_code == 0, run.text
            assert run.json["verdict"]["kind"] == "filesystem-consistent", run.text
            assert not lab.guest.is_frozen()
        finally:
            subprocess.run(["umount", "--lazy", inside], check=True)


def test_the_doctor_examines_a_bare_installation_and_its_guest(tree: Tree) -> None:
    """What is in the package alone; the lab's node is its Proxmox VE. No systemd runs in there, and no exporter."""
    with site(ScriptedGuest) as lab:
        lab.on_the_node()
        inside = tree.root / lab.run.relative_to("/")
        inside.mkdir(parents=True)
        subprocess.run(["mount", "--bind", lab.run, inside], check=True)
        try:
            doctor = ["chroot", str(tree.root), "safe-snapshot", "--config", str(lab.config_path)]
            run = run_command([*doctor, "--json", "doctor"])
            assert run.exit_code == 14, run.text
            (guest,) = run.json["guests"]
            assert (guest["agent"], guest["freeze"]) == ("7.2.22", "yes")
            assert guest["snapshot"]["best"] == "filesystem-consistent"
            assert guest["backup"]["best"] == "unknown", "no script calls us yet"
            codes = {one["code"] for look in run.json["installation"] for one in look["findings"]}
            assert {"no-script", "nobody-told", "no-journal"} <= codes
            (tree.root / "etc/vzdump.conf").write_text("script: /usr/bin/vzdump-hook\n")
            run = run_command([*doctor, "--json", "doctor", "100"])
            assert run.json["guests"][0]["backup"]["best"] == "filesystem-consistent", run.text
            text = run_command([*doctor, "doctor"]).text
            assert max(len(line) for line in text.splitlines() if line.startswith((" 100", "vmid"))) <= 80
            monitor = run_command([*doctor, "doctor", "--monitor"])
            assert (monitor.exit_code, len(monitor.stdout.splitlines())) == (1, 1), monitor.text
            assert not lab.guest.is_frozen()
        finally:
            subprocess.run(["umount", "--lazy", inside], check=True)


def test_an_upgrade_keeps_the_configuration(tree: Tree) -> None:
    config = tree.root / "etc/vzdump-hooks/config.toml"
    config.write_text("[freeze]\nmax_window_seconds = 12\n")
    tree.ok("dpkg", "--install", "/package.deb")
    assert "12" in config.read_text()
    tree.ok("safe-snapshot", "--version")


def test_removal_is_refused_while_vzdump_still_names_the_hook(tree: Tree) -> None:
    vzdump, jobs = tree.root / "etc/vzdump.conf", tree.root / "etc/pve/jobs.cfg"
    jobs.parent.mkdir()
    named = [
        (vzdump, "mode: snapshot\nscript: /usr/bin/vzdump-hook\n"),
        (vzdump, "script:/usr/bin/vzdump-hook"),
        (vzdump, "script: '/usr/bin/vzdump-hook'\n"),
        (vzdump, 'script: "/root/wrapper"\n'),
        (jobs, "vzdump: backup-1\n\tmode snapshot\n\tscript /usr/bin/vzdump-hook\n\n"),
    ]
    (tree.root / "root/wrapper").write_text('#!/bin/sh\nexec /usr/bin/vzdump-hook "$@"\n')
    for path, text in named:
        path.write_text(text)
        refused = tree.run("dpkg", "--remove", "vzdump-hooks")
        assert refused.returncode != 0
        assert "still names /usr/bin/vzdump-hook" in refused.stderr
        assert "safe-snapshot setup --undo" in refused.stderr
    # The program is broken: the names are looked for without it.
    broken = tree.root / SITE / "snapshot/errors.py"
    sound = broken.read_text()
    broken.write_text("no Python\n")
    refused = tree.run("dpkg", "--remove", "vzdump-hooks")
    assert refused.returncode != 0
    assert "still names /usr/bin/vzdump-hook" in refused.stderr
    assert "Traceback" not in refused.stderr
    broken.write_text(sound)
    for path, _ in named:
        path.unlink(missing_ok=True)
    tree.ok("safe-snapshot", "--version")
    vzdump.write_text("mode: snapshot\n#script: /usr/bin/vzdump-hook\nscript: /usr/bin/vzdump-hook-of-mine\n")
    (tree.root / "etc/vzdump-hooks/config.toml").write_text("# mine\n")
    tree.ok("dpkg", "--remove", "vzdump-hooks")
    assert (tree.root / "etc/vzdump-hooks/config.toml").read_text() == "# mine\n"


def test_what_was_removed_and_is_installed_again_runs_at_boot_and_every_minute(tree: Tree) -> None:
    """Removal masks the units, and they once stayed masked: nobody looked for frozen guests any more."""
    tree.ok("dpkg", "--remove", "vzdump-hooks")
    tree.ok("dpkg", "--install", "/package.deb")
    units = tree.root / "etc/systemd/system"
    for unit in ("safe-snapshot-recover.service", "safe-snapshot-recover.timer"):
        assert not (units / unit).is_symlink()
    assert (units / "timers.target.wants/safe-snapshot-recover.timer").is_symlink()
    assert (units / "multi-user.target.wants/safe-snapshot-recover.service").is_symlink()


def test_a_purge_leaves_own_commands_where_they_are(tree: Tree) -> None:
    folder = tree.root / "etc/vzdump-hooks/hooks.d"
    folder.mkdir()
    (folder / "10-mine").write_text("#!/bin/sh\n")
    assert (tree.root / "usr/share/vzdump-hooks/hooks/gotify").exists()
    tree.ok("dpkg", "--purge", "vzdump-hooks")
    assert (folder / "10-mine").exists()
    assert [path.name for path in folder.parent.iterdir()] == ["hooks.d"]


def test_a_purge_leaves_nothing(tree: Tree) -> None:
    tree.ok("safe-snapshot", "--version")
    (tree.root / "var/lib/vzdump-hooks/journal.sqlite").touch()
    metrics = tree.root / "var/lib/prometheus/node-exporter/vzdump_hooks.prom"
    metrics.parent.mkdir(parents=True)
    metrics.touch()
    tree.ok("dpkg", "--purge", "vzdump-hooks")
    left = {name for name in tree.files("usr", "etc", "var/lib") if "vzdump-hooks" in name or "vzdump_hooks" in name}
    assert {name for name in left if "var/lib/dpkg" not in name and "ucf" not in name} == set()
