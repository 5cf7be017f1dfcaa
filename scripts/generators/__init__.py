"""What ``scripts/generate-docs`` writes: one module a subject, each with a function ``files``.

A generator is a function that returns ``{path below the checkout: content}``. Add a new one to GENERATORS, and the test
that compares the checkout with its generators (tests/metrics/test_generated.py) covers it.
"""

from __future__ import annotations

import ast
import importlib
import inspect
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]

GENERATORS = (
    "scripts.generators.metrics_page",
    "scripts.generators.alert_rules",
    "scripts.generators.mixin",
    "scripts.generators.dashboard",
    "scripts.generators.exit_codes",
    "scripts.generators.findings",
    "scripts.generators.json_schema",
    "scripts.generators.json_page",
    "scripts.generators.hooks_schema",
    "scripts.generators.states",
    "scripts.generators.configuration",
)
"""Imported one by one, so that one whose library is missing is named and does not hide the others."""


def generated() -> Iterator[tuple[Path, str]]:
    """(path, content) of everything generated. ImportError when a development dependency is missing."""
    for name in GENERATORS:
        for path, content in importlib.import_module(name).files().items():
            yield ROOT / path, content


def field_texts(cls: type[Any]) -> dict[str, str]:
    """Field -> the string that stands below it in the class's source."""
    found: dict[str, str] = {}
    [node] = ast.parse(textwrap.dedent(inspect.getsource(cls))).body
    assert isinstance(node, ast.ClassDef)
    for field, below in zip(node.body, node.body[1:], strict=False):
        is_text = isinstance(below, ast.Expr) and isinstance(below.value, ast.Constant)
        if is_text and isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name):
            found[field.target.id] = " ".join(str(below.value.value).split())
    return found
