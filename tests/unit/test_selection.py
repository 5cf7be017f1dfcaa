"""The grammar of guests: what is a term, whom a selection means, who is left out and why, and what names nobody."""

from __future__ import annotations

import random
import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from snapshot.config.choice import EVERY, Choice, Fit, Grounds, choose
from snapshot.config.labels import LONGEST_LABEL
from snapshot.config.selection import PREFIXED, Selection, Term, TermKind
from snapshot.model import VMID_MAX, VMID_MIN, Guest, GuestKind, Node, Vmid


def guest(vmid: int, name: str = "", node: str = "pve1", **values: object) -> Guest:
    kind = values.pop("kind", GuestKind.QEMU)
    assert isinstance(kind, GuestKind)
    return Guest(Vmid(vmid), Node(node), kind, name=name, running=True)._replace(**values)


CLUSTER = (
    guest(100, "web1", tags=("prod", "snap-daily-7"), pool="shop"),
    guest(101, "web2", node="pve2", tags=("prod",), pool="shop/front"),
    guest(102, "db1", node="pve2", tags=("prod", "db"), pool="shop/db"),
    guest(105, "Test-Web", tags=("Test",)),
    guest(110, "mail", node="pve3", kind=GuestKind.LXC),
    guest(900, "golden", template=True),
)


def chosen(*words: str, **options: list[str]) -> list[int]:
    return [guest.vmid for guest in choose(Selection.parse(words, **options), CLUSTER).guests]


# ---------------------------------------------------------------- whom terms name


@pytest.mark.parametrize(
    ("words", "vmids"),
    [
        ("100", [100]),
        ("100,102", [100, 102]),
        ("101 100 101", [100, 101]),
        ("100-105", [100, 101, 102, 105]),
        ("100-100", [100]),
        ("web1", [100]),
        ("WEB1", [100]),
        ("web*", [100, 101]),
        ("*web*", [100, 101, 105]),
        ("web?", [100, 101]),
        ("web[2-9]", [101]),
        ("[!w]*", [102, 105, 110]),
        ("all", [100, 101, 102, 105, 110]),
        ("tag:prod", [100, 101, 102]),
        ("tag:test", [105]),
        ("tag:d*", [102]),
        ("pool:shop", [100, 101, 102]),
        ("pool:shop/db", [102]),
        ("pool:shop/*", [101, 102]),
        ("node:pve2", [101, 102]),
        ("node:pve[13]", [100, 105, 110]),
        ("label:daily", [100]),
        ("mail,node:pve2 100", [100, 101, 102, 110]),
    ],
)
def test_whom_a_term_names(words: str, vmids: list[int]) -> None:
    assert chosen(*words.split()) == vmids


def test_options_restrict_and_exclude_wins() -> None:
    assert chosen(tags=["prod"]) == [100, 101, 102]
    assert chosen("all", tags=["prod,db"]) == [100, 101, 102]
    assert chosen("web*", tags=["prod"], nodes=["pve2"]) == [101]
    assert chosen(pools=["shop"], exclude=["102"]) == [100, 101]
    assert chosen("100-199", exclude=["web*", "tag:db"]) == [105, 110]
    assert chosen("100", "101", exclude=["pool:shop/front", "node:pve3"]) == [100]
    assert chosen(exclude=["label:daily,all"]) == []


def test_a_pool_is_none_that_only_begins_alike() -> None:
    other = choose(Selection.parse(pools=["sho"]), CLUSTER)
    assert [one.term.word for one in other.unmatched] == ["sho"]


@pytest.mark.parametrize("folds", [True, False])
def test_tags_fold_case_as_the_cluster_does(folds: bool) -> None:
    found = choose(Selection.parse(["tag:test"]), CLUSTER, lambda: folds)
    assert [guest.vmid for guest in found.guests] == ([105] if folds else [])
    assert [guest.vmid for guest in choose(Selection.parse(["tag:Test"]), CLUSTER, lambda: folds).guests] == [105]


def test_who_folds_is_asked_only_where_it_makes_a_difference() -> None:
    def never() -> bool:
        raise AssertionError("asked")

    for word in ("all", "100-199", "web*", "tag:prod", "pool:shop", "node:pve1", "label:daily"):
        choose(Selection.parse([word], exclude=["tag:db"]), CLUSTER, never)


# ---------------------------------------------------------------- who is left out, and why


