"""The journal: one row a freeze window, what the rows mean, and the series that are counted from them."""
