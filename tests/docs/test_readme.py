"""The first page, the index, and what all pages have in common: links, figures, defaults, configurations."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

from snapshot.config import reading
from snapshot.config.settings import Config
from snapshot.states import State
from tests.docs.written import PAGES, ROOT, blocks

DOCS = ROOT / "docs"
README = (ROOT / "README.md").read_text("utf-8")
INDEX = (DOCS / "index.md").read_text("utf-8")
STUCK = "docs/runbooks/guest-still-frozen.md"
SCREEN = (80, 58)
DEFAULTS = Config()
LINK = re.compile(r"\]\(([^)]+)\)")


def page(name: str) -> str:
    return (DOCS / name).read_text("utf-8")


def links(path: Path) -> list[str]:
    """Where a page's links lead, those elsewhere in the world left out."""
    return [target for target in LINK.findall(path.read_text("utf-8")) if "://" not in target]


def headings(path: Path) -> set[str]:
    """The anchors of a page, as GitHub and most others make them."""
    text = re.sub(r"(?ms)^ *```.*?^ *```", "", path.read_text("utf-8"))
    plain = [re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", head) for head in re.findall(r"(?m)^#+ (.*)$", text)]
    return {re.sub(r"[^\w\- ]", "", head.replace("`", "").lower()).replace(" ", "-") for head in plain}


def medians(name: str, head: str) -> dict[str, tuple[str, str]]:
    """Who freezes -> the two medians of a page's table."""
    text = page(name)
    lines = text[text.index(head) :].splitlines()
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2 : lines.index("")]]
    return {who: (lab.split(" ")[0], pve.split(" ")[0]) for who, lab, pve in rows}


def test_the_first_page_is_one_screen() -> None:
    columns, lines = SCREEN
    assert len(README.splitlines()) <= lines
    assert max(map(len, README.splitlines())) <= columns


def test_the_first_link_is_for_who_has_a_frozen_guest() -> None:
    assert LINK.findall(README)[0] == STUCK
    assert f"docs/{LINK.findall(INDEX)[0]}" == STUCK


def test_the_page_for_who_has_a_frozen_guest_begins_with_the_thaw_and_fits_a_console() -> None:
    book = (ROOT / STUCK).read_text("utf-8")
    first = "safe-snapshot thaw <vmid>"
    assert book.split("\n\n")[2].strip() == first, "behind the title and one sentence"
    assert README.index(first) < README.index(STUCK), "as the first page does"
    steps = book[book.index("\n1. ") :]
    assert steps.index(first) < steps.index("safe-snapshot status")
    assert max(map(len, book.splitlines())) <= SCREEN[0]


def test_the_index_names_every_page() -> None:
    named = {target.partition("#")[0] for target in links(DOCS / "index.md")}
    missing = {path.name for path in DOCS.glob("*.md")} - {"index.md"} - named
    assert not missing, f"docs/index.md has a line for each page; not yet for {missing}"
    assert "runbooks/README.md" in named


