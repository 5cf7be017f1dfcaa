"""The freeze window: freezing, proving and thawing one guest, and the guard that outlives whoever asked."""
