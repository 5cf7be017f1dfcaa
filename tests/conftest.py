"""For every test: signals as a daemon or a terminal leaves them to its child, not as whoever started the tests did."""

from __future__ import annotations

import signal


def pytest_configure() -> None:
    """A job in the background, or one under nohup, ignores what Ctrl-C and a hangup send, and its children with it."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
    signal.signal(signal.SIGQUIT, signal.SIG_DFL)
