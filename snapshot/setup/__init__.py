"""From the installed package to guarded backups on one node, and back. docs/install.md is the operator's side."""
