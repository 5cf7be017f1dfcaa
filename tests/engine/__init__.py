"""The real command against the lab's node, scripted guests: what PVE and the agent answer, and what a run makes of it.

pve-facts, sections 4 and 5, row by row: test_no_freeze (guests that cannot be frozen), test_freeze_answers (freeze,
proof, thaw), test_pves_own_freezing (before and after 9.1.10), test_snapshot_tasks, test_guest_kinds, test_access
(tokens, privileges, certificates). Then test_on_the_node (sockets, pidfds, pvesh), test_signals (every step),
test_surroundings (configuration, journal, metrics), test_cli, and test_faults_at_every_step (every request in every
way).
"""
