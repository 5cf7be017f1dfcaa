"""What the report's page says: where it is from, what went wrong in words, who needs somebody, who belongs together."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

from snapshot.base.procfs import ProcessIdentity, process_start
from snapshot.config.settings import Config, JournalConfig, LocalConfig
from snapshot.fleet import moment
from snapshot.fleet.group import Member
from snapshot.journal.families import VERDICTS
from snapshot.journal.looks import GuestLook, Why
from snapshot.journal.store import Journal
from snapshot.pve import here
from snapshot.report import digest, html, htmlguests, standing
from snapshot.report.history import Question
from snapshot.take.fence import Milestone
from tests.metrics import story
from tests.metrics.conftest import DAY, World
from tests.metrics.test_history import _Page, run

HOUR = 3600.0
ME = ProcessIdentity.own()


def page(world: World, question: Question | None = None, members: Path = Path("/nowhere/.members")) -> str:
    """The text of the page as a reader has it."""
    asked = question or Question()
    found = digest.digest(world.config.journal.path, asked, world.clock.now)
    parsed = _Page(html.page(found, standing.standing(world.config, asked, ME, world.clock.now, members)))
    assert parsed.open == []
    return parsed.text


def look(world: World, vmid: int, **values: object) -> GuestLook:
    at = world.clock.now
    seen = GuestLook(
        f"qemu/{vmid}", vmid, "pve1", f"guest-{vmid}", True, at, state="thawed", first_seen_at=at - 9 * DAY
    )
    return seen._replace(**values)  # type: ignore[arg-type]


def on_node(world: World, node: str = "pve1") -> None:
    world.config = world.config._replace(local=LocalConfig(node=node))


# -- where it is from, and of which time


def test_the_page_names_its_node_and_the_cluster(world: World) -> None:
    members = world.folder / "members"
    members.write_text(story.MEMBERS)
    on_node(world)
    assert "Node pve1 , cluster shop-west" in page(world, members=members)


def test_a_node_in_no_cluster_is_told_from_one_whose_cluster_is_not_known(world: World) -> None:
    members = world.folder / "members"
    members.write_text('{\n"nodename": "pve1",\n"version": 0\n}\n')
    on_node(world)
    assert "Node pve1 , which is in no cluster" in page(world, members=members)
    members.unlink()
    assert "Node pve1 , whose cluster is not known" in page(world, members=members)


@pytest.mark.parametrize(
    "text", ["", "{", "[]", '{"cluster": {}}', '{"cluster": {"name": 3}}', '{"cluster": null}', "\0"]
)
def test_what_says_nothing_of_a_cluster_leaves_its_name_unknown(tmp_path: Path, text: str) -> None:
    members = tmp_path / "members"
    members.write_text(text)
    assert here.cluster_name(members) is None


def test_a_cluster_file_system_that_hangs_keeps_the_page_waiting_for_its_limit_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pipe = tmp_path / "members"
    os.mkfifo(pipe)
    monkeypatch.setattr(here, "CONFIG_SECONDS", 0.05)
    assert here.cluster_name(pipe) is None


def test_a_page_from_another_machine_names_that_and_whom_it_asks(world: World) -> None:
    on_node(world, "")
    assert f"As {os.uname().nodename} saw them, by the API of localhost" in page(world)


def test_the_time_of_a_page_is_that_of_its_windows_not_the_one_that_was_asked_for(world: World) -> None:
    world.good_run(100)
    first = world.clock.now
    world.clock.now += 2 * DAY
    world.good_run(100)
    last = world.clock.now
    world.clock.now += 3 * HOUR
    year = Question(since_at=world.clock.now - 365 * DAY)
    text = page(world, year)
    minutes = [html.minute(at) for at in (first, last, world.clock.now - 365 * DAY)]
    assert f"{minutes[0]} to {minutes[1]}: 2 runs of 1 guest (asked for since {minutes[2]})" in text


# -- backups and snapshots


def test_backups_and_snapshots_are_counted_apart(world: World) -> None:
    for _ in range(3):
        world.good_run(100, source="vzdump")
    world.failed_run(100, source="vzdump", stage="hold", reason="deadline")
    world.good_run(100, seconds=2.0)
    text = page(world)
    assert "Backups 75.0 % consistent 4 backups of 1 guest" in text
    assert "Snapshots 100 % consistent 1 snapshot of 1 guest" in text
    assert re.search(r"Longest window 300 ms.*Longest window 2 s", text)
    # The guest's last of each: a failed backup is not hidden behind a later good snapshot.
    assert re.search(r"Last backup Last snapshot.*qemu/100 guest-100 pve1 crash-consistent \S+ \S+ filesystem-c", text)


def test_each_verdict_has_a_colour_and_the_disks_word_stands_beside_the_newest(world: World) -> None:
    assert set(htmlguests.KINDS) == set(VERDICTS)
    world.journal.update(world.good_run(100), disk_word="cannot-tell")
    assert "filesystem-consistent : 2 filesystems frozen (disk: cannot-tell)" in page(world)


def test_drills_and_freezes_by_others_are_no_runs(world: World) -> None:
    world.good_run(100)
    world.good_run(100, source="drill", seconds=25.0)
    world.good_run(100, source="foreign", owner="foreign", seconds=25.0)
    text = page(world)
    assert ": 1 run of 1 guest, and 1 drill and 1 foreign freeze (" in text
    assert "Longest window 300 ms" in text
    assert "25 s" not in text


# -- failures


def test_the_page_lists_failures_in_words_with_the_remedy_for_a_guest_of_theirs(world: World) -> None:
    world.failed_run(200, stage="preflight", reason="agent", source="vzdump")
    world.failed_run(100, stage="preflight", reason="agent")
    world.end(
        world.armed(300), verdict="unknown", failure_stage="quantum", failure_reason="from-the-future", reason="odd"
    )
    text = page(world)
    assert "not begun: the agent did not answer 1 backup, 1 snapshot; guests 100, 200. preflight: agent" in text
    assert "What to do: safe-snapshot check 100 names what is missing" in text
    assert re.search(r"The last one, qemu/100 at \S+ \S+: 2 filesystems frozen", text)
    assert "quantum: from-the-future 1 snapshot; guest 300." in text
    assert "What to do: safe-snapshot history 300 --failed has each of them in its own words" in text
    assert "<vmid>" not in text


def test_a_failed_thaw_stands_before_what_happens_more_often(world: World) -> None:
    for vmid in (100, 200, 300):
        world.failed_run(vmid, stage="preflight", reason="agent")
    world.failed_run(400, stage="thaw", reason="no-answer")
    text = page(world)
    assert text.index("THAW FAILED: no thaw was confirmed") < text.index("not begun: the agent did not answer")


def test_a_run_that_is_not_judged_yet_does_not_borrow_the_verdict_of_the_one_before(world: World) -> None:
    world.good_run(100)
    world.clock.now += DAY
    world.intent(100, state="stuck")
    assert re.search(r"qemu/100 guest-100 MAY BE FROZEN pve1 not judged yet \S+ \S+ 1 of 1", page(world))


# -- who needs somebody


@pytest.fixture
def living() -> dict[str, object]:
    """The columns of a window whose owner lives: this process's parent."""
    start = process_start(os.getppid())
    assert start is not None
    return {"owner_pid": os.getppid(), "owner_pid_start": start, "boot_id": ME.boot_id}


