"""The configuration: TOML into named tuples, every key checked, unknown keys refused with a suggestion.

The named tuples are the documentation's source: a field's name is the key, its default the default. Durations are in
seconds. The API token's secret stands in a file of its own, readable by root alone, and never in the configuration.

What holds for one guest is decided in one place, ``Config.for_guest``. A rescue does not wait for a mended file:
``load_lenient`` takes what can be read.
"""

from __future__ import annotations

import errno
import os
import re
import stat
import tomllib
import types
import typing
import urllib.parse
from collections.abc import Callable, Iterable
from enum import Enum
from pathlib import Path
from typing import Any, NamedTuple

from snapshot.errors import ConfigError
from snapshot.model import VMID_MAX, VMID_MIN, Policy, check_snapshot_name

_TOKEN_ID = re.compile(r"[^\s!@:/=]+@[A-Za-z][A-Za-z0-9.\-_]*![A-Za-z][A-Za-z0-9.\-_]*\Z")
"""PVE's own rule (PVE::AccessControl, $token_subid_regex), a little wider for the user's name."""
_HOST = re.compile(
    r"(?:[A-Za-z0-9][A-Za-z0-9.\-_]*|[0-9A-Fa-f:.]*:[0-9A-Fa-f:.]*|\[[0-9A-Fa-f:.]+\])(?::(?P<port>[0-9]{1,5}))?\Z"
)
"""A name, an IPv4 or IPv6 address, the latter perhaps in brackets; perhaps with a port."""

DEFAULT_PATH = Path("/etc/vzdump-hooks/config.toml")
PVE_CA_FILE = Path("/etc/pve/pve-root-ca.pem")

MOST_BYTES = 1 << 20
"""Of a configuration or token file: what is larger is something else."""

DAY_SECONDS = 86400.0
LONGEST = {
    # A freeze of PVE's own may wait for an hour; no guest should stand still for longer because of a slip of the pen.
    "freeze_timeout_seconds": 3600.0,
    "max_window_seconds": 3600.0,
    "late_freeze_seconds": DAY_SECONDS,
    "foreign_limit_seconds": DAY_SECONDS,
    "attempt_timeout_seconds": 300.0,
    "first_retry_seconds": 60.0,
    "slowest_retry_seconds": 60.0,
    "owner_limit_seconds": 3600.0,
    "arm_timeout_seconds": 300.0,
    "task_timeout_seconds": 7 * DAY_SECONDS,
    "lost_reply_seconds": 3600.0,
    "run_limit_seconds": 400 * DAY_SECONDS,
    "forget_guest_after_days": 3650.0,
}
"""The largest value of each number. A guard waits in one system call, which takes no month for a duration."""
SHORTEST = {"freeze_timeout_seconds": 0.1, "max_window_seconds": 0.1, "run_limit_seconds": 0.0}
"""The smallest value, where it is not just above 0: no guest is frozen, and no task looked at, in a millisecond."""


class FreezeOwner(Enum):
    """Who freezes during a backup: our hook, or vzdump itself (then we watch)."""

    HOOK = "hook"
    VZDUMP = "vzdump"


class ForeignFreeze(Enum):
    """What to do with a guest that is found frozen by somebody else."""

    REPORT = "report"
    THAW = "thaw"


class Launcher(Enum):
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
    """``user@realm!tokenname``, e.g. ``root@pam!vzdump-hooks``."""
    token_file: Path = Path("/etc/vzdump-hooks/token")
    """A file that holds the token's secret and nothing else, mode 0600."""
    peers: tuple[str, ...] = ()
    """Other nodes' addresses to go through when the host cannot be used (on a node, pvesh does that). A thaw also finds
    them in /cluster/status, while the host answers."""
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
        if any(not c.isprintable() or c.isspace() for c in text) or not _HOST.match(host):
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


class GuardConfig(NamedTuple):
    """``[guard]``: the process that outlives the one that asked."""

    launcher: Launcher = Launcher.AUTO
    arm_timeout_seconds: float = 10.0


class SnapshotConfig(NamedTuple):
    """``[snapshot]``: safe-snapshot's own settings."""

    name_prefix: str = "safe"
    task_timeout_seconds: float = 1800.0
    """How long to wait for the snapshot task's end once the guest is thawed."""
    lost_reply_seconds: float = 30.0
    """How long to look for a snapshot whose request PVE never answered."""


class HookConfig(NamedTuple):
    """``[hook]``: what vzdump-hook does in a backup."""

    owner: FreezeOwner = FreezeOwner.HOOK
    write_notes: bool = False
    """Write the verdict into the backup's notes through the storage API."""


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


