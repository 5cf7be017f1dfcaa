"""A PVE node of the lab: the API, its daemons and tasks, its files, and faults in each."""
