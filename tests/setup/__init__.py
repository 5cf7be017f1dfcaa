"""The set-up of a node and its way back, against the lab's PVE, killed wherever it can be."""
