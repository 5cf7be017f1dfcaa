"""vzdump's task log and the worker that writes it: lines, what they mean, following them."""
