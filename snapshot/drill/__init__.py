"""The drill: a guest is frozen on purpose and everything that should thaw it, and tell of it, is seen to do so."""
