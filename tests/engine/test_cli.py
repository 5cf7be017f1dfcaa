"""The command line as an operator and as a script meet it: options, suggestions, help, completion, one JSON object."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from snapshot.errors import exit_codes
from snapshot.journal.store import Journal
from snapshot.model import DESCRIPTION_MAX
from tests.engine import kit
from tests.engine.kit import check, take
from tests.json_schema import follows_the_schema
from tests.lab.guest.scripted import ScriptedGuest
from tests.lab.node.node import GuestSpec
from tests.lab.site import BIN, MUTATED_TREE, Run, Site, environment, run_command, wait_for

OUR_COMMANDS = ("take", "check", "thaw", "recover", "status")
COMMANDS = (*OUR_COMMANDS, "history", "report", "metrics")


def command(*arguments: str, **env: str) -> Run:
    """safe-snapshot without a site."""
    return run_command([str(BIN / "safe-snapshot"), *arguments], env=environment() | env)


# ---------------------------------------------------------------- words that are not understood


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("chek 100", "no such command 'chek': did you mean 'check'?"),
        ("tahw 100", "did you mean 'thaw'?"),
        ("frobnicate", "a vmid (a number from 100) or a command is expected"),
        ("--polcy require 100", "did you mean|--policy"),
        ("100 --polcy require", "did you mean|--policy"),
        ("check 100 --jsn", "did you mean|--json"),
        ("100 --policy requier", "'require', 'prefer', 'never'"),
        ("99", "PVE numbers guests from 100 to 999999999"),
        ("0", "is not a vmid"),
        ("0100", "is not a vmid"),
        ("1000000000", "is not a vmid"),
        ("100_x:y", "is not a vmid"),
        ("\uff11\uff10\uff10", "is not a vmid"),
        ("thaw 99", "is not a vmid"),
        ("thaw a:c", "is not a vmid"),
        ("thaw", "Missing argument 'VMID'"),
        ("verify 100", "Missing argument 'SNAPSHOT'|`safe-snapshot list 100`"),
        ("verify", "Missing argument 'GUEST'"),
        ("report", "Missing option '--html'|`safe-snapshot report --html report.html`"),
        ("help frobnicate", "no such command 'frobnicate'"),
        ("check 200-100", "write 100-200"),
        ("check w\u00e4b", "is not a vmid"),
        ("check @pool-shop", "it is written pool:shop"),
        ("check --tag a/b:c", "is not a tag"),
        ("check all 101 102 --exclude 100", "`--exclude 100,101,102`"),
        ("web1", "a guest of that name: `safe-snapshot take web1`"),
        ("take", "Missing argument 'VMID'"),
        ("--policy require", "Missing argument 'VMID'"),
        ("100 --name x", "2 to 40 letters"),
        ("100 --name 1abc", "a letter first"),
        ("100 --name current", "reserved by PVE"),
        ("100 --name Pending", "reserved by PVE"),
        ("100 --name a/b", "is not a snapshot name"),
        ("100 --freeze-timeout 0", "0.1<=x<=3600"),
        ("100 --freeze-timeout nan", "is not a number of seconds"),
        ("100 --max-window inf", "0.1<=x<=3600"),
        ("100 --max-window soon", "is not a valid"),
        ("100 --config", "requires an argument"),
        ("--config /nowhere/at/all.toml 100", "/nowhere/at/all.toml does not exist"),
    ],
)
def test_what_is_not_understood_is_said_clearly(line: str, says: str) -> None:
    run = command(*line.split())
    assert run.exit_code == (3 if "nowhere" in line else 2), run
    for text in says.split("|"):
        assert text.lower() in run.stderr.lower(), run.stderr
    assert run.stdout == ""
    assert "Traceback" not in run.stderr


@pytest.mark.parametrize("words", ["", "doctor", "metrics serve", "100"])
def test_help_is_a_word_too_as_pves_tools_have_it(words: str) -> None:
    asked, shown = command("help", *words.split()), command(*words.split(), "--help")
    assert (asked.stdout, asked.exit_code) == (shown.stdout, 0)
    assert asked.stdout.startswith("Usage: safe-snapshot")


@pytest.mark.parametrize("text", ["a\0b", "bell\a", "esc\x1b[31m"])
def test_control_characters_never_reach_pve(text: str) -> None:
    run = command("100", "--description", text.replace("\0", "\x01"))
    assert run.exit_code == 2
    assert "control characters" in run.stderr


def test_an_argument_that_is_not_utf8_is_refused() -> None:
    done = subprocess.run(
        [str(BIN / "safe-snapshot").encode(), b"100", b"--description", b"\xff\xfe"],
        capture_output=True,
        check=False,
        env=environment(),
    )
    assert done.returncode == 2
    assert b"Traceback" not in done.stderr


def test_the_longest_description_is_taken(lab: Site) -> None:
    run = take(lab, "--description", "\u00e4" * DESCRIPTION_MAX)
    assert run.exit_code == 0, run
    assert kit.description(lab).startswith("\u00e4" * DESCRIPTION_MAX)


# ---------------------------------------------------------------- options before and after the vmid

ORDERS = (
    "100 --name s1 --policy require --json",
    "--name s1 --policy require --json 100",
    "--json --name s1 --policy require 100",
    "--name=s1 --json 100 --policy=require",
    "--json 100 --name s1 --policy require",
    "take --json --name s1 --policy require 100",
    "take 100 --json --name s1 --policy require",
    "-q --policy require --name s1 --json 100",
    "-qv --policy require --name s1 --json 100",
)


@pytest.mark.parametrize("line", ORDERS)
def test_options_may_stand_before_and_after_the_vmid(lab: Site, line: str) -> None:
    run = check(lab, lab.safe_snapshot(*line.split(), "--dry-run"))
    assert run.exit_code == 0, run
    assert (run.json["snapshot"], run.json["policy"]) == ("s1", "require")


@pytest.mark.parametrize("where", ["before", "after", "after the command", "environment"])
def test_the_configuration_may_be_named_anywhere(lab: Site, where: str) -> None:
    config = str(lab.config_path)
    run = {
        "before": lambda: command("--config", config, "check", "100"),
        "after": lambda: command("100", "--dry-run", "--config", config),
        "after the command": lambda: command("check", "--config", config, "100"),
        "environment": lambda: command("check", "100", VZDUMP_HOOKS_CONFIG=config),
    }[where]()
    assert run.exit_code == 0, run


def test_the_last_word_on_the_configuration_is_the_one_nearest_to_the_command(lab: Site) -> None:
    run = command("check", "--config", str(lab.config_path), "100", VZDUMP_HOOKS_CONFIG="/nowhere.toml")
    assert run.exit_code == 0, run


def test_a_relative_configuration_reaches_the_guard_too(lab: Site) -> None:
    """The guard is started with another working directory."""
    done = subprocess.run(
        [str(BIN / "safe-snapshot"), "--config", "config.toml", "100", "--name", "s1", "--policy", "require"],
        cwd=lab.run,
        env=environment(),
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    assert "filesystem-consistent" in done.stdout


# ---------------------------------------------------------------- how much is said


def test_quiet_says_the_closing_line_only(lab: Site) -> None:
    run = take(lab, "--quiet")
    assert run.exit_code == 0
    assert run.stderr == ""
    assert len(run.stdout.splitlines()) == 1
    assert run.stdout.startswith("snapshot s1 of qemu/100, frozen for ")


def test_a_quiet_check_says_the_closing_line_only(lab: Site) -> None:
    run = check(lab, lab.safe_snapshot("-q", "check", "100"))
    assert (run.exit_code, run.stdout, run.stderr) == (0, "ready: this guest can be snapshotted consistently\n", "")


def test_each_step_is_said_with_its_time_and_the_outcome_alone_on_stdout(lab: Site) -> None:
    run = take(lab)
    steps = ("guard armed", "freeze requested", "freeze acknowledged", "snapshot held", "thawed")
    assert [step for step in steps if step in run.stderr] == list(steps)
    times = [float(line.split()[0]) for line in run.stderr.splitlines()]
    assert times == sorted(times)
    assert len(run.stdout.splitlines()) == 1


def test_verbose_shows_every_check_the_task_and_its_log(lab: Site) -> None:
    run = take(lab, "--verbose")
    for text in ("ok  storage", "ok  thawed", "task UPID:pve1:", "skipping guest filesystem freeze - already frozen"):
        assert text in run.stderr
    assert len(run.stdout.splitlines()) == 1


# ---------------------------------------------------------------- help, version, completion


@pytest.mark.parametrize("word", ["-h", "--help"])
def test_the_help_has_examples_and_the_exit_codes(word: str) -> None:
    run = command(word)
    assert run.exit_code == 0
    for text in ("safe-snapshot 100", "safe-snapshot check 100", "safe-snapshot thaw 100", "Exit codes:"):
        assert text in run.stdout
    for code, _, _ in exit_codes():
        assert f"  {code}" in run.stdout, f"exit code {code} is not in the help"


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_a_help_of_its_own(name: str) -> None:
    run = command(name, "--help")
    assert run.exit_code == 0
    assert f"safe-snapshot {name}" in run.stdout
    assert "--config" in run.stdout


def test_the_list_of_commands_shows_whole_sentences() -> None:
    listed = [line for line in command("--help").stdout.splitlines() if line.startswith("  ")]
    for name in OUR_COMMANDS:
        line = next(line for line in listed if line.split()[0] == name)
        assert line.endswith((".", "?")), line
        assert not line.endswith("..."), line


def test_without_arguments_it_helps() -> None:
    run = command()
    assert "Usage: safe-snapshot" in run.text


def test_the_version_is_the_packages() -> None:
    run = command("--version")
    assert run.exit_code == 0
    assert run.stdout.startswith("safe-snapshot, version ")


def complete(*words: str) -> list[str]:
    """What bash would offer for the last of the words."""
    run = command(
        _SAFE_SNAPSHOT_COMPLETE="bash_complete",
        COMP_WORDS=" ".join(("safe-snapshot", *words)),
        COMP_CWORD=str(len(words)),
    )
    assert run.exit_code == 0, run
    return [line.partition(",")[2] for line in run.stdout.splitlines()]


def test_the_shell_gets_its_completion_script() -> None:
    for shell in ("bash", "zsh", "fish"):
        run = command(_SAFE_SNAPSHOT_COMPLETE=f"{shell}_source")
        assert run.exit_code == 0, run
        assert "_SAFE_SNAPSHOT_COMPLETE" in run.stdout
    script = command(_SAFE_SNAPSHOT_COMPLETE="bash_source").stdout
    assert subprocess.run(["bash", "-n"], input=script, text=True, check=False).returncode == 0


def test_commands_and_options_are_completed() -> None:
    assert complete("ch") == ["check"]
    assert "--policy" in complete("--po")
    assert complete("take", "--pol") == ["--policy"]
    assert complete("take", "100", "--policy", "re") == ["require"]


# ---------------------------------------------------------------- what a run loads

LISTING_WHAT_IT_LOADED = """
import atexit, sys
out = sys.argv.pop(1)
atexit.register(lambda: open(out, "w").write(" ".join(sys.modules)))
from snapshot.cli.main import main
main()
"""


@pytest.mark.parametrize("words", [("100",), ("100", "--dry-run"), ("thaw", "100")], ids=" ".join)
def test_a_run_for_one_guest_loads_nothing_of_the_fleet_nor_of_another_command(
    words: tuple[str, ...], lab: Site, tmp_path: Path
) -> None:
    arguments = ["--config", str(lab.config_path), *words]
    argv = [sys.executable, "-c", LISTING_WHAT_IT_LOADED, str(tmp_path / "loaded"), *arguments]
    tree = MUTATED_TREE or str(Path(__file__).resolve().parents[2])
    run = run_command(argv, env=environment() | {"PYTHONPATH": tree})
    assert run.exit_code == 0, run
    found = (tmp_path / "loaded").read_text().split()
    assert "snapshot.thaw.thawer" in found
    others = tuple(f"snapshot.{room}." for room in ("fleet", "setup", "doctor", "drill", "notify", "retention.prune"))
    assert not [name for name in found if name.startswith(others) or name == "snapshot.cli.many"]


# ---------------------------------------------------------------- one JSON object

FRAME_KEYS = {"version", "command", "warnings", "error", "exit_code"}
RESULT_KEYS = {
    *("vmid", "guest", "snapshot", "snapshot_exists", "policy", "plan", "checks", "window", "freeze"),
    *("proof", "thaw", "upid", "task", "verdict", "disk"),
}
STATUS_KEYS = {"windows", "frozen", "unknown", "lost_windows", "silences"}
CHECK_KEYS = {"guest", "checks", "facts", "frozen"}
FAILURE_KEYS: set[str] = set()


def the_object(run: Run, keys: set[str]) -> dict[str, Any]:
    """The one object of a run: nothing else on stdout, nothing at all on stderr, and its own exit code in it."""
    found = follows_the_schema(run.json)
    assert set(found) == FRAME_KEYS | keys, run
    assert found["exit_code"] == run.exit_code, run
    assert run.stderr == "", run
    return found


def test_the_object_of_a_snapshot(lab: Site) -> None:
    found = the_object(take(lab, "--json", "--policy", "require"), RESULT_KEYS)
    assert found["error"] is None
    assert found["snapshot_exists"] is True
    assert found["verdict"]["kind"] == "filesystem-consistent"
    assert found["freeze"] == {"outcome": "acknowledged", "filesystems": 1, "detail": ""}
    assert found["proof"] == "still frozen"
    assert found["thaw"]["confirmed"] is True
    assert set(found["window"]) == {"id", "freezing_seconds", "held_seconds", "thawing_seconds", "window_seconds"}
    assert all(isinstance(v, float) for k, v in found["window"].items() if k != "id")
    assert found["task"]["exitstatus"] == "OK"
    assert found["upid"].startswith("UPID:pve1:")
    assert set(found["checks"][0]) == {"name", "result", "message", "remedy", "code"}
    assert found["guest"]["kind"] == "qemu"


def test_the_object_of_every_outcome_has_the_same_keys(lab: Site, guest: ScriptedGuest) -> None:
    lab.node.add_guest(GuestSpec(200, kind="lxc"))
    lab.write_config(freeze={"late_freeze_seconds": 1})
    seen = set()

    def one(*arguments: str, vmid: int = 100) -> None:
        seen.add(the_object(take(lab, "--json", *arguments, vmid=vmid), RESULT_KEYS)["exit_code"])

    one("--dry-run")
    one(vmid=999)
    one(vmid=200)
    one("--policy", "require", "--name", "s2", vmid=200)
    one("--vmstate", "--name", "s3", vmid=200)
    lab.node.fault("fsfreeze-freeze", "drop", when="after")
    one("--policy", "require")
    lab.node.fault("/snapshot$", "status", method="POST", status=500, reason="no")
    one()
    lab.node.fault("/s1/config", "status", status=500, reason="no")
    one()
    lab.node.fault("/config", "status", status=403, reason="Permission check failed (/vms/100, VM.Audit)")
    one()
    assert seen == {0, 2, 4, 5, 6, 7, 10, 11}


@pytest.mark.parametrize(
    ("line", "name", "code"),
    [
        ("--json", None, "usage"),
        ("--json frobnicate", None, "usage"),
        ("--json --version=1", None, "usage"),
        ("99 --json", "take", "usage"),
        ("--json --bogus", "take", "usage"),
        ("100 --json --bogus", "take", "usage"),
        ("check --json", "check", "usage"),
        ("thaw 1 --json", "thaw", "usage"),
        ("recover --json 100", "recover", "usage"),
        ("status --json --policy", "status", "usage"),
        ("history --json --since yesterday", "history", "usage"),
        ("history --json --csv", "history", "usage"),
        ("report --json", "report", "usage"),
        ("--json metrics serve", "metrics", "usage"),
        ("--json --config /nowhere.toml 100", "take", "configuration"),
        ("--json --config /nowhere.toml status", "status", "configuration"),
        ("--json --config /nowhere.toml recover", "recover", "configuration"),
        ("--json --config /nowhere.toml thaw 100", "thaw", "configuration"),
        ("--json --config /nowhere.toml history", "history", "configuration"),
        ("check --json --config /nowhere.toml 100", "check", "configuration"),
    ],
)
def test_the_object_of_what_never_began(line: str, name: str | None, code: str) -> None:
    found = the_object(command(*line.split()), FAILURE_KEYS)
    assert (found["command"], found["error"]["code"]) == (name, code)


def test_the_objects_of_the_other_commands(lab: Site, guest: ScriptedGuest) -> None:
    def one(keys: set[str], *arguments: str) -> dict[str, Any]:
        run = check(lab, lab.safe_snapshot("--json", *arguments), thawed=False)
        found = the_object(run, keys)
        assert found["command"] == arguments[0]
        return found

    def code(found: dict[str, Any]) -> str | None:
        return found["error"] and found["error"]["code"]

    assert one({"windows"}, "history")["windows"] == [], "there is none yet"
    checked = one(CHECK_KEYS, "check", "100")
    assert (code(checked), checked["facts"]["os"]) == (None, "Lab guest 1")
    assert code(one(CHECK_KEYS, "check", "999")) == "guest-unfit"
    assert code(one(STATUS_KEYS, "status")) is None
    assert code(one({"windows"}, "recover")) is None
    assert one({"windows"}, "history")["windows"] == []
    assert code(one({"vmid", "thaw"}, "thaw", "100")) is None
    assert code(one(FAILURE_KEYS, "thaw", "999")) == "guest-removed"
    take(lab)
    assert [window["vmid"] for window in one({"windows"}, "history")["windows"]] == [100]
    guest.ask("guest-fsfreeze-freeze")
    found = one(STATUS_KEYS, "status")
    assert (code(found), found["frozen"][0]["vmid"]) == ("still-frozen", 100)
    assert found["error"]["remedy"]
    assert found["warnings"] == []
    refused = one(RESULT_KEYS, "take", "100")
    assert (code(refused), refused["guest"]["vmid"]) == ("foreign-freeze", 100)
    assert [found["name"] for found in refused["checks"] if found["result"] != "ok"] == ["thawed"]
    assert code(one(CHECK_KEYS, "check", "100")) == "foreign-freeze"
    assert code(one({"windows"}, "recover")) is None, "not yet"
    assert one(STATUS_KEYS, "status")["windows"][0]["owner"] == "foreign"
    lab.node.stop_front()
    assert code(one(STATUS_KEYS, "status")) in ("still-frozen", "api-unreachable")
    assert code(one(FAILURE_KEYS, "check", "100")) == "api-unreachable"


@pytest.mark.parametrize("line", ["--json metrics print", "--json report --html -", "report --json --html -"])
def test_what_prints_no_object_refuses_to_promise_one(lab: Site, line: str) -> None:
    run = check(lab, lab.safe_snapshot(*line.split()))
    assert run.exit_code == 2, run
    assert "--json" in the_object(run, FAILURE_KEYS)["error"]["message"]


def test_every_objects_numbers_and_texts_are_plain_json(lab: Site) -> None:
    """No NaN, no Infinity, and ASCII only: any parser and any locale can take it."""
    run = take(lab, "--json", "--description", "\u00e4\u4e2d")
    assert run.stdout.isascii()

    def refuse(word: str) -> None:
        raise AssertionError(word)

    json.loads(run.stdout, parse_constant=refuse)


# ---------------------------------------------------------------- the other commands


def test_check_shows_the_guest_and_changes_nothing(lab: Site) -> None:
    run = check(lab, lab.safe_snapshot("check", "100"))
    assert run.exit_code == 0
    for text in ("os: Lab guest 1", "agent version: 7.2.22", "192.0.2.101", "/data (ext4)", "ready: this guest"):
        assert text in run.stdout
    assert not lab.journal_path.exists()


def test_check_of_a_frozen_guest_says_so(lab: Site, guest: ScriptedGuest) -> None:
    guest.ask("guest-fsfreeze-freeze")
    run = check(lab, lab.safe_snapshot("check", "100"), thawed=False)
    assert run.exit_code == 13
    assert "FROZEN: the guest is frozen right now" in run.stdout
    assert "ready" not in run.stdout


@pytest.mark.parametrize(
    ("arrange", "exit_code", "says"),
    [
        ({"agent": None}, 6, "step 1 of 2"),
        ({"lock": "backup"}, 4, "qm unlock 100"),
        ({"template": 1}, 4, "template"),
    ],
)
def test_check_names_what_is_missing(lab: Site, arrange: dict[str, Any], exit_code: int, says: str) -> None:
    lab.node.set_config(100, **arrange)
    run = check(lab, lab.safe_snapshot("check", "100"))
    assert run.exit_code == exit_code
    assert says in run.stdout


def test_check_tells_how_to_install_the_agent_on_each_system(lab: Site, guest: ScriptedGuest) -> None:
    guest.kill_agent()
    run = check(lab, lab.safe_snapshot("check", "100"))
    assert run.exit_code == 6
    assert "step 2 of 2" in run.stdout
    for text in ("apt install", "apk add", "dnf install", "VirtIO driver ISO"):
        assert text in run.stdout


def test_the_rescue_thaws_whatever_froze_the_guest(lab: Site, guest: ScriptedGuest) -> None:
    guest.ask("guest-fsfreeze-freeze")
    run = check(lab, lab.safe_snapshot("thaw", "100"))
    assert run.exit_code == 0
    assert "guest 100 is thawed: 1 filesystem thawed" in run.stdout
    assert check(lab, lab.safe_snapshot("thaw", "100")).exit_code == 0, "and is safe to repeat"


def test_the_rescue_works_on_the_node_with_the_api_down(lab: Site, guest: ScriptedGuest) -> None:
    lab.on_the_node()
    guest.ask("guest-fsfreeze-freeze")
    lab.node.stop_front()
    run = check(lab, lab.safe_snapshot("thaw", "100"))
    assert run.exit_code == 0, run
    assert "agent socket" in run.stdout


def test_the_rescue_works_on_the_node_with_a_token_that_sees_nothing(lab: Site, guest: ScriptedGuest) -> None:
    secret = lab.node.add_token("lab@pve!blind", ["Sys.Audit"])
    lab.settings["api"] = {
        "token_id": "lab@pve!blind",
        "token_file": str(kit.write_secret(lab.run / "blind", secret)),
    }
    lab.on_the_node()
    guest.ask("guest-fsfreeze-freeze")
    run = check(lab, lab.safe_snapshot("thaw", "100"))
    assert run.exit_code == 0, run
    assert "agent socket" in run.stdout


def test_the_rescue_leaves_a_window_open_whose_freeze_may_still_come(lab: Site, guest: ScriptedGuest) -> None:
    """Owner and guard are gone; what was confirmed before a late freeze says nothing. Somebody must go on watching."""
    lab.write_config(freeze={"late_freeze_seconds": 600})
    lab.node.fault("fsfreeze-freeze", "delay", delay=30.0)  # PVE holds it still
    process = lab.start("100", "--name", "s1")
    assert kit.reaches(lab, "fsfreeze-freeze")
    dead = kit.window(lab).guard_pid
    assert dead is not None
    os.kill(dead, signal.SIGKILL)
    process.kill()
    process.communicate()
    run = check(lab, lab.safe_snapshot("thaw", "100"))
    assert run.exit_code == 0, run
    assert "warning: a freeze whose answer was lost may still come, for up to 10 min: a guard watches" in run.stdout
    assert kit.window(lab).closed_at is None
    assert wait_for(lambda: kit.window(lab).guard_pid != dead), "a guard has taken over"


def test_a_guest_that_is_watched_for_a_late_freeze_is_not_called_ready(lab: Site, guest: ScriptedGuest) -> None:
    """A run would not freeze it, so neither the check nor a dry run may promise that."""
    lab.write_config(freeze={"late_freeze_seconds": 600, "freeze_timeout_seconds": 1})
    lab.node.fault("fsfreeze-freeze", "delay", delay=30.0)
    run = check(lab, lab.safe_snapshot("100", "--name", "s1"))
    assert run.exit_code == 11, run
    run = check(lab, lab.safe_snapshot("check", "100"))
    assert run.exit_code == 6, run
    assert "an earlier freeze whose answer was lost may still come" in run.stdout
    assert "ready" not in run.stdout
    run = check(lab, lab.safe_snapshot("100", "--name", "s2", "--dry-run"))
    assert "no freeze (crash-consistent: guest 100 is thawed, but an earlier freeze" in run.text, run


def test_a_run_that_heals_closes_the_window_whose_freeze_its_thaw_has_counted(lab: Site, guest: ScriptedGuest) -> None:
    lab.write_config(freeze={"late_freeze_seconds": 600})
    guest.set_knob("freeze_sleep", 2.0)
    process = lab.start("100", "--name", "s1")
    assert kit.reaches(lab, "fsfreeze-freeze")
    old = kit.window(lab)
    assert old.guard_pid is not None
    os.kill(old.guard_pid, signal.SIGKILL)
    process.kill()
    process.communicate()
    assert wait_for(guest.is_frozen, 20)
    guest.set_knob("freeze_sleep", 0.0)
    run = check(lab, lab.safe_snapshot("100", "--name", "s2"))
    assert "which an earlier run had left frozen" in run.stderr
    assert run.exit_code == 0, run
    healed = next(window for window in lab.windows() if window.id == old.id)
    assert healed.closed_at is not None, "its one freeze was carried out, and undone"
    assert healed.filesystems_thawed == 1


def test_a_run_for_a_log_collector_is_key_value_lines_on_standard_output(lab: Site) -> None:
    run = check(lab, lab.safe_snapshot("100", "--name", "s1", "--logfmt"))
    assert run.exit_code == 0, run
    assert run.stderr == ""
    lines = run.stdout.splitlines()
    assert all(re.match(r"event=(step|snapshot) vmid=100 ", line) for line in lines), run.stdout
    assert len([line for line in lines if line.startswith("event=step vmid=100 at_seconds=")]) == len(lines) - 1
    assert re.search(
        r"node=pve1 window=[0-9a-f]{8} upid=UPID:pve1:.* snapshot=s1 exists=yes policy=prefer "
        r'verdict=filesystem-consistent reason=".*" window_seconds=[0-9.]+ exit_code=0$',
        lines[-1],
    )
    run = check(lab, lab.safe_snapshot("recover", "--logfmt"))
    assert (run.exit_code, run.stdout, run.stderr) == (0, "", "")


def test_a_recovery_says_that_its_metrics_cannot_be_written(lab: Site) -> None:
    lab.metrics_path.parent.rmdir()
    lab.metrics_path.parent.write_text("no folder")
    run = check(lab, lab.safe_snapshot("recover"))
    assert run.exit_code == 0
    assert "warning: " in run.stdout
    assert str(lab.metrics_path) in run.stdout


def test_the_rescue_elsewhere_says_that_the_api_is_down(lab: Site, guest: ScriptedGuest) -> None:
    guest.ask("guest-fsfreeze-freeze")
    lab.node.stop_front()
    run = check(lab, lab.safe_snapshot("thaw", "100"), thawed=False)
    assert run.exit_code == 5, run


def test_the_rescue_of_a_container_is_refused(lab: Site) -> None:
    lab.node.add_guest(GuestSpec(200, kind="lxc"))
    run = check(lab, lab.safe_snapshot("thaw", "200"))
    assert run.exit_code == 4
    assert "never frozen by us" in run.stderr


def test_status_finds_nothing_and_leaves_no_trace(lab: Site) -> None:
    run = check(lab, lab.safe_snapshot("status"))
    assert run.exit_code == 0
    assert run.stdout == "no open window, no frozen guest\n"
    assert not lab.journal_path.exists()


def test_status_with_a_broken_journal_still_shows_frozen_guests(lab: Site, guest: ScriptedGuest) -> None:
    lab.journal_path.parent.mkdir(exist_ok=True)
    lab.journal_path.write_text("this is no database at all, but long enough to be looked at " * 20)
    run = check(lab, lab.safe_snapshot("status"))
    assert run.exit_code == 0, run
    assert "was broken" in run.stderr
    assert "begun anew" in run.stdout
    guest.ask("guest-fsfreeze-freeze")
    run = check(lab, lab.safe_snapshot("status"), thawed=False)
    assert run.exit_code == 8, run
    assert "is FROZEN, not by us" in run.stdout


# ---------------------------------------------------------------- surroundings


def test_it_runs_with_an_empty_environment(lab: Site) -> None:
    run = check(lab, run_command(lab.command("100", "--name", "s1", "--policy", "require"), env={}))
    assert run.exit_code == 0, run


@pytest.mark.parametrize("env", [{"LC_ALL": "C"}, {"PYTHONIOENCODING": "ascii"}, {"LC_ALL": "xx_YY", "TERM": ""}])
def test_any_locale_will_do(lab: Site, env: dict[str, str]) -> None:
    lab.node.set_config(100, name="gast-\u00e4\u00f6\u00fc")
    run = check(lab, run_command(lab.command("check", "100"), env=env))
    assert run.exit_code == 0, run
    run = check(lab, run_command(lab.command("--json", "100", "--name", "s1"), env=env))
    assert run.exit_code == 0, run


def redirected(lab: Site, redirection: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    line = " ".join(f"'{word}'" for word in lab.command(*arguments))
    return subprocess.run(
        ["sh", "-c", f"exec {line} {redirection}"],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
        env=environment(),
    )


@pytest.mark.parametrize("redirection", [">&-", ">/dev/full"])
@pytest.mark.parametrize("options", [(), ("--json",)], ids=["text", "json"])
def test_an_outcome_that_cannot_be_printed_is_a_failure(
    lab: Site, guest: ScriptedGuest, redirection: str, options: tuple[str, ...]
) -> None:
    done = redirected(lab, redirection, *options, "100", "--name", "s1")
    assert "s1" in kit.snapshots(lab)
    assert not guest.is_frozen()
    assert kit.window(lab).verdict == "filesystem-consistent"
    assert done.returncode == 1, done
    assert "the outcome (exit code 0) cannot be written to standard output" in done.stderr
    assert "Traceback" not in done.stderr
    assert "Exception ignored" not in done.stderr


@pytest.mark.parametrize("redirection", ["2>&-", "2>/dev/full", "<&-", "<&- >&- 2>&-"])
def test_progress_that_cannot_be_printed_changes_nothing(lab: Site, guest: ScriptedGuest, redirection: str) -> None:
    done = redirected(lab, redirection, "100", "--name", "s1", "--policy", "require")
    assert done.returncode == (1 if ">&- 2" in redirection else 0), done
    assert "s1" in kit.snapshots(lab)
    assert not guest.is_frozen()
    assert kit.window(lab).verdict == "filesystem-consistent"


def test_a_reader_that_leaves_changes_nothing_about_the_guest(lab: Site, guest: ScriptedGuest) -> None:
    read_end, write_end = os.pipe()
    os.close(read_end)
    process = subprocess.Popen(
        lab.command("100", "--name", "s1"), stdout=write_end, stderr=write_end, env=environment()
    )
    os.close(write_end)
    assert process.wait(60) == 0, "the outcome's own: who reads has left as `head` does"
    assert "s1" in kit.snapshots(lab)
    assert not guest.is_frozen()


@pytest.mark.parametrize("words", ["history", "history --json", "metrics print", "status", "--help"])
@pytest.mark.parametrize("redirection", [">&-", ">/dev/full", "2>&-", "<&- >&- 2>&-"])
def test_no_command_ends_in_a_traceback_because_of_its_streams(lab: Site, words: str, redirection: str) -> None:
    (lab.run / "state").mkdir(exist_ok=True)
    Journal(lab.journal_path).close()
    done = redirected(lab, redirection, *words.split())
    for text in ("Traceback", "internal error", "Exception ignored"):
        assert text not in done.stderr, done
    if redirection == ">/dev/full" and words != "history":  # which has nothing to say of an empty journal
        assert done.returncode == 1, done


@pytest.mark.parametrize("words", ["doctor", "list", "doctor --json", "status"])
def test_a_reader_that_has_seen_enough_ends_a_command_quietly(lab: Site, words: str) -> None:
    """`doctor | head`: the outcome's own exit code, and no word of a pipe."""
    code = lab.safe_snapshot(*words.split()).exit_code
    reading, writing = os.pipe()
    os.close(reading)
    with subprocess.Popen(
        lab.command(*words.split()), stdout=writing, stderr=subprocess.PIPE, env=environment(), text=True
    ) as process:
        os.close(writing)
        _, said = process.communicate(timeout=60)
    assert "pipe" not in said.lower()
    assert process.returncode == code


PAGE = Path(__file__).parents[2] / "docs" / "safe-snapshot.md"


def test_it_is_documented_how_the_shell_completes() -> None:
    for shell in ("bash", "zsh", "fish"):
        assert f"_SAFE_SNAPSHOT_COMPLETE={shell}_source safe-snapshot" in PAGE.read_text()


def test_the_pages_name_every_option_and_every_key() -> None:
    text = PAGE.read_text()
    for name in OUR_COMMANDS:
        for option in re.findall(r"(?m)^  (?:-\w, )?(--[a-z-]+)", command(name, "--help").stdout):
            assert f"`{option}`" in text, f"{option} of {name}"
    for key in RESULT_KEYS:
        assert f"\n| `{key}` |" in (PAGE.parent / "json.md").read_text(), key
    assert str(DESCRIPTION_MAX) in text
