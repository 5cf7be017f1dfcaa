"""The metrics before the first window, when there is no journal; and an exporter that is to end, wherever it stands."""

from __future__ import annotations

import signal
import subprocess
import sys
import urllib.request

import pytest

from tests.lab.site import Site, Started, environment

BUILD, ATTEMPTS = "pve_fsfreeze_build_info{", "pve_fsfreeze_attempts_total{"
HANGS_SECONDS = 60

STANDING = """
import sys, threading, time, weakref
from snapshot.metrics.exporter import Exporter

class Thing:
    pass

def stand(*_):
    print("stands", flush=True)
    time.sleep(600)

def in_a_callback(*_):
    thing = Thing()
    kept = weakref.ref(thing, stand)
    del thing

def in_a_lock_of_threading(*_):
    with threading._active_limbo_lock:
        stand()

Exporter.{where} = {how}
from snapshot.cli.main import main
sys.argv = ["safe-snapshot", "--config", {config!r}, "metrics", "serve", "--port", "0"]
main()
"""


@pytest.mark.parametrize("words", [("metrics",), ("metrics", "print")])
def test_the_metrics_are_printed_before_the_first_window_too(lab: Site, words: tuple[str, ...]) -> None:
    run = lab.safe_snapshot(*words)
    assert run.exit_code == 0, run
    assert BUILD in run.stdout
    assert ATTEMPTS not in run.stdout
    assert not lab.journal_path.exists(), "a reader makes none"
    assert lab.safe_snapshot("100").exit_code == 0
    assert ATTEMPTS in lab.safe_snapshot(*words).stdout


def test_metrics_and_a_word_that_is_none_of_its_own_prints_nothing(lab: Site) -> None:
    run = lab.safe_snapshot("metrics", "prnit")
    assert (run.exit_code, run.stdout) == (2, ""), run


def served(process: Started) -> str:
    """Where it says that it serves."""
    assert process.stderr is not None
    line = process.stderr.readline()
    assert line.startswith("metrics on http://127.0.0.1:"), line
    return line.split()[-1]


def test_the_exporter_answers_before_the_first_window_and_shows_it_then(lab: Site) -> None:
    with lab.start("metrics", "serve", "--port", "0") as process:
        url = served(process)

        def scraped() -> str:
            with urllib.request.urlopen(url, timeout=HANGS_SECONDS) as answer:
                return str(answer.read().decode())

        first = scraped()
        assert BUILD in first
        assert ATTEMPTS not in first
        assert not lab.journal_path.exists()
        assert lab.safe_snapshot("100").exit_code == 0
        assert ATTEMPTS in scraped()
        process.send_signal(signal.SIGTERM)
        assert process.wait(HANGS_SECONDS) == 0


@pytest.mark.parametrize(
    ("where", "how", "exit_code"),
    [("__init__", "in_a_callback", 128 + signal.SIGTERM), ("serve_forever", "in_a_lock_of_threading", 0)],
)
def test_an_exporter_ends_at_its_signal_wherever_it_stands(lab: Site, where: str, how: str, exit_code: int) -> None:
    """An exception out of a handler is lost in a callback, and a thread cannot be started from one that interrupted
    the start of another.
    """
    program = STANDING.format(where=where, how=how, config=str(lab.config_path))
    with Started(
        [sys.executable, "-c", program], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment()
    ) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "stands\n"
            process.send_signal(signal.SIGTERM)
            assert process.wait(HANGS_SECONDS) == exit_code
        finally:
            process.kill()
