"""The trace tells what was recorded: who sat and who waited, whose calls they were, and when, on one clock."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from xml.etree import ElementTree

import pytest

from tests.bench import picture, svg, table, trace, windows
from tests.bench.__main__ import pve_version
from tests.bench.kinds import HOOK, ON_THE_NODE, PVE, Take, kinds, overlay, setting
from tests.bench.seats import Connection, Seats
from tests.bench.timeline import API, GUEST, OURS, QUEUE, SEAT, WORKER, Call, Recorded, Timeline, timeline
from tests.lab.fixtures import require_real
from tests.lab.guest.real import RealGuest
from tests.lab.guest.scripted import ScriptedGuest
from tests.lab.node.node import Request
from tests.lab.node.qmp import agent_command
from tests.lab.rundir import run_directory
from tests.lab.site import Site, site

SOCKET = Path("/run/100.qga")
LISTENS = b"00000001: 00000002 00000000 00010000 0001 01 900 /run/100.qga"
CLOCK_SECONDS = 0.02
"""How far the guest's clock may be off ours at the most, on however busy a machine."""


def listing(*clients: tuple[str, str, int], others: bytes = b"") -> bytes:
    """/proc/net/unix with these clients of SOCKET: name, state, inode."""
    rows = [f"{name}: 00000003 00000000 00000000 0001 {state} {inode:5} {SOCKET}" for name, state, inode in clients]
    return b"\n".join([b"Num RefCount Protocol Flags Type St Inode Path", LISTENS, others, *map(str.encode, rows)])


def seen(*lists: bytes) -> list[Connection]:
    """What is seen of these lists, one a second."""
    left = list(lists)
    seats = Seats(SOCKET, lambda: left.pop(0))
    for second in range(len(lists)):
        seats.look(float(second))
    return seats.stays


def test_a_client_that_waits_is_seated_and_leaves() -> None:
    (first, second) = seen(
        listing(("a", "03", 11)),
        listing(("a", "03", 11), ("b", "02", 0)),
        listing(("b", "03", 12)),
        listing(),
    )
    assert (first.came, first.seated, first.left, first.was_empty) == (0.0, 0.0, 2.0, True)
    assert (second.came, second.seated, second.left, second.was_empty) == (1.0, 2.0, 3.0, False)


def test_a_name_that_the_kernel_uses_again_is_another_client() -> None:
    stays = seen(listing(("a", "03", 11)), listing(("a", "03", 12)), listing(("a", "02", 0)), listing())
    assert [(stay.came, stay.left) for stay in stays] == [(0.0, 1.0), (1.0, 2.0), (2.0, 3.0)]


def test_the_listener_and_other_sockets_are_nobody() -> None:
    other = b"00000009: 00000003 00000000 00000000 0001 03   99 /run/1000.qga"
    assert seen(listing(others=other), listing(others=other)) == []


def test_a_call_of_pves_is_found_among_the_connections_and_the_rest_is_ours() -> None:
    ours = Connection(came=9.9, seated=9.9, left=10.1)
    pings = Connection(came=10.05, seated=10.1, left=10.12)
    found = Recorded(
        frozen=(10.0, 10.2),
        stays=[ours, pings],
        calls=[Call("guest-ping", 7, 10.0495, 10.1195), Call("guest-ping", 8, 10.15, 10.1502)],
        workers={7: (10.04, 10.19)},
    )
    told = timeline("any", found).steps
    assert [step.whose for step in told if step.words.startswith("our connection")] == [OURS], "PVE's is not ours too"
    steps = {step.words: step for step in told}
    assert steps["our connection to the agent"].whose == OURS
    ping = steps["agent: ping, waits 50 ms for the seat"]
    assert ping.whose == WORKER
    assert [(lane, round(begin), round(end)) for lane, begin, end in ping.bars] == [(SEAT, 100, 120), (QUEUE, 50, 100)]
    missed = steps["agent: ping"]
    assert (missed.whose, missed.bars[0][0]) == (API, API), "a call too short to be seen at the socket is told too"


def test_what_was_long_before_or_behind_the_window_is_not_told() -> None:
    calls = [Call("transaction", 7, at, at + 0.01) for at in (5.0, 10.1, 15.0)]
    steps = timeline("any", Recorded(frozen=(10.0, 10.2), calls=calls, workers={7: (9.0, 11.0)})).steps
    assert [step.words for step in steps if "QEMU" in step.words] == ["QEMU: transaction, the point in time"]


