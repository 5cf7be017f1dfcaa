"""The doctor: what is wrong with an installation and its guests before a backup shows it."""
