"""The published schema of ``--json``, read strictly: a key that it does not name must not be printed by us."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from jsonschema import Draft202012Validator

PUBLISHED: dict[str, Any] = json.loads((Path(__file__).parents[1] / "docs" / "json-schema.json").read_text("utf-8"))


def closed(tree: Any) -> Any:
    if isinstance(tree, list):
        return [closed(one) for one in tree]
    if not isinstance(tree, dict):
        return tree
    found = {key: closed(value) for key, value in tree.items()}
    return found | ({"additionalProperties": False} if {"type", "properties"} <= found.keys() else {})


def _strict() -> Draft202012Validator:
    schema = closed(PUBLISHED)
    del schema["additionalProperties"]  # the commands' own keys stand below allOf
    return Draft202012Validator({**schema, "unevaluatedProperties": False})


STRICT = _strict()


def follows_the_schema(found: dict[str, Any]) -> dict[str, Any]:
    """The object, which is as docs/json-schema.json says and has the error's exit code for its own."""
    faults = [f"{fault.json_path}: {fault.message}" for fault in STRICT.iter_errors(found)]
    assert not faults, "\n".join(faults)
    assert found["exit_code"] == (found["error"]["exit_code"] if found["error"] else 0)
    return found
