"""One window, one guard: the claim, and who cannot take it."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from snapshot.base.procfs import process_start
from snapshot.guard import claim
from snapshot.guard.claim import Claim, Holder, take
from snapshot.journal.file import GUARDS_FOLDER

NOBODY = 65534
AS_ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="another user is needed")
HOLD = """
import sys, time; from pathlib import Path; from snapshot.guard.claim import take
held = take(Path(sys.argv[1]), "w1"); print(held.is_held, flush=True); time.sleep(600)
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "state" / GUARDS_FOLDER


@contextmanager
def held_by_another(folder: Path) -> Iterator[subprocess.Popen[str]]:
    with subprocess.Popen([sys.executable, "-c", HOLD, str(folder)], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "True\n"
        try:
            yield process
        finally:
            process.kill()


def claimed(folder: Path) -> Claim:
    found = take(folder, "w1")
    assert isinstance(found, Claim)
    return found


def test_a_window_has_one_guard_and_the_second_hears_who_it_is(folder: Path) -> None:
    with held_by_another(folder) as other:
        assert take(folder, "w1") == Holder(other.pid, process_start(other.pid) or 0)
        assert isinstance(take(folder, "w2"), Claim)


def test_a_claim_ends_with_its_holder_whatever_ends_it(folder: Path) -> None:
    with held_by_another(folder) as other:
        other.kill()
        other.wait()
        assert claimed(folder).is_held


def test_the_folder_and_its_files_are_closed_to_everybody_else(folder: Path) -> None:
    assert claimed(folder).is_held
    assert folder.stat().st_mode & 0o777 == 0o700
    assert (folder / "w1.lock").stat().st_mode & 0o777 == 0o600
    folder.chmod(0o755)
    assert isinstance(take(folder, "w2"), Claim)
    assert folder.stat().st_mode & 0o777 == 0o700


def test_the_end_of_a_window_leaves_no_file_not_even_that_of_a_guard_that_was_killed(folder: Path) -> None:
    with held_by_another(folder) as other:
        last = take(folder, "w2")
        assert isinstance(last, Claim)
        other.kill()
        other.wait()
        last.release()
    assert list(folder.iterdir()) == []


def test_the_end_of_a_window_leaves_the_claims_of_others_alone(folder: Path) -> None:
    with held_by_another(folder):
        last = take(folder, "w2")
        assert isinstance(last, Claim)
        last.release()
        assert isinstance(take(folder, "w1"), Holder)


def test_a_file_that_its_holder_removed_meanwhile_is_no_claim(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Opened, then removed and made anew by others before it was locked: two guards would each hold a file."""
    first = claimed(folder)
    real, left = claim._open_file, [True]

    def slow(opened: int, name: str) -> int:
        descriptor = real(opened, name)
        if left:
            left.clear()
            first.release()
        return descriptor

    monkeypatch.setattr(claim, "_open_file", slow)
    second = take(folder, "w1")
    assert isinstance(second, Claim)
    assert second.is_held
    assert isinstance(take(folder, "w1"), Holder)


def unfit(folder: Path, what: str) -> None:
    folder.parent.mkdir()
    if what == "a file":
        folder.write_text("")
    elif what == "a link":
        (folder.parent / "elsewhere").mkdir()
        folder.symlink_to(folder.parent / "elsewhere")
    else:
        folder.mkdir()
        os.chown(folder, NOBODY, NOBODY)


@pytest.mark.parametrize("what", ["a file", "a link", pytest.param("another user's", marks=AS_ROOT)])
def test_a_guard_goes_on_without_a_claim_where_none_can_be_had(folder: Path, what: str) -> None:
    unfit(folder, what)
    found = claimed(folder)
    assert not found.is_held
    found.release()


@pytest.mark.parametrize("error", [28, 30])
def test_a_disk_that_is_full_or_read_only_by_now_costs_no_claim(
    folder: Path, error: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first guard has made the file, before the freeze."""
    with held_by_another(folder) as other:
        other.kill()
        other.wait()
    real = os.open

    def refuse(path: object, flags: int, *rest: object, **options: object) -> int:
        if flags & (os.O_CREAT | os.O_WRONLY):
            raise OSError(error, "no")
        return real(path, flags, *rest, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(claim.os, "open", refuse)
    assert claimed(folder).is_held
    missing = take(folder, "w9")
    assert isinstance(missing, Claim)
    assert not missing.is_held
