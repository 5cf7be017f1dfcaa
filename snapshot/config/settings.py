"""The configuration: what may be set, as named tuples, and what holds for one guest (``Config.for_guest``).

The named tuples are the documentation's source: a field's name is the key, its default the default. Durations are in
seconds. How a file is read and checked is reading.py's; the API token's secret, which is never in it, is token.py's.
"""

from __future__ import annotations

import os
import re
import urllib.parse
from collections.abc import Callable, Iterable
from enum import Enum
from pathlib import Path
from typing import Any, NamedTuple

from snapshot.config.groups import GroupRule
from snapshot.config.snapshots import FleetConfig, SnapshotConfig
from snapshot.model import Policy

TOKEN_ID = re.compile(r"[^\s!@:/=]+@[A-Za-z][A-Za-z0-9.\-_]*![A-Za-z][A-Za-z0-9.\-_]*\Z")
"""PVE's own rule (PVE::AccessControl, $token_subid_regex), a little wider for the user's name."""
HOST = re.compile(
    r"(?:[A-Za-z0-9][A-Za-z0-9.\-_]*|[0-9A-Fa-f:.]*:[0-9A-Fa-f:.]*|\[[0-9A-Fa-f:.]+\])(?::(?P<port>[0-9]{1,5}))?\Z"
)
"""A name, an IPv4 or IPv6 address, the latter perhaps in brackets; perhaps with a port."""

DEFAULT_PATH = Path("/etc/vzdump-hooks/config.toml")
PVE_CA_FILE = Path("/etc/pve/pve-root-ca.pem")

DAY_SECONDS = 86400.0


class FreezeOwner(Enum):
    """Who freezes during a backup: our hook, or vzdump itself (then we watch)."""

    HOOK = "hook"
    VZDUMP = "vzdump"


class ForeignFreeze(Enum):
    """What to do with a guest that is found frozen by somebody else."""

    REPORT = "report"
    THAW = "thaw"


class LauncherKind(Enum):
    """How the guard is started."""

    AUTO = "auto"
    """systemd-run where systemd is running, detached otherwise."""
    SYSTEMD = "systemd"
    DETACHED = "detached"


class ApiConfig(NamedTuple):
    """``[api]``: where the PVE API is and how to prove who we are."""

    host: str = "localhost"
    port: int = 8006
    token_id: str = ""
    """``user@realm!tokenname``, e.g. ``freeze-guard@pve!hooks-pve1``."""
    token_file: Path = Path("/etc/vzdump-hooks/token")
    """A file that holds the token's secret and nothing else, mode 0600. At its default the unit's credential `token` is
    taken in its place, where there is one (docs/install.md)."""
    peers: tuple[str, ...] = ()
    """Other nodes' addresses to go through when the host cannot be used (on a node, pvesh does that). A thaw also finds
    them in /cluster/status, while the host answers; so does `safe-snapshot`, which keeps them for the next run."""
    ca_file: Path | None = None
    """The CA that signed the node's certificate; by default PVE's own where it exists, else the system's."""


class FreezeConfig(NamedTuple):
    """``[freeze]``: when to freeze and for how long at most."""

    policy: Policy = Policy.PREFER
    freeze_timeout_seconds: float = 25.0
    """How long to wait for the agent's answer to a freeze. pveproxy cuts a request after 30 s."""
    max_window_seconds: float = 30.0
    """The deadline: how long the guest may stay frozen, counted from the freeze request."""
    late_freeze_seconds: float = 3600.0
    """How long to watch for a late freeze after a lost reply. PVE keeps an API freeze alive for up to an hour."""
    foreign: ForeignFreeze = ForeignFreeze.REPORT
    """What to do with a guest that somebody else has left frozen: say so, or thaw it too."""
    foreign_limit_seconds: float = 300.0
    """How long a freeze by somebody else may last, with no task at work on the guest, before it is an alarm."""
    at_the_knock: bool = False
    """On the guest's node: freeze a guest whose last freezes were short only when PVE's own task asks for its agent. A
    backup that has to be consistent (policy require) is frozen before vzdump asks."""


class ThawConfig(NamedTuple):
    """``[thaw]``: how the thaw is retried."""

    attempt_timeout_seconds: float = 10.0
    first_retry_seconds: float = 0.2
    slowest_retry_seconds: float = 1.0
    """The pace at which retries go on for as long as it takes: a guest is thawed within 2 s of its first answer."""
    owner_limit_seconds: float = 120.0
    """How long the command itself goes on trying before it leaves the guest to its guard and says so."""
    sysrq: bool = False
    """Opt in to the last resort: SysRq j through sendkey, Linux guests only."""


class LocalConfig(NamedTuple):
    """``[local]``: what is on this machine when it is a PVE node."""

    node: str = "auto"
    """This machine's node name; ``auto``: the host name, when PVE's socket folder exists; empty: not a node."""
    socket_folder: Path = Path("/var/run/qemu-server")
    pvesh: str = "/usr/bin/pvesh"
    task_folder: Path = Path("/var/log/pve/tasks")
    vzdump_pid_file: Path = Path("/var/run/vzdump.pid")
    product_uuid_file: Path = Path("/sys/class/dmi/id/product_uuid")


