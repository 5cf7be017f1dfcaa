"""The preflight: what is examined before a guest is put at risk."""
