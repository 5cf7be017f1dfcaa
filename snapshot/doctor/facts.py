"""All that was gathered about an installation, and what one probe makes of it. Pure."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

from snapshot.config.settings import Config
from snapshot.doctor.cluster import SEE_API, Asked, Cluster
from snapshot.doctor.findings import Finding, not_known
from snapshot.doctor.machine import MachineFacts
from snapshot.doctor.past import Past
from snapshot.errors import ConfigError


class Facts(NamedTuple):
    """What the probes go by."""

    config: Config
    config_path: Path
    has_config: bool
    """Whether there is such a file."""
    refused: tuple[str, ...]
    """Lines about own commands that are not run."""
    strangers: tuple[str, ...]
    """Lines about folders that others may write to."""
    cluster: Cluster
    machine: MachineFacts
    past: Past
    now: float
    problems: tuple[str, ...] = ()
    """What is wrong with the configuration."""
    node: str = ""
    """This machine's name as a node; empty: it is none."""
    is_root: bool = True
    no_way: ConfigError | None = None
    """There is no way to PVE at all."""
    token_trouble: ConfigError | None = None
    """Why the API is not used on this node."""
    has_token_file: bool = True
    way: str = ""
    """How PVE is asked: the API's URL, or ``pvesh``."""
    token_id: str = ""
    """Whose rights these are; empty: root's own, by pvesh."""

    @property
    def script_here(self) -> str | None:
        """What vzdump.conf of this node names and vzdump can run; None where that is not known or this is no node."""
        if not self.node or self.machine.has_vzdump_conf is None:
            return None
        script = self.machine.script
        return script.path if script is not None and script.exists and script.executable else ""

    @property
    def is_api_silent(self) -> bool:
        """Whether the API's host told nothing about itself, and the look at the API says why."""
        cluster = self.cluster
        return self.no_way is not None or cluster.door.error is not None or cluster.version.why == SEE_API


class Look(NamedTuple):
    """What one probe came to: what is so, in words, and its findings. Without findings, and not ``because`` of another
    one's, it is well.
    """

    name: str
    text: str
    findings: tuple[Finding, ...] = ()
    because: str = ""
    """The probe whose finding says why this one does not know: it is told there, and once."""


def unanswered(name: str, asked: Asked[Any], what: str) -> Look:
    """The look at something that PVE did not tell: ``what`` is not known, or all that the API would have told."""
    if asked.why == SEE_API:
        return Look(name, "", because="api")
    return Look(name, "", (not_known(name, f"{what}: {asked.why}"),))
