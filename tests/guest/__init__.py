"""What runs inside a guest (contrib/guest), a folder each: under three shells on this machine, and in real guests."""
