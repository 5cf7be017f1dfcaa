"""The configuration: what may be set, and the reading and checking of it."""
