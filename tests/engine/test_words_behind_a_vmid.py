"""``safe-snapshot 100 before-upgrade``, as ``qm snapshot`` has it; and a guest's name where one vmid may stand."""

from __future__ import annotations

import pytest

from tests.engine import kit
from tests.engine.kit import check
from tests.fleet import kit as fleet
from tests.lab.site import Site


@pytest.mark.parametrize("words", [("100", "before-upgrade"), ("take", "100", "before-upgrade")])
def test_a_word_behind_a_vmid_is_the_name_of_its_snapshot(lab: Site, words: tuple[str, ...]) -> None:
    run = check(lab, lab.safe_snapshot(*words, "--policy", "require"))
    assert run.exit_code == 0, run
    assert set(kit.snapshots(lab)) == {"before-upgrade"}
    assert "snapshot before-upgrade of qemu/100" in run.stdout


def test_its_json_is_that_of_one_guest(lab: Site) -> None:
    run = check(lab, lab.safe_snapshot("--json", "100", "before-upgrade", "--dry-run"))
    assert (run.exit_code, run.json["snapshot"], run.json["vmid"]) == (0, "before-upgrade", 100)


def test_a_word_that_is_a_guests_name_too_is_a_question_and_not_a_run_without_that_guest() -> None:
    with fleet.guests(2) as lab:
        run = lab.safe_snapshot("100", "guest101")
        assert run.exit_code == 2, run
        assert "'guest101' is the name of guest 101 too" in " ".join(run.stderr.split())
        assert not kit.snapshots(lab, 100)
        assert lab.safe_snapshot("100", "--name", "guest101").exit_code == 0
        assert lab.safe_snapshot("100,guest101", "--dry-run").stdout.count("would be done") == 3
        assert lab.safe_snapshot("100", "guest101", "--together", "--dry-run").exit_code == 0


@pytest.mark.parametrize("word", ["thaw", "status", "check"])
def test_a_command_behind_a_vmid_freezes_nobody(lab: Site, word: str) -> None:
    run = check(lab, lab.safe_snapshot("100", word))
    assert run.exit_code == 2, run
    assert f"`safe-snapshot {word} 100`" in run.stderr
    assert not kit.snapshots(lab)
    assert not lab.node.requests("fsfreeze-freeze")


@pytest.mark.parametrize(
    "words",
    [
        ("100", "no.snapshots.name"),
        ("100", "nobody", "--name", "s1"),
        ("100", "nobody", "--exclude", "999"),
        ("100", "nobody", "--tag", "t"),
        ("100,nobody",),
        ("100", "nobody", "nobody2"),
        ("100", "nobody", "--together"),
    ],
)
def test_any_other_line_is_about_guests(lab: Site, words: tuple[str, ...]) -> None:
    run = check(lab, lab.safe_snapshot(*words))
    assert run.exit_code == 4, run
    assert "no guest's name is" in run.stderr
    assert not kit.snapshots(lab)


def test_a_drill_takes_a_guests_name(lab: Site) -> None:
    lab.node.set_config(100, agent="0")  # it is looked at, and no more
    named, numbered = (lab.safe_snapshot("--json", "drill", word, "--yes") for word in ("guest100", "100"))
    assert (named.exit_code, named.json["error"]) == (numbered.exit_code, numbered.json["error"])
    assert named.json["checks"] == numbered.json["checks"]
    assert named.json["error"]["code"] != "usage"
    for word, says in (("guest", "no guest's name is 'guest'"), ("guest*", "may be several guests"), ("99", "vmid")):
        run = lab.safe_snapshot("drill", word, "--yes")
        assert run.exit_code in (2, 4), run
        assert says in run.stderr


def test_two_guests_of_one_name_are_told_by_their_vmids() -> None:
    with fleet.guests(2) as lab:
        for vmid in (100, 101):
            lab.node.set_config(vmid, name="web")
        run = lab.safe_snapshot("drill", "web", "--yes")
        assert run.exit_code == 2, run
        assert "2 guests are called web; say which: 100, 101" in run.stderr
