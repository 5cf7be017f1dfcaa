"""Textfile, exporter and push: the same exposition, clean for promtool, read by the real programs."""

from __future__ import annotations

import base64
import contextlib
import http.client
import http.server
import os
import re
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar

import pytest

from scripts.generators import ROOT
from snapshot.base.clock import SystemClock
from snapshot.cli.metrics import PORT
from snapshot.config.settings import Config, Pushgateway
from snapshot.errors import UsageError
from snapshot.journal import drills, families, labelruns, series, silences
from snapshot.journal.broken import BEGUN_ANEW_NOTE
from snapshot.journal.looks import GuestLook, Why
from snapshot.metrics import exposition, publish
from snapshot.metrics.exporter import Exporter
from snapshot.model import Guest, GuestKind, Node, Vmid
from tests.metrics import fleet
from tests.metrics.conftest import World, samples
from tests.metrics.programs import free_port, get, promtool, running

OURS = "pve_fsfreeze_"


def _everything(world: World) -> None:
    """At least one sample of every family."""
    world.clock.now = time.time()
    fleet.fill(world.journal, 20, 30, world.clock.now)
    world.failed_run(100, stage="thaw", reason="no-answer", disk_word="not-clean")
    window = world.armed(101)
    world.journal.update(window, state="stuck", guard_cause="deadline", thaw_attempts=7)
    with world.journal.transaction("written") as db:
        series.agent_seen(db, Guest(Vmid(100), Node("pve1"), GuestKind.QEMU), True, world.clock.now)
        series.hook_error(db, "log-end", "pve1")
    look = GuestLook("qemu/100", 100, "pve1", "db", running=True, seen_at=world.clock.now, state="thawed")
    silent = look._replace(
        id="qemu/101", vmid=101, state="", why=Why.AGENT_SILENT.value, still_since_at=world.clock.now
    )
    world.journal.put_looks([look, silent])
    silences.note_config(world.journal, ["[freeze] limit is no number"], world.clock.now)
    world.journal.set_note(silences.UNHOOKED_NOTE, f'["UPID:pve1:x", {world.clock.now}]', world.clock.now)
    world.journal.set_note(BEGUN_ANEW_NOTE, repr(world.clock.now), world.clock.now)
    drills.note_drill(world.journal, True, world.clock.now)
    guest = Guest(Vmid(100), Node("pve1"), GuestKind.QEMU)
    labelruns.note_expected(world.journal, [(guest, "daily")], world.clock.now, 0.0)
    labelruns.note_run(world.journal, "daily", world.clock.now, [guest], [])


