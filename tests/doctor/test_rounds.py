"""Many guests: two at a time, within a limit, and who was silent last comes last."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest

from snapshot.config.settings import Config
from snapshot.doctor import rounds
from snapshot.doctor.cluster import Asked, nothing_known
from snapshot.doctor.past import Past
from snapshot.doctor.rounds import AT_ONCE, Patient, examine_all, patients
from snapshot.errors import ApiError, ReplyLostError
from snapshot.journal.looks import GuestLook
from snapshot.model import Guest, GuestKind, Health, Node, Vmid
from snapshot.preflight.preflight import Known
from snapshot.pve.access import Access
from snapshot.pve.guests import Listed
from tests.unit.kit import START, VirtualClock

PATIENCE_SECONDS = 30.0
"""For hangs only."""


def access(clock: VirtualClock | None = None) -> Access:
    return Access(Config(), clock or VirtualClock(), None, "")


def guest(vmid: int) -> Guest:
    return Guest(Vmid(vmid), Node("pve1"), GuestKind.QEMU, name=f"g{vmid}", running=True)


def wanted(count: int) -> list[Patient]:
    return [Patient(Listed(guest(100 + n)), Known(), Config().for_guest(100 + n)) for n in range(count)]


def healthy(patient: Patient) -> Health:
    return Health(patient.listed.guest, ())


def test_two_are_examined_at_once_and_never_more(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody is done before everybody who may begin has begun."""
    all_begun = threading.Event()
    wait = rounds.wait

    def waits(*arguments: Any, **values: Any) -> Any:
        all_begun.set()  # every examination has been handed over by now, and each thread started
        return wait(*arguments, **values)

    threads: set[str] = set()

    def examine(patient: Patient) -> Health:
        assert all_begun.wait(PATIENCE_SECONDS)
        threads.update(thread.name for thread in threading.enumerate() if thread.name.startswith("doctor"))
        return healthy(patient)

    monkeypatch.setattr(rounds, "wait", waits)
    done = examine_all(access(), wanted(20), examine, 60.0, lambda done, of: None)
    assert len(threads) == AT_ONCE == 2
    assert all(one.health is not None for one in done)


def test_once_the_time_is_up_no_examination_begins_and_each_guest_is_told_as_not_examined() -> None:
    clock = VirtualClock()
    seen: list[int] = []

    def examine(patient: Patient) -> Health:
        seen.append(patient.listed.guest.vmid)
        clock.now += 60.0
        return healthy(patient)

    done = examine_all(access(clock), wanted(6), examine, 50.0, lambda done, of: None)
    assert len(seen) <= AT_ONCE
    left = [one for one in done if one.health is None]
    assert len(left) == 6 - len(seen)
    assert all("the 50 s of this run were used up" in one.why_not for one in left)


@pytest.mark.parametrize("error", [ReplyLostError("no answer"), ValueError("odd"), RecursionError(), KeyError("x")])
def test_what_one_examination_raises_is_told_with_its_guest(error: Exception) -> None:
    def examine(patient: Patient) -> Health:
        if patient.listed.guest.vmid == 101:
            raise error
        return healthy(patient)

    done = examine_all(access(), wanted(3), examine, 60.0, lambda done, of: None)
    assert [one.health is None for one in done] == [False, True, False]
    assert done[1].why_not
    assert isinstance(error, ApiError) is not done[1].why_not.startswith("internal error")


def test_progress_counts_to_the_end() -> None:
    told: list[tuple[int, int]] = []
    examine_all(access(), wanted(5), healthy, 60.0, lambda done, of: told.append((done, of)))
    assert told[-1] == (5, 5)
    assert told == sorted(told)


def listed(*vmids: int) -> Callable[..., list[Patient]]:
    cluster = nothing_known(ReplyLostError("x"))._replace(listing=Asked(tuple(Listed(guest(v)) for v in vmids)))
    return lambda vmids=(), looks=None: patients(cluster, access(), vmids, Past(looks=looks or {}), wants_facts=False)


def test_who_was_silent_when_last_asked_comes_last() -> None:
    looks = {
        f"qemu/{vmid}": GuestLook(f"qemu/{vmid}", vmid, "pve1", "", True, START, silent=silent)
        for vmid, silent in ((100, 3), (102, 0))
    }
    assert [one.listed.guest.vmid for one in listed(100, 101, 102)(looks=looks)] == [101, 102, 100]


def test_guests_that_are_named_are_examined_and_no_others() -> None:
    assert [one.listed.guest.vmid for one in listed(100, 101, 102)(vmids=(102, 100))] == [100, 102]
