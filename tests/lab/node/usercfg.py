"""Users, tokens, roles and rights in PVE's own files: ``etc/pve/user.cfg``, and the secrets in ``priv/token.cfg``.

Source: pve-access-control, PVE/AccessControl.pm (write_user_config, parse_user_config) and PVE/TokenConfig.pm. Groups
and pools are not the lab's.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import urllib.parse
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

COMMON = (
    "Datastore.Allocate", "Datastore.AllocateSpace", "Datastore.Audit", "Permissions.Modify", "Pool.Audit",
    "Sys.Audit", "Sys.Modify", "User.Modify", "VM.Audit", "VM.Backup", "VM.Config.Options", "VM.Console",
    "VM.PowerMgmt", "VM.Snapshot", "VM.Snapshot.Rollback",
)  # fmt: skip
SINCE_9 = (
    "VM.GuestAgent.Audit", "VM.GuestAgent.FileRead", "VM.GuestAgent.FileSystemMgmt", "VM.GuestAgent.FileWrite",
    "VM.GuestAgent.Unrestricted",
)  # fmt: skip
UNTIL_8 = ("VM.Monitor",)
SPECIAL = ("Administrator", "NoAccess", "PVEAuditor")


@dataclass
class CfgUser:
    """A line ``user:``, and its tokens' comments and privsep."""

    enable: bool = True
    comment: str = ""
    tokens: dict[str, tuple[str, bool]] = field(default_factory=dict)


@dataclass
class UserConfig:
    """What the file says. ``acl``: (path, user or token, role) -> propagate."""

    users: dict[str, CfgUser] = field(default_factory=lambda: {"root@pam": CfgUser()})
    roles: dict[str, set[str]] = field(default_factory=dict)
    acl: dict[tuple[str, str, str], bool] = field(default_factory=dict)


class UserFile:
    """The files of one lab root. ``get()`` is as new as they are."""

    def __init__(self, root: Path) -> None:
        self.path = root / "etc" / "pve" / "user.cfg"
        self._secrets = root / "etc" / "pve" / "priv" / "token.cfg"
        self._lock = root / "lab" / "user.cfg.lock"

    def get(self) -> UserConfig:
        """Read it; a missing file knows root alone."""
        config = UserConfig()
        if not self.path.exists():
            return config
        for line in self.path.read_text().splitlines():
            kind, *parts = line.split(":")
            if kind == "user":
                config.users[parts[0]] = CfgUser(parts[1] == "1", urllib.parse.unquote(parts[6]))
            elif kind == "token":
                userid, _, name = parts[0].partition("!")
                config.users[userid].tokens[name] = (urllib.parse.unquote(parts[3]), parts[2] == "1")
            elif kind == "role":
                config.roles[parts[0]] = set(filter(None, parts[1].split(",")))
            elif kind == "acl":
                for who in parts[2].split(","):
                    for role in parts[3].split(","):
                        config.acl[parts[1], who, role] = parts[0] == "1"
        return config

    @contextlib.contextmanager
    def changed(self) -> Iterator[UserConfig]:
        """Change it under PVE's lock; nothing is written when the block raises."""
        self._lock.parent.mkdir(parents=True, exist_ok=True)
        with self._lock.open("a") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            config = self.get()
            yield config
            _replace(self.path, render(config), 0o640)

    def secret(self, token_id: str) -> str:
        """A token's secret; empty when PVE does not know it."""
        userid, _, name = token_id.partition("!")
        user = self.get().users.get(userid)
        if user is None or name not in user.tokens or not user.enable:
            return ""
        return self.secrets().get(token_id, "")

    def secrets(self) -> dict[str, str]:
        if not self._secrets.exists():
            return {}
        return dict(line.split(" ", 1) for line in self._secrets.read_text().splitlines())

    def set_secret(self, token_id: str, secret: str | None) -> None:
        """Put a secret into its file, or take it out. PVE's own is written before user.cfg."""
        found = {**self.secrets(), token_id: secret}
        lines = [f"{name} {value}\n" for name, value in sorted(found.items()) if value is not None]
        self._secrets.parent.mkdir(mode=0o700, exist_ok=True)
        _replace(self._secrets, "".join(lines), 0o600)

    def privileges(self, who: str, path: str) -> set[str]:
        """What a user or a token without privilege separation holds on a path."""
        return {name for privileges in self.granted(who, path).values() for name in privileges}

    def granted(self, who: str, path: str = "") -> dict[str, set[str]]:
        """By which entry of the rights, of those that count for ``path``, if one is given."""
        config, userid = self.get(), who.partition("!")[0]
        if userid == "root@pam" and not config.users[userid].tokens.get(who.partition("!")[2], ("", True))[1]:
            return {"/": {*COMMON, *SINCE_9, *UNTIL_8}}
        held: dict[str, set[str]] = {}
        for (granted, member, role), propagates in config.acl.items():
            below = propagates and path.startswith(granted.rstrip("/") + "/")
            if member == userid and (not path or granted == path or below):
                held.setdefault(granted, set()).update(config.roles.get(role, set()))
        return held


def render(config: UserConfig) -> str:
    """The file's text, as PVE writes it."""
    lines: list[str] = []
    for userid, user in sorted(config.users.items()):
        lines.append(f"user:{userid}:{int(user.enable)}:0::::{_text(user.comment)}::")
        for name, (comment, privsep) in sorted(user.tokens.items()):
            lines.append(f"token:{userid}!{name}:0:{int(privsep)}:{_text(comment)}:")
    lines += ["", "", ""]
    lines += [f"role:{name}:{','.join(sorted(privs))}:" for name, privs in sorted(config.roles.items())]
    lines.append("")
    lines += [f"acl:{int(on)}:{path}:{who}:{role}:" for (path, who, role), on in sorted(config.acl.items())]
    return "\n".join(lines) + "\n"


def _text(comment: str) -> str:
    return urllib.parse.quote(comment, safe=" ,;.()=+'!@/")


def _replace(path: Path, text: str, mode: int) -> None:
    temporary = path.with_name(f"{path.name}.tmp.{os.getpid()}")
    temporary.write_text(text)
    temporary.chmod(mode)
    temporary.replace(path)
