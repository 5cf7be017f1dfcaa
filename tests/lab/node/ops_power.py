"""API methods that switch a guest on and off: its owner does it, behind ``lab/power`` (tests.lab.vzdump.power)."""

from __future__ import annotations

from typing import Any

from tests.lab.node.errors import Die
from tests.lab.node.host import Host
from tests.lab.node.ops import Caller, is_true, operation
from tests.lab.node.tasks import fork_worker
from tests.lab.vzdump.power import ask_power

STATUS = "/nodes/{node}/qemu/{vmid}/status"
SWITCHES = ("start", "stop", "shutdown", "reset")


def _switch(verb: str) -> None:
    @operation("POST", f"{STATUS}/{verb}")
    def call(host: Host, values: dict[str, Any], caller: Caller) -> str:
        node, vmid = values["node"], int(values["vmid"])
        caller.need(f"/vms/{vmid}", "VM.PowerMgmt")
        host.load(node, "qemu", vmid)

        def body() -> int:
            if not is_true(values.get("skiplock", 0)):
                host.load(node, "qemu", vmid).check_lock()
            _do(host, verb, vmid)
            return 0

        return str(fork_worker(host.tasks, node, f"qm{verb}", str(vmid), caller.user, body))


for _verb in SWITCHES:
    _switch(_verb)


def _do(host: Host, verb: str, vmid: int) -> None:
    running = bool(host.pid(vmid))
    if verb == "start" and running:
        raise Die(f"VM {vmid} already running")
    if verb in ("shutdown", "reset") and not running:
        raise Die(f"VM {vmid} not running")
    if verb == "reset":
        host.mon(vmid, "system_reset")
    elif running or verb == "start":
        try:
            ask_power(host.root / "lab" / "power", "start" if verb == "start" else "shutdown", vmid)
        except OSError as error:
            raise Die(f"nobody here can switch VM {vmid}: {error.strerror or error}") from None
