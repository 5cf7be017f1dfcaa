"""The configured host is down when a run begins: another node of the cluster takes over, and one line says so."""

from __future__ import annotations

import os
import signal

from snapshot.config.settings import Config, JournalConfig
from snapshot.pve.neighbours import with_neighbours
from tests.engine.kit import check, take
from tests.lab.site import Site, site, wait_for

NODES = ("pve1", "pve2", "pve3")


def address(lab: Site, node: str) -> str:
    return str(lab.node.settings.nodes[node]["address"])


def said(lines: str) -> list[str]:
    return [line for line in lines.splitlines() if "the PVE API cannot be used" in line]


def test_a_run_goes_through_the_first_peer_that_answers_and_says_so_once() -> None:
    with site(nodes=NODES) as lab:
        lab.node.move_guest(100, "pve3")
        lab.node.stop_front("pve1")
        lab.node.stop_front("pve2")
        lab.settings["api"] = {"peers": [address(lab, "pve2"), address(lab, "pve3")]}
        lab.write_config()
        run = take(lab, "--policy", "require")
        assert run.exit_code == 0, run.text
        (line,) = said(run.stderr)
        assert "going on with https://" in line
        assert lab.windows()[0].verdict == "filesystem-consistent"


def test_without_peers_the_nodes_that_an_earlier_run_has_seen_take_over() -> None:
    with site(nodes=NODES) as lab:
        lab.node.move_guest(100, "pve2")
        assert take(lab).exit_code == 0
        lab.node.stop_front("pve1")
        run = check(lab, lab.safe_snapshot("100", "--name", "s2", "--policy", "require"))
        assert run.exit_code == 0, run.text
        assert len(said(run.stderr)) == 1


def test_the_guard_of_such_a_run_knows_them_too() -> None:
    """It was told by its owner: nothing but the dead host stands in its configuration."""
    with site(nodes=NODES) as lab:
        lab.node.move_guest(100, "pve2")
        assert take(lab).exit_code == 0
        lab.node.stop_front("pve1")
        lab.node.fault("/snapshot$", "hold", method="POST")
        with lab.start("100", "--name", "s2") as run:
            assert wait_for(lambda: lab.node.held() > 0, 60)
            assert lab.guest.is_frozen()
            os.kill(run.pid, signal.SIGKILL)
            assert wait_for(lambda: not lab.guest.is_frozen(), 60)


def test_the_first_run_of_all_has_nobody_else_to_go_to() -> None:
    with site(nodes=NODES) as lab:
        lab.node.stop_front("pve1")
        run = take(lab)
        assert run.exit_code == 5
        assert "cannot be reached" in run.stderr


def test_peers_of_the_configuration_count_before_what_was_seen() -> None:
    with site(nodes=NODES) as lab:
        assert take(lab).exit_code == 0
        found = with_neighbours(Config(journal=JournalConfig(lab.journal_path)))
        assert sorted(found.api.peers) == [address(lab, node) for node in NODES]
        own = found._replace(api=found.api._replace(peers=("pve9",)))
        assert with_neighbours(own) is own
