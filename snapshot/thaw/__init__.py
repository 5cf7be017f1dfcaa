"""The thaw: retried over every route until it is confirmed."""
