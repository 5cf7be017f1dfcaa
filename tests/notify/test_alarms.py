"""What is told: each alarm once, and its end; the guests of one job in one letter."""

from __future__ import annotations

import contextlib
import json
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

from snapshot.base.procfs import process_start
from snapshot.journal import silences
from snapshot.journal.looks import GuestLook
from snapshot.journal.store import Journal
from snapshot.notify import tell
from snapshot.recovery.strangers import Recovered
from tests.metrics.conftest import World
from tests.notify.receivers import MailServer, WebServer


def round_of(world: World, *recovered: Recovered) -> list[str]:
    """What the minute's recovery does at its end, a minute later."""
    world.clock.now += 60
    return tell.after_recovery(world.config, lambda: Journal(world.config.journal.path), recovered, world.clock)


def events(web: WebServer) -> list[list[tuple[str, str]]]:
    """Of each letter: what it tells."""
    return [[(event["event"], event["key"]) for event in letter["events"]] for letter in web.letters]


def test_a_verdict_that_is_worse_is_told_once_and_so_is_the_next_good_one(
    told: World, web: WebServer, post: MailServer
) -> None:
    told.good_run(100)
    assert round_of(told) == []
    assert (web.letters, post.got) == ([], [])
    told.failed_run(100)
    for _ in range(3):
        assert round_of(told) == []
    (letter,), (mail,) = web.letters, post.got
    assert events(web) == [[("alarm", "run:qemu/100:snapshot")]]
    assert letter["version"] == 1
    assert letter["events"][0]["guest"] == {"vmid": 100, "name": "guest-100", "node": "pve1"}
    for text in (letter["text"], f"{mail['Subject']}\n{mail.get_content()}"):
        assert "guest 100 (guest-100): snapshot is crash-consistent only" in text
        assert "since 20" in text
        assert "what to do: `safe-snapshot check 100` on pve1" in text
        assert "runbook freeze-failed" in text
    told.good_run(100)
    for _ in range(3):
        assert round_of(told) == []
    assert events(web)[1:] == [[("alarm-over", "run:qemu/100:snapshot")]]
    assert "good again: its last snapshot is filesystem-consistent" in web.letters[1]["text"]
    assert len(post.got) == 2
    assert [mail["Message-ID"].partition("@")[0] for mail in post.got] == [f"<{each['id']}" for each in web.letters]


def test_one_that_becomes_worse_still_is_told_again_and_one_that_stays_as_bad_is_not(
    told: World, web: WebServer
) -> None:
    told.failed_run(100)
    round_of(told)
    told.failed_run(100, stage="hold", reason="deadline")
    round_of(told)
    assert len(web.letters) == 1
    told.end(
        told.armed(100), verdict="unknown", failure_stage="snapshot", failure_reason="task", reason="no space left"
    )
    round_of(told)
    round_of(told)
    assert len(web.letters) == 2
    assert "snapshot failed: no space left" in web.letters[1]["text"]


def test_a_guard_that_could_not_be_armed_has_its_own_runbook(told: World, web: WebServer) -> None:
    told.failed_run(100, stage="guard", reason="not-started")
    round_of(told)
    assert "the runbook guard-not-armed" in web.letters[0]["events"][0]["todo"]


def test_a_verdict_that_the_disk_contradicts_has_its_own_runbook_and_the_command_that_looks(
    told: World, web: WebServer
) -> None:
    told.failed_run(100, stage="disk", reason="not-clean")
    round_of(told)
    todo = web.letters[0]["events"][0]["todo"]
    assert "`safe-snapshot verify 100 <snapshot>`" in todo
    assert "the runbook disk-contradicts" in todo


@contextlib.contextmanager
def living_job() -> Iterator[tuple[dict[str, str], Callable[[], object]]]:
    """What the windows of a job that runs have in common, and how it ends."""
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as worker:
        start = process_start(worker.pid)
        job = f"UPID:pve1:{worker.pid:08X}:{start:08X}:6A000000:vzdump::root@pam:"
        yield {"source": "vzdump", "owner": "hook", "upid": job}, lambda: worker.communicate(b"\n")
        worker.kill()


