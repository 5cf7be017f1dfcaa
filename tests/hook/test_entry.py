"""The hook as a program: how it is called, what it imports, and that it ends with 0 or 1 whatever comes."""

from __future__ import annotations

import contextlib
import itertools
import os
import pty
import re
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from snapshot.config import settings
from tests.lab.site import BIN, run_command
from vzdump_hooks import entry
from vzdump_hooks.call import JOB_PHASES, InvocationError, Mode, Phase, UnknownPhaseError, parse
from vzdump_hooks.dispatch import HANDLERS
from vzdump_hooks.entry import IDLE_PHASES

# A configuration without a node, a token or a journal that could be written.
NOWHERE = """
[api]
host = "127.0.0.1"
port = 1
token_file = "/nonexistent/token"
[local]
node = ""
task_folder = "{folder}/tasks"
[journal]
path = "{folder}/state/journal.sqlite"
[metrics]
textfile = ""
"""
ROOT = Path(__file__).resolve().parents[2]
ENVIRONMENT = {"LC_ALL": "C", "LVM_SUPPRESS_FD_WARNINGS": "1", "STOREID": "local", "VMTYPE": "qemu"}
GUEST_PHASES = [phase for phase in Phase if phase not in JOB_PHASES]


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "config.toml"
    path.write_text(NOWHERE.format(folder=tmp_path))
    return path


def hook(
    *arguments: str | bytes, config: Path | None = None, env: dict[bytes, bytes] | None = None, preexec: str = ""
) -> subprocess.CompletedProcess[bytes]:
    """Start the hook as vzdump does: both streams are pipes, standard input is at its end."""
    own = ["--config", str(config)] if config else []
    command: list[str | bytes] = [str(BIN / "vzdump-hook"), *own, *arguments]
    if preexec:
        command = ["/bin/sh", "-c", f'exec "$@" {preexec}', "sh", *command]
    plain = {name.encode(): value.encode() for name, value in ENVIRONMENT.items()}
    return subprocess.run(
        command, env={**plain, **(env or {})}, stdin=subprocess.DEVNULL, capture_output=True, check=False, timeout=60
    )


def check(done: subprocess.CompletedProcess[bytes]) -> list[str]:
    """What must hold for every call; returns its lines."""
    assert done.returncode in (0, 1), done
    assert b"Traceback" not in done.stdout + done.stderr, done
    assert done.stderr == b"", done
    lines = done.stdout.decode("ascii").splitlines()
    assert all(line.startswith("vzdump-hook: ") and line.isprintable() and len(line) < 600 for line in lines), lines
    return lines


# ----------------------------------------------------------------------------------------------------------- calling


def test_every_phase_has_a_handler_or_nothing_to_do() -> None:
    assert {phase.value for phase in Phase} == {phase.value for phase in HANDLERS} | set(IDLE_PHASES)


@pytest.mark.parametrize("phase", list(Phase))
def test_no_phase_fails_a_backup_without_a_node_a_token_or_a_task(phase: Phase, config: Path) -> None:
    guest = [] if phase in JOB_PHASES else ["snapshot", "100"]
    done = hook(phase.value, *guest, config=config)
    lines = check(done)
    assert done.returncode == 0, lines
    assert len(lines) <= 1


@pytest.mark.parametrize("arguments", [("brand-new", "snapshot", "100"), ("brand-new",), ("\x1b[31m\r\nTASK OK",)])
def test_an_unknown_phase_is_ignored_and_said(arguments: tuple[str, ...]) -> None:
    done = hook(*arguments)
    assert done.returncode == 0
    (line,) = check(done)
    assert "not known to this version" in line


@pytest.mark.parametrize(
    "arguments",
    [
        ("backup-start",),
        ("backup-start", "snapshot"),
        ("backup-start", "brand-new", "100"),
        ("backup-start", "snapshot", "../../etc/passwd"),
        ("backup-start", "snapshot", "99"),
        ("backup-start", "snapshot", "1e3"),
        ("backup-start", "snapshot", "\u0661\u0660\u0660"),
        ("backup-start", "snapshot", "9" * 4000),
        ("backup-start", "snapshot", ""),
        ("backup-start", "snapshot", "100\n"),
        (b"backup-start", b"snapshot", b"\xff\xfe100"),
    ],
)
def test_a_call_that_is_not_vzdumps_is_ignored_and_said(arguments: tuple[str | bytes, ...], config: Path) -> None:
    done = hook(*arguments, config=config)
    assert done.returncode == 0
    assert len(check(done)) == 1


