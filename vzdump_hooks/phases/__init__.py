"""One module a job: each has ``run(call)``, which returns True when this guest's backup shall fail."""
