"""vzdump's lines of every age, and everything that is none of them."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tests.lab.node.qmp import PeerTimeout
from tests.lab.vzdump.errors import Die, Interrupted
from tests.lab.vzdump.freeze import Freezer
from tests.lab.vzdump.log import Logger
from tests.lab.vzdump.options import Limits
from vzdump_hooks.tasklog.wordings import TABLE, LogEvent, LogReader, recognise

VERSIONS = ("7.4.3", "8.4.0", "9.0.22", "9.0.30", "9.1.5", "9.1.8", "9.1.10", "9.2.6")
START = "INFO: Starting Backup of VM 100 (qemu)"
FROZEN = "Command guest-fsfreeze-freeze has been disabled: the agent is in frozen state"
FROZEN_SINCE_QEMU_9_1 = "Command guest-fsfreeze-freeze has been disabled: the command is not allowed"

E = LogEvent


def reader() -> LogReader:
    found = LogReader(100)
    assert found.read(START) is E.GUEST_BEGUN
    assert found.begun
    return found


def events(lines: list[str]) -> list[LogEvent]:
    found = reader()
    return [event for event in map(found.read, lines) if event is not None]


class Agent:
    """What the lab's vzdump asks, answered from a table; an exception is raised."""

    def __init__(self, **answers: Any) -> None:
        self.answers = {"ping": {}, "status": "thawed", "freeze": 1, "thaw": 1, **answers}

    def __call__(self, command: str, limit: float) -> Any:
        answer = self.answers[command.removeprefix("guest-").removeprefix("fsfreeze-")]
        if isinstance(answer, Exception):
            raise type(answer)(f"VM 100 qga command '{command}' failed - {answer}")
        return answer


def error(text: str) -> dict[str, Any]:
    return {"error": {"class": "GenericError", "desc": text}}


@pytest.fixture
def log() -> Iterator[Any]:
    """A function that plays vzdump's freeze and thaw and returns the lines of its task log."""
    reading, writing = os.pipe()
    kept = os.dup(2)

    def play(version: str, agent: Agent, option: str | None = "1") -> list[str]:
        os.dup2(writing, 2)
        try:
            parts = tuple(map(int, version.split(".")))
            freezer = Freezer(agent, Logger(), Limits(), parts, "swallowed")
            again = freezer.freeze(option)
            if parts >= (9, 1, 7):
                Logger().info("starting backup via QMP command")
            if again:
                freezer.thaw()
            Logger().info("started backup task 'e54a9373-b882-44db-b2a8-785f14640adc'")
            Logger().info("resuming VM again")
        finally:
            os.dup2(kept, 2)
        return os.read(reading, 1 << 16).decode().splitlines()

    yield play
    for descriptor in (reading, writing, kept):
        os.close(descriptor)


def whole(version: str, *freeze: LogEvent) -> list[LogEvent]:
    """The lines of a backup with vzdump's own freeze, with ``freeze`` said behind its request."""
    return [E.FREEZE_ISSUED, *freeze, *starting(version), E.THAW_ISSUED, E.POINT_IN_TIME]


def starting(version: str) -> list[LogEvent]:
    """Before 9.1.7 vzdump does not say that it is about to send its QMP command."""
    return [E.BACKUP_STARTING] if version in ("9.1.8", "9.1.10", "9.2.6") else []


def at_once(version: str) -> list[LogEvent]:
    """The lines of a backup without a freeze."""
    return [*starting(version), E.POINT_IN_TIME]


@pytest.mark.parametrize("version", VERSIONS)
def test_a_freeze_and_thaw_of_vzdumps_own_is_read(log: Any, version: str) -> None:
    assert events(log(version, Agent())) == whole(version)


@pytest.mark.parametrize("version", VERSIONS)
def test_a_guest_that_we_froze_is_read(log: Any, version: str) -> None:
    found = events(log(version, Agent(status="frozen", freeze=error(FROZEN))))
    if version in ("9.1.10", "9.2.6"):
        assert found == [E.FREEZE_SKIPPED_FROZEN, *at_once(version)]
    elif version in ("7.4.3", "8.4.0", "9.0.22"):
        assert found == whole(version)  # the refusal leaves no line
    else:
        assert found == whole(version, E.FREEZE_REFUSED_FROZEN)


@pytest.mark.parametrize("version", ["9.0.30", "9.1.8"])
def test_a_newer_agents_words_for_being_frozen_are_read(log: Any, version: str) -> None:
    found = events(log(version, Agent(freeze=error(FROZEN_SINCE_QEMU_9_1))))
    assert found == whole(version, E.FREEZE_REFUSED_FROZEN)


