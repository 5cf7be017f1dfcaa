"""What this machine itself shows: vzdump.conf, the units, cron, node_exporter, the clock. Reads; judges nothing.

Every question has a third answer, None: it could not be asked.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from snapshot.base.aside import Aside
from snapshot.base.files import open_regular
from snapshot.base.text import clean
from snapshot.doctor import exporter
from snapshot.doctor.exporter import RunningExporter
from snapshot.pve import vzdumpconf

PROGRAM_SECONDS = 5.0
FILES_SECONDS = 3.0
"""How long all files together may take to read: some lie in /etc/pve, which may hang."""
MOST_BYTES = 256 << 10

TIMER, SERVICE = UNITS = ("safe-snapshot-recover.timer", "safe-snapshot-recover.service")
_PROPERTIES = ("Id", "LoadState", "ActiveState", "UnitFileState", "Result", "ExecMainStatus")


class Script(NamedTuple):
    """What ``script:`` names. ``wraps``: it is another's, and speaks of vzdump-hook."""

    path: str
    exists: bool = True
    executable: bool = True
    wraps: bool = False

    @property
    def is_ours(self) -> bool:
        """Whether it is vzdump-hook, by its name: it is installed as a link or a file in more than one place."""
        return is_our_script(self.path)


class MachineFacts(NamedTuple):
    """What was seen. None: not known."""

    script: Script | None = None
    """What vzdump.conf names; None: nothing, where ``has_vzdump_conf``."""
    has_vzdump_conf: bool | None = None
    """Whether that file could be read: False where it is not there, which is vzdump without a script."""
    script_set_at: float | None = None
    """When vzdump.conf was last written."""
    units: Mapping[str, Mapping[str, str]] | None = None
    """systemd's words on the two units; None without systemd."""
    cron: str = ""
    """The file with a cron line that runs ``safe-snapshot recover``."""
    exporters: tuple[RunningExporter, ...] | None = None
    is_synced: bool | None = None
    """Whether the kernel's clock follows a time server."""


Run = Callable[[Sequence[str]], str | None]


def run_program(argv: Sequence[str]) -> str | None:
    """A program's standard output; None where it cannot be run, fails, or takes longer than PROGRAM_SECONDS."""
    try:
        done = subprocess.run(  # noqa: S603 - a fixed program, arguments without a shell
            argv,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            timeout=PROGRAM_SECONDS,
            env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C"},
            check=False,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.decode(errors="replace") if done.returncode == 0 else None


def is_our_script(path: str) -> bool:
    """Whether a ``script:`` names vzdump-hook."""
    return path.rpartition("/")[2] == "vzdump-hook"


class Machine:
    """Where this machine's files are, and how its programs are run: tests bring their own."""

    def __init__(self, root: Path = Path("/"), run: Run = run_program) -> None:
        self._root = root
        self._run = run

    def look(self) -> MachineFacts:
        """Everything that can be seen. Never raises."""
        try:
            facts = Aside(self._files, "machine").result(FILES_SECONDS)
        except (TimeoutError, RuntimeError):
            facts = MachineFacts()
        return facts._replace(units=self._units(), is_synced=self._is_synced())

    def _files(self) -> MachineFacts:
        script, has_conf, set_at = self._script()
        return MachineFacts(
            script, has_conf, set_at, cron=self._cron(), exporters=exporter.running(self._root / "proc")
        )

    def _script(self) -> tuple[Script | None, bool | None, float | None]:
        path = self._root / "etc/vzdump.conf"
        try:
            with open_regular(path) as file:
                raw, set_at = file.read(MOST_BYTES), os.fstat(file.fileno()).st_mtime
        except FileNotFoundError:
            return None, False, None
        except OSError:
            return None, None, None
        named = os.fsdecode(vzdumpconf.script(raw))
        return (self._script_at(named) if named else None), True, set_at

    def _script_at(self, named: str) -> Script:
        path = self._root / named.lstrip("/")
        if not path.is_file():
            return Script(clean(named, 200), exists=False, executable=False)
        text = b""
        try:
            with open_regular(path) as file:
                text = file.read(MOST_BYTES)
        except OSError:
            pass
        wraps = not is_our_script(named) and (b"vzdump-hook" in text or b"vzdump_hooks" in text)
        return Script(clean(named, 200), executable=os.access(path, os.X_OK), wraps=wraps)

    def _cron(self) -> str:
        folders = (self._root / "etc/cron.d", self._root / "var/spool/cron/crontabs")
        files = [self._root / "etc/crontab", *(path for folder in folders for path in _entries(folder))]
        for path in files:
            try:
                with open_regular(path) as file:
                    lines = file.read(MOST_BYTES).decode(errors="replace").splitlines()
            except OSError:
                continue
            if any(
                "safe-snapshot" in line and "recover" in line and not line.lstrip().startswith("#") for line in lines
            ):
                return f"/{path.relative_to(self._root)}"
        return ""

    def _units(self) -> Mapping[str, Mapping[str, str]] | None:
        said = self._run(["systemctl", "show", f"--property={','.join(_PROPERTIES)}", *UNITS])
        if said is None:
            return None
        found: dict[str, Mapping[str, str]] = {}
        for block in said.split("\n\n"):
            values = dict(line.split("=", 1) for line in block.splitlines() if "=" in line)
            found[values.get("Id", "")] = values
        return found if any(unit in found for unit in UNITS) else None

    def _is_synced(self) -> bool | None:
        said = self._run(["timedatectl", "show", "--property=NTPSynchronized", "--value"])
        return {"yes": True, "no": False}.get((said or "").strip())


def _entries(folder: Path) -> Iterable[Path]:
    try:
        return sorted(folder.iterdir())
    except OSError:
        return ()
