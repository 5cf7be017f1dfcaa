"""A guarantee whose test cannot fail is none: each is broken on purpose here, and its test must notice.

``python -m tests.mutations`` (make mutations) applies each mutation of table.py to a copy of the tree and runs the
tests that must catch it.
"""
