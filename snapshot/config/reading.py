"""A configuration file into settings.py's named tuples: every key checked, unknown keys refused with a suggestion.

A rescue does not wait for a mended file: ``load_lenient`` takes what can be read.
"""

from __future__ import annotations

import errno
import os
import tomllib
import types
import typing
from enum import Enum
from pathlib import Path
from typing import Any

from snapshot.base.files import open_regular
from snapshot.base.unit import credentials_folder
from snapshot.config import groups
from snapshot.config.groups import GroupRule
from snapshot.config.settings import (
    DAY_SECONDS,
    DEFAULT_PATH,
    HOST,
    TOKEN_ID,
    ApiConfig,
    Config,
    GuestRule,
    Pushgateway,
)
from snapshot.errors import ConfigError
from snapshot.model import VMID_MAX, VMID_MIN, check_snapshot_name

MOST_BYTES = 1 << 20
"""Of a configuration or token file: what is larger is something else."""

SAMPLE = Path("/usr/share/vzdump-hooks/config.toml")
"""Where the package has the configuration with every setting in it, as contrib/config.toml."""

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
    "timeout_seconds": DAY_SECONDS,
    "run_limit_seconds": 400 * DAY_SECONDS,
    "scrape_interval_seconds": 3600.0,
    "forget_guest_after_days": 3650.0,
    "wait_seconds": DAY_SECONDS,
    "storage_full_percent": 100.0,
}
"""The largest value of each number. A guard waits in one system call, which takes no month for a duration."""
MOST_AT_ONCE = 1000
"""Of workers: each is a process."""
SHORTEST = {
    "freeze_timeout_seconds": 0.1,
    "max_window_seconds": 0.1,
    "run_limit_seconds": 0.0,
    "scrape_interval_seconds": 0.0,
    "wait_seconds": 0.0,
}
"""The smallest value, where it is not just above 0: no guest is frozen, and no task looked at, in a millisecond."""


def load(path: Path | None = None) -> Config:
    """The configuration in ``path``, or in its usual place, where a missing file means the defaults.

    ConfigError names the file, the key and the mend.
    """
    return _with_credential(parse(_tree(path), str(path or DEFAULT_PATH)))


def load_lenient(path: Path | None = None) -> tuple[Config, list[str]]:
    """What can be read of the configuration, and its faults as lines for the operator. Never raises.

    For what must go on with a broken file: a section or a [[guest]] table with a fault counts for nothing, the rest
    counts; a file that cannot be read at all leaves the defaults.
    """
    try:
        tree = _tree(path)
    except ConfigError as error:
        return _with_credential(Config()), [str(error)]
    config, problems = parse_lenient(tree, str(path or DEFAULT_PATH))
    return _with_credential(config), problems


def credential() -> Path | None:
    """The token as systemd hands it to the unit that we run in: LoadCredential=token:... (systemd.exec(5)).

    A blank one is none: with SetCredential=token:\\n a unit starts where there is no token to load, too.
    """
    folder = credentials_folder()
    path = Path(folder) / "token"
    try:
        return path if folder and read_file(path)[0].strip() else None
    except OSError:
        return None


def _with_credential(config: Config) -> Config:
    """A credential is taken where the configuration names no token file of its own."""
    found = credential()
    if found is None or config.api.token_file != ApiConfig().token_file:
        return config
    return config._replace(api=config.api._replace(token_file=found))


def parse_lenient(tree: dict[str, Any], where: str) -> tuple[Config, list[str]]:
    """As load_lenient, of a decoded TOML ``tree``."""
    config, problems, rules = Config(), list[str](), _Rules(where)
    for name, value in tree.items():
        is_list = name in ("guest", "group") and isinstance(value, list)
        for number, part in enumerate(value if is_list else [value], 1):
            try:
                found = parse({name: [part] if is_list else part}, where, first_rule=number)
                for rule in found.guest:
                    rules.check(number, rule)
                _check_groups(found.group, where, number, config.group)
            except ConfigError as error:
                problems.append(str(error))
            else:
                new = getattr(found, name)
                read: dict[str, Any] = {name: getattr(config, name) + new if is_list else new}
                config = config._replace(**read)
    return config, problems


def _tree(named: Path | None) -> dict[str, Any]:
    path = named or DEFAULT_PATH
    try:
        raw, _ = read_file(path)
    except FileNotFoundError:
        if named is not None:
            sample = SAMPLE if SAMPLE.exists() else "contrib/config.toml"
            raise ConfigError(f"the configuration {path} does not exist", remedy=f"{sample} is one to copy") from None
        return {}
    except OSError as error:
        mend = "run it as root" if isinstance(error, PermissionError) else "look at what stands there"
        raise ConfigError(f"the configuration {path} cannot be read ({error.strerror})", remedy=mend) from error
    try:
        return tomllib.loads(raw.decode("utf-8-sig"))
    except (ValueError, RecursionError) as error:  # not only tomllib's own: a number of 5000 digits, 5000 brackets
        mend = "mend that line; until then all of it counts for nothing"
        raise ConfigError(f"the configuration {path} is not TOML ({error})", remedy=mend) from error


def read_file(path: Path) -> tuple[bytes, os.stat_result]:
    """The bytes of a regular file, and what it is. OSError at once for a pipe, a device, a folder, an endless file."""
    with open_regular(path) as file:
        found, raw = os.fstat(file.fileno()), file.read(MOST_BYTES + 1)
    if len(raw) > MOST_BYTES:
        raise OSError(errno.EFBIG, f"it is larger than {MOST_BYTES} bytes")
    return raw, found


def parse(tree: dict[str, Any], where: str, *, first_rule: int = 1) -> Config:
    """The configuration in a decoded TOML ``tree``. Errors say ``where``; the first table has number ``first_rule``."""
    config: Config = _build(Config, tree, where, "")
    _check(config, where, first_rule)
    return config


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


def _check_groups(found: tuple[GroupRule, ...], where: str, first: int, earlier: tuple[GroupRule, ...]) -> None:
    for number, rule in enumerate(found):
        wrong = groups.problem(rule, (*earlier, *found[:number]))
        if wrong:
            raise ConfigError(f"{where}: [[group]] number {first + number}: {wrong}")


def _check(config: Config, where: str, first_rule: int) -> None:
    _check_groups(config.group, where, first_rule, ())
    rules = _Rules(where)
    for number, rule in enumerate(config.guest, first_rule):
        rules.check(number, rule)
    if not 1 <= config.api.port <= 65535:
        raise ConfigError(f"{where}: [api] port: {config.api.port} is not a port number")
    if config.api.token_id and not TOKEN_ID.match(config.api.token_id):
        raise ConfigError(f"{where}: [api] token_id is not of the form user@realm!tokenname")
    for name, hosts in (("host", (config.api.host,)), ("peers", config.api.peers)):
        for host in hosts:
            found = HOST.match(host)
            if not found:
                # Not repeated: somebody may have written credentials in front of it.
                raise ConfigError(
                    f"{where}: [api] {name}: that is not a host", remedy="a name or an address, without https://"
                )
            if found["port"] and not 1 <= int(found["port"]) <= 65535:
                raise ConfigError(f"{where}: [api] {name}: {found['port']} is not a port number")
    for name, number in config.fleet._asdict().items():
        if name.startswith("at_once") and not 1 <= number <= MOST_AT_ONCE:
            raise ConfigError(f"{where}: [fleet] {name}: {number} is not a number from 1 to {MOST_AT_ONCE}")
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
