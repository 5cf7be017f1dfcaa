"""The real programs around a lab site: node_exporter, Prometheus, Alertmanager, and a webhook that receives."""

from __future__ import annotations

import contextlib
import http.server
import json
import threading
import time
import urllib.parse
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from scripts.generators import alert_rules
from tests.metrics.programs import free_port, get, running

# The rules' limits as seconds: what takes days there must be seen here within seconds.
SECONDS: dict[str, str] = {
    "frozenGraceSeconds": "1",
    "notConsistentSeconds": "3",
    "eventWindow": "8s",
    "memory": "1h",
    "staleSeconds": "6",
    "agentDownFor": "0s",
    "staleFor": "0s",
}


@dataclass(frozen=True)
class Notice:
    """One alert as the webhook received it."""

    alert: str
    status: str
    labels: dict[str, str]
    annotations: dict[str, str]
    at: float


@dataclass
class Stack:
    """What runs, and what the webhook got."""

    prometheus: str
    folder: Path
    notices: list[Notice] = field(default_factory=list)
    news: threading.Condition = field(default_factory=threading.Condition)

    def ask(self, expr: str) -> list[dict[str, Any]]:
        """An instant query."""
        reply = json.loads(get(f"{self.prometheus}/api/v1/query?query={urllib.parse.quote(expr)}"))
        assert reply["status"] == "success", reply
        found: list[dict[str, Any]] = reply["data"]["result"]
        return found

    def notice(self, alert: str, status: str, since: float, seconds: float = 30.0, **labels: str) -> Notice:
        """The first notice of an alert with ``labels`` received after ``since``; AssertionError with all when none."""

        def found() -> Notice | None:
            for one in self.notices:
                if (
                    (one.alert, one.status) == (alert, status)
                    and one.at >= since
                    and labels.items() <= one.labels.items()
                ):
                    return one
            return None

        with self.news:
            self.news.wait_for(lambda: found() is not None, timeout=seconds)
            one = found()
            got = [(n.alert, n.status, n.labels) for n in self.notices]
        assert one is not None, f"{alert} was not {status} for {labels} within {seconds:g} s; received: {got}"
        return one

    def fires(self, alert: str, since: float, **labels: str) -> Notice:
        """The alert, received by the webhook."""
        return self.notice(alert, "firing", since, **labels)

    def resolves(self, alert: str, since: float, **labels: str) -> Notice:
        """Its end, received by the webhook."""
        return self.notice(alert, "resolved", since, **labels)


@contextlib.contextmanager
def stack(folder: Path, textfiles: Path, settings: Mapping[str, str]) -> Iterator[Stack]:
    """Everything, started; node_exporter reads ``textfiles``, the rules have ``settings``."""
    node, prom, manager = free_port(), free_port(), free_port()
    found = Stack(f"http://127.0.0.1:{prom}", folder)
    with contextlib.ExitStack() as live:
        hook = live.enter_context(_webhook(found))
        (folder / "alertmanager.yml").write_text(
            "route: {receiver: hook, group_by: ['...'], group_wait: 0s, group_interval: 1s, repeat_interval: 1h}\n"
            f"receivers: [{{name: hook, webhook_configs: [{{url: 'http://127.0.0.1:{hook}/'}}]}}]\n"
        )
        (folder / "rules.yml").write_text(alert_rules.rule_file(settings))
        (folder / "prometheus.yml").write_text(
            "global: {scrape_interval: 1s, scrape_timeout: 1s, evaluation_interval: 1s}\n"
            "rule_files: [rules.yml]\n"
            f"alerting: {{alertmanagers: [{{static_configs: [{{targets: ['127.0.0.1:{manager}']}}]}}]}}\n"
            f"scrape_configs: [{{job_name: node, static_configs: [{{targets: ['127.0.0.1:{node}']}}]}}]\n"
        )
        live.enter_context(
            running(
                "prometheus-node-exporter",
                f"http://127.0.0.1:{node}/",
                "--collector.disable-defaults",
                "--collector.textfile",
                f"--collector.textfile.directory={textfiles}",
                f"--web.listen-address=127.0.0.1:{node}",
                folder=folder,
            )
        )
        live.enter_context(
            running(
                "prometheus-alertmanager",
                f"http://127.0.0.1:{manager}/-/ready",
                f"--config.file={folder}/alertmanager.yml",
                f"--storage.path={folder}/alertmanager",
                f"--web.listen-address=127.0.0.1:{manager}",
                "--cluster.listen-address=",
                folder=folder,
            )
        )
        live.enter_context(
            running(
                "prometheus",
                f"{found.prometheus}/-/ready",
                f"--config.file={folder}/prometheus.yml",
                f"--storage.tsdb.path={folder}/prometheus",
                f"--web.listen-address=127.0.0.1:{prom}",
                # An alert that is no longer true is sent as resolved at the next evaluation.
                "--rules.alert.resend-delay=1s",
                folder=folder,
            )
        )
        yield found


@contextlib.contextmanager
def _webhook(found: Stack) -> Iterator[int]:
    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            with found.news:
                for alert in body["alerts"]:
                    labels = dict(alert["labels"])
                    name = labels.pop("alertname")
                    found.notices.append(Notice(name, alert["status"], labels, alert["annotations"], time.time()))
                found.news.notify_all()
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Nothing."""

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield server.server_address[1]
        finally:
            server.shutdown()
            thread.join()
