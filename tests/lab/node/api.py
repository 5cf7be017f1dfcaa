"""The HTTP face of the lab node: fakepve's API with PVE's own order of checks and what the lab does for real.

fakepve brings the schema, its validation, tickets and every endpoint that the lab does not need to be true. A method
that stands in ops.OPERATIONS is done by the lab: by one of the node's workers where PVE hands it to pvedaemon
(``protected`` in the schema), in the server itself otherwise.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import hmac
import json
import os
import re
import signal
import socket
import struct
import time
import urllib.parse
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from aiohttp import web
from fakepve import schema as pve_schema
from fakepve.model import PveError
from fakepve.server import API, GENERIC, USER, FakePve

from tests.lab.node.daemon import Daemon
from tests.lab.node.faults import LOOK_SECONDS, Fault, Faults
from tests.lab.node.host import Host
from tests.lab.node.ops import OPERATIONS, Answer, Caller, perform

JSON = "application/json;charset=UTF-8"
_VOLUME_PATH = re.compile(r"^/api2/\w+(/nodes/[^/]+/storage/[^/]+/content)/(.+)$")
_HIDDEN = ("password", "new-password", "otp", "ticket")
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Recorder:
    """Every request, as lines of JSON in a file: what was asked and when, and when it was answered."""

    def __init__(self, path: Path) -> None:
        self._output = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
        self._next = time.monotonic_ns()  # a restarted server goes on counting upwards

    def begin(self, **fields: Any) -> int:
        self._next += 1
        self.add(self._next, at=time.monotonic(), **fields)
        return self._next

    def add(self, number: int, **fields: Any) -> None:
        os.write(self._output, json.dumps({"id": number, **fields}).encode() + b"\n")


class NodeApi(FakePve):
    """All nodes of one lab cluster. ``attach`` gives it the files and workers it serves."""

    def __init__(self) -> None:
        super().__init__(host="127.0.0.1", port=0)
        self.app = self._build_app()
        self.faults = Faults()
        self.on_key: Callable[[int, str], Awaitable[None]] | None = None
        self.stopped_fronts: set[str] = set()

    def attach(self, host: Host, daemons: dict[str, Daemon], recorder: Recorder) -> None:
        self.host_files = host
        self.daemons = daemons
        self.recorder = recorder
        self._late: set[asyncio.Task[Answer]] = set()

    # ------------------------------------------------------------- one request

    @web.middleware
    async def _middleware(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        settings = self._sync()
        front = self._front(request)
        try:
            values = await _parameters(request)
        except ValueError as error:
            return self._error(400, f"malformed request body - {error}", None)
        shown = {key: "***" if key in _HIDDEN else value for key, value in values.items()}
        number = self.recorder.begin(method=request.method, path=request.path, node=front, params=shown)
        if settings.latency:
            await asyncio.sleep(settings.latency)
        outcome = "cancelled"
        try:
            fault = self.faults.find(front, request.method, request.path)
            if fault and fault.when == "before":
                outcome = f"fault {fault.do}"
                replaced = await self._suffer(request, fault)
                if replaced is not None:
                    return replaced
            response = await self._serve(request, handler, front, values, number)
            outcome = str(response.status)
            if fault and fault.when == "after":
                outcome += f", then fault {fault.do}"
                response = await self._suffer(request, fault) or response
            return response
        finally:
            self.recorder.add(number, done=time.monotonic(), outcome=outcome)

    async def _suffer(self, request: web.Request, fault: Fault) -> web.Response | None:
        """Do what a fault says; None: go on."""
        if fault.held and not await fault.until_released():
            reset_connection(request)
            raise ConnectionResetError("nobody released it")
        if fault.delay:
            await asyncio.sleep(fault.delay)
        if fault.do == "drop":
            reset_connection(request)
            raise ConnectionResetError("lab fault")
        if fault.do == "hang":
            while not _has_left(request):
                await asyncio.sleep(LOOK_SECONDS)
            raise ConnectionResetError("lab fault")
        if fault.do == "kill":
            os.killpg(0, signal.SIGKILL)
        if fault.do in ("status", "body"):
            status = fault.status if fault.do == "status" else 200
            kind = fault.content_type if fault.body else None
            return _closing(_response(status, fault.reason or None, fault.body, kind))
        return None

    async def _serve(
        self, request: web.Request, handler: Handler, front: str, values: dict[str, Any], number: int
    ) -> web.StreamResponse:
        try:
            user = self._authenticate(request)
        except PveError as error:
            await asyncio.sleep(self.host_files.settings.unauthorized_delay)
            return _closing(_response(401, error.message, "", None))
        self.recorder.add(number, user=user)
        request[USER] = user
        request[GENERIC] = match = self.resolve(request, API)
        try:
            info = match and match.methods.get(request.method)
            if not info:
                path = request.path.partition("/api2/json")[2] or request.path
                raise PveError(501, f"Method '{request.method} {path}' not implemented")
            return await self._act(request, handler, front, values, number)
        except PveError as error:
            if error.status == 401:  # a wrong password; PVE delays it as well
                await asyncio.sleep(self.host_files.settings.unauthorized_delay)
            return self._error(error.status, error.message, error.errors)

    async def _act(
        self, request: web.Request, handler: Handler, front: str, values: dict[str, Any], number: int
    ) -> web.StreamResponse:
        """PVE's order: permission, then the node it is for, then pvedaemon, and there the parameters."""
        settings = self.host_files.settings
        match = request[GENERIC]
        info = match.methods[request.method]
        user = request[USER]
        if user is not None:
            self._need_permission(user, match.template, info, {**values, **match.params})
        node = match.params.get("node", front)
        if node == "localhost":
            node = match.params["node"] = front
        if node not in settings.nodes:
            text = f"failed to get address info for: {node}: Name or service not known"
            raise PveError(500, f"hostname lookup '{node}' failed - {text}")
        if not settings.nodes[node].get("online", True):
            return _closing(_response(595, "No route to host", "", None))
        if node != front and node in self.stopped_fronts:
            return _closing(_response(595, "Connection refused", "", None))
        if (request.method, match.template) not in OPERATIONS:
            return await handler(request)
        empty = [key for key, value in values.items() if value is None]
        given = {key: value for key, value in values.items() if value is not None}
        values, errors = pve_schema.validate(info.get("parameters"), {**given, **match.params})
        if errors:
            raise PveError(400, "Parameter verification failed.", errors)
        values |= dict.fromkeys(empty) | {
            **match.params,
            "_kind": "lxc" if "/lxc" in match.template else "qemu",
            "_front": front,
        }
        if info.get("protected"):
            answer = await self._through_daemon(request, match.template, values, node, number)
        else:
            answer = perform(self.host_files, request.method, match.template, values, user)
        if answer is None:
            return _closing(_response(596, "Connection timed out", "", None))
        if "status" in answer:
            if answer.get("front"):
                return _closing(_response(answer["status"], answer["message"], "", None))
            raise PveError(answer["status"], answer["message"], answer["errors"])
        if match.template.endswith("/sendkey") and self.on_key:
            await self.on_key(int(values["vmid"]), str(values["key"]))
        body = {key: answer[key] for key in ("data", "total") if key in answer}
        return _response(200, None, json.dumps(body), JSON)

    async def _through_daemon(
        self, request: web.Request, template: str, values: dict[str, Any], node: str, number: int
    ) -> Answer | None:
        """A worker's answer; None when pveproxy gave up waiting. The worker goes on, as it does without the client."""
        task = asyncio.create_task(self.daemons[node].call(request.method, template, values, request[USER]))
        self._late.add(task)
        task.add_done_callback(lambda done: self._note_acted(number, done))
        deadline = time.monotonic() + self.host_files.settings.limit("cut")
        client_is_there = True
        while (left := deadline - time.monotonic()) > 0:
            finished, _ = await asyncio.wait({task}, timeout=min(left, LOOK_SECONDS) if client_is_there else left)
            if finished:
                return task.result()
            if client_is_there and _has_left(request):
                client_is_there = False
                self.recorder.add(number, left=time.monotonic())
        return None

    def _note_acted(self, number: int, task: asyncio.Task[Answer]) -> None:
        self._late.discard(task)
        if task.cancelled():
            return
        answer = task.result()
        if "acted_at" in answer:
            self.recorder.add(number, acted_at=answer["acted_at"], acted_until=answer["acted_until"])

    def resolve(self, request: web.Request, prefix: str) -> Any:
        """The method of a path. A volume's name may hold a slash, quoted or not, which fakepve does not know."""
        found = _VOLUME_PATH.match(request.rel_url.raw_path)
        if not found:
            return super().resolve(request, prefix)
        match = pve_schema.load().match(f"{found[1]}/volume")
        if match is not None:
            match.params["volume"] = urllib.parse.unquote(found[2])
        return match

    # ------------------------------------------------------------ who may what

    def _sync(self) -> Any:
        settings = self.host_files.settings
        if settings is not self.__dict__.get("_synced"):
            self._synced = settings
            self.apitokens = {name: entry["secret"] for name, entry in settings.tokens.items()}
            self.users = {name: entry["password"] for name, entry in settings.users.items()}
            self.nodes = {name: {"online": entry.get("online", True)} for name, entry in settings.nodes.items()}
            entries = {**settings.tokens, **settings.users}
            self.acl = {
                name: [(path, set(privileges)) for path, privileges in entry.get("acl", [])]
                for name, entry in entries.items()
            }
        return settings

    async def _permissions(self, v: dict[str, Any], user: str) -> dict[str, dict[str, int]]:
        """What fakepve knows of the lab's own tokens, and what user.cfg grants."""
        held: dict[str, dict[str, int]] = await super()._permissions(v, user)
        for path, privileges in self.host_files.users.granted(v.get("userid") or user, v.get("path") or "").items():
            held.setdefault(path, {}).update(dict.fromkeys(sorted(privileges), 1))
        return held

    def _front(self, request: web.Request) -> str:
        assert request.transport
        address, port = request.transport.get_extra_info("sockname")[:2]
        for name, entry in self.host_files.settings.nodes.items():
            if (entry["address"], entry["port"]) == (address, port):
                return name
        raise AssertionError(f"no node at {address}:{port}")

    def _authenticate(self, request: web.Request) -> str | None:
        """The caller's name. PveError carries the reason phrase: PVE sends no body with a 401 of this kind."""
        if request.path.endswith("/access/ticket"):
            return None
        scheme, _, credentials = request.headers.get("Authorization", "").partition("=")
        ticket = request.cookies.get("PVEAuthCookie")
        if not ticket and scheme == "PVEAPIToken":
            name, _, secret = credentials.partition("=")
            known = self.apitokens.get(name, "") or self.host_files.users.secret(name)
            if not hmac.compare_digest(known.encode(), secret.encode()) or not secret:
                raise PveError(401, "Authentication failed!")
            return name
        if not ticket:
            raise PveError(401, "No ticket")
        user = self._ticket_user(ticket)
        if request.method != "GET":
            given = request.headers.get("CSRFPreventionToken", "")
            if not hmac.compare_digest(given.encode(), self._csrf(user).encode()):
                raise PveError(401, "Permission denied - invalid csrf token")
        return user

    def _ticket_user(self, ticket: str) -> str:
        plain, _, signature = ticket.partition("::")
        good = hmac.compare_digest(signature.encode(), self._sign(plain).encode())
        settings = self.host_files.settings
        if not good or time.time() - int(plain.rpartition(":")[2], 16) > settings.ticket_ttl:
            raise PveError(401, "Authentication failed!")
        return plain.split(":")[1]

    def issue_ticket(self, user: str) -> tuple[str, str]:
        """A signed ticket: like PVE's it is good at every node, and after a restart."""
        plain = f"PVE:{user}:{int(time.time()):08X}"
        return f"{plain}::{self._sign(plain)}", self._csrf(user)

    def check_password(self, user: str, password: str) -> bool:
        return user in self.users and self.users[user] == password

    def _csrf(self, user: str) -> str:
        return self._sign(f"csrf:{user}")

    def _sign(self, text: str) -> str:
        key = self.host_files.settings.csrf_key
        return hmac.new(key.encode(), text.encode(), hashlib.sha256).hexdigest()

    def _need_permission(self, user: str, template: str, info: dict[str, Any], values: dict[str, Any]) -> None:
        """Raise PVE's 403 with the missing privilege's name."""
        rule = info.get("permissions")
        if "/agent" in template and not self.host_files.settings.at_least("9.0.3"):
            rule = {"check": ["perm", "/vms/{vmid}", ["VM.Monitor"]]}
        if user == "root@pam" or (rule or {}).get("user") in ("all", "world"):
            return
        if rule is None or "check" not in rule:
            raise PveError(403, "Permission check failed (user != root@pam)")
        allowed, why = self._check(user, rule["check"], values)
        if not allowed:
            raise PveError(403, f"Permission check failed ({why})" if why else "Permission check failed")

    def allowed(self, user: str, path: str, priv: str) -> bool:
        return Caller(user, self.host_files).has(path, priv)

    # ----------------------------------------------------------------- answers

    def _error(self, status: int, message: str, errors: dict[str, str] | None) -> web.Response:
        """PVE's error: the text is the reason phrase, and the JSON ``message`` where the version has it."""
        body: dict[str, Any] = {"data": None}
        if errors:
            body["errors"] = errors
        if self.host_files.settings.json_message:
            body["message"] = message + "\n"
        return _closing(_response(status, message.splitlines()[0], json.dumps(body), JSON))


