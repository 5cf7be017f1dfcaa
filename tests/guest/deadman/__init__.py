"""The in-guest dead-man (contrib/guest): its script under three shells, and in a real guest that the host forgets."""