def test_the_guests_of_one_job_are_told_in_one_letter_when_it_is_over(
    told: World, web: WebServer, post: MailServer
) -> None:
    with living_job() as (values, end):
        told.failed_run(102)  # of another run: told at once
        for vmid in (100, 101):
            told.failed_run(vmid, **values)
            round_of(told)
        assert events(web) == [[("alarm", "run:qemu/102:snapshot")]]
        end()
    round_of(told)
    assert events(web)[1:] == [[("alarm", "run:qemu/100:vzdump"), ("alarm", "run:qemu/101:vzdump")]]
    assert post.subjects[1].endswith("guest 100 (guest-100): backup is crash-consistent only, and 1 more")


def test_a_job_of_forty_guests_of_which_twelve_fall_back_is_one_letter(
    told: World, web: WebServer, post: MailServer
) -> None:
    """Over an hour, with a recovery each minute; a guest that is frozen does not wait for it."""
    with living_job() as (values, end):
        for number in range(40):
            run = told.failed_run if number % 10 in (1, 4, 7) else told.good_run
            run(100 + number, **values)
            told.clock.now += 30
            round_of(told)
            if number == 20:
                stuck = Recovered(120, "pve1", "stuck", "its agent does not answer", None, ok=False)
                round_of(told, stuck)
                round_of(told)
        assert [keys for letter in events(web) for _, keys in letter] == ["frozen:120", "frozen:120"]
        end()
    for _ in range(5):
        round_of(told)
    assert len(web.letters) == len(post.got) == 3
    digest = web.letters[-1]
    assert {event["key"] for event in digest["events"]} == {
        f"run:qemu/{100 + number}:vzdump" for number in range(40) if number % 10 in (1, 4, 7)
    }
    assert post.subjects[-1].endswith("guest 101 (guest-101): backup is crash-consistent only, and 11 more")


def test_a_job_that_goes_on_for_days_is_told_twice_a_day(told: World, web: WebServer) -> None:
    with living_job() as (values, end):
        for vmid in range(100, 125):
            told.failed_run(vmid, **values)
            for _ in range(6):
                told.clock.now += 600
                tell.write_down(told.journal, told.config, [], told.clock.now, ("webhook",))
        sizes = [len(json.loads(row["body"])["events"]) for row in told.journal.query("SELECT body FROM outbox")]
        assert sizes == [12, 12], "all that had failed by then"
        end()
    tell.write_down(told.journal, told.config, [], told.clock.now, ("webhook",))
    sizes = [len(json.loads(row["body"])["events"]) for row in told.journal.query("SELECT body FROM outbox")]
    assert sizes == [12, 12, 1]


def test_a_run_that_failed_and_was_good_again_before_anybody_looked_is_told_with_its_end(
    told: World, web: WebServer, post: MailServer
) -> None:
    told.failed_run(102)
    told.good_run(102)
    round_of(told)
    round_of(told)
    assert web.letters == [], "what was before the first look is not told"
    told.clock.now += 3600
    for seconds in (0.3, 400.0):
        told.end(
            told.armed(100),
            seconds,
            verdict="crash-consistent",
            failure_stage="hold",
            failure_reason="deadline",
            reason="the thaw came late",
        )
    told.good_run(100)
    told.good_run(101)
    for _ in range(4):
        round_of(told)
    assert events(web) == [[("alarm", "run:qemu/100:snapshot"), ("alarm-over", "run:qemu/100:snapshot")]]
    assert post.subjects[0].endswith(": guest 100 (guest-100): snapshot is good again")
    text = web.letters[0]["text"]
    assert "an earlier snapshot is crash-consistent only: the thaw came late; it was frozen for 7 min" in text
    assert "good again: its last snapshot is filesystem-consistent" in text
    assert set(web.beats) == {"/beat"}


def test_what_was_told_and_is_over_is_not_told_as_something_of_the_past(told: World, web: WebServer) -> None:
    round_of(told)
    told.clock.now += 55  # so that it ends just before the look
    told.failed_run(100)
    told.clock.now -= 58
    round_of(told)
    told.good_run(100)
    for _ in range(4):
        round_of(told)
    assert [[event for event, _ in letter] for letter in events(web)] == [["alarm"], ["alarm-over"]]


def test_a_guest_that_is_frozen_comes_first_and_its_end_is_told(told: World, web: WebServer, post: MailServer) -> None:
    told.failed_run(101)
    window = told.intent(100, owner="foreign", source="foreign", state="frozen", frozen_at=told.clock.now)
    stuck = Recovered(100, "pve1", "foreign", "GUEST 100 IS FROZEN, by somebody else", window, ok=False)
    round_of(told, stuck)
    round_of(told, stuck)
    assert events(web) == [[("alarm", "frozen:100"), ("alarm", "run:qemu/101:snapshot")]]
    assert "guest 100 (guest-100) MAY STILL BE FROZEN, and 1 more" in post.subjects[0]
    assert "`safe-snapshot thaw 100` on pve1" in post.got[0].get_content()
    round_of(told, stuck._replace(ok=True))
    assert events(web)[1:] == [[("alarm-over", "frozen:100")]]


