"""Each request of a run fails in each way: lost, cut, denied, hung, or answered with nonsense.

Whatever fails, wherever: the guest is thawed (or the error says that it may not be), no verdict is better than what the
disk says, what is said about the snapshot is true, and the journal's window is open only for a reason.
"""

from __future__ import annotations

import itertools
import json
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest

from snapshot.errors import StillFrozenError
from snapshot.model import Policy, VerdictKind
from snapshot.report.envelope import Envelope, result_data
from snapshot.take.request import Result
from snapshot.window.verdict import Proof
from tests.engine import inprocess, kit
from tests.json_schema import follows_the_schema
from tests.lab.guest.scripted import ScriptedGuest
from tests.lab.guest.scriptedqmp import read_disk
from tests.lab.site import Site, site, wait_for

HTML = "<html><head><title>502 Bad Gateway</title></head><body>nginx</body></html>"
KINDS: dict[str, dict[str, Any]] = {
    "the request is lost": {"do": "drop"},
    "the answer is lost": {"do": "drop", "when": "after"},
    "hangs": {"do": "hang"},
    "hangs after it was done": {"do": "hang", "when": "after"},
    "596": {"do": "status", "status": 596, "reason": "Connection timed out"},
    "596 after it was done": {"do": "status", "status": 596, "reason": "Connection timed out", "when": "after"},
    "503": {"do": "status", "status": 503, "reason": "Service Unavailable"},
    "500": {"do": "status", "status": 500, "reason": "got no worker upid - start worker failed"},
    "500 in HTML": {"do": "status", "status": 500, "body": HTML, "content_type": "text/html"},
    "401": {"do": "status", "status": 401, "reason": "permission denied - invalid PVE ticket"},
    "403": {"do": "status", "status": 403, "reason": "Permission check failed (/vms/100, VM.Nothing)"},
    "400": {"do": "status", "status": 400, "reason": "Parameter verification failed.", "body": '{"errors":{"a":"b"}}'},
    "501": {"do": "status", "status": 501, "reason": "Method not implemented"},
    "an empty answer": {"do": "body", "body": ""},
    "HTML": {"do": "body", "body": HTML, "content_type": "text/html"},
    "JSON null": {"do": "body", "body": "null"},
    "no data": {"do": "body", "body": "{}"},
    "data null": {"do": "body", "body": '{"data":null}'},
    "data a number": {"do": "body", "body": '{"data":17}'},
    "data a text": {"do": "body", "body": '{"data":"yes"}'},
    "data a list of numbers": {"do": "body", "body": '{"data":[1,2]}'},
    "data an empty list": {"do": "body", "body": '{"data":[]}'},
    "data an empty object": {"do": "body", "body": '{"data":{}}'},
    "result null": {"do": "body", "body": '{"data":{"result":null}}'},
    "result a text": {"do": "body", "body": '{"data":{"result":"frozen solid"}}'},
    "result a huge number": {"do": "body", "body": '{"data":{"result":1' + "0" * 40 + "}}"},
    "result below zero": {"do": "body", "body": '{"data":{"result":-1}}'},
    "result true": {"do": "body", "body": '{"data":{"result":true}}'},
    "result an error without words": {"do": "body", "body": '{"data":{"result":{"error":{}}}}'},
    "result an error that is a text": {"do": "body", "body": '{"data":{"result":{"error":"no"}}}'},
    "JSON that ends early": {"do": "body", "body": '{"data":{"res'},
    "brackets without end": {"do": "body", "body": "[" * 20_000},
    "binary": {"do": "body", "body": "\x00\x01\ufffd" * 100},
}
EVERY = tuple(KINDS)


@dataclass(frozen=True)
class Step:
    """The nth request (from 1) of this method and path."""

    method: str
    path: str
    nth: int

    def __str__(self) -> str:
        return f"{self.method} {self.path} #{self.nth}"


