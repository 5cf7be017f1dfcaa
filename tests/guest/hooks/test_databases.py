"""Real PostgreSQL and MariaDB under load: every copy of a snapshot starts sealed off, passes the databases' own checks,
and holds what was committed before the window, and nothing from after it.

Very slow (`make databases`): an emulated Debian machine. ``DATABASE_COPIES``: how many snapshots are taken.
"""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from tests.guest.hooks.databases import Copy, DatabaseGuest, check
from tests.guest.hooks.enclosed import EnclosedGuest
from tests.lab.fixtures import require_real
from tests.lab.packages import LabUnavailableError
from tests.lab.site import Run, Site, site

pytestmark = [pytest.mark.databases, pytest.mark.slow, pytest.mark.real, pytest.mark.timeout(4 * 3600)]

COPIES = int(os.environ.get("DATABASE_COPIES", "20"))
DEADLINE_SECONDS = 300.0
LIBRARY = "/usr/local/lib/fsfreeze-hooks/hooks.d"
HELD = "/run/fsfreeze-hooks/40-mariadb/held.1/said"
_LATE_SECONDS = 2


class Bench:
    """The guest under load on its node, and the marks that were made."""

    def __init__(self, lab: Site, guest: DatabaseGuest) -> None:
        self.lab, self.guest = lab, guest
        self.marks: list[str] = []
        self._number = 0

    def snapshot(self) -> tuple[Run, Copy]:
        """One mark, one snapshot, one mark; and what a copy of the snapshot holds."""
        self._number += 1
        name = f"s{self._number}"
        self.guest.wait_for_rows()
        self.marks.append(f"a{self._number:03}")
        log = self.guest.mark(self.marks[-1])
        marks = tuple(self.marks)
        run = self.lab.safe_snapshot(
            "--json", "100", "--policy", "require", "--name", name, timeout=4 * DEADLINE_SECONDS
        )
        self.marks.append(f"b{self._number:03}")
        self.guest.mark(self.marks[-1])
        if run.json["verdict"] is None:
            raise AssertionError(run.text + self.guest.log())
        return run, Copy(check(self.guest.disk, name), marks, log)


@pytest.fixture(scope="module", name="bench", params=[EnclosedGuest, DatabaseGuest], ids=["enclosed", "emulated"])
def _bench(request: pytest.FixtureRequest) -> Iterator[Bench]:
    require_real()
    try:
        with site(request.param) as lab:
            lab.settings["freeze"] = {
                "freeze_timeout_seconds": DEADLINE_SECONDS,
                "max_window_seconds": DEADLINE_SECONDS,
            }
            # An emulated guest's hooks take their time, which is part of the answers to freeze and thaw.
            lab.settings["thaw"] = {"attempt_timeout_seconds": DEADLINE_SECONDS}
            lab.node.set(limits={"cut": 2 * DEADLINE_SECONDS})
            lab.on_the_node()
            guest = lab.guest
            assert isinstance(guest, DatabaseGuest)
            said = guest.install()
            assert "app postgresql 1" in said, said
            assert "app mariadb 1" in said, said
            guest.begin_load()
            yield Bench(lab, guest)
    except LabUnavailableError as error:
        pytest.skip(str(error))


def kind_of(run: Run) -> str:
    assert run.exit_code == 0, run.text
    return str(run.json["verdict"]["kind"])


@pytest.mark.parametrize("number", range(COPIES))
def test_a_copy_of_a_snapshot_under_load_is_good_and_its_servers_were_ready(bench: Bench, number: int) -> None:
    run, copy = bench.snapshot()
    assert kind_of(run) == "application-consistent", run.text
    assert "PostgreSQL checkpointed, MariaDB locked" in run.json["verdict"]["reason"]
    assert copy.wrong() == [], copy
    assert copy.unprepared() == [], copy


def test_without_the_hooks_neither_the_verdict_nor_the_disk_says_so(bench: Bench) -> None:
    bench.guest.configure(SKIP="pre-sync postgresql mariadb")
    try:
        run, copy = bench.snapshot()
    finally:
        bench.guest.configure()
    assert kind_of(run) == "filesystem-consistent", run.text
    assert copy.unprepared() == ["mariadb", "postgresql"], copy


@pytest.mark.parametrize(
    ("hook", "change", "which"),
    [
        ("40-mariadb", "s/BACKUP STAGE START; BACKUP STAGE BLOCK_COMMIT;/SELECT 1;/", "mariadb"),
        ("30-postgresql", "s/-c CHECKPOINT//", "postgresql"),
    ],
)
def test_a_hook_that_only_pretends_is_found_out_by_the_disk(bench: Bench, hook: str, change: str, which: str) -> None:
    bench.guest.shell(f"cp {LIBRARY}/{hook} /root/kept && sed -i '{change}' {LIBRARY}/{hook}")
    try:
        run, copy = bench.snapshot()
    finally:
        bench.guest.shell(f"cp /root/kept {LIBRARY}/{hook}")
    assert kind_of(run) == "application-consistent", "the sabotage did not go unnoticed by the hooks: it shows nothing"
    assert copy.unprepared() == [which], copy


