"""The ways out of the metrics: textfile, exporter, push. What they show is the journal's."""