def test_a_stuck_guest_stands_on_top_with_what_to_do(world: World) -> None:
    world.good_run(100)
    window = world.armed(300)
    world.journal.update(window, state="stuck")
    world.intent(400, owner="foreign", source="foreign", state="frozen", deadline_at=world.clock.now)
    world.clock.now += 2 * HOUR
    text = page(world)
    assert text.index("2 GUESTS MAY STILL BE FROZEN") < text.index("Snapshots")
    assert (
        "(2 h): its window was left open (stuck), and nobody sees to it. What to do: safe-snapshot recover on" in text
    )
    assert "qemu/400 (guest-400) on pve1" in text
    assert "frozen by somebody else, for longer than that may last" in text
    assert "safe-snapshot thaw 400 thaws it" in text
    assert re.search(r"qemu/300 guest-300 MAY BE FROZEN .* qemu/100", text), "and comes first among the guests"


def test_a_guest_whose_agent_refuses_the_thaw_gets_the_remedy_for_that(world: World, living: dict[str, object]) -> None:
    window = world.armed(300, **living)
    world.journal.update(window, state="stuck", thaw_detail="the agent refused the thaw: not allowed")
    assert "nobody can thaw it, its guard goes on trying. What to do: on pve1: its agent refuses the thaw" in page(
        world
    )


