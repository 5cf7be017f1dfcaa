"""For every test: signals as a daemon or a terminal leaves them to its child, not as whoever started the tests did; and
safe-snapshot's runs are forked, where a test does not start the program itself (tests/lab/forked.py).
"""

from __future__ import annotations

import signal

from tests.lab.site import Site


def pytest_configure() -> None:
    """A job in the background, or one under nohup, ignores what Ctrl-C and a hangup send, and its children with it."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
    signal.signal(signal.SIGQUIT, signal.SIG_DFL)
    Site.forks = True
