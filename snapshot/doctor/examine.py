"""The doctor's whole visit: gather, judge, and nothing else. It freezes nothing and changes nothing."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from snapshot.base.aside import Aside
from snapshot.base.clock import Clock
from snapshot.base.procfs import ProcessIdentity
from snapshot.commands import folder
from snapshot.config import reading, settings
from snapshot.config import token as tokens
from snapshot.config.settings import DEFAULT_PATH, Config
from snapshot.doctor import cluster as clusters
from snapshot.doctor import guests, habits, past, rounds, ways
from snapshot.doctor.cluster import Cluster
from snapshot.doctor.facts import Facts, Look
from snapshot.doctor.findings import Finding, Severity, finding, worst_first
from snapshot.doctor.guests import About, Diagnosis, Examined
from snapshot.doctor.machine import Machine
from snapshot.doctor.rounds import Limit, Progress
from snapshot.doctor.worth import HookState
from snapshot.errors import ConfigError, ReplyLostError
from snapshot.journal import silences
from snapshot.model import Guest, GuestKind, Node, Vmid
from snapshot.pve.access import Access, open_access

WITHIN_SECONDS = 300.0
"""For how long anything is asked. Five hundred guests take about two minutes over the API."""


class Surroundings(NamedTuple):
    """What the visit needs of the world."""

    clock: Clock
    me: ProcessIdentity
    machine: Machine = Machine()
    progress: Progress = lambda done, of: None
    is_root: bool = True
    """Whether this process is: what others cannot read is then no fault."""


class Examination(NamedTuple):
    """What was found."""

    looks: tuple[Look, ...]
    """Of the installation, in order."""
    guests: tuple[Diagnosis, ...]
    """Worst first, then by vmid."""
    now: float

    @property
    def findings(self) -> tuple[Finding, ...]:
        """All of them, worst first."""
        found = [one for look in self.looks for one in look.findings]
        found += [one for row in self.guests for one in row.findings]
        return tuple(sorted(found, key=worst_first))


def examine(
    config_path: Path | None,
    surroundings: Surroundings,
    vmids: Sequence[Vmid] = (),
    *,
    within_seconds: float = WITHIN_SECONDS,
) -> Examination:
    """Look at the installation and at ``vmids`` (at every guest without any). Never raises for what it may find."""
    limit = Limit.begun(within_seconds, surroundings.clock)
    config, problems = reading.load_lenient(config_path)
    access, no_way = _open(config, surroundings.clock)
    cluster = _look(access, limit) if access is not None else clusters.nothing_known(no_way or ConfigError("no way"))
    facts = _facts(config, config_path or DEFAULT_PATH, cluster, surroundings)
    facts = facts._replace(problems=tuple(problems), no_way=no_way, **_how(config, access))
    looks = tuple(
        probe(facts)
        for probe in (
            *(ways.configuration, ways.api, ways.certificate, ways.privileges, ways.clock, ways.nodes),
            *(habits.script, habits.jobs, habits.backups, habits.recover, habits.journal, habits.told),
        )
    )
    wanted = rounds.patients(cluster, access, vmids, facts.past, wants_facts=len(vmids) == 1) if access else []
    examined: list[Examined] = []
    if access is not None and wanted:
        how = rounds.preflight(access)
        examined = rounds.examine_all(access, wanted, how, limit, surroundings.progress)
    silent = habits.of_guests(facts)
    rows = [guests.row(one, _about(one.guest, facts, silent.get(one.guest.id, []))) for one in examined]
    rows += [_unlisted(vmid, facts) for vmid in rounds.missing(cluster, vmids)]
    rows.sort(key=_order)
    return Examination(looks, tuple(rows), facts.now)


def _open(config: Config, clock: Clock) -> tuple[Access | None, ConfigError | None]:
    try:
        return open_access(config, clock), None
    except ConfigError as error:
        return None, error


def _look(access: Access, limit: Limit) -> Cluster:
    """What PVE tells of the cluster; nothing where it has not told all within the limit."""
    asking = Aside(lambda: clusters.look(access), "doctor-cluster")
    try:
        return asking.result(max(0.0, limit.ends_at - access.clock.monotonic()) + rounds.CUT_SECONDS)
    except TimeoutError:
        remedy = "`systemctl status pveproxy pvedaemon` on the node; --within gives it more time"
        return clusters.nothing_known(ReplyLostError(f"{limit.used_up} before PVE had answered", remedy=remedy))


def _how(config: Config, access: Access | None) -> dict[str, Any]:
    """How PVE is asked, and whose rights those are; without the API on a node: why."""
    if access is None:
        return {"way": "none"}
    has_file = tokens.has_file(config)
    try:
        token_id, trouble = tokens.token(config).id, None
    except ConfigError as error:
        token_id, trouble = "", error
    if access.api is not None:
        return {"way": access.api.name, "token_id": token_id, "has_token_file": has_file}
    return {"way": "pvesh", "token_trouble": trouble, "has_token_file": has_file}


def _facts(config: Config, config_path: Path, cluster: Cluster, surroundings: Surroundings) -> Facts:
    me, now = os.geteuid(), surroundings.clock.time()
    return Facts(
        config=config,
        config_path=config_path,
        has_config=config_path.exists(),
        refused=tuple(folder.refused_lines(config_path, me)),
        strangers=(*silences.folder_lines(config), *silences.config_lines(config, config_path)),
        cluster=cluster,
        machine=surroundings.machine.look(),
        past=past.look(config, now, surroundings.me),
        now=now,
        node=settings.local_node(config),
        is_root=surroundings.is_root,
    )


def _about(guest: Guest, facts: Facts, silent: Sequence[Finding]) -> About:
    cluster = facts.cluster
    jobs = cluster.jobs.value
    hook = HookState(
        by_node=cluster.is_hooked(guest.node, facts.script_here if guest.node == facts.node else None),
        jobs=None if jobs is None else [job for job in jobs if job.enabled and job.holds(guest)],
    )
    return About(
        version=cluster.versions.get(guest.node, ""),
        hook=hook,
        schedule=(cluster.replicated.value or {}).get(guest.vmid, ""),
        last_run_at=facts.past.last_runs.get(guest.id),
        silences=tuple(silent),
        folds_tags=cluster.folds_tags,
    )


def _unlisted(vmid: Vmid, facts: Facts) -> Diagnosis:
    """A guest that was asked for, and that PVE does not list; or PVE listed none at all."""
    guest = Guest(vmid, Node("?"), GuestKind.QEMU)
    listing = facts.cluster.listing
    why = "" if listing.is_known else f"PVE cannot be asked: {listing.why}"
    row = guests.row(Examined(guest, facts.config.for_guest(vmid), why_not=why), About())
    if not listing.is_known:
        return row
    text = f"PVE does not list a guest {vmid} for this token"
    remedy = "`qm list`, `pct list` on a node; docs/privileges.md has what the token needs"
    return row._replace(findings=(finding("guest-not-found", f"guest {vmid}", text, remedy, vmid),))


def _order(row: Diagnosis) -> tuple[int, int]:
    return min((worst_first(one) for one in row.findings), default=len(Severity)), row.vmid