def test_a_window_that_somebody_has_in_hand_is_no_alarm(world: World, living: dict[str, object]) -> None:
    window = world.armed(100, **living)
    world.journal.update(window, state="freezing")
    text = page(world)
    assert "MAY" not in text
    assert re.search(r"Open when this page was made qemu/100 on pve1, since .*: in a window of ours \(freezing\)", text)


def test_a_window_that_was_only_not_closed_is_no_alarm(world: World) -> None:
    window = world.armed(100)
    world.journal.update(window, state="unknown", thawed_at=world.clock.now)
    text = page(world)
    assert "MAY" not in text
    assert "was left open, with its guest thawed or never frozen: safe-snapshot recover closes it" in text


def test_stale_and_never_guarded_guests_are_flagged_and_listed_with_what_to_do(world: World) -> None:
    world.good_run(100)
    world.good_run(300)
    world.clock.now += 4 * DAY
    world.good_run(300)
    world.journal.put_looks([look(world, vmid) for vmid in (100, 200, 300)])
    text = page(world)
    assert (
        "1 guest: no guarded backup for too long 100 (guest-100) What to do: safe-snapshot history 100 on pve1" in text
    )
    assert "1 guest: never had a guarded backup 200 (guest-200) What to do: put it into a backup job" in text
    assert "qemu/200 guest-200 never guarded" in text
    assert "qemu/100 guest-100 stale, 4 days" in text
    assert "qemu/300 guest-300 pve1" in text, "no flag"
    assert text.index("qemu/100 guest-100") < text.index("qemu/200 guest-200") < text.index("qemu/300 guest-300")
    assert "nothing missing" not in text


def test_a_guest_of_which_nobody_knows_whether_it_is_frozen_comes_before_those_that_are_only_not_backed_up(
    world: World,
) -> None:
    silent = {"state": "", "why": Why.AGENT_SILENT.value, "still_since_at": world.clock.now - 3 * HOUR}
    world.journal.put_looks([look(world, 100), look(world, 200, **silent)])
    text = page(world)
    assert text.index("1 guest: nobody knows whether it is frozen") < text.index("2 guests: never had a guarded backup")
    assert re.search(r"qemu/200 guest-200 frozen\? not known; never guarded .* qemu/100 guest-100 never guarded", text)


def test_of_many_silent_guests_all_are_counted_and_some_told(world: World) -> None:
    world.journal.put_looks([look(world, 100 + number) for number in range(60)])
    text = page(world)
    assert "60 guests: never had a guarded backup 100 (guest-100), 101" in text
    assert "and 40 more" in text
    assert "for each, as for 100: put it into a backup job; safe-snapshot check 100 on pve1" in text
    assert text.count("never guarded") == 60


def test_only_what_was_asked_for_is_told(world: World) -> None:
    world.intent(200, state="stuck")
    world.journal.put_looks([look(world, 100), look(world, 200)])
    text = page(world, Question(100))
    assert "200" not in text.replace("2026", "")
    assert "qemu/100 guest-100 never guarded" in text
    text = page(world, Question(means=lambda guest: guest.vmid == 200))
    assert "guest-100" not in text
    assert "qemu/200 guest-200 MAY BE FROZEN" in text


def test_a_machine_that_nobody_looks_at_is_not_called_well(world: World) -> None:
    world.good_run(100)
    assert "Nobody has looked at this machine's guests yet" in page(world)
    world.journal.put_looks([look(world, 100)])
    assert "No guest frozen, and nothing missing, by the look of" in page(world)
    world.clock.now += HOUR
    text = page(world)
    assert "nobody looks at the guests any more" in text
    assert "nothing missing" not in text


# -- the first day


