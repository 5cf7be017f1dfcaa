"""The engine: freeze windows, guards, verdicts, and the safe-snapshot command. It never imports vzdump_hooks."""
