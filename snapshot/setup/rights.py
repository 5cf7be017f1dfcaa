"""Role, user and rights: each made where it is missing, and taken back once nobody uses it any more."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from snapshot.errors import ApiError, ConfigError
from snapshot.setup.accounts import MARK, MARK_WITH_ROLE, ROLE, USER, User
from snapshot.setup.pve import Pve
from snapshot.setup.record import Entry, Record
from snapshot.setup.step import SetupStep, TakenBack

ROLE_KIND, USER_KIND, RIGHT_KIND = "role", "user", "right"
Change = tuple[str, str, Mapping[str, object]]


class RoleStep(NamedTuple):
    """The role is made, or gets what it lacks."""

    pve: Pve
    before: frozenset[str] | None
    privileges: tuple[str, ...]

    @property
    def what(self) -> str:
        """See SetupStep."""
        if self.before is None:
            return f"role {ROLE}: make it, with {' '.join(self.privileges)}"
        return f"role {ROLE}: add {' '.join(self._missing)}"

    @property
    def _missing(self) -> tuple[str, ...]:
        return tuple(name for name in self.privileges if name not in (self.before or ()))

    @property
    def _change(self) -> Change:
        if self.before is None:
            return "POST", "access/roles", {"roleid": ROLE, "privs": ",".join(self.privileges)}
        return "PUT", f"access/roles/{ROLE}", {"privs": ",".join(self._missing), "append": 1}

    def shows(self) -> list[str]:
        """See SetupStep."""
        return [self.pve.shown(*self._change)]

    def do(self, record: Record) -> None:
        """See SetupStep."""
        before = None if self.before is None else sorted(self.before)
        record.add(ROLE_KIND, ROLE, before=before, privileges=list(self.privileges))
        try:
            self.pve.change(*self._change)
        except ApiError:
            if not self.pve.accounts.roles().get(ROLE, frozenset()).issuperset(self.privileges):
                raise  # else another node was quicker


class UserStep(NamedTuple):
    """The user is made, without a password: nobody logs in as it."""

    pve: Pve
    found: User | None
    comment: str

    @property
    def what(self) -> str:
        """See SetupStep."""
        return f"user {USER}: {'make it, without a password' if self.found is None else 'enable it'}"

    @property
    def _change(self) -> Change:
        if self.found is None:
            return "POST", "access/users", {"userid": USER, "comment": self.comment}
        return "PUT", f"access/users/{USER}", {"enable": 1}

    def shows(self) -> list[str]:
        """See SetupStep."""
        return [self.pve.shown(*self._change)]

    def do(self, record: Record) -> None:
        """See SetupStep."""
        record.add(USER_KIND, USER)
        try:
            self.pve.change(*self._change)
        except ApiError:
            if not _is_usable(self.pve.accounts.user(USER)):
                raise


class RightStep(NamedTuple):
    """The user gets the role, on everything."""

    pve: Pve
    what: str = f"rights: {USER} gets {ROLE} on /"

    @property
    def _change(self) -> Change:
        return "PUT", "access/acl", {"path": "/", "users": USER, "roles": ROLE, "propagate": 1}

    def shows(self) -> list[str]:
        """See SetupStep."""
        return [self.pve.shown(*self._change)]

    def do(self, record: Record) -> None:
        """See SetupStep."""
        record.add(RIGHT_KIND, USER)
        self.pve.change(*self._change)


def plan_rights(pve: Pve, record: Record, privileges: tuple[str, ...], notes: list[str]) -> list[SetupStep]:
    """What is missing. A user that somebody else has made keeps the rights that it was given."""
    steps: list[SetupStep] = []
    role, user = pve.accounts.roles().get(ROLE), pve.accounts.user(USER)
    if role is None or not role.issuperset(privileges):
        steps.append(RoleStep(pve, role, privileges))
    if user is not None and not user.enabled and not user.is_ours:
        raise ConfigError(
            f"the user {USER} is disabled, and no setup of ours made it", remedy="enable it: Datacenter, Users"
        )
    if not _is_usable(user):
        made = any(entry.kind == ROLE_KIND and entry.facts["before"] is None for entry in record.entries)
        steps.append(UserStep(pve, user, MARK_WITH_ROLE if made or role is None else MARK))
    given = [right for right in pve.accounts.rights() if right.who == USER]
    if user is not None and not user.is_ours and given:
        notes.append(f"{USER} was made by somebody else: it keeps the rights that it has")
    elif not any(right.path == "/" and right.role == ROLE and right.propagates for right in given):
        steps.append(RightStep(pve))
    return steps


def join(record: Record, user: User | None) -> None:
    """Note that this node uses what another node's setup has made, so that the last one takes it away."""
    if user is None or not user.is_ours:
        return
    if user.comment == MARK_WITH_ROLE and record.find(ROLE_KIND) is None:
        record.add(ROLE_KIND, ROLE, before=None, privileges=[])
    if record.find(USER_KIND) is None:
        record.add(USER_KIND, USER)


def take_right_back(pve: Pve, _entry: Entry) -> TakenBack:
    """Of a user that setup made they go with it."""
    what = f"rights of {USER}"
    user = pve.accounts.user(USER)
    if user is None or user.is_ours:
        return TakenBack(what)
    if user.tokens:
        return TakenBack(what, _used_by(user))
    pve.change("PUT", "access/acl", {"path": "/", "users": USER, "roles": ROLE, "delete": 1})
    return TakenBack(what)


def take_user_back(pve: Pve, record: Record) -> TakenBack:
    """The user is deleted when it is a setup's and has no token any more. That its role goes too is committed first:
    the user's comment says so.
    """
    what = f"user {USER}"
    user = pve.accounts.user(USER)
    if user is None:
        return TakenBack(what)
    if not user.is_ours:
        return TakenBack(what, "its comment says that somebody else has it now")
    if user.tokens:
        return TakenBack(what, _used_by(user))
    join(record, user)
    pve.change("DELETE", f"access/users/{USER}")
    return TakenBack(what)


def take_role_back(pve: Pve, entry: Entry) -> TakenBack:
    """The role is deleted, or is again what it was, once nobody has it."""
    what = f"role {ROLE}"
    role = pve.accounts.roles().get(ROLE)
    if role is None:
        return TakenBack(what)
    users = sorted({right.who for right in pve.accounts.rights() if right.role == ROLE})
    before, added = entry.facts["before"], set(entry.facts["privileges"])
    if before is None and users:
        return TakenBack(what, f"{', '.join(users)} has it")
    if before is None:
        pve.change("DELETE", f"access/roles/{ROLE}")
    elif role != frozenset(before) | added:
        return TakenBack(what, "its privileges were changed since")
    elif USER in users and (user := pve.accounts.user(USER)) is not None and user.tokens:
        return TakenBack(what, _used_by(user))
    else:
        pve.change("PUT", f"access/roles/{ROLE}", {"privs": ",".join(before)})
    return TakenBack(what)


def _is_usable(user: User | None) -> bool:
    return user is not None and user.enabled


def _used_by(user: User) -> str:
    return f"still used by its tokens {', '.join(sorted(user.tokens))}"
