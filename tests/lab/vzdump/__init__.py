"""vzdump of the lab: jobs, phases, pipes and logs as PVE's own."""