def test_a_first_day_shows_the_guests_and_how_it_goes_on(world: World) -> None:
    seen = [look(world, vmid, first_seen_at=world.clock.now) for vmid in (101, 100)]
    off = look(world, 102, running=False, state="", why=Why.NOT_ASKED.value)
    world.journal.put_looks([*seen, off])
    text = page(world, Question(since_at=world.clock.now - DAY))
    assert "No run has been recorded yet" in text
    assert "safe-snapshot 100 takes a snapshot" in text
    assert "3 guests, as the last look found them" in text
    assert "qemu/100 guest-100 · no run yet" in text
    assert "qemu/102 guest-102 · off, no run yet" in text
    assert "never guarded" not in text
    assert "Last backup" not in text


def test_a_page_behind_the_last_run_says_when_that_was(world: World) -> None:
    """Of a guest that is gone too, which no look finds any more."""
    world.good_run(100)
    began = html.minute(world.clock.now)
    world.clock.now += 60
    world.good_run(200, source="drill")
    world.clock.now += 9 * DAY
    world.journal.put_looks([look(world, 300)])
    text = page(world, Question(since_at=world.clock.now - 2 * DAY))
    assert f"The last one before that began at {began}: safe-snapshot report --html FILE --since {began[:10]}" in text
    assert "No run has been recorded yet" not in text


def test_a_page_about_a_guest_without_a_run_does_not_speak_of_the_others(world: World) -> None:
    world.good_run(100)
    text = page(world, Question(200))
    assert "No run of these guests has been recorded yet" in text
    assert "No run has been" not in text


def test_a_few_runs_are_shown_one_by_one_and_not_drawn(world: World) -> None:
    world.good_run(100)
    world.failed_run(200, stage="hold", reason="deadline")
    text = page(world)
    assert re.search(r"Newest runs .* snapshot qemu/200 guest-200 300 ms crash-consistent : 2 filesystems frozen", text)
    assert "95 of 100" not in text
    assert "2 windows measured so far" in text


# -- groups


def told(vmids: tuple[int, ...], verdict: str = "filesystem-consistent", still_until: float = 9.0) -> str:
    """What the leader of a group says of it, by the evidence of its members."""
    members = []
    for number, vmid in enumerate(vmids):
        member = Member(vmid)
        member.step = Milestone.JUDGED
        member.told = {"verdict": verdict, "kind": "qemu", "still": [number / 10, still_until], "point": [1.0, 1.5]}
        members.append(member)
    return moment.words(members)


def group_run(world: World, group_id: str, vmids: tuple[int, ...], words: str, **values: object) -> None:
    for vmid in vmids:
        window = world.armed(vmid, group_id=group_id)
        world.end(window, **{"reason": f"2 filesystems frozen, proven, and thawed; {words}", **values})


def test_a_group_of_one_point_in_time_is_called_so_with_how_far_apart_it_lay(world: World) -> None:
    group_run(world, "shop-0000beef", (100, 101, 102), told((100, 101, 102)))
    world.good_run(300)
    text = page(world)
    assert "Groups shop: one point in time 3 guests at" in text
    assert ": guests 100, 101, 102 (freezes 0.20 s apart, points in time within 0.50 s)" in text
    assert "In seconds: 100 frozen at 0.00, taken 1.00 to 1.50; 101 frozen at 0.10" in text
    assert "1 of 1 run of one point in time." in text
    assert re.search(r"100 guest-100 300 ms filesystem-consistent: 2 filesystems frozen, proven, and thawed", text)


def test_the_last_run_of_a_group_counts_and_a_bad_one_says_why(world: World) -> None:
    group_run(world, "web-shop-0000beef", (100, 101), told((100, 101)))
    world.clock.now += DAY
    group_run(world, "web-shop-0000cafe", (100, 101), told((100, 101), still_until=1.2))
    text = page(world)
    assert "web-shop: not one point in time 2 guests at" in text
    assert "guest 100 did not stand still over every other one's" in text
    assert "1 of 2 runs of one point in time." in text