def test_without_a_phase_it_says_how_it_is_used() -> None:
    done = hook()
    assert done.returncode == 1
    assert "--help" in check(done)[0]
    assert hook("--help").stdout.startswith(b"usage: vzdump-hook")


@pytest.mark.parametrize("arguments", [(), ("--hlep",), ("--config", "/nowhere", "-x")])
def test_who_calls_it_at_a_terminal_is_told_what_it_is_for(arguments: tuple[str, ...]) -> None:
    """vzdump reads it through a pipe, and is answered as ever."""
    screen, console_end = pty.openpty()
    with subprocess.Popen([str(BIN / "vzdump-hook"), *arguments], stdout=console_end, stderr=console_end) as process:
        os.close(console_end)
        said = b""
        with contextlib.suppress(OSError):  # Linux says EIO when the other end is closed
            while piece := os.read(screen, 65536):
                said += piece
    os.close(screen)
    lines = said.decode().splitlines()
    assert process.returncode == 1
    assert "usage: vzdump-hook [--config FILE] PHASE [MODE VMID]" in lines
    assert any("safe-snapshot setup" in line for line in lines)
    assert max(map(len, lines)) < 80
    assert lines[0] == (f"no such option: {arguments[-1]!r}" if arguments else lines[0])
    piped = hook(*arguments)
    assert len(check(piped)) == 1
    assert piped.returncode == (0 if arguments else 1)


def test_it_says_its_version_as_the_other_program_does(capsys: pytest.CaptureFixture[str]) -> None:
    other = run_command([str(BIN / "safe-snapshot"), "--version"]).stdout
    assert entry.run(["--version"], {}) == 0
    assert capsys.readouterr().out == f"vzdump-hook, version {metadata.version('vzdump-hooks')}\n"
    assert hook("--version").stdout.decode() == other.replace("safe-snapshot", "vzdump-hook")
    assert re.fullmatch(r"safe-snapshot, version \d[\w.]*\n", other)


def test_a_closed_or_a_full_output_or_one_that_nobody_reads_is_no_failure(config: Path) -> None:
    for streams in (">&-", ">&- 2>&- <&-", ">/dev/full", "2>&-", ">&- 2>/dev/full"):
        done = hook("backup-start", "snapshot", "100", config=config, preexec=streams)
        assert (done.returncode, done.stderr) == (0, b""), (streams, done)
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "wb") as nobody:
        command = [str(BIN / "vzdump-hook"), "--config", str(config), "backup-start", "snapshot", "100"]
        gone = subprocess.run(command, stdout=nobody, stderr=subprocess.PIPE, env=ENVIRONMENT, check=False, timeout=60)
    assert (gone.returncode, gone.stderr) == (0, b"")


def test_a_broken_installation_does_not_fail_a_backup(monkeypatch: pytest.MonkeyPatch, capsys: object) -> None:
    monkeypatch.setattr(sys, "argv", ["vzdump-hook", "backup-start", "snapshot", "100"])
    monkeypatch.setitem(sys.modules, "vzdump_hooks.dispatch", None)
    monkeypatch.delattr("vzdump_hooks.dispatch")
    monkeypatch.setattr(os, "_exit", sys.exit)
    with pytest.raises(SystemExit) as ended:
        entry.main()
    assert ended.value.code == 0


def test_the_hook_ends_at_once_when_all_is_said() -> None:
    """vzdump waits for its end with the guest frozen: what an interpreter does on its way down is not done."""
    script = "import atexit; from vzdump_hooks import entry; atexit.register(print, 'on the way down'); entry.main()"
    command = [sys.executable, "-c", script, "pre-stop", "snapshot", "100"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, check=False, timeout=60)
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")


# ------------------------------------------------------------------------------------------------- foreign environments

HOSTILE = {
    b"HOSTNAME": b"\x1b]0;x\x07\r\nINFO: started backup task 'x'\r\nTASK OK\n../../../etc\xff\xfe" + b"A" * 60_000,
    b"TARGET": b"/../../../../etc/shadow\n\xff" + b"../" * 20_000,
    b"STOREID": b"local/../../nodes/pve1/config?x=#\x1b[2J\n\xf0\x28\x8c\x28",
    b"LOGFILE": b"/dev/zero",
    b"DUMPDIR": b"/proc/self/../../etc\xff",
    b"VMTYPE": b"qemu",
    b"PYTHONPATH": b"/nonexistent",
    b"HOME": b"/nonexistent",
    b"PATH": b"",
}


@pytest.mark.parametrize("phase", GUEST_PHASES)
def test_a_hostile_environment_is_survived_in_every_phase(phase: Phase, config: Path, tmp_path: Path) -> None:
    done = hook(phase.value, "snapshot", "100", config=config, env=HOSTILE)
    check(done)
    assert done.returncode == 0
    assert {path.name for path in tmp_path.iterdir()} <= {"config.toml", "state"}


