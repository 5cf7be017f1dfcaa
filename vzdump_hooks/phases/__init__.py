"""The work of vzdump's phases. Each module has ``run(call)``, which returns True to fail this guest's backup."""
