"""The command line: click, and nothing that click is not needed for."""
