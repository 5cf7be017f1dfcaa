"""What the hook costs vzdump: wall time and CPU of its phases, and how soon the guest is thawed.

References of the same run: a bare interpreter, a Perl hook that does nothing (what an administrator would write), and
proxmox-grapple (PyPI), the nearest peer, where it is installed. Our hook is measured as the Debian package installs it:
an editable installation, as this checkout's, adds a finder to each start of the interpreter, and pip's script an
``import re``.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import site as site_module
import statistics
import subprocess
import sys
import time
import venv
from collections.abc import Sequence
from pathlib import Path

from tests.bench.table import show
from tests.hook.kit import hook_site, processes
from tests.lab.fixtures import real_available
from tests.lab.guest.real import RealGuest
from tests.lab.guest.scripted import ScriptedGuest
from tests.lab.site import BIN, Site
from tests.lab.vzdump.testing import QUICK

VZDUMP_ENVIRONMENT = {"LC_ALL": "C", "LVM_SUPPRESS_FD_WARNINGS": "1", "STOREID": "local", "VMTYPE": "qemu"}
PERL_HOOK = "#!/usr/bin/perl -w\nuse strict;\nmy $phase = shift;\nexit(0);\n"
GUEST_CPU_LIMIT_SECONDS = 0.6
IDLE_RATIO_LIMIT = 3.0
REPOSITORY = Path(__file__).parents[2]
PR_SET_CHILD_SUBREAPER = 36


def main(runs: int) -> None:
    """Measure and print."""
    with hook_site(RealGuest if real_available() else ScriptedGuest) as lab:
        hook = _install(lab.run / "installed")
        _idle_phase(lab, hook, runs)
        _whole_backup(lab, hook, runs)
        lab.settings["freeze"]["policy"] = "never"
        _whole_backup(lab, hook, runs, "policy never", "vzdump's own freeze is watched")


def _install(folder: Path) -> Path:
    """Our command as the Debian package installs it (contrib/debian/build), with the libraries of this environment."""
    venv.create(folder, symlinks=True)
    packages = next((folder / "lib").glob("python3*")) / "site-packages"
    (packages / "here.pth").write_text("\n".join([str(REPOSITORY), *site_module.getsitepackages()]) + "\n")
    script = folder / "bin" / "vzdump-hook"
    script.write_text(f"#!{folder / 'bin' / 'python'} -I\nfrom vzdump_hooks.entry import main\n\nmain()\n")
    script.chmod(0o755)
    return script


def _idle_phase(lab: Site, hook: Path, runs: int) -> None:
    perl = lab.run / "perl-hook"
    perl.write_text(PERL_HOOK)
    perl.chmod(0o755)
    commands: dict[str, Sequence[str]] = {
        "python3 -I -c pass": [str(hook.with_name("python")), "-I", "-c", "pass"],
        "vzdump-hook pre-stop": [str(hook), "pre-stop", "snapshot", "100"],
        "vzdump-hook post-restart (mode stop)": [str(hook), "post-restart", "stop", "100"],
        "a Perl hook that does nothing": [str(perl), "pre-stop", "snapshot", "100"],
    }
    if (BIN / "proxmox-grapple").exists():
        commands["proxmox-grapple pre-stop"] = [str(BIN / "proxmox-grapple"), "pre-stop", "snapshot", "100"]
    found: dict[str, list[float]] = {name: [] for name in commands}
    for _ in range(runs):
        for name, command in commands.items():
            found[name].append(_wall(command))
    show("A phase with nothing to do (wall time of a process)", "ms", found)
    bare, ours = (statistics.median(values) for values in list(found.values())[:2])
    print(f"limit {IDLE_RATIO_LIMIT:g} times the bare interpreter: {ours / bare:.2f}")


def _whole_backup(
    lab: Site, hook: Path, runs: int, kind: str = "owner hook", line: str = "vzdump-hook: frozen"
) -> None:
    """CPU of all phases of one guest, and the delay from vzdump's line to the confirmed thaw, over whole backups."""
    cpu: list[float] = []
    phases: dict[str, list[float]] = {}
    background: list[float] = []
    delays: list[float] = []
    _adopt_orphans()
    for _ in range(runs):
        measured = lab.run / "cpu"
        measured.unlink(missing_ok=True)
        script = _measuring_script(lab, hook, measured)
        with lab.vzdump(100, script=script, limits=QUICK) as job:
            job.wait_for_line(line)
            ours = processes(lab)
            seen = _instant_of(job.task_log, b"started backup task")
            result = job.wait()
        if not result.ok:
            raise RuntimeError("\n".join(result.log_lines))
        calls = dict(line.split() for line in measured.read_text().splitlines())
        for phase, seconds in calls.items():
            phases.setdefault(f"of them {phase}", []).append(float(seconds))
        cpu.append(sum(map(float, calls.values())))
        background.append(sum(_cpu_of(pid) for pid in ours))
        thawed_at = lab.windows()[0].thawed_at
        if thawed_at is not None and seen is not None:
            delays.append(max(0.0, thawed_at - seen))
    show("From `started backup task` in the log to the confirmed thaw", "ms", {f"vzdump-hook, {kind}": delays})
    rows = {"vzdump-hook, its calls": cpu, **phases, "holder and guard, beside them": background}
    show(f"CPU of all phases of one guest, {kind}", "ms", rows)
    middle, worst, limit = (1000 * seconds for seconds in (statistics.median(cpu), max(cpu), GUEST_CPU_LIMIT_SECONDS))
    print(f"limit {limit:.0f} ms for the calls of one guest: {middle:.0f} ms, worst {worst:.0f} ms")


def _adopt_orphans() -> None:
    """Holder and guard outlive the hook: become their parent, so that the kernel tells us what they used."""
    if ctypes.CDLL(None, use_errno=True).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl")


def _cpu_of(pid: int) -> float:
    """User and system time of an orphan that has ended, or ends soon."""
    with contextlib.suppress(ChildProcessError):
        _, _, used = os.wait4(pid, 0)
        return used.ru_utime + used.ru_stime
    return 0.0


def _measuring_script(lab: Site, hook: Path, measured: Path) -> str:
    """A hook that runs ours and notes its CPU: user and system time of the process and what it waited for."""
    path = lab.run / "measuring-hook"
    path.write_text(
        f"#!{sys.executable} -I\n"
        "import resource, subprocess, sys\n"
        f"code = subprocess.call([{str(hook)!r}, '--config', {str(lab.config_path)!r}, *sys.argv[1:]])\n"
        "used = resource.getrusage(resource.RUSAGE_CHILDREN)\n"
        "seconds = used.ru_utime + used.ru_stime\n"
        f"if len(sys.argv) > 2: open({str(measured)!r}, 'a').write(f'{{sys.argv[1]}} {{seconds}}\\n')\n"
        "sys.exit(code)\n"
    )
    path.chmod(0o755)
    return str(path)


def _instant_of(log: Path, text: bytes) -> float | None:
    """The Unix time at which ``text`` appears in ``log``; None after a minute."""
    deadline = time.monotonic() + 60.0
    while time.monotonic() < deadline:
        if log.exists() and text in log.read_bytes():
            return time.time()
        time.sleep(0.001)
    return None


def _wall(command: Sequence[str]) -> float:
    started = time.perf_counter()
    subprocess.run(command, env=VZDUMP_ENVIRONMENT, stdin=subprocess.DEVNULL, capture_output=True, check=False)
    return time.perf_counter() - started