class JournalConfig(NamedTuple):
    """``[journal]``: the SQLite file that records every window."""

    path: Path = Path("/var/lib/vzdump-hooks/journal.sqlite")


class Pushgateway(NamedTuple):
    """Where metrics are pushed to. Neither the user nor the password ever prints."""

    url: str
    """Without credentials: fit for a message."""
    user: str = ""
    password: str = ""

    def __repr__(self) -> str:
        return f"Pushgateway({self.url!r})"

    @classmethod
    def parse(cls, text: str) -> Pushgateway:
        """From ``http[s]://[user:password@]host[:port][/path]``. ValueError, without a word of ``text``, otherwise."""
        try:
            parts = urllib.parse.urlsplit(text)
            host, port = parts.hostname, parts.port
        except ValueError:
            raise ValueError("it is not a URL") from None
        if parts.scheme not in ("http", "https") or not host:
            raise ValueError("it must be a URL like http://host:9091")
        if parts.query or parts.fragment:
            raise ValueError("a URL with '?' or '#' is not taken: put credentials before the host, as user:password@")
        if any(not c.isprintable() or c.isspace() for c in text) or not HOST.match(host):
            raise ValueError("it must be a URL like http://host:9091")
        name = f"[{host}]" if ":" in host else host
        return cls(
            f"{parts.scheme}://{name}{f':{port}' if port else ''}{parts.path}",
            urllib.parse.unquote(parts.username or ""),
            urllib.parse.unquote(parts.password or ""),
        )


class MetricsConfig(NamedTuple):
    """``[metrics]``: where node_exporter's textfile collector looks, and the optional ways out."""

    textfile: Path | None = Path("/var/lib/prometheus/node-exporter/vzdump_hooks.prom")
    """Empty string: no textfile."""
    pushgateway: Pushgateway | None = None
    """``http://host:9091``, or with ``user:password@`` before the host; empty: none."""
    forget_guest_after_days: float = 30.0
    """A guest without a window for so long disappears from the metrics."""
    run_limit_seconds: float = 26 * 3600.0
    """How old a guest's last guarded backup or snapshot may get before it is an alarm; 0: none is expected."""
    scrape_interval_seconds: float = 60.0
    """How often Prometheus scrapes: a failure's first series stands at 0 for two such intervals; 0: it begins at 1."""


class NotifyConfig(NamedTuple):
    """``[notify]``: who is told of an alarm, and of its end, without Prometheus. See docs/notify.md."""

    mail_to: str = ""
    """An address, or several with commas; ``root``'s mail goes on to PVE's notification targets. Empty: none."""
    sendmail: Path = Path("/usr/sbin/sendmail")
    webhook_file: Path | None = None
    """A file that only root reads: the URL that a JSON object is posted to, and below it headers, one a line."""
    heartbeat_file: Path | None = None
    """A file that only root reads: the URL that is fetched after each `recover` that found all well, and below it the
    one where something is wrong; without that ``/fail`` is put behind the first."""
    job_heartbeat_file: Path | None = None
    """As ``heartbeat_file``, for a ping after each backup job and each run of `safe-snapshot`. Without it these go to
    that of `recover`."""
    ca_file: Path | None = None
    """The CA that signed these servers' certificates; by default those that the system knows."""

    @property
    def is_wanted(self) -> bool:
        """Whether anybody is to be told of anything."""
        return bool(self.mail_to or self.webhook_file or self.heartbeat_file or self.job_heartbeat_file)


class GuardConfig(NamedTuple):
    """``[guard]``: the process that outlives the one that asked."""

    launcher: LauncherKind = LauncherKind.AUTO
    arm_timeout_seconds: float = 10.0


class HookConfig(NamedTuple):
    """``[hook]``: what vzdump-hook does in a backup."""

    owner: FreezeOwner = FreezeOwner.HOOK
    write_notes: bool = False
    """Write the verdict into the backup's notes through the storage API."""


class CommandsConfig(NamedTuple):
    """``[commands]``: the administrator's own commands, the executables of the folder hooks.d beside this file."""

    timeout_seconds: float = 60.0
    """How long each of them may take in one phase; then it is ended, and has failed."""


