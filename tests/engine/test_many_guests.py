"""Several guests on one line: check, doctor, thaw, status, history and report, and the shell's completion of guests."""

from __future__ import annotations

import contextlib
import os
import pty
import re
import shlex
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from snapshot.base.procfs import ProcessIdentity
from snapshot.journal.store import Journal
from tests.engine.kit import QUICK_LIMITS, check
from tests.json_schema import follows_the_schema
from tests.lab.guest.scripted import ScriptedGuest
from tests.lab.node.node import GuestSpec
from tests.lab.site import Run, Site, environment, run_command, site
from tests.unit.kit import record

FREEZE = "guest-fsfreeze-freeze"


@pytest.fixture(scope="module")
def lab() -> Iterator[Site]:
    """Two scripted guests that run (100 web1, 101 web2), one that is off, a container and a template, on two nodes."""
    with site(ScriptedGuest, ScriptedGuest, limits=dict(QUICK_LIMITS), nodes=("pve1", "pve2")) as found:
        node = found.node
        node.set_config(100, name="web1", tags="prod;snap-daily-7")
        node.set_config(101, name="web2", tags="prod;snap-weekly")
        node.add_guest(GuestSpec(102, node="pve2", pool="shop/db", config={"name": "db1", "tags": "Test"}))
        node.add_guest(GuestSpec(110, node="pve2", kind="lxc", pool="shop", config={"hostname": "mail"}))
        node.add_guest(GuestSpec(900, config={"name": "golden", "template": "1"}))
        yield found
        assert node.server_log() == "", node.server_log()


def run(lab: Site, line: str, *, thawed: bool = True) -> Run:
    return check(lab, lab.safe_snapshot(*line.split()), thawed=thawed)


def the_object(lab: Site, line: str, exit_code: int = 0, *, thawed: bool = True) -> dict[str, Any]:
    done = run(lab, f"--json {line}", thawed=thawed)
    assert done.exit_code == exit_code, done
    assert done.stderr == "", done
    return follows_the_schema(done.json)


def frozen(lab: Site, vmid: int) -> contextlib.AbstractContextManager[None]:
    guest = lab.guests[vmid]
    assert isinstance(guest, ScriptedGuest)

    @contextlib.contextmanager
    def held() -> Iterator[None]:
        guest.ask(FREEZE)
        try:
            yield
        finally:
            guest.ask("guest-fsfreeze-thaw")

    return held()


# ---------------------------------------------------------------- check


def test_check_of_several_is_a_line_each_and_a_closing_one(lab: Site) -> None:
    done = run(lab, "check all --exclude 102")
    assert done.exit_code == 0, done
    lines = done.stdout.splitlines()
    head = next(number for number, line in enumerate(lines) if line.startswith(" VMID"))
    rows = {line.split()[0]: line for line in lines[head + 1 : -1] if line.strip()[:1].isdigit()}
    assert list(rows) == ["100", "101", "102", "110", "900"]
    assert "web1" in rows["100"]
    assert rows["100"].endswith("ready: this guest can be snapshotted consistently")
    assert rows["102"].endswith("left out: --exclude 102")
    assert rows["900"].endswith("left out: a template")
    assert lines[-1] == "3 guests: 2 ready, 1 container; 2 left out"
    assert "guest 101: tag 'snap-weekly': how many to keep is missing" in done.stdout


def test_check_of_several_ends_with_the_worst(lab: Site) -> None:
    lab.node.set_config(101, agent="0")
    try:
        found = the_object(lab, "check 100,101", 6)
        assert [one["error"] and one["error"]["exit_code"] for one in found["guests"]] == [None, 6]
        assert found["error"]["message"].startswith("1 of 2 guests: guest 101: ")
        assert found["error"]["remedy"]
        with frozen(lab, 100):
            found = the_object(lab, "check web1 web2", 13, thawed=False)
        assert [one["error"]["code"] for one in found["guests"]] == ["foreign-freeze", "not-consistent"]
    finally:
        lab.node.set_config(101, agent="1")


def test_the_object_of_several_has_who_is_left_out_and_why(lab: Site) -> None:
    found = the_object(lab, "check web* 900 --tag prod --exclude web2")
    assert [one["guest"]["vmid"] for one in found["guests"]] == [100]
    assert found["guests"][0]["checks"]
    assert found["guests"][0]["facts"]["os"]
    told = {one["guest"]["vmid"]: (one["why"], one["reason"], one["named"]) for one in found["left_out"]}
    assert told == {101: ("excluded", "--exclude web2", False), 900: ("tag", "not tagged prod", True)}


