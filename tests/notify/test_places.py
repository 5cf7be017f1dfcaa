"""Where a receiver is: at an IPv6 address alone, or not where a proxy of the environment's would lead."""

from __future__ import annotations

import http.server
import socket
import threading

import pytest

from tests.metrics.conftest import World
from tests.notify.receivers import WebServer, write_secret
from tests.notify.test_alarms import events, round_of


def test_no_proxy_of_the_environments_is_asked(told: World, web: WebServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """It would be told the secret of an http:// URL."""
    with WebServer() as proxy:
        for name in ("no_proxy", "NO_PROXY"):
            monkeypatch.delenv(name, raising=False)
        for name in ("http_proxy", "https_proxy", "all_proxy"):
            monkeypatch.setenv(name, proxy.url)
            monkeypatch.setenv(name.upper(), proxy.url)
        told.failed_run(100)
        assert round_of(told) == []
        assert proxy.got == []
        assert len(events(web)) == 1


def test_a_receiver_that_has_an_ipv6_address_alone_is_reached(told: World) -> None:
    got = list[str]()

    class Requests(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            got.append(self.headers["Host"])
            self.send_response(200)
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002
            pass

    class Six(http.server.HTTPServer):
        address_family = socket.AF_INET6

    with Six(("::1", 0), Requests) as server:
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        place = f"[::1]:{server.server_port}"
        path = write_secret(told.folder / "six", f"http://{place}/{WebServer.secret}\n")
        notify = told.config.notify._replace(mail_to="", webhook_file=path, heartbeat_file=None)
        told.config = told.config._replace(notify=notify)
        told.failed_run(100)
        assert round_of(told) == []
        server.shutdown()
    assert got == [place]