def test_a_server_that_is_killed_in_the_window_costs_the_word(bench: Bench) -> None:
    bench.guest.shell(
        f"printf '#!/bin/sh\\n[ $1 = thaw ] || exit 0\\npkill -9 mariadbd\\nexit 0\\n' >{LIBRARY}/90-killer"
    )
    bench.guest.shell(f"chmod 755 {LIBRARY}/90-killer")
    try:
        run = bench.lab.safe_snapshot("--json", "100", "--policy", "require", timeout=4 * DEADLINE_SECONDS)
    finally:
        bench.guest.shell(f"rm {LIBRARY}/90-killer")
        bench.guest.restart_mariadb()
    assert kind_of(run) == "filesystem-consistent", run.text
    assert "guest hooks failed: mariadb" in run.json["verdict"]["reason"]


# -- the lock ---------------------------------------------------------------------------------------------------------


def watch_lock(guest: DatabaseGuest) -> float:
    """Wait for the end of the hook's session; returns when it was last seen (seconds since the guest's boot)."""
    session = guest.shell(f"cut -f 2 {HELD} | head -n 1").strip()
    # A query of information_schema would want a temporary table, and its disk is frozen.
    ask = "list=$(mariadb -BN -e 'SHOW PROCESSLIST') || exit 1"
    look = f'read -r now _ </proc/uptime; {ask}; echo "$list" | cut -f 1 | grep -qx {session}'
    return float(guest.shell(f"read -r seen _ </proc/uptime; while {look}; do seen=$now; sleep 0.1; done; echo $seen"))


def uptime(guest: DatabaseGuest) -> float:
    return float(guest.shell("cat /proc/uptime").split()[0])


def test_a_lock_whose_thaw_is_lost_ends_at_its_limit(bench: Bench) -> None:
    bench.guest.configure(LOCK_SECONDS="15")
    assert bench.guest.ask("guest-fsfreeze-freeze", timeout=DEADLINE_SECONDS) >= 1
    frozen = uptime(bench.guest)
    seen = watch_lock(bench.guest)
    assert bench.guest.ask("guest-fsfreeze-thaw", timeout=DEADLINE_SECONDS) >= 1
    bench.guest.configure()
    assert seen - frozen <= 15 + _LATE_SECONDS
    assert "failed mariadb" in bench.guest.shell("fsfreeze-hooks status")


def test_a_lock_ends_with_the_hooks_that_were_killed_before_the_freeze(bench: Bench) -> None:
    bench.guest.configure(LOCK_SECONDS="600")
    bench.guest.shell(f"printf '#!/bin/sh\nexec sleep 600\n' >{LIBRARY}/90-slow; chmod 755 {LIBRARY}/90-slow")
    bench.guest.shell("setsid fsfreeze-hooks freeze >/dev/null 2>&1 &")
    bench.guest.shell(f"until grep -q held {HELD}; do sleep 0.1; done")
    bench.guest.shell("pkill -KILL -f '[f]sfreeze-hooks freeze'")
    killed = uptime(bench.guest)
    seen = watch_lock(bench.guest)
    bench.guest.shell(f"rm {LIBRARY}/90-slow")
    bench.guest.configure()
    bench.guest.shell("fsfreeze-hooks selftest")
    assert seen - killed <= _LATE_SECONDS


def test_a_server_that_is_restarted_in_the_window_is_not_locked(bench: Bench) -> None:
    bench.guest.configure(LOCK_SECONDS="600")
    bench.guest.shell("fsfreeze-hooks freeze")
    bench.guest.shell("pkill -9 mariadbd")
    bench.guest.restart_mariadb()
    bench.guest.wait_for_servers()
    bench.guest.shell(f"mariadb -e 'SET lock_wait_timeout={_LATE_SECONDS}; INSERT INTO lab.plain VALUES (0, 0)'")
    bench.guest.configure()
    bench.guest.shell("fsfreeze-hooks thaw")
    assert "failed mariadb" in bench.guest.shell("fsfreeze-hooks status")


def test_the_server_ends_the_lock_of_a_client_that_stands_still(bench: Bench) -> None:
    bench.guest.configure(LOCK_SECONDS="15")
    bench.guest.shell("fsfreeze-hooks freeze")
    frozen = uptime(bench.guest)
    bench.guest.shell("pkill -STOP -f '[m]ariadb --batch'; pkill -STOP -f '[4]0-mariadb'")
    seen = watch_lock(bench.guest)
    bench.guest.shell("pkill -KILL -f '[m]ariadb --batch'; pkill -KILL -f '[4]0-mariadb'")
    bench.guest.configure()
    bench.guest.shell("fsfreeze-hooks thaw")
    assert seen - frozen <= 15 + _LATE_SECONDS


def test_a_lock_ends_with_its_agent(bench: Bench) -> None:
    bench.guest.configure(LOCK_SECONDS="600")
    assert bench.guest.ask("guest-fsfreeze-freeze", timeout=DEADLINE_SECONDS) >= 1
    bench.guest.shell("kill -9 $(pidof qemu-ga)")
    killed = uptime(bench.guest)
    seen = watch_lock(bench.guest)
    bench.guest.shell("fsfreeze --unfreeze /")
    bench.guest.configure()
    bench.guest.wait_agent(DEADLINE_SECONDS)
    assert bench.guest.ask("guest-fsfreeze-thaw", timeout=DEADLINE_SECONDS) == 0
    assert seen - killed <= _LATE_SECONDS
