"""The dead-man in a real guest with the real agent: what happens when the host forgets the guest."""

from __future__ import annotations

import base64
import contextlib
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.guest.deadman.sandbox import SCRIPT
from tests.lab.fixtures import real_guest
from tests.lab.guest.real import RealGuest
from tests.lab.site import Site, site, wait_for

pytestmark = pytest.mark.real

LIMIT_SECONDS = 6
# The script's own clock has whole seconds, and an emulated guest on a busy machine needs a few to fork.
LATE_SECONDS = 15
HOOK = "/sbin/fsfreeze-deadman"
_CHUNK = 3000


def install(guest: RealGuest, limit: int = LIMIT_SECONDS) -> None:
    """Make the dead-man the agent's hook, in front of the lab's own, and start the agent anew."""
    text = base64.b64encode(SCRIPT.read_bytes()).decode()
    guest.shell(": >/tmp/hook")
    for start in range(0, len(text), _CHUNK):
        guest.shell(f"echo {text[start : start + _CHUNK]} >>/tmp/hook")
    guest.shell(f"base64 -d /tmp/hook >{HOOK} && chmod +x {HOOK}")
    guest.shell(f"printf 'LIMIT={limit}\\nNEXT=/lab/hook\\n' >/etc/fsfreeze-deadman.conf")
    guest.shell(f"echo {HOOK} >/run/lab/agent_hook")
    guest.kill_agent()
    guest.start_agent()
    assert guest.shell(f"{HOOK} selftest") == "works; the timer's programs run from memory"


@contextlib.contextmanager
def guarded_guest(limit: int = LIMIT_SECONDS) -> Iterator[Site]:
    """A site whose guest has the dead-man; its snapshot tasks hang for a minute at the point in time."""

    def make(vmid: int, run: Path) -> RealGuest:
        return real_guest(vmid, run)

    with site(make) as lab:
        install(guest_of(lab), limit)
        yield lab


def guest_of(lab: Site) -> RealGuest:
    assert isinstance(lab.guest, RealGuest)
    return lab.guest


def moves_again(guest: RealGuest, seconds: float) -> float:
    """Wait until the guest's disk takes writes again; returns when, on this machine's monotonic clock."""
    count = guest.counter()
    assert wait_for(lambda: guest.counter() > count, seconds), guest.shell(f"{HOOK} status; dmesg | tail -n 3")
    return time.monotonic()


def test_a_guest_whose_whole_host_side_is_killed_thaws_itself() -> None:
    with guarded_guest() as lab:
        guest = guest_of(lab)
        lab.node.set(task_delays={"inside": 60})
        with lab.start("100", "--policy", "require") as owner:
            assert wait_for(lambda: len(lab.node.requests("/tasks/")) > 0, 30)
            assert guest.is_frozen()
            began = time.monotonic()
            guard = lab.windows()[0].guard_pid
            assert guard is not None
            os.kill(guard, signal.SIGKILL)
            os.kill(owner.pid, signal.SIGKILL)
        lab.node.kill()
        assert guest.is_frozen(), "it was thawed before everything on the host was dead: this shows nothing"

        assert moves_again(guest, LIMIT_SECONDS + LATE_SECONDS) - began <= LIMIT_SECONDS + LATE_SECONDS
        assert not guest.is_frozen()
        # It thaws first and writes about it afterwards.
        assert wait_for(lambda: "thawed: /data" in guest.shell(f"{HOOK} status")), guest.shell(f"{HOOK} status")
        said = f"no thaw within {LIMIT_SECONDS} s: thawed /data by itself"
        assert wait_for(lambda: said in guest.shell("dmesg")), guest.shell("dmesg | tail")

        # The agent does not know; the host that comes back must not take its word.
        assert guest.ask("guest-fsfreeze-status") == "frozen"
        lab.node.set(task_delays={})
        lab.node.start()
        recovered = lab.safe_snapshot("recover")
        assert guest.ask("guest-fsfreeze-status") == "thawed", recovered.text
        assert lab.windows()[0].verdict != "filesystem-consistent", recovered.text
        assert wait_for(lambda: guest.shell(f"{HOOK} status").startswith("not armed"))


def test_a_window_longer_than_the_limit_gets_no_good_verdict_though_the_agent_says_frozen() -> None:
    with guarded_guest(limit=2) as lab:
        guest = guest_of(lab)
        lab.node.set(task_delays={"inside": 8})
        run = lab.safe_snapshot("--json", "100", "--policy", "require")
        assert "by itself" in guest.shell("dmesg")
        assert run.exit_code == 6, run.text
        assert run.json["verdict"]["kind"] != "filesystem-consistent", run.text


def test_a_window_that_is_thawed_in_time_leaves_nothing_behind() -> None:
    with guarded_guest(limit=4) as lab:
        guest = guest_of(lab)
        run = lab.safe_snapshot("--json", "100", "--policy", "require")
        assert run.exit_code == 0, run.text
        assert wait_for(lambda: guest.control("pgrep -f 'fsfreeze-deadman timer'")[0] != 0)
        time.sleep(5)
        assert guest.shell(f"{HOOK} status") == "not armed; limit 4 s"
        assert "by itself" not in guest.shell("dmesg")
        assert len(guest.windows()) == 1


@pytest.mark.parametrize("keep_state", [True, False])
def test_an_agent_killed_while_the_guest_is_frozen_leaves_the_timer_alive(keep_state: bool) -> None:
    with guarded_guest(limit=4) as lab:
        guest = guest_of(lab)
        assert guest.ask("guest-fsfreeze-freeze") == 1
        guest.kill_agent()
        assert guest.is_frozen()
        moves_again(guest, 4 + LATE_SECONDS)
        guest.start_agent(keep_state=keep_state)
        assert guest.ask("guest-fsfreeze-thaw") == 0
        assert wait_for(lambda: guest.shell(f"{HOOK} status").startswith("not armed"))
        # And the next window is guarded like the first.
        assert guest.ask("guest-fsfreeze-freeze") == 1
        assert guest.shell(f"{HOOK} status").startswith("armed: thaws in ")
        assert guest.ask("guest-fsfreeze-thaw") == 1
