"""A Debian machine with systemd that runs our commands, against a lab node on this one.

The guest of tests/guest/deadman (debootstrap, the lab's control port) with Python and our libraries in Debian's own
versions, our packages, the units of contrib/systemd, and a network card: the lab's node is the machine ``pve1`` there.
"""

from __future__ import annotations

import subprocess
import tempfile
from pathlib import Path

from tests.guest import debian
from tests.lab.guest.base import BOOT_TIMEOUT_SECONDS
from tests.lab.site import Site

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
# A whole system under emulation, beside other tests.
_MORE_BOOT_SECONDS = 240.0
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

    def __init__(self, vmid: int, run: Path) -> None:
        super().__init__(vmid, run)
        self.memory = _MEMORY_MIB

    def start(self) -> None:
        self._launch(_image() / "disk.qcow2", None)

    def command(self) -> list[str]:
        words = super().command()
        for option, file in (("-kernel", "vmlinuz"), ("-initrd", "initrd")):
            words[words.index(option) + 1] = str(_image() / file)
        return [*words, "-netdev", "user,id=net0", "-device", "virtio-net-pci,netdev=net0"]

    def _check_boot(self, deadline: float) -> None:
        super()._check_boot(deadline + _MORE_BOOT_SECONDS)

    def install(self, lab: Site) -> None:
        """Our packages as they are now, the units, and a configuration for the site's node."""
        with tempfile.TemporaryDirectory() as folder:
            archive = Path(folder) / "ours.tar.gz"
            _archive(lab, Path(folder) / "tree", archive)
            self.copy_in(archive, "/root/ours.tar.gz")
        self.shell("tar -xzf /root/ours.tar.gz -C / --no-same-owner", timeout=120)
        self.shell(f"grep -q pve1 /etc/hosts || echo {_HOST} pve1 >>/etc/hosts")
        self.shell("systemctl daemon-reload; systemctl enable --now lab-network", timeout=120)

    def _settle(self) -> None:
        self.shell("systemctl is-active network-online.target || true", timeout=BOOT_TIMEOUT_SECONDS)


def _image() -> Path:
    return debian.built(_PACKAGES)


def _archive(lab: Site, tree: Path, archive: Path) -> None:
    etc, units, library = tree / "etc/vzdump-hooks", tree / "etc/systemd/system", tree / "usr/lib/python3/dist-packages"
    for folder in (etc, units, library, tree / "usr/bin"):
        folder.mkdir(parents=True)
    for package in ("snapshot", "vzdump_hooks"):
        subprocess.run(["cp", "-R", _REPOSITORY / package, library], check=True)
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
        # An emulated machine takes its time to start Python.
        "[guard]\narm_timeout_seconds = 90\n[freeze]\nfreeze_timeout_seconds = 20\nmax_window_seconds = 25\n"
    )
    (tree / "usr/lib/python3/dist-packages/vzdump_hooks-0.dist-info").mkdir()
    (tree / "usr/lib/python3/dist-packages/vzdump_hooks-0.dist-info/METADATA").write_text(
        "Metadata-Version: 2.1\nName: vzdump-hooks\nVersion: 0\n"
    )
    subprocess.run(["tar", "-czf", archive, "-C", tree, "."], check=True)


def _script(path: Path, text: str) -> None:
    path.write_text(text)
    path.chmod(0o755)