class GuestSettings(NamedTuple):
    """What holds for one guest, rules and general settings taken together. See Config.for_guest."""

    policy: Policy
    owner: FreezeOwner
    freeze_timeout_seconds: float
    max_window_seconds: float
    foreign: ForeignFreeze
    foreign_limit_seconds: float
    ignore_freeze_option: bool
    run_limit_seconds: float


class Config(NamedTuple):
    """Everything an operator may set."""

    api: ApiConfig = ApiConfig()
    freeze: FreezeConfig = FreezeConfig()
    thaw: ThawConfig = ThawConfig()
    local: LocalConfig = LocalConfig()
    journal: JournalConfig = JournalConfig()
    metrics: MetricsConfig = MetricsConfig()
    guard: GuardConfig = GuardConfig()
    snapshot: SnapshotConfig = SnapshotConfig()
    hook: HookConfig = HookConfig()
    guest: tuple[GuestRule, ...] = ()

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
            run_limit_seconds=self.metrics.run_limit_seconds,
        )
        known = tuple(tags)
        found = [rule for rule in self.guest if _matches(rule, vmid, known, pool, folds_tags)]
        merged: dict[str, Any] = {}
        for rule in sorted(found, key=_order):
            merged = rule.settings | merged
        return general._replace(**merged)


def _matches(rule: GuestRule, vmid: int, tags: tuple[str, ...], pool: str, folds_tags: Callable[[], bool]) -> bool:
    if rule.vmid is not None:
        return rule.vmid == vmid
    if rule.tag is not None:
        alike = rule.tag.lower() in (tag.lower() for tag in tags)
        return rule.tag in tags or (alike and folds_tags())
    return rule.pool is not None and (pool == rule.pool or pool.startswith(f"{rule.pool}/"))


_KINDS = ("vmid", "tag", "pool")
_STRICTNESS: tuple[Policy | None, ...] = (Policy.REQUIRE, Policy.PREFER, Policy.NEVER, None)


def _order(rule: GuestRule) -> tuple[int, int, int]:
    """The most particular rule first, the strictest of equals; sorting keeps the file's order otherwise."""
    return _KINDS.index(rule.selector[0]), -(rule.pool or "").count("/"), _STRICTNESS.index(rule.policy)


def load(path: Path, *, required: bool = True) -> Config:
    """The configuration in ``path``. ConfigError names the file, the key and the mend.

    A missing file is an error only when ``required``; otherwise the defaults are the configuration.
    """
    tree = _tree(path, required=required)
    return parse(tree, str(path))


def load_lenient(path: Path, *, required: bool = True) -> tuple[Config, list[str]]:
    """What can be read of the configuration, and its faults as lines for the operator. Never raises.

    For what must go on with a broken file: a section or a [[guest]] table with a fault counts for nothing, the rest
    counts; a file that cannot be read at all leaves the defaults.
    """
    try:
        tree = _tree(path, required=required)
    except ConfigError as error:
        return Config(), [str(error)]
    return parse_lenient(tree, str(path))


def parse_lenient(tree: dict[str, Any], where: str) -> tuple[Config, list[str]]:
    """As load_lenient, of a decoded TOML ``tree``."""
    config, problems, rules = Config(), list[str](), _Rules(where)
    for name, value in tree.items():
        is_list = name == "guest" and isinstance(value, list)
        for number, part in enumerate(value if is_list else [value], 1):
            try:
                found = parse({name: [part] if is_list else part}, where, first_rule=number)
                for rule in found.guest:
                    rules.check(number, rule)
            except ConfigError as error:
                problems.append(str(error))
            else:
                read: dict[str, Any] = {name: config.guest + found.guest if is_list else getattr(found, name)}
                config = config._replace(**read)
    return config, problems


def _tree(path: Path, *, required: bool) -> dict[str, Any]:
    try:
        raw, _ = _read(path)
    except FileNotFoundError:
        if required:
            raise ConfigError(f"the configuration {path} does not exist", remedy="see contrib/config.toml") from None
        return {}
    except OSError as error:
        raise ConfigError(f"the configuration {path} cannot be read ({error.strerror})") from error
    try:
        return tomllib.loads(raw.decode("utf-8-sig"))
    except (ValueError, RecursionError) as error:  # not only tomllib's own: a number of 5000 digits, 5000 brackets
        raise ConfigError(f"the configuration {path} is not TOML ({error})") from error