@pytest.mark.parametrize("vm_type", [b"", b"openvz", b"qemu\n", b"\xff"])
def test_a_guest_of_a_kind_that_is_not_known_is_left_alone(vm_type: bytes, config: Path) -> None:
    for phase in ("backup-start", "post-restart"):
        assert check(hook(phase, "snapshot", "100", config=config, env={b"VMTYPE": vm_type})) == []
    (line,) = check(hook("backup-end", "snapshot", "100", config=config, env={b"VMTYPE": vm_type}))
    assert "WARNING: guest 100: unknown: vzdump did not say what kind of guest it is" in line, "it may be no container"


@given(
    st.lists(st.text(alphabet=st.characters(codec="utf-8")), max_size=4),
    st.dictionaries(st.sampled_from(["VMTYPE", "HOSTNAME", "TARGET", "STOREID", "DUMPDIR", "LOGFILE"]), st.text()),
)
def test_whatever_stands_in_a_call_is_parsed_or_refused(arguments: list[str], environment: dict[str, str]) -> None:
    try:
        found = parse(arguments, environment)
    except InvocationError as error:
        refusal = str(error)
    else:
        refusal = ""
        assert found.phase.value == arguments[0]
    assert refusal.isprintable()


@given(st.sampled_from(GUEST_PHASES), st.sampled_from(Mode), st.text(max_size=12))
def test_a_vmid_is_a_number_of_pves(phase: Phase, mode: Mode, vmid: str) -> None:
    try:
        found = parse([phase.value, mode.value, vmid], {})
    except UnknownPhaseError:
        raise
    except InvocationError:
        return
    assert found.vmid is not None
    assert 100 <= found.vmid <= 999_999_999


# -------------------------------------------------------------------------------------------------------------- imports

MODES = [mode.value for mode in Mode]
IDLE_CALLS = [
    ["job-init"],
    *([phase, mode, "100"] for phase, mode in itertools.product(("pre-stop", "pre-restart"), MODES)),
    ["post-restart", "stop", "100"],
    ["post-restart", "suspend", "100"],
    ["log-end", "snapshot", "100"],
    ["brand-new", "snapshot", "100"],
]
HEAVY = {
    "dataclasses",
    "tomllib",
    "json",
    "pathlib",
    "logging",
    "ssl",
    "sqlite3",
    "subprocess",
    "snapshot.config.settings",
}
REPOSITORY = str(Path(__file__).parents[2])


def imported_by(code: str, *arguments: str) -> set[str]:
    """What ``code`` imports in an interpreter that has the standard library and this repository, and nothing else."""
    start = f"import sys; sys.path.insert(0, {REPOSITORY!r}); {code}; print(*sys.modules)"
    command = [sys.executable, "-I", "-S", "-c", start, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return set(done.stdout.splitlines()[-1].split())


def foreign(modules: set[str]) -> set[str]:
    """What is neither the standard library's nor ours."""
    tops = {name.partition(".")[0] for name in modules}
    return tops - sys.stdlib_module_names - {"__main__", "vzdump_hooks", "snapshot"}


def run_with(environment: str = "{}") -> str:
    return f"from vzdump_hooks.entry import run; run(sys.argv[1:], {environment})"


@pytest.mark.parametrize("arguments", IDLE_CALLS, ids=" ".join)
def test_a_phase_with_nothing_to_do_imports_the_standard_library_only(arguments: list[str]) -> None:
    modules = imported_by(run_with(), *arguments)
    assert not foreign(modules)
    assert not modules & HEAVY


@pytest.mark.parametrize("phase", ["post-restart", "backup-start"])
def test_a_containers_phases_before_its_backup_have_nothing_to_do(phase: str) -> None:
    modules = imported_by(run_with("{'VMTYPE': 'lxc'}"), phase, "snapshot", "100")
    assert not foreign(modules)
    assert not modules & HEAVY


@pytest.mark.parametrize("module", ["backup_start", "post_restart", "backup_end", "log_end", "job"])
def test_no_phase_imports_a_library_before_it_knows_that_it_needs_one(module: str) -> None:
    assert not foreign(imported_by(f"import vzdump_hooks.phases.{module}"))


def test_what_log_end_looks_for_is_what_the_configuration_has() -> None:
    """It cannot import them: that would cost more than the phase."""
    assert Path(entry.CONFIG_PATH) == settings.DEFAULT_PATH
    assert entry.NOTES_OPTION.decode() in settings.HookConfig._fields
