"""A Debian machine with systemd that runs our commands, against a lab node on this one.

The guest of tests/guest/deadman (debootstrap, the lab's control port) with Python and our libraries in Debian's own
versions, our packages, the units of contrib/systemd, and a network card: the lab's node is the machine ``pve1`` there.
"""

from __future__ import annotations

import subprocess
import tempfile
from pathlib import Path

from tests.guest import debian
from tests.lab.site import Site
from tests.process.figures import note

_REPOSITORY = Path(__file__).resolve().parents[2]
_PACKAGES = (
    "iproute2",
    "python3",
    "python3-click",
    "python3-prometheus-client",
    "python3-proxmoxer",
    "python3-requests",
    "python3-tenacity",
)
_MEMORY_MIB = 768
IDLE_SECONDS = 3600.0
"""pveproxy's limit for a connection that nobody uses, in seconds of this machine: those in there may be much longer."""
# QEMU's user-mode network: the host's loopback is 10.0.2.2 in there.
_HOST = "10.0.2.2"
_NETWORK = f"""[Unit]
Before=network-online.target
[Service]
Type=oneshot
ExecStart=/bin/sh -c 'dev=$(ls /sys/class/net | grep -v lo | head -n 1); ip addr add 10.0.2.15/24 dev $dev; \
ip link set $dev up; ip route add default via {_HOST}; ip link set lo up'
RemainAfterExit=yes
[Install]
WantedBy=network-online.target
"""
_ENTRY = "#!/usr/bin/python3\nimport sys\nfrom {module} import main\nsys.exit(main())\n"


class SystemdMachine(debian.DebianGuest):
    """Runs our commands under a real systemd. It is no guest of the lab's node: only its control port is used."""

    def __init__(self, vmid: int, run: Path, *, has_own_clock: bool = True) -> None:
        super().__init__(vmid, run, has_own_clock=has_own_clock)
        self.memory = _MEMORY_MIB

    def image(self) -> Path:
        return debian.built(_PACKAGES)

    def command(self) -> list[str]:
        return [*super().command(), "-netdev", "user,id=net0", "-device", "virtio-net-pci,netdev=net0"]

    def _settle(self) -> None:
        super()._settle()
        self.shell("kill $(cat /run/lab/writer.pid)")  # nobody looks at its disk, and it keeps a busy machine busier

    def thaws_within(self, bound: float, lab: Site, since: float, name: str) -> None:
        """Wait until no guest is frozen, and hold how long after ``since`` (clock) that was against ``bound``."""
        assert debian.reached(lambda: not any(guest.is_frozen() for guest in lab.guests.values()))
        seconds = self.clock() - since
        note(bound, seconds, f"systemd: {name}, by an emulated machine's clock")
        assert seconds <= bound, f"{name}: frozen for {seconds:.2f} s"

    def install(self, lab: Site) -> None:
        """Our packages as they are now, the units, and a configuration for the site's node."""
        with tempfile.TemporaryDirectory() as folder:
            archive = Path(folder) / "ours.tar.gz"
            _archive(lab, Path(folder) / "tree", archive)
            self.copy_in(archive, "/root/ours.tar.gz")
        self.shell("tar -xzf /root/ours.tar.gz -C / --no-same-owner")
        self.shell(f"grep -q pve1 /etc/hosts || echo {_HOST} pve1 >>/etc/hosts")
        self.shell("systemctl daemon-reload; systemctl enable --now lab-network")


def _archive(lab: Site, tree: Path, archive: Path) -> None:
    etc, units, library = tree / "etc/vzdump-hooks", tree / "etc/systemd/system", tree / "usr/lib/python3/dist-packages"
    for folder in (etc, units, library, tree / "usr/bin"):
        folder.mkdir(parents=True)
    for package in ("snapshot", "vzdump_hooks"):
        subprocess.run(["cp", "-a", _REPOSITORY / package, library], check=True)
    subprocess.run(["find", tree, "-name", "__pycache__", "-prune", "-exec", "rm", "-rf", "{}", "+"], check=True)
    (units / "lab-network.service").write_text(_NETWORK)
    for unit in (_REPOSITORY / "contrib/systemd").rglob("*.*er*"):
        (units / unit.name).write_text(unit.read_text())
    _script(tree / "usr/bin/safe-snapshot", _ENTRY.format(module="snapshot.entry"))
    (etc / "token").write_text(lab.node.token_file.read_text())
    (etc / "token").chmod(0o600)
    (etc / "ca.pem").write_bytes(lab.node.ca_file.read_bytes())
    (etc / "config.toml").write_text(
        f'[api]\nhost = "pve1"\nport = {lab.node.port}\nca_file = "/etc/vzdump-hooks/ca.pem"\n'
        '[local]\nnode = ""\n'
        # An emulated machine takes its time, and no deadline is to thaw what somebody's death should.
        "[guard]\narm_timeout_seconds = 300\n[freeze]\nfreeze_timeout_seconds = 900\nmax_window_seconds = 900\n"
    )
    (tree / "usr/lib/python3/dist-packages/vzdump_hooks-0.dist-info").mkdir()
    (tree / "usr/lib/python3/dist-packages/vzdump_hooks-0.dist-info/METADATA").write_text(
        "Metadata-Version: 2.1\nName: vzdump-hooks\nVersion: 0\n"
    )
    subprocess.run(["tar", "-czf", archive, "-C", tree, "."], check=True)


def _script(path: Path, text: str) -> None:
    path.write_text(text)
    path.chmod(0o755)
