"""The metric families of labels (``snap-daily-7``): families.py's table holds them. Standard library only."""

from __future__ import annotations

from snapshot.journal.family import Family, Kind

_OF_A_LABEL = ("id", "vmid", "node", "label")

LABEL_LAST = Family(
    "pve_fsfreeze_label_last_timestamp_seconds",
    Kind.GAUGE,
    "Unix time of the guest's last snapshot with the label; absent without one",
    "Of whichever node took it, as far as this one knows: it asks PVE before it calls a label missed.",
    _OF_A_LABEL,
)
LABEL_EXPECTED = Family(
    "pve_fsfreeze_label_expected_since_timestamp_seconds",
    Kind.GAUGE,
    "Unix time since which a tag of a guest that runs here asks for the label; absent where none does",
    "From it on the guest has `pve_fsfreeze_label_limit_seconds` for its first snapshot with the label.",
    _OF_A_LABEL,
)
LABEL_LIMIT = Family(
    "pve_fsfreeze_label_limit_seconds",
    Kind.GAUGE,
    "How old the guest's last snapshot with the label may get; absent where none is expected",
    "The period that the label is called by (`hourly` to `yearly`), and a quarter of it, half an hour at least.",
    _OF_A_LABEL,
)
LABEL_LEFT_OUT = Family(
    "pve_fsfreeze_label_left_out",
    Kind.GAUGE,
    "1 when the last run of the label that came to the guest left it out or failed, else 0",
    "`safe-snapshot status` on the node that ran it says why.",
    _OF_A_LABEL,
)

LABEL_FAMILIES = (LABEL_LAST, LABEL_EXPECTED, LABEL_LIMIT, LABEL_LEFT_OUT)
