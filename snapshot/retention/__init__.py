"""Retention: which of our snapshots a rule keeps, which are ours at all, and the removal of the rest."""
