"""contrib/grafana/vzdump-hooks.json: fleet overview, windows as a heat map, failures by reason, one guest in detail.

Built with grafana-foundation-sdk, a development dependency. Names of metrics come from the
table of families, so that a query cannot name one that is not exported. Every selector has the matchers of the
dashboard's variables, every time range is the dashboard's, and no aggregation of guests leaves ``cluster`` out: each
cluster has a guest 100.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass

from grafana_foundation_sdk.builders import (
    bargauge,
    common,
    dashboard,
    heatmap,
    prometheus,
    stat,
    statetimeline,
    table,
    timeseries,
)
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models import common as models
from grafana_foundation_sdk.models.dashboard import (
    DashboardCursorSync,
    DataSourceRef,
    DataTransformerConfig,
    DynamicConfigValue,
    Threshold,
    ThresholdsMode,
    ValueMap,
    ValueMappingResult,
    VariableOption,
    VariableRefresh,
    VariableSort,
)

from snapshot.journal import families as f
from snapshot.journal import labelfamilies as labels

PATH = "contrib/grafana/vzdump-hooks.json"
SOURCE = DataSourceRef(type_val="prometheus", uid="${datasource}")
_TARGETS = 'cluster=~"$cluster", job=~"$job", instance=~"$instance"'
_FLEET = f'{_TARGETS}, node=~"$node"'
_GUEST = f'{_TARGETS}, id="$guest"'
_BAR = "1h"
_CONSISTENT = "|".join(sorted(f.CONSISTENT_VERDICTS))
_VERDICT_COLOURS = {
    "application-consistent": "dark-green",
    "filesystem-consistent": "green",
    "memory": "blue",
    "offline": "text",
    "crash-consistent": "orange",
    "unknown": "purple",
}
_BY_GUEST = "cluster, id, node, source"


def files() -> dict[str, str]:
    """See scripts.generators."""
    return {PATH: text()}


def text() -> str:
    """The dashboard as JSON; the mixin has the same."""
    return json.dumps(build().build(), cls=JSONEncoder, indent=2, sort_keys=True) + "\n"


@dataclass(frozen=True)
class Query:
    """An expression, how its series are called, and whether only its last value counts."""

    expr: str
    legend: str = ""
    instant: bool = False
    heatmap: bool = False
    interval: str = ""
    """The least distance of two points: what grows once a night is seen in bars that can be told apart."""

    def target(self, ref: str) -> prometheus.Dataquery:
        """The SDK's form."""
        target = prometheus.Dataquery().expr(self.expr).legend_format(self.legend or "__auto").ref_id(ref)
        target = target.instant().format("table") if self.instant else target.range()
        target = target.interval(self.interval) if self.interval else target
        return target.format("heatmap") if self.heatmap else target


def build() -> dashboard.Dashboard:
    """The whole dashboard."""
    return (
        dashboard.Dashboard("Proxmox VE guest freezes")
        .uid("vzdump-hooks")
        .description(
            "Freeze windows of snapshots and backups: what is frozen, what failed, how long guests stand still."
        )
        .tags(["proxmox", "backup", "vzdump-hooks"])
        .time("now-30d", "now")
        .refresh("1m")
        .timezone("browser")
        .readonly()
        .tooltip(DashboardCursorSync.CROSSHAIR)
        .with_variable(dashboard.DatasourceVariable("datasource").label("Data source").type("prometheus"))
        .with_variable(_choice("cluster", f.BUILD_INFO.name, ".*"))  # most have one, and no such label
        .with_variable(_choice("job", f'{f.BUILD_INFO.name}{{cluster=~"$cluster"}}', ".+"))
        .with_variable(_choice("instance", f'{f.BUILD_INFO.name}{{cluster=~"$cluster", job=~"$job"}}', ".+"))
        .with_variable(_choice("node", f"{f.GUEST_FROZEN.name}{{{_TARGETS}}}", ".+"))
        .with_variable(
            dashboard.QueryVariable("guest")
            .label("Guest")
            .datasource(SOURCE)
            .query(f"label_values({f.GUEST_FROZEN.name}{{{_FLEET}}}, id)")
            .refresh(VariableRefresh.ON_TIME_RANGE_CHANGED)
            .sort(VariableSort.NUMERICAL_ASC)
        )
        .with_row(dashboard.Row("Fleet"))
        .with_panel(_frozen_now())
        .with_panel(_failed_now())
        .with_panel(_consistent_share())
        .with_panel(_agents_down())
        .with_panel(_longest_last())
        .with_panel(_oldest_success())
        .with_panel(_verdicts())
        .with_panel(_needs_a_look())
        .with_row(dashboard.Row("Silence"))
        .with_panel(_running().span(4))
        .with_panel(_not_known().span(4))
        .with_panel(_never_guarded().span(4))
        .with_panel(_run_too_old().span(3))
        .with_panel(_look_age().span(3))
        .with_panel(_of_the_nodes().span(3))
        .with_panel(_labels().span(3))
        .with_row(dashboard.Row("Windows"))
        .with_panel(_heat_map())
        .with_panel(_quantiles())
        .with_panel(_slowest())
        .with_panel(_how_many())
        .with_row(dashboard.Row("Failures"))
        .with_panel(_failures())
        .with_panel(_interventions())
        .with_panel(_hook_errors())
        .with_row(dashboard.Row("Guest $guest"))
        .with_panel(_guest_states())
        .with_panel(_guest_windows())
        .with_panel(_guest_parts())
        .with_panel(_guest_ages())
        .with_panel(_guest_filesystems())
        .with_panel(_guest_failures())
        .with_panel(_versions())
    )


