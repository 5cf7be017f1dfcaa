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

UNIT_PROPERTIES = {
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
    "OOMScoreAdjust": "-900",
    # TERM is for the guard: its pvesh may be carrying the thaw. And a pvesh that cannot even be killed would keep
    # systemd from starting the guard again, for twice TimeoutStopSec, were the whole group to end first.
    "KillMode": "process",
    # TERM makes it thaw first: give it the time.
    "TimeoutStopSec": "90s",
    "SyslogIdentifier": "vzdump-hooks-guard",
    "LimitMEMLOCK": "infinity",
}


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

    def arm(self, spec: GuardSpec) -> ConnectedGuard:
        """See guard.link.Launcher."""
        address = detached.new_address(spec.window_id)
        timeout = self._config.guard.arm_timeout_seconds
        with detached.listen(address) as listener:
            process = self._start(spec, "--socket", address)
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

    def _start(self, spec: GuardSpec, *options: str) -> subprocess.Popen[bytes] | None:
        # systemd expands $ and % in a unit's command line; JSON has another way to write them.
        order = spec.to_json().replace("$", "\\u0024").replace("%", "\\u0025")
        arguments = ["snapshot.guard", "--spec", order, *options]
        if self._config_path is not None:
            arguments += ["--config", str(self._config_path)]
        try:
            if not uses_systemd(self._config):
                return detached.start_process(arguments)
            detached.start_unit(
                arguments,
                unit=f"vzdump-hooks-guard-{spec.vmid}-{spec.window_id[:8]}-{os.urandom(2).hex()}",
                description=f"Guard of the freeze window of guest {spec.vmid}",
                properties=_properties(self._config),
                timeout_seconds=self._config.guard.arm_timeout_seconds,
            )
        except OSError as error:
            raise GuardError(f"the guard cannot be started ({error})", remedy="the guest was not frozen") from error
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
