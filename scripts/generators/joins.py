"""Queries that put our series beside those of prometheus-pve-exporter: shown in docs/metrics.md, and run by a test.

Both write ``id`` alike (``qemu/100``). That exporter tells the whole cluster's guests at each node that it is asked at,
so each query takes one of its series for each guest.
"""

from __future__ import annotations

from snapshot.journal import families as f

JOINS: tuple[tuple[str, str], ...] = (
    (
        "Failures of the guests that have a tag in PVE, with their names and tags",
        f"""max by (cluster, id, node, stage, reason) ({f.LAST_FAILURE.name})
* on (cluster, id) group_left (name, tags)
max by (cluster, id, name, tags) (pve_guest_info{{tags=~"(.*;)?prod(;.*)?"}})""",
    ),
    (
        "Guests that run, and that no node of ours has seen run: vzdump-hooks is not on their node",
        f"""max by (cluster, id) (pve_up{{id=~"qemu/.*"}}) == 1
unless on (cluster, id) {f.GUEST_RUNNING.name}""",
    ),
    (
        "Guests in no backup job that have had no snapshot of ours for a day either",
        f"""max by (cluster, id) (pve_not_backed_up_info)
unless on (cluster, id) (time() - {f.LAST_RUN.name} < 86400)""",
    ),
)
"""(what it answers, the query)."""