def _read(path: Path) -> tuple[bytes, os.stat_result]:
    """The bytes of a regular file, and what it is. OSError at once for a pipe, a device, a folder, an endless file."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    with open(descriptor, "rb") as file:
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode):
            raise OSError(errno.EINVAL, "it is not a regular file")
        raw = file.read(MOST_BYTES + 1)
    if len(raw) > MOST_BYTES:
        raise OSError(errno.EFBIG, f"it is larger than {MOST_BYTES} bytes")
    return raw, found


def parse(tree: dict[str, Any], where: str, *, first_rule: int = 1) -> Config:
    """The configuration in a decoded TOML ``tree``. Errors say ``where``; the first table has number ``first_rule``."""
    config: Config = _build(Config, tree, where, "")
    _check(config, where, first_rule)
    return config


class Token(NamedTuple):
    """An API token; the secret never prints."""

    id: str
    secret: str

    def __repr__(self) -> str:
        return f"Token(id={self.id!r})"


def token(config: Config) -> Token:
    """The API token: its id from ``[api] token_id``, its secret from the token file. ConfigError without the secret.

    The file may also hold PVE's own form ``user@realm!tokenname=secret``; then the id need not be configured.
    """
    path = config.api.token_file
    try:
        raw, found = _read(path)
        text, mode = raw.decode("ascii").strip(), stat.S_IMODE(found.st_mode)
    except FileNotFoundError:
        raise ConfigError(
            f"there is no API token: the token file {path} does not exist",
            remedy="create a token (`pveum user token add root@pam vzdump-hooks --privsep 0`), set [api] token_id, and "
            "put its secret into that file, mode 600",
        ) from None
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not ASCII"
        raise ConfigError(f"the token file {path} cannot be read ({reason})", remedy="see [api] token_file") from None
    if mode & 0o077:
        raise ConfigError(f"the token file {path} is readable by others (mode {mode:04o})", remedy=f"chmod 600 {path}")
    if found.st_uid not in (0, os.geteuid()):
        raise ConfigError(
            f"the token file {path} belongs to another user (uid {found.st_uid}), who may read and replace it",
            remedy=f"chown root: {path}",
        )
    in_file, equals, secret = text.rpartition("=")
    token_id = config.api.token_id or in_file
    if not secret or any(c.isspace() for c in secret) or (equals and in_file != token_id):
        raise ConfigError(
            f"the token file {path} does not hold the secret of one token", remedy="write the secret alone"
        )
    if not token_id:
        raise ConfigError("[api] token_id is not set", remedy="set it to user@realm!tokenname")
    if not _TOKEN_ID.match(token_id):
        raise ConfigError(
            f"the token file {path} does not hold the secret of one token", remedy="write the secret alone"
        )
    return Token(token_id, secret)


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


class _Rules:
    """The [[guest]] tables as they are read, each checked by itself and against those before it."""

    def __init__(self, where: str) -> None:
        self._where = where
        self._set: dict[tuple[str, object], dict[str, tuple[object, int]]] = {}
        """For what each selector has been set so far, and by which table."""

    def check(self, number: int, rule: GuestRule) -> None:
        """ConfigError for a table that selects nobody or contradicts an earlier one; it counts for nothing then."""
        name = f"{self._where}: [[guest]] number {number}"
        if len([key for key in ("vmid", "tag", "pool") if getattr(rule, key) is not None]) != 1:
            raise ConfigError(f"{name} needs exactly one of vmid, tag and pool")
        if rule.vmid is not None and not VMID_MIN <= rule.vmid <= VMID_MAX:
            raise ConfigError(f"{name}: {rule.vmid} is not a vmid")
        kind, value = rule.selector
        if value == "":
            raise ConfigError(f"{name}: the {kind} is empty", remedy="settings for all guests stand outside [[guest]]")
        known = self._set.setdefault(rule.selector, {})
        for key, setting in rule.settings.items():
            earlier, by = known.get(key, (setting, number))
            if earlier != setting:
                raise ConfigError(
                    f"{self._where}: [[guest]] number {by} and number {number} select the same guests and contradict "
                    f"each other on {key}",
                    remedy="keep one of the two",
                )
        known.update({key: (setting, number) for key, setting in rule.settings.items() if key not in known})


def _check(config: Config, where: str, first_rule: int) -> None:
    rules = _Rules(where)
    for number, rule in enumerate(config.guest, first_rule):
        rules.check(number, rule)
    if not 1 <= config.api.port <= 65535:
        raise ConfigError(f"{where}: [api] port: {config.api.port} is not a port number")
    if config.api.token_id and not _TOKEN_ID.match(config.api.token_id):
        raise ConfigError(f"{where}: [api] token_id is not of the form user@realm!tokenname")
    for name, hosts in (("host", (config.api.host,)), ("peers", config.api.peers)):
        for host in hosts:
            found = _HOST.match(host)
            if not found:
                # Not repeated: somebody may have written credentials in front of it.
                raise ConfigError(
                    f"{where}: [api] {name}: that is not a host", remedy="a name or an address, without https://"
                )
            if found["port"] and not 1 <= int(found["port"]) <= 65535:
                raise ConfigError(f"{where}: [api] {name}: {found['port']} is not a port number")
    try:
        check_snapshot_name(f"{config.snapshot.name_prefix}-20260131-030005")
    except ValueError as error:
        raise ConfigError(f"{where}: [snapshot] name_prefix, with a date behind it: {error}") from None


def _build(cls: type[Any], tree: object, where: str, prefix: str) -> Any:
    if not isinstance(tree, dict):
        raise ConfigError(f"{where}: [{prefix}] must be a table")
    hints = typing.get_type_hints(cls)
    fields = cls._fields
    values: dict[str, object] = {}
    for key, value in tree.items():
        name = f"{prefix}.{key}" if prefix else key
        if key not in fields:
            import difflib  # noqa: PLC0415 - 1.7 ms of every hook phase, for a message

            near = difflib.get_close_matches(key, fields, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"known here: {', '.join(fields)}"
            raise ConfigError(f"{where}: unknown key {name!r}", remedy=hint)
        values[key] = _convert(hints[key], value, where, name)
    return cls(**values)


def _pushgateway(value: object, where: str, name: str) -> Pushgateway:
    """The value itself is in no message: it may hold a password."""
    if not isinstance(value, str):
        raise ConfigError(f"{where}: {name!r} must be a string")
    try:
        return Pushgateway.parse(value)
    except ValueError as error:
        raise ConfigError(f"{where}: {name!r}: {error}") from None


def _is_table(hint: Any) -> bool:
    return isinstance(hint, type) and hasattr(hint, "_fields")


def _convert(hint: Any, value: object, where: str, name: str) -> object:  # noqa: PLR0912 - one line a type
    if typing.get_origin(hint) in (types.UnionType, typing.Union):
        inner = [h for h in typing.get_args(hint) if h is not type(None)]
        if value == "" and inner[0] in (Path, Pushgateway):
            return None
        return _convert(inner[0], value, where, name)
    if typing.get_origin(hint) is tuple:
        item_hint = typing.get_args(hint)[0]
        if not isinstance(value, list):
            shape = f"a list of tables: write [[{name}]]" if _is_table(item_hint) else "a list"
            raise ConfigError(f"{where}: {name!r} must be {shape}")
        return tuple(_convert(item_hint, item, where, name) for item in value)
    if hint is Pushgateway:
        return _pushgateway(value, where, name)
    if _is_table(hint):
        return _build(hint, value, where, name)
    if isinstance(hint, type) and issubclass(hint, Enum):
        try:
            return hint(value)
        except ValueError:
            known = ", ".join(str(member.value) for member in hint)
            raise ConfigError(f"{where}: {name!r} is {value!r}; it must be one of: {known}") from None
    if hint is bool:
        if isinstance(value, bool):
            return value
    elif hint is int:
        if isinstance(value, int) and not isinstance(value, bool):
            return value
    elif hint is float:
        if isinstance(value, int | float) and not isinstance(value, bool):
            key = name.rpartition(".")[2]
            longest, shortest = LONGEST[key], SHORTEST.get(key)
            if not (value > 0 if shortest is None else value >= shortest) or not value <= longest:
                shown = value if isinstance(value, float) or abs(value) < 10**18 else "a very large number"
                raise ConfigError(
                    f"{where}: {name!r} is {shown}; it must be a positive number, "
                    f"{'' if not shortest else f'{shortest:g} at least and '}{longest:g} at most"
                )
            return float(value)
    elif hint is Path:
        if isinstance(value, str) and value.startswith("/") and value.isprintable():
            return Path(value)
        raise ConfigError(f"{where}: {name!r} must be an absolute path")
    elif hint is str and isinstance(value, str):
        if not value.isprintable():
            raise ConfigError(f"{where}: {name!r} has characters that cannot be shown")
        return value
    expected = {bool: "true or false", int: "a whole number", float: "a number", str: "a string"}[hint]
    raise ConfigError(f"{where}: {name!r} must be {expected}, not {value!r}")
