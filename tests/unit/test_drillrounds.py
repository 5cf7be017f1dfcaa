"""What a drill makes of what it has seen: the disk's readings, the rounds' judgement, the configuration without API."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest

from snapshot.config.reading import parse
from snapshot.config.settings import (
    ApiConfig,
    Config,
    GuestRule,
    LauncherKind,
    MetricsConfig,
    NotifyConfig,
    Pushgateway,
)
from snapshot.drill.cut import NOWHERE, cut
from snapshot.drill.disk import Reading, Span, Stillness, stillness
from snapshot.drill.rounds import KINDS, PROMISED_SECONDS, REMEDIES, DrillRound, SeenRound, judged
from snapshot.model import Policy
from snapshot.pve.blockstat import _sum_of

OWNER, API, GUARD = KINDS


def readings(*counts: int, every: float = 0.2, lasts: float = 0.1) -> list[Reading]:
    """One look each ``every`` seconds from 0 on."""
    return [Reading(number * every, number * every + lasts, count) for number, count in enumerate(counts)]


def test_the_time_without_a_write_is_told_with_its_uncertainty() -> None:
    # Writes up to 0.4 to 0.5; frozen at 0.55; killed at 1.55; the first write behind it between 1.8 and 2.1.
    found = stillness(readings(1, 2, 3, 3, 3, 3, 3, 3, 3, 3, 9, 9), 0.55, 1.55)
    assert found.stood == pytest.approx(Span(1.3, 1.9))
    assert found.after == pytest.approx(Span(0.25, 0.55))
    assert not found.wrote_frozen


def test_a_freeze_at_which_nobody_looked_shows_nothing() -> None:
    assert stillness(readings(1, 1, 9, 9, every=2.0), 0.5, 1.5) == Stillness()


def test_a_guest_that_writes_nothing_any_more_shows_nothing() -> None:
    assert stillness(readings(1, 2, 3, 3, 3, 3, 3, 3), 0.5, 1.0) == Stillness()
    assert stillness([], 0.5, 1.0) == Stillness()


def test_writes_while_it_is_frozen_are_no_thaw() -> None:
    assert stillness(readings(1, 2, 3, 3, 4, 5, 6, 7, 8, 9), 0.5, 1.5) == Stillness(wrote_frozen=True)


def seen(after: Span | None, kind: object = OWNER, **values: object) -> SeenRound:
    still = Stillness(Span(1.0, 1.2), after) if after else Stillness()
    return SeenRound(kind, 1.0, 5.0, 6.0, still=still)._replace(**values)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("after", "is_kept", "part"),
    [
        (Span(0.0, 0.3), True, ""),
        (Span(PROMISED_SECONDS + 0.1, 3.0), False, "guard"),
        (Span(1.5, PROMISED_SECONDS + 0.1), None, "disk"),
        (None, None, "disk"),
    ],
)
def test_a_bound_is_kept_broken_or_not_shown(after: Span | None, is_kept: bool | None, part: str) -> None:
    found = judged(seen(after))
    assert (found.is_kept, found.part) == (is_kept, part)


def test_a_guard_that_is_started_again_has_the_time_that_this_takes() -> None:
    late = Span(2.2, 4.0)
    assert judged(seen(late, OWNER)).is_kept is False
    assert judged(seen(late, GUARD)).is_kept is True
    assert judged(seen(late, GUARD)).bound_seconds == 4.5


@pytest.mark.parametrize(("kind", "part"), [(OWNER, "guard"), (API, "route"), (GUARD, "systemd")])
def test_what_the_drill_had_to_thaw_names_the_part_that_did_not(kind: object, part: str) -> None:
    found = judged(seen(Span(0.0, 0.1), kind, thawed_by_drill="pvesh"))
    assert (found.is_kept, found.part) == (False, part)
    assert "the drill itself, over pvesh" in found.route


def test_a_round_without_a_freeze_is_not_kept() -> None:
    found = judged(SeenRound(OWNER, trouble="the guard did not arm"))
    assert (found.is_kept, found.part, found.detail) == (False, "guard", "the guard did not arm")


@pytest.mark.parametrize(
    ("found", "remedy"),
    [
        (judged(SeenRound(OWNER, trouble="the guard did not arm")), "`journalctl -t vzdump-hooks-guard`"),
        (judged(SeenRound(OWNER, 1.0, trouble="freeze refused: no")), "`safe-snapshot check`"),
        (judged(SeenRound(API, 1.0, 5.0, 6.0, thawed_by_drill="pvesh")), "`pvesh get /version`"),
        (judged(SeenRound(GUARD, 1.0, 5.0, 6.0, thawed_by_drill="pvesh")), "`journalctl -u 'vzdump-hooks-guard-*'`"),
        (judged(SeenRound(OWNER, 1.0, 5.0, 6.0)), "let it write meanwhile"),
    ],
    ids=["guard", "freeze", "route", "systemd", "disk"],
)
def test_a_round_that_is_not_kept_tells_what_to_do(found: DrillRound, remedy: str) -> None:
    assert remedy in "\n".join(found.lines)
    assert set(REMEDIES) >= {kind.part for kind in KINDS}


def test_a_freeze_that_failed_behind_an_armed_guard_is_not_the_guards_fault() -> None:
    found = judged(SeenRound(OWNER, 1.0, trouble="freeze refused: no"))
    assert (found.is_kept, found.part) == (False, "freeze")


def test_a_disk_that_was_written_meanwhile_proves_nothing() -> None:
    found = judged(SeenRound(OWNER, 1.0, 5.0, 6.0, still=Stillness(wrote_frozen=True)))
    assert (found.is_kept, found.part) == (None, "disk")
    assert "swap" in found.detail


def test_no_line_of_a_round_is_wider_than_a_terminal() -> None:
    rows = [line for kind in KINDS for line in judged(seen(Span(0.0, 0.3), kind)).lines]
    assert max(map(len, rows)) <= 80


@pytest.mark.parametrize(
    "config",
    [
        Config(),
        Config(
            api=ApiConfig(host="10.1.2.3", peers=("a", "b"), token_file=Path("/x/token"), ca_file=Path("/x/ca.pem")),
            metrics=MetricsConfig(textfile=None, pushgateway=Pushgateway("http://gw:9091", "user", "secret")),
            notify=NotifyConfig(mail_to='"A \\ B" <root>', webhook_file=Path("/x/hook")),
            guest=(GuestRule(vmid=100, policy=Policy.REQUIRE), GuestRule(tag="db", run_limit_seconds=0.0)),
        )._replace(guard=Config().guard._replace(launcher=LauncherKind.DETACHED)),
    ],
)
def test_the_configuration_without_api_is_the_same_in_all_else(config: Config) -> None:
    text = cut(config)
    found = parse(tomllib.loads(text), "it")
    assert found.api.host == NOWHERE
    assert "secret" not in text
    metrics = config.metrics._replace(pushgateway=None)
    assert found == config._replace(api=config.api._replace(host=NOWHERE, peers=()), metrics=metrics)


@pytest.mark.parametrize("drives", [None, {}, {"scsi0": None}, {"scsi0": {"wr_operations": 1}}, {"scsi0": {}}, []])
def test_no_numbers_are_not_known(drives: object) -> None:
    assert _sum_of(drives) is None


def test_every_drive_counts() -> None:
    drives = {name: {"wr_operations": 2, "flush_operations": "3", "rd_operations": 9} for name in ("scsi0", "efidisk0")}
    assert _sum_of(drives) == 10