def left_out(found: Choice) -> dict[int, tuple[Grounds, str]]:
    return {out.guest.vmid: (out.why, out.reason) for out in found.left_out}


def test_each_guest_that_is_left_out_has_its_reason() -> None:
    selection = Selection.parse(["all"], tags=["prod,test"], pools=["shop"], nodes=["pve2"], exclude=["db*"])
    assert left_out(choose(selection, CLUSTER)) == {
        100: (Grounds.NODE, "not on the node pve2"),
        102: (Grounds.EXCLUDED, "--exclude db*"),
        105: (Grounds.POOL, "not in the pool shop"),
        110: (Grounds.TAG, "not tagged prod or test"),
        900: (Grounds.TAG, "not tagged prod or test"),
    }


def test_templates_and_kinds_that_cannot_are_left_out_with_the_reason() -> None:
    found = choose(Selection.parse(["all"]), CLUSTER, fit=Fit(kinds=(GuestKind.QEMU,)))
    assert left_out(found) == {110: (Grounds.KIND, "a container"), 900: (Grounds.TEMPLATE, "a template")}
    assert 900 in choose(Selection.parse(["all"]), CLUSTER, fit=EVERY).vmids


def test_who_is_named_on_the_line_and_left_out_is_marked() -> None:
    found = choose(Selection.parse(["all", "900", "TEST-web"], exclude=["105", "110"]), CLUSTER)
    assert {out.guest.vmid: out.named for out in found.left_out} == {105: True, 110: False, 900: True}


def test_guests_that_no_term_names_are_not_left_out_but_not_meant() -> None:
    assert choose(Selection.parse(["100"]), CLUSTER).left_out == ()


# ---------------------------------------------------------------- what names nobody


@pytest.mark.parametrize(
    ("word", "says"),
    [
        ("103", "guest 103 does not exist in this cluster; near it: 102, 105"),
        ("121", "guest 121 does not exist in this cluster"),
        ("112-300", "no guest has a vmid in 112-300; near it: 110"),
        ("200-300", "no guest has a vmid in 200-300"),
        ("wbe1", "no guest's name is 'wbe1'; near it: web1"),
        ("wbe*", "no guest's name is like 'wbe*'; near it: web2, web1"),
        ("prod", "no guest's name is 'prod'; near it: tag:prod"),
        ("pve2", "no guest's name is 'pve2'; near it: node:pve2"),
        ("ALL", "no guest's name is 'ALL'; near it: all"),
        ("100x", "no guest's name is '100x'; near it: 100"),
        ("tag:prdo", "no guest has a tag 'prdo'; near it: prod"),
        ("pool:shop/d", "no guest is in a pool 'shop/d'; near it: shop/db"),
        ("node:pve9", "no guest is on a node 'pve9'; near it: pve"),
        ("label:dayly", "no guest opts in to the label 'dayly' (by a tag like snap-dayly-7); near it: daily"),
        ("label:yearly", "no guest opts in to the label 'yearly' (by a tag like snap-yearly-7)"),
        ("zzz", "no guest's name is 'zzz'"),
    ],
)
def test_what_names_nobody_is_told_with_what_is_near(word: str, says: str) -> None:
    (one,) = choose(Selection.parse(["100", word]), CLUSTER).unmatched
    assert str(one).startswith(says)
    assert ("near it" in str(one)) == ("near it" in says)


def test_options_that_name_nobody_are_told_too() -> None:
    found = choose(Selection.parse(tags=["prod", "nope"], nodes=["pve7"], exclude=["103"]), CLUSTER)
    assert [str(one.term) for one in found.unmatched] == ["tag:nope", "node:pve7"]
    assert [str(one.term) for one in found.idle] == ["103"], "an exclude that names nobody is no error"


def test_an_empty_cluster_has_nobody() -> None:
    (one,) = choose(Selection.parse(["all"]), ()).unmatched
    assert str(one) == "PVE lists no guest at all"


