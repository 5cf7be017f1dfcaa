"""Who may import what (CONTRIBUTING's map), read from the source; and what an idle phase really imports."""

from __future__ import annotations

import ast
import functools
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from snapshot.base.late import load
from snapshot.cli.commands import COMMANDS

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("snapshot", "vzdump_hooks")
FILES = sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))
NAMES = [str(path.relative_to(ROOT)) for path in FILES]

# Which file may import a library that is not Python's own: a pattern for Path.match.
LIBRARIES = {
    "proxmoxer": "snapshot/pve/https.py",
    "requests": "snapshot/pve/https*.py",
    "urllib3": "snapshot/pve/https*.py",
    "tenacity": "snapshot/base/retry.py",
    "prometheus_client": "snapshot/metrics/exposition.py",
    "click": "snapshot/cli/*.py",
}
# Where the environment is read beside the programs' entries, and which of it.
EDGES = {
    "snapshot/base/unit.py": ("NOTIFY_SOCKET", "CREDENTIALS_DIRECTORY", "JOURNAL_STREAM"),
    "snapshot/base/terminal.py": ("COLUMNS", "TERM", "NO_COLOR"),
    "snapshot/cli/bash.py": ("COMP_LINE", "COMP_WORDBREAKS"),
}
STANDARD_ONLY = (
    "snapshot/model.py",
    "snapshot/states.py",
    "snapshot/errors.py",
    "vzdump_hooks/entry.py",
    "vzdump_hooks/say.py",
)
CLOCKS = {"sleep", "monotonic", "time", "perf_counter", "monotonic_ns", "time_ns", "perf_counter_ns"}
BOOT_ID = "/proc/sys/kernel/random/boot_id"
WHO_WE_ARE = {
    "os.getpid",
    "snapshot.base.procfs.boot_id",
    "snapshot.base.procfs.BOOT_ID_FILE",
    "snapshot.base.procfs",
    BOOT_ID,
}
# Who asks for its own pid all the same, and tells nobody who we are by it.
OWN_PID = {
    "snapshot/base/hardening.py": "syslog's name for us; and who looks at others never ends itself",
    "snapshot/base/signals.py": "a process stops itself",
}
IDLE = [
    ["pre-stop", "snapshot", "100"],
    ["pre-restart", "snapshot", "100"],
    ["pre-stop", "stop", "100"],
    ["pre-restart", "suspend", "100"],
    ["post-restart", "stop", "100"],
    ["post-restart", "suspend", "100"],
]


@functools.cache
def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(), str(path))


@functools.cache
def imports(path: Path) -> tuple[tuple[str, int], ...]:
    """(module, line) of every import of a file, wherever it stands."""
    found: list[tuple[str, int]] = []
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Import):
            found += [(alias.name, node.lineno) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno}: a relative import"
            found.append((node.module or "", node.lineno))
    return tuple(found)


def test_the_source_was_found() -> None:
    assert len(FILES) > 40
    assert set(STANDARD_ONLY) <= set(NAMES)
    for library, pattern in LIBRARIES.items():
        users = [name for name, path in zip(NAMES, FILES, strict=True) if _uses(path, library)]
        assert users, f"nobody imports {library} any more: take it out of the table"
        assert all(Path(name).match(pattern) for name in users), f"{library} is imported in {users}"


def _uses(path: Path, library: str) -> bool:
    return any(module.partition(".")[0] == library for module, _ in imports(path))


@pytest.mark.parametrize("path", FILES, ids=NAMES)
def test_a_file_imports_only_what_it_may(path: Path) -> None:
    name = str(path.relative_to(ROOT))
    for module, line in imports(path):
        top = module.partition(".")[0]
        where = f"{name}:{line}: import of {module}"
        if top == "vzdump_hooks":
            assert name.startswith("vzdump_hooks/"), f"{where}: the engine never imports the hook"
        elif top == "snapshot":
            assert name not in STANDARD_ONLY, f"{where}: standard library only"
        elif top not in sys.stdlib_module_names:
            assert name not in STANDARD_ONLY, f"{where}: standard library only"
            assert top in LIBRARIES, f"{where}: not one of our libraries"
            assert Path(name).match(LIBRARIES[top]), f"{where}: belongs in {LIBRARIES[top]}"


