"""The tests' own client of a lab node, and a node with scripted guests in one line. Independent of the product's code.

with with_scripted() as lab:
    lab.guest.faults.freeze_sleep = 2
    assert lab.agent("fsfreeze-freeze").status == 596
"""

from __future__ import annotations

import contextlib
import http.client
import json
import ssl
import time
import urllib.parse
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Self

from tests.lab.guest.scripted import ScriptedGuest
from tests.lab.node.node import GuestSpec, LabNode
from tests.lab.rundir import run_directory

TIMEOUT_SECONDS = 30.0


@dataclass(frozen=True)
class Answer:
    """An HTTP answer as it came: the reason phrase carries PVE's error text."""

    status: int
    reason: str
    body: bytes
    headers: dict[str, str]

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def data(self) -> Any:
        """The ``data`` of the JSON body; the assertion shows the answer when there is none."""
        assert self.status == 200, self
        return self.json["data"]

    @property
    def result(self) -> Any:
        """The ``result`` of an agent call."""
        return self.data["result"]


class Client:
    """One connection to a node, kept while the node keeps it."""

    def __init__(
        self, node: LabNode, *, at: str = "", headers: dict[str, str] | None = None, timeout: float = TIMEOUT_SECONDS
    ) -> None:
        url = urllib.parse.urlsplit(node.urls[at or node.node])
        context = ssl.create_default_context(cafile=str(node.ca_file))
        assert url.hostname
        self._connection = http.client.HTTPSConnection(url.hostname, url.port, context=context, timeout=timeout)
        token = {"Authorization": f"PVEAPIToken={node.token_id}={node.token_secret}"}
        self._headers = token if headers is None else headers

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._connection.close()

    def send(self, method: str, path: str, **values: Any) -> None:
        """Send a request without waiting for its answer."""
        body = urllib.parse.urlencode(values) if values and method in ("POST", "PUT") else None
        query = f"?{urllib.parse.urlencode(values)}" if values and body is None else ""
        kind = {"Content-Type": "application/x-www-form-urlencoded"} if body else {}
        self._connection.request(method, f"/api2/json{path}{query}", body, {**self._headers, **kind})

    def receive(self) -> Answer:
        """The answer to what was sent. Raises TimeoutError, ConnectionError, http.client.HTTPException."""
        response = self._connection.getresponse()
        return Answer(response.status, response.reason, response.read(), dict(response.getheaders()))

    def ask(self, method: str, path: str, **values: Any) -> Answer:
        self.send(method, path, **values)
        return self.receive()


@dataclass
class Lab:
    """A running node, its guests, and ways to ask it."""

    node: LabNode
    guests: dict[int, ScriptedGuest]

    @property
    def guest(self) -> ScriptedGuest:
        """The first guest, vmid 100."""
        return next(iter(self.guests.values()))

    def ask(self, method: str, path: str, *, at: str = "", **values: Any) -> Answer:
        """One request over a connection of its own, with the node's token."""
        with Client(self.node, at=at) as client:
            return client.ask(method, path, **values)

    def as_token(self, token_id: str, *privileges: str) -> dict[str, str]:
        """Headers of a token that has these privileges and no others."""
        return {"Authorization": f"PVEAPIToken={token_id}={self.node.add_token(token_id, privileges)}"}

    def agent(self, command: str, *, vmid: int = 100, at: str = "") -> Answer:
        """One agent call; the method is PVE's."""
        method = "GET" if command.startswith("get-") or command == "info" else "POST"
        return self.ask(method, f"/nodes/{self.node.node}/qemu/{vmid}/agent/{command}", at=at)

    def snapshot(self, name: str, *, vmid: int = 100, **values: Any) -> str:
        """Begin a snapshot; returns the task's UPID."""
        answer = self.ask("POST", f"/nodes/{self.node.node}/qemu/{vmid}/snapshot", snapname=name, **values)
        return str(answer.data)

    def wait_began(self, command: str, *, vmid: int = 100) -> None:
        """Wait until a guest's agent has begun with a command."""

        def has_begun() -> bool:
            with self.guests[vmid].held() as (model, now):
                model.run_until(now)
                return command in [name for _, name in model.executed]

        wait_for(has_begun)

    def task(self, upid: str, what: str = "status", **values: Any) -> Answer:
        """A task's ``status`` or ``log``."""
        return self.ask("GET", f"/nodes/{self.node.node}/tasks/{urllib.parse.quote(upid, safe='')}/{what}", **values)


def wait_for(condition: Callable[[], bool], seconds: float = 20.0) -> None:
    """Wait until ``condition`` holds; AssertionError when it never does."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it never came true"
        time.sleep(0.005)


@contextlib.contextmanager
def with_scripted(*specs: GuestSpec, vmids: tuple[int, ...] = (100,), **settings: Any) -> Iterator[Lab]:
    """A node with started scripted guests, and whatever further guests the specs describe.

    A spec whose vmid belongs to a scripted guest is that guest's configuration. Keywords are LabNode's.
    """
    with contextlib.ExitStack() as stack:
        run = stack.enter_context(run_directory())
        guests = {vmid: stack.enter_context(ScriptedGuest(vmid, run)) for vmid in vmids}
        node = stack.enter_context(LabNode(run / "node", guests.values(), **settings))
        for spec in specs:
            spec.run = spec.run or run
            node.add_guest(spec)
        yield Lab(node, guests)
        assert node.server_log() == "", node.server_log()