# ---------------------------------------------------------------- what is no term


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("99", "PVE numbers guests from 100 to 999999999"),
        ("0100", "is not a vmid"),
        ("99-200", "is not a vmid"),
        ("100-1000000000", "is not a vmid"),
        ("200-100", "write 100-200"),
        ("100:200", "a range is written 100-200"),
        ("-105", "--exclude"),
        ("@all", "it is written all"),
        ("@all-pve1", "it is written node:pve1"),
        ("@node-pve1", "it is written node:pve1"),
        ("@pool-shop", "it is written pool:shop"),
        ("@tag-prod", "it is written tag:prod"),
        ("@pool", "it is written pool:..."),
        ("", "an empty place"),
        ("100,,101", "an empty place"),
        ("tag:", "'' is not a tag"),
        ("name:web", "is not a vmid, a range"),
        ("a b", "is not a vmid, a range"),
        ("\uff11\uff10\uff10", "is not a vmid"),
        ("w\u00e4b", "is not a vmid"),
        ("web\n", "is not a vmid"),
        ("100\n", "is not a vmid"),
        ("tag:\u202eprod", "is not a tag"),
        ("x" * 256, "is not a vmid"),
        ("label:Daily", "is not a label"),
        ("label:" + "d" * (LONGEST_LABEL + 1), "is not a label"),
    ],
)
def test_what_is_no_term_is_refused_in_one_line(text: str, says: str) -> None:
    with pytest.raises(ValueError, match=r"\A[^\n]{1,300}\Z") as refused:
        Selection.parse([text])
    assert says in str(refused.value)
    assert str(refused.value).isprintable()


def test_an_options_word_may_have_its_prefix() -> None:
    assert Selection.parse(tags=["tag:prod"]) == Selection.parse(tags=["prod"])
    with pytest.raises(ValueError, match="is not a pool"):
        Selection.parse(pools=["tag:prod"])


# ---------------------------------------------------------------- vmids alone


def test_vmids_alone_need_no_listing() -> None:
    assert Selection.parse(["100"]).single == 100
    assert Selection.parse(["100,100", "100-100"]).single == 100
    assert Selection.parse(["102", "100"]).plain == (102, 100)
    assert Selection.parse(["100", "102"], exclude=["101-110"]).plain == (100,)
    assert Selection.parse(["100"], exclude=["100"]).plain == ()
    for other in (["100-101"], ["web1"], ["all"], [], ["100", "tag:x"]):
        assert Selection.parse(other).plain is None, other
    assert Selection.parse(["100"], exclude=["web*"]).plain is None
    for option in ("tags", "pools", "nodes"):
        assert Selection.parse(["100"], **{option: ["x"]}).plain is None
        assert Selection.parse(["100"], **{option: ["x"]}).single is None
    assert Selection.parse(["100"], exclude=["101"]).single is None
    assert Selection.of_vmids([101, 100, 101]) == Selection.parse(["101", "100"])


# ---------------------------------------------------------------- properties

NAMES = st.text(string.ascii_letters + string.digits + ".-*?[]!_", min_size=1, max_size=12)
VMIDS = st.integers(VMID_MIN, VMID_MAX) | st.integers(100, 130)


def _terms() -> st.SearchStrategy[str]:
    spans = st.tuples(VMIDS, VMIDS).map(lambda ends: f"{min(ends)}-{max(ends)}")
    prefixed = st.tuples(st.sampled_from([k for k in PREFIXED if k is not TermKind.LABEL]), NAMES)
    labels = st.sampled_from(["label:daily", "label:x_1"])
    found = (
        st.just("all") | VMIDS.map(str) | spans | NAMES | prefixed.map(lambda two: f"{two[0].value}:{two[1]}") | labels
    )
    return found.filter(_is_term)


def _is_term(text: str) -> bool:
    try:
        Term.parse(text)
    except ValueError:
        return False
    return True


TERMS = st.lists(_terms(), max_size=4)
WORDS = st.lists(NAMES.filter(lambda word: _is_term(f"tag:{word}")), max_size=2)
SELECTIONS = st.builds(
    lambda guests, tags, pools, nodes, exclude: Selection.parse(
        guests, tags=tags, pools=pools, nodes=nodes, exclude=exclude
    ),
    *(TERMS, WORDS, WORDS, WORDS, TERMS),
)
GUESTS = st.builds(
    guest,
    st.integers(100, 130),
    st.sampled_from(["web1", "web2", "Web1", "db", "a.b-c", "", "x"]),
    st.sampled_from(["pve1", "pve2"]),
    tags=st.lists(st.sampled_from(["prod", "Prod", "snap-daily-7", "snap-daily", "x"]), max_size=3).map(tuple),
    pool=st.sampled_from(["", "a", "a/b", "a/b/c"]),
    template=st.booleans(),
    kind=st.sampled_from(list(GuestKind)),
)
LISTINGS = st.lists(GUESTS, max_size=8)


