"""Every query of the dashboard is run against the real Prometheus, on what a fleet exports, and returns data."""

from __future__ import annotations

import json
import re
import threading
import time
import urllib.parse
from pathlib import Path
from typing import Any

from scripts.generators import ROOT
from snapshot.base.clock import SystemClock
from snapshot.journal import series
from snapshot.journal.families import FAMILIES
from snapshot.journal.looks import GuestLook
from snapshot.metrics.exporter import Exporter
from snapshot.model import Guest, GuestKind, Node, Vmid
from tests.metrics import fleet
from tests.metrics.conftest import World
from tests.metrics.programs import eventually, free_port, get, running

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
    assert [v["name"] for v in DASHBOARD["templating"]["list"]] == ["datasource", "node", "guest"]
    # A heat map is drawn from buckets.
    (heat,) = [panel for panel in panels if panel["type"] == "heatmap"]
    assert [t["format"] for t in heat["targets"]] == ["heatmap"]


def test_every_query_returns_data_from_the_real_prometheus(world: World, tmp_path: Path) -> None:
    world.clock.now = time.time()
    fleet.fill(world.journal, 12, 30, world.clock.now)
    # What begins at 0 must be scraped once before it moves.
    world.good_run(100)
    with Exporter("127.0.0.1", 0, world.config, SystemClock()) as exporter:
        thread = threading.Thread(target=exporter.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            _ask_prometheus(world, exporter, tmp_path)
        finally:
            exporter.shutdown()
            thread.join()


def _ask_prometheus(world: World, exporter: Exporter, folder: Path) -> None:
    port = free_port()
    (folder / "prometheus.yml").write_text(
        "global: {scrape_interval: 1s, scrape_timeout: 1s}\nscrape_configs:\n"
        f"  - {{job_name: pve, static_configs: [{{targets: ['127.0.0.1:{exporter.server_address[1]}']}}]}}\n"
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
            return bool(found) and float(found[0]["value"][1]) >= times

        eventually("Prometheus scraped twice", lambda: scraped(2))
        _let_things_happen(world)
        eventually("Prometheus saw it", lambda: bool(ask('pve_fsfreeze_guest_frozen{id="qemu/100"} == 1')))
        eventually("and once more", lambda: scraped(5))
        for title, expr in _queries():
            asked = expr
            for variable, value in {"$node": ".*", "$guest": "qemu/100", "$__rate_interval": "1m"}.items():
                asked = asked.replace(variable, value)
            assert "$" not in asked, f"{title}: {asked}"
            found = ask(asked)
            assert found, f"{title} returns nothing: {asked}"
            assert not all(value["value"][1] == "NaN" for value in found), f"{title} returns NaN: {asked}"
        for variable in DASHBOARD["templating"]["list"][1:]:
            asked = re.fullmatch(r"label_values\((.*), (\w+)\)", variable["query"])
            assert asked
            selector, label = asked.groups()
            assert ask(f"count by ({label}) ({selector.replace('$node', '.*')})")


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