class GuestRule(NamedTuple):
    """``[[guest]]``: other settings for the guests that match. Exactly one of vmid, tag and pool selects them.

    Several tables may match a guest: each key is taken from the most particular one that sets it, by vmid before tag
    before pool, a nested pool before the one it lies in, else from the first in the file; of two policies of the same
    rank the stricter one counts.
    """

    vmid: int | None = None
    tag: str | None = None
    """As PVE writes it: upper and lower case are the same unless the datacenter's tag-style is case-sensitive."""
    pool: str | None = None
    """The pool, or one that it is nested in: ``prod`` selects the guests of ``prod/db`` too."""
    policy: Policy | None = None
    owner: FreezeOwner | None = None
    freeze_timeout_seconds: float | None = None
    max_window_seconds: float | None = None
    foreign: ForeignFreeze | None = None
    foreign_limit_seconds: float | None = None
    ignore_freeze_option: bool | None = None
    """Freeze even though the guest's own PVE option (freeze-fs=0) turns freezing off."""
    at_the_knock: bool | None = None
    run_limit_seconds: float | None = None
    """As in [metrics]: for a guest that is not backed up daily; 0 for one that is not guarded at all."""

    @property
    def selector(self) -> tuple[str, object]:
        """What selects: the key, and its value."""
        if self.vmid is not None:
            return "vmid", self.vmid
        return ("tag", self.tag) if self.tag is not None else ("pool", self.pool)

    @property
    def settings(self) -> dict[str, object]:
        """What it sets."""
        selectors = ("vmid", "tag", "pool")
        return {key: value for key, value in self._asdict().items() if key not in selectors and value is not None}

    def matches(self, vmid: int, tags: tuple[str, ...], pool: str, folds_tags: Callable[[], bool]) -> bool:
        """Whether it is about this guest."""
        if self.vmid is not None:
            return self.vmid == vmid
        if self.tag is not None:
            alike = self.tag.lower() in (tag.lower() for tag in tags)
            return self.tag in tags or (alike and folds_tags())
        return self.pool is not None and (pool == self.pool or pool.startswith(f"{self.pool}/"))


class GuestSettings(NamedTuple):
    """What holds for one guest, rules and general settings taken together. See Config.for_guest."""

    policy: Policy
    owner: FreezeOwner
    freeze_timeout_seconds: float
    max_window_seconds: float
    foreign: ForeignFreeze
    foreign_limit_seconds: float
    ignore_freeze_option: bool
    at_the_knock: bool
    run_limit_seconds: float


class Config(NamedTuple):
    """Everything an operator may set."""

    api: ApiConfig = ApiConfig()
    freeze: FreezeConfig = FreezeConfig()
    thaw: ThawConfig = ThawConfig()
    local: LocalConfig = LocalConfig()
    journal: JournalConfig = JournalConfig()
    metrics: MetricsConfig = MetricsConfig()
    notify: NotifyConfig = NotifyConfig()
    guard: GuardConfig = GuardConfig()
    snapshot: SnapshotConfig = SnapshotConfig()
    fleet: FleetConfig = FleetConfig()
    hook: HookConfig = HookConfig()
    commands: CommandsConfig = CommandsConfig()
    guest: tuple[GuestRule, ...] = ()
    group: tuple[GroupRule, ...] = ()

    def for_guest(
        self, vmid: int, tags: Iterable[str] = (), pool: str = "", folds_tags: Callable[[], bool] = lambda: True
    ) -> GuestSettings:
        """The settings of one guest: every rule that matches it, merged key by key (see GuestRule).

        ``folds_tags`` says whether the cluster's tags know no case; it is asked only where that makes a difference.
        Where PVE has not been asked about the guest, rules by tag and pool cannot match.
        """
        freeze = self.freeze
        general = GuestSettings(
            policy=freeze.policy,
            owner=self.hook.owner,
            freeze_timeout_seconds=freeze.freeze_timeout_seconds,
            max_window_seconds=freeze.max_window_seconds,
            foreign=freeze.foreign,
            foreign_limit_seconds=freeze.foreign_limit_seconds,
            ignore_freeze_option=False,
            at_the_knock=freeze.at_the_knock,
            run_limit_seconds=self.metrics.run_limit_seconds,
        )
        known = tuple(tags)
        found = [rule for rule in self.guest if rule.matches(vmid, known, pool, folds_tags)]
        merged: dict[str, Any] = {}
        for rule in sorted(found, key=_order):
            merged = rule.settings | merged
        return general._replace(**merged)


_KINDS = ("vmid", "tag", "pool")
_STRICTNESS: tuple[Policy | None, ...] = (Policy.REQUIRE, Policy.PREFER, Policy.NEVER, None)


def _order(rule: GuestRule) -> tuple[int, int, int]:
    """The most particular rule first, the strictest of equals; sorting keeps the file's order otherwise."""
    return _KINDS.index(rule.selector[0]), -(rule.pool or "").count("/"), _STRICTNESS.index(rule.policy)


def ca_file(config: Config) -> Path | None:
    """The CA file to verify the API with; None means the system's."""
    if config.api.ca_file is not None:
        return config.api.ca_file
    return PVE_CA_FILE if PVE_CA_FILE.exists() else None


def local_node(config: Config) -> str:
    """This machine's node name, or "" when it is not a PVE node."""
    if config.local.node == "auto":
        return os.uname().nodename.partition(".")[0] if config.local.socket_folder.is_dir() else ""
    return config.local.node
