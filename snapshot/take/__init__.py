"""Taking one snapshot: the protocol from the request to its result."""
