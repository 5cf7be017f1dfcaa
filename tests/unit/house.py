"""Reads the house from its source: who imports whom, and what is too long or too deep. It judges nothing but that."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Mapping

FILE_LINES = 350
FUNCTION_LINES = 60
NESTING = 4

_ROW = re.compile(r"^\| (\d+) \| `([^`]+)` \| .*\|$", re.MULTILINE)
_MEASURED = re.compile(r"#.*\d ms\b")
_LATE = re.compile(r"(snapshot|vzdump_hooks)(\.\w+)*:\w+")
_IMPORT = re.compile(r"\s*(from|import) |\s*#")
_BLOCKS = (ast.If, ast.For, ast.While, ast.With, ast.Try, ast.TryStar, ast.Match)
_FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)


def floors(page: str) -> dict[str, int]:
    """The table of rooms: a file or a folder (it ends in a slash), and its floor; 1 is the ground."""
    found: dict[str, int] = {}
    for floor, room in _ROW.findall(page):
        before, _, names = room.partition("{")
        names, _, after = names.partition("}")
        found |= dict.fromkeys((f"{before}{name}{after}" for name in names.split(",")), int(floor))
    return found


def faults(sources: Mapping[str, str], table: Mapping[str, int]) -> dict[str, str]:
    """Everything that stands against the table, a limit, or the glossary: a key that names it, and what to look at.

    ``sources`` are the texts of all files of both packages, by path. Where no arrow leads up, rooms cannot stand in a
    circle, so circles are asked of files only.
    """
    found: dict[str, str] = {}
    rooms = {
        path: [room for room in table if path == room or (room[-1] == "/" and path.startswith(room))]
        for path in sources
    }
    for path, its in rooms.items():
        if len(its) != 1 and not re.fullmatch(r"\w+/__init__\.py", path):
            found[f"no room: {path}"] = f"it stands in {len(its)} rows of CONTRIBUTING's table"
    for room in table:
        if not any(room in its for its in rooms.values()):
            found[f"empty room: {room}"] = "CONTRIBUTING's table names what is not there"
    arrows: dict[str, set[str]] = {path: set() for path in sources}
    classes: dict[str, str] = {}
    for path, source in sources.items():
        tree = ast.parse(source, path)
        found |= _sizes(path, source, tree)
        for module, line, inside in _imports(tree):
            other = _file_of(module, sources)
            if inside and not _is_measured(source.splitlines(), line):
                found[f"inside: {path} -> {module}"] = (
                    f"line {line}: no comment beside it says why, with what was measured, '... ms'"
                )
            if other and other != path:
                arrows[path].add(other)
        for name in (node.name for node in tree.body if isinstance(node, ast.ClassDef)):
            if name in classes:
                found[f"two classes: {name}"] = f"{classes[name]} and {path}: one word, one thing"
            classes[name] = path
    for path, others in arrows.items():
        for other in sorted(others):
            floor, above = (min((table[room] for room in rooms[file]), default=0) for file in (path, other))
            if 0 < floor < above:
                found[f"upward: {path} -> {other}"] = f"floor {floor} imports floor {above}"
    return found | {f"circle: {', '.join(part)}": "these import each other" for part in _circles(arrows)}


def _parts(tree: ast.AST) -> Iterator[tuple[ast.AST, bool]]:
    """(node, inside a function?) of every node of ``tree``."""
    ahead = [(tree, False)]
    while ahead:
        node, inside = ahead.pop()
        yield node, inside
        below = inside or isinstance(node, _FUNCTIONS)
        ahead += [(child, below) for child in ast.iter_child_nodes(node)]


def _imports(tree: ast.Module) -> Iterator[tuple[str, int, bool]]:
    """(dotted name, line, inside a function?) of every import; ``from a import b`` is ``a.b``. So is ``"a:b"``, for
    snapshot/base/late.py; that one is of the mechanism, wherever it stands.
    """
    for node, inside in _parts(tree):
        if isinstance(node, ast.Import):
            yield from ((alias.name, node.lineno, inside) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from ((f"{node.module}.{alias.name}", node.lineno, inside) for alias in node.names)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and _LATE.fullmatch(node.value):
            yield node.value.replace(":", "."), node.lineno, False


def _file_of(module: str, sources: Mapping[str, str]) -> str | None:
    """The file that an import of ``module`` reads: a module, a package, or a name out of either."""
    whole = module.replace(".", "/")
    holder = whole.rpartition("/")[0]
    names = (f"{whole}.py", f"{whole}/__init__.py", f"{holder}.py", f"{holder}/__init__.py")
    return next((name for name in names if name in sources), None)


def _is_measured(lines: list[str], line: int) -> bool:
    """Imports that stand together may share the reason: it stands beside one of them, or above the first."""
    while line > 1 and _IMPORT.match(lines[line - 2]) and not _MEASURED.search(lines[line - 1]):
        line -= 1
    return bool(_MEASURED.search(lines[line - 1]))


def _sizes(path: str, source: str, tree: ast.Module) -> Iterator[tuple[str, str]]:
    lines = source.count("\n")
    if lines > FILE_LINES:
        yield f"long file: {path}", f"{lines} lines of {FILE_LINES}"
    if path.endswith("/__init__.py") and not (len(tree.body) == 1 and ast.get_docstring(tree)):
        yield f"not empty: {path}", "more than a docstring: nothing is exported a second time"
    for node in ast.walk(tree):
        if isinstance(node, _FUNCTIONS):
            lines = (node.end_lineno or 0) - node.lineno + 1
            if lines > FUNCTION_LINES:
                yield f"long function: {path} {node.name}", f"line {node.lineno}: {lines} lines of {FUNCTION_LINES}"
            if _depth(node) > NESTING:
                yield (
                    f"deep: {path} {node.name}",
                    f"line {node.lineno}: {_depth(node)} blocks in each other of {NESTING}",
                )


def _depth(node: ast.AST) -> int:
    """How many blocks stand in each other below ``node``; a function or a class in it counts for itself, elif as if."""
    deepest = 0
    for child in ast.iter_child_nodes(node):
        if isinstance(child, (*_FUNCTIONS, ast.ClassDef, ast.expr)):
            continue
        is_elif = isinstance(node, ast.If) and isinstance(child, ast.If) and node.orelse == [child]
        deepest = max(deepest, _depth(child) + (isinstance(child, _BLOCKS) and not is_elif))
    return deepest


def _circles(arrows: Mapping[str, set[str]]) -> set[tuple[str, ...]]:
    """The files that reach each other."""
    reached: dict[str, set[str]] = {}
    for start in arrows:
        reached[start], ahead = set(), [start]
        while ahead:
            new = arrows[ahead.pop()] - reached[start]
            reached[start] |= new
            ahead += new
    return {
        tuple(sorted(other for other in reached[path] if path in reached[other]))
        for path in arrows
        if path in reached[path]
    }
