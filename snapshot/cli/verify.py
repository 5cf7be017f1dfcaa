"""``safe-snapshot verify``: what the disks in a snapshot say themselves. Reads on this node, changes nothing."""

from __future__ import annotations

import click
from click.shell_completion import CompletionItem

from snapshot.cli.completion import snapshots_listed
from snapshot.cli.guests import guest_argument, one_of
from snapshot.cli.line import EXIT_CODES, Session, common, name_option, pass_session
from snapshot.config.selection import Term
from snapshot.disk.verify import Verified
from snapshot.disk.verify import verify as verify_snapshot
from snapshot.errors import DiskSilentError, GuestUnfitError, NotCleanError, SafeSnapshotError
from snapshot.model import AtRest
from snapshot.pve.guests import GuestApi
from snapshot.report.verify import verified_data, verified_lines


def _complete(ctx: click.Context, _param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    return [CompletionItem(name) for name in snapshots_listed(ctx) if name.startswith(incomplete)]


@click.command(epilog=EXIT_CODES, short_help="Ask the disks in a snapshot whether they were at rest.")
@guest_argument()
@click.argument("snapshot", metavar="SNAPSHOT", required=False, callback=name_option, shell_complete=_complete)
@common()
@pass_session
def verify(session: Session, *, vmid: Term, snapshot: str | None) -> None:
    """Read, in SNAPSHOT of GUEST (vmid or name), what each filesystem says of the moment it was taken in.

    \b
    clean        it was at rest, as a freeze or a clean shutdown leaves it
    not-clean    it was in use
    cannot-tell  nothing on the disk tells; the reason stands beside it

    Runs as root on the guest's node. Nothing is mounted, nothing is written (docs/verify.md).
    """
    if snapshot is None:
        raise click.UsageError(f"Missing argument 'SNAPSHOT': `safe-snapshot list {vmid}` has their names")
    access = session.access()
    api = GuestApi(access.main)
    guest = api.find(one_of(session, access, vmid))
    if not access.is_local(guest):
        where = f"run it as root on {guest.node}"
        raise GuestUnfitError(f"guest {vmid} is on {guest.node}, and its disks are read there", remedy=where)
    if snapshot not in api.snapshots(guest):
        raise GuestUnfitError(
            f"guest {vmid} has no snapshot {snapshot}", remedy=f"see `safe-snapshot list {vmid}` and PVE's own list"
        )
    found = verify_snapshot(guest, snapshot, api, session.clock)
    session.finish(
        verified_lines(guest, snapshot, found),
        verified_data(guest, snapshot, found),
        error=_error_of(snapshot, found),
    )


def _error_of(snapshot: str, found: Verified) -> SafeSnapshotError | None:
    word, reason = found.word
    if word is AtRest.NOT_CLEAN:
        return NotCleanError(f"{snapshot}: {reason}", remedy="a copy of it starts as after a power cut")
    if word is AtRest.CANNOT_TELL:
        return DiskSilentError(f"{snapshot}: {reason}", remedy="docs/verify.md says what can tell")
    return None
