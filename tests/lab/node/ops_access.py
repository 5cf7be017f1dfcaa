"""API methods about roles, users, tokens and rights (PVE::API2::Role, User, ACL), in their words."""

from __future__ import annotations

import uuid
from typing import Any

from tests.lab.node.errors import Die
from tests.lab.node.host import Host
from tests.lab.node.ops import Caller, bad_parameter, is_true, operation
from tests.lab.node.usercfg import COMMON, SINCE_9, SPECIAL, UNTIL_8, CfgUser, UserConfig

ROLES, USERS = "/access/roles", "/access/users"
TOKENS = f"{USERS}/{{userid}}/token"


def known_privileges(host: Host) -> set[str]:
    """What this version of pve-access-control knows."""
    return {*COMMON, *(SINCE_9 if host.settings.at_least("9.0.3") else UNTIL_8)}


def _checked(host: Host, value: object) -> set[str]:
    names = set(filter(None, str(value or "").replace(" ", ",").split(",")))
    for name in names - known_privileges(host):
        raise bad_parameter(privs=f"invalid format - invalid privilege '{name}'\n")
    return names


@operation("GET", ROLES)
def roles(host: Host, values: dict[str, Any], caller: Caller) -> list[dict[str, Any]]:
    every = ",".join(sorted(known_privileges(host)))
    own = {name: privs & known_privileges(host) for name, privs in host.users.get().roles.items()}
    found = [{"roleid": name, "privs": ",".join(sorted(privs)), "special": 0} for name, privs in own.items()]
    return [*found, *({"roleid": r, "privs": every if r == SPECIAL[0] else "", "special": 1} for r in SPECIAL)]


@operation("POST", ROLES)
def add_role(host: Host, values: dict[str, Any], caller: Caller) -> None:
    name, privileges = str(values["roleid"]), _checked(host, values.get("privs"))
    with host.users.changed() as config:
        if name in config.roles:
            raise Die(f"create role failed: role '{name}' already exists")
        config.roles[name] = privileges


@operation("PUT", f"{ROLES}/{{roleid}}")
def change_role(host: Host, values: dict[str, Any], caller: Caller) -> None:
    name, privileges = str(values["roleid"]), _checked(host, values.get("privs"))
    with host.users.changed() as config:
        if name not in config.roles:
            raise Die(f"update role failed: role '{name}' does not exist")
        kept = config.roles[name] & known_privileges(host) if is_true(values.get("append")) else set()
        config.roles[name] = privileges | kept


@operation("DELETE", f"{ROLES}/{{roleid}}")
def delete_role(host: Host, values: dict[str, Any], caller: Caller) -> None:
    name = str(values["roleid"])
    with host.users.changed() as config:
        if name not in config.roles:
            raise Die(f"delete role failed: role '{name}' does not exist")
        del config.roles[name]  # what the rights still say of it stays there


def _user(config: UserConfig, values: dict[str, Any]) -> CfgUser:
    userid = str(values["userid"])
    if userid not in config.users:
        raise Die(f"no such user ('{userid}')")
    return config.users[userid]


@operation("POST", USERS)
def add_user(host: Host, values: dict[str, Any], caller: Caller) -> None:
    userid = str(values["userid"])
    with host.users.changed() as config:
        if userid in config.users:
            raise Die(f"create user failed: user '{userid}' already exists")
        config.users[userid] = CfgUser(comment=str(values.get("comment") or ""))


@operation("GET", f"{USERS}/{{userid}}")
def user(host: Host, values: dict[str, Any], caller: Caller) -> dict[str, Any]:
    found = _user(host.users.get(), values)
    answer: dict[str, Any] = {"enable": int(found.enable), "expire": 0, "email": "", "groups": []}
    if found.comment:
        answer["comment"] = found.comment
    if found.tokens:
        answer["tokens"] = {name: _token(*known) for name, known in found.tokens.items()}
    return answer


@operation("PUT", f"{USERS}/{{userid}}")
def change_user(host: Host, values: dict[str, Any], caller: Caller) -> None:
    with host.users.changed() as config:
        found = _user(config, values)
        if "enable" in values:
            found.enable = is_true(values["enable"])
        if "comment" in values:
            found.comment = str(values["comment"] or "")


@operation("DELETE", f"{USERS}/{{userid}}")
def delete_user(host: Host, values: dict[str, Any], caller: Caller) -> None:
    userid = str(values["userid"])
    with host.users.changed() as config:
        found = _user(config, values)
        for name in found.tokens:
            host.users.set_secret(f"{userid}!{name}", None)
        del config.users[userid]
        config.acl = {key: on for key, on in config.acl.items() if key[1] != userid}


def _token(comment: str, privsep: bool) -> dict[str, Any]:
    return {"expire": 0, "privsep": int(privsep), **({"comment": comment} if comment else {})}


@operation("GET", TOKENS)
def tokens(host: Host, values: dict[str, Any], caller: Caller) -> list[dict[str, Any]]:
    found = _user(host.users.get(), values)
    return [{"tokenid": name, **_token(*known)} for name, known in found.tokens.items()]


@operation("POST", f"{TOKENS}/{{tokenid}}")
def add_token(host: Host, values: dict[str, Any], caller: Caller) -> dict[str, Any]:
    """The one time that the secret is told."""
    name = str(values["tokenid"])
    with host.users.changed() as config:
        found = _user(config, values)
        if name in found.tokens:
            raise bad_parameter(tokenid="Token already exists.")
        known = (str(values.get("comment") or ""), is_true(values.get("privsep", 1)))
        token_id, secret = f"{values['userid']}!{name}", str(uuid.uuid4())
        host.users.set_secret(token_id, secret)
        found.tokens[name] = known
    return {"full-tokenid": token_id, "info": _token(*known), "value": secret}


@operation("DELETE", f"{TOKENS}/{{tokenid}}")
def delete_token(host: Host, values: dict[str, Any], caller: Caller) -> None:
    name, userid = str(values["tokenid"]), str(values["userid"])
    with host.users.changed() as config:
        if name not in _user(config, values).tokens:
            raise Die(f"no such token '{name}' for user '{userid}'")
        host.users.set_secret(f"{userid}!{name}", None)
        del config.users[userid].tokens[name]


@operation("GET", "/access/acl")
def acl(host: Host, values: dict[str, Any], caller: Caller) -> list[dict[str, Any]]:
    return [
        {"path": path, "type": "user", "ugid": who, "roleid": role, "propagate": int(on)}
        for (path, who, role), on in host.users.get().acl.items()
    ]


@operation("PUT", "/access/acl")
def change_acl(host: Host, values: dict[str, Any], caller: Caller) -> None:
    path, who, role = str(values["path"]), str(values["users"]), str(values["roles"])
    with host.users.changed() as config:
        if role not in config.roles and role not in SPECIAL:
            raise Die(f"ACL update failed: role '{role}' does not exist")
        if who not in config.users:
            raise Die(f"ACL update failed: user '{who}' does not exist")
        if is_true(values.get("delete")):
            config.acl.pop((path, who, role), None)
        else:
            config.acl[path, who, role] = is_true(values.get("propagate", 1))
