"""The `script:` entry for vzdump: phases, task log, and what each phase does. It builds on `snapshot`."""