@pytest.mark.parametrize("version", VERSIONS)
def test_a_guest_without_an_agent_is_read(log: Any, version: str) -> None:
    found = events(log(version, Agent(ping=PeerTimeout("got timeout"))))
    assert found == [E.FREEZE_SKIPPED_NO_AGENT, *at_once(version)]


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("option", ["1,freeze-fs=0", "enabled=1,freeze-fs-on-backup=0", "enabled=1,guest-fsfreeze=0"])
def test_an_option_that_turns_freezing_off_is_read(log: Any, version: str, option: str) -> None:
    assert events(log(version, Agent(), option)) == [E.FREEZE_SKIPPED_OPTION, *at_once(version)]


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("option", [None, "0", "enabled=0"])
def test_an_agent_that_is_not_enabled_is_read(log: Any, version: str, option: str | None) -> None:
    found = events(log(version, Agent(), option))
    if version in ("9.1.8", "9.1.10", "9.2.6"):
        assert found == [E.FREEZE_SKIPPED_OPTION, *at_once(version)]
    elif option == "enabled=0":
        assert found == whole(version)  # before 9.1.6 it is frozen all the same
    else:
        assert found == at_once(version)


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize(
    "answer", [PeerTimeout("got timeout"), Die("unable to open monitor socket"), Interrupted("interrupted by signal")]
)
def test_a_freeze_that_fails_is_read(log: Any, version: str, answer: Exception) -> None:
    agent = Agent(freeze=answer)
    if version >= "9.0.23":
        agent.answers["status"] = answer
    found = events(log(version, agent))
    assert [event for event in found if event is not E.FREEZE_SLOW] == whole(version, E.FREEZE_FAILED)


@pytest.mark.parametrize("version", ["9.0.30", "9.1.8", "9.2.6"])
@pytest.mark.parametrize("text", ["fsfreeze hook has failed with status 3", "failed to open /mnt: Permission denied"])
def test_a_freeze_that_the_agent_refuses_is_read(log: Any, version: str, text: str) -> None:
    assert events(log(version, Agent(freeze=error(text)))) == whole(version, E.FREEZE_FAILED)


@pytest.mark.parametrize("version", VERSIONS)
def test_a_thaw_that_fails_is_read(log: Any, version: str) -> None:
    found = events(log(version, Agent(thaw=PeerTimeout("got timeout"))))
    assert found == [*whole(version)[:-1], E.THAW_FAILED, E.POINT_IN_TIME]


@pytest.mark.parametrize("version", ["9.1.8", "9.2.6"])
def test_a_thaw_that_the_agent_refuses_is_read(log: Any, version: str) -> None:
    found = events(log(version, Agent(thaw=error("fsfreeze hook has failed with status 3"))))
    assert found == [*whole(version)[:-1], E.THAW_FAILED, E.POINT_IN_TIME]


@pytest.mark.parametrize("version", ["9.1.8", "9.2.6"])
def test_an_agents_error_of_several_lines_is_no_failure_of_the_backup(log: Any, version: str) -> None:
    lines = log(version, Agent(thaw=error("hook failed:\n/etc/hook: line 3\nstopped")))
    at = next(n for n, line in enumerate(lines) if "Agent error" in line)
    # As vzdump logs them: each by itself, with its level.
    lines = [
        *lines[: at + 1],
        "ERROR: /etc/hook: line 3",
        "ERROR: stopped",
        *(x for x in lines[at + 1 :] if "INFO" in x),
    ]
    found = events(lines)
    assert E.GUEST_ERROR not in found
    assert found[-1] is E.POINT_IN_TIME
    assert events([*lines[: at + 2], "ERROR: VM 100 qmp command 'backup' failed - got timeout"])[-1] is E.GUEST_ERROR


def test_a_slow_freeze_is_read(log: Any) -> None:
    found = events(log("9.1.8", Agent(freeze=PeerTimeout("got timeout"), status="frozen")))
    assert found == whole("9.1.8", E.FREEZE_SLOW)


@pytest.mark.parametrize("last", ["INFO: resuming VM again", "INFO: resuming VM again after 12 seconds"])
def test_a_backup_providers_point_in_time_is_the_line_after_its_set_up(last: str) -> None:
    lines = ["INFO: setting up snapshot-access for backup", last, "INFO: starting NBD server"]
    assert events(lines)[:2] == [E.BACKUP_STARTING, E.POINT_IN_TIME]


