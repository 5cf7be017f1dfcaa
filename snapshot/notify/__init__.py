"""Who is told, without Prometheus, of an alarm and of its end."""