async def _parameters(request: web.Request) -> dict[str, Any]:
    """Body and query of a request. A value that is empty arrives in PVE's methods as undefined: here None."""
    body = await request.read()
    if request.content_type == "application/json":
        found = json.loads(body or b"{}")
        if not isinstance(found, dict):
            raise ValueError("not an object")
        return {**found, **request.query}
    pairs = urllib.parse.parse_qsl(body.decode(), keep_blank_values=True) if body else []
    return {key: value or None for key, value in [*pairs, *request.query.items()]}


def _has_left(request: web.Request) -> bool:
    return request.transport is None or request.transport.is_closing()


def reset_connection(request: web.Request) -> None:
    """Drop the client's connection with a TCP reset."""
    transport = request.transport
    if transport is None:
        return
    with contextlib.suppress(OSError):
        connection = transport.get_extra_info("socket")
        if connection is None:
            return  # its client was quicker
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    transport.abort()


def _response(status: int, reason: str | None, body: str, content_type: str | None) -> web.Response:
    response = web.Response(status=status, reason=reason, body=body.encode())
    response.headers["Server"] = "pve-api-daemon/3.0"
    response.headers["Cache-Control"] = "max-age=0"
    if content_type:
        response.headers["Content-Type"] = content_type
    return response


def _closing(response: web.Response) -> web.Response:
    """PVE ends the connection after every answer of 400 and above."""
    response.force_close()
    return response
