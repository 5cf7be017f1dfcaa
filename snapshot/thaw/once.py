"""A question that costs time, asked when its answer is needed first."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress


class Once:
    """A question that is asked once a round at most. A bug in it is no yes."""

    def __init__(self, question: Callable[[], bool]) -> None:
        self._question = question
        self._answer: bool | None = None

    def __call__(self) -> bool:
        """The answer; False while the question fails."""
        if self._answer is None:
            self._answer = False
            with suppress(Exception):
                self._answer = self._question()
        return self._answer
