"""``python -m tests.mutations [NAME ...]``: break each guarantee in a copy of the tree; its tests must notice.

Fails when a mutation survives one of its catchers, when a catcher cannot run or fails without any mutation too (then
it catches nothing), or when a change no longer applies.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from tests.mutations.table import MUTATIONS, Edit, Mutation

ROOT = Path(__file__).resolve().parents[2]
TEXTS = ("README.md", "CHANGELOG.md", "CONTRIBUTING.md", "LICENSE")
"""What the Debian package takes besides."""
COPIED = ("snapshot", "vzdump_hooks", "tests", "scripts", "docs", "contrib", "pyproject.toml", *TEXTS)
STARTER = "snapshot/base/detached.py"
TESTS_FAILED = 1
"""pytest's exit status; any other but 0 means that it could not run them or was killed, which catches nothing."""
MOST_BYTES = 4 << 30
"""The address space of each process of a catcher: a mutation may take a cap away. A real guest's QEMU takes 0.8 GB."""


class DoesNotApplyError(Exception):
    """The source has changed, and the mutation must follow it."""


def mutated(change: Mutation, root: Path) -> Iterator[tuple[Path, str]]:
    """(file, new text) of each file that ``change`` touches below ``root``."""
    texts: dict[str, str] = {}
    for edit in change.edits:
        text = texts.get(edit.file) or (root / edit.file).read_text(encoding="utf-8")
        found = text.count(edit.old)
        if found != 1:
            raise DoesNotApplyError(f"{change.name}: {edit.file} holds the text {found} times: {edit.old!r}")
        texts[edit.file] = text.replace(edit.old, edit.new)
    for file, text in texts.items():
        yield root / file, text


class Baseline:
    """What the catchers say of the sound tree: one that fails there would "catch" every mutation."""

    def __init__(self, tree: Path) -> None:
        self._tree = tree
        self._known: dict[str, str] = {}

    def trouble(self, change: Mutation) -> list[str]:
        """The catchers of ``change`` that do not pass without it. Each is run once."""
        return [f"{catcher} (without the mutation: {why})" for catcher in change.catchers if (why := self._of(catcher))]

    def _of(self, catcher: str) -> str:
        if catcher not in self._known:
            status, tail = _run(catcher, self._tree)
            self._known[catcher] = "" if status == 0 else f"pytest {_end(status)}: {tail}"
        return self._known[catcher]


def survivors(change: Mutation, tree: Path) -> list[str]:
    """The catchers that did not catch ``change``, with what became of them. ``tree`` is as before afterwards."""
    originals = {path: path.read_text(encoding="utf-8") for path, _ in mutated(change, tree)}
    for path, text in list(mutated(change, tree)):
        path.write_text(text, encoding="utf-8")
    try:
        found = []
        for catcher in change.catchers:
            status, tail = _run(catcher, tree)
            if status != TESTS_FAILED:
                found.append(f"{catcher} (pytest {_end(status)}: {tail})")
        return found
    finally:
        for path, text in originals.items():
            path.write_text(text, encoding="utf-8")


def _run(catcher: str, tree: Path) -> tuple[int, str]:
    paths = {"PYTHONPATH": str(tree), "LAB_MUTATED_TREE": str(tree)}
    environment = {**os.environ, **paths, "PYTHONDONTWRITEBYTECODE": "1"}
    pytest = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", "--timeout=120", catcher]
    done = subprocess.run(
        ["prlimit", f"--as={MOST_BYTES}", *pytest],
        cwd=tree,
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    return done.returncode, (done.stdout.strip().splitlines() or ["no output"])[-1]


def _end(status: int) -> str:
    return f"was killed by {signal.Signals(-status).name}" if status < 0 else f"ended with {status}"


def copy_tree(target: Path) -> None:
    """The sources and tests, without caches. What they start runs the copy too: isolated, it ran the installed tree."""
    for name in COPIED:
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, target / name, ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
        else:
            shutil.copy(source, target / name)
    here = f'ENVIRONMENT = {{"PYTHONPATH": "{target}", "PATH"'
    starts = (
        Edit(STARTER, '[interpreter(), "-I", "-m",', '[interpreter(), "-m",'),
        Edit(STARTER, 'ENVIRONMENT = {"PATH"', here),
    )
    for path, text in mutated(Mutation("starts the copy", starts, ()), target):
        path.write_text(text, encoding="utf-8")


def share(text: str) -> tuple[int, int]:
    """``I/N`` as two numbers. ArgumentTypeError for anything that names no share."""
    found = re.fullmatch(r"(\d+)/(\d+)", text, re.ASCII)
    first, step = (int(found[1]), int(found[2])) if found else (0, 0)
    if not 1 <= first <= step:
        raise argparse.ArgumentTypeError(f"{text!r} is no share: I/N with I from 1 to N, as 1/3")
    return first, step


def main(argv: Sequence[str] | None = None) -> int:
    """See the module's docstring."""
    parser = argparse.ArgumentParser(prog="python -m tests.mutations", description=__doc__)
    parser.add_argument("names", nargs="*", help="only these mutations")
    parser.add_argument("--share", type=share, default=(1, 1), metavar="I/N", help="only the I-th of N shares")
    parser.add_argument("--list", action="store_true", help="name them and their catchers")
    options = parser.parse_args(argv)
    first, step = options.share
    chosen = [m for m in MUTATIONS if not options.names or m.name in options.names][first - 1 :: step]
    if options.list or not chosen:
        for change in MUTATIONS:
            print(f"{change.name}\n    " + "\n    ".join(change.catchers))
        return 0 if options.list else 2
    failed = 0
    with tempfile.TemporaryDirectory(prefix="mutations-") as folder:
        tree = Path(folder)
        copy_tree(tree)
        baseline = Baseline(tree)
        for change in chosen:
            began = time.monotonic()
            try:
                survived = baseline.trouble(change) or survivors(change, tree)
            except DoesNotApplyError as error:
                survived = [str(error)]
            failed += bool(survived)
            word = "SURVIVED" if survived else "caught"
            print(f"{word:8} {change.name} ({time.monotonic() - began:.0f} s)", flush=True)
            for line in survived:
                print(f"         {line}", flush=True)
    print(f"{len(chosen) - failed} of {len(chosen)} mutations caught by every one of their tests")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
