"""Many guests: a worker process for each, as many at once as the limits allow, and what came of it."""
