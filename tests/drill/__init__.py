"""The drill, against real processes on a lab node."""
