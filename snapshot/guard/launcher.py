"""Starting a guard, from the owner's side. How processes are started at all is detached.py's business."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import subprocess
from pathlib import Path

from snapshot.base import detached
from snapshot.base.aside import reap
from snapshot.base.clock import Clock
from snapshot.config.settings import Config, LauncherKind
from snapshot.errors import GuardError
from snapshot.guard.link import AnotherGuardError, GuardSpec, Op, watchdog_seconds

NURSERY_PROPERTIES = {
    "OOMScoreAdjust": "-900",
    # By default systemd stops the whole unit when the kernel ends one of its processes for want of memory: every guard
    # in it would thaw. What has to begin again does so by itself.
    "OOMPolicy": "continue",
    # TERM is for the guard: its pvesh may be carrying the thaw. And a pvesh that cannot even be killed would keep
    # systemd from starting the guard again, for twice TimeoutStopSec, were the whole group to end first.
    "KillMode": "process",
    # TERM makes it thaw first: give it the time.
    "TimeoutStopSec": "90s",
    "SyslogIdentifier": "vzdump-hooks-guard",
    "LimitMEMLOCK": "infinity",
}

UNIT_PROPERTIES = NURSERY_PROPERTIES | {
    # SIGKILL, a crash, an error: start it again; it takes its window over.
    "Restart": "on-failure",
    "RestartSec": "500ms",
    "StartLimitIntervalSec": "0",
    # The same for one that hangs (WatchdogSec, see _properties), from its first word on: one that is slow to start does
    # not hang. KILL, since ABRT would leave the token in a core dump.
    "Type": "notify",
    "NotifyAccess": "main",
    "WatchdogSignal": "SIGKILL",
    "TimeoutStartSec": "90s",
}

ORDER_SECONDS = 3.0
"""How long the nursery may take to fork a guard."""


class ConnectedGuard:
    """An armed guard at the other end of a socket. See guard.link.Guard."""

    def __init__(self, connection: socket.socket, pid: int, process: subprocess.Popen[bytes] | None) -> None:
        self.pid = pid
        self._connection: socket.socket | None = connection
        self._process = process

    def tell(self, op: Op, **values: float) -> None:
        """See Guard.tell."""
        if self._connection is not None:
            with contextlib.suppress(OSError):  # a guard that is gone shows in is_alive
                self._connection.sendall(json.dumps({"op": op.value, **values}).encode() + b"\n")

    def is_alive(self) -> bool:
        """See Guard.is_alive."""
        if self._connection is None:
            return False
        try:
            return self._connection.recv(1, socket.MSG_PEEK) != b""
        except BlockingIOError:
            return True
        except OSError:
            return False

    def release(self) -> None:
        """See Guard.release."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None
        if self._process is not None:
            self._process.poll()


