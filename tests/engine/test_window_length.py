"""The window is as short as the platform allows: what must not stand inside it."""

from __future__ import annotations

import pytest

from snapshot.model import Policy
from snapshot.pve import https_limits
from tests.engine import inprocess
from tests.lab.site import Site


@pytest.mark.parametrize("longest", [30, 9])
def test_no_connection_is_opened_between_the_freeze_and_the_thaw(
    lab: Site, longest: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    lab.write_config(freeze={"max_window_seconds": longest})
    requests: list[str] = []
    opened: list[int] = []
    dial = https_limits._dial

    def noted(*arguments: object) -> object:
        opened.append(len(requests))
        return dial(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(https_limits, "_dial", noted)
    result = inprocess.snapshot(lab, "s1", Policy.REQUIRE, requests)
    assert result.exit_code == 0, result
    frozen = next(n for n, request in enumerate(requests, 1) if request.endswith("/fsfreeze-freeze"))
    thawed = next(n for n, request in enumerate(requests, 1) if request.endswith("/fsfreeze-thaw"))
    assert opened, "the first request opens one"
    assert not [number for number in opened if frozen <= number <= thawed]
