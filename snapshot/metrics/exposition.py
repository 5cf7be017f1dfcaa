"""The journal's series as Prometheus' text format. The only import of prometheus_client.

Every way out (textfile, exporter, push) sends the bytes of ``render``; nothing is decided anywhere else.
"""

from __future__ import annotations

import errno
import functools
import math
import platform
import threading
import urllib.error
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from importlib import metadata

from prometheus_client import CollectorRegistry, generate_latest, push_to_gateway
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.exposition import basic_auth_handler, default_handler
from prometheus_client.registry import Collector

from snapshot.config.settings import Config
from snapshot.journal import families, labelfamilies, silences
from snapshot.journal.drills import last_drill
from snapshot.journal.families import BUCKETS_SECONDS, DISK_WORDS, HOOK_PHASES, VERDICTS
from snapshot.journal.family import Family, Kind
from snapshot.journal.labelruns import label_runs, limit_seconds
from snapshot.journal.looks import GuestLook
from snapshot.journal.newcounters import NEW, is_new
from snapshot.journal.record import may_be_frozen, printable
from snapshot.journal.series import BUCKET, COUNT, INTENT, SUM, Series, edge_label, labels_of, local_name
from snapshot.journal.store import Journal
from snapshot.model import Owner

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
JOB = "vzdump_hooks"
"""The job under which metrics are pushed."""

DAY_SECONDS = 86400.0

Key = tuple[str, str, str, str]
"""The values of family.GUEST_LABELS."""

_PER_GUEST_COUNTERS = (families.ATTEMPTS, families.THAW_RETRIES, families.LATE_FREEZES)
_PLAIN_GAUGES = (
    families.LAST_WINDOW,
    families.LAST_FREEZE,
    families.LAST_THAW,
    families.MAX_WINDOW,
    families.WINDOW_LIMIT,
    families.LAST_RUN,
    families.LAST_SUCCESS,
    families.LAST_CONSISTENT,
    families.FILESYSTEMS,
)


def render(journal: Journal, config: Config, now: float) -> bytes:
    """The whole exposition at the instant ``now``. JournalError when the journal cannot be read."""
    return generate_latest(_registry(journal, config, now))


def push(journal: Journal, config: Config, now: float, limit_seconds: float) -> None:
    """Replace what the Pushgateway has of this machine, within ``limit_seconds`` in all. OSError when it does not take
    it in time, JournalError as above.
    """
    gateway = config.metrics.pushgateway
    if gateway is None:
        return
    credentials = functools.partial(basic_auth_handler, username=gateway.user, password=gateway.password)
    registry = _registry(journal, config, now)
    failures: list[Exception] = []

    def send() -> None:
        try:
            push_to_gateway(
                gateway.url,
                job=JOB,
                registry=registry,
                grouping_key={"instance": local_name()},
                timeout=limit_seconds,
                handler=credentials if gateway.user else default_handler,
            )
        except urllib.error.HTTPError as error:
            error.close()
            failures.append(OSError(errno.EPROTO, f"it answered {error.code} {error.reason}"))
        except Exception as error:  # noqa: BLE001 - raised below, where somebody waits for it
            failures.append(error)

    # urllib's limit is one for each read: a gateway that drips would hold a backup for hours.
    thread = threading.Thread(target=send, daemon=True)
    thread.start()
    thread.join(limit_seconds)
    if thread.is_alive():
        raise TimeoutError(errno.ETIMEDOUT, f"no whole answer in {limit_seconds:g} s")
    for error in failures:
        raise error


class _Fixed(Collector):
    def __init__(self, metrics: list[Metric]) -> None:
        self._metrics = metrics

    def collect(self) -> Iterable[Metric]:
        return self._metrics


def _registry(journal: Journal, config: Config, now: float) -> CollectorRegistry:
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Fixed(list(_families(journal, config, now))))
    return registry


class _Rows:
    """The series as they stand in the journal: family -> guest -> labels (JSON) -> value."""

    def __init__(self, rows: Iterable[Series], forget_before: float, open_guests: set[Key]) -> None:
        self._values: dict[str, dict[Key, dict[str, float]]] = defaultdict(lambda: defaultdict(dict))
        self.hook_errors: dict[tuple[str, str], float] = {}
        seen: dict[Key, float] = {}
        for row in rows:
            if row.name == families.HOOK_ERRORS.name:
                self.hook_errors[row.node, labels_of(row.labels)["phase"]] = row.value
                continue
            key = (row.id, str(row.vmid), row.node, row.source)
            self._values[row.name][key][row.labels] = row.value
            seen[key] = max(seen.get(key, 0.0), row.seen_at)
        self._kept = {key for key, at in seen.items() if at >= forget_before} | open_guests
        # agent_up knows no source: its rows have none.
        self.guests = sorted((key for key in self._kept if key[3]), key=lambda key: (int(key[1]), *key))

    def value(self, name: str, key: Key) -> float | None:
        return self._values[name].get(key, {}).get("")

    def labelled(self, name: str, key: Key) -> dict[str, float]:
        return self._values[name].get(key, {})

    def agents(self) -> Iterator[tuple[Key, float]]:
        for key, values in sorted(self._values[families.AGENT_UP.name].items(), key=lambda item: int(item[0][1])):
            if key in self._kept:
                yield key, values[""]


