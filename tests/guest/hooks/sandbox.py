"""The hooks on this machine, with a pretended guest around them: an agent, servers that are processes, a clock that is
real. Nothing is frozen here; real databases are in test_databases.py.
"""

from __future__ import annotations

import shutil
import socket
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

from tests.guest.sandbox import Sandbox
from tests.lab.site import wait_for

HOOKS = Path(__file__).parents[3] / "contrib/guest/hooks"
BOOT = "01234567-89ab-cdef-0123-456789abcdef"
# The agent: calls the hook with each line of its input, and says with which status it ended.
_AGENT = '#!/bin/sh\nwhile read -r word; do {hook} "$word" </dev/null >/dev/null 2>&1; echo "$?"; done\n'
# Everything lies on a disk, but for what asks for a kind of filesystem.
_STAT = (
    '#!/bin/sh\ncase "$*" in "-f -c %T {memory}"*) exec {stat} "$@" ;; "-f "*) echo ext4 ;; "-c %d "*) echo {device} ;;'
)
_STAT += ' *) exec {stat} "$@" ;; esac\n'
_PSQL = '#!/bin/sh\necho "$@" >>{log}\n[ ! -e {root}/psql.hangs ] || sleep 60\n'
_PSQL += "[ ! -e {root}/psql.fails ] || {{ echo no; exit 2; }}\necho {data}\n"


