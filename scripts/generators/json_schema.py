"""docs/json-schema.json: what `--json` prints, from one table of the commands' keys and the types they hold.

It lets keys through that it does not name, since new ones do not raise the version; the test that holds our own output
to it does not.
"""

from __future__ import annotations

import inspect
import json
import types
from collections.abc import Mapping
from enum import Enum
from typing import Any, NewType, Union, get_args, get_origin, get_type_hints

from scripts.generators import field_texts
from snapshot.config.choice import LeftOut
from snapshot.doctor.facts import Look
from snapshot.doctor.guests import Diagnosis
from snapshot.drill.rounds import DrillRound
from snapshot.errors import exit_codes
from snapshot.fleet.outcome import GuestOutcome
from snapshot.journal.looks import GuestLook
from snapshot.journal.record import REQUIRED, WORDS, WindowRecord
from snapshot.model import (
    AtRest,
    Check,
    DiskWord,
    FreezeReply,
    Guest,
    GuestKind,
    Policy,
    ThawReport,
    Upid,
    Verdict,
    VerdictKind,
    WindowTimes,
)
from snapshot.notify.tell import Tried
from snapshot.pve.tasks import TaskEnd
from snapshot.recovery.strangers import Recovered
from snapshot.report import history
from snapshot.report.envelope import VERSION
from snapshot.report.fleet import GroupTold
from snapshot.retention.ours import Left
from snapshot.setup.step import Planned, TakenBack
from snapshot.window.verdict import Proof

PATH = "docs/json-schema.json"


class _Fields:
    """An object with these keys. ``like``: the class whose fields they are, or most of them, and that explains them."""

    def __init__(self, of: Mapping[str, Any], like: type[Any] | None = None) -> None:
        self.of = of
        self.like = like

    def __or__(self, other: None) -> Any:
        return Union[self, other]  # noqa: UP007 - of an object, which is no type


_COLUMNS = get_type_hints(WindowRecord) | {
    name: words if name in REQUIRED else words | None for name, words in WORDS.items()
}
"""What a window's columns hold: of some of them every word is known."""


_SNAPSHOT = _Fields(
    {
        "snapshot": str,
        "label": str | None,
        "run": str | None,
        "taken_at": int,
        "taken": str,
        "age_seconds": float,
        "verdict": VerdictKind | None,
        "consistent": bool | None,
        "holds_ram": bool,
        "ours": bool,
        "keeps": bool,
        "why": str,
        "left": Left | None,
        "remedy": str | None,
    }
)
"""A snapshot as retention sees it; ``left`` is why it is left alone whatever the rule says."""

_RETAINED = _Fields(
    {
        "vmid": int,
        "node": str,
        "kind": GuestKind,
        "name": str,
        "rules": Mapping[str, str],
        "snapshots": list[_SNAPSHOT],  # type: ignore[valid-type]
        "removed": list[_SNAPSHOT],  # type: ignore[valid-type]
        "error": str | None,
    }
)
"""One guest's share of `list` and `prune`; ``rules`` by label, as PVE writes prune-backups."""

_TAKE: dict[str, Any] = {
    "vmid": int,
    "guest": Guest | None,
    "snapshot": str,
    "snapshot_exists": bool | None,
    "policy": Policy,
    "plan": str | None,
    "checks": list[Check],
    "window": _Fields({"id": str | None, **get_type_hints(WindowTimes), "window_seconds": float | None}),
    "freeze": FreezeReply | None,
    "proof": Proof,
    "thaw": ThawReport | None,
    "upid": Upid | None,
    "task": TaskEnd | None,
    "verdict": Verdict | None,
    "disk": DiskWord | None,
}
"""What is told of one guest's snapshot."""

COMMANDS: dict[str, dict[str, Any]] = {
    "take": _TAKE,
    "check": {"guest": Guest | None, "checks": list[Check], "facts": Mapping[str, Any], "frozen": bool},
    "doctor": {"installation": list[Look], "guests": list[Diagnosis], "counts": Mapping[str, int]},
    "thaw": {"vmid": int, "thaw": ThawReport},
    "recover": {"windows": list[Recovered]},
    "status": {
        "windows": list[_Fields(_COLUMNS, WindowRecord)],  # type: ignore[misc]
        "frozen": list[Guest],
        "unknown": list[GuestLook],
        "lost_windows": list[str],
        "silences": list[str],
    },
    "history": {
        "windows": list[_Fields({name: {"time": str, **_COLUMNS}[name] for name in history.FIELDS}, WindowRecord)]  # type: ignore[misc]
    },
    "notify": {"ways": list[Tried]},
    "setup": {
        "node": str,
        "steps": list[Planned],
        "notes": list[str],
        "taken_back": list[TakenBack],
        "guests": list[str],
        "installation": list[Look],
        "counts": Mapping[str, int],
    },
    "drill": {
        "guest": Guest | None,
        "checks": list[Check],
        "rounds": list[DrillRound],
        "alarms": list[Tried],
    },
    "list": {"guests": list[_RETAINED]},  # type: ignore[valid-type]
    "prune": {"dry_run": bool, "guests": list[_RETAINED]},  # type: ignore[valid-type]
    "verify": {
        "guest": Guest,
        "snapshot": str,
        "word": AtRest,
        "reason": str,
        "filesystems": list[_Fields({"where": str, "kind": str, "word": AtRest, "reason": str, "set_aside": bool})],  # type: ignore[misc]
    },
    "report": {},
    "metrics": {},
}
"""Each command, its own keys and what they hold; the last two print no object but an error's."""

_ERROR: dict[str, Any] = {"code": str, "message": str, "remedy": str, "exit_code": int}

