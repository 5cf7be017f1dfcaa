"""A PVE node in a box. Rooms: guest/ (real and scripted), node/ (the API and its daemons), vzdump/ (backup jobs).

Here: site (a node with guests and our configuration, for one test), demo, and what fetches and keeps Debian's packages.
"""
