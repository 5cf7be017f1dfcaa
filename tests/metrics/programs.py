"""The real programs from Debian: Prometheus, Alertmanager, node_exporter, Pushgateway, jsonnet; fetched, not installed.

They are unpacked into the lab's cache, so no service is started and nothing of the machine changes.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import os
import signal
import socket
import subprocess
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.lab.packages import LabUnavailableError, building, cache_dir, locked, run

PACKAGES = {
    "prometheus": "prometheus",
    "promtool": "prometheus",
    "prometheus-alertmanager": "prometheus-alertmanager",
    "prometheus-node-exporter": "prometheus-node-exporter",
    "prometheus-pushgateway": "prometheus-pushgateway",
    "jsonnet": "jsonnet",
    "jsonnetfmt": "jsonnet",
}
START_SECONDS = 30.0
# Debian builds this folder into Alertmanager, which wants its templates there; see _unpacked_alertmanager.
_TEMPLATES = b"/usr/share/prometheus/alertmanager"


@functools.cache
def _fetched(package: str) -> Path:
    folder = cache_dir() / "monitoring"
    with locked("monitoring"):
        found = sorted(folder.glob(f"{package}-*[0-9a-f]"))
        found = [path for path in found if path.name.removeprefix(f"{package}-").isalnum()]
        if found:
            return found[-1]
        folder.mkdir(exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder) as scratch:
            sandbox = ["-o", "APT::Sandbox::User=root"] if os.geteuid() == 0 else []
            run("apt-get", *sandbox, "download", package, cwd=Path(scratch))
            (archive,) = Path(scratch).glob("*.deb")
            target = folder / f"{package}-{hashlib.sha256(archive.read_bytes()).hexdigest()[:16]}"
            with building(target) as work:
                run("dpkg", "-x", archive, work)
        return target


def program(name: str) -> Path:
    """The program ``name``; skips the test when it cannot be had, with LAB_REQUIRED=1 fails it instead."""
    try:
        found = _fetched(PACKAGES[name]) / "usr/bin" / name
        return _unpacked_alertmanager(found) if name == "prometheus-alertmanager" else found
    except LabUnavailableError as error:
        if os.environ.get("LAB_REQUIRED") == "1":
            pytest.fail(f"LAB_REQUIRED=1, and {name} cannot be had: {error}", pytrace=False)
        pytest.skip(f"{name} cannot be had: {error}")


def _unpacked_alertmanager(original: Path) -> Path:
    """A copy that looks for its templates in its working folder: it is not installed, so they are not in /usr/share."""
    relative = b"." + b"/" * (len(_TEMPLATES) - 1)
    patched = original.with_name(f"{original.name}-unpacked")
    with locked("monitoring"):
        if not patched.exists():
            scratch = patched.with_name(f"{patched.name}.new")
            scratch.write_bytes(original.read_bytes().replace(_TEMPLATES, relative))
            scratch.chmod(0o755)
            scratch.rename(patched)
    return patched


def promtool(*arguments: str | Path, stdin: bytes = b"") -> subprocess.CompletedProcess[str]:
    """Run promtool; the caller looks at the exit status and the output."""
    done = subprocess.run(
        [program("promtool"), *map(str, arguments)], input=stdin, capture_output=True, timeout=60, check=False
    )
    return subprocess.CompletedProcess(done.args, done.returncode, done.stdout.decode(), done.stderr.decode())


def free_port() -> int:
    """A port of 127.0.0.1 that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def get(url: str, timeout: float = 5.0) -> bytes:
    """The body of a GET. URLError or HTTPError otherwise."""
    with urllib.request.urlopen(url, timeout=timeout) as reply:
        return bytes(reply.read())


def eventually(what: str, look: Callable[[], object], seconds: float = 30.0) -> None:
    """Wait until ``look`` returns something true; AssertionError with ``what`` after ``seconds``."""
    until = time.monotonic() + seconds
    while not look():
        if time.monotonic() > until:
            raise AssertionError(f"not within {seconds:g} s: {what}")
        time.sleep(0.05)


@contextlib.contextmanager
def running(name: str, ready_url: str, *arguments: str | Path, folder: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Run a program until the end of the block; its output is in ``folder/<name>.log``."""
    binary = program(name)
    templates = binary.parents[1].joinpath(_TEMPLATES.decode().removeprefix("/usr/"))
    with (folder / f"{name}.log").open("wb") as log:
        process = subprocess.Popen(
            [binary, *map(str, arguments)],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            cwd=templates if templates.is_dir() else folder,
        )
    try:

        def ready() -> bool:
            assert process.poll() is None, f"{name} ended: {(folder / f'{name}.log').read_text()[-2000:]}"
            with contextlib.suppress(OSError, urllib.error.URLError):
                get(ready_url)
                return True
            return False

        eventually(f"{name} answers", ready, START_SECONDS)
        yield process
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