_OUTCOME = get_type_hints(GuestOutcome)
_GUEST: dict[str, Any] = {
    "vmid": int,
    "node": str,
    "name": str,
    **{name: _OUTCOME[name] for name in ("snapshot", "snapshot_exists")},
    "verdict": VerdictKind | None,
    "reason": str,
    "plan": str | None,
    **{name: _OUTCOME[name] for name in ("removed", "would_remove", "frozen_seconds", "tries", "waited_seconds")},
    "warnings": _OUTCOME["warnings"],
    "error": _Fields(_ERROR) | None,
    "exit_code": int,
    "result": _Fields(_TAKE) | None,
}
"""One of many guests; see report.fleet.outcome_data."""

MANY: dict[str, dict[str, Any]] = {
    "take": {
        "guests": list[_Fields(_GUEST, GuestOutcome)],  # type: ignore[misc]
        "left_out": list[LeftOut],
        "counts": Mapping[str, int],
        "group": GroupTold | None,
    },
    "check": {
        "guests": list[
            _Fields(  # type: ignore[misc]
                {
                    "guest": Guest,
                    "checks": list[Check],
                    "facts": Mapping[str, Any],
                    "frozen": bool,
                    "error": _Fields(_ERROR) | None,
                }
            )
        ],
        "left_out": list[LeftOut],
    },
    "thaw": {
        "guests": list[
            _Fields(  # type: ignore[misc]
                {"vmid": int, "thaw": ThawReport | None, "warnings": list[str], "error": _Fields(_ERROR) | None}
            )
        ],
        "left_out": list[LeftOut],
    },
}
"""The keys in their place where the line does not name one guest by its vmid and nothing else."""

_SIMPLE: dict[Any, dict[str, Any]] = {
    str: {"type": "string"},
    int: {"type": "integer"},
    float: {"type": "number"},
    bool: {"type": "boolean"},
    types.NoneType: {"type": "null"},
    Upid: {"type": "string", "pattern": "^UPID:"},
    Any: {},
}


def schema() -> dict[str, Any]:
    """The schema as a tree."""
    error = {
        "type": "object",
        "required": ["code", "message", "remedy", "exit_code"],
        "properties": {
            "code": {"enum": sorted(code for found in exit_codes() for code in found.codes)},
            "message": {"type": "string"},
            "remedy": {"type": "string"},
            "exit_code": {"type": "integer", "minimum": 1},
        },
    }
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "What safe-snapshot --json prints",
        "description": "One object for every outcome. version rises when a key changes its meaning or goes, not when "
        "one is added. error is null where exit_code is 0, and nowhere else. A command that ended before it had "
        "anything to tell has none of its own keys.",
        "type": "object",
        "required": ["version", "command", "warnings", "error", "exit_code"],
        "properties": {
            "version": {"const": VERSION},
            "command": {"enum": [*COMMANDS, None]},
            "warnings": {"type": "array", "items": {"type": "string"}},
            "error": {"anyOf": [{"type": "null"}, error]},
            "exit_code": {"type": "integer", "minimum": 0},
        },
        "if": {"properties": {"exit_code": {"const": 0}}},
        "then": {"properties": {"error": {"type": "null"}}},
        "else": {"properties": {"error": {"type": "object"}}},
        "allOf": [
            {"if": {"properties": {"command": {"const": name}}}, "then": _own(keys, MANY.get(name, {}))}
            for name, keys in COMMANDS.items()
        ],
    }


def _own(keys: Mapping[str, Any], many: Mapping[str, Any]) -> dict[str, Any]:
    """A command's own keys: all of them, or none of them beside an error. ``many``: those of several guests."""
    both = {**keys, **many}
    found: dict[str, Any] = {"properties": {name: of_type(kind) for name, kind in both.items()}}
    if keys:
        shapes = [shape for shape in (keys, many) if shape]
        found["dependentRequired"] = {key: list(shape) for shape in shapes for key in shape}
    found["if"] = {"properties": {"error": {"type": "null"}}}
    required = [{"required": list(shape)} for shape in (keys, many) if shape]
    found["then"] = False if not required else required[0] if len(required) == 1 else {"oneOf": required}
    return found


def of_type(kind: Any) -> Any:
    """What a type looks like in JSON."""
    if isinstance(kind, NewType):
        kind = kind.__supertype__
    if kind in _SIMPLE:
        return _SIMPLE[kind]
    if get_origin(kind) in (Union, types.UnionType):
        return {"anyOf": [of_type(one) for one in get_args(kind)]}
    if get_origin(kind) in (list, tuple):
        return {"type": "array", "items": of_type(get_args(kind)[0])}
    if get_origin(kind) is Mapping or get_origin(kind) in Mapping.__mro__:
        return {"type": "object"}
    if isinstance(kind, _Fields):
        return _object(kind.of, kind.like)
    if issubclass(kind, Enum):
        return {"enum": [one.value for one in kind]}
    return _object(get_type_hints(kind), kind)


def _object(keys: Mapping[str, Any], like: type[Any] | None) -> dict[str, Any]:
    about = inspect.getdoc(like) or "" if like else ""
    texts = field_texts(like) if like else {}
    properties = {name: _described(of_type(kind), texts.get(name, "")) for name, kind in keys.items()}
    found = {"type": "object", "required": list(keys), "properties": properties}
    return _described(found, " ".join(about.partition("\n\n")[0].split()))


def _described(found: dict[str, Any], text: str) -> dict[str, Any]:
    for python, plain in (("``", "`"), ("None", "null"), ("False", "false")):
        text = text.replace(python, plain)
    return {**found, "description": text} if text else found


def files() -> dict[str, str]:
    """See scripts.generators."""
    return {PATH: json.dumps(schema(), indent=1) + "\n"}
