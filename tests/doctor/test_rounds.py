"""Many guests: two at a time, within a limit, and who was silent last comes last."""

from __future__ import annotations

import threading
from collections.abc import Callable

import pytest

from snapshot.config.settings import Config
from snapshot.doctor.cluster import Asked, nothing_known
from snapshot.doctor.guests import Examined
from snapshot.doctor.past import Past
from snapshot.doctor.rounds import AT_ONCE, CUT_SECONDS, Limit, Patient, examine_all, patients
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


def rounds_of(
    count: int, examine: Callable[[Patient], Health], clock: VirtualClock | None = None, seconds: float = 60.0
) -> list[Examined]:
    clock = clock or VirtualClock()
    return examine_all(access(clock), wanted(count), examine, Limit.begun(seconds, clock), lambda done, of: None)


def test_two_are_examined_at_once_and_never_more() -> None:
    """Each examination waits for another one, so fewer than two would never end; and each sees who is at work."""
    together = threading.Barrier(2)
    threads: set[str] = set()

    def examine(patient: Patient) -> Health:
        together.wait(PATIENCE_SECONDS)
        threads.update(thread.name for thread in threading.enumerate() if thread.name.startswith("doctor"))
        return healthy(patient)

    done = rounds_of(20, examine)
    assert len(threads) == AT_ONCE == 2
    assert all(one.health is not None for one in done)


def test_once_the_time_is_up_no_examination_begins_and_each_guest_is_told_as_not_examined() -> None:
    clock = VirtualClock()
    seen: list[int] = []

    def examine(patient: Patient) -> Health:
        seen.append(patient.listed.guest.vmid)
        clock.now += 50.0
        return healthy(patient)

    done = rounds_of(6, examine, clock, 50.0)
    assert len(seen) <= AT_ONCE
    left = [one for one in done if one.health is None]
    assert len(left) >= 6 - len(seen)
    assert all(one.why_not.startswith("the 50 s of this run were used up") for one in left)


def test_an_answer_that_does_not_come_holds_nobody_for_long_once_the_time_is_up() -> None:
    """The one guest has answered; the other's question stands when the time is up, and for ever."""
    clock = VirtualClock()
    is_over, has_answered = threading.Event(), threading.Event()

    def examine(patient: Patient) -> Health:
        if patient.listed.guest.vmid == 100:
            has_answered.wait(PATIENCE_SECONDS)
            clock.now += 50.0 + CUT_SECONDS
            is_over.wait(PATIENCE_SECONDS)
        return healthy(patient)

    def progress(done: int, of: int) -> None:
        has_answered.set()

    told = examine_all(access(clock), wanted(2), examine, Limit.begun(50.0, clock), progress)
    assert not is_over.is_set()
    is_over.set()
    assert [one.health is None for one in told] == [True, False]
    assert told[0].why_not == "the 50 s of this run were used up before it had answered"


@pytest.mark.parametrize("error", [ReplyLostError("no answer"), ValueError("odd"), RecursionError(), KeyError("x")])
def test_what_one_examination_raises_is_told_with_its_guest(error: Exception) -> None:
    def examine(patient: Patient) -> Health:
        if patient.listed.guest.vmid == 101:
            raise error
        return healthy(patient)

    done = rounds_of(3, examine)
    assert [one.health is None for one in done] == [False, True, False]
    assert done[1].why_not
    assert isinstance(error, ApiError) is not done[1].why_not.startswith("internal error")


def test_progress_counts_to_the_end() -> None:
    told: list[tuple[int, int]] = []
    limit = Limit.begun(60.0, VirtualClock())
    examine_all(access(), wanted(5), healthy, limit, lambda done, of: told.append((done, of)))
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
