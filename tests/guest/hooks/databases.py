"""A Debian guest with PostgreSQL and MariaDB under load, whose hooks are installed as an administrator would; and the
check of a copy of its disk, in which its own servers are started on this machine, without a network.

Built once with debootstrap (root and a Debian mirror needed; some minutes), kept in the lab's cache. The guest is
emulated, the checks run at this machine's own speed.
"""

from __future__ import annotations

import io
import tarfile
import tempfile
from pathlib import Path
from typing import NamedTuple

from tests.guest import debian
from tests.guest.hooks.sandbox import HOOKS
from tests.lab import packages

GUEST_FILES = Path(__file__).with_name("guestfiles")
_PACKAGES = ("postgresql", "mariadb-server")
_COMMANDS = ("runuser -u postgres -- /usr/lib/postgresql/*/bin/pg_checksums --enable -D /var/lib/postgresql/*/main",)
_DISK_MIB = 2500
_MEMORY_MIB = 768
_SLOW_SECONDS = 900.0
_SEALED_OFF = ("unshare", "--net", "--ipc", "--mount", "--pid", "--fork", "--kill-child")


class DatabaseGuest(debian.DebianGuest):
    """Debian with both servers."""

    def __init__(self, vmid: int, run: Path) -> None:
        super().__init__(vmid, run)
        self.memory = _MEMORY_MIB

    def image(self) -> Path:
        return image()

    def shell(self, line: str, timeout: float = _SLOW_SECONDS) -> str:
        """With an emulated machine's patience."""
        return super().shell(line, timeout)

    def _settle(self) -> None:
        self.shell("echo 30 >/run/lab/period")

    def copy_tree(self, source: Path, target: str) -> None:
        """A folder from this machine into the guest."""
        data = io.BytesIO()
        with tarfile.open(fileobj=data, mode="w:gz") as tar:
            tar.add(source, arcname=".")
        with tempfile.NamedTemporaryFile() as file:
            file.write(data.getvalue())
            file.flush()
            self.copy_in(Path(file.name), "/root/tree.tar.gz")
        self.shell(f"mkdir -p {target} && tar -xzf /root/tree.tar.gz -C {target} --no-same-owner")

    def install(self) -> str:
        """The dead-man and the hooks, by the installer; a slow machine's limits. Returns what the installer said."""
        self.copy_tree(HOOKS.parent, "/root/guest")
        self.copy_tree(GUEST_FILES, "/opt/lab")
        self.configure()
        self.wait_for_servers()
        said = self.shell("sh /root/guest/install.sh --hooks --no-restart --limit 200")
        self.restart_agent()
        return said

    def wait_for_servers(self) -> None:
        """Until both let somebody in."""
        self.shell("until systemctl is-active mariadb postgresql@15-main; do sleep 1; done")

    def restart_agent(self) -> None:
        """Returns when it answers again."""
        self.shell("systemctl restart qemu-guest-agent")
        self.wait_agent(_SLOW_SECONDS)

    def log(self) -> str:
        """What the hooks have said last."""
        return self.shell("dmesg | grep fsfreeze | tail -n 5")

    def run_load(self) -> None:
        """Start guestfiles/load, which is started again whenever it ends."""
        self.shell("systemd-run --quiet --unit=load --property=Restart=always bash /opt/lab/load")

    def restart_mariadb(self) -> None:
        """After it was killed."""
        self.shell("systemctl restart mariadb; systemctl restart load")

    def configure(self, **more: str) -> None:
        """The hooks' configuration."""
        settings = {"TOTAL_SECONDS": "80", "HOOK_SECONDS": "60", "THAW_SECONDS": "60", "LOCK_SECONDS": "100"} | more
        text = "".join(f"{key}={value}\\n" for key, value in settings.items())
        self.shell(f"printf '{text}' >/etc/fsfreeze-hooks.conf && chmod 600 /etc/fsfreeze-hooks.conf")

    def begin_load(self) -> None:
        """Start to write, and return when both servers have rows."""
        self.run_load()
        self.wait_for_rows()

    def wait_for_rows(self) -> None:
        """Until both servers have committed more than they have now."""
        count = "SELECT COALESCE(MAX(n), 0) FROM"
        maria = f'mariadb -BN -e "{count} lab.rows" 2>/dev/null'
        postgres = f'cd /; runuser -u postgres -- psql -XAtqc "{count} rows" 2>/dev/null'
        for ask in (maria, postgres):
            self.shell(f"now=$({ask}); until new=$({ask}) && [ ${{new:-0}} -gt ${{now:-0}} ]; do sleep 0.2; done")

    def mark(self, name: str) -> str:
        """A committed row in both; returns where PostgreSQL's log stood then."""
        return self.shell(f"/opt/lab/mark {name}").splitlines()[-1]


def check(disk: Path, snapshot: str) -> dict[str, str]:
    """What the servers find in the snapshot of ``disk``, which may be in use: guestfiles/check-copy."""
    with tempfile.TemporaryDirectory(prefix="copy-") as folder:
        copy, mount = Path(folder) / "copy.raw", Path(folder) / "mnt"
        mount.mkdir()
        packages.run(
            "qemu-img", "convert", "-U", "-f", "qcow2", "-O", "raw", "-l", f"snapshot.name={snapshot}", disk, copy
        )
        text = packages.run(*_SEALED_OFF, "bash", GUEST_FILES / "check-copy", copy, mount)
    return dict(line.partition("=")[::2] for line in text.splitlines() if "=" in line)


class Copy(NamedTuple):
    """What is to be true of a copy: ``log`` is where PostgreSQL's log stood when the last mark in it was made."""

    found: dict[str, str]
    marks: tuple[str, ...]
    log: str

    def wrong(self) -> list[str]:
        """What makes it no good copy: a server that does not start or finds damage, a mark too few or too many."""
        expected = {
            "mariadb_marks": ",".join(sorted(self.marks)),
            "postgresql_marks": ",".join(self.marks),
            **dict.fromkeys(("mariadb_rows",), "1"),
            "postgresql_rows": "t",
            **dict.fromkeys(("mariadb_end", "postgresql_start"), "0"),
            **dict.fromkeys(("mariadb_check", "postgresql_amcheck", "postgresql_dump"), "0 "),
        }
        wrong = [f"{key}: {self.found.get(key)!r}" for key, value in expected.items() if self.found.get(key) != value]
        checksums = self.found.get("postgresql_checksums", "")
        return wrong if checksums.split()[:1] == ["0"] else [*wrong, f"postgresql_checksums: {checksums!r}"]

    def unprepared(self) -> list[str]:
        """Which servers were not made ready for the freeze, by what stands on the disk alone: a table without
        transactions that was in use, a log that has to be read from before the last mark.
        """
        found = []
        if "Table is already up to date" not in self.found.get("mariadb_plain", ""):
            found.append("mariadb")
        if _position(self.found.get("redo", "0/0")) < _position(self.log):
            found.append("postgresql")
        return found


def _position(text: str) -> int:
    """A place in PostgreSQL's log."""
    high, _, low = text.partition("/")
    return (int(high, 16) << 32) + int(low, 16)


def image() -> Path:
    """See debian.built."""
    return debian.built(_PACKAGES, mib=_DISK_MIB, commands=_COMMANDS)