def _choice(label: str, series: str, everything: str) -> dashboard.QueryVariable:
    """A variable of a label's values, of which several may be chosen."""
    return (
        dashboard.QueryVariable(label)
        .label(label.capitalize())
        .datasource(SOURCE)
        .query(f"label_values({series}, {label})")
        .refresh(VariableRefresh.ON_TIME_RANGE_CHANGED)
        .sort(VariableSort.ALPHABETICAL_ASC)
        .multi(True)
        .include_all(True)
        .all_value(everything)
        .current(VariableOption(selected=True, text="All", value="$__all"))
    )


def _named(expr: str, guest: str, more: str = "") -> str:
    """``expr``, whose labels are ``guest`` and ``more``, with the guests' names; as it is where one is not known."""
    names = f"topk by ({guest}) (1, {f.GUEST_INFO.name}{{{_FLEET}}})"
    return f"{expr} * on ({guest}) group_left (name) {names} or on ({guest}{more}) {expr}"


# -- fleet


def _stat(title: str, meaning: str, expr: str, unit: str, steps: Sequence[tuple[float | None, str]]) -> stat.Panel:
    return (
        stat.Panel()
        .title(title)
        .description(meaning)
        .datasource(SOURCE)
        .with_target(Query(expr).target("A"))
        .unit(unit)
        .thresholds(_thresholds(steps))
        .reduce_options(common.ReduceDataOptions().calcs(["lastNotNull"]))
        .graph_mode(models.BigValueGraphMode.NONE)
        .color_mode(models.BigValueColorMode.BACKGROUND)
        .height(4)
        .span(4)
    )


def _thresholds(steps: Sequence[tuple[float | None, str]]) -> dashboard.ThresholdsConfig:
    return (
        dashboard.ThresholdsConfig()
        .mode(ThresholdsMode.ABSOLUTE)
        .steps([Threshold(value=value, color=colour) for value, colour in steps])
    )


def _frozen_now() -> stat.Panel:
    return _stat(
        "Frozen now",
        f.GUEST_FROZEN.meaning,
        f"sum(max by (cluster, id, node) ({f.GUEST_FROZEN.name}{{{_FLEET}}}))",
        "none",
        [(None, "green"), (1, "red")],
    )


def _failed_now() -> stat.Panel:
    return _stat(
        "Last run failed",
        f.LAST_FAILURE.meaning,
        f"count({f.LAST_FAILURE.name}{{{_FLEET}}}) or vector(0)",
        "none",
        [(None, "green"), (1, "orange")],
    )


def _consistent_share() -> stat.Panel:
    verdicts = f.LAST_VERDICT.name
    return _stat(
        "Last runs consistent",
        "Guests whose last snapshot or backup is application- or filesystem-consistent, offline or memory, of all.",
        f'sum({verdicts}{{{_FLEET},verdict=~"{_CONSISTENT}"}}) / sum({verdicts}{{{_FLEET}}})',
        "percentunit",
        [(None, "orange"), (0.95, "yellow"), (1, "green")],
    )


