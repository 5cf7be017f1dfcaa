"""What an API method does, without HTTP: a table from (method, path template) to a function.

The server's workers, the server itself (for methods that PVE does not hand to pvedaemon) and ``pvesh_fake`` run the
same functions. They raise Die (status 500 in PVE) or ApiError, and return the ``data`` of the answer.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from tests.lab.node.errors import ApiError, Die
from tests.lab.node.host import Host


@dataclass(frozen=True)
class Caller:
    """Who calls: ``root@pam``, ``lab@pve`` or a token ``lab@pve!name``."""

    user: str
    host: Host

    def has(self, path: str, *privileges: str) -> bool:
        """Whether the caller holds every privilege on the path (PVE propagates from ``/`` downwards)."""
        if self.user == "root@pam":
            return True
        settings = self.host.settings
        owner = self.user.partition("!")[0]
        entry = settings.tokens.get(self.user) or settings.users.get(owner) or {}
        held = self.host.users.privileges(self.user, path)
        for granted, names in entry.get("acl", []):
            prefix = granted.rstrip("/")
            if path == granted or path.startswith(prefix + "/"):
                held |= set(names)
        return "*" in held or held >= set(privileges)

    def need(self, path: str, *privileges: str) -> None:
        """Raise PVE's 403 unless the caller holds them."""
        for privilege in privileges:
            if not self.has(path, privilege):
                raise ApiError(403, f"Permission check failed ({path}, {privilege})")


@dataclass(frozen=True)
class Listing:
    """Data with PVE's ``total`` beside it."""

    data: list[dict[str, Any]]
    total: int


Answer = dict[str, Any]
Operation = Callable[[Host, dict[str, Any], Caller], Any]
OPERATIONS: dict[tuple[str, str], Operation] = {}


def operation(method: str, *templates: str) -> Callable[[Operation], Operation]:
    """Register a function for a method and path templates."""

    def register(function: Operation) -> Operation:
        for template in templates:
            OPERATIONS[method, template] = function
        return function

    return register


def bad_parameter(**fields: str) -> ApiError:
    """PVE's 400 with a text a parameter."""
    return ApiError(400, "Parameter verification failed.", fields)


def is_true(value: object) -> bool:
    """A boolean as PVE's clients send it."""
    return str(value).lower() in ("1", "true", "yes", "on")


def load_all() -> None:
    """Import the modules that fill OPERATIONS."""
    from tests.lab.node import ops_access, ops_backup, ops_cluster, ops_guest, ops_power, ops_task  # noqa: F401


def perform(host: Host, method: str, template: str, values: dict[str, Any], user: str) -> Answer:
    """Run an operation: ``{"data": ...}``, or ``{"status": ..., "message": ..., "errors": ...}``."""
    try:
        data = OPERATIONS[method, template](host, values, Caller(user, host))
    except ApiError as error:
        return {"status": error.status, "message": error.message, "errors": error.errors}
    except Die as error:
        return {"status": 500, "message": str(error), "errors": None}
    if isinstance(data, Listing):
        return {"data": data.data, "total": data.total}
    return {"data": data}