def test_a_request_is_told_without_names_that_say_nothing_and_polls_as_one() -> None:
    begin = "/api2/json/nodes/pve1"
    asked = [
        *(("POST", "qemu/100/snapshot"), ("GET", "tasks/UPID:x/status"), ("GET", "tasks/UPID:x/status")),
        *(("GET", "tasks/UPID:x/log"), ("PUT", "qemu/100/snapshot/t1k0/config")),
    ]
    requests = [
        Request(number, 10.0 + number / 100, "pve1", method, f"{begin}/{path}", {}, done=10.001 + number / 100)
        for number, (method, path) in enumerate(asked)
    ]
    steps = [step for step in timeline("any", Recorded(frozen=(10.0, 10.2), requests=requests)).steps if step.bars][1:]
    assert [(step.words, len(step.bars)) for step in steps] == [
        *(("POST .../snapshot", 1), ("GET the task's status, 2 times", 2)),
        *(("GET the task's log", 1), ("PUT the snapshot's config", 1)),
    ]


def a_timeline(kind: str = "a <kind>") -> Timeline:
    stays = [Connection(came=10.0, seated=10.0, left=10.1), Connection(came=10.05, seated=10.1, left=10.15)]
    return timeline(kind, Recorded(frozen=(10.0, 10.2), stays=stays))


def test_the_page_gets_its_traces_in_place_of_the_old_ones_and_a_picture(tmp_path: Path) -> None:
    page = tmp_path / "window.md"
    page.write_text(trace.PAGE.read_text())
    head, tail = "# Where every millisecond goes", "<!-- end of the traces -->\n"
    for kind in ("first", "second"):
        trace.write(page, [a_timeline(kind)], 3)
    text = page.read_text()
    assert text.startswith(head)
    assert text.endswith(tail)
    assert "### second: 200 ms" in text
    assert "first" not in text.partition("<!-- traces")[2]
    assert "(window.svg)" in text
    ElementTree.parse(tmp_path / "window.svg")


def test_a_page_without_a_place_for_traces_is_refused(tmp_path: Path) -> None:
    page = tmp_path / "window.md"
    page.write_text("# Another page\n")
    with pytest.raises(ValueError, match="no place"):
        trace.write(page, [a_timeline()], 3)
    assert page.read_text() == "# Another page\n"


def test_the_pictures_are_well_formed_whatever_the_names() -> None:
    rows = {'a <first> & "more"': [0.1, 0.3], "nothing": [], "zero": [0.0]}
    tables = [table._table("Windows <real>", "ms", rows, 1000.0)]
    for drawn in (picture.timelines([a_timeline()]), picture.timelines([]), svg.spreads(tables, "a & b")):
        ElementTree.fromstring(drawn)


def test_the_results_have_every_value_and_the_ratio_to_the_first_row_with_any() -> None:
    found = table._table("t", "ms", {"none": [], "one": [0.1, 0.3, 0.2], "two": [0.4]}, 1000.0).as_json()
    none, one, two = found["rows"]
    assert none == {"name": "none", "min": None, "median": None, "max": None, "ratio": None, "values": []}
    assert (one["min"], one["median"], one["max"], one["ratio"]) == (100.0, 200.0, 300.0, 1.0)
    assert (two["ratio"], two["values"]) == (2.0, [400.0])


