"""docs/hooks-schema.json: what the administrator's own commands read on standard input in the phases of ours."""

from __future__ import annotations

import json
from typing import Any

from scripts.generators.json_schema import of_type
from snapshot.commands.document import ALARM, ALARM_OVER, BEFORE_FREEZE, VERDICT, Told, ToldAlarms
from snapshot.commands.runner import VERSION

PATH = "docs/hooks-schema.json"


def schema() -> dict[str, Any]:
    """The schema as a tree."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "What own commands of vzdump-hooks read on standard input",
        "description": "One object for each call. version rises when a key changes its meaning or goes, not when one "
        "is added.",
        "anyOf": [_of(Told, BEFORE_FREEZE, VERDICT), _of(ToldAlarms, ALARM, ALARM_OVER)],
    }


def _of(kind: type, *phases: str) -> dict[str, Any]:
    told = of_type(kind)
    own = {"version": {"const": VERSION}, "phase": {"enum": list(phases)}}
    return {**told, "required": [*own, *told["required"]], "properties": {**own, **told["properties"]}}


def files() -> dict[str, str]:
    """See scripts.generators."""
    return {PATH: json.dumps(schema(), indent=1) + "\n"}
