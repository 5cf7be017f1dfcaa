"""What a disk says of itself: parsers, images made for them, and mutated ones."""
