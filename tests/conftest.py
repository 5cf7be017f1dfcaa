"""For every test: signals as a daemon or a terminal leaves them to its child, not as whoever started the tests did; and
safe-snapshot's runs are forked, where a test does not start the program itself (tests/lab/forked.py).
"""

from __future__ import annotations

import os
import signal

import pytest

from tests.lab.site import Site
from tests.order import spread


def pytest_configure() -> None:
    """A job in the background, or one under nohup, ignores what Ctrl-C and a hangup send, and its children with it."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
    signal.signal(signal.SIGQUIT, signal.SIG_DFL)
    Site.forks = True


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Among several workers, what takes long begins first."""
    if workers := int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "0")):
        items[:] = [items[place] for place in spread([item.nodeid.partition("::")[0] for item in items], workers)]
