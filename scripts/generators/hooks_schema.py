"""docs/hooks-schema.json: what the administrator's own commands read on standard input in the phases of ours."""

from __future__ import annotations

import json
from typing import Any

from scripts.generators.json_schema import of_type
from snapshot.commands.document import BEFORE_FREEZE, VERDICT, Told
from snapshot.commands.runner import VERSION

PATH = "docs/hooks-schema.json"


def schema() -> dict[str, Any]:
    """The schema as a tree."""
    told = of_type(Told)
    own = {"version": {"const": VERSION}, "phase": {"enum": [BEFORE_FREEZE, VERDICT]}}
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "What own commands of vzdump-hooks read on standard input",
        **told,
        "description": "One object for each call. version rises when a key changes its meaning or goes, not when one "
        f"is added. {told['description']}",
        "required": [*own, *told["required"]],
        "properties": {**own, **told["properties"]},
    }


def files() -> dict[str, str]:
    """See scripts.generators."""
    return {PATH: json.dumps(schema(), indent=1) + "\n"}
