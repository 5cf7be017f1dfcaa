"""How vzdump called us: argv and the emptied environment, parsed once; and what a phase is handed of it. Pure.

vzdump (PVE/VZDump.pm, run_hook_script) passes ``<phase>`` in job phases and ``<phase> <mode> <vmid>`` in guest phases,
and of the environment only what stands in the fields below. Everything here is foreign text.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from enum import Enum
from types import MappingProxyType
from typing import NamedTuple


class Phase(Enum):
    """vzdump's eleven phases."""

    JOB_INIT = "job-init"
    JOB_START = "job-start"
    BACKUP_START = "backup-start"
    PRE_STOP = "pre-stop"
    PRE_RESTART = "pre-restart"
    POST_RESTART = "post-restart"
    BACKUP_END = "backup-end"
    BACKUP_ABORT = "backup-abort"
    LOG_END = "log-end"
    JOB_END = "job-end"
    JOB_ABORT = "job-abort"


class Mode(Enum):
    """vzdump's modes; ``stop`` is also what a guest that is not running gets."""

    SNAPSHOT = "snapshot"
    SUSPEND = "suspend"
    STOP = "stop"


JOB_PHASES = frozenset({Phase.JOB_INIT, Phase.JOB_START, Phase.JOB_END, Phase.JOB_ABORT})


class InvocationError(ValueError):
    """vzdump never calls like this. The text is the operator's."""


class UnknownPhaseError(InvocationError):
    """A phase that this version does not know; PVE may add one. To be logged and ignored."""


class Invocation(NamedTuple):
    """One call. ``vmid`` and ``mode`` are None in job phases; absent environment variables are ""."""

    phase: Phase
    mode: Mode | None = None
    vmid: int | None = None
    vm_type: str = ""
    host_name: str = ""
    target: str = ""
    store_id: str = ""
    dump_dir: str = ""
    log_file: str = ""

    @property
    def is_qemu(self) -> bool:
        """Whether the guest is a virtual machine."""
        return self.vm_type == "qemu"

    @property
    def guest_name(self) -> str:
        """The guest's name, fit to be stored and printed."""
        return "".join(c for c in self.host_name if c.isprintable())[:80]

    @property
    def freezes(self) -> bool:
        """Whether vzdump may freeze in the archive that follows this call's phase: running QEMU, snapshot mode."""
        return self.is_qemu and self.mode is Mode.SNAPSHOT


Say = Callable[[str], None]
"""Prints one line for the operator."""


class Call(NamedTuple):
    """What a phase's ``run`` is handed. ``config_path``: what ``--config`` named, None for the file's usual place."""

    invocation: Invocation
    config_path: str | None
    say: Say
    environment: Mapping[str, str] = MappingProxyType({})
    """All of vzdump's, for the administrator's own commands."""
    commands: str = ""
    """The folder of those, "" where there are none."""


VARIABLES = {
    "vm_type": "VMTYPE",
    "host_name": "HOSTNAME",
    "target": "TARGET",
    "store_id": "STOREID",
    "dump_dir": "DUMPDIR",
    "log_file": "LOGFILE",
}
LONGEST_VALUE = 4096


def parse(arguments: Sequence[str], environment: Mapping[str, str]) -> Invocation:
    """The call in ``arguments`` (without the program) and ``environment``.

    Raises UnknownPhaseError, or InvocationError for anything that is not vzdump's form.
    """
    if not arguments:
        raise InvocationError("vzdump calls this program with a phase; see vzdump-hook --help")
    try:
        phase = Phase(arguments[0])
    except ValueError:
        raise UnknownPhaseError(f"phase {_shown(arguments[0])} is not known to this version") from None
    values = {name: environment.get(variable, "")[:LONGEST_VALUE] for name, variable in VARIABLES.items()}
    if phase in JOB_PHASES:
        return Invocation(phase, None, None, **values)
    if len(arguments) < 3:
        raise InvocationError(f"phase {phase.value} comes with a mode and a vmid")
    try:
        mode = Mode(arguments[1])
    except ValueError:
        raise InvocationError(f"{_shown(arguments[1])} is not a mode of vzdump's") from None
    vmid = arguments[2]
    if not (vmid.isascii() and vmid.isdigit() and len(vmid) <= 9 and int(vmid) >= 100):
        raise InvocationError(f"{_shown(vmid)} is not a vmid")
    return Invocation(phase, mode, int(vmid), **values)


def _shown(text: str) -> str:
    return ascii(text[:40])
