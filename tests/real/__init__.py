"""safe-snapshot against real guests, judged by their disks."""