def _agents_down() -> stat.Panel:
    return _stat(
        "Agents down",
        f.AGENT_UP.meaning,
        f"count({f.AGENT_UP.name}{{{_FLEET}}} == 0) or vector(0)",
        "none",
        [(None, "green"), (1, "orange")],
    )


def _longest_last() -> stat.Panel:
    return _stat(
        "Longest last window",
        f.LAST_WINDOW.meaning,
        f"max({f.LAST_WINDOW.name}{{{_FLEET}}})",
        "s",
        [(None, "green"), (10, "yellow"), (30, "orange")],
    )


def _oldest_success() -> stat.Panel:
    return _stat(
        "Oldest last consistent",
        "The guest that has waited longest for a consistent snapshot or backup, of those that ever had one.",
        f"time() - min(max by (cluster, id) ({f.LAST_CONSISTENT.name}{{{_FLEET}}}) > 0)",
        "s",
        [(None, "green"), (2 * 86400, "yellow"), (3 * 86400, "orange")],
    )


_ALARM = ((None, "green"), (1, "orange"))


def _running() -> stat.Panel:
    return _stat(
        "Running guests",
        f.GUEST_RUNNING.meaning,
        f"count(max by (cluster, id) ({f.GUEST_RUNNING.name}{{{_FLEET}}}))",
        "none",
        [(None, "blue")],
    )


def _not_known() -> stat.Panel:
    still = f"count({f.NOT_KNOWN_SINCE.name}{{{_FLEET}}})"
    return _stat(
        "State not known",
        "Guests that have written nothing and of which nobody could tell whether they are frozen. "
        f"{f.GUEST_KNOWN.meaning}",
        f"{still} or 0 * count({f.GUEST_KNOWN.name}{{{_FLEET}}} == 0) or vector(0)",
        "none",
        _ALARM,
    )


def _never_guarded() -> stat.Panel:
    return _stat(
        "Never guarded",
        f.SEEN_SINCE.meaning,
        f"count(({f.SEEN_SINCE.name}{{{_FLEET}}} and on (cluster, id) {f.RUN_LIMIT.name}{{{_TARGETS}}}) "
        f"unless on (cluster, id) {f.LAST_RUN.name}{{{_TARGETS}}}) "
        "or vector(0)",
        "none",
        _ALARM,
    )


def _run_too_old() -> stat.Panel:
    return _stat(
        "Last run too old",
        f.RUN_LIMIT.meaning,
        f"count(time() - max by (cluster, id) ({f.LAST_RUN.name}{{{_TARGETS}}}) "
        f"> on (cluster, id) max by (cluster, id) ({f.RUN_LIMIT.name}{{{_FLEET}}})) "
        "or vector(0)",
        "none",
        _ALARM,
    )


def _look_age() -> stat.Panel:
    return _stat(
        "Oldest look",
        f.LAST_LOOK.meaning,
        f"time() - min({f.LAST_LOOK.name}{{{_FLEET}}})",
        "s",
        [(None, "green"), (300, "yellow"), (900, "orange")],
    )


def _of_the_nodes() -> stat.Panel:
    return _stat(
        "Nodes in trouble",
        "A broken configuration; and within the chosen time a backup past the hook, a journal that was begun anew, or "
        "a drill that failed.",
        f"(sum({f.CONFIG_BROKEN.name}{{{_FLEET}}}) or vector(0))"
        f" + (count(time() - {f.LAST_UNHOOKED.name}{{{_FLEET}}} < $__range_s) or vector(0))"
        f" + (count(time() - {f.BEGUN_ANEW.name}{{{_FLEET}}} < $__range_s) or vector(0))"
        f' + (count(time() - {f.LAST_DRILL.name}{{{_FLEET}, kept="no"}} < $__range_s) or vector(0))',
        "none",
        _ALARM,
    )


