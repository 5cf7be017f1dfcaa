"""Secrets from files of their own, readable by root alone: the API token's, whose id is in the configuration, and
others.
"""

from __future__ import annotations

import codecs
import os
import stat
from pathlib import Path
from typing import NamedTuple

from snapshot.config.reading import credential, read_file
from snapshot.config.settings import TOKEN_ID, Config
from snapshot.errors import ConfigError

NO_NODE = 'this is no PVE node: docs/install.md, "By hand", has what it takes here: [api] host, ca_file and a token'

_LINE = "one line, user@realm!tokenname=secret, as docs/privileges.md has it"


class Token(NamedTuple):
    """An API token; the secret never prints."""

    id: str
    secret: str

    def __repr__(self) -> str:
        return f"Token(id={self.id!r})"


def read_private(path: Path, what: str, *, missing: str, setting: str, not_for: int = 0o077) -> str:
    """What is in a file that holds a secret, without the white space around it and an editor's byte order mark.
    ConfigError, which names ``what`` the file is and says nothing of what is in it, where it is not there, no ASCII, or
    not root's alone (``not_for``: the bits of a mode that it must not have).
    """
    try:
        raw, found = read_file(path)
        text, mode = raw.removeprefix(codecs.BOM_UTF8).decode("ascii").strip(), stat.S_IMODE(found.st_mode)
    except FileNotFoundError:
        raise ConfigError(f"the {what} file {path} does not exist", remedy=missing) from None
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not ASCII"
        mend = "run it as root, or see" if isinstance(error, PermissionError) else "see"
        raise ConfigError(f"the {what} file {path} cannot be read ({reason})", remedy=f"{mend} {setting}") from None
    if mode & not_for:
        raise ConfigError(f"the {what} file {path} is readable by others (mode {mode:04o})", remedy=f"chmod 600 {path}")
    if found.st_uid not in (0, os.geteuid()):
        raise ConfigError(
            f"the {what} file {path} belongs to another user (uid {found.st_uid}), who may read and replace it",
            remedy=f"chown root: {path}",
        )
    return text


def has_file(config: Config) -> bool:
    """Whether there is a token file. One that we may not look for counts: who reads it then says why it cannot be."""
    try:
        config.api.token_file.stat()
    except PermissionError:
        return True
    except OSError:
        return False
    return True


def token(config: Config) -> Token:
    """The API token: its id from ``[api] token_id``, its secret from the token file. ConfigError without the secret.

    The file may also hold PVE's own form ``user@realm!tokenname=secret``; then the id need not be configured.
    """
    path = config.api.token_file
    missing = (
        "`safe-snapshot setup` makes one, as root on this node" if os.access(config.local.pvesh, os.X_OK) else NO_NODE
    )
    try:
        # systemd lets a unit's own user read its credential by an access list, which shows as the group's bits.
        not_for = 0o007 if path == credential() else 0o077
        text = read_private(path, "token", missing=missing, setting="[api] token_file", not_for=not_for)
    except ConfigError as error:
        if error.remedy == missing:
            raise ConfigError(f"there is no API token: {error.message}", remedy=missing) from None
        raise
    in_file, equals, secret = text.rpartition("=")
    token_id = config.api.token_id or in_file
    if not secret or any(c.isspace() for c in secret) or (equals and in_file != token_id):
        raise ConfigError(
            f"the token file {path} does not hold the secret of one token", remedy=f"write into it {_LINE}"
        )
    if not token_id:
        raise ConfigError(
            f"the token file {path} does not say whose secret it holds, and [api] token_id is not set",
            remedy=f"write into it {_LINE}",
        )
    if not TOKEN_ID.match(token_id):
        raise ConfigError(
            f"the token file {path} does not hold the secret of one token", remedy=f"write into it {_LINE}"
        )
    return Token(token_id, secret)