@pytest.mark.parametrize(("version", "verdict"), [("9.1.10", "filesystem-consistent"), ("9.1.9", "unknown")])
def test_windows_are_measured_at_the_version_that_is_asked_for_and_say_what_they_were_called(
    version: str, verdict: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    tasks: list[str] = []

    def some(lab: Site, disks: Sequence[str]) -> dict[str, Take]:
        def noted(take: Take, name: str) -> str:
            upid = take(name)
            tasks.extend(lab.node.task_log(upid))
            return upid

        return {kind: partial(noted, kinds(lab, disks)[kind]) for kind in (PVE, ON_THE_NODE, HOOK)}

    monkeypatch.setattr(windows, "kinds", some)
    monkeypatch.setattr(windows, "real_available", lambda: False)
    monkeypatch.setattr(table, "TABLES", [])
    windows.main(1, versions=[version])
    (found,) = [each.as_json() for each in table.TABLES]
    assert found["pve"] == version
    assert f"PVE {version}" in found["title"]
    rows = {row["name"]: row for row in found["rows"]}
    assert [len(row["values"]) for row in rows.values()] == [1, 1, 1], capsys.readouterr().out
    assert [row.get("verdicts") for row in rows.values()] == [None, {verdict: 1}, {"filesystem-consistent": 1}]
    printed = capsys.readouterr().out
    assert ("1 unknown" in printed) == (verdict == "unknown"), "what is not proven is not shown as if it were"
    refused = [line for line in tasks if "unable to freeze guest fs" in line]
    assert len(refused) == (0 if verdict == "filesystem-consistent" else 2), "PVE's snapshot task and its vzdump"


def test_a_version_that_is_none_is_refused() -> None:
    assert pve_version("8.4.0") == "8.4.0"
    with pytest.raises(ValueError, match="invalid literal"):
        pve_version("newest")


def test_a_setting_is_laid_over_the_configuration_and_nonsense_is_refused() -> None:
    with site() as lab:
        overlay(lab, ["freeze.policy='require'", "freeze.max_window_seconds=9"])
        assert 'policy = "require"\nmax_window_seconds = 9\n' in lab.config_path.read_text()
    for nonsense in ("policy='require'", "freeze.policy", ""):
        with pytest.raises(ValueError, match=r"no table|Expected"):
            setting(nonsense)


def test_pves_calls_are_noted_where_somebody_asks_for_it() -> None:
    with run_directory() as run, ScriptedGuest(100, run) as guest:
        agent_command(100, guest.agent_socket, "guest-ping", timeout=5.0)
        notes = run / "100.calls"
        assert not notes.exists()
        notes.write_text("")
        agent_command(100, guest.agent_socket, "guest-ping", timeout=5.0)
        (note,) = trace.noted(notes.read_text())
        assert note.execute == "guest-ping"
        assert note.called < note.left


@pytest.mark.real
def test_a_trace_of_a_real_window_has_everything_in_its_order() -> None:
    require_real()
    with site(RealGuest) as lab:
        ways = kinds(lab)
        pves = trace.record(lab, ways[PVE], "own")
        (calls,) = [[call for call in pves.calls if call.pid in pves.workers]]
        assert [call.execute.removeprefix("guest-") for call in calls] == [
            *("ping", "fsfreeze-status", "fsfreeze-freeze", "blockdev-snapshot-internal-sync", "fsfreeze-thaw")
        ]
        frozen, thawed = pves.frozen
        assert thawed - frozen == pytest.approx(lab.guest.windows()[-1])
        assert calls[2].called - CLOCK_SECONDS <= frozen <= calls[2].left + CLOCK_SECONDS
        assert calls[4].called - CLOCK_SECONDS <= thawed <= calls[4].left + CLOCK_SECONDS
        assert pves.record is None

        ours = trace.record(lab, ways[ON_THE_NODE], "ours")
        assert ours.record is not None
        assert ours.record.snapshot_name == "ours"
        told = timeline(ON_THE_NODE, ours)
        assert {GUEST, OURS, API, WORKER} <= {step.whose for step in told.steps}
        words = [step.words for step in told.steps]
        parts = ["freeze sent", "held", "thaw decided"]
        assert [part for word in words for part in parts if word.startswith(part)] == parts
        assert any(word.startswith("our connection") for word in words)
        # What we measured ourselves lies around what the guest measured.
        sent, confirmed = (next(step for step in told.steps if step.words.startswith(part)) for part in parts[::2])
        assert sent.begin <= 1000 * CLOCK_SECONDS
        assert confirmed.end >= told.window - 1000 * CLOCK_SECONDS


@pytest.mark.real
def test_a_guest_of_eight_disks_is_frozen_and_snapshotted_whole() -> None:
    require_real()
    with site(lambda vmid, run: RealGuest(vmid, run, disks=8)) as lab:
        recorded = trace.record(lab, kinds(lab)[PVE], "all")
        assert [call.execute for call in recorded.calls].count("blockdev-snapshot-internal-sync") == 8
        assert lab.guest.ask("guest-fsfreeze-freeze") == 8
        assert lab.guest.ask("guest-fsfreeze-thaw") == 8