def _labels() -> stat.Panel:
    last, expected = f"{labels.LABEL_LAST.name}{{{_TARGETS}}}", f"{labels.LABEL_EXPECTED.name}{{{_TARGETS}}}"
    newest = f"max by (cluster, id, label) ({last} or {expected})"
    limit = f"max by (cluster, id, label) ({labels.LABEL_LIMIT.name}{{{_FLEET}}})"
    return _stat(
        "Labels missed",
        "Guests whose newest snapshot with a label is too old, and those that the label's last run left out or failed.",
        f"(count(time() - {newest} > on (cluster, id, label) {limit}) "
        f"or vector(0)) + (sum({labels.LABEL_LEFT_OUT.name}{{{_FLEET}}}) or vector(0))",
        "none",
        _ALARM,
    )


def _verdicts() -> timeseries.Panel:
    panel = _lines(
        "Guests by the verdict of their last run",
        f.LAST_VERDICT.meaning,
        [Query(f"sum by (verdict) ({f.LAST_VERDICT.name}{{{_FLEET}}})", "{{verdict}}")],
        "none",
    )
    panel = panel.stacking(common.StackingConfig().mode(models.StackingMode.NORMAL)).fill_opacity(40)
    for verdict, colour in _VERDICT_COLOURS.items():
        panel = panel.override_by_name(
            verdict, [DynamicConfigValue(id_val="color", value={"mode": "fixed", "fixedColor": colour})]
        )
    return panel.height(9).span(12)


def _needs_a_look() -> table.Panel:
    return (
        _table(
            "Guests that need a look",
            "Who is frozen, then what failed in the last run. Empty is good.",
            [
                Query(
                    _named(
                        f"(time() - max by ({_BY_GUEST}) ({f.FROZEN_SINCE.name}{{{_FLEET}}}))",
                        "cluster, id, node",
                        ", source",
                    ),
                    instant=True,
                ),
                Query(
                    _named(
                        f"max by ({_BY_GUEST}, stage, reason) ({f.LAST_FAILURE.name}{{{_FLEET}}})",
                        "cluster, id, node",
                        ", source, stage, reason",
                    ),
                    instant=True,
                ),
            ],
        )
        .with_transformation(DataTransformerConfig(id_val="merge", options={}))
        .with_transformation(
            DataTransformerConfig(
                id_val="organize",
                options={"excludeByName": {"Time": True, "Value #B": True}, "renameByName": {"Value #A": "frozen for"}},
            )
        )
        .override_by_name("frozen for", [DynamicConfigValue(id_val="unit", value="s")])
        .height(9)
        .span(12)
    )


# -- windows


def _heat_map() -> heatmap.Panel:
    expr = f"sum by (le) (increase({f.WINDOW.name}_bucket{{{_FLEET}}}[$__rate_interval]))"
    return (
        heatmap.Panel()
        .title("Windows by their length")
        .description(f.WINDOW.meaning)
        .datasource(SOURCE)
        .with_target(Query(expr, "{{le}}", heatmap=True).target("A"))
        .y_axis(heatmap.YAxisConfig().unit("s"))
        .color(heatmap.HeatmapColorOptions().scheme("Oranges").steps(32))
        .height(10)
        .span(24)
    )


def _quantiles() -> bargauge.Panel:
    buckets = f"sum by (le) (increase({f.WINDOW.name}_bucket{{{_FLEET}}}[$__range]))"
    return _gauge(
        "Length of windows in the chosen time",
        "Half, 95 and 99 of 100 windows are at most so long, by the steps of the heat map: up to the end of one.",
        [
            Query(f"histogram_quantile({q}, {buckets})", label)
            for q, label in ((0.5, "median"), (0.95, "95 of 100"), (0.99, "99 of 100"))
        ],
    )


def _slowest() -> bargauge.Panel:
    longest = f"topk(12, max by (cluster, id) ({f.MAX_WINDOW.name}{{{_FLEET}}}))"
    return _gauge(
        "Slowest guests",
        f.MAX_WINDOW.meaning,
        [Query(_named(longest, "cluster, id"), "{{id}} {{name}} {{cluster}}")],
    )


def _how_many() -> timeseries.Panel:
    return (
        _bars(
            "Windows",
            f.ATTEMPTS.meaning,
            [
                Query(
                    f"sum by (source) (increase({f.ATTEMPTS.name}{{{_FLEET}}}[$__rate_interval]))",
                    "{{source}}",
                    interval=_BAR,
                )
            ],
        )
        .height(9)
        .span(8)
    )


# -- failures


