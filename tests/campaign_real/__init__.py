"""Freeze windows of real guests under real processes that are killed at random instants: ``make campaign-real``."""
