"""A real guest: QEMU, a Debian kernel and the real qemu-guest-agent, on a disk of its own.

Run by hand, ``python -m tests.lab.guest.real [ext4|xfs]`` boots one, freezes and thaws it and prints what it saw.

A default guest starts from a saved state (a migration stream made once and cached): a fraction of a second instead of
some three. The state holds a running guest whose agent has answered, so it is only used where the options of the
kernel command line are the default ones or can be set afterwards (the hot knobs).
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import itertools
import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from pathlib import Path

from tests.lab import packages
from tests.lab.guest.base import BOOT_TIMEOUT_SECONDS, KNOBS, Filesystem, Guest, HookLog
from tests.lab.guest.image import FILESYSTEMS, blank_disk, image
from tests.lab.guest.oracle import writes_seen
from tests.lab.guest.qmp import QmpClient
from tests.lab.rundir import run_directory

OPTIONS = (*KNOBS, "writer", "period", "agent", "hook", "block", "mountopt", "hostname", "sysrq")
_POLL_SECONDS = 0.01
_NANOSECONDS = 1e9
_READY = b" ready"
"""What guestfiles/control says on the console once it reads its port."""
# The writer's shell empties the file before it writes the next number into it.
_READ_COUNT = 'until read -r count </run/lab/count; do :; done; echo "$count"'
# Kills QEMU when this process dies without a word (SIGKILL): its standard input then ends without a line.
_KEEPER = 'read -r _ || { grep -q qemu "/proc/$1/comm" && kill -9 "$1"; }'


class RealGuest(Guest):
    """One QEMU guest. Times are seconds.

    ``options`` are the guest's ``lab.*`` kernel options without the prefix, see OPTIONS and guestfiles/init.
    ``uuid`` is the guest's product UUID (``smbios1`` in PVE). ``disks`` beyond the first are mounted at /data1, /data2,
    ... and nobody writes to them. ``from_saved_state=False`` boots the kernel; so do options, disks, a uuid or an
    accelerator that a saved state cannot have.

    Methods that ask QEMU or the guest raise OSError (TimeoutError among them) when it does not answer.
    """

    def __init__(
        self,
        vmid: int,
        run: Path,
        *,
        fs: Filesystem = "ext4",
        options: Mapping[str, str] | None = None,
        memory: int = 128,
        uuid: str | None = None,
        disks: int = 1,
        accel: str = "tcg",
        from_saved_state: bool = True,
    ) -> None:
        super().__init__(vmid, run, fs)
        self.options = dict(options or {})
        if unknown := set(self.options) - set(OPTIONS):
            raise ValueError(f"no such guest option: {', '.join(sorted(unknown))}; there are: {', '.join(OPTIONS)}")
        self.memory = memory
        self.uuid = uuid
        self.more_disks = {f"drive{number}": run / f"{vmid}-{number}.qcow2" for number in range(1, disks)}
        self.accel = accel
        self.from_saved_state = (
            from_saved_state
            and uuid is None
            and accel == "tcg"
            and not self.more_disks
            and not set(self.options) - set(KNOBS)
        )
        self.console = run / f"{vmid}.console"
        self._errors = run / f"{vmid}.err"
        self._process: subprocess.Popen[bytes] | None = None
        self._keeper: subprocess.Popen[bytes] | None = None
        self._control_lock = threading.Lock()
        self._tags = itertools.count(1)
        self._boots = 0
        self.boot_seconds = 0.0

    # -- life ---------------------------------------------------------------------------------------------------------

    @property
    def running(self) -> bool:
        """Whether QEMU lives (a guest that is paused, hung or stopped by a signal counts)."""
        return self._process is not None and self._process.poll() is None

    @property
    def pid(self) -> int:
        """QEMU's pid."""
        if self._process is None:
            raise RuntimeError(f"guest {self.vmid} was never started")
        return self._process.pid

    def start(self) -> None:
        """Start on a fresh disk; returns when the agent answers (or, with ``agent=0``, when the guest is up).

        Raises LabUnavailableError when guests cannot be built here, TimeoutError after BOOT_TIMEOUT_SECONDS.
        """
        if self.from_saved_state:
            saved = _saved_state(self.fs, self.memory)
            self._launch(saved / "disk.qcow2", saved / "state")
        else:
            self._launch(blank_disk(self.fs), None)

    def start_again(self) -> None:
        """Start after ``stop`` with the disk as it was left, as a guest does after a crash."""
        self._launch(None, None)

    def stop(self) -> None:
        """SIGKILL QEMU; does nothing when it is gone."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
        if self._keeper is not None:
            self._keeper.communicate(b"gone\n")
            self._keeper = None
        self.pid_file.unlink(missing_ok=True)

    def reset(self) -> None:
        boots = _content(self.console).count(_READY)
        with self._own_monitor() as monitor:
            monitor.execute("system_reset")
            monitor.wait_event("RESET")  # until then the agent of the old boot may answer
        self._boots = boots + 1

    def pause(self) -> None:
        with self._own_monitor() as monitor:
            monitor.execute("stop")

    def resume(self) -> None:
        with self._own_monitor() as monitor:
            monitor.execute("cont")

    def suspend_qemu(self) -> None:
        os.kill(self.pid, signal.SIGSTOP)

    def continue_qemu(self) -> None:
        os.kill(self.pid, signal.SIGCONT)

    # -- the guest's inside -------------------------------------------------------------------------------------------

    def control(self, line: str, timeout: float = 10.0) -> tuple[int, str]:
        """Run a shell line inside the guest, without the agent; returns its exit status and its output.

        A line that writes to /data of a frozen guest blocks the port until the thaw: append ``&`` to such a line.
        A guest that was just reset is waited for: what is sent to a port that nobody has opened is lost.
        Raises TimeoutError; the line may still run afterwards.
        """
        deadline = time.monotonic() + BOOT_TIMEOUT_SECONDS
        while _content(self.console).count(_READY) < self._boots:
            self._check_boot(deadline)
        tag = f"{time.monotonic_ns():x}.{next(self._tags)}"
        with self._control_lock:
            text = _converse(self.control_socket, tag, line, timeout)
        body, _, rest = text.partition(f"<begin {tag}>\n")[2].rpartition(f"<rc {tag} ")
        return int(rest.split(">")[0]), body.rstrip("\n")

    def shell(self, line: str, timeout: float = 10.0) -> str:
        """Like ``control``, for lines that must succeed. Raises RuntimeError with the output otherwise."""
        status, output = self.control(line, timeout)
        if status != 0:
            raise RuntimeError(f"guest {self.vmid}: `{line}` ended with {status}: {output}")
        return output

    def set_knob(self, name: str, value: float) -> None:
        if name not in KNOBS:
            raise ValueError(f"no such knob: {name}; there are: {', '.join(KNOBS)}")
        self.shell(f"echo {value} >/run/lab/{name}")

    def hook_log(self) -> HookLog:
        """As recorded by the agent's hook on the guest's monotonic clock."""
        lines = self.shell("cat /run/lab/hook.log").splitlines()
        return [(int(at) / _NANOSECONDS, event) for at, event in (line.split() for line in lines)]

    def counter(self) -> int:
        return int(self.shell(_READ_COUNT))

    def is_frozen(self, interval: float = 0.4) -> bool:
        """Whether writes to /data are held. The agent is not asked.

        Frozen: over ``interval`` and at least eight looks, each of which the guest itself answered, the writer
        stands in state D, its counter does not move, and QEMU sees neither a write nor a flush on the drive. Needs
        the writer (the default). Raises RuntimeError without one, TimeoutError when the guest does not answer.
        """
        look = f'cut -d" " -f3 "/proc/$(cat /run/lab/writer.pid)/stat" && {{ {_READ_COUNT}; }}'
        with self._own_monitor() as monitor:
            first: tuple[str, tuple[int, int]] | None = None
            deadline = time.monotonic() + interval
            looks = 0
            while looks < 8 or time.monotonic() < deadline:
                state, count = self.shell(look).split()
                now = (count, writes_seen(monitor, self.drive_node))
                if state != "D" or (first is not None and now != first):
                    return False
                first = now
                looks += 1
        return True

    def stop_agent(self) -> None:
        self.shell("kill -STOP $(cat /run/qga.pid)")

    def continue_agent(self) -> None:
        self.shell("kill -CONT $(cat /run/qga.pid)")

    def kill_agent(self) -> None:
        self.shell("kill -9 $(cat /run/qga.pid); rm -f /run/qemu-ga.pid")

    def start_agent(self, *, keep_state: bool = True) -> None:
        forget = "" if keep_state else "rm -f /run/qga.state.isfrozen; "
        self.shell(f"{forget}start_agent")
        self.wait_agent()

    def freeze_from_inside(self) -> None:
        self.shell("fsfreeze --freeze /data")

    def thaw_from_inside(self) -> None:
        self.shell("fsfreeze --unfreeze /data")

    # -- QEMU ---------------------------------------------------------------------------------------------------------

    def _own_monitor(self) -> QmpClient:
        return QmpClient(self.qmp_own)

    def _launch(self, disk: Path | None, state: Path | None) -> None:
        """Start QEMU on a copy of ``disk``, or on the disk as it is; from ``state``, or from the kernel."""
        if self.running:
            raise RuntimeError(f"guest {self.vmid} is running")
        began = time.monotonic()
        self.run.mkdir(parents=True, exist_ok=True)
        if disk is not None:
            for target in (self.disk, *self.more_disks.values()):
                shutil.copyfile(disk, target)
        self._boots = 0
        for path in (self.agent_socket, self.control_socket, *self._monitors(), self.console, self.pid_file):
            path.unlink(missing_ok=True)
        incoming = [] if state is None else ["-incoming", f"exec:cat {shlex.quote(str(state))}"]
        with self._errors.open("wb") as errors:
            self._process = subprocess.Popen(
                [*self.command(), *incoming], stdin=subprocess.DEVNULL, stdout=errors, stderr=errors
            )
        self._keeper = subprocess.Popen(["sh", "-c", _KEEPER, "keeper", str(self.pid)], stdin=subprocess.PIPE)
        try:
            deadline = began + BOOT_TIMEOUT_SECONDS
            if state is None:
                while _READY not in _content(self.console):
                    self._check_boot(deadline)
            if self.options.get("agent", "1") == "1":
                self.wait_agent(deadline - time.monotonic())
            self._settle()
        except BaseException:
            self.stop()
            raise
        self.boot_seconds = time.monotonic() - began

    def _monitors(self) -> tuple[Path, ...]:
        return (self.qmp_api, self.qmp_driver, self.qmp_tests, self.qmp_own)

    def command(self) -> list[str]:
        """QEMU's command line, without the saved state."""
        boot = image()
        words = ["console=ttyS0", "panic=0", "quiet", f"lab.fs={self.fs}"]
        words += [f"lab.disks={1 + len(self.more_disks)}"] if self.more_disks else []
        words += [f"lab.{name}={value}" for name, value in self.options.items()]
        accelerator = f"{self.accel},tb-size=32" if self.accel == "tcg" else self.accel
        return [
            packages.tool("qemu-system-x86_64"),
            *("-name", f"lab-{self.vmid}", "-accel", accelerator, "-M", "q35", "-m", str(self.memory), "-smp", "1"),
            *("-nodefaults", "-no-user-config", "-display", "none", "-pidfile", str(self.pid_file)),
            *("-kernel", str(boot.kernel), "-initrd", str(boot.initrd), "-append", " ".join(words)),
            *_drive(self.drive_node, self.disk, "virtio0"),
            *("-chardev", f"socket,path={self.agent_socket},server=on,wait=off,id=qga0", "-device", "virtio-serial"),
            *("-device", "virtserialport,chardev=qga0,name=org.qemu.guest_agent.0"),
            # Behind the first disk on the bus, so that the guest calls that one vda whatever follows.
            *(w for node, disk in self.more_disks.items() for w in _drive(node, disk, f"virtio{node[5:]}")),
            *("-chardev", f"socket,path={self.control_socket},server=on,wait=off,id=ctl0"),
            *("-serial", f"file:{self.console}", "-serial", "chardev:ctl0"),
            *itertools.chain.from_iterable(("-qmp", f"unix:{path},server=on,wait=off") for path in self._monitors()),
            *(("-uuid", self.uuid) if self.uuid else ()),
        ]

    def _settle(self) -> None:
        """What a saved state cannot know: the time, the hot knobs, the guest's own address."""
        lines = [f"date -u -s @{int(time.time())}"]
        lines += [f"echo {self.options.get(knob, '0')} >/run/lab/{knob}" for knob in KNOBS]
        lines += [f"ip addr flush dev dummy0; ip addr add 192.0.2.{self.vmid % 254 + 1}/24 dev dummy0"]
        self.shell("; ".join(lines), timeout=BOOT_TIMEOUT_SECONDS)

    def _last_words(self) -> str:
        errors = _content(self._errors).decode(errors="replace")
        console = _content(self.console)[-500:].decode(errors="replace")
        return f"QEMU says {errors!r}, the console ends {console!r}"