def _failures() -> timeseries.Panel:
    return (
        _bars(
            "Failures by stage and reason",
            f.FAILURES_TOTAL.meaning,
            [
                Query(
                    f"sum by (stage, reason) (increase({f.FAILURES_TOTAL.name}{{{_FLEET}}}[$__rate_interval])) > 0",
                    "{{stage}}: {{reason}}",
                    interval=_BAR,
                )
            ],
        )
        .height(9)
        .span(12)
    )


def _interventions() -> timeseries.Panel:
    return (
        _bars(
            "Thaws that needed help",
            f"{f.GUARD_THAWS.meaning} {f.THAW_RETRIES.meaning} {f.LATE_FREEZES.meaning}",
            [
                Query(
                    f"sum by (cause) (increase({f.GUARD_THAWS.name}{{{_FLEET}}}[$__rate_interval])) > 0",
                    "guard: {{cause}}",
                    interval=_BAR,
                ),
                Query(
                    f"sum(increase({f.THAW_RETRIES.name}{{{_FLEET}}}[$__rate_interval]))", "thaw retries", interval=_BAR
                ),
                Query(
                    f"sum(increase({f.LATE_FREEZES.name}{{{_FLEET}}}[$__rate_interval]))", "late freezes", interval=_BAR
                ),
            ],
        )
        .height(9)
        .span(6)
    )


def _hook_errors() -> timeseries.Panel:
    return (
        _bars(
            "Hook errors",
            f.HOOK_ERRORS.meaning,
            [
                Query(
                    f"sum by (cluster, node, phase) (increase({f.HOOK_ERRORS.name}{{{_FLEET}}}[$__rate_interval])) > 0",
                    "{{node}}: {{phase}} {{cluster}}",
                    interval=_BAR,
                )
            ],
        )
        .height(9)
        .span(6)
    )


# -- one guest


def _guest_states() -> statetimeline.Panel:
    return (
        statetimeline.Panel()
        .title("Verdict, agent, frozen, the disk's word")
        .description("What was known of $guest over time.")
        .datasource(SOURCE)
        .with_target(
            Query(
                f"max by (cluster, source, verdict) ({f.LAST_VERDICT.name}{{{_GUEST}}}) > 0",
                "{{verdict}} ({{source}}) {{cluster}}",
            ).target("A")
        )
        .with_target(
            Query(f"max by (cluster) ({f.AGENT_UP.name}{{{_GUEST}}})", "agent answers {{cluster}}").target("B")
        )
        .with_target(Query(f"max by (cluster) ({f.GUEST_FROZEN.name}{{{_GUEST}}})", "frozen {{cluster}}").target("C"))
        .with_target(
            Query(
                f"max by (cluster, word) ({f.LAST_DISK_WORD.name}{{{_GUEST}}}) > 0", "disk: {{word}} {{cluster}}"
            ).target("D")
        )
        .mappings([ValueMap(options={"0": ValueMappingResult(text="no"), "1": ValueMappingResult(text="yes")})])
        .height(9)
        .span(12)
    )


def _guest_windows() -> timeseries.Panel:
    return (
        _lines(
            "Last window and its limit",
            f"{f.LAST_WINDOW.meaning} {f.MAX_WINDOW.meaning}",
            [
                Query(f"max by (cluster, source) ({f.LAST_WINDOW.name}{{{_GUEST}}})", "last ({{source}}) {{cluster}}"),
                Query(
                    f"max by (cluster, source) ({f.WINDOW_LIMIT.name}{{{_GUEST}}})", "limit ({{source}}) {{cluster}}"
                ),
                Query(f"max by (cluster) ({f.MAX_WINDOW.name}{{{_GUEST}}})", "longest on record {{cluster}}"),
            ],
            "s",
        )
        .height(9)
        .span(12)
    )


def _guest_parts() -> timeseries.Panel:
    return (
        _lines(
            "Freezing and thawing",
            f"{f.LAST_FREEZE.meaning} {f.LAST_THAW.meaning}",
            [
                Query(
                    f"max by (cluster, source) ({f.LAST_FREEZE.name}{{{_GUEST}}})", "freezing ({{source}}) {{cluster}}"
                ),
                Query(f"max by (cluster, source) ({f.LAST_THAW.name}{{{_GUEST}}})", "thawing ({{source}}) {{cluster}}"),
            ],
            "s",
        )
        .height(8)
        .span(6)
    )


