"""The doctor: each finding is raised where it should be, and nowhere else."""
