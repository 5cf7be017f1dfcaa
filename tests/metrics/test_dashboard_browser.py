"""The dashboard with Prometheus' answers to its own queries, in a real headless Chromium: a picture to look at.

Not part of `make test`: Chromium is large. A week of two clusters is written as it would have been scraped each half
hour; Prometheus reads it; each panel draws what its queries return (panels.py; Grafana itself is not here).
"""

from __future__ import annotations

import json
import random
import shutil
import subprocess
import time
import urllib.parse
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from scripts.generators import ROOT
from snapshot.journal import series
from snapshot.journal.looks import GuestLook
from snapshot.metrics import exposition
from snapshot.model import Guest, GuestKind, Node, Vmid
from tests.lab.packages import cache_dir
from tests.metrics import panels
from tests.metrics.conftest import DAY, World
from tests.metrics.programs import free_port, get, promtool, running

pytestmark = pytest.mark.slow

DASHBOARD = json.loads((ROOT / "contrib" / "grafana" / "vzdump-hooks.json").read_text())
STEP = 1800
NAMES = ("web", "db", "mail", "files", "build", "erp", "proxy", "git")
CHOSEN = {
    "$cluster": ".*",
    "$job": ".+",
    "$instance": ".+",
    "$node": ".+",
    "$guest": "qemu/101",
    "$__rate_interval": "2h",
    "$__range_s": str(int(7 * DAY)),
    "$__range": "7d",
}


def _night(world: World, guests: range, rng: random.Random) -> None:
    """Each guest's backup, one after the other; some fail."""
    for vmid in guests:
        name = f"{NAMES[vmid % len(NAMES)]}-{vmid}"
        long = rng.lognormvariate(-1.0, 0.6) * (8 if vmid % 5 == 1 else 1)
        window = world.armed(vmid, source="vzdump", owner="hook", guest_name=name)
        if rng.random() < (0.35 if vmid % 5 == 1 else 0.03):
            world.end(window, 31, verdict="crash-consistent", failure_stage="hold", failure_reason="deadline",
                      guard_cause="deadline", thaw_attempts=2)  # fmt: skip
        elif vmid % 7 == 2:
            world.end(window, verdict="crash-consistent", failure_stage="preflight", failure_reason="agent")
        else:
            world.end(window, long, disk_word="clean" if vmid % 2 else None)


def _look(world: World, guests: range) -> None:
    now = world.clock.now
    looks = [
        GuestLook(
            f"qemu/{v}", v, "pve1", f"{NAMES[v % len(NAMES)]}-{v}", True, now, state="thawed", first_seen_at=now - DAY
        )
        for v in guests
    ]
    world.journal.put_looks(looks)


def _week(world: World, cluster: str, guests: range, until: float) -> Iterator[str]:
    """A week's lines, as they would have been scraped."""
    rng = random.Random(cluster)
    world.config = world.config._replace(metrics=world.config.metrics._replace(scrape_interval_seconds=STEP / 2))
    target = f'cluster="{cluster}",job="node",instance="{cluster}-pve1:9100"'
    for number in range(int(7 * DAY / STEP) + 1):
        world.clock.now = at = until - 7 * DAY + number * STEP
        if number % 48 == 4:
            _night(world, guests, rng)
        _look(world, range(guests.start, guests.stop + 1))  # one that nothing comes to
        if cluster == "a" and number == 200:
            with world.journal.transaction("written") as db:
                series.hook_error(db, "log-end")
                series.agent_seen(db, Guest(Vmid(105), Node("pve1"), GuestKind.QEMU), False, at)
        if cluster == "a" and number == 335:
            window = world.armed(103, source="snapshot", guest_name="files-103")
            world.journal.update(
                window, state="stuck", failure_stage="thaw", failure_reason="no-answer", thaw_attempts=9
            )
        world.publish()
        for line in exposition.render(world.journal, world.config, at).decode().splitlines():
            if not line.startswith("#"):
                series_name, _, value = line.rpartition(" ")
                labelled = (
                    f"{series_name[:-1]},{target}}}" if series_name.endswith("}") else f"{series_name}{{{target}}}"
                )
                yield f"{labelled} {value} {at:.0f}"


@pytest.fixture
def base(tmp_path: Path) -> Iterator[str]:
    """A Prometheus that has the week."""
    until = float(int(time.time()))
    written = tmp_path / "week.om"
    with written.open("w") as out:
        for cluster, guests in (("a", range(100, 112)), ("b", range(100, 104))):
            world = World(tmp_path / cluster)
            out.writelines(f"{line}\n" for line in _week(world, cluster, guests, until))
            world.journal.close()
        out.write("# EOF\n")
    made = promtool(
        "tsdb", "create-blocks-from", "--max-block-duration=200h", "openmetrics", written, tmp_path / "data"
    )
    assert made.returncode == 0, made.stderr
    (tmp_path / "prometheus.yml").write_text("scrape_configs: []\n")
    port = free_port()
    with running(
        "prometheus",
        f"http://127.0.0.1:{port}/-/ready",
        f"--config.file={tmp_path}/prometheus.yml",
        f"--storage.tsdb.path={tmp_path}/data",
        f"--web.listen-address=127.0.0.1:{port}",
        "--query.lookback-delta=40m",
        folder=tmp_path,
    ):
        yield f"http://127.0.0.1:{port}/api/v1"


def test_every_panel_has_something_to_show(base: str, tmp_path: Path) -> None:
    chromium = shutil.which("chromium")
    if chromium is None:
        pytest.skip("no Chromium here; as root: apt-get install --no-install-recommends chromium fonts-dejavu-core")
    now = int(time.time())

    def ask(expr: str, over_time: bool) -> list[Any]:
        for variable, value in CHOSEN.items():
            expr = expr.replace(variable, value)
        query = f"query={urllib.parse.quote(expr)}"
        span = f"query_range?{query}&start={now - 7 * DAY:.0f}&end={now}&step=3600" if over_time else f"query?{query}"
        reply = json.loads(get(f"{base}/{span}", timeout=30))
        assert reply["status"] == "success", reply
        found: list[Any] = reply["data"]["result"]
        return found

    page = tmp_path / "dashboard.html"
    page.write_text(panels.page(DASHBOARD, panels.Asked(ask, now - 7 * DAY, now)))
    assert "No data" not in page.read_text()
    needs = page.read_text().partition("Guests that need a look")[2].partition("</table>")[0].split("<tr>")
    assert "git-103" in needs[2], "the guest that is frozen stands on top"
    assert "mins" in needs[2]
    assert sum("qemu/103" in row for row in needs) == 1, "in one row with its failure"
    pictures = cache_dir() / "report"
    pictures.mkdir(exist_ok=True)
    picture = pictures / "dashboard.png"
    done = subprocess.run(
        [chromium, "--headless=new", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--window-size=1440,3400",
         f"--user-data-dir={tmp_path}/profile", f"--screenshot={picture}", page.as_uri()],
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    assert picture.stat().st_size > 30_000