@pytest.mark.parametrize("path", FILES, ids=NAMES)
def test_only_the_clock_reads_a_clock_or_sleeps(path: Path) -> None:
    name = str(path.relative_to(ROOT))
    if name == "snapshot/base/clock.py":
        return
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "time":
            assert node.attr not in CLOCKS, f"{name}:{node.lineno}: time.{node.attr} belongs in snapshot/base/clock.py"
        if isinstance(node, ast.ImportFrom) and node.module == "time":
            taken = CLOCKS & {alias.name for alias in node.names}
            assert not taken, f"{name}:{node.lineno}: {taken} belongs in snapshot/base/clock.py"
        if isinstance(node, ast.Attribute) and node.attr in ("now", "utcnow", "today"):
            dotted = ast.unparse(node.value)
            assert dotted not in ("datetime", "datetime.datetime", "date", "datetime.date"), f"{name}:{node.lineno}"


@pytest.mark.parametrize("path", FILES, ids=NAMES)
def test_who_we_are_is_read_in_one_place_and_an_argument_from_there_on(path: Path) -> None:
    name = str(path.relative_to(ROOT))
    if name == "snapshot/base/procfs.py":
        return
    for node in ast.walk(tree(path)):
        read = set()
        if isinstance(node, ast.Attribute):
            read = {ast.unparse(node)}
        elif isinstance(node, ast.ImportFrom):
            read = {f"{node.module}.{alias.name}" for alias in node.names}
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            read = {node.value}
        read &= WHO_WE_ARE - ({"os.getpid"} if name in OWN_PID else set())
        assert not read, f"{name}:{getattr(node, 'lineno', 0)}: {read} belongs in snapshot/base/procfs.py"


def test_those_who_may_ask_for_their_own_pid_do() -> None:
    for name in OWN_PID:
        assert "os.getpid()" in (ROOT / name).read_text(), f"{name} does not any more: take it out of the table"


@pytest.mark.parametrize("path", FILES, ids=NAMES)
def test_the_environment_is_read_at_the_edge_alone(path: Path) -> None:
    name = str(path.relative_to(ROOT))
    if name in ("snapshot/entry.py", "vzdump_hooks/entry.py", *EDGES):
        return
    for node in ast.walk(tree(path)):
        read = isinstance(node, ast.Attribute) and node.attr in ("environ", "environb", "getenv")
        assert not read, (
            f"{name}:{getattr(node, 'lineno', 0)}: the environment is read where the programs start, in entry.py, and "
            "systemd's words to a unit and the terminal's in snapshot/base, and bash's in snapshot/cli/bash.py"
        )


@pytest.mark.parametrize("edge", EDGES)
def test_of_systemds_and_the_terminals_words_nothing_else_is_read(edge: str) -> None:
    nodes = ast.walk(tree(ROOT / edge))
    calls = [n for n in nodes if isinstance(n, ast.Call) and ast.unparse(n.func).startswith("os.")]
    read = [(ast.unparse(call.func), ast.literal_eval(call.args[0])) for call in calls]
    assert read == [("os.environ.get", name) for name in EDGES[edge]]


@pytest.mark.parametrize("path", FILES, ids=NAMES)
def test_a_file_says_what_lives_in_it(path: Path) -> None:
    assert (ast.get_docstring(tree(path)) or "").strip(), f"{path} has no docstring"


