"""The Debian package, built and installed into Debian 12 and Debian 13 (PVE 8 and 9)."""
