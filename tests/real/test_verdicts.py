"""Twenty of twenty: our verdict against what the disk itself says, on real guests with ext4 and XFS."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.lab.fixtures import real_guest
from tests.lab.guest.base import Filesystem
from tests.lab.guest.oracle import block_statistics_move, judge
from tests.lab.site import Site, site, wait_for

pytestmark = pytest.mark.real

TIMES = 20


@pytest.fixture(scope="module", params=["ext4", "xfs"])
def lab(request: pytest.FixtureRequest) -> Iterator[Site]:
    """A real guest with one of the filesystems, and its node."""
    fs: Filesystem = request.param
    with site(lambda vmid, run: real_guest(vmid, run, fs=fs)) as found:
        yield found


def test_a_required_snapshot_is_consistent_on_the_disk_too_twenty_times(lab: Site) -> None:
    said = []
    for number in range(TIMES):
        lab.settings.setdefault("local", {})["node"] = "pve1" if number % 2 else ""  # by socket, by API
        lab.write_config()
        run = lab.safe_snapshot("100", "--name", f"frozen{number}", "--policy", "require", "--json")
        assert run.exit_code == 0, run
        assert run.json["verdict"]["kind"] == "filesystem-consistent", run
        said.append(judge(lab.guest.disk, f"frozen{number}", lab.guest.fs))
    assert [s for s in said if not s.consistent] == []
    assert len(said) == TIMES
    assert len(lab.guest.windows()) == TIMES
    assert block_statistics_move(lab.guest)


def test_a_snapshot_without_a_freeze_is_called_crash_consistent_and_is_twenty_times(lab: Site) -> None:
    lab.node.set_config(100, agent="1,freeze-fs=0")  # else PVE's own snapshot task would freeze
    before = len(lab.guest.windows())
    said = []
    try:
        for number in range(TIMES):
            count = lab.guest.counter()
            assert wait_for(lambda count=count: lab.guest.counter() > count + 2)  # type: ignore[misc]
            run = lab.safe_snapshot("100", "--name", f"plain{number}", "--policy", "never", "--json")
            assert run.exit_code == 0, run
            assert run.json["verdict"]["kind"] == "crash-consistent", run
            said.append(judge(lab.guest.disk, f"plain{number}", lab.guest.fs))
    finally:
        lab.node.set_config(100, agent="1")
    assert [s for s in said if s.consistent] == []
    assert len(said) == TIMES
    assert len(lab.guest.windows()) == before
    assert block_statistics_move(lab.guest)
