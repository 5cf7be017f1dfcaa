"""Guests of the lab, real and scripted: disks, agents, sockets, and the oracle that reads the disk."""
