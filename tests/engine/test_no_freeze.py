"""A guest that cannot be frozen: each way, both policies (pve-facts, sections 4 and 7), through the real command.

Always: the guest thawed, no traceback, no secret (kit.check).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import pytest

from tests.engine import kit
from tests.engine.kit import FREEZE, FROZEN_ANYWAY, NOT_ALLOWED, refuse, take, the_guest
from tests.lab.guest.agentmodel import Refusal
from tests.lab.guest.scripted import ScriptedGuest
from tests.lab.site import Site

NOT_SWITCHED_ON = ("not switched on in PVE", "qm set 100 --agent enabled=1")


def no_filesystems(lab: Site) -> None:
    with the_guest(lab).held() as (model, _):
        model.mounts = 0


@dataclass(frozen=True)
class Row:
    """A guest that cannot be frozen, and what both policies make of it."""

    case: str
    arrange: Callable[[Site], object]
    says: tuple[str, ...]
    thaws: bool = False
    """Whether something may have been frozen, so that a thaw must have been sent."""


CANNOT_BE_FROZEN = (
    Row("agent not configured", lambda lab: lab.node.set_config(100, agent=None), NOT_SWITCHED_ON),
    Row("agent: 0", lambda lab: lab.node.set_config(100, agent=0), NOT_SWITCHED_ON),
    Row(
        "agent option pending",
        lambda lab: (lab.node.set_config(100, agent=None), kit.set_pending(lab, agent=1)),
        ("waits for a full stop and start", "qm shutdown 100 && qm start 100"),
    ),
    Row(
        "agent not running",
        lambda lab: the_guest(lab).kill_agent(),
        ("does not answer", "QEMU guest agent is not running", "apt install qemu-guest-agent", "apk add"),
    ),
    Row(
        "agent's socket gone",
        lambda lab: (lab.run / "100.qga").unlink(),
        ("does not answer", "QEMU guest agent is not running"),
    ),
    Row(
        "agent that does not answer PVE's question in time",
        lambda lab: the_guest(lab).faults.delay.update({"guest-info": 3.0}),
        ("does not answer", "VM 100 qga command 'guest-info' failed - got timeout"),
    ),
    Row(
        "freezing switched off in PVE",
        lambda lab: lab.node.set_config(100, agent="1,freeze-fs=0"),
        ("freeze-fs=0", "ignore_freeze_option"),
    ),
    Row(
        "freezing switched off in PVE, by the option's old name, which PVE 8 takes alone",
        lambda lab: lab.node.set_config(100, agent="enabled=1,freeze-fs-on-backup=0,type=isa"),
        ("freeze-fs-on-backup=0", "--agent enabled=1,freeze-fs-on-backup=1,type=isa`", "full stop and start"),
    ),
    Row(
        "freeze commands blocked in the guest",
        lambda lab: setattr(the_guest(lab).faults, "blocked", frozenset({FREEZE})),
        (f"{FREEZE} switched off", "block-rpcs"),
    ),
    Row(
        "freeze refused with HTTP 200",
        lambda lab: refuse(lab, Refusal("GenericError", "failed to freeze /mnt: Invalid argument")),
        ("failed to freeze /mnt: Invalid argument",),
        thaws=True,
    ),
    Row(
        "freeze refused because it is frozen, as agents before QEMU 9.1 say it",
        lambda lab: refuse(lab, FROZEN_ANYWAY),
        ("in frozen state",),
    ),
    Row(
        "freeze refused because it is frozen, as agents from QEMU 9.1 on say it",
        lambda lab: refuse(lab, NOT_ALLOWED),
        ("the command is not allowed",),
    ),
    Row("zero filesystems", no_filesystems, ("no filesystem at all",), thaws=True),
    Row(
        "freeze hook failing",
        lambda lab: the_guest(lab).set_knob("freeze_exit", 3),
        ("fsfreeze hook has failed with status 3",),
    ),
)


def ids(row: Row) -> str:
    return row.case


@pytest.mark.parametrize("row", CANNOT_BE_FROZEN, ids=ids)
def test_a_guest_that_cannot_be_frozen_gets_no_snapshot_with_policy_require(lab: Site, row: Row) -> None:
    row.arrange(lab)
    run = take(lab, "--policy", "require")
    assert run.exit_code == 6, run
    for text in row.says:
        assert text in run.stderr
    assert "s1" not in kit.snapshots(lab)
    assert bool(lab.node.requests("fsfreeze-thaw")) == row.thaws
    assert all(w.closed_at is not None for w in lab.windows())


@pytest.mark.parametrize("row", CANNOT_BE_FROZEN, ids=ids)
def test_a_guest_that_cannot_be_frozen_gets_a_crash_consistent_snapshot_with_policy_prefer(lab: Site, row: Row) -> None:
    row.arrange(lab)
    run = take(lab, "--policy", "prefer")
    assert run.exit_code == 0, run
    assert "crash-consistent" in run.stdout
    assert row.says[0] in run.stdout, "the verdict carries its reason"
    assert "crash-consistent" in kit.description(lab)
    assert kit.window(lab).closed_at is not None
    assert kit.window(lab).verdict == "crash-consistent"


@pytest.mark.parametrize("policy", ["require", "prefer"])
def test_a_busy_agent_is_not_frozen(lab: Site, guest: ScriptedGuest, policy: str) -> None:
    with kit.busy_agent(guest):
        run = take(lab, "--policy", policy)
    assert "busy, hung, or not installed" in run.text
    assert run.exit_code == (6 if policy == "require" else 0)
    assert not lab.node.requests("fsfreeze-freeze")


@pytest.mark.parametrize("policy", ["require", "prefer", "never"])
def test_a_guest_that_is_off_gets_the_verdict_offline(lab: Site, guest: ScriptedGuest, policy: str) -> None:
    guest.stop()
    run = take(lab, "--policy", policy)
    assert run.exit_code == 0, run
    assert "offline: the guest was shut down" in run.stdout
    assert not lab.node.requests("/agent/")


def test_policy_never_freezes_nothing_and_proves_nothing(lab: Site) -> None:
    run = take(lab, "--policy", "never")
    assert run.exit_code == 0
    assert "crash-consistent: policy never" in run.stdout
    assert "frozen for" not in run.text
    assert not lab.node.requests("fsfreeze-freeze")
    assert not lab.node.requests("fsfreeze-thaw"), "PVE has thawed what it froze"