def _guest_ages() -> timeseries.Panel:
    def age(family: f.Family) -> str:
        return f"time() - (max by (cluster, source) ({family.name}{{{_GUEST}}}) > 0)"

    return (
        _lines(
            "Time since the last run",
            f"{f.LAST_RUN.meaning} {f.LAST_SUCCESS.meaning} {f.LAST_CONSISTENT.meaning}",
            [
                Query(age(f.LAST_RUN), "run ({{source}}) {{cluster}}"),
                Query(age(f.LAST_SUCCESS), "success ({{source}}) {{cluster}}"),
                Query(age(f.LAST_CONSISTENT), "consistent ({{source}}) {{cluster}}"),
            ],
            "s",
        )
        .height(8)
        .span(6)
    )


def _guest_filesystems() -> timeseries.Panel:
    return (
        _lines(
            "Filesystems frozen",
            f.FILESYSTEMS.meaning,
            [Query(f"max by (cluster, source) ({f.FILESYSTEMS.name}{{{_GUEST}}})", "{{source}} {{cluster}}")],
            "none",
        )
        .height(8)
        .span(6)
    )


def _guest_failures() -> timeseries.Panel:
    grown = f"increase({f.FAILURES_TOTAL.name}{{{_GUEST}}}[$__rate_interval])"
    by_reason = Query(
        f"sum by (cluster, stage, reason) ({grown}) > 0", "{{stage}}: {{reason}} {{cluster}}", interval=_BAR
    )
    return _bars("Failures", f.FAILURES_TOTAL.meaning, [by_reason]).height(8).span(6)


def _versions() -> table.Panel:
    return (
        _table(
            "Versions",
            f.BUILD_INFO.meaning,
            [
                Query(
                    f"max by (cluster, job, instance, version, python) ({f.BUILD_INFO.name}{{{_TARGETS}}})",
                    instant=True,
                )
            ],
        )
        .with_transformation(
            DataTransformerConfig(id_val="organize", options={"excludeByName": {"Time": True, "Value": True}})
        )
        .height(6)
        .span(24)
    )


# -- shapes


def _gauge(title: str, meaning: str, queries: Sequence[Query]) -> bargauge.Panel:
    """Bars of seconds, one a series, of the last value."""
    panel = (
        bargauge.Panel()
        .title(title)
        .description(meaning)
        .datasource(SOURCE)
        .unit("s")
        .min(0)
        .reduce_options(common.ReduceDataOptions().calcs(["lastNotNull"]))
        .orientation(models.VizOrientation.HORIZONTAL)
        .thresholds(_thresholds([(None, "green"), (10, "yellow"), (30, "orange")]))
        .height(9)
        .span(8)
    )
    for ref, query in zip("ABCDEF", queries, strict=False):
        panel = panel.with_target(query.target(ref))
    return panel


def _lines(title: str, meaning: str, queries: Sequence[Query], unit: str) -> timeseries.Panel:
    panel = (
        timeseries.Panel()
        .title(title)
        .description(meaning)
        .datasource(SOURCE)
        .unit(unit)
        .min(0)
        .draw_style(models.GraphDrawStyle.LINE)
        .line_interpolation(models.LineInterpolation.STEP_AFTER)
        .show_points(models.VisibilityMode.NEVER)
        .legend(common.VizLegendOptions().display_mode(models.LegendDisplayMode.LIST).show_legend(True))
        .tooltip(common.VizTooltipOptions().mode(models.TooltipDisplayMode.MULTI))
    )
    for ref, query in zip("ABCDEF", queries, strict=False):
        panel = panel.with_target(query.target(ref))
    return panel


def _bars(title: str, meaning: str, queries: Sequence[Query]) -> timeseries.Panel:
    return (
        _lines(title, meaning, queries, "none")
        .draw_style(models.GraphDrawStyle.BARS)
        .fill_opacity(60)
        .stacking(common.StackingConfig().mode(models.StackingMode.NORMAL))
        .no_value("none")
    )


def _table(title: str, meaning: str, queries: Sequence[Query]) -> table.Panel:
    panel = table.Panel().title(title).description(meaning).datasource(SOURCE)
    for ref, query in zip("ABCDEF", queries, strict=False):
        panel = panel.with_target(query.target(ref))
    return panel