def _families(journal: Journal, config: Config, now: float) -> Iterator[Metric]:
    frozen: dict[Key, float] = {}
    open_guests: set[Key] = set()
    for window in journal.open_windows():
        key = (window.guest.id, str(window.vmid), window.node, window.source)
        open_guests.add(key)
        if window.is_foreign and now <= window.deadline_at:
            continue  # somebody else's freeze, for as long as it may last
        if may_be_frozen(window):
            since = window.frozen_at or window.intent_at
            frozen[key] = min(since, frozen.get(key, since))
    rows = _Rows(journal.series(), now - config.metrics.forget_guest_after_days * DAY_SECONDS, open_guests)
    yield _histogram(rows)
    for family in _PER_GUEST_COUNTERS:
        counter = _metric(family)
        for key in rows.guests:
            counter.add_metric(key, rows.value(family.name, key) or 0.0)
        yield counter
    seconds = config.metrics.scrape_interval_seconds
    yield _of_what_was_met(rows, families.FAILURES_TOTAL, ("stage", "reason"), now, seconds)
    yield _of_what_was_met(rows, families.GUARD_THAWS, ("cause",), now, seconds)
    for family in _PLAIN_GAUGES:
        gauge = _metric(family)
        for key in rows.guests:
            value = rows.value(family.name, key)
            if value is not None:
                gauge.add_metric(key, value)
        yield gauge
    yield from _states(rows)
    looks = journal.looks()
    yield _names(rows, looks)
    yield from _frozen(rows, frozen, looks)
    yield from _of_looks(looks, config)
    yield from _not_of_a_window(rows)
    yield from _of_this_machine(journal, looks)
    yield from _of_labels(journal, now - config.metrics.forget_guest_after_days * DAY_SECONDS)


def _metric(family: Family) -> CounterMetricFamily | GaugeMetricFamily:
    # prometheus_client adds the counters' _total by itself.
    if family.kind is Kind.COUNTER:
        return CounterMetricFamily(family.name.removesuffix("_total"), family.help, labels=family.labels)
    return GaugeMetricFamily(family.name, family.help, labels=family.labels)


def _histogram(rows: _Rows) -> Metric:
    family = families.WINDOW
    metric = HistogramMetricFamily(family.name, family.help, labels=family.labels)
    edges = [edge_label(edge) for edge in BUCKETS_SECONDS]
    for key in rows.guests:
        counts = {labels_of(labels)["le"]: value for labels, value in rows.labelled(BUCKET, key).items()}
        buckets, total = [], 0.0
        for edge in edges:
            total += counts.get(edge, 0.0)
            buckets.append((edge, total))
        # The count, not the sum of the buckets: an edge that another version of ours knew must not break the rest.
        buckets.append((edge_label(math.inf), rows.value(COUNT, key) or 0.0))
        metric.add_metric(key, buckets, rows.value(SUM, key) or 0.0)
    return metric


def _of_what_was_met(rows: _Rows, family: Family, names: tuple[str, ...], now: float, scrape_seconds: float) -> Metric:
    """A counter with a series only for what a guest has met; see newcounters.py."""
    metric = _metric(family)
    for key in rows.guests:
        published = rows.labelled(NEW + family.name, key)
        for text, value in rows.labelled(family.name, key).items():
            labels = labels_of(text)
            shown = 0.0 if is_new(published.get(text), now, scrape_seconds) else value
            metric.add_metric((*key, *(labels[name] for name in names)), shown)
    return metric


def _names(rows: _Rows, looks: Mapping[str, GuestLook]) -> Metric:
    """What guests are called: by the last look at this node, else by the newest run."""
    metric = _metric(families.GUEST_INFO)
    names: dict[tuple[str, str, str], str] = {}
    for key in sorted(rows.guests, key=lambda key: rows.value(INTENT, key) or 0.0):
        for text in rows.labelled(families.GUEST_INFO.name, key):
            names[key[:3]] = labels_of(text)["name"]
    for look in looks.values():
        guest = (look.id, str(look.vmid), look.node)
        if look.name and (look.running or guest in names):
            names[guest] = look.name
    for guest, name in sorted(names.items(), key=lambda item: (int(item[0][1]), *item[0])):
        metric.add_metric((*guest, printable(name)), 1.0)
    return metric