def test_one_guest_by_its_vmid_is_shown_as_ever(lab: Site) -> None:
    assert set(the_object(lab, "check 100")) >= {"guest", "checks", "facts", "frozen"}
    assert set(the_object(lab, "check web1")) >= {"guests", "left_out"}, "how many match is the cluster's matter"


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("check wbe1", "no guest's name is 'wbe1'; near it: web1"),
        ("check 100 103", "guest 103 does not exist in this cluster; near it: 102, 110"),
        ("check all --tag prdo", "no guest has a tag 'prdo'; near it: prod"),
        (
            "check --pool shop --node pve1",
            "no guest is left: 5 guests left out (not in the pool shop; not on the node pve1)",
        ),
        ("check 900", "is a template"),
        ("check 900,900-901", "no guest is left: 1 guest left out (a template)"),
        ("thaw --tag nope", "no guest has a tag 'nope'"),
        ("thaw 100 --exclude 100-102", "no guest is left"),
        ("doctor wbe2", "near it: web2"),
        ("status 200-300", "no guest 200-300 in this cluster"),
        ("status --tag nope", "no guest has a tag 'nope'"),
        ("history --tag nope", "no guest has a tag 'nope'"),
    ],
)
def test_what_names_nobody_is_an_error_before_anything_begins(lab: Site, line: str, says: str) -> None:
    asked = len(lab.node.requests("/agent/"))
    done = run(lab, line)
    assert done.exit_code == 4, done
    assert says in done.text
    if line.startswith(("check", "thaw")):
        assert len(lab.node.requests("/agent/")) == asked


def test_an_exclude_that_names_nobody_is_a_warning(lab: Site) -> None:
    found = the_object(lab, "check --tag prod --exclude 103,wbe2")
    assert len(found["guests"]) == 2
    assert any("--exclude 103 leaves nobody out" in warning for warning in found["warnings"])
    assert any("near it: web2" in warning for warning in found["warnings"])


def test_who_writes_several_behind_an_exclude_is_asked_whom_he_means(lab: Site) -> None:
    done = run(lab, "check all 101 102 --exclude 100")
    assert done.exit_code == 2, done
    assert "`--exclude 100,101,102`" in done.stderr


# ---------------------------------------------------------------- thaw


def test_several_are_thawed_and_the_answer_is_a_line_each(lab: Site) -> None:
    with frozen(lab, 100), frozen(lab, 101):
        done = run(lab, "thaw 100 101")
    assert done.exit_code == 0, done
    assert [line.partition(":")[0] for line in done.stdout.splitlines()] == [
        "guest 100 is thawed",
        "guest 101 is thawed",
        "2 of 2 guests thawed",
    ]


def test_plain_vmids_are_thawed_with_a_broken_configuration_and_no_listing(lab: Site) -> None:
    """On the guests' own node the rescue asks nobody for a list."""
    text = lab.config_path.read_text()
    lab.on_the_node()
    lab.config_path.write_text(f"{lab.config_path.read_text()}\n[nonsense]\nx = 1\n")
    lab.node.stop_front()
    try:
        with frozen(lab, 100), frozen(lab, 101):
            found = the_object(lab, "thaw 100,101 102 --exclude 102")
    finally:
        lab.node.start_front()
        lab.config_path.write_text(text)
        lab.settings["local"].pop("node")
    assert [(one["vmid"], one["thaw"]["confirmed"]) for one in found["guests"]] == [(100, True), (101, True)]
    assert "nonsense" in found["warnings"][0]


def test_one_that_cannot_be_thawed_keeps_no_other_from_it(lab: Site) -> None:
    lab.write_config(thaw={"owner_limit_seconds": 1.0})
    try:
        with frozen(lab, 100):
            found = the_object(lab, "thaw 999 100", 4)
    finally:
        lab.write_config()
    assert [one["error"] and one["error"]["code"] for one in found["guests"]] == ["guest-removed", None]
    assert found["guests"][1]["thaw"]["confirmed"] is True
    assert found["guests"][0]["thaw"] is None


def test_a_thaw_by_name_leaves_containers_out(lab: Site) -> None:
    found = the_object(lab, "thaw web1 mail")
    assert [one["vmid"] for one in found["guests"]] == [100]
    assert [(one["guest"]["vmid"], one["reason"]) for one in found["left_out"]] == [(110, "a container")]


