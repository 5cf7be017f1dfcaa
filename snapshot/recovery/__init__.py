"""What was left behind, and what others did: open windows, guests found frozen, foreign freezes."""
