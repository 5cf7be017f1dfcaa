"""A call that may never return (a resolver, a file on a hung mount), made in a thread, so that the caller goes on."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from subprocess import Popen

T = TypeVar("T")

STACK_BYTES = 1 << 20
"""Of the thread: a guard's memory is locked, and the usual 8 MiB would be too."""

KILLED_SECONDS = 1.0
"""How long a process that was killed may take to end. One in an uninterruptible sleep ends when its disk does."""


class Aside(Generic[T]):
    """``call``, begun at once. One that hangs keeps its thread: do not begin another before it is over."""

    def __init__(self, call: Callable[[], T], name: str) -> None:
        self._call = call
        self._answer: T | None = None
        self._error: Exception | None = None
        self._done = threading.Event()
        earlier = threading.stack_size(STACK_BYTES)
        try:
            threading.Thread(target=self._run, name=name, daemon=True).start()
        finally:
            threading.stack_size(earlier)

    @property
    def is_over(self) -> bool:
        """Whether the call has returned, or raised."""
        return self._done.is_set()

    def result(self, seconds: float) -> T:
        """What the call returned or raised; TimeoutError when it has done neither within ``seconds``."""
        if not self._done.wait(seconds):
            raise TimeoutError("no answer in time")
        if self._error is not None:
            raise self._error
        return self._answer  # type: ignore[return-value]

    def _run(self) -> None:
        try:
            self._answer = self._call()
        except Exception as error:  # noqa: BLE001 - it belongs to whoever asks for the result
            self._error = error
        self._done.set()


def reap(process: Popen[bytes]) -> Aside[int] | None:
    """Wait for a process that was killed. One that does not end all the same is left to a thread, which is returned."""
    import subprocess  # noqa: PLC0415 - 2.5 ms that a hook phase which starts nobody is spared

    try:
        process.wait(KILLED_SECONDS)
    except subprocess.TimeoutExpired:
        return Aside(process.wait, "reaper")
    return None
