"""Troubles that people met in a backup or a snapshot, and that can be known beforehand: the doctor names each.

What only a freeze shows (an agent that SELinux keeps out, a VSS writer that fails, a storage that is full by then) is
not here: nobody can know it without a freeze.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import pytest

from snapshot.doctor.findings import Severity
from snapshot.doctor.worth import Best
from tests.doctor.kit import Clinic, clinic
from tests.engine.kit import set_pending
from tests.lab.guest.agentfacts import LINUX, GuestFacts
from tests.lab.guest.scripted import ScriptedGuest
from tests.lab.node.certs import authority
from tests.lab.node.node import GuestSpec

Prepare = Callable[[Clinic], None]
ALL_BLOCKED = frozenset({"guest-fsfreeze-freeze", "guest-fsfreeze-thaw", "guest-fsfreeze-status"})


def config(**values: Any) -> Prepare:
    return lambda clinic: clinic.lab.node.set_config(100, **values)


def blocked(*commands: str) -> Prepare:
    def prepare(clinic: Clinic) -> None:
        clinic.guest.faults.blocked = frozenset(commands)

    return prepare


def written(text: str) -> Prepare:
    return lambda clinic: clinic.lab.config_path.write_text(clinic.lab.config_path.read_text() + text) and None


def public_certificate(clinic: Clinic) -> None:
    clinic.elsewhere()
    clinic.lab.node.certify(authority("Some Public CA"))
    clinic.lab.node.stop_front()
    clinic.lab.node.start_front()


def pending_option(clinic: Clinic) -> None:
    set_pending(clinic.lab, agent="1,freeze-fs=0")


def require_by_a_tag(clinic: Clinic) -> None:
    clinic.lab.node.set_config(100, tags="prod;web", agent=None)
    clinic.rule(tag="Prod", policy="require")


def require_and_another_table(clinic: Clinic) -> None:
    clinic.lab.node.set_config(100, agent="1,freeze-fs=0")
    clinic.rule(vmid=100, max_window_seconds=9)
    clinic.rule(vmid=100, policy="require")


def redirected(clinic: Clinic) -> None:
    clinic.elsewhere()
    clinic.lab.node.fault("/version", "status", status=302, reason="Found", times=None)


def bind_mount(clinic: Clinic) -> None:
    clinic.lab.node.add_guest(GuestSpec(101, kind="lxc", config={"mp0": "/tank/media,mp=/media"}))


def pipe_for_a_token(clinic: Clinic) -> None:
    clinic.lab.node.token_file.unlink()
    os.mkfifo(clinic.lab.node.token_file, 0o600)


TROUBLES: list[tuple[str, Prepare, str, str]] = [
    ("a token that sees no guest", lambda c: c.grant("Sys.Audit", "Datastore.Audit"), "no-guest-visible", "VM.Audit"),
    ("an agent that refuses all of it", blocked(*ALL_BLOCKED), "freeze-blocked", "block-rpcs"),
    ("an agent that refuses the status", blocked("guest-fsfreeze-status"), "freeze-blocked", "block-rpcs"),
    ("an agent that does not list its commands", blocked("guest-info"), "freeze-blocked", "block-rpcs"),
    (
        "an agent that cannot thaw what PVE freezes",
        blocked("guest-fsfreeze-thaw"),
        "thaw-blocked",
        "freeze-fs-on-backup=0`",
    ),
    ("a certificate of a public CA", public_certificate, "certificate-refused", "ca-certificates.crt"),
    ("a guest that is hibernated", config(lock="suspended"), "hibernated", "`qm resume 100`"),
    ("an option with other settings", config(agent="0,type=isa"), "agent-off", "--agent enabled=1,type=isa"),
    ("an option that PVE 8 spells so", config(agent="1,freeze-fs-on-backup=0"), "freeze-off", "freeze-fs-on-backup=1"),
    ("a container on a bind mount", bind_mount, "disk-no-snapshot", "lxc.mount.entry"),
    (
        "a TPM state in a raw file",
        config(tpmstate0="local:100/vm-100-disk-1.raw,size=4M,version=v2.0"),
        "disk-no-snapshot",
        "move-disk 100 tpmstate0",
    ),
    ("an option that waits for a start", pending_option, "agent-pending", "qm shutdown 100 && qm start 100"),
    ("require by a tag in other letters", require_by_a_tag, "require-not-met", "qm set 100 --agent"),
    ("require, and another table matches too", require_and_another_table, "require-not-met", "ignore_freeze_option"),
    ("a window of 34 days", written("[freeze]\nmax_window_seconds = 3000000\n"), "config-broken", "mend"),
    ("a name that PVE does not take", written('[snapshot]\nname_prefix = "x y"\n'), "config-broken", "mend"),
    ("an API that redirects", redirected, "api-failing", "pveproxy itself"),
    ("a token file that is a pipe", pipe_for_a_token, "token-unusable", "token_file"),
]


@pytest.mark.parametrize(("prepare", "code", "remedy"), [t[1:] for t in TROUBLES], ids=[t[0] for t in TROUBLES])
def test_it_is_named_with_a_remedy_that_helps(prepare: Prepare, code: str, remedy: str) -> None:
    with clinic() as found:
        prepare(found)
        seen = {one.code: one for one in found.visit().findings}
        found.guest.faults.blocked = frozenset()
        assert code in seen, seen
        assert remedy in seen[code].remedy, seen[code]
        assert "unlock" not in seen[code].remedy, "no lock stands in the way"


def test_a_guest_in_which_nothing_can_be_frozen_is_not_called_good() -> None:
    facts = GuestFacts(osinfo=LINUX.osinfo, fsinfo=())
    with clinic(lambda vmid, run: ScriptedGuest(vmid, run, mounts=0, facts=facts)) as found:
        (row,) = found.visit().guests
        assert [one.code for one in row.findings] == ["nothing-to-freeze"]
        assert (row.snapshot.best, row.backup.best) == (Best.CRASH_CONSISTENT, Best.CRASH_CONSISTENT)


def test_a_thaw_that_is_blocked_is_an_error_only_where_pve_freezes() -> None:
    with clinic() as found:
        found.guest.faults.blocked = frozenset({"guest-fsfreeze-thaw"})
        severity = {one.code: one.severity for one in found.visit().findings}
        assert severity == {"thaw-blocked": Severity.ERROR}
        found.lab.node.set_config(100, agent="1,freeze-fs=0")
        severity = {one.code: one.severity for one in found.visit().findings}
        assert severity["thaw-blocked"] is Severity.WARNING
        found.guest.faults.blocked = frozenset()


@pytest.mark.parametrize(("owner", "version", "rests"), [("hook", "9.2.6", "asked"), ("vzdump", "9.2.6", "log")])
def test_what_a_verdict_will_rest_on_is_said_beforehand(owner: str, version: str, rests: str) -> None:
    """A thaw from inside shows with the first kind of evidence and not with the second."""
    with clinic(pve_version=version) as found:
        found.config(hook={"owner": owner})
        (row,) = found.visit().guests
        assert rests in row.backup.why
        assert ("from inside" in row.backup.why) is (owner == "vzdump")
