"""The guard: a process of its own that owns a window and thaws its guest, whatever becomes of the others."""
