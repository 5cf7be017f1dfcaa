"""Jobs that are stopped as PVE stops them, or killed with their whole process group, at instants around the window."""

from __future__ import annotations

import time

import pytest

from tests.hook.kit import check_thawed, hook_site, processes, said, settled
from tests.lab.fixtures import require_real
from tests.lab.guest.real import RealGuest
from tests.lab.site import Site, wait_for
from tests.lab.vzdump.job import VzdumpJob
from tests.lab.vzdump.testing import QUICK

# Where in the job, and how long after.
INSTANTS = (
    ("INFO: ionice priority", 0.0),
    ("INFO: ionice priority", 0.3),
    ("INFO: ionice priority", 0.6),
    ("INFO: ionice priority", 0.9),
    ("vzdump-hook: frozen", 0.0),
    ("starting backup via QMP command", 0.0),
    ("starting backup via QMP command", 0.2),
    ("starting backup via QMP command", 0.5),
    ("started backup task", 0.0),
    ("started backup task", 0.2),
)
EVEN = [pytest.param(n, marks=[pytest.mark.slow] if n % 2 else []) for n in range(len(INSTANTS))]
ODD = [pytest.param(n, marks=[] if n % 2 else [pytest.mark.slow]) for n in range(len(INSTANTS))]


def stopped(lab: Site, line: str, seconds: float, *, group_killed: bool) -> tuple[VzdumpJob, bool]:
    """A job that is stopped there, when its worker is dead and the guest thawed; and whether it ended by itself."""
    with lab.vzdump(100, limits=QUICK, backup_delay=0.7, archive_seconds=1.0) as job:
        job.wait_for_line(line)
        time.sleep(seconds)
        is_gentle = not group_killed and job.stop()
        if group_killed:
            job.kill()
        assert wait_for(lambda: not job.running, 10)
        check_thawed(lab, 2.0)
        return job, is_gentle


def was_frozen(job: VzdumpJob) -> bool:
    return any("vzdump-hook: frozen" in line for line in job.log_lines)


@pytest.mark.parametrize("instant", EVEN)
def test_a_job_that_is_stopped_leaves_the_guest_thawed_within_2_s(lab: Site, instant: int) -> None:
    job, is_gentle = stopped(lab, *INSTANTS[instant], group_killed=False)
    if was_frozen(job):
        assert settled(lab).reason
    if was_frozen(job) and is_gentle:
        # vzdump calls its last phases, unless PVE kills it in them: the log of the job tells it too.
        assert any("guest 100, frozen for" in line for line in said(job)), job.log_lines


@pytest.mark.parametrize("instant", ODD)
def test_a_job_whose_whole_group_is_killed_leaves_the_guest_thawed_within_2_s(lab: Site, instant: int) -> None:
    """The hook is one of the group: it dies while it waits, or just after."""
    job, _ = stopped(lab, *INSTANTS[instant], group_killed=True)
    if was_frozen(job):
        window = settled(lab)
        assert window.closed_at is not None
        assert window.verdict in ("crash-consistent", "filesystem-consistent", "unknown")
    assert wait_for(lambda: not processes(lab), 20)


@pytest.mark.real
@pytest.mark.parametrize(("line", "owner"), [("vzdump-hook: frozen", "hook"), ("fs-freeze", "vzdump")])
def test_a_real_guest_whose_jobs_group_is_killed_in_the_window_is_thawed_within_2_s(line: str, owner: str) -> None:
    require_real()
    with hook_site(RealGuest) as lab:
        lab.settings["hook"] = {"owner": owner}
        with lab.vzdump(100, limits=QUICK, backup_delay=3.0) as job:
            job.wait_for_line(line)
            assert wait_for(lab.guest.is_frozen, 10)
            job.kill()
            assert wait_for(lambda: not job.running, 10)
            check_thawed(lab, 2.0)
        assert settled(lab).verdict == "crash-consistent"