def test_a_thaw_of_many_leaves_a_guest_to_its_window_that_is_in_hand(lab: Site) -> None:
    """Whoever names it has his reasons."""
    me, at = ProcessIdentity.own(), time.time()
    owner = {"owner_pid": me.pid, "owner_pid_start": me.start, "boot_id": me.boot_id, "deadline_at": at + 600}
    with contextlib.closing(Journal(lab.journal_path)) as journal:
        journal.begin(record("held", 100, at=at, state="frozen", frozen_at=at, **owner))
    try:
        with frozen(lab, 101):
            found = the_object(lab, "thaw --tag prod")
        assert [one["vmid"] for one in found["guests"]] == [101]
        assert [one["guest"]["vmid"] for one in found["left_out"] if one["why"] == "window"] == [100]
        assert [one["vmid"] for one in the_object(lab, "thaw web1 tag:prod")["guests"]] == [100, 101]
    finally:
        for path in lab.journal_path.parent.glob("journal.sqlite*"):
            path.unlink()


# ---------------------------------------------------------------- doctor, status, history, report


def test_the_doctor_looks_at_those_who_are_meant(lab: Site) -> None:
    found = run(lab, "--json doctor --tag test").json
    assert [one["vmid"] for one in found["guests"]] == [102]
    found = run(lab, "--json doctor 100 103").json
    assert {one["vmid"] for one in found["guests"]} == {100, 103}, "one that PVE does not list is a finding"


def test_status_tells_of_those_who_are_meant(lab: Site) -> None:
    with frozen(lab, 100):
        found = the_object(lab, "status --tag prod --exclude 101", 8, thawed=False)
        assert [one["vmid"] for one in found["frozen"]] == [100]
        done = run(lab, "status 101-110", thawed=False)
        assert done.exit_code == 0, done
        assert done.stdout.startswith("of these guests: no open window, no frozen guest")


def test_history_and_report_know_guests_by_the_journal_alone(lab: Site) -> None:
    """Gone guests too, and with PVE down: only tags and pools are PVE's."""
    with contextlib.closing(Journal(lab.journal_path)) as journal:
        for vmid, name, node in ((100, "web1", "pve1"), (555, "gone", "pve9"), (556, "Gone-2", "pve1")):
            at = time.time()
            journal.begin(record(f"w{vmid}", vmid, at=at, state="thawed", closed_at=at, guest_name=name, node=node))
    lab.node.stop_front()
    try:
        for line, vmids in (
            ("gone*", {555, 556}),
            ("555-600 --node pve1", {556}),
            ("--exclude 100", {555, 556}),
            ("100", {100}),
            ("nobody", set()),
        ):
            found = the_object(lab, f"history {line}")
            assert {one["vmid"] for one in found["windows"]} == vmids, line
        page = run(lab, "report --html - gone")
        assert page.exit_code == 0, page
        assert "gone" in page.stdout
        assert "web1" not in page.stdout
        assert run(lab, "history --tag prod").exit_code == 5
    finally:
        lab.node.start_front()
    assert {one["vmid"] for one in the_object(lab, "history --tag prod")["windows"]} == {100}


# ---------------------------------------------------------------- completion


def complete(lab: Site, *words: str, config: str = "") -> list[str]:
    """What bash would offer for the last of the words: never a word on standard error."""
    asked = {
        "_SAFE_SNAPSHOT_COMPLETE": "bash_complete",
        "COMP_WORDS": " ".join(("safe-snapshot", *words)),
        "COMP_CWORD": str(len(words)),
        "VZDUMP_HOOKS_CONFIG": config or str(lab.config_path),
    }
    done = run_command(lab.command(), env=environment() | asked, timeout=30)
    assert done.stderr == "", done
    assert done.exit_code == 0, done
    return [line.partition(",")[2] for line in done.stdout.splitlines() if line]


@pytest.mark.parametrize(
    ("words", "offered"),
    [
        (("check", "we"), ["web1", "web2"]),
        (("check", "10"), ["100", "101", "102"]),
        (("10",), ["100", "101", "102"]),
        (("check", "100,10"), ["100,100", "100,101", "100,102"]),
        (("check", "a"), ["all"]),
        (("check", "tag:pr"), ["tag:prod"]),
        (("thaw", "label:"), ["label:daily"]),
        (("check", "--tag", "pr"), ["prod"]),
        (("check", "--pool", "s"), ["shop", "shop/db"]),
        (("check", "--node", "pve2"), ["pve2"]),
        (("check", "all", "--exclude", "node:"), ["node:pve1", "node:pve2"]),
        (("check", "\u00e4", "10"), ["100", "101", "102"]),
    ],
)
def test_guests_are_completed(lab: Site, words: tuple[str, ...], offered: list[str]) -> None:
    assert complete(lab, *words) == offered


