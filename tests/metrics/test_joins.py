"""The queries of docs/metrics.md that join our series with prometheus-pve-exporter's, answered by promtool."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from scripts.generators import ROOT
from scripts.generators.joins import JOINS
from snapshot.journal.looks import GuestLook
from tests.metrics.conftest import START, World
from tests.metrics.programs import promtool

QUERIES = dict(JOINS)
TAGGED, NOT_SEEN, NOT_BACKED_UP = QUERIES

THEIRS = """\
pve_up{id="node/pve1"} 1.0
pve_up{id="qemu/100"} 1.0
pve_up{id="qemu/101"} 1.0
pve_up{id="qemu/102"} 0.0
pve_up{id="lxc/103"} 1.0
pve_up{id="qemu/104"} 1.0
pve_guest_info{id="qemu/100",name="db",node="pve1",tags="linux;prod",template="0",type="qemu"} 1.0
pve_guest_info{id="qemu/101",name="web",node="pve1",tags="preprod",template="0",type="qemu"} 1.0
pve_guest_info{id="qemu/102",name="old",node="pve1",tags="",template="0",type="qemu"} 1.0
pve_guest_info{id="lxc/103",name="mail",node="pve2",tags="",template="0",type="lxc"} 1.0
pve_not_backed_up_total{id="cluster/pvec"} 2.0
pve_not_backed_up_info{id="qemu/100"} 1.0
pve_not_backed_up_info{id="qemu/102"} 1.0
"""
"""Written by prometheus-pve-exporter 3.10.2, asked at the lab's node; the names and tags are this story's."""

Sample = tuple[tuple[tuple[str, str], ...], float]


def _series(line: str, **target: str) -> dict[str, str]:
    """A line of an exposition as Prometheus has it once it was scraped."""
    series, _, value = line.rpartition(" ")
    labels = "".join(f',{name}="{text}"' for name, text in target.items())
    return {"series": series.removesuffix("}") + labels + "}", "values": f"{float(value):.0f}x3"}


def _answer(world: World, query: str, folder: Path, expected: list[dict[str, Any]]) -> None:
    """Ask promtool: two clusters of which one is well, and each node of both was asked by the other exporter."""
    ours = [line for line in world.text().splitlines() if line[:1] != "#" and "_bucket" not in line]
    series = [_series(line, cluster="a", job="node", instance="pve1:9100") for line in ours]
    for cluster in ("a", "b"):
        for instance in ("pve1", "pve2"):
            lines = THEIRS.splitlines() if cluster == "a" else ['pve_up{id="qemu/100"} 0.0']
            series += [_series(line, cluster=cluster, job="pve", instance=instance) for line in lines]
    test = {"expr": query, "eval_time": "1m", "exp_samples": expected}
    story = folder / "story.yml"
    # Time begins at 0 there, so what we say of instants is moved to it.
    begun = [s if "timestamp" not in s["series"] else s | {"values": "0x3"} for s in series]
    story.write_text(json.dumps({"tests": [{"interval": "1m", "input_series": begun, "promql_expr_test": [test]}]}))
    done = promtool("test", "rules", story)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.fixture
def fleet(world: World) -> World:
    for vmid in (100, 101):
        world.failed_run(vmid, stage="freeze", reason="refused", guest_name="db" if vmid == 100 else "web")
    world.journal.put_looks([GuestLook(f"qemu/{vmid}", vmid, "pve1", "", True, START) for vmid in (100, 101)])
    return world


def test_a_failure_gets_the_name_and_the_tags_that_the_other_exporter_has(fleet: World, tmp_path: Path) -> None:
    labels = '{cluster="a", id="qemu/100", name="db", node="pve1", reason="refused", stage="freeze", tags="linux;prod"}'
    _answer(fleet, QUERIES[TAGGED], tmp_path, [{"labels": labels, "value": 1}])


def test_a_guest_that_runs_where_we_are_not_is_found(fleet: World, tmp_path: Path) -> None:
    _answer(fleet, QUERIES[NOT_SEEN], tmp_path, [{"labels": '{cluster="a", id="qemu/104"}', "value": 1}])


def test_a_guest_without_a_backup_job_and_without_a_snapshot_is_found(fleet: World, tmp_path: Path) -> None:
    _answer(fleet, QUERIES[NOT_BACKED_UP], tmp_path, [{"labels": '{cluster="a", id="qemu/102"}', "value": 1}])


def test_the_page_shows_these_queries() -> None:
    page = (ROOT / "docs" / "metrics.md").read_text()
    for what, query in JOINS:
        assert f"{what}:" in page
        assert query in page
