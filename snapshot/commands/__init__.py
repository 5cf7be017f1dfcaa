"""The administrator's own commands: which of them count, and how one is run. When, is for those who call it."""