def as_line(selection: Selection) -> Selection:
    """Through the words of a command line, as a shell would hand them over."""
    found: dict[str, list[str]] = {name: [] for name in ("guests", "--tag", "--pool", "--node", "--exclude")}
    words = iter(selection.words())
    for word in words:
        if word in found:
            found[word].append(next(words))
        else:
            found["guests"].append(word)
    return Selection.parse(
        found["guests"],
        tags=found["--tag"],
        pools=found["--pool"],
        nodes=found["--node"],
        exclude=found["--exclude"],
    )


@given(SELECTIONS)
def test_a_selection_is_the_same_after_a_round_trip(selection: Selection) -> None:
    assert as_line(selection) == selection
    joined = Selection.parse([",".join(map(str, selection.guests))]) if selection.guests else Selection()
    assert joined.guests == selection.guests


@given(SELECTIONS, LISTINGS, st.booleans())
def test_exclude_wins_always(selection: Selection, listing: list[Guest], folds: bool) -> None:
    found = choose(selection, listing, lambda: folds)
    for one in found.guests:
        assert not any(term.matches(one, lambda: folds) for term in selection.exclude)
    everybody = choose(selection._replace(exclude=(Term(TermKind.ALL),)), listing, lambda: folds)
    assert everybody.guests == ()


@given(SELECTIONS, LISTINGS, st.booleans(), st.randoms(use_true_random=False))
def test_no_order_changes_anything(
    selection: Selection, listing: list[Guest], folds: bool, chance: random.Random
) -> None:
    def shuffled(terms: tuple[Term, ...]) -> tuple[Term, ...]:
        return tuple(chance.sample(terms, len(terms)))

    found = choose(selection, listing, lambda: folds)
    other = choose(Selection(*map(shuffled, selection)), chance.sample(listing, len(listing)), lambda: folds)
    assert other.guests == found.guests
    assert [(out.guest, out.why, out.named) for out in other.left_out] == [
        (out.guest, out.why, out.named) for out in found.left_out
    ]
    assert set(other.unmatched) == set(found.unmatched)
    assert set(other.idle) == set(found.idle)


@given(SELECTIONS, LISTINGS, st.booleans())
def test_every_guest_is_chosen_or_left_out_or_not_meant_once(
    selection: Selection, listing: list[Guest], folds: bool
) -> None:
    found = choose(selection, listing, lambda: folds)
    vmids = [one.vmid for one in found.guests] + [out.guest.vmid for out in found.left_out]
    assert len(vmids) == len(set(vmids))
    assert list(found.vmids) == sorted(found.vmids)
    every = choose(selection, listing, lambda: folds, EVERY)
    assert all(selection.means(one, lambda: folds) for one in every.guests)
    assert not any(selection.means(out.guest, lambda: folds) for out in every.left_out)
    named = {g.vmid for g in found.guests} | {out.guest.vmid for out in found.left_out}
    for one in listing:
        if one.vmid not in named and sum(one.vmid == other.vmid for other in listing) == 1:
            assert not any(term.matches(one, lambda: folds) for term in selection.guests or (Term(TermKind.ALL),))


@given(SELECTIONS, LISTINGS)
def test_what_goes_by_numbers_agrees_with_the_listing(selection: Selection, listing: list[Guest]) -> None:
    if selection.is_numbers:
        every = choose(selection, listing, fit=EVERY)
        assert set(every.vmids) == {one.vmid for one in listing if selection.holds(one.vmid)}
    if selection.plain is not None:
        assert all(selection.holds(vmid) for vmid in selection.plain)


def _parsed(texts: list[str], words: list[str]) -> tuple[Selection | None, str]:
    try:
        return Selection.parse(texts, tags=words, pools=words, nodes=words, exclude=texts), ""
    except ValueError as error:
        return None, str(error)


@given(st.lists(st.text(max_size=300), max_size=3), st.lists(st.text(max_size=60), max_size=2))
def test_any_text_is_a_selection_or_refused_in_one_line(texts: list[str], words: list[str]) -> None:
    found, refusal = _parsed(texts, words)
    assert refusal.isprintable()
    assert len(refusal) < 300
    if found is None:
        return
    assert as_line(found) == found
    assert str(found).isascii()
    choose(found, CLUSTER)


@given(st.text(string.printable, max_size=30))
def test_any_printable_text_is_a_term_of_its_own_writing_or_refused(text: str) -> None:
    if _is_term(text):
        assert Term.parse(str(Term.parse(text))) == Term.parse(text)
