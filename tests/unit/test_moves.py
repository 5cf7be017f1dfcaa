"""A guard that thaws tells systemd's watchdog that it moves before each of its steps, and no step takes too long."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from snapshot.base.retry import Pace
from snapshot.config.settings import ApiConfig, Config, LocalConfig, ThawConfig
from snapshot.errors import ApiError, ApiFailureError, ReplyLostError
from snapshot.guard.link import watchdog_seconds
from snapshot.pve.access import Access
from snapshot.pve.ladder import Ladder
from snapshot.pve.pvesh import START_SECONDS
from snapshot.pve.routes import build_ladder
from snapshot.pve.standby import Standby
from snapshot.thaw.pace import thawing_of
from snapshot.thaw.thawer import Thawer, Thawing
from tests.unit.kit import GUEST, ScriptedChannel, VirtualClock

SILENT = ReplyLostError("no answer in time")
MOVED = ApiFailureError("Configuration file 'nodes/pve1/qemu-server/100.conf' does not exist", status=500)
OFF = ApiFailureError("VM 100 is not running", status=500)
KILL_SECONDS = 1.0
NODES = [{"type": "node", "name": f"pve{n}", "ip": f"192.0.2.{n}", "online": 1} for n in range(1, 6)]


class Slow:
    """A host, or pvesh, that uses up the time it is given, and says ``agent`` to what is asked of the agent."""

    def __init__(self, name: str, clock: VirtualClock, agent: object, more_seconds: float = 0.0) -> None:
        self.name = name
        self._clock = clock
        self._agent = agent
        self._more = more_seconds

    def request(
        self, method: str, path: str, params: Mapping[str, object] | None = None, *, timeout_seconds: float = 10.0
    ) -> object:
        self._clock.now += timeout_seconds + self._more
        answer = self._agent if "/agent/" in path else self._answer(path)
        if isinstance(answer, ApiError):
            raise answer
        return answer

    def _answer(self, path: str) -> object:
        if path == "cluster/status":
            return NODES
        if path == "cluster/resources":
            return [{"vmid": 7, "type": "qemu", "node": "pve1", "status": "running"}]
        return SILENT

    def close(self) -> None:
        """Nothing."""


class Watched:
    """The instants at which it was said that the guard moves."""

    def __init__(self, clock: VirtualClock) -> None:
        self._clock = clock
        self._last = clock.now
        self.longest = 0.0

    def __call__(self) -> None:
        self.longest = max(self.longest, self._clock.now - self._last)
        self._last = self._clock.now


def a_thaw(monkeypatch: pytest.MonkeyPatch, folder: Path, config: Config, agent: object) -> tuple[Thawer, Watched]:
    """A guard's thawer on a node, where everything is as slow as it may be."""
    clock = VirtualClock()
    moves = Watched(clock)
    pvesh = Slow("pvesh", clock, agent, START_SECONDS + KILL_SECONDS)
    monkeypatch.setattr("snapshot.pve.routes.pvesh_of", lambda _: pvesh)
    monkeypatch.setattr("snapshot.pve.doors.https_to", lambda _, host, __: Slow(host, clock, agent))
    standby = Standby([pvesh], clock, lambda line: None, node="pve9", moves=moves)
    api = Slow("api", clock, agent)
    access = Access(config, clock, api, "pve9", standby, moves=moves)
    return Thawer(build_ladder(access, GUEST), thawing_of(config), clock), moves


@pytest.mark.parametrize("attempt_seconds", [1.0, 10.0, 60.0])
@pytest.mark.parametrize("peers", [(), ("a", "b", "c")])
@pytest.mark.parametrize(
    "agent",
    [SILENT, MOVED, OFF, {"result": {"error": {"class": "CommandNotFound", "desc": "has been disabled"}}}],
    ids=str,
)
def test_no_step_of_a_thaw_is_as_long_as_the_watchdog_waits(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, agent: object, peers: tuple[str, ...], attempt_seconds: float
) -> None:
    config = Config(
        api=ApiConfig(host="api", peers=peers),
        local=LocalConfig(node="pve9", socket_folder=tmp_path),
        thaw=ThawConfig(attempt_timeout_seconds=attempt_seconds, sysrq=True),
    )
    thawer, moves = a_thaw(monkeypatch, tmp_path, config, agent)
    thawer.until_confirmed(1000.0)
    for _ in range(5):
        thawer.look()
    moves()
    assert moves.longest >= attempt_seconds
    assert moves.longest <= watchdog_seconds(config) - 2.0


def test_the_question_behind_a_slow_thaw_is_a_step_of_its_own() -> None:
    clock = VirtualClock()
    moves = Watched(clock)
    channel = ScriptedChannel(clock, seconds=10.0, thaw=1, status="thawed")
    Thawer(Ladder([channel], moves=moves), Thawing(Pace(0.2, 1.0), 10.0), clock).until_confirmed(None)
    moves()
    assert channel.instants == [0.0, 10.0]
    assert moves.longest == 10.0