def _drive(node: str, disk: Path, device: str) -> tuple[str, ...]:
    drive = f"driver=qcow2,node-name={node},discard=unmap,file.driver=file,file.filename={disk}"
    return ("-blockdev", drive, "-device", f"virtio-blk-pci,drive={node},id={device}")


@functools.cache
def _saved_state(fs: Filesystem, memory: int) -> Path:
    """A folder with ``state`` (a migration stream) and ``disk.qcow2`` of a default guest that has just booted."""
    pattern = RealGuest(1, Path("/run"), fs=fs, memory=memory)
    version = packages.run("qemu-system-x86_64", "--version").splitlines()[0]
    inputs = (version, image().digest, blank_disk(fs).parent.name, pattern.command())
    key = hashlib.sha256(repr(inputs).encode()).hexdigest()[:16]
    target = packages.cache_dir() / "state" / f"{fs}-{memory}-{key}"
    with packages.locked(f"state-{fs}-{memory}"):
        if target.is_dir():
            os.utime(target)
        else:
            packages.forget_old(target.parent, f"{fs}-{memory}-*")  # 100 MB each
            with packages.building(target) as work, run_directory() as run:
                _save_state(RealGuest(1, run, fs=fs, memory=memory, from_saved_state=False), work)
    return target


def _save_state(guest: RealGuest, folder: Path) -> None:
    with guest, guest.monitor() as monitor:
        stream = shlex.quote(str(folder / "state"))
        monitor.execute("migrate", {"uri": f"exec:cat >{stream}"})
        deadline = time.monotonic() + BOOT_TIMEOUT_SECONDS
        while (status := monitor.execute("query-migrate")["status"]) != "completed":
            if status in ("failed", "cancelled") or time.monotonic() > deadline:
                raise packages.LabUnavailableError(f"QEMU could not save a guest's state: {status}")
            time.sleep(_POLL_SECONDS)
        # The migration has handed the disk over: nothing writes to it any more.
        shutil.copyfile(guest.disk, folder / "disk.qcow2")


