"""What things cost, as ratios against a reference of the same run. No test depends on it."""
