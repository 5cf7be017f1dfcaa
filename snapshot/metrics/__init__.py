"""Metrics: families and their projection from the journal (standard library), and the three ways out."""