def _converse(path: Path, tag: str, line: str, timeout: float) -> str:
    """Send a line and read until its status has come: guestfiles/control."""
    request = f"{tag} {line}\n"
    end = re.compile(rf"<rc {tag} \d+>\n")
    deadline = time.monotonic() + timeout
    text = ""
    with socket.socket(socket.AF_UNIX) as channel:
        channel.settimeout(timeout)
        channel.connect(str(path))
        channel.sendall(request.encode())
        while not end.search(text):
            left = deadline - time.monotonic()
            if left <= 0:
                raise TimeoutError(f"no end of {request.strip()!r} on the control port; so far: {text[-200:]!r}")
            channel.settimeout(left)
            data = channel.recv(65536)
            if not data:
                raise ConnectionError("the control port was closed")
            text += data.decode(errors="replace")
    return text


def _content(path: Path) -> bytes:
    with contextlib.suppress(FileNotFoundError):
        return path.read_bytes()
    return b""


def main(fs: Filesystem = "ext4") -> None:
    """Boot a guest, freeze it, thaw it, and print what the agent, QEMU and the guest itself say."""
    with run_directory() as run, RealGuest(100, run, fs=fs) as guest:
        how = "saved state" if guest.from_saved_state else "kernel"
        print(f"guest 100 ({fs}) answers after {guest.boot_seconds:.2f} s, from its {how}")
        print(f"agent {guest.ask('guest-info')['version']}, status {guest.ask('guest-fsfreeze-status')}")
        print(f"frozen from outside: {guest.is_frozen()}, counter {guest.counter()}")
        print(f"freeze: {guest.ask('guest-fsfreeze-freeze')} file system(s)")
        print(f"status {guest.ask('guest-fsfreeze-status')}, frozen from outside: {guest.is_frozen()}")
        print(f"thaw: {guest.ask('guest-fsfreeze-thaw')} file system(s)")
        print(f"status {guest.ask('guest-fsfreeze-status')}, frozen from outside: {guest.is_frozen()}")
        print(f"window by the guest's own record: {guest.windows()[0]:.3f} s, counter {guest.counter()}")


if __name__ == "__main__":
    wanted = sys.argv[1] if len(sys.argv) > 1 else "ext4"
    if wanted not in FILESYSTEMS:
        sys.exit(f"usage: python -m tests.lab.guest.real [{'|'.join(FILESYSTEMS)}]")
    main("xfs" if wanted == "xfs" else "ext4")
