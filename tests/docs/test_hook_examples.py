"""The examples of own commands do what they say, called as an own command is called."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import threading
from collections.abc import Mapping
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from snapshot.commands.document import Source, Told, ToldGuest
from snapshot.commands.runner import run_commands
from snapshot.model import GuestKind, Policy, VerdictKind

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "contrib" / "hooks"
TOLD = Told(
    Source.BACKUP,
    ToldGuest(100, 'w\u00e9b "one"', "pve1", GuestKind.QEMU),
    Policy.PREFER,
    verdict=VerdictKind.CRASH_CONSISTENT,
    reason="the agent does not answer; $(reboot) `it`",
)


class Bench:
    """One example in a folder of its own, with programs that note how they are called in front of the system's."""

    def __init__(self, folder: Path, name: str, **settings: str) -> None:
        self.folder = folder
        (folder / "hooks.d").mkdir(mode=0o755)
        (folder / "bin").mkdir()
        text = (EXAMPLES / name).read_text()
        for variable, value in settings.items():
            text, found = re.subn(f"^{variable}=.*$", f"{variable}={value}", text, flags=re.MULTILINE)
            assert found == 1
        (folder / "hooks.d" / name).write_text(text)
        (folder / "hooks.d" / name).chmod(0o755)
        self.said: list[str] = []

    def fake(self, program: str, status: int = 0) -> None:
        path = self.folder / "bin" / program
        path.write_text(f'#!/bin/sh\necho "{program} $*" >>{self.folder}/calls\nexit {status}\n')
        path.chmod(0o755)

    def run(self, phase: str, *arguments: str, told: Told | None = None, **environment: str) -> str:
        path = {"PATH": f"{self.folder}/bin:/usr/bin:/bin"}
        document: Mapping[str, object] | None = told.as_json() if told else None
        (outcome,) = run_commands(
            self.folder / "hooks.d", phase, arguments, path | environment, document,
            say=self.said.append, timeout_seconds=60,
        )  # fmt: skip
        return outcome.problem

    @property
    def calls(self) -> list[str]:
        path = self.folder / "calls"
        return path.read_text().splitlines() if path.exists() else []


@pytest.mark.parametrize("path", sorted(EXAMPLES.iterdir()), ids=lambda path: path.name)
def test_an_example_is_a_plain_shell_script_that_ignores_phases_it_does_not_know(path: Path, tmp_path: Path) -> None:
    assert os.access(path, os.X_OK)
    assert path.read_text().startswith("#!/bin/sh\n")
    subprocess.run(["sh", "-n", path], check=True)
    if shutil.which("shellcheck"):
        subprocess.run(["shellcheck", path], check=True)
    bench = Bench(tmp_path, path.name)
    assert bench.run("brand-new", told=TOLD) == ""
    assert bench.run("job-init") == ""
    assert bench.run("pre-stop", "snapshot", "100") == ""


def test_a_service_in_another_guest_is_stopped_and_started_again(tmp_path: Path) -> None:
    bench = Bench(tmp_path, "service-elsewhere", database="100", other="101", unit="shop.service")
    bench.fake("qm")
    for phase in ("backup-start", "post-restart", "backup-end", "backup-abort"):
        assert bench.run(phase, "snapshot", "100") == ""
        assert bench.run(phase, "snapshot", "102") == ""
    exec_in = "qm guest exec 101 --timeout 30 -- systemctl"
    assert bench.calls == [f"{exec_in} {verb} shop.service" for verb in ("stop", "start", "start")]
    bench.fake("qm", status=1)
    assert bench.run("backup-start", "snapshot", "100") == "ended with 1", "it has to veto"


def test_a_finished_backup_is_handed_to_systemd_to_be_copied(tmp_path: Path) -> None:
    bench = Bench(tmp_path, "offsite-copy", to="backup@there:/srv/")
    bench.fake("systemd-run")
    archive = "/var/lib/vz/dump/vzdump-qemu-100-x.vma.zst"
    assert bench.run("backup-end", "snapshot", "100", TARGET=archive) == ""
    (call,) = bench.calls
    assert call.endswith(f"nice rsync --archive --partial {archive} backup@there:/srv/")
    assert bench.run("backup-end", "snapshot", "100", TARGET="vm/100/2026-11-22T21:19:23Z") == ""
    assert len(bench.calls) == 1
    bench.fake("systemd-run", status=1)
    assert bench.run("backup-end", "snapshot", "100", TARGET=archive) == "ended with 1"


@pytest.mark.skipif(not (shutil.which("curl") and shutil.which("jq")), reason="the example needs curl and jq")
def test_gotify_is_told_of_a_verdict_that_is_not_good_and_the_token_stays_secret(tmp_path: Path) -> None:
    got: list[tuple[str, str]] = []

    class Gotify(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"])).decode()
            got.append((self.headers["X-Gotify-Key"], body))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *args: object) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Gotify)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        url = f"http://127.0.0.1:{server.server_port}/message"
        bench = Bench(tmp_path, "gotify", url=url)
        (tmp_path / "token").write_text("S3cret\n")
        token = {"GOTIFY_TOKEN_FILE": str(tmp_path / "token")}
        assert bench.run("verdict", told=TOLD, **token) == ""
        assert bench.run("verdict", told=TOLD._replace(verdict=VerdictKind.FILESYSTEM_CONSISTENT), **token) == ""
    finally:
        server.shutdown()
        server.server_close()
    ((key, body),) = got
    assert key == "S3cret"
    assert 'w\u00e9b "one" (100): backup is crash-consistent' in body
    assert "the agent does not answer; $(reboot) `it`" in body
    bench.fake("curl", status=22)
    assert bench.run("verdict", told=TOLD, **token) == "ended with 22", "a message that is lost is told"
    assert "S3cret" not in "".join([*bench.calls, *bench.said])


@pytest.mark.skipif(not shutil.which("perl"), reason="PVE's example is Perl")
def test_the_line_that_mends_pves_own_example_mends_it(tmp_path: Path) -> None:
    (line,) = re.findall(r"^(exit\(0\) if @ARGV.*?;)", (ROOT / "docs/commands.md").read_text(), re.MULTILINE)
    known = "^(job-(init|start|end|abort)|backup-.*)$"
    script = tmp_path / "hook.pl"
    script.write_text(
        f"use strict;\n{line}\nmy $phase = shift;\ndie 'got unknown phase' if $phase !~ /{known}/;\nexit(0);\n"
    )
    for arguments in (["before-freeze"], ["verdict"], ["alarm"], ["job-start"], ["backup-end", "snapshot", "100"]):
        assert subprocess.run(["perl", "-w", script, *arguments], check=False).returncode == 0, arguments
    script.write_text(script.read_text().replace(line, ""))
    assert subprocess.run(["perl", "-w", script, "verdict"], capture_output=True, check=False).returncode != 0
