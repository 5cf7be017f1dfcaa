"""`safe-snapshot drill` against a node with real processes: what it shows, what it names, and that it always thaws."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from snapshot.base.procfs import ProcessIdentity
from snapshot.config.settings import Config, JournalConfig
from snapshot.drill.cut import sweep, write_cut
from snapshot.journal.store import Journal
from tests.engine.kit import in_our_window, the_guest
from tests.json_schema import follows_the_schema
from tests.lab.fixtures import real_guest
from tests.lab.guest.agentmodel import Refusal
from tests.lab.guest.scripted import ScriptedGuest
from tests.lab.node.node import GuestSpec
from tests.lab.site import Run, Site, wait_for
from tests.notify.receivers import MailServer, WebServer, sendmail, write_secret
from tests.process.processes import guarded_site, guards, the_guard
from tests.process.timeline import Timeline
from tests.unit.kit import record

THAW = "guest-fsfreeze-thaw"


@contextlib.contextmanager
def drill_site(guest: Callable[..., object] = ScriptedGuest) -> Iterator[tuple[Site, Timeline]]:
    """A node of its own guest, with guards that nobody starts again: systemd is in tests/process."""
    with guarded_site(guest, on_the_node=True) as (lab, timeline):
        lab.settings |= {"guard": {"launcher": "detached"}, "freeze": {"freeze_timeout_seconds": 20}}
        lab.write_config()
        yield lab, timeline


def drill(lab: Site, *options: str) -> Run:
    run = lab.safe_snapshot("--json", "drill", "100", "--yes", *options)
    follows_the_schema(run.json)
    return run


def broken(run: Run) -> list[str]:
    """The parts that the drill names."""
    assert run.exit_code == 1, run.text
    message: str = run.json["error"]["message"]
    return message.removeprefix("the drill failed: ").split(", ")


def cut_files(lab: Site) -> list[str]:
    """What the guard without API was given."""
    return sorted(path.name for path in lab.journal_path.parent.glob("*drill-without-api*"))


def all_is_well(lab: Site, timeline: Timeline) -> None:
    assert not timeline.is_frozen()
    assert not cut_files(lab)
    assert lab.finds_nothing()
    assert wait_for(lambda: not guards(lab))


@pytest.mark.real
def test_a_real_guest_is_thawed_within_the_bounds_and_its_disk_says_so() -> None:
    with drill_site(real_guest) as (lab, timeline):
        run = drill(lab)
        assert run.exit_code == 0, run.text
        rounds = run.json["rounds"]
        assert [(found["name"], found["is_kept"], found["part"]) for found in rounds] == [
            ("owner-killed", True, ""),
            ("api-cut", True, ""),
        ]
        # Another monitor connection has watched the same disk.
        stood = [end - start for start, end in timeline.freezes()]
        for found in rounds:  # a starved guest stands still now and then by itself
            least, most = found["stood"]["least"] - 0.05, found["stood"]["most"] + 0.05
            assert any(least <= seconds <= most for seconds in stood), (found, stood)
        assert all("agent socket" in found["route"] for found in rounds)
        all_is_well(lab, timeline)


def test_its_windows_are_in_the_journal_and_in_no_series_of_a_run() -> None:
    with drill_site() as (lab, timeline):
        (lab.journal_path.parent / "drill-without-api.toml").touch()  # a killed one's
        assert drill(lab).exit_code == 0
        windows = lab.windows()
        assert [(w.source, w.guard_cause, w.closed_at is not None) for w in windows] == 2 * [
            ("drill", "owner-died", True)
        ]
        exposed = [line for line in lab.metrics_path.read_text().splitlines() if not line.startswith("#")]
        (line,) = [line for line in exposed if "drill" in line]
        assert line.startswith("pve_fsfreeze_last_drill_timestamp_seconds{")
        assert 'kept="yes"' in line
        all_is_well(lab, timeline)


@contextlib.contextmanager
def told(lab: Site) -> Iterator[tuple[MailServer, WebServer]]:
    with MailServer() as post, WebServer() as web:
        lab.settings["notify"] = {
            "mail_to": "root",
            "sendmail": str(sendmail(lab.run / "sendmail", post.port)),
            "webhook_file": str(write_secret(lab.run / "webhook", f"{web.url}/hook\n")),
        }
        lab.write_config()
        yield post, web


def test_each_path_of_an_alarm_is_used_once_and_marked_as_a_drill() -> None:
    with drill_site() as (lab, _), told(lab) as (post, web):
        run = drill(lab)
        assert [(tried["way"], tried["ok"]) for tried in run.json["alarms"]] == [
            ("metrics", True),
            ("mail", True),
            ("webhook", True),
        ]
        (mail,), (posted,) = post.got, web.got
        assert mail["Subject"].startswith("DRILL: ")
        assert posted.json["drill"] is True
        assert posted.json["title"].startswith("DRILL: ")
        # What `recover` finds next is no alarm.
        assert lab.safe_snapshot("recover").exit_code == 0
        assert (len(post.got), len(web.got)) == (1, 1)


def test_mail_that_is_down_is_named() -> None:
    with drill_site() as (lab, timeline), told(lab):
        lab.settings["notify"]["sendmail"] = "/bin/false"
        lab.write_config()
        run = drill(lab)
        assert broken(run) == ["mail"]
        assert run.json["error"]["remedy"] == "the lines above say how"
        all_is_well(lab, timeline)


def test_a_textfile_folder_that_is_not_there_is_named() -> None:
    with drill_site() as (lab, timeline):
        lab.settings["metrics"] = {"textfile": str(lab.run / "elsewhere" / "x.prom")}
        lab.write_config()
        assert broken(drill(lab)) == ["metrics"]
        all_is_well(lab, timeline)


def test_a_revoked_token_is_named_and_nothing_is_frozen() -> None:
    with drill_site() as (lab, timeline):
        name, _, secret = lab.node.token_file.read_text().partition("=")
        lab.node.token_file.write_text(f"{name}={re.sub('[0-9a-f]', '0', secret)}")
        run = drill(lab)
        assert broken(run) == ["token"]
        (check,) = [check for check in run.json["checks"] if check["name"] == "token"]
        assert "did not accept the credentials" in check["message"]
        assert not timeline.freezes()


@pytest.mark.parametrize("node", ["pve1", "auto"])
def test_a_wrong_socket_folder_is_named_and_nothing_is_frozen(node: str) -> None:
    with drill_site() as (lab, timeline):
        lab.settings["local"] = {"node": node, "socket_folder": str(lab.run / "nowhere")}
        lab.write_config()
        run = drill(lab)
        assert broken(run) == ["socket"]
        assert run.json["error"]["remedy"] == "nothing was frozen"
        text = lab.safe_snapshot("drill", "100", "--yes").text
        assert "socket: BROKEN: " in text
        assert "see [local] socket_folder; PVE's is /var/run/qemu-server" in text
        assert not timeline.freezes()


@contextlib.contextmanager
def hung_guard(lab: Site) -> Iterator[None]:
    """The next guard is stopped once it is armed."""

    def stop() -> None:
        os.kill(the_guard(lab), signal.SIGSTOP)

    def armed() -> bool:
        return any(window.guard_pid and window.closed_at is None for window in lab.windows())

    assert lab.safe_snapshot("recover").exit_code == 0  # there is a journal
    thread = threading.Thread(target=lambda: wait_for(armed, 60) and stop())
    thread.start()
    yield
    thread.join()


def test_a_hung_guard_is_named_and_the_drill_thaws() -> None:
    with drill_site() as (lab, timeline), hung_guard(lab):
        run = drill(lab, "--max-window", "3")
        assert broken(run) == ["guard"]
        (only,) = run.json["rounds"]
        assert "the drill itself" in only["route"]
        assert max(end - start for start, end in timeline.freezes()) < 30
        all_is_well(lab, timeline)


def test_a_guest_that_nobody_can_thaw_is_told_with_an_exit_code_of_its_own_and_left_to_a_guard() -> None:
    with drill_site() as (lab, timeline):
        the_guest(lab).faults.refuse[THAW] = Refusal("CommandNotFound", f"Command {THAW} has been disabled")
        run = drill(lab, "--max-window", "3")
        assert (run.exit_code, run.json["error"]["code"]) == (8, "still-frozen"), run.text
        assert "GUEST 100 MAY STILL BE FROZEN" in run.json["error"]["message"]
        assert run.json["error"]["remedy"]
        assert timeline.is_frozen()
        del the_guest(lab).faults.refuse[THAW]
        timeline.wait_until_thawed_for(0.5)
        assert wait_for(lambda: lab.windows()[0].closed_at is not None, 60)
        all_is_well(lab, timeline)


def test_a_freeze_whose_answer_is_lost_is_told_and_leaves_its_guard() -> None:
    with drill_site() as (lab, timeline):
        lab.settings["freeze"] |= {"freeze_timeout_seconds": 1, "late_freeze_seconds": 600}
        lab.write_config()
        lab.node.fault("fsfreeze-freeze", "hold")  # it may be carried out at any time
        run = drill(lab)
        assert broken(run) == ["freeze"]
        (only,) = run.json["rounds"]
        assert "a freeze whose answer was lost may still come: its guard stays" in only["detail"]
        assert not timeline.is_frozen()
        guard = the_guard(lab)
        (window,) = lab.windows()
        assert (window.guard_pid, window.closed_at, window.freeze_outcome) == (guard, None, "unknown")
        lab.node.release()
        assert wait_for(lambda: lab.windows()[0].late_freezes > 0, 60), "the freeze came, and its guard saw it"
        timeline.wait_until_thawed_for(0.5)


def test_a_signal_ends_the_drill_with_the_guest_thawed() -> None:
    with drill_site() as (lab, timeline):
        with lab.start("drill", "100", "--yes") as started:
            assert wait_for(timeline.is_frozen, 60)
            started.send_signal(signal.SIGINT)
            out, err = started.communicate(timeout=60)
        assert started.returncode == 130, (out, err)
        assert "ended by signal 2; the guest is thawed" in err
        all_is_well(lab, timeline)


def test_a_signal_in_the_round_without_api_leaves_no_configuration_behind() -> None:
    with drill_site() as (lab, timeline):
        with lab.start("drill", "100", "--yes") as started:
            assert wait_for(lambda: cut_files(lab) and timeline.is_frozen(), 60)
            started.send_signal(signal.SIGTERM)
            out, err = started.communicate(timeout=60)
        assert started.returncode == 143, (out, err)
        all_is_well(lab, timeline)


@pytest.mark.parametrize("is_open", [False, True], ids=["its-window-closed", "its-window-open"])
def test_what_a_killed_drill_has_left_is_removed_by_the_next_once_no_guard_needs_it(
    tmp_path: Path, is_open: bool
) -> None:
    me = ProcessIdentity.own()
    config = Config()._replace(journal=JournalConfig(path=tmp_path / "journal.sqlite"))
    left = [
        write_cut(config, me._replace(start=me.start + 1)),  # another process has the number by now
        tmp_path / f".drill-without-api.{me.pid}-1.toml.00ff.new",
        tmp_path / "drill-without-api.toml",
    ]
    left[1].touch()
    left[2].touch()
    ours = write_cut(config, me)
    with contextlib.closing(Journal(config.journal.path)) as journal:
        journal.begin(record(source="drill"))
        if not is_open:
            journal.update("w1", closed_at=time.time())
    sweep(config)
    assert ours.exists()
    assert [path.exists() for path in left] == [is_open] * 3


def test_a_drill_that_is_killed_leaves_no_frozen_guest() -> None:
    with drill_site() as (lab, timeline):
        with lab.start("drill", "100", "--yes") as started:
            assert wait_for(timeline.is_frozen, 60)
            started.kill()
        timeline.wait_until_thawed_for(0.5)
        assert wait_for(lambda: not guards(lab))


def test_nobody_is_frozen_unasked() -> None:
    with drill_site() as (lab, timeline):
        run = lab.safe_snapshot("drill", "100")
        assert (run.exit_code, "say --yes" in run.text) == (2, True)
        assert not timeline.freezes()


def test_a_guest_at_work_is_left_alone() -> None:
    with drill_site() as (lab, timeline):
        lab.node.set_config(100, lock="backup")
        run = drill(lab)
        assert run.exit_code == 4
        assert "`qm unlock 100`" in run.json["error"]["remedy"]
        assert not timeline.freezes()


def test_a_guest_in_another_drills_window_is_to_be_waited_for() -> None:
    with drill_site() as (lab, _):
        lab.guest.ask("guest-fsfreeze-freeze")
        in_our_window(lab, source="drill")
        run = drill(lab)
        assert run.exit_code == 13, run.text
        assert f"held by process {os.getpid()} (a drill, frozen)" in run.json["error"]["message"]
        assert run.json["error"]["remedy"] == "wait until it is over: `safe-snapshot status` shows it"
        lab.guest.ask("guest-fsfreeze-thaw")


def test_a_guest_that_is_frozen_or_off_is_left_alone() -> None:
    with drill_site() as (lab, timeline):
        lab.guest.ask("guest-fsfreeze-freeze")
        run = drill(lab)
        assert run.exit_code == 13
        assert run.json["error"]["remedy"].endswith("to end it: `safe-snapshot thaw 100`")
        assert timeline.is_frozen()
        lab.guest.ask("guest-fsfreeze-thaw")
        lab.guest.stop()
        run = drill(lab)
        assert (run.exit_code, run.json["error"]["remedy"]) == (4, "a drill needs one that runs")


def test_a_guest_on_another_node_is_refused_before_its_socket_is_looked_for() -> None:
    with drill_site() as (lab, timeline):
        lab.settings["local"] = {"node": "pve9", "socket_folder": str(lab.run / "nowhere")}
        lab.write_config()
        run = lab.safe_snapshot("drill", "100", "--yes")
        assert run.exit_code == 4, run.text
        (line,) = " ".join(run.stderr.split()).split("ERROR: ")[1:]
        assert line.startswith("guest 100 is on pve1: run it there")
        assert "BROKEN" not in run.text
        assert not timeline.freezes()


def test_a_container_is_told_that_it_has_no_agent_before_anything_else() -> None:
    with drill_site() as (lab, timeline):
        lab.node.add_guest(GuestSpec(101, kind="lxc"))
        run = lab.safe_snapshot("drill", "101", "--yes")
        assert run.exit_code == 4, run.text
        (line,) = " ".join(run.stderr.split()).split("ERROR: ")[1:]
        assert line.startswith("a container has no guest agent")
        assert "BROKEN" not in run.text
        assert not timeline.freezes()
