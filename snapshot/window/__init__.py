"""The freeze window: open, freeze, prove, thaw, close, and the verdict that comes of it."""
