"""A thread beside the one that takes the signals, small enough for a process whose memory is locked."""

from __future__ import annotations

import threading
from collections.abc import Callable

STACK_BYTES = 1 << 20


def start_thread(name: str, run: Callable[[], None]) -> threading.Thread:
    """``run`` in a thread that keeps nobody from ending."""
    earlier = threading.stack_size(STACK_BYTES)
    try:
        thread = threading.Thread(target=run, name=name, daemon=True)
        thread.start()
    finally:
        threading.stack_size(earlier)
    return thread
