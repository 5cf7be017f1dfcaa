"""The server process of a lab node: the fronts (pveproxy), the control channel, and the zygote it is forked from.

Importing fakepve takes a third of a second; the zygote imports it once a test process and forks a server for every
LabNode, which then starts in a few hundredths. The control channel is a socket pair: its end of file ends the server,
so none is left behind by a test process that was killed.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import json
import os
import signal
import socket
import ssl
import sys
import traceback
from pathlib import Path
from typing import Any

from aiohttp import web

from tests.lab.node.api import NodeApi, Recorder, reset_connection
from tests.lab.node.daemon import Daemon
from tests.lab.node.host import Host
from tests.lab.node.ops import load_all

_MAX_MESSAGE = 65536
_BACKLOG = 128


# ----------------------------------------------------------------------- zygote


def zygote() -> None:
    """Wait on standard input (a unix socket) for orders: a lab root and the server's end of a control channel."""
    orders = socket.socket(fileno=0)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    load_all()
    api = NodeApi()
    gc.collect()
    gc.freeze()
    while True:
        data, descriptors, _, _ = socket.recv_fds(orders, _MAX_MESSAGE, 1)
        if not data:
            return
        pid = os.fork()
        if pid == 0:
            orders.detach()
            os.close(0)
            _run(api, Path(json.loads(data)["root"]), descriptors[0])
        os.close(descriptors[0])
        orders.sendall(json.dumps({"pid": pid}).encode() + b"\n")


def _run(api: NodeApi, root: Path, channel: int) -> None:
    """The forked server's life."""
    code = 1
    try:
        os.setsid()
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        output = os.open(root / "lab" / "server.log", os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        os.dup2(output, 1)
        os.dup2(output, 2)
        host = Host(root)
        daemons = {name: Daemon(root) for name in host.settings.nodes}
        for daemon in daemons.values():
            daemon.start()
        asyncio.run(Server(api, host, daemons).run(socket.socket(fileno=channel)))
        code = 0
    except BaseException:  # noqa: BLE001 - whatever it is belongs into the log: there is nobody else to see it
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        if code == 0:
            os.killpg(0, signal.SIGKILL)  # the workers as well, busy or not
        os._exit(code)


# ----------------------------------------------------------------------- server


class Server:
    """The fronts of all nodes, and the control channel."""

    def __init__(self, api: NodeApi, host: Host, daemons: dict[str, Daemon]) -> None:
        self._api = api
        self._host = host
        self._daemons = daemons
        self._fronts: dict[str, asyncio.Server] = {}
        self._protocols: dict[str, set[Any]] = {}
        self._keys: dict[int, asyncio.Future[None]] = {}

    async def run(self, channel: socket.socket) -> None:
        """Serve until the control channel ends."""
        reader, self._control = await asyncio.open_connection(sock=channel)
        self._api.attach(self._host, self._daemons, Recorder(self._host.root / "lab" / "requests.jsonl"))
        runner = web.AppRunner(
            self._api.app, access_log=None, keepalive_timeout=self._host.settings.idle_timeout, shutdown_timeout=0.1
        )
        await runner.setup()
        assert runner.server
        self._handlers = runner.server
        try:
            for daemon in self._daemons.values():
                await daemon.open()
            for name in self._host.settings.nodes:
                await self._start_front(name)
        except OSError as error:
            self._say({"event": "failed", "text": str(error)})
            await self._control.drain()
            return
        self._say({"event": "ready", "pid": os.getpid()})
        while line := await reader.readline():
            order = json.loads(line)
            if "key" in order:
                self._keys.pop(order["key"]).set_result(None)
                continue
            try:
                result = await self._obey(order)
                self._say({"id": order["id"], "result": result})
            except Exception as error:  # noqa: BLE001 - the test that gave the order sees it
                self._say({"id": order["id"], "error": f"{type(error).__name__}: {error}"})

    async def _obey(self, order: dict[str, Any]) -> Any:
        match order["do"]:
            case "fault":
                return self._api.faults.add(order["rule"])
            case "clear_faults":
                return self._api.faults.clear()
            case "fault_hits":
                return self._api.faults.hits()
            case "release":
                return self._api.faults.release()
            case "held":
                return self._api.faults.held()
            case "workers":
                return {name: daemon.seen() for name, daemon in self._daemons.items()}
            case "stop_front":
                return self._stop_front(order["node"])
            case "start_front":
                return await self._start_front(order["node"])
            case "hook_keys":
                self._api.on_key = self._on_key if order["on"] else None
                return None
            case other:
                raise ValueError(f"no such order: {other}")

    def _say(self, message: dict[str, Any]) -> None:
        self._control.write(json.dumps(message).encode() + b"\n")

    async def _on_key(self, vmid: int, key: str) -> None:
        """Tell the test of a key press, and wait until it has done what the guest's keyboard would."""
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        number = id(done)
        self._keys[number] = done
        self._say({"event": "key", "key": number, "vmid": vmid, "name": key})
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(done, 30)

    # ----------------------------------------------------------------- fronts

    async def _start_front(self, name: str) -> None:
        if name in self._fronts:
            return
        entry = self._host.settings.nodes[name]
        folder = self._host.root / "etc" / "pve" / "nodes" / name
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(folder / "pve-ssl.pem", folder / "pve-ssl.key")
        protocols = self._protocols[name] = set()
        loop = asyncio.get_running_loop()

        def accept() -> Any:
            protocol = self._handlers()
            protocols.difference_update([old for old in protocols if old.transport is None])
            protocols.add(protocol)
            loop.call_later(self._host.settings.idle_timeout, self._close_unused, protocol)
            return protocol

        self._fronts[name] = await loop.create_server(
            accept, entry["address"], entry["port"], ssl=context, reuse_address=True, backlog=_BACKLOG
        )
        self._api.stopped_fronts.discard(name)

    def _stop_front(self, name: str) -> None:
        """What `systemctl stop pveproxy` does to clients: nobody listens, and open connections break off."""
        self._api.stopped_fronts.add(name)
        front = self._fronts.pop(name, None)
        if front is None:
            return
        front.close()
        for protocol in self._protocols.pop(name):
            if protocol.transport is not None:
                reset_connection(protocol)

    @staticmethod
    def _close_unused(protocol: Any) -> None:
        """pveproxy closes a connection on which no request came within its idle time, the first one included."""
        if protocol.transport is not None and protocol._request_count == 0:  # aiohttp tells nobody
            protocol.transport.close()
