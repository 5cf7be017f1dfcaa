"""What guards that share a process share, and what each has for itself."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

import pytest

from snapshot.base.clock import SystemClock
from snapshot.base.interruption import Signals
from snapshot.base.procfs import ProcessIdentity, process_start
from snapshot.config.settings import Config, JournalConfig
from snapshot.errors import ApiUnreachableError
from snapshot.guard import __main__ as process
from snapshot.guard.hosted import Order
from snapshot.guard.inbox import ProcessInbox
from snapshot.guard.link import spec_of
from snapshot.guard.seams import Happening
from snapshot.guard.wards import QUIET_SECONDS, Nest, Ward
from snapshot.journal.store import Journal
from snapshot.pve.access import Access
from snapshot.pve.https import Endpoint, HttpsTransport
from snapshot.pve.standby import Standby
from tests.campaign.kit import Notes, guard_spec
from tests.unit.kit import record

NOBODY = 2**30
"""No pid."""


def test_no_two_guards_share_a_connection_or_what_they_find_out() -> None:
    standby = Standby([HttpsTransport(Endpoint("pve2", 8006))], SystemClock(), lambda line: None, same_token=True)
    access = Access(Config(), SystemClock(), HttpsTransport(Endpoint("pve1", 8006)), "", standby)
    said: list[str] = []
    one, other = access.apart(lambda: said.append("one")), access.apart(lambda: said.append("other"))
    assert one.standby is not None
    assert other.standby is not None
    assert len({id(found) for found in (access.api, one.api, other.api)}) == 3
    assert one.standby.others[0] is not other.standby.others[0]
    one.moves()
    one.standby.moves()
    other.standby.moves()
    assert said == ["one", "one", "other"]
    one.standby.is_proven = True
    assert not other.standby.is_proven


def test_certificates_are_read_once_for_all_guards() -> None:
    ahead = HttpsTransport(Endpoint("127.0.0.1", 1, "a@b!c", "secret"))
    with pytest.raises(ApiUnreachableError):
        ahead.request("GET", "version")
    one, other = ahead.apart(), ahead.apart()
    for transport in (one, other):
        with pytest.raises(ApiUnreachableError):
            transport.request("GET", "version")
    assert one._tls is not None
    assert one._tls is other._tls
    assert one._api is not other._api
    for transport in (ahead, one, other):
        transport.close()


def test_a_signal_that_others_hear_too_is_reported_once() -> None:
    with contextlib.closing(Signals()) as signals:
        inboxes = [ProcessInbox(None, (), SystemClock(), signals=signals) for _ in range(2)]
        signals.tell(15)
        for inbox in inboxes:
            message = inbox.wait(60.0)
            assert message is not None
            assert message.what is Happening.SIGNAL
            assert inbox.wait(0.0) is None
            inbox.end()


def test_an_inbox_that_is_ended_holds_nothing_any_more() -> None:
    """Its process goes on."""
    with contextlib.closing(Signals()) as signals:
        pid = os.getppid()
        before = set(os.listdir("/proc/self/fd"))
        inbox = ProcessInbox(None, [(pid, process_start(pid) or 0)], SystemClock(), signals=signals)
        assert len(set(os.listdir("/proc/self/fd")) - before) == 2
        inbox.end()
        assert set(os.listdir("/proc/self/fd")) == before


@pytest.mark.parametrize("is_alone", [True, False])
def test_a_process_that_lives_has_this_windows_guard_only_where_it_is_its_only_one(
    tmp_path: Path, is_alone: bool
) -> None:
    """Elsewhere that guard may have failed, and others live: who has the claim takes the window over."""
    pid = os.getppid()
    window = record(
        state="frozen", deadline_at=0.0, owner_pid=NOBODY, guard_pid=pid, guard_pid_start=process_start(pid)
    )
    config, clock = Config(journal=JournalConfig(path=tmp_path / "journal.sqlite")), SystemClock()
    with contextlib.closing(Journal(config.journal.path)) as journal:
        journal.begin(window)
    with contextlib.closing(Signals()) as signals:
        inbox = ProcessInbox(None, [(NOBODY, 0)], clock, signals=signals)
        spec, me = spec_of(window, config), ProcessIdentity.own()
        found = process._orphan(spec, inbox, config, clock, Notes(), me=me, is_alone=is_alone)
        inbox.end()
    assert (found is None) is is_alone


def test_a_process_in_which_a_guard_says_nothing_is_spared_before_one_that_has_much_to_do() -> None:
    now = 1000.0

    def nest(*silences: float) -> Nest:
        found = Nest(None)  # type: ignore[arg-type]
        for number, seconds in enumerate(silences):
            found.wards[number] = ward = Ward(Order(guard_spec(), ""), now - seconds)
            ward.notify.close()
        return found

    quiet, busy, idle = nest(QUIET_SECONDS + 1), nest(1, 1, 1), nest()
    assert sorted((quiet, busy, idle), key=lambda found: found.burden(now)) == [idle, busy, quiet]
