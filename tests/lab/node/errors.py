"""The two ways a PVE method can fail: as an HTTP answer, or inside a task."""

from __future__ import annotations


class ApiError(Exception):
    """An answer other than 200: PVE's status, its text, and the text per parameter."""

    def __init__(self, status: int, message: str, errors: dict[str, str] | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.errors = errors


class Die(Exception):  # noqa: N818 - Perl's word: PVE's code "dies", and callers decide what that means
    """A failure with PVE's text: status 500 in an API call, the exit status in a task."""
