"""What the disk in a snapshot says of itself: was it at rest? Read-only, without mounting. Nothing on it is trusted."""
