"""The published schema of what own commands read, read strictly: a key that it does not name must not be sent by us."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from jsonschema import Draft202012Validator

from tests.json_schema import closed

PUBLISHED: dict[str, Any] = json.loads((Path(__file__).parents[1] / "docs" / "hooks-schema.json").read_text("utf-8"))
STRICT = Draft202012Validator(closed(PUBLISHED))


def follows_the_schema(found: dict[str, Any]) -> dict[str, Any]:
    """The object, which is as docs/hooks-schema.json says."""
    faults = [f"{fault.json_path}: {fault.message}" for fault in STRICT.iter_errors(found)]
    assert not faults, "\n".join(faults)
    return found
