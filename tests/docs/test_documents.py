"""The sample configuration loads, the links lead somewhere, and the documents speak of nothing that is not there."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

from snapshot.config import reading
from snapshot.config.settings import Config
from snapshot.errors import exit_codes

ROOT = Path(__file__).parents[2]
SAMPLE = ROOT / "contrib" / "config.toml"
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")])


def test_the_sample_configuration_changes_nothing_as_it_is() -> None:
    assert reading.load(SAMPLE) == Config()


def test_every_commented_setting_of_the_sample_is_the_default() -> None:
    lines = [line.removeprefix("#") if re.match(r"#\w+ = ", line) else line for line in SAMPLE.read_text().splitlines()]
    end = lines.index("#[[guest]]")
    tree = tomllib.loads("\n".join(line for line in lines[:end] if not line.endswith("= ...")))
    assert len(tree) == 12
    assert reading.parse(tree, "the sample") == Config()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_link_of_a_page_leads_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", page.read_text()):
        if "://" not in target:
            assert (page.parent / target).exists(), f"{page.name} links to {target}"


def test_every_exit_code_is_in_the_documentation() -> None:
    text = (ROOT / "docs" / "exit-codes.md").read_text()
    for number, codes, what in exit_codes():
        words = ", ".join(f"`{code}`" for code in codes)
        assert f"| {number if number != 128 else '128 + n'} | {words} | {what} |" in text


def test_every_make_target_of_the_documents_exists() -> None:
    targets = set(re.findall(r"^([a-z0-9-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    for page in PAGES:
        named = set(re.findall(r"`make ([a-z0-9-]+)", page.read_text()))
        assert named <= targets, page.name


def test_every_file_that_a_page_names_is_there() -> None:
    named = re.compile(r"(?:snapshot|vzdump_hooks|contrib|scripts|tests|docs)/[\w./@-]*\w/?")
    for page in PAGES:
        if page.name != "CHANGELOG.md":
            for path in named.findall(page.read_text()):
                assert (ROOT / path).exists(), f"{page.name} names {path}"


def test_the_answers_to_where_would_it_go_are_true() -> None:
    page = (ROOT / "CONTRIBUTING.md").read_text().partition("## Where is it")[2].partition("\n## ")[0]
    rows = [re.findall(r"`([^`]+)`", row) for row in page.splitlines() if row.startswith("| ")][2:]
    assert len(rows) >= 9
    for row in rows:
        files = [ROOT / name for name in row if (ROOT / name).is_file()]
        for name in row:
            assert (ROOT / name).exists() or any(name in file.read_text() for file in files), (
                f"{name}: not in its row's files"
            )
