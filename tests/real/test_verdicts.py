"""Our verdict against what the disk itself says, on real guests with ext4 and XFS: each time of many."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.lab.fixtures import real_guest
from tests.lab.guest.base import Filesystem
from tests.lab.guest.oracle import block_statistics_move, judge
from tests.lab.site import Site, site, wait_for

pytestmark = pytest.mark.real

TIMES = pytest.mark.parametrize("times", [6, pytest.param(20, marks=pytest.mark.slow)])


@pytest.fixture(scope="module", params=["ext4", "xfs"])
def lab(request: pytest.FixtureRequest) -> Iterator[Site]:
    """A real guest with one of the filesystems, and its node."""
    fs: Filesystem = request.param
    with site(lambda vmid, run: real_guest(vmid, run, fs=fs)) as found:
        yield found


@TIMES
def test_a_required_snapshot_is_consistent_on_the_disk_too(lab: Site, times: int) -> None:
    said, before = [], len(lab.guest.windows())
    for number in range(times):
        lab.settings.setdefault("local", {})["node"] = "pve1" if number % 2 else ""  # by socket, by API
        lab.write_config()
        run = lab.safe_snapshot("100", "--name", f"frozen{times}-{number}", "--policy", "require", "--json")
        assert run.exit_code == 0, run
        assert run.json["verdict"]["kind"] == "filesystem-consistent", run
        said.append(judge(lab.guest.disk, f"frozen{times}-{number}", lab.guest.fs))
    assert [s for s in said if not s.consistent] == []
    assert len(said) == times
    assert len(lab.guest.windows()) == before + times
    assert block_statistics_move(lab.guest)


@TIMES
def test_a_snapshot_without_a_freeze_is_called_crash_consistent_and_is(lab: Site, times: int) -> None:
    lab.node.set_config(100, agent="1,freeze-fs=0")  # else PVE's own snapshot task would freeze
    before = len(lab.guest.windows())
    said = []
    try:
        for number in range(times):
            count = lab.guest.counter()
            assert wait_for(lambda count=count: lab.guest.counter() > count + 2)  # type: ignore[misc]
            run = lab.safe_snapshot("100", "--name", f"plain{times}-{number}", "--policy", "never", "--json")
            assert run.exit_code == 0, run
            assert run.json["verdict"]["kind"] == "crash-consistent", run
            said.append(judge(lab.guest.disk, f"plain{times}-{number}", lab.guest.fs))
    finally:
        lab.node.set_config(100, agent="1")
    assert [s for s in said if s.consistent] == []
    assert len(said) == times
    assert len(lab.guest.windows()) == before
    assert block_statistics_move(lab.guest)
