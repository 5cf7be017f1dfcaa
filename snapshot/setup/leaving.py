"""Whether the package may leave this node: what its removal asks before anything goes.

``python3 -I -m snapshot.setup.leaving check [anyway]`` ends with 0, or with 10 and a line for each reason on standard
error; any other status means that it could not be found out. ``... metrics`` takes the textfile away, which
node_exporter would go on to serve for ever.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing, suppress
from pathlib import Path

from snapshot.base.clock import SystemClock, iso
from snapshot.base.files import open_regular
from snapshot.base.text import clean
from snapshot.config import reading
from snapshot.config.settings import Config
from snapshot.errors import JournalError, SafeSnapshotError
from snapshot.journal.file import is_absent
from snapshot.journal.store import Journal
from snapshot.setup.back import check_quiet

ALLOW, REFUSE, NOT_KNOWN = 0, 10, 3
"""Exit statuses. A program that is broken ends with 1, and must not keep the package for ever."""
LAST_NIGHT_SECONDS = 26 * 3600.0
"""A daily job, and the clock that is set forward or back between two of them."""
ANYWAY = "anyway"
"""Behind ``check``: lets a package go that somebody called last night in a way that nobody can see. The package's
script takes it from the environment, from VZDUMP_HOOKS_REMOVE.
"""

MOST_BYTES = 1 << 20
HOOK = b"vzdump-hook"
_SCRIPT = re.compile(rb"^[ \t]*script[ \t]*(?::|[ \t])[ \t]*(?P<value>[^\r\n]*)", re.MULTILINE)
_NODE = re.compile(rb"^[ \t]+node[ \t]+(?P<value>\S+)", re.MULTILINE)
_OPTION = re.compile(rb"--?script[= \t]+(?P<value>\"[^\"\n]*\"|'[^'\n]*'|[^\s\"';&|]+)")
_COMMENT = re.compile(rb"^[ \t]*#[^\n]*", re.MULTILINE)

CONF, JOBS = "etc/vzdump.conf", "etc/pve/jobs.cfg"
CRON = ("etc/pve/vzdump.cron", "etc/crontab")
CRON_FOLDERS = ("etc/cron.d", "etc/cron.daily", "etc/cron.weekly", "var/spool/cron/crontabs")


def reasons(root: Path, config: Config, now: float, *, anyway: bool = False) -> Iterator[str]:
    """Why it may not leave, a line each. ``now`` is a Unix time; ``root`` the node's files."""
    named = list(naming(root))
    yield from (f"{place} still names /usr/bin/vzdump-hook; without it those backups fail" for place in named)
    if named:
        yield "run `safe-snapshot setup --undo` first, or take that line out by hand"
    try:
        check_quiet(config)
    except JournalError:
        pass  # who cannot be read keeps nobody: a broken journal would keep the package for ever
    except SafeSnapshotError as busy:
        yield str(busy)
    used_at = None if named or anyway else last_used_at(config)
    if used_at is not None and now - LAST_NIGHT_SECONDS < used_at <= now and not _was_taken_out(root, used_at):
        yield (
            f"vzdump called it at {iso(used_at)}, and nothing here names it: a `vzdump --script` of "
            f"another program does, and fails then. Mend that; to go on all the same: "
            f"`VZDUMP_HOOKS_REMOVE={ANYWAY} apt remove vzdump-hooks`"
        )


def naming(root: Path) -> Iterator[str]:
    """Where on this node a backup is told to call us: by name, in quotes, or through a script that calls us."""
    if any(calls_us(root, value) for value in _values(_SCRIPT, _read(root / CONF))):
        yield f"/{CONF}"
    for section in re.split(rb"\n(?=\S)", _read(root / JOBS)):
        if _is_elsewhere(root, section):
            continue
        if any(calls_us(root, value) for value in _values(_SCRIPT, section)):
            head = section.partition(b"\n")[0].partition(b":")[2].decode(errors="replace")
            yield f"the backup job {clean(head.strip(), 60)}"
    for path in (*(root / name for name in CRON), *_entries(root / name for name in CRON_FOLDERS)):
        if any(calls_us(root, value) for value in _values(_OPTION, _read(path))):
            yield f"/{path.relative_to(root)}"


def calls_us(root: Path, value: bytes) -> bool:
    """Whether a ``script:`` is us, or a script in which we are named beside comments."""
    name = value.strip().strip(b"\"'").strip()
    if name.rpartition(b"/")[2] == HOOK:
        return True
    if not name.startswith(b"/") or b"\0" in name:
        return False
    path = root / os.fsdecode(name).lstrip("/")
    if os.path.basename(os.path.realpath(path)) == HOOK.decode():
        return True
    return re.search(rb"vzdump-hook(?![\w-])|vzdump_hooks", _COMMENT.sub(b"", _read(path))) is not None


def last_used_at(config: Config) -> float | None:
    """When the last backup called us, by the journal. None: never, or the journal cannot tell."""
    if is_absent(config.journal.path):
        return None
    with suppress(SafeSnapshotError), closing(Journal(config.journal.path, read_only=True)) as journal:
        (row,) = journal.query("SELECT max(intent_at) FROM windows WHERE source = 'vzdump' AND owner <> 'foreign'")
        return float(row[0]) if isinstance(row[0], int | float) else None
    return None


def forget_metrics(config: Config) -> None:
    """Take the textfile away, where it is a file of ours."""
    path = config.metrics.textfile
    if path is None:
        return
    with suppress(OSError):
        if b"pve_fsfreeze_" in _read(path):
            path.unlink()


def main(arguments: Sequence[str]) -> int:
    """See the module."""
    config, _ = reading.load_lenient()
    if list(arguments) == ["metrics"]:
        forget_metrics(config)
        return ALLOW
    found = list(reasons(Path("/"), config, SystemClock().time(), anyway=ANYWAY in arguments))
    for line in found:
        sys.stderr.write(f"vzdump-hooks: {line}\n")
    return REFUSE if found else ALLOW


def _values(pattern: re.Pattern[bytes], text: bytes) -> Iterable[bytes]:
    return [found["value"] for found in pattern.finditer(_COMMENT.sub(b"", text))]


def _is_elsewhere(root: Path, section: bytes) -> bool:
    """Whether a job is another node's alone."""
    try:
        here = os.path.basename(os.readlink(root / "etc/pve/local"))
    except OSError:
        return False
    nodes = [found["value"] for found in _NODE.finditer(section)]
    return bool(nodes) and os.fsencode(here) not in nodes


def _was_taken_out(root: Path, used_at: float) -> bool:
    """Whether a file that named us then may have been changed since, or have gone: its folder tells."""
    for path in (root / name for name in (CONF, JOBS, *CRON)):
        with suppress(OSError):
            if (path if path.exists() else path.parent).stat().st_mtime >= used_at:
                return True
    return False


def _entries(folders: Iterable[Path]) -> Iterator[Path]:
    for folder in folders:
        with suppress(OSError):
            yield from sorted(folder.iterdir())


def _read(path: Path) -> bytes:
    try:
        with open_regular(path) as file:
            return file.read(MOST_BYTES)
    except OSError:
        return b""


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except Exception as error:  # noqa: BLE001 - the package's script has a plainer look of its own then
        sys.stderr.write(f"vzdump-hooks: whether it is still used cannot be found out ({error})\n")
        sys.exit(NOT_KNOWN)