@dataclass
class HooksGuest(Sandbox):
    """A pretended guest with the hooks, and servers for them."""

    settings: dict[str, str] = field(default_factory=dict)
    device: int = 0x801
    _processes: list[subprocess.Popen[str]] = field(default_factory=list)
    _sockets: list[socket.socket] = field(default_factory=list)

    @property
    def home(self) -> Path:
        return self.memory / "fsfreeze-hooks"

    @property
    def hook(self) -> Path:
        return self.root / "hooks/fsfreeze-hooks"

    def build(self) -> None:
        super().build()
        shutil.copytree(HOOKS, self.root / "hooks")
        for script in (self.hook, *(self.root / "hooks/hooks.d").iterdir()):
            script.write_text(script.read_text().replace("#!/bin/sh", f"#!{self.bin}/sh", 1))
        # busybox's shell takes these for its own, whatever the PATH has.
        for script, word in (
            ("hook-lib", "stat -c %d"),
            ("fsfreeze-hooks", "stat -f"),
            ("hooks.d/10-pre-sync", "sync &"),
        ):
            path = self.root / "hooks" / script
            path.write_text(path.read_text().replace(word, f"{self.bin}/{word}"))
        (self.root / "data/pg_wal").mkdir(parents=True)
        (self.root / "proc").mkdir()
        (self.root / "boot_id").write_text(BOOT + "\n")
        (self.root / "mountinfo").write_text("1 0 8:1 / / rw - ext4 /dev/sda1 rw\n")
        self.program("qemu-ga", _AGENT.format(hook=self.hook))
        self.on_device(self.device)
        self.program(
            "sync", f"#!/bin/sh\necho sync >>{self.root}/calls\n[ ! -e {self.root}/sync.hangs ] || exec sleep 60\n"
        )
        self.program("psql", _PSQL.format(log=self.root / "calls", root=self.root, data=self.root / "data"))
        self.program("runuser", '#!/bin/sh\nshift 3\nexec "$@"\n')
        self.program("mariadb", f"#!{sys.executable}\n" + (Path(__file__).with_name("stubmariadb.py")).read_text())

    def on_device(self, device: int) -> None:
        """Let everything lie on the filesystem with this number."""
        self.program("stat", _STAT.format(memory=self.memory, stat=shutil.which("stat"), device=device))

    def own_hook(self, name: str, text: str) -> Path:
        """A further hook."""
        path = self.root / "hooks/hooks.d" / name
        path.write_text(f"#!{self.bin}/sh\n{text}\n")
        path.chmod(0o755)
        return path

    def environment(self) -> dict[str, str]:
        return {
            **super().environment(),
            "HOOKS_CONFIG": str(self.root / "config"),
            "HOOKS_HOME": str(self.home),
            "HOOKS_KMSG": str(self.root / "kmsg"),
            "HOOKS_BOOT_ID": str(self.root / "boot_id"),
            "HOOKS_PROC": str(self.root / "proc"),
            "HOOKS_MOUNTINFO": str(self.root / "mountinfo"),
        }

    def _configure(self) -> None:
        places = {"POSTGRESQL_SOCKETS": f"{self.root}/pg", "MARIADB_SOCKETS": f"{self.root}/mysqld.sock"}
        text = "".join(f"{key}={value}\n" for key, value in (places | {"POSTGRESQL_USER": ""} | self.settings).items())
        (self.root / "config").write_text(text)
        (self.root / "config").chmod(0o600)

    def agent(self) -> Agent:
        """A new agent."""
        self._configure()
        process = self._start([str(self.bin / "qemu-ga")], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        return Agent(process)

    def call(self, word: str) -> subprocess.CompletedProcess[str]:
        """The hook, by hand."""
        self._configure()
        return subprocess.run(
            [self.hook, word],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=60,
            env=self.environment(),
            check=False,
        )

    def mariadb(self, **environment: str) -> subprocess.Popen[str]:
        """A server, which runs when this returns."""
        path, log = self.root / "mysqld.sock", self.root / "locks"
        path.unlink(missing_ok=True)
        words = [sys.executable, str(Path(__file__).with_name("stubmariadb.py")), str(path), str(log)]
        process = self._start(words, env=self.environment() | {"STUB_DATA": str(self.root / "data")} | environment)
        assert wait_for(path.exists)
        self.seen(process.pid)
        return process

    def postgresql(self) -> subprocess.Popen[str]:
        """A server that can be asked through the pretended psql."""
        folder = self.root / "pg"
        folder.mkdir(exist_ok=True)
        program = self.program("postgres", "#!/bin/sh\nwhile :; do sleep 1; done\n")
        process = self._start([str(program)])
        listener = socket.socket(socket.AF_UNIX)
        (folder / ".s.PGSQL.5432").unlink(missing_ok=True)
        listener.bind(str(folder / ".s.PGSQL.5432"))
        self._sockets.append(listener)
        (folder / ".s.PGSQL.5432.lock").write_text(f"{process.pid}\n{self.root}/data\n")
        assert wait_for(lambda: Path(f"/proc/{process.pid}/comm").read_text() == "postgres\n")
        self.seen(process.pid)
        return process

    def seen(self, pid: int) -> None:
        """Let the hooks find this process when they look for servers."""
        (self.root / "proc" / str(pid)).symlink_to(f"/proc/{pid}")

    def _start(self, words: list[str], **options: object) -> subprocess.Popen[str]:
        options.setdefault("env", self.environment())
        options.setdefault("stdin", subprocess.DEVNULL)
        process = subprocess.Popen(words, text=True, bufsize=1, **options)  # type: ignore[call-overload]
        self._processes.append(process)
        return process  # type: ignore[no-any-return]

    def evidence(self) -> str:
        return self.text(self.home / "evidence")

    def calls(self) -> list[str]:
        return self.text(self.root / "calls").splitlines()

    def locks(self) -> list[tuple[float, str]]:
        """When the server's lock was taken and let go."""
        lines = self.text(self.root / "locks").splitlines()
        return [(float(line.split(" ", 1)[0]), line.split(" ", 1)[1]) for line in lines]

    def is_locked(self) -> bool:
        return bool(self.locks()) and self.locks()[-1][1] != "released"

    def is_let_go(self, seconds: float = 20.0) -> bool:
        """Whether the lock was taken, and ends."""
        return bool(self.locks()) and wait_for(lambda: not self.is_locked(), seconds)

    def stop(self) -> None:
        for listener in self._sockets:
            listener.close()
        for process in self._processes:
            process.kill()
            process.wait()
            for stream in (process.stdin, process.stdout):
                if stream is not None:
                    stream.close()
        super().stop()


@dataclass
class Agent:
    """The pretended agent."""

    process: subprocess.Popen[str]

    def say(self, word: str) -> None:
        """Begin to call the hook."""
        assert self.process.stdin is not None
        self.process.stdin.write(word + "\n")

    def answer(self) -> int:
        """The hook's exit status."""
        assert self.process.stdout is not None
        return int(self.process.stdout.readline())

    def call(self, word: str) -> int:
        self.say(word)
        return self.answer()

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()
