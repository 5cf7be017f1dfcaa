"""The preflight: what is looked at before a guest is put at risk."""
