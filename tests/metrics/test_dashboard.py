"""Every query of the dashboard is run against the real Prometheus, on what a fleet exports, and returns data."""

from __future__ import annotations

import contextlib
import json
import re
import threading
import time
import urllib.parse
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from scripts.generators import ROOT
from snapshot.journal import series
from snapshot.journal.families import FAMILIES
from snapshot.journal.looks import GuestLook
from snapshot.metrics.exporter import Exporter
from snapshot.model import Guest, GuestKind, Node, Vmid
from tests.metrics import fleet
from tests.metrics.conftest import World
from tests.metrics.programs import eventually, free_port, get, running

FIRST = 'pve_fsfreeze_failures_total{id="qemu/100", stage="thaw"}'
DASHBOARD = json.loads((ROOT / "contrib" / "grafana" / "vzdump-hooks.json").read_text())


def _queries() -> list[tuple[str, str]]:
    return [
        (f"{panel['title']} {target['refId']}", target["expr"])
        for panel in DASHBOARD["panels"]
        for target in panel.get("targets", [])
    ]


def test_every_family_is_on_the_dashboard() -> None:
    shown = " ".join(expr for _, expr in _queries())
    for family in FAMILIES:
        assert family.name in shown, family.name


def test_every_panel_says_what_it_means_and_asks_the_chosen_data_source() -> None:
    panels = [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"]
    assert len(panels) >= 20
    for panel in panels:
        assert panel["description"], panel["title"]
        assert panel["datasource"] == {"type": "prometheus", "uid": "${datasource}"}
        for target in panel["targets"]:
            assert target.get("datasource", panel["datasource"])["uid"] == "${datasource}"
    variables = ["datasource", "cluster", "job", "instance", "node", "guest"]
    assert [v["name"] for v in DASHBOARD["templating"]["list"]] == variables
    # A heat map is drawn from buckets.
    (heat,) = [panel for panel in panels if panel["type"] == "heatmap"]
    assert [t["format"] for t in heat["targets"]] == ["heatmap"]


def test_nobody_edits_it_in_place() -> None:
    """What is changed there is lost with the next version: a copy may be edited."""
    assert DASHBOARD["editable"] is False


def test_cluster_job_and_instance_are_chosen_and_every_selector_asks_for_them() -> None:
    chosen = {v["name"]: v for v in DASHBOARD["templating"]["list"]}
    for name, everything in (("cluster", ".*"), ("job", ".+"), ("instance", ".+")):
        assert (chosen[name]["multi"], chosen[name]["includeAll"], chosen[name]["allValue"]) == (True, True, everything)
        assert chosen[name]["refresh"] == 2, "when the time range changes"
    for title, expr in _queries():
        selectors = re.findall(r"pve_fsfreeze_\w+(\{[^}]*\})?", expr)
        assert selectors, title
        for selector in selectors:
            assert selector.startswith('{cluster=~"$cluster", job=~"$job", instance=~"$instance"'), f"{title}: {expr}"


def test_no_two_clusters_guests_are_made_one() -> None:
    """Each cluster has a guest 100: who puts guests together or beside each other says of which cluster."""
    for title, expr in _queries():
        for labels in re.findall(r"\b(?:by|on) \(([^)]*)\)", expr):
            named = labels.split(", ")
            assert "cluster" in named or not {"id", "node", "instance"} & set(named), f"{title}: {labels}"
    for panel in DASHBOARD["panels"][_row("Guest $guest") + 1 :]:
        for target in panel["targets"]:
            assert re.search(r"\b(by|on) \(cluster", target["expr"]), target["expr"]
            assert target.get("format") == "table" or "{{cluster}}" in target["legendFormat"], panel["title"]


def _row(title: str) -> int:
    return [panel["title"] for panel in DASHBOARD["panels"]].index(title)


def test_how_far_back_is_looked_is_the_dashboards_choice() -> None:
    ranges = {found for _, expr in _queries() for found in re.findall(r"\[([^\]]*)\]", expr)}
    assert ranges == {"$__range", "$__rate_interval"}
    assert not [expr for _, expr in _queries() if "86400" in expr]
    assert DASHBOARD["time"] == {"from": "now-30d", "to": "now"}


@pytest.fixture
def elsewhere(tmp_path: Path) -> Iterator[World]:
    """Another cluster, with a guest 100 of its own that is well."""
    other = World(tmp_path / "elsewhere")
    other.clock.now = time.time()
    other.good_run(100, seconds=1.5, guest_name="mail")
    yield other
    other.journal.close()


def test_every_query_returns_data_from_the_real_prometheus(world: World, elsewhere: World, tmp_path: Path) -> None:
    world.clock.now = time.time()
    # What begins at 0 must be scraped before it moves: it moves when this test says so.
    world.config = world.config._replace(metrics=world.config.metrics._replace(scrape_interval_seconds=60.0))
    fleet.fill(world.journal, 12, 30, world.clock.now)
    world.good_run(100)
    with contextlib.ExitStack() as live:
        ports = [live.enter_context(_serving(one)) for one in (world, elsewhere)]
        _ask_prometheus(world, ports, tmp_path)


@contextlib.contextmanager
def _serving(world: World) -> Iterator[int]:
    with Exporter("127.0.0.1", 0, world.config, world.clock) as exporter:
        thread = threading.Thread(target=exporter.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield exporter.server_address[1]
        finally:
            exporter.shutdown()
            thread.join()


def _filled(expr: str, **chosen: str) -> str:
    """A query as Grafana sends it, with all chosen unless it is said otherwise."""
    values = {"cluster": ".*", "job": ".+", "instance": ".+", "node": ".+", "guest": "qemu/100"} | chosen
    values |= {"__rate_interval": "1m", "__range_s": "3600", "__range": "1h"}
    for variable, value in values.items():
        expr = expr.replace(f"${variable}", value)
    assert "$" not in expr
    return expr


def _ask_prometheus(world: World, ports: list[int], folder: Path) -> None:
    port = free_port()
    targets = ", ".join(
        f"{{targets: ['127.0.0.1:{one}'], labels: {{cluster: {cluster}}}}}"
        for cluster, one in zip("ab", ports, strict=True)
    )
    (folder / "prometheus.yml").write_text(
        "global: {scrape_interval: 1s, scrape_timeout: 1s}\nscrape_configs:\n"
        f"  - {{job_name: pve, static_configs: [{targets}]}}\n"
    )
    base = f"http://127.0.0.1:{port}"
    with running(
        "prometheus",
        f"{base}/-/ready",
        f"--config.file={folder}/prometheus.yml",
        f"--storage.tsdb.path={folder}/data",
        f"--web.listen-address=127.0.0.1:{port}",
        folder=folder,
    ):

        def ask(expr: str) -> list[Any]:
            reply = json.loads(get(f"{base}/api/v1/query?query={urllib.parse.quote(expr)}"))
            assert reply["status"] == "success", reply
            found: list[Any] = reply["data"]["result"]
            return found

        def scraped(times: int) -> bool:
            found = ask("count_over_time(pve_fsfreeze_build_info[5m])")
            return len(found) == len(ports) and all(float(one["value"][1]) >= times for one in found)

        eventually("Prometheus scraped twice", lambda: scraped(2))
        _let_things_happen(world)
        eventually("Prometheus saw it", lambda: bool(ask('pve_fsfreeze_guest_frozen{id="qemu/100"} == 1')))
        eventually("and that nothing had failed before", lambda: bool(ask(f"{FIRST} == 0")))
        world.clock.now += 120
        eventually("and the first failure of its kind", lambda: bool(ask(f"{FIRST} == 1")))
        eventually("and once more", lambda: scraped(5))
        for title, expr in _queries():
            asked = _filled(expr)
            found = ask(asked)
            assert found, f"{title} returns nothing: {asked}"
            assert not all(value["value"][1] == "NaN" for value in found), f"{title} returns NaN: {asked}"
        for variable in DASHBOARD["templating"]["list"][1:]:
            query = re.fullmatch(r"label_values\((.*), (\w+)\)", variable["query"])
            assert query
            selector, label = query.groups()
            assert ask(f"count by ({label}) ({_filled(selector)})")
        _two_clusters(ask)


def _two_clusters(ask: Callable[[str], list[Any]]) -> None:
    """Each has a guest 100; one of them failed, and the other one is well."""
    queries = dict(_queries())

    def value(title: str, **chosen: str) -> float:
        (one,) = ask(_filled(queries[f"{title} A"], **chosen))
        return float(one["value"][1])

    assert value("Last run failed", cluster="b") == 0
    assert value("Last run failed", cluster="a") == value("Last run failed") >= 1
    assert value("Frozen now", cluster="b") == 0
    slowest = ask(_filled(queries["Slowest guests A"]))
    both = [one for one in slowest if one["metric"]["id"] == "qemu/100"]
    assert {(one["metric"]["cluster"], one["metric"]["name"]) for one in both} == {("a", "db"), ("b", "mail")}
    last = ask(_filled(queries["Last window and its limit A"]))
    assert {("b", "snapshot"), ("a", "snapshot")} <= {(o["metric"]["cluster"], o["metric"]["source"]) for o in last}
    needs = [one for query in "AB" for one in ask(_filled(queries[f"Guests that need a look {query}"]))]
    assert {
        (one["metric"]["cluster"], one["metric"]["name"]) for one in needs if one["metric"]["id"] == "qemu/100"
    } == {("a", "db")}


def _let_things_happen(world: World) -> None:
    world.clock.now = time.time()
    world.failed_run(100, stage="freeze", reason="refused", disk_word="not-clean")
    world.good_run(102)
    window = world.armed(100)
    world.journal.update(
        window,
        state="stuck",
        guard_cause="deadline",
        thaw_attempts=5,
        late_freezes=1,
        failure_stage="thaw",
        failure_reason="no-answer",
    )
    world.journal.put_looks([GuestLook("qemu/100", 100, "pve1", "db", True, world.clock.now, state="thawed")])
    with world.journal.transaction("written") as db:
        series.hook_error(db, "log-end")
        series.agent_seen(db, Guest(Vmid(100), Node("pve1"), GuestKind.QEMU), False, world.clock.now)
    assert world.publish() == []