def _states(rows: _Rows) -> Iterator[Metric]:
    verdicts, disks = _metric(families.LAST_VERDICT), _metric(families.LAST_DISK_WORD)
    failures = _metric(families.LAST_FAILURE)
    for key in rows.guests:
        for text in rows.labelled(families.LAST_VERDICT.name, key):
            current = labels_of(text)["verdict"]
            for verdict in VERDICTS:
                verdicts.add_metric((*key, verdict), float(verdict == current))
        for text in rows.labelled(families.LAST_DISK_WORD.name, key):
            said = labels_of(text)["word"]
            for one in DISK_WORDS:
                disks.add_metric((*key, one), float(one == said))
        for text in rows.labelled(families.LAST_FAILURE.name, key):
            labels = labels_of(text)
            failures.add_metric((*key, labels["stage"], labels["reason"]), 1.0)
    yield verdicts
    yield disks
    yield failures


def _frozen(rows: _Rows, frozen: dict[Key, float], looks: Mapping[str, GuestLook]) -> Iterator[Metric]:
    state, since = _metric(families.GUEST_FROZEN), _metric(families.FROZEN_SINCE)
    # A freeze by others concerns every guest, whether a run of ours ever came to it or not.
    seen = {(look.id, str(look.vmid), look.node, Owner.FOREIGN.value) for look in looks.values() if look.running}
    for key in sorted({*rows.guests, *seen, *frozen}, key=lambda key: (int(key[1]), *key)):
        state.add_metric(key, float(key in frozen))
        if key in frozen:
            since.add_metric(key, frozen[key])
    yield state
    yield since


def _of_looks(looks: Mapping[str, GuestLook], config: Config) -> Iterator[Metric]:
    """Every running guest of this node, guarded or not: silence about one must be seen."""
    running, known = _metric(families.GUEST_RUNNING), _metric(families.GUEST_KNOWN)
    not_known, limits, seen = (
        _metric(families.NOT_KNOWN_SINCE),
        _metric(families.RUN_LIMIT),
        _metric(families.SEEN_SINCE),
    )
    for look in looks.values():
        if not look.running:
            continue
        key = (look.id, str(look.vmid), look.node)
        running.add_metric(key, 1.0)
        known.add_metric(key, float(bool(look.state)))
        since, limit = silences.not_known_since(look), silences.run_limit_seconds(look, config)
        if since is not None:
            not_known.add_metric((*key, look.why or "unspecified"), since)
        if limit > 0:
            limits.add_metric(key, limit)
        seen.add_metric(key, look.first_seen_at or look.seen_at)
    yield from (running, known, not_known, seen, limits)


def _of_this_machine(journal: Journal, looks: Mapping[str, GuestLook]) -> Iterator[Metric]:
    here = (local_name(),)
    unhooked = silences.last_unhooked(journal)
    for family, value in (
        (families.LAST_LOOK, max((look.seen_at for look in looks.values()), default=None)),
        (families.LAST_UNHOOKED, unhooked.ended_at if unhooked else None),
        (families.CONFIG_BROKEN, float(journal.note(silences.CONFIG_NOTE) is not None)),
        (families.BEGUN_ANEW, silences.begun_anew_at(journal)),
    ):
        gauge = _metric(family)
        if value is not None:
            gauge.add_metric(here, value)
        yield gauge
    drills = _metric(families.LAST_DRILL)
    drill = last_drill(journal)
    if drill is not None:
        drills.add_metric((*here, "yes" if drill.is_kept else "no"), drill.ended_at)
    yield drills


def _of_labels(journal: Journal, forget_before_at: float) -> Iterator[Metric]:
    """Whose label came when, and who was left out."""
    last, since, limits, left = (_metric(family) for family in labelfamilies.LABEL_FAMILIES)
    for run in label_runs(journal):
        key = (run.id, str(run.vmid), run.node, run.label)
        limit = limit_seconds(run.label)
        if run.expected_since_at is None and run.newest_at < forget_before_at:
            continue
        if run.last_at is not None:
            last.add_metric(key, run.last_at)
        if run.expected_since_at is not None and limit:
            since.add_metric(key, run.expected_since_at)
            limits.add_metric(key, limit)
        left.add_metric(key, float(run.left_out_at is not None))
    yield from (last, since, limits, left)


def _not_of_a_window(rows: _Rows) -> Iterator[Metric]:
    agent = _metric(families.AGENT_UP)
    for (guest, vmid, node, _), value in rows.agents():
        agent.add_metric((guest, vmid, node), value)
    yield agent
    errors = _metric(families.HOOK_ERRORS)
    here = local_name()
    counts = {(here, phase): 0.0 for phase in HOOK_PHASES} | rows.hook_errors
    for key, value in counts.items():
        errors.add_metric(key, value)
    yield errors
    build = _metric(families.BUILD_INFO)
    build.add_metric((_version(), platform.python_version()), 1.0)
    yield build


def _version() -> str:
    try:
        return metadata.version("vzdump-hooks")
    except metadata.PackageNotFoundError:
        return "unknown"
