"""What real and scripted guests have in common: their sockets, and the reading of their own record of windows."""

from __future__ import annotations

import abc
import os
import time
from pathlib import Path
from typing import Any, Literal, Self

from tests.lab.guest.qga import DEFAULT_TIMEOUT_SECONDS, AgentClient, AgentError
from tests.lab.guest.qmp import QmpClient
from tests.lab.rundir import socket_path

Filesystem = Literal["ext4", "xfs"]
HookLog = list[tuple[float, str]]
BOOT_TIMEOUT_SECONDS = 60.0
# The hook's settings: read on every call, so they can be changed while the guest runs.
KNOBS = ("freeze_sleep", "thaw_sleep", "freeze_exit", "thaw_exit")
_POLL_SECONDS = 0.01


class Guest(abc.ABC):
    """A guest of the lab. Its files stand in ``run``, named after the vmid:

    ========== ===================================================================
    100.qga    the guest agent's channel
    100.qmp    QMP, for the lab's API server
    100.qmp2   QMP, for the vzdump driver
    100.qmp3   QMP, for tests and oracles
    100.qmp4   QMP, for the guest object itself (``reset``, ``is_frozen``)
    100.ctl    the control port (real guests): ``control`` is its only client
    100.pid    pid of QEMU, or of the scripted guest's process; gone when stopped
    100.qcow2  the disk, QMP node ``drive0``
    ========== ===================================================================

    Each socket serves one client at a time; a second waits in silence. Take the one that is yours.
    """

    drive_node = "drive0"

    def __init__(self, vmid: int, run: Path, fs: Filesystem) -> None:
        self.vmid = vmid
        self.run = run
        self.fs: Filesystem = fs
        self.agent_socket = socket_path(run, f"{vmid}.qga")
        self.qmp_api = socket_path(run, f"{vmid}.qmp")
        self.qmp_driver = socket_path(run, f"{vmid}.qmp2")
        self.qmp_tests = socket_path(run, f"{vmid}.qmp3")
        self.qmp_own = socket_path(run, f"{vmid}.qmp4")
        self.control_socket = socket_path(run, f"{vmid}.ctl")
        self.pid_file = run / f"{vmid}.pid"
        self.disk = run / f"{vmid}.qcow2"

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    @abc.abstractmethod
    def running(self) -> bool:
        """Whether the machine exists (one that is paused or hung counts)."""

    @abc.abstractmethod
    def start(self) -> None:
        """Start with a fresh disk; returns when the agent answers."""

    @abc.abstractmethod
    def stop(self) -> None:
        """End the guest at once, without a shutdown. Its socket files stay, as they do in PVE."""

    def kill(self) -> None:
        """The same as ``stop``."""
        self.stop()

    @abc.abstractmethod
    def reset(self) -> None:
        """Reset the machine (QMP system_reset); ``wait_agent`` waits for the agent's return."""

    @abc.abstractmethod
    def pause(self) -> None:
        """QMP ``stop``: the guest's processors stand still. A request of a client that then leaves is lost."""

    @abc.abstractmethod
    def resume(self) -> None:
        """QMP ``cont``."""

    @abc.abstractmethod
    def suspend_qemu(self) -> None:
        """SIGSTOP QEMU. Unlike with ``pause``, the request of a client that then leaves is carried out later."""

    @abc.abstractmethod
    def continue_qemu(self) -> None:
        """SIGCONT QEMU."""

    @abc.abstractmethod
    def is_frozen(self) -> bool:
        """Whether writes to /data are held, seen from outside and without the agent's word."""

    @abc.abstractmethod
    def hook_log(self) -> HookLog:
        """The guest's own record: (seconds since its boot, ``freeze`` or ``thaw``), oldest first."""

    @abc.abstractmethod
    def counter(self) -> int:
        """The last number that the guest's writer has on its disk."""

    @abc.abstractmethod
    def set_knob(self, name: str, value: float) -> None:
        """Set freeze_sleep or thaw_sleep (seconds the hook takes), freeze_exit or thaw_exit (its exit status)."""

    @abc.abstractmethod
    def stop_agent(self) -> None:
        """SIGSTOP the agent: requests queue up in the guest and are executed after ``continue_agent``.

        One that stands behind a sync waits longer: the agent blocks in its answer to the sync until somebody
        connects, and then carries it out, before anything that this client sends.
        """

    @abc.abstractmethod
    def continue_agent(self) -> None:
        """SIGCONT the agent."""

    @abc.abstractmethod
    def kill_agent(self) -> None:
        """SIGKILL the agent. What was frozen stays frozen; requests that wait in the guest are lost."""

    @abc.abstractmethod
    def start_agent(self, *, keep_state: bool = True) -> None:
        """Start the agent after ``kill_agent``; returns when it answers.

        ``keep_state=False`` takes away the file in which it remembers that it is frozen, as a reboot of the guest's
        /run does: its status then says ``thawed`` whatever the kernel does.
        """

    @abc.abstractmethod
    def freeze_from_inside(self) -> None:
        """Freeze /data behind the agent's back."""

    @abc.abstractmethod
    def thaw_from_inside(self) -> None:
        """Thaw /data behind the agent's back."""

    def agent(self, timeout: float = DEFAULT_TIMEOUT_SECONDS) -> AgentClient:
        """A new connection to the agent's channel."""
        return AgentClient(self.agent_socket, timeout)

    def ask(self, command: str, arguments: dict[str, Any] | None = None, timeout: float = 10.0) -> Any:
        """One agent command over a connection of its own. Raises qga.AgentError, TimeoutError, OSError."""
        with self.agent(timeout) as client:
            return client.command(command, arguments, timeout)

    def monitor(self) -> QmpClient:
        """A new connection to the tests' QMP socket."""
        return QmpClient(self.qmp_tests)

    def wait_agent(self, timeout: float = BOOT_TIMEOUT_SECONDS) -> None:
        """Wait until guest-ping is answered. Raises TimeoutError, ConnectionError when the guest is gone."""
        deadline = time.monotonic() + timeout
        while True:
            try:
                self.ask("guest-ping", timeout=1.0)
            except (OSError, AgentError):
                self._check_boot(deadline)
            else:
                return

    def _check_boot(self, deadline: float) -> None:
        """Raise when the guest is gone or the time is over; otherwise wait a little."""
        if not self.running:
            raise ConnectionError(f"guest {self.vmid} is gone: {self._last_words()}")
        if time.monotonic() > deadline:
            raise TimeoutError(f"guest {self.vmid} does not answer: {self._last_words()}")
        time.sleep(_POLL_SECONDS)

    def _last_words(self) -> str:
        return "it left no message"

    def windows(self) -> list[float]:
        """Lengths of the guest's freeze windows in seconds, in the guest's own time, oldest first.

        From the agent's freeze hook (before the freeze) to the first thaw hook (after the thaw). A window that is
        still open is not in the list, and neither is a freeze that no thaw followed.
        """
        lengths = []
        began: float | None = None
        for at, event in self.hook_log():
            if event == "freeze":
                began = at
            elif began is not None:
                lengths.append(at - began)
                began = None
        return lengths


def pid_is_alive(pid: int) -> bool:
    """Whether the process exists and is not a zombie (a killed QEMU stays one until its parent looks)."""
    try:
        status = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False
    return status.rpartition(")")[2].split()[0] not in ("Z", "X")


def vm_running(run: Path, vmid: int) -> bool:
    """What ``qm status`` would say: whether the process in ``run/<vmid>.pid`` lives."""
    try:
        return pid_is_alive(int((run / f"{vmid}.pid").read_text()))
    except (FileNotFoundError, ValueError):
        return False


def write_pid_file(path: Path) -> None:
    """This process's pid, in one step, so that no reader finds half a number."""
    scratch = path.with_name(f".{path.name}")
    scratch.write_text(f"{os.getpid()}\n")
    scratch.rename(path)