@pytest.mark.parametrize("path", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_link_leads_to_a_heading_that_is_there_and_never_out_of_the_documents(path: Path) -> None:
    for target in links(path):
        name, _, anchor = target.partition("#")
        there = (path.parent / name).resolve() if name else path
        assert there.is_relative_to(DOCS), f"{target}: the package and the node have the documents alone"
        assert not anchor or anchor in headings(there), f"{target}: no such heading"


def test_an_alert_that_a_page_names_is_that_of_its_runbook() -> None:
    alerts = {
        book: name for name, book in re.findall(r"(?m)^\| (\w+) \| \w+ \| \[([\w-]+\.md)\]", page("runbooks/README.md"))
    }
    assert len(alerts) > 10
    for path in PAGES:
        for name, book in re.findall(r"\[([A-Z]\w+)\]\(runbooks/([\w-]+\.md)\)", path.read_text("utf-8")):
            assert name == alerts[book], f"{path.name} calls it {name}"


def test_the_figures_of_the_first_page_are_those_that_were_measured() -> None:
    backup, snapshot = (medians(name, "| who freezes |") for name in ("vzdump-hook.md", "safe-snapshot.md"))
    short = " ".join(README.partition("- **Short.**")[2].partition("\n- ")[0].split())
    for words, (lab, _) in (
        ("for {} ms where we freeze,", backup["owner `hook`"]),
        ("{} where vzdump does ", backup["owner `vzdump`"]),
        ("{} with vzdump alone;", backup["vzdump without the hook, in the same run"]),
        ("in a snapshot {},", snapshot["`safe-snapshot` on the guest's node"]),
        ("{} with PVE alone.", snapshot["PVE's own freeze in its snapshot task, nothing proven"]),
    ):
        assert words.format(lab) in short


@pytest.mark.parametrize("name", ["../README.md", "install.md", "safe-snapshot.md", "vzdump-hook.md"])
def test_a_sample_of_what_is_said_has_no_time_that_was_never_measured(name: str) -> None:
    samples = re.findall(r"frozen for (\S+) m?s", page(name)) + re.findall(r"filesystems?, (\S+) m?s", page(name))
    assert set(samples) == {"..."}


def test_the_figures_beside_pves_own_are_those_that_were_measured() -> None:
    rows = medians("pve-freezing.md", "| | lab, ms |")
    backup, snapshot = (medians(name, "| who freezes |") for name in ("vzdump-hook.md", "safe-snapshot.md"))
    assert rows == {
        "PVE's own freeze in its snapshot task": snapshot["PVE's own freeze in its snapshot task, nothing proven"],
        "`safe-snapshot` on the guest's node": snapshot["`safe-snapshot` on the guest's node"],
        "vzdump's own freeze": backup["vzdump without the hook, in the same run"],
        "`vzdump-hook`, owner `hook`": backup["owner `hook`"],
        "`vzdump-hook`, owner `vzdump`": backup["owner `vzdump`"],
        "`safe-snapshot` from elsewhere, over the API alone": snapshot[
            "`safe-snapshot` from elsewhere, over the API alone"
        ],
    }


@pytest.mark.parametrize(
    ("name", "words", "value"),
    [
        ("../README.md", "or at the deadline ({} s)", DEFAULTS.freeze.max_window_seconds),
        ("pve-freezing.md", "{} s, then it is given up", DEFAULTS.freeze.freeze_timeout_seconds),
        ("pve-freezing.md", "{} s (`max_window_seconds`)", DEFAULTS.freeze.max_window_seconds),
        ("choosing.md", "`max_window_seconds` ({})", DEFAULTS.freeze.max_window_seconds),
        ("choosing.md", "`freeze_timeout_seconds` ({})", DEFAULTS.freeze.freeze_timeout_seconds),
        ("choosing.md", '`policy = "{}"`', DEFAULTS.freeze.policy.value),
        ("choosing.md", '`owner = "{}"`', DEFAULTS.hook.owner.value),
        ("pbs.md", "`max_window_seconds` ({})", DEFAULTS.freeze.max_window_seconds),
        ("cluster.md", "after {} s (`foreign_limit_seconds`)", DEFAULTS.freeze.foreign_limit_seconds),
        ("schedules.md", "`run_limit_seconds` ({} hours)", DEFAULTS.metrics.run_limit_seconds / 3600),
        ("schedules.md", "`[fleet] wait_seconds` ({} minutes)", DEFAULTS.fleet.wait_seconds / 60),
        ("schedules.md", "At most {} guests are in work", DEFAULTS.fleet.at_once),
    ],
)
def test_a_default_that_a_page_names_is_the_default(name: str, words: str, value: object) -> None:
    plain = f"{value:g}" if isinstance(value, int | float) else str(value)
    assert words.format(plain) in " ".join(page(name).split())


@pytest.mark.parametrize("path", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_configuration_that_a_page_shows_can_be_used(path: Path) -> None:
    for mark, body in blocks(path.read_text("utf-8")):
        if mark == "toml":
            reading.parse(tomllib.loads("\n".join(body)), path.name)


def test_the_picture_of_the_states_has_all_of_them() -> None:
    _, body = next(found for found in blocks(page("how-it-works.md")) if "IDLE" in found[1][0])
    assert set(re.findall(r"[A-Z]{4,}", " ".join(body))) == {state.name for state in State}