def loaded(script: str, *flags: str) -> set[str]:
    """The modules that ``script`` adds to those of a bare interpreter, in an emptied environment as vzdump gives."""
    before_and_after = f"""
import sys
before = set(sys.modules)
sys.path.insert(0, {str(ROOT)!r})
{script}
after = set(sys.modules) - before
import json
print(json.dumps(sorted(after)))
"""
    done = subprocess.run(
        [sys.executable, *flags, "-c", before_and_after],
        capture_output=True,
        text=True,
        cwd="/",
        env={"LC_ALL": "C"},
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return set(json.loads(done.stdout.splitlines()[-1]))


def strangers(modules: set[str]) -> set[str]:
    """What is neither Python's own nor the hook's entry and its way to say a line."""
    return {
        module
        for module in modules
        if module.partition(".")[0] not in sys.stdlib_module_names
        and module not in ("vzdump_hooks", "vzdump_hooks.entry", "vzdump_hooks.say")
    }


def test_the_hooks_entry_imports_the_standard_library_only() -> None:
    found = loaded("import vzdump_hooks.entry")
    assert "vzdump_hooks.entry" in found
    assert not strangers(found)


@pytest.mark.parametrize("arguments", IDLE, ids=" ".join)
def test_a_phase_with_nothing_to_do_imports_the_standard_library_only_and_little_of_it(arguments: list[str]) -> None:
    found = loaded(
        f"import vzdump_hooks.entry\nassert vzdump_hooks.entry.run({arguments!r}, {{'VMTYPE': 'qemu'}}) == 0"
    )
    assert not strangers(found)
    heavy = {"argparse", "dataclasses", "enum", "json", "logging", "pathlib", "re", "sqlite3", "ssl", "subprocess"}
    assert not found & heavy
    assert len(found) < 20, sorted(found)


def test_a_phase_with_nothing_to_do_needs_no_collections() -> None:
    """They take a third of its time, unless a package of the site has loaded them already: hence without one."""
    found = loaded("import vzdump_hooks.entry\nassert vzdump_hooks.entry.run(['pre-stop'], {}) == 0", "-S")
    assert "vzdump_hooks.entry" in found
    assert not found & {"collections", "typing", "functools"}


def test_a_phase_of_a_container_imports_the_standard_library_only() -> None:
    arguments = ["post-restart", "snapshot", "101"]
    found = loaded(f"import vzdump_hooks.entry\nassert vzdump_hooks.entry.run({arguments!r}, {{'VMTYPE': 'lxc'}}) == 0")
    assert not strangers(found)


def test_the_check_itself_sees_a_heavy_import() -> None:
    assert "snapshot.base.retry" in strangers(loaded("import vzdump_hooks.entry\nimport snapshot.base.retry"))


@pytest.mark.parametrize("module", ["snapshot.model", "snapshot.states", "snapshot.errors"])
def test_the_nouns_the_states_and_the_errors_need_nothing_but_python(module: str) -> None:
    assert strangers(loaded(f"import {module}")) == {"snapshot", module}


@pytest.mark.parametrize(
    ("module", "never"),
    [
        ("snapshot.thaw.thawer", {"proxmoxer", "click", "prometheus_client"}),
        ("snapshot.journal.store", {"proxmoxer", "requests", "click", "prometheus_client"}),
        ("snapshot.config.settings", {"proxmoxer", "requests", "click", "prometheus_client", "tenacity"}),
        ("snapshot.window.verdict", {"proxmoxer", "requests", "click", "prometheus_client", "tenacity"}),
        ("vzdump_hooks.dispatch", {"snapshot", "proxmoxer", "click", "prometheus_client"}),
    ],
)
def test_a_module_costs_no_more_libraries_than_it_needs(module: str, never: set[str]) -> None:
    assert not {name.partition(".")[0] for name in loaded(f"import {module}")} & never


ROOMS_OF_OTHERS = ("fleet", "setup", "doctor", "drill", "notify", "metrics", "retention", "preflight", "commands")
COMMAND_FILES = {where.partition(":")[0] for where in COMMANDS.values()}


def of_a_line(*words: str) -> set[str]:
    """What a command line loads until its help is printed."""
    return loaded(f"from snapshot.cli.main import main_group\nmain_group.main({words!r}, standalone_mode=False)")


@pytest.mark.parametrize("words", [("--version",), ("-h",), ("thaw", "-h"), ("history", "-h")], ids=" ".join)
def test_a_command_is_loaded_when_it_is_asked_for_and_no_other_is(words: tuple[str, ...]) -> None:
    found = of_a_line(*words)
    if words == ("-h",):
        assert found >= COMMAND_FILES, "each gives its line of the list"
        return
    assert found & COMMAND_FILES == {f"snapshot.cli.{name}" for name in words if name in COMMANDS}
    assert not {name for name in found if name.startswith(tuple(f"snapshot.{room}." for room in ROOMS_OF_OTHERS))}


@pytest.mark.parametrize("words", [("--version",), ("history", "-h"), ("metrics", "-h")], ids=" ".join)
def test_who_asks_pve_nothing_does_not_wait_for_the_library_that_could(words: tuple[str, ...]) -> None:
    assert not of_a_line(*words) & {"requests", "urllib3", "proxmoxer", "tenacity", "prometheus_client"}


def test_all_that_is_loaded_late_is_there() -> None:
    for where in late_names():
        assert callable(load(where)), where


def late_names() -> set[str]:
    """Every ``"module:name"`` of the source."""
    strings = {n.value for f in FILES for n in ast.walk(tree(f)) if isinstance(n, ast.Constant)}
    return {s for s in strings if isinstance(s, str) and re.fullmatch(r"(snapshot|vzdump_hooks)(\.\w+)*:\w+", s)}


def test_late_names_were_found() -> None:
    assert set(COMMANDS.values()) < late_names()