@pytest.mark.parametrize(
    "lines",
    [
        ["INFO: starting backup via QMP command", "ERROR: executing QMP command to start backup failed - got timeout"],
        ["ERROR: interrupted by signal", "INFO: aborting backup job", "INFO: resuming VM again"],
        ["INFO: issuing guest-agent 'fs-freeze' command", "ERROR: interrupted by signal", "INFO: aborting backup job"],
        ["INFO: issuing guest-agent 'fs-freeze' command", "ERROR: interrupted by signal", "INFO: resuming VM again"],
        ["INFO: Failed at 2026-11-22 21:00:00"],
        ["INFO: Finished Backup of VM 100 (00:00:03)"],
        ["INFO: Starting Backup of VM 101 (qemu)"],
        ["TASK ERROR: job errors"],
    ],
)
def test_an_end_without_a_point_in_time_is_no_point_in_time(lines: list[str]) -> None:
    found = events(lines)
    assert E.POINT_IN_TIME not in found
    assert found[-1] in (E.GUEST_ERROR, E.GUEST_DONE, E.TASK_END)


def test_an_error_of_the_qmp_command_behind_a_thaw_is_the_backups() -> None:
    lines = ["INFO: starting backup via QMP command", "INFO: issuing guest-agent 'fs-thaw' command"]
    found = events([*lines, "ERROR: VM 100 qmp command 'backup' failed - backup connect failed"])
    assert found == [E.BACKUP_STARTING, E.THAW_ISSUED, E.GUEST_ERROR]


def test_another_guests_lines_before_ours_are_nobodys() -> None:
    found = LogReader(100)
    before = ["INFO: Starting Backup of VM 99 (qemu)", "INFO: starting backup via QMP command"]
    before += ["INFO: started backup task 'x'", "ERROR: job failed", "INFO: Finished Backup of VM 99 (00:00:01)"]
    assert [found.read(line) for line in before] == [None] * 5
    assert not found.begun
    found.read(START)
    assert found.begun


def test_a_log_that_is_read_again_from_its_beginning_says_the_same_again() -> None:
    found = reader()
    lines = ["INFO: Starting Backup of VM 99 (qemu)", START, "INFO: starting backup via QMP command"]
    lines += ["INFO: started backup task 'x'"]
    assert [e for e in map(found.read, lines) if e][-2:] == [E.BACKUP_STARTING, E.POINT_IN_TIME]


@pytest.mark.parametrize("row", TABLE, ids=lambda row: f"{row.start}{' '.join(row.words)}"[:60])
def test_no_row_is_hidden_by_an_earlier_one(row: Any) -> None:
    line = row.start + " ".join(row.words)
    assert recognise(line) is row.event


# What vzdump prints with a text in it that the guest, its owner or a storage chose. A line break in such a text becomes
# another line with the same level in front (PVE::VZDump::Plugin, debugmsg).
FOREIGN = (
    "INFO: VM Name: {}",
    "INFO: CT Name: {}",
    "INFO: include disk 'scsi0' '{}'",
    "INFO: exclude disk 'scsi1' '{}' (backup=no)",
    "INFO: creating vzdump archive '{}'",
    "INFO: starting new backup job: vzdump 100 --storage {}",
    "INFO: vzdump-hook: {}",
    "INFO: skip external VMs: {}",
    "INFO: starting external backup via {}",
    "INFO: adding NBD export for {}",
    "WARN: unable to check guest fs freeze status - Agent error: {}",
)
AGENT_ERRORS = (
    "unable to freeze guest fs - {}",
    "Agent error: {}",
    "querying status after freezing guest fs failed - {}",
)
HARMLESS = frozenset({E.FREEZE_FAILED, E.FREEZE_REFUSED_FROZEN, E.THAW_FAILED, E.GUEST_ERROR})
IMITATIONS = [row.start + " ".join(row.words) for row in TABLE] + [START]
texts = st.one_of(st.text(), st.sampled_from(IMITATIONS), st.lists(st.sampled_from(IMITATIONS)).map("\n".join))


@given(text=texts, template=st.sampled_from(FOREIGN))
@example(text="x\nINFO: started backup task 'x", template=FOREIGN[0])
def test_no_name_is_ever_an_event(text: str, template: str) -> None:
    found = reader()
    found.read("INFO: starting backup via QMP command")
    line = template.format(text.replace("\n", " ")) if text else template
    assert found.read(line) is None
    assert found.begun


@given(text=texts, template=st.sampled_from(AGENT_ERRORS))
def test_nothing_that_an_agent_says_makes_a_verdict_better(text: str, template: str) -> None:
    found = reader()
    found.read("INFO: issuing guest-agent 'fs-freeze' command")
    for line in template.format(text).split("\n"):
        assert found.read(f"ERROR: {line}") in HARMLESS
    assert found.begun


@given(st.lists(texts, max_size=8))
def test_whatever_stands_in_a_log_is_read_without_an_error(lines: list[str]) -> None:
    found = LogReader(100)
    for line in lines:
        assert found.read(line) in (None, *LogEvent)
