"""The examination of many guests: at most AT_ONCE at the same time, within a limit, with a word on how far it is.

An agent has one seat, and over the API a silent one takes one of PVE's three workers for 3 s: so few at once. What was
not reached in time, or not answered, is not known, and said so.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

from snapshot.base.aside import Aside
from snapshot.base.clock import Clock
from snapshot.config.settings import GuestSettings
from snapshot.doctor.cluster import Cluster
from snapshot.doctor.guests import Examined
from snapshot.doctor.past import Past
from snapshot.errors import SafeSnapshotError
from snapshot.journal.record import WindowRecord
from snapshot.journal.rows import taken
from snapshot.model import Check, CheckResult, Health, Vmid
from snapshot.preflight import checks
from snapshot.preflight.preflight import Known, Preflight, Wish
from snapshot.pve.access import Access
from snapshot.pve.guests import Listed

AT_ONCE = 2
"""How many guests are examined at the same time."""
CUT_SECONDS = 5.0
"""How much longer than the limit an answer is waited for that was asked for before; then it is left to its thread."""
LOOK_SECONDS = 0.25
"""How often the clock is looked at meanwhile."""

Progress = Callable[[int, int], None]
"""Told how many of how many are done."""


class Limit(NamedTuple):
    """Of a whole visit: nothing is asked later than ``ends_at``, by the monotonic clock."""

    seconds: float
    ends_at: float

    @classmethod
    def begun(cls, seconds: float, clock: Clock) -> Limit:
        """The one that begins now."""
        return cls(seconds, clock.monotonic() + seconds)

    @property
    def used_up(self) -> str:
        """What is said of who was not asked."""
        return f"the {self.seconds:.0f} s of this run were used up"


class Patient(NamedTuple):
    """A guest to examine, and what is known of it."""

    listed: Listed
    known: Known
    settings: GuestSettings
    is_out_of_reach: bool = False
    """Its node is offline: a question would wait for the proxy's limit."""
    window: WindowRecord | None = None
    """One of ours that somebody has in hand: its agent is not to be asked by others now."""


def patients(cluster: Cluster, access: Access, vmids: Sequence[int], past: Past, *, wants_facts: bool) -> list[Patient]:
    """The guests that are wanted (all without ``vmids``), those first that answered when they were last asked."""
    rights = cluster.rights.value
    offline = {node.name for node in cluster.nodes.value or () if not node.online}
    found: list[Patient] = []
    for listed in cluster.listing.value or ():
        guest = listed.guest
        if vmids and guest.vmid not in vmids:
            continue
        known = Known(
            privileges=rights.on(f"/vms/{guest.vmid}") if rights is not None else None,
            version=cluster.versions.get(guest.node),
            is_listed_off=listed.status == "stopped",
            wants_facts=wants_facts,
        )
        settings = access.config.for_guest(guest.vmid, guest.tags, guest.pool, cluster.folds_tags)
        found.append(Patient(listed, known, settings, guest.node in offline, past.manned.get(guest.vmid)))

    def silent(patient: Patient) -> int:
        look = past.looks.get(patient.listed.guest.id)
        return look.silent if look is not None else 0

    return sorted(found, key=lambda patient: (silent(patient), patient.listed.guest.vmid))


def examine_all(
    access: Access, wanted: Sequence[Patient], examine: Callable[[Patient], Health], limit: Limit, progress: Progress
) -> list[Examined]:
    """Each guest's examination, or why there is none. None begins once the limit is over, and one that goes on for
    CUT_SECONDS more is not waited for.
    """
    clock = access.clock
    waiting: queue.SimpleQueue[Patient] = queue.SimpleQueue()
    answers: queue.SimpleQueue[Examined] = queue.SimpleQueue()
    is_left = threading.Event()
    begun: set[int] = set()
    done: dict[int, Examined] = {}
    for patient in wanted:
        waiting.put(patient)

    def work() -> None:
        while clock.monotonic() < limit.ends_at and not is_left.is_set():
            try:
                patient = waiting.get_nowait()
            except queue.Empty:
                return
            begun.add(patient.listed.guest.vmid)
            answers.put(_examined(patient, examine))

    at_work = [Aside(work, f"doctor-{number}") for number in range(min(AT_ONCE, len(wanted)))]

    def take(timeout_seconds: float) -> bool:
        try:
            found = answers.get(timeout=timeout_seconds)
        except queue.Empty:
            return False
        done[found.guest.vmid] = found
        progress(len(done), len(wanted))
        return True

    try:
        while len(done) < len(wanted) and clock.monotonic() < limit.ends_at + CUT_SECONDS:
            is_over = all(one.is_over for one in at_work)  # before the look at the answers, or the last is missed
            if not take(0 if is_over else LOOK_SECONDS) and is_over:
                break
        while take(0):
            pass
    finally:
        is_left.set()
    if len(done) < len(wanted):
        progress(len(wanted), len(wanted))
    return [done.get(patient.listed.guest.vmid) or _left(patient, begun, limit) for patient in wanted]


def _left(patient: Patient, begun: set[int], limit: Limit) -> Examined:
    guest = patient.listed.guest
    why = f"{limit.used_up}{' before it had answered' if guest.vmid in begun else ''}"
    return Examined(guest, patient.settings, why_not=why)


def _examined(patient: Patient, examine: Callable[[Patient], Health]) -> Examined:
    guest = patient.listed.guest
    try:
        return Examined(guest, patient.settings, examine(patient))
    except SafeSnapshotError as error:
        return Examined(guest, patient.settings, why_not=str(error), error=error)
    except Exception as bug:  # noqa: BLE001 - one odd guest must not keep the others from being examined
        return Examined(guest, patient.settings, why_not=f"internal error ({type(bug).__name__}: {bug})")


def preflight(access: Access) -> Callable[[Patient], Health]:
    """The preflight of `safe-snapshot check`, for a guest that is listed already."""

    def examine(patient: Patient) -> Health:
        guest = patient.listed.guest
        if patient.is_out_of_reach:
            return Health(guest, (checks.found(guest), checks.node_offline(guest)))
        if patient.window is not None:
            why = taken(patient.window)
            check = Check("window", CheckResult.NO_FREEZE, why.message, why.remedy, "in-a-window")
            return Health(guest, (checks.found(guest), check))
        wish = Wish(ignore_freeze_option=patient.settings.ignore_freeze_option)
        return Preflight(access).examine_found(guest, patient.known, wish=lambda guest: wish, details=True)

    return examine


def missing(cluster: Cluster, vmids: Iterable[int]) -> list[Vmid]:
    """Those of ``vmids`` that PVE does not list."""
    listed = {row.guest.vmid for row in cluster.listing.value or ()}
    return [Vmid(vmid) for vmid in vmids if vmid not in listed]
