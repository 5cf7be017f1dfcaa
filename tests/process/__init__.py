"""Real processes of ours, killed, stopped and starved at every step, and what the guest sees of it."""
