"""Made-up journals for the report's pictures: nobody yet, a first day, one guest, a small cluster, a large one."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from snapshot.base.procfs import ProcessIdentity
from snapshot.config.settings import Config, JournalConfig, LocalConfig, MetricsConfig
from snapshot.fleet import moment
from snapshot.fleet.group import Member
from snapshot.journal import series
from snapshot.journal.looks import GuestLook, Why
from snapshot.journal.record import COLUMNS, WindowRecord
from snapshot.journal.store import Journal
from snapshot.report import digest, html, standing
from snapshot.report.history import Question
from snapshot.take.fence import Milestone
from tests.metrics import fleet
from tests.metrics.conftest import DAY, record

HOUR = 3600.0
STORIES = ("0", "first-day", "1", "40", "500")
MEMBERS = (
    '{\n"nodename": "pve1",\n"version": 4,\n"cluster": { "name": "shop-west", "version": 3, "nodes": 3 },\n"x": {}\n}\n'
)


def page(folder: Path, story: str, now: float, runs: int = 200) -> str:
    """The page of one of STORIES; ``runs``: how many backups of each of five hundred guests it is about."""
    folder.mkdir(parents=True, exist_ok=True)
    path, members = folder / f"{story}.sqlite", folder / "members"
    members.write_text(MEMBERS)
    journal = Journal(path)
    if story == "500":
        _five_hundred(journal, now, runs)
    else:
        {"0": _nothing, "first-day": _first_day, "1": _one, "40": _forty}[story](journal, now)
    journal.close()
    config = Config(
        journal=JournalConfig(path), local=LocalConfig(node="pve1"), metrics=MetricsConfig(folder / "metrics.prom")
    )
    question = Question(since_at=now - 365 * DAY)
    found = digest.digest(path, question, now)
    return html.page(found, standing.standing(config, question, ProcessIdentity(1, 1, "boot"), now, members))


def _nothing(_journal: Journal, _now: float) -> None:
    """The recovery has not even looked yet."""


def _first_day(journal: Journal, now: float) -> None:
    journal.put_looks(_look(number, now, first_seen_at=now - HOUR) for number in range(12))


def _one(journal: Journal, now: float) -> None:
    journal.put_looks([_look(0, now)])
    for hours in (20, 3):
        windows = fleet.windows(1, 1, now - hours * HOUR, span=60.0)
        _write(journal, (window._replace(id=f"{hours:032x}") for window in windows))


def _forty(journal: Journal, now: float) -> None:
    fleet.fill(journal, 38, 120, now + 22 * HOUR, span=120 * DAY, project=False)
    journal.put_looks(_look(number, now, first_seen_at=now - 9 * DAY) for number in range(40))  # two never guarded
    _snapshots(journal, now, guests=12, runs=60)
    _stale(journal, now, (106, 120, 131))
    for day in range(20, 0, -1):
        _group(journal, "shop", (100, 101, 102), now - day * DAY, f"{day:08x}", late=0.4 if day == 5 else 0.0)
    _group(journal, "erp", (105, 115), now - 3 * HOUR, "000000ff", late=0.4)


def _five_hundred(journal: Journal, now: float, runs: int) -> None:
    fleet.fill(journal, 500, runs, now + 365 * DAY / runs - 3 * HOUR, project=False)
    journal.put_looks(_look(number, now, first_seen_at=now - 40 * DAY) for number in range(530))
    _snapshots(journal, now, guests=200, runs=runs // 10)
    _group(journal, "shop", (100, 101, 102, 103), now - 4 * HOUR, "0000beef")
    stuck = record("f" * 32, 142, now - 1500)
    journal.begin(stuck)
    journal.update(
        stuck.id, state="stuck", failure_stage="thaw", failure_reason="no-answer", reason="no thaw was confirmed"
    )
    theirs = record("e" * 32, 217, now - 900)._replace(owner="foreign", source="foreign", state="frozen")
    journal.begin(theirs._replace(frozen_at=now - 900, deadline_at=now - 600))


def _look(number: int, now: float, **values: Any) -> GuestLook:
    vmid = 100 + number
    name = f"{fleet._NAMES[number % 8]}-{number:03d}"
    look = GuestLook(f"qemu/{vmid}", vmid, f"pve{number % 3 + 1}", name, True, now - 30, state="thawed")
    if number % 17 == 16:
        look = look._replace(running=False)
    if number % 23 == 22:
        look = look._replace(state="", why=Why.AGENT_SILENT.value, still_since_at=now - 3 * HOUR)
    return look._replace(**{"first_seen_at": now - 30 * DAY, **values})


def _snapshots(journal: Journal, now: float, *, guests: int, runs: int) -> None:
    """Of some guests, by hand or by a timer, shorter windows than a backup's; those of every fourth are old."""
    for window in fleet.windows(guests, runs, now - 5 * HOUR, span=60 * DAY):
        late = 3 * DAY if window.vmid % 4 == 0 else 0.0
        length = (window.window_seconds or 0.0) / 4
        values = {
            "id": window.id[::-1],
            "source": "snapshot",
            "owner": "snapshot",
            "intent_at": window.intent_at - late,
        }
        sized = {"window_seconds": length} if window.window_seconds is not None else {}
        _write(journal, [window._replace(**values, **sized)])  # type: ignore[arg-type]


def _stale(journal: Journal, now: float, vmids: Iterable[int]) -> None:
    """Nothing has come to these guests for four days."""
    with journal.transaction("written") as db:
        for vmid in vmids:
            db.execute("DELETE FROM windows WHERE vmid = ? AND intent_at > ?", (vmid, now - 4 * DAY))
            db.execute("DELETE FROM series WHERE vmid = ?", (vmid,))
    for vmid in vmids:
        window = journal.history(vmid=vmid, limit=1)[0]
        _write(journal, [window])


def _group(journal: Journal, name: str, vmids: tuple[int, ...], at: float, run: str, late: float = 0.0) -> None:
    """One run of a group, with the words that its leader finds for it; ``late`` is the last member's freeze."""
    members = []
    for number, vmid in enumerate(vmids):
        member = Member(vmid)
        member.step = Milestone.JUDGED
        slow = late if number == len(vmids) - 1 else 0.0
        member.told = {
            "verdict": "filesystem-consistent",
            "kind": "qemu",
            "still": [0.1 * number + slow, 1.2],
            "point": [0.1 * len(vmids), 0.1 * len(vmids) + 0.3],
        }
        members.append(member)
    words = moment.words(members)
    for number, vmid in enumerate(vmids):
        (window,) = fleet.windows(1, 1, at, span=1.0)
        _write(
            journal,
            [
                window._replace(
                    id=f"{run}{vmid:024x}",
                    vmid=vmid,
                    guest_name=f"{fleet._NAMES[(vmid - 100) % 8]}-{vmid - 100:03d}",
                    source="snapshot",
                    owner="snapshot",
                    intent_at=at + number / 10,
                    group_id=f"{name}-{run}",
                    window_seconds=1.3 - number / 10,
                    verdict="filesystem-consistent",
                    failure_stage=None,
                    reason=f"2 filesystems frozen, proven after the point in time, and thawed; {words}",
                )
            ],
        )


def _write(journal: Journal, windows: Any) -> None:
    insert = f"INSERT OR REPLACE INTO windows ({', '.join(COLUMNS)}) VALUES ({', '.join('?' * len(COLUMNS))})"
    with journal.transaction("written") as db:
        for window in windows:
            assert isinstance(window, WindowRecord)
            db.execute(insert, list(window))
            series.apply(db, None, window)