def test_a_group_is_called_one_only_where_every_member_is_consistent_and_says_the_same(world: World) -> None:
    group_run(world, "a-0000beef", (100, 101), told((100, 101)))
    world.end(world.armed(102, group_id="a-0000beef"), verdict="crash-consistent", reason=f"x; {told((100, 101))}")
    group_run(world, "b-0000beef", (200, 201), told((200, 201)))
    world.end(world.armed(202, group_id="b-0000beef"), reason="frozen, and thawed")
    group_run(world, "c-0000beef", (300, 301), f"not {moment.ONE}: guest 300 could not follow")
    world.armed(400, group_id="d-0000beef")
    text = page(world)
    for name in "abcd":
        assert f" {name}: not one point in time" in text
    assert "0 of 1 run of one point in time." in text
    assert "400 guest-400 - not judged yet" in text


# -- what others wrote, and how much


def test_whatever_others_wrote_is_text_on_the_page(world: World) -> None:
    evil = '<script>alert("1")</script>`<img src=x>`'
    members = world.folder / "members"
    members.write_text('{"cluster": {"name": "<script>c</script>"}}')
    on_node(world, "<script>n</script>")
    stuck = world.armed(100, guest_name=evil, node="pve1", group_id=f"{evil}-0000beef")
    world.journal.update(stuck, state="stuck", thaw_detail=evil)
    world.failed_run(101, guest_name=evil, stage="freeze", reason=evil)
    bad = world.failed_run(102, guest_name=evil, stage=evil, reason="refused")
    world.journal.update(bad, reason=evil, node=evil)
    world.journal.put_looks([look(world, vmid, name=evil, node=evil) for vmid in (103, 104)])
    asked = Question()
    found = digest.digest(world.config.journal.path, asked, world.clock.now)
    text = html.page(found, standing.standing(world.config, asked, ME, world.clock.now, members))
    parsed = _Page(text)
    assert not {"script", "img"} & set(parsed.tags)
    assert parsed.loads == []
    assert "<script>" not in text
    assert text.count("&lt;script&gt;") > 10
    assert "<script>c</script>" in parsed.text


def test_a_page_of_five_hundred_guests_is_small(tmp_path: Path) -> None:
    """For a mail, or a slow line; 530 guests are in it, some of them stuck, stale or never guarded."""
    text = story.page(tmp_path, "500", 1_790_000_000.0, runs=20)
    assert len(set(re.findall(r"<tr><th><span>(qemu/\d+)", text))) == 530
    assert len(text.encode()) < 200_000


@pytest.mark.parametrize("name", story.STORIES)
def test_every_story_makes_a_whole_page_without_network_or_script(tmp_path: Path, name: str) -> None:
    text = story.page(tmp_path, name, 1_790_000_000.0, runs=20)
    parsed = _Page(text)
    assert parsed.open == []
    assert parsed.loads == []
    assert "script" not in parsed.tags
    assert not re.search(r"url\(|@import|https?://", text)


def test_the_command_makes_the_page_by_the_configuration_and_the_journal(world: World) -> None:
    on_node(world, "pve7")
    world.journal.put_looks([look(world, 200)])
    world.intent(300, state="stuck")
    page = _Page(run(world, "report", "--html", "-").stdout).text
    assert "Node pve7" in page
    assert "A GUEST MAY STILL BE FROZEN" in page
    assert "qemu/200 guest-200 never guarded" in page
    page = _Page(run(world, "report", "--html", "-", "300").stdout).text
    assert "1 run of 1 guest" in page
    assert "guest-200" not in page


def test_a_journal_with_a_window_that_does_not_say_whose_it_is_is_no_clean_page(tmp_path: Path) -> None:
    path = tmp_path / "journal.sqlite"
    journal = Journal(path)
    world_like = story.record("f" * 32, 142, 1_790_000_000.0)
    journal.begin(world_like)
    with journal.transaction("written") as db:
        db.execute("UPDATE windows SET vmid = 'x'")
    journal.close()
    config = Config(journal=JournalConfig(path))
    found = digest.digest(path, Question(), 1_790_000_100.0)
    text = _Page(html.page(found, standing.standing(config, Question(), ME, 1_790_000_100.0, tmp_path))).text
    assert "any guest on this node: the open window ffffffff does not say whose it is" in text
