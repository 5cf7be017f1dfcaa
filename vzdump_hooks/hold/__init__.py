"""The process that holds one backup's window: freezing ourselves, or watching vzdump's own freeze."""
