"""Labels by PVE's tags: what is one, what only looks like one and is told, and nothing of the rest."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from snapshot.config.labels import MOST_KEPT, PERIODS, Label, check_label, labels_of

PVE_TAG = re.compile(r"[a-z0-9_][a-z0-9_\-+.]*\Z", re.IGNORECASE)
"""pve-common, PVE::JSONSchema, $PVE_TAG_RE."""
TAGS = st.from_regex(PVE_TAG, fullmatch=True)


@pytest.mark.parametrize("name", [*PERIODS, "quarter", "before_work", "x"])
@pytest.mark.parametrize("keep", [1, 7, MOST_KEPT])
def test_a_tag_names_a_label_and_how_many_to_keep(name: str, keep: int) -> None:
    found = labels_of(["prod", f"snap-{name}-{keep}"])
    assert found.labels == (Label(name, keep),)
    assert found.odd == ()
    assert PVE_TAG.match(found.labels[0].tag)
    assert found.named(name) == Label(name, keep)
    assert found.named("other") is None


def test_a_guest_may_have_several() -> None:
    found = labels_of(["snap-weekly-4", "snap-daily-7", "snap-daily-7"])
    assert found.labels == (Label("daily", 7), Label("weekly", 4))
    assert found.odd == ()


@pytest.mark.parametrize(
    ("tag", "why"),
    [
        ("snap-daily", "how many to keep is missing"),
        ("snap-7", "a label is missing"),
        ("snap--7", "is not a label"),
        ("snap-daily-", "'' is no number from 1 to 999"),
        ("snap-daily-0", "'0' is no number"),
        ("snap-daily-07", "'07' is no number"),
        ("snap-daily-1000", "'1000' is no number"),
        ("snap-daily-many", "'many' is no number"),
        ("snap-daily-7-8", "'daily-7' is not a label"),
        ("snap-7daily-7", "is not a label"),
        ("snap-averyveryverylongword-7", "is not a label"),
        ("snap_daily_7", "dashes stand between the parts"),
        ("snap.daily.7", "dashes stand between the parts"),
        ("snap+daily-7", "dashes stand between the parts"),
        ("snaps-daily-7", "it is no label as it stands"),
        ("snapdaily7", "it is no label as it stands"),
        ("snpa-weekly-2", "it is no label as it stands"),
        ("snapshot-hourly-24", "it is no label as it stands"),
    ],
)
def test_a_tag_that_looks_like_one_and_makes_no_sense_is_told(tag: str, why: str) -> None:
    found = labels_of([tag])
    assert found.labels == ()
    (odd,) = found.odd
    assert odd.tag == tag
    assert why in odd.why
    assert "write snap-daily-7" in odd.why or "is not a label" in odd.why
    assert str(odd).isprintable()


@pytest.mark.parametrize("tag", ["prod", "snapper", "snap", "backup-daily-7", "daily", "daily-7", "nosnap", "soap-7"])
def test_other_tags_are_nobodys_business(tag: str) -> None:
    assert labels_of([tag]) == ((), ())


def test_a_label_that_is_almost_a_usual_one_counts_and_is_told() -> None:
    found = labels_of(["snap-dayly-7"])
    assert found.labels == (Label("dayly", 7),)
    assert "did you mean 'daily'?" in found.odd[0].why


def test_of_two_numbers_for_one_label_the_larger_counts_and_it_is_told() -> None:
    """What is unclear deletes nothing."""
    for tags in (["snap-daily-7", "snap-daily-14"], ["snap-daily-14", "snap-daily-7"]):
        found = labels_of(tags)
        assert found.labels == (Label("daily", 14),)
        assert "so 14 are kept" in found.odd[0].why


def test_case_folds_where_the_clusters_does() -> None:
    assert labels_of(["Snap-Daily-7"]).labels == (Label("daily", 7),)
    found = labels_of(["Snap-Daily-7"], lambda: False)
    assert found.labels == ()
    assert "tags know case" in found.odd[0].why


def test_who_folds_is_asked_only_for_a_label_with_capitals() -> None:
    def never() -> bool:
        raise AssertionError("asked")

    assert labels_of(["Prod", "snap-daily-7"], never).labels == (Label("daily", 7),)


@given(st.lists(TAGS | TAGS.map(lambda tag: f"snap-{tag}") | TAGS.map(lambda tag: f"snap{tag}"), max_size=5))
def test_no_tag_of_pves_goes_wrong_or_unsaid(tags: list[str]) -> None:
    found = labels_of(tags)
    for label in found.labels:
        assert check_label(label.name) == label.name
        assert 1 <= label.keep <= MOST_KEPT
    told = {odd.tag for odd in found.odd} | {label.tag for label in found.labels}
    for tag in tags:
        if re.match(r"snap[-_.+]", tag, re.IGNORECASE):
            assert tag in told or tag.lower() in told, f"{tag} is left out without a word"


@given(st.text(max_size=40))
def test_any_text_is_a_label_or_refused_in_one_line(text: str) -> None:
    try:
        refusal = check_label(text) and ""
    except ValueError as error:
        refusal = str(error)
    assert refusal.isprintable()