class ProcessLauncher:
    """Starts `python -m snapshot.guard` detached, or as a transient systemd unit."""

    def __init__(self, config: Config, config_path: Path | None, clock: Clock) -> None:
        self._config = config
        self._config_path = config_path
        self._clock = clock
        self._nursery = ""
        self._starter: socket.socket | None = None
        self._nurse: subprocess.Popen[bytes] | None = None

    def preload(self) -> str:
        """Many windows follow: start the process from which their guards are forked (nursery.py). Why there is none;
        "" where there is. Without one each guard is started by itself, as for one window.

        It is there for this process and all that it forks, and ends behind the last of them and the last guard.
        """
        address = detached.new_address("guards")
        timeout = self._config.guard.arm_timeout_seconds
        try:
            with detached.listen(address) as listener:
                process = self._nurse = self._begin(
                    ["snapshot.guard.nursery", "--socket", address, *self._config_option()],
                    unit=f"vzdump-hooks-guards-{os.urandom(4).hex()}",
                    description="Guards of the freeze windows of many guests",
                    properties=NURSERY_PROPERTIES,
                )
                self._starter = detached.accept_from(process, listener, timeout, self._clock)
            self._starter.settimeout(timeout)
            answer = json.loads(detached.read_line(self._starter))
            if "address" not in answer:
                raise ValueError(answer["error"])
            self._nursery = str(answer["address"])
        except (OSError, ValueError, KeyError, TypeError) as error:
            self.hang_up()
            return f"each guard is started by itself, for the process that would fork them is not there ({error})"
        return ""

    def hang_up(self) -> None:
        """No further guard is wanted of the nursery: it ends behind its last one."""
        self._nursery = ""
        if self._starter is not None:
            self._starter.close()
            self._starter = None
        if self._nurse is not None:
            self._nurse.poll()

    def arm(self, spec: GuardSpec) -> ConnectedGuard:
        """See guard.link.Launcher."""
        address = detached.new_address(spec.window_id)
        timeout = self._config.guard.arm_timeout_seconds
        with detached.listen(address) as listener:
            process = None if self._is_forked(spec, address) else self._start(spec, "--socket", address)
            try:
                connection = detached.accept_from(process, listener, timeout, self._clock)
            except OSError as error:
                _end(process)
                raise GuardError(
                    f"the guard did not report ({error})",
                    remedy="see `journalctl -t vzdump-hooks-guard`; the guest was not frozen",
                ) from error
        try:
            connection.settimeout(timeout)
            pid = _armed(connection)
        except AnotherGuardError:
            connection.close()
            raise
        except (OSError, ValueError, KeyError, TypeError) as error:
            connection.close()
            _end(process)
            raise GuardError(f"the guard did not arm ({error})", remedy="the guest was not frozen") from error
        connection.setblocking(False)  # a stopped guard must not hold its owner up
        return ConnectedGuard(connection, pid, process)

    def adopt(self, spec: GuardSpec) -> None:
        """Start a guard for a window whose owner and guard are gone. It reports to nobody. Raises GuardError."""
        self._start(spec)

    def _is_forked(self, spec: GuardSpec, address: str) -> bool:
        """Whether the nursery, if there is one, has forked a guard that reports at ``address``."""
        connection = detached.connect(self._nursery) if self._nursery else None
        if connection is None:
            return False
        with connection:
            try:
                connection.settimeout(ORDER_SECONDS)
                connection.sendall(json.dumps({"spec": spec.to_json(), "address": address}).encode() + b"\n")
                return "pid" in json.loads(detached.read_line(connection))
            except (OSError, ValueError, TypeError):
                return False

    def _config_option(self) -> list[str]:
        """The configuration, and the nodes that its reader knows beside it (pve/neighbours.py)."""
        found = [] if self._config_path is None else ["--config", str(self._config_path)]
        return found + [word for peer in self._config.api.peers for word in ("--peer", peer)]

    def _start(self, spec: GuardSpec, *options: str) -> subprocess.Popen[bytes] | None:
        # systemd expands $ and % in a unit's command line; JSON has another way to write them.
        order = spec.to_json().replace("$", "\\u0024").replace("%", "\\u0025")
        try:
            return self._begin(
                ["snapshot.guard", "--spec", order, *options, *self._config_option()],
                unit=f"vzdump-hooks-guard-{spec.vmid}-{spec.window_id[:8]}-{os.urandom(2).hex()}",
                description=f"Guard of the freeze window of guest {spec.vmid}",
                properties=_properties(self._config),
            )
        except OSError as error:
            raise GuardError(f"the guard cannot be started ({error})", remedy="the guest was not frozen") from error

    def _begin(
        self, arguments: list[str], *, unit: str, description: str, properties: dict[str, str]
    ) -> subprocess.Popen[bytes] | None:
        """A process of its own, detached or as a unit (None). OSError."""
        if not uses_systemd(self._config):
            return detached.start_process(arguments)
        detached.start_unit(
            arguments,
            unit=unit,
            description=description,
            properties=properties,
            timeout_seconds=self._config.guard.arm_timeout_seconds,
        )
        return None


def _properties(config: Config) -> dict[str, str]:
    """The guard says the limit of its watchdog itself, too: by the configuration as it finds it (__main__.py)."""
    return UNIT_PROPERTIES | {"WatchdogSec": f"{watchdog_seconds(config):g}s"}


def uses_systemd(config: Config) -> bool:
    """Whether processes of ours are started as transient units."""
    kind = config.guard.launcher
    return detached.systemd_is_running() if kind is LauncherKind.AUTO else kind is LauncherKind.SYSTEMD


def _end(process: subprocess.Popen[bytes] | None) -> None:
    if process is not None:
        process.kill()
        reap(process)


def _armed(connection: socket.socket) -> int:
    answer = json.loads(detached.read_line(connection))
    if answer.get("op") == "taken":
        raise AnotherGuardError(int(answer["pid"]), int(answer["pid_start"]))
    if answer.get("op") != "armed":
        raise ValueError(str(answer.get("error", "an answer that is not the guard's")))
    return int(answer["pid"])