@dataclass
class World:
    """A site that many runs share. ``steps`` are the requests of a run in which nothing fails."""

    lab: Site
    steps: list[Step] = field(default_factory=list)
    names: Iterator[str] = field(default_factory=lambda: (f"s{n}" for n in itertools.count(1)))

    def run(self, step: Step, kind: str, policy: Policy, *, times: int | None = 1) -> Result:
        """One run in which this step fails in this way; checks what must hold after every run."""
        lab, name = self.lab, next(self.names)
        lab.node.clear_faults()
        pattern = f"{re.sub('UPID[^/]*', 'UPID[^/]*', step.path).replace('/NAME/', f'/{name}/')}$"
        lab.node.fault(pattern, method=step.method, nth=step.nth, times=times, **KINDS[kind])
        result = inprocess.snapshot(lab, name, policy)
        lab.node.clear_faults()
        where = f"{step}, {kind}, {policy.value}: {result.error!r} {result.verdict} {result.warnings}"
        self._check_guest(result, where)
        self._check_words(result, where)
        self._check_journal(result, where)
        return result

    def _check_guest(self, result: Result, where: str) -> None:
        guest = self.lab.guest
        assert isinstance(guest, ScriptedGuest)
        if isinstance(result.error, StillFrozenError):
            guest.ask("guest-fsfreeze-thaw")
        assert not guest.is_frozen(), where

    def _check_words(self, result: Result, where: str) -> None:
        assert wait_for(lambda: not self.lab.node.running_tasks(), 20)
        there = result.name in kit.snapshots(self.lab)
        if result.snapshot_exists is not None:
            assert result.snapshot_exists == there, where
        if result.verdict is not None and result.verdict.kind is VerdictKind.FILESYSTEM_CONSISTENT and there:
            disk = read_disk(self.lab.guest.disk)
            assert disk is not None
            assert disk["snapshots"][result.name]["frozen"], f"a false word: {where}"
        if result.verdict is not None and result.verdict.kind is VerdictKind.FILESYSTEM_CONSISTENT:
            assert result.proof is Proof.STILL_FROZEN, f"a word without evidence: {where}"
            assert result.freeze is not None, where
            assert result.thaw is not None, where
            assert (result.thaw.filesystems or 0) >= result.freeze.filesystems > 0, where
        if result.policy is Policy.REQUIRE and result.error is None:
            assert there, where
        if result.error is None:
            assert result.verdict is not None, where
        printed = Envelope("take", result_data(result), tuple(result.warnings), result.error).render()
        assert self.lab.node.token_secret not in printed
        assert follows_the_schema(json.loads(printed))["exit_code"] == result.exit_code

    def _check_journal(self, result: Result, where: str) -> None:
        if result.window_id is None:
            return
        (found,) = [w for w in self.lab.windows() if w.id == result.window_id]
        confirmed = result.thaw is None or result.thaw.confirmed
        if found.freeze_outcome == "unknown" or not confirmed:
            assert found.closed_at is None, where
        else:
            assert found.closed_at is not None, where


@pytest.fixture(scope="module")
def world() -> Iterator[World]:
    """One site for all runs of this file."""
    limits = {**kit.QUICK_LIMITS, "thaw": 1.0}
    # 401s come at once here, and a cut connection is no reason to wait.
    with site(ScriptedGuest, limits=limits) as lab:
        lab.write_config(
            thaw={"owner_limit_seconds": 2, "first_retry_seconds": 0.05, "slowest_retry_seconds": 0.2},
            snapshot={"lost_reply_seconds": 0.6, "task_timeout_seconds": 3},
            freeze={"max_window_seconds": 2.0},
            metrics={"textfile": ""},
        )
        found = World(lab)
        inprocess.snapshot(lab, "calm", Policy.REQUIRE)
        counted: Counter[tuple[str, str]] = Counter()
        for request in lab.node.requests():
            path = request.path.replace("/calm/", "/NAME/")
            counted[request.method, path] += 1
            if counted[request.method, path] <= 3:  # the polls of one task are alike
                found.steps.append(Step(request.method, path, counted[request.method, path]))
        yield found
        assert lab.node.server_log() == ""


def test_a_run_has_the_requests_it_is_thought_to_have(world: World) -> None:
    """Otherwise the faults below hit nothing."""
    paths = [step.path for step in world.steps]
    for part in ("resources", "config", "feature", "permissions", "fsfreeze-freeze", "snapshot", "/status", "thaw"):
        assert any(part in path for path in paths), paths
    assert len(world.steps) >= 17, paths


@pytest.mark.parametrize("number", range(24))
def test_a_step_that_fails_in_some_ways(world: World, number: int) -> None:
    """A few ways for each step, other ones for the next: every way and every step is hit. `slow` has all of them."""
    if number >= len(world.steps):
        pytest.skip("a run has fewer steps")
    for turn in range(4):
        kind = EVERY[(number * 5 + turn * 9) % len(EVERY)]
        world.run(world.steps[number], kind, (Policy.REQUIRE, Policy.PREFER)[turn % 2])


@pytest.mark.slow
@pytest.mark.parametrize("policy", [Policy.REQUIRE, Policy.PREFER], ids=lambda p: p.value)
@pytest.mark.parametrize("kind", EVERY)
def test_every_step_fails_in_every_way(world: World, kind: str, policy: Policy) -> None:
    for step in world.steps:
        world.run(step, kind, policy)


@pytest.mark.slow
@pytest.mark.parametrize("kind", EVERY)
def test_every_step_fails_in_every_way_from_then_on(world: World, kind: str) -> None:
    """Not once but always. A thaw that never gets through ends in the alarm, and in no other way."""
    for step in world.steps:
        result = world.run(step, kind, Policy.PREFER, times=None)
        if "thaw" not in step.path and "fsfreeze-status" not in step.path:
            assert not isinstance(result.error, StillFrozenError), f"{step}, {kind}"


@pytest.mark.parametrize("kind", ["596", "an empty answer", "result below zero", "brackets without end", "401"])
def test_a_thaw_that_never_gets_through_is_the_alarm(world: World, kind: str) -> None:
    step = next(step for step in world.steps if "thaw" in step.path)
    result = world.run(step, kind, Policy.PREFER, times=None)
    assert isinstance(result.error, StillFrozenError)
    assert result.exit_code == 8


@pytest.mark.parametrize(
    "kind", ["the answer is lost", "596 after it was done", "hangs after it was done", "data null"]
)
def test_a_freeze_without_an_answer_is_never_called_a_refusal(world: World, kind: str) -> None:
    step = next(step for step in world.steps if "freeze-freeze" in step.path)
    result = world.run(step, kind, Policy.REQUIRE)
    assert result.exit_code == 11
    assert result.thaw is not None
    assert result.thaw.confirmed