@contextlib.contextmanager
def _exporter(config: Config, clock: object) -> Iterator[Exporter]:
    with Exporter("127.0.0.1", 0, config, clock) as exporter:  # type: ignore[arg-type]
        thread = threading.Thread(target=exporter.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield exporter
        finally:
            exporter.shutdown()
            thread.join()


def test_every_family_of_the_table_is_exported_with_its_help_its_kind_and_its_labels(world: World) -> None:
    _everything(world)
    text = world.text()
    found: dict[str, set[tuple[str, ...]]] = {}
    for name, pairs in samples(text):
        base = re.sub(r"_(bucket|sum|count)$", "", name)
        labels = tuple(sorted(k for k, _ in pairs if k != "le"))
        found.setdefault(base if base == families.WINDOW.name else name, set()).add(labels)
    assert found == {family.name: {tuple(sorted(family.labels))} for family in families.FAMILIES}
    for family in families.FAMILIES:
        assert f"# HELP {family.name} {family.help}\n# TYPE {family.name} {family.kind.value}\n" in text


def test_promtool_finds_nothing_to_say_about_any_output(world: World, tmp_path: Path) -> None:
    outputs = {"empty": world.text()}
    _everything(world)
    assert world.publish() == []
    outputs["textfile"] = world.textfile.read_text()
    with _exporter(world.config, world.clock) as exporter:
        outputs["exporter"] = get(exporter.url).decode()
    for name, text in outputs.items():
        checked = promtool("check", "metrics", stdin=text.encode())
        assert (checked.returncode, checked.stdout, checked.stderr) == (0, "", ""), name


def _bare(text: str) -> list[str]:
    """Our lines of what another program exposes, without the labels and lines that it adds; in any order."""
    ours = []
    for (name, pairs), value in samples(text).items():
        if name.startswith(OURS):
            kept = sorted((k, v) for k, v in pairs if k not in ("instance", "job"))
            ours.append(f"{name}{kept} {float(value)!r}")
    helps = re.findall(rf"^# (?:HELP|TYPE) {OURS}.*", text, re.MULTILINE)
    return sorted(ours) + sorted(helps)


def test_textfile_exporter_push_and_print_say_the_same_through_the_real_programs(world: World, tmp_path: Path) -> None:
    _everything(world)
    push_port, node_port = free_port(), free_port()
    with (
        running(
            "prometheus-pushgateway",
            f"http://127.0.0.1:{push_port}/-/ready",
            f"--web.listen-address=127.0.0.1:{push_port}",
            folder=tmp_path,
        ),
        running(
            "prometheus-node-exporter",
            f"http://127.0.0.1:{node_port}/",
            "--collector.disable-defaults",
            "--collector.textfile",
            f"--collector.textfile.directory={world.textfile.parent}",
            f"--web.listen-address=127.0.0.1:{node_port}",
            folder=tmp_path,
        ),
        _exporter(world.config, world.clock) as exporter,
    ):
        world.config = world.config._replace(
            metrics=world.config.metrics._replace(pushgateway=Pushgateway.parse(f"http://127.0.0.1:{push_port}")),
        )
        assert world.publish() == []
        written = world.textfile.read_bytes()
        # Our own ways: byte for byte.
        assert get(exporter.url) == written == world.text().encode()
        # Through others: every sample, every help, every type; nothing but instance and job is added.
        expected = _bare(written.decode())
        assert len(expected) > 500
        node = get(f"http://127.0.0.1:{node_port}/metrics").decode()
        pushed = get(f"http://127.0.0.1:{push_port}/metrics").decode()
        assert _bare(node) == expected
        assert _bare(pushed) == expected
        assert "node_textfile_scrape_error 0" in node
        assert f'job="{exposition.JOB}"' in pushed
        assert f'instance="{series.local_name()}"' in pushed
        # A second push replaces the first: what is gone from the journal is gone from the gateway.
        with world.journal.transaction("written") as db:
            db.execute("DELETE FROM series WHERE vmid = 110")
        assert world.publish() == []
        assert 'id="qemu/110"' in pushed
        assert 'id="qemu/110"' not in get(f"http://127.0.0.1:{push_port}/metrics").decode()


def test_a_pushgateway_that_is_not_there_or_says_no_costs_one_line(world: World, tmp_path: Path) -> None:
    world.good_run()
    gateway = f"http://127.0.0.1:{free_port()}"
    metrics = world.config.metrics._replace(pushgateway=Pushgateway.parse(gateway))
    world.config = world.config._replace(metrics=metrics)
    (problem,) = world.publish()
    assert problem == f"the metrics were not pushed to {gateway} (Connection refused); see [metrics] pushgateway" or (
        "Connection refused" in problem and gateway in problem
    )
    assert world.textfile.exists()
    with _exporter(world.config, world.clock) as exporter:  # something else that speaks HTTP: it knows no PUT
        gateway = exporter.url.removesuffix("/metrics")
        world.config = world.config._replace(metrics=metrics._replace(pushgateway=Pushgateway.parse(gateway)))
        (problem,) = world.publish()
    assert "501" in problem or "Unsupported" in problem


class _Gateway(http.server.BaseHTTPRequestHandler):
    """Takes what is pushed by those who know the password."""

    got: ClassVar[list[tuple[str, bytes]]] = []

    def do_PUT(self) -> None:
        known = self.headers["Authorization"] == "Basic " + base64.b64encode(b"pve1:s3c:ret").decode()
        self.got.append((self.path, self.rfile.read(int(self.headers["Content-Length"]))))
        self.send_response(202 if known else 401)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Nothing."""


@contextlib.contextmanager
def answering(answer: bytes, pause_seconds: float = 0.0) -> Iterator[int]:
    """A server that sends ``answer``, a byte each ``pause_seconds`` where that is more than 0; its port."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            peer, _ = listener.accept()
            with peer, contextlib.suppress(OSError):
                peer.recv(65536)
                for piece in (answer,) if not pause_seconds else (bytes([c]) for c in answer * 100):
                    peer.sendall(piece)
                    time.sleep(pause_seconds)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield listener.getsockname()[1]


def test_what_a_pushgateway_says_is_fit_to_be_shown_and_holds_no_secret(world: World) -> None:
    world.good_run()
    said = b"HTTP/1.1 400 no \x1b[31mred\xe2\x80\xae for pve1:s3cret" + b"x" * 5000 + b"\r\nContent-Length: 0\r\n\r\n"
    with answering(said) as port:
        gateway = Pushgateway.parse(f"http://pve1:s3cret@127.0.0.1:{port}")
        world.config = world.config._replace(metrics=world.config.metrics._replace(pushgateway=gateway))
        (problem,) = world.publish()
    assert "s3cret" not in problem
    assert problem.isprintable()
    assert len(problem) < 400


def test_a_pushgateway_that_drips_is_given_up_in_time(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(publish, "PUSH_SECONDS", 0.5)
    world.good_run()
    with answering(b"HTTP/1.1 200 OK\r\nX: " + b"y" * 500, pause_seconds=0.2) as port:
        gateway = Pushgateway.parse(f"http://127.0.0.1:{port}")
        world.config = world.config._replace(metrics=world.config.metrics._replace(pushgateway=gateway))
        (problem,) = world.publish()
    assert "no whole answer in 0.5 s" in problem


def test_a_pushgateway_with_a_password_takes_it_and_no_line_ever_tells_it(world: World) -> None:
    world.good_run()

    def pushed_to(gateway: str) -> list[str]:
        metrics = world.config.metrics._replace(pushgateway=Pushgateway.parse(gateway))
        world.config = world.config._replace(metrics=metrics)
        return world.publish()

    _Gateway.got.clear()
    with http.server.HTTPServer(("127.0.0.1", 0), _Gateway) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            where = f"127.0.0.1:{server.server_address[1]}"
            assert pushed_to(f"http://pve1:s3c%3Aret@{where}/below") == []
            (path, body), *_ = _Gateway.got
            assert path.startswith(f"/below/metrics/job/{exposition.JOB}/instance/")
            assert body == world.text().encode()
            (wrong,) = pushed_to(f"http://pve1:s3cret@{where}")
        finally:
            server.shutdown()
            thread.join()
    (gone,) = pushed_to(f"http://pve1:s3cret@{where}")
    for problem in (wrong, gone):
        assert problem.startswith("the metrics were not pushed to http://127.0.0.1:")
        assert "s3cret" not in problem
    assert "401" in wrong or "Unauthorized" in wrong


def test_the_exporter_is_for_this_machine_unless_told_otherwise() -> None:
    config, clock = Config(), SystemClock()
    with Exporter("127.0.0.1", 0, config, clock) as exporter:
        assert not exporter.is_public
    with Exporter("0.0.0.0", 0, config, clock) as exporter:
        assert exporter.is_public
    with pytest.raises(UsageError, match=r"cannot listen on 203\.0\.113\.7 port 14638"):
        Exporter("203.0.113.7", 14638, config, clock)


def test_the_exporters_port_is_nobody_elses_and_is_the_same_wherever_it_stands() -> None:
    assert not 9100 <= PORT <= 9999, "Prometheus' list of exporters' ports is full"
    assert 1024 < PORT < 32768, "privileged, or one that Linux gives to a connection"
    if Path("/etc/services").exists():  # not in every bare root
        assert str(PORT) not in re.findall(r"^\S+\s+(\d+)/", Path("/etc/services").read_text(), re.MULTILINE)
    for page in (
        "docs/metrics.md",
        "docs/runbooks/metrics-stale.md",
        "contrib/systemd/sample/safe-snapshot-exporter.service",
    ):
        ports = re.findall(r"127\.0\.0\.1(?::| port )(\d+)", (ROOT / page).read_text())
        assert set(ports) == {str(PORT)}, page


def test_the_exporter_answers_a_journal_that_cannot_be_read_with_an_error_not_with_no_failures(world: World) -> None:
    world.good_run()
    with _exporter(world.config, world.clock) as exporter:
        assert b"attempts_total" in get(exporter.url)
        base = exporter.url.removesuffix("/metrics")
        assert b"href=/metrics" in get(base + "/")
        with pytest.raises(urllib.error.HTTPError, match="404"):
            get(base + "/etc/passwd")
        world.config.journal.path.unlink()
        os.mkfifo(world.config.journal.path)
        with pytest.raises(urllib.error.HTTPError) as failure:
            get(exporter.url)
        assert failure.value.code == 500
        assert b"no regular file" in failure.value.read()
        failure.value.close()


def test_the_exporter_hangs_up_on_a_client_that_drips(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("snapshot.metrics.exporter.REQUEST_SECONDS", 0.5)
    with (
        _exporter(world.config, world.clock) as exporter,
        socket.create_connection(exporter.server_address[:2], timeout=0.2) as client,
    ):
        began = time.monotonic()
        hung_up = False
        while not hung_up and time.monotonic() - began < 5:
            try:
                client.sendall(b"G")
                hung_up = client.recv(1) == b""
            except TimeoutError:
                continue  # nothing to read: we are still being waited for
            except OSError:
                hung_up = True
        assert hung_up
        # Who has asked is answered, however long that takes.
        world.good_run()
        assert b"attempts_total" in get(exporter.url)


def test_a_client_that_goes_away_or_a_bug_costs_no_traceback(
    world: World, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    world.good_run()
    with _exporter(world.config, world.clock) as exporter:
        for _ in range(5):
            client = socket.create_connection(exporter.server_address[:2])
            client.sendall(b"GET /metrics HTTP/1.0\r\n\r\n")
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            client.close()
        time.sleep(0.3)
        assert b"attempts_total" in get(exporter.url)
        assert capsys.readouterr().err == ""
        monkeypatch.setattr(exposition, "render", lambda *_: 1 / 0)
        with pytest.raises((OSError, http.client.HTTPException)):
            get(exporter.url)
        time.sleep(0.1)
    (line,) = capsys.readouterr().err.splitlines()
    assert "ZeroDivisionError" in line


def test_head_and_unknown_methods_are_answered(world: World) -> None:
    world.good_run()
    with _exporter(world.config, world.clock) as exporter:
        with urllib.request.urlopen(urllib.request.Request(exporter.url, method="HEAD"), timeout=5) as reply:
            assert reply.status == 200
            assert reply.headers["Content-Type"] == exposition.CONTENT_TYPE
            assert int(reply.headers["Content-Length"]) == len(world.text())
            assert reply.read() == b""
        for method in ("POST", "DELETE"):
            with pytest.raises(urllib.error.HTTPError, match="501") as failure:
                urllib.request.urlopen(urllib.request.Request(exporter.url, method=method), timeout=5)
            failure.value.close()


def test_two_scrapes_at_once_are_both_answered_whole(world: World) -> None:
    fleet.fill(world.journal, 50, 20, world.clock.now)
    bodies: list[bytes] = []
    with _exporter(world.config, world.clock) as exporter:
        threads = [threading.Thread(target=lambda: bodies.append(get(exporter.url))) for _ in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert len(bodies) == 6
    assert len(set(bodies)) == 1


def test_serve_ends_on_a_signal_and_says_where_it_listens(world: World, tmp_path: Path) -> None:
    world.good_run()
    config = tmp_path / "config.toml"
    config.write_text(f'[journal]\npath = "{world.config.journal.path}"\n')
    process = subprocess.Popen(
        [sys.executable, "-m", "snapshot.cli.main", "--config", str(config), "metrics", "serve", "--port", "0"],
        stderr=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parents[2],
    )
    assert process.stderr is not None
    line = process.stderr.readline()
    url = line.removeprefix("metrics on ").strip()
    assert re.fullmatch(r"http://127\.0\.0\.1:\d+/metrics", url), line
    assert b"pve_fsfreeze_build_info" in get(url)
    process.send_signal(signal.SIGTERM)
    assert process.wait(10) == 0
    process.stderr.close()


def test_publishing_imports_prometheus_client_only_when_there_is_something_to_publish() -> None:
    code = (
        "import sys, snapshot.metrics.publish, snapshot.journal.store\n"
        "print([m for m in sys.modules if m.split('.')[0] in ('prometheus_client', 'click', 'tenacity', 'proxmoxer')])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=Path(__file__).parents[2]
    )
    assert done.stdout.strip() == "[]"