def test_completion_is_silent_and_bounded_whatever_happens(lab: Site) -> None:
    assert complete(lab, "check", "1", config="/nowhere/at/all.toml") == []
    for words in (
        ("chek", "1"),
        ("take", "1", "--name", "1abc", "--pol"),
        ("history", "--since", "x", "1"),
        ("\u00e4", ""),
    ):
        complete(lab, *words, config="/nowhere/at/all.toml")
    lab.node.fault("cluster/resources", "hang")
    try:
        began = time.monotonic()
        assert complete(lab, "check", "1") == []
        assert time.monotonic() - began < 25  # for hangs only: the limit itself is 1.5 s
    finally:
        lab.node.clear_faults()
    lab.node.fault("cluster/resources", "status", status=500, reason="no")
    try:
        assert complete(lab, "check", "1") == []
    finally:
        lab.node.clear_faults()


class Shell:
    """A bash at a terminal, as an operator has it. One that says nothing any more is ended by the test's own limit."""

    def __init__(self, folder: Path, lab: Site) -> None:
        program = folder / "safe-snapshot"
        program.write_text(f'#!/bin/sh\nexec {shlex.join(lab.command()[:-2])} "$@"\n')
        program.chmod(0o755)
        (folder / "inputrc").write_text("set enable-bracketed-paste off\nset bell-style none\n")
        found = environment()
        asked = {
            "PATH": f"{folder}:{found['PATH']}",
            "INPUTRC": str(folder / "inputrc"),
            "VZDUMP_HOOKS_CONFIG": str(lab.config_path),
            "PS1": "READY>",
            "TERM": "dumb",
        }
        self._terminal, theirs = pty.openpty()
        argv = ["bash", "--norc", "--noprofile", "-i"]
        self._process = subprocess.Popen(
            argv, stdin=theirs, stdout=theirs, stderr=theirs, env=found | asked, start_new_session=True
        )
        os.close(theirs)
        self._until(b"READY>")
        self.types("stty columns 500")
        self.types('eval "$(_SAFE_SNAPSHOT_COMPLETE=bash_source safe-snapshot)"')

    def types(self, line: str) -> str:
        """What a line says. The prompt is shown anew whenever the line is, but for the last time behind its end."""
        os.write(self._terminal, f"{line}\n".encode())
        self._until(b"\n")
        return self._until(b"READY>")

    def last_word(self, line: str) -> str:
        """Of a line, once Tab was pressed where it has one, as a program would get it."""
        return re.findall("<([^>]*)>", self.types(f"{line}\x01printf '<%s>' "))[-1]

    def _until(self, mark: bytes) -> str:
        seen = b""
        while not seen.endswith(mark):
            seen += os.read(self._terminal, 1)
        return seen.decode()

    def close(self) -> None:
        """End it."""
        self._process.kill()
        self._process.wait()
        os.close(self._terminal)


@pytest.fixture(scope="module")
def shell(lab: Site, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shell]:
    found = Shell(tmp_path_factory.mktemp("bash"), lab)
    yield found
    found.close()


@pytest.mark.parametrize(
    ("line", "word"),
    [
        ("chec\t", "check"),
        ("100 --pol\t", "--policy"),
        ("check we\t", "web"),
        ("check tag:\t", "tag:"),
        ("check tag:p\t", "tag:prod"),
        ("thaw label:d\t", "label:daily"),
        ("check node:\t", "node:pve"),
        ("check 100,tag:p\t", "100,tag:prod"),
        ("check tag:x,tag:p\t", "tag:x,tag:prod"),
        ("check all --exclude tag:p\t", "tag:prod"),
        ("check all --exclude=tag:p\t", "--exclude=tag:prod"),
        ("check --tag=p\t", "--tag=prod"),
        ("check 'tag:p\t", "tag:prod"),
        ("tag:p\t", "tag:prod"),
    ],
)
def test_a_bash_at_a_terminal_completes_behind_a_colon_too(shell: Shell, line: str, word: str) -> None:
    tries = (shell.last_word(f"safe-snapshot {line}") for _ in range(5))  # where PVE is slow nothing is offered
    assert any(found == word for found in tries), shell.last_word(f"safe-snapshot {line}")
