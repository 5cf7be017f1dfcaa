"""A SystemdMachine as the guest's own node: it has the agent's socket, which leads to the real guest on this machine.

The relay in the machine serves one client at a time and leaves the others in its queue, as QEMU does. But PVE's calls
come from this machine: who sat on the relay could not see them wait. So the kernel there does not tell who waits, and
nobody keeps the seat.
"""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

from tests.lab.site import Site
from tests.process.debian import SystemdMachine

_RELAY = """
import os, select, socket, sys
path = "/run/qemu-server/100.qga"
os.makedirs("/run/qemu-server", exist_ok=True)
if os.path.exists(path):
    os.unlink(path)
listener = socket.socket(socket.AF_UNIX)
listener.bind(path)
listener.listen(1)
while True:
    client, _ = listener.accept()
    with client, socket.create_connection(("10.0.2.2", int(sys.argv[1]))) as agent:
        open_ends = True
        while open_ends:
            for end in select.select([client, agent], [], [])[0]:
                try:
                    data = end.recv(65536)
                    (agent if end is client else client).sendall(data)
                except OSError:
                    data = b""
                open_ends = open_ends and data != b""
"""
_SENDMAIL = "#!/bin/sh\ncat >>/root/mail\n"


def install(lab: Site, machine: SystemdMachine, port: int) -> None:
    """Our packages, the units, and a configuration of a node with mail and metrics; the agent's socket by a relay."""
    machine.install(lab)
    write(machine, "/opt/relay.py", _RELAY)
    write(machine, "/usr/sbin/sendmail", _SENDMAIL)
    machine.shell("mkdir -p /var/lib/prometheus/node-exporter; rm -f /root/mail; chmod 755 /usr/sbin/sendmail")
    machine.shell(
        "systemctl stop lab-agent 2>/dev/null; systemctl reset-failed; "
        f"systemd-run --quiet --collect --unit=lab-agent python3 /opt/relay.py {port}",
        timeout=60,
    )
    machine.shell("echo 'install unix_diag /bin/false' >/etc/modprobe.d/lab.conf; rmmod unix_diag 2>/dev/null; true")
    machine.shell("until [ -S /run/qemu-server/100.qga ]; do sleep 0.2; done", timeout=60)
    configure(machine)


def configure(machine: SystemdMachine, **changed: str) -> None:
    """A node's configuration; ``changed``: other values of the keys that stand here."""
    keys = {
        "socket_folder": "/run/qemu-server",
        "textfile": "/var/lib/prometheus/node-exporter/vzdump_hooks.prom",
        "sendmail": "/usr/sbin/sendmail",
        **changed,
    }
    port = machine.shell("sed -n 's/^port = //p' /etc/vzdump-hooks/config.toml | head -n 1")
    text = f"""[api]
host = "pve1"
port = {port}
ca_file = "/etc/vzdump-hooks/ca.pem"
[local]
node = "pve1"
socket_folder = "{keys["socket_folder"]}"
[guard]
arm_timeout_seconds = 90
[metrics]
textfile = "{keys["textfile"]}"
[notify]
mail_to = "root"
sendmail = "{keys["sendmail"]}"
"""
    write(machine, "/etc/vzdump-hooks/config.toml", text)


def write(machine: SystemdMachine, path: str, text: str) -> None:
    """A small text file in the machine."""
    local = machine.run / "to-copy"
    local.write_text(text)
    machine.copy_in(local, path)


@contextlib.contextmanager
def agent_port(agent_socket: Path) -> Iterator[int]:
    """A TCP port of this machine that leads to a guest's agent socket."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=_serve, args=(listener, agent_socket), daemon=True)
        thread.start()
        yield listener.getsockname()[1]
        listener.shutdown(socket.SHUT_RDWR)
    thread.join()


def _serve(listener: socket.socket, path: Path) -> None:
    while True:
        try:
            client, _ = listener.accept()
        except OSError:
            return
        threading.Thread(target=_relay, args=(client, path), daemon=True).start()


def _relay(client: socket.socket, path: Path) -> None:
    """Until either end hangs up."""
    with client, socket.socket(socket.AF_UNIX) as agent:
        agent.connect(str(path))
        back = threading.Thread(target=_copy, args=(agent, client), daemon=True)
        back.start()
        _copy(client, agent)
        back.join()


def _copy(source: socket.socket, target: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(65536):
            target.sendall(data)
    for end in (source, target):
        with contextlib.suppress(OSError):
            end.shutdown(socket.SHUT_RDWR)
