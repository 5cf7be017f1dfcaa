"""Role, user, rights and tokens as PVE tells of them, and by which of them setup goes.

One role and one user a cluster, and one token a node: PVE shows a secret once (PVE::API2::User, generate_token), so a
second node cannot have the first one's; and who still uses the user is who still has a token of it. The user's comment
says that setup made it, and whether the role too: the last node to leave takes both away.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from snapshot.base.text import clean
from snapshot.config.settings import Config
from snapshot.errors import ApiFailureError, ReplyLostError
from snapshot.pve.transport import Transport

ROLE = "FreezeGuard"
USER = "freeze-guard@pve"
MARK = "made by safe-snapshot setup"
MARK_WITH_ROLE = f"{MARK}, with the role {ROLE}"

ASK_SECONDS = 30.0


class User(NamedTuple):
    """A user of PVE's."""

    comment: str
    enabled: bool
    tokens: frozenset[str]

    @property
    def is_ours(self) -> bool:
        """Whether a setup made it, on this node or another."""
        return self.comment.startswith(MARK)


class Right(NamedTuple):
    """One entry of the access control list."""

    path: str
    who: str
    role: str
    propagates: bool


def needed_privileges(config: Config, known: frozenset[str]) -> tuple[str, ...]:
    """What the token needs here, in the privileges that this PVE ``known``: docs/privileges.md.

    The guest agent's own exist since PVE 9 (pve-access-control 9.0.3), the monitor's until then.
    """
    agent = ("VM.GuestAgent.Audit", "VM.GuestAgent.FileSystemMgmt")
    needed = [
        "VM.Audit",
        "VM.Snapshot",
        *(agent if known.issuperset(agent) else ("VM.Monitor",)),
        "Sys.Audit",
        "Datastore.Audit",
    ]
    if config.hook.write_notes:
        needed += ["VM.Backup", "Datastore.AllocateSpace"]
    if config.thaw.sysrq:
        needed.append("VM.Console")
    return tuple(needed)


class Accounts:
    """Asks PVE. Errors as Transport.request; ReplyLostError for an answer that is none."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def roles(self) -> Mapping[str, frozenset[str]]:
        """Each role's privileges. ``Administrator`` has all that this version knows."""
        rows = self._rows("access/roles")
        return {str(r.get("roleid")): frozenset(filter(None, str(r.get("privs") or "").split(","))) for r in rows}

    def user(self, userid: str) -> User | None:
        """The user; None where there is none."""
        try:
            found = self._transport.request("GET", f"access/users/{userid}", timeout_seconds=ASK_SECONDS)
        except ApiFailureError as error:
            if "no such user" in error.message:
                return None
            raise
        if not isinstance(found, dict):
            raise ReplyLostError("PVE's answer about a user is not an object")
        tokens = found.get("tokens")
        return User(
            clean(str(found.get("comment") or ""), 200),
            str(found.get("enable", 1)) in ("1", "True"),
            frozenset(str(name) for name in tokens) if isinstance(tokens, dict) else frozenset(),
        )

    def rights(self) -> list[Right]:
        """The whole access control list."""
        return [
            Right(
                str(r.get("path")), str(r.get("ugid")), str(r.get("roleid")), str(r.get("propagate")) in ("1", "True")
            )
            for r in self._rows("access/acl")
        ]

    def _rows(self, path: str) -> list[Mapping[str, object]]:
        answer = self._transport.request("GET", path, timeout_seconds=ASK_SECONDS)
        if not isinstance(answer, list):
            raise ReplyLostError(f"PVE's answer to {path} is not a list")
        return [row for row in answer if isinstance(row, dict)]
