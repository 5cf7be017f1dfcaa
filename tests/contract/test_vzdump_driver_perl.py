"""The driver's way to call a hook beside Perl's own: what the driver claims of Perl is asked of Perl."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.lab.rundir import run_directory
from tests.lab.vzdump.command import hook_environment, run_command
from tests.lab.vzdump.log import PerlFile
from tests.lab.vzdump.testing import RecordingHook

PERL = shutil.which("perl")
CALL_HOOK = Path(__file__).parent / "perl/call_hook.pl"

pytestmark = pytest.mark.skipif(PERL is None, reason="perl is not installed")


@pytest.fixture
def folder() -> Iterator[Path]:
    with run_directory() as folder:
        yield folder


def by_perl(hook: RecordingHook, log: Path) -> list[str]:
    assert PERL is not None
    # Only a pipe made by the caller itself may be handed down: nothing of pytest's.
    done = subprocess.run([PERL, CALL_HOOK, hook.path, log, "pre-stop"], capture_output=True, text=True, check=True)
    return done.stdout.splitlines()


def by_driver(hook: RecordingHook, log: Path) -> list[str]:
    file = PerlFile(log)
    file.write(b"buffered before the fork\n")
    ends = os.pipe()
    for end in ends:
        os.set_inheritable(end, True)
    (hook.folder / "pipe").write_text(os.readlink(f"/proc/self/fd/{ends[0]}"))
    file.flush()  # Logger.before_fork
    said: list[bytes] = []
    run_command([str(hook.path), "pre-stop"], hook_environment({"STOREID": "local", "DUMPDIR": ""}), said.append)
    file.write(b"buffered after the fork\n")
    file.close()
    for end in ends:
        os.close(end)
    return [line.decode() for line in said]


def listed(hook: RecordingHook) -> str:
    return (hook.calls[0].folder / "fds").read_text()


def test_perl_and_the_driver_hand_a_hook_the_same(folder: Path) -> None:
    log = folder / "log"
    body = f'ls -l /proc/$$/fd >"$call/fds"; cat "{log}"; cat; echo "stdin ended"; echo error >&2'
    perl, driver = RecordingHook(folder / "perl", body), RecordingHook(folder / "driver", body)
    assert by_perl(perl, log) == ["buffered before the fork", "stdin ended", "error"]
    assert by_driver(driver, log) == ["buffered before the fork", "stdin ended", "error"]
    assert perl.calls[0].environment == driver.calls[0].environment
    assert perl.calls[0].arguments == driver.calls[0].arguments == ("pre-stop",)
    # Both ends of the caller's pipe are handed down, beyond the three streams. (From 10 on they are the shell's own.)
    assert len([n for n in re.findall(r" (\d+) -> pipe:", listed(perl)) if 2 < int(n) < 10]) == 2
    assert listed(driver).count((driver.folder / "pipe").read_text()) == 2


def test_a_file_without_an_interpreter_line_is_run_by_the_shell_in_both(folder: Path) -> None:
    perl, driver = (RecordingHook(folder / name, "echo run") for name in ("perl", "driver"))
    for hook in (perl, driver):
        hook.path.write_text(hook.path.read_text().removeprefix("#!/bin/sh\n"))
    assert by_perl(perl, folder / "log") == by_driver(driver, folder / "log") == ["run"]


def test_perl_shows_its_title_as_the_command_line(folder: Path) -> None:
    hook = RecordingHook(folder / "perl", "tr '\\0' '\\n' </proc/$PPID/cmdline | head -n 1; cat /proc/$PPID/comm")
    assert by_perl(hook, folder / "log") == ["task UPID:lab", "task UPID:lab"]


@pytest.mark.parametrize("lines", [10, 400, 1000])
def test_perls_buffer_and_the_drivers_write_out_at_the_same_places(folder: Path, lines: int) -> None:
    assert PERL is not None
    program = 'open(F, ">", shift); print F "line $_ of a log\\n" for 1 .. shift; POSIX::_exit(0)'
    subprocess.run([PERL, "-MPOSIX", "-e", program, folder / "perl", str(lines)], check=True)
    file = PerlFile(folder / "driver")
    for number in range(1, lines + 1):
        file.write(f"line {number} of a log\n".encode())
    assert (folder / "driver").read_bytes() == (folder / "perl").read_bytes()
    file.close()