def test_a_broken_configuration_and_a_backup_past_the_hook_are_told_and_an_event_has_no_end(
    told: World, web: WebServer
) -> None:
    silences.note_config(told.journal, ["[freeze] limit is no number"], told.clock.now)
    note = f'["UPID:pve1:x", {told.clock.now}]'
    told.journal.set_note(silences.UNHOOKED_NOTE, note, told.clock.now)
    round_of(told)
    assert sorted(events(web)[0]) == [("alarm", "backup-without-hook:UPID:pve1:x"), ("alarm", "config-broken")]
    silences.note_config(told.journal, [], told.clock.now)
    round_of(told)
    told.clock.now += 2 * 86400
    round_of(told)
    assert events(web)[1:] == [[("alarm-over", "config-broken")]]


def test_a_guest_that_is_gone_is_neither_told_nor_called_good(told: World, web: WebServer) -> None:
    def look(vmid: int) -> GuestLook:
        return GuestLook(f"qemu/{vmid}", vmid, "pve1", "x", True, told.clock.now, state="thawed")

    told.failed_run(100)
    told.failed_run(101)
    told.good_run(102)
    told.journal.put_looks([look(100), look(102)])
    round_of(told)
    told.journal.put_looks([look(102)])
    round_of(told)
    assert events(web) == [[("alarm", "run:qemu/100:snapshot")]]
    assert web.beats == ["/beat/fail", "/beat"]


def test_the_heartbeat_says_whether_all_is_well(told: World, web: WebServer) -> None:
    round_of(told)
    told.failed_run(100)
    round_of(told)
    round_of(told)
    told.good_run(100)
    round_of(told)
    told.clock.now += 60
    tell.after_recovery(told.config, lambda: told.journal, None, told.clock)  # it could not look
    assert web.beats == ["/beat", "/beat/fail", "/beat/fail", "/beat", "/beat/fail"]


def test_a_fleet_that_fails_is_one_letter_of_a_bounded_size(told: World, web: WebServer, post: MailServer) -> None:
    for vmid in range(100, 300):
        told.failed_run(vmid)
    round_of(told)
    (letter,) = web.letters
    assert len(letter["events"]) + letter["more"] == 200
    assert "and 160 more" in letter["text"]
    assert len(web.got[0].body) < 100_000
    round_of(told)
    assert (len(web.letters), len(post.got)) == (1, 1)


def test_what_a_guest_is_called_paints_on_nobodys_terminal_and_adds_no_header(told: World, post: MailServer) -> None:
    told.failed_run(100, guest_name="x\nBcc: all@example.com\x1b[31m")
    round_of(told)
    (mail,) = post.got
    assert mail["Bcc"] is None
    assert "\x1b" not in mail.as_string()


def test_nobody_who_may_hold_a_guest_can_send() -> None:
    """Only the commands of an operator and of the minute's timer load the room that sends. A drill's guest is held by
    another process, and thawed before anything is sent.
    """
    root = Path(__file__).resolve().parents[2]
    users = {
        str(path.relative_to(root))
        for package in ("snapshot", "vzdump_hooks")
        for path in (root / package).rglob("*.py")
        if "snapshot.notify" in path.read_text() and path.parent.name != "notify"
    }
    drill = {"snapshot/drill/drill.py", "snapshot/drill/firing.py"}
    words = {"snapshot/report/standing.py"}  # the report says what an alarm says, and loads no more than that
    for user in words:
        assert set(re.findall(r"snapshot\.notify[\w.]*", (root / user).read_text())) == {"snapshot.notify.alarms"}
    program = "import sys, snapshot.notify.alarms; print(*[m for m in sys.modules if m.startswith('snapshot.notify.')])"
    loaded = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True).stdout.split()
    assert {name.rpartition(".")[2] for name in loaded} == {"alarm", "alarms", "runs"}, "nothing that sends"
    assert users - drill - words == {f"snapshot/cli/{name}.py" for name in ("notify", "recover", "setup")}
    assert "notify" not in (root / "snapshot/drill/victim.py").read_text()
