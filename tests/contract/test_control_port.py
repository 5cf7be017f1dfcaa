"""The lab's control port: a guest full of dying orphans costs it no line."""

from __future__ import annotations

import pytest

from tests.lab.guest.real import RealGuest

ORPHANS = "(for n in 1 2 3 4 5 6 7 8 9 10; do for t in 5 20 50 90; do (usleep ${t}000 &); done; usleep 9000; done) &"


@pytest.mark.real
def test_orphans_that_die_meanwhile_cost_no_line(session_guest: RealGuest) -> None:
    """A child that ends while a shell reads a line can cost it the line's beginning, and an orphan is PID 1's child."""
    if not session_guest.running:
        session_guest.start()
    for number in range(100):
        if number % 10 == 0:
            session_guest.shell(f"{ORPHANS} >/dev/null 2>&1")
        assert session_guest.control(f"echo {number}; (exit 3)") == (3, str(number))
