"""The configuration file: made with every setting in it as a comment, or an older one with what is missing."""

from __future__ import annotations

import os
import tomllib
from pathlib import Path
from typing import Any, NamedTuple

from snapshot.config import reading
from snapshot.config.settings import Config
from snapshot.errors import ConfigError
from snapshot.setup.place import FileStep, content
from snapshot.setup.tomltext import set_key

SAMPLE = Path(__file__).with_name("sample.toml")
"""Generated, the same as contrib/config.toml: every setting with its default, commented out."""

TEXTFILE = "vzdump_hooks.prom"
NOTIFY_WAYS = ("mail_to", "webhook_file", "heartbeat_file")


class Wanted(NamedTuple):
    """A key that is to be set."""

    table: str
    key: str
    value: str

    def __str__(self) -> str:
        return f'[{self.table}] {self.key} = "{self.value}"'


def says(raw: bytes | None, table: str, *keys: str) -> bool:
    """Whether the file sets one of these keys, to whatever value: then it is the operator's."""
    said: dict[str, Any] = tomllib.loads((raw or b"").decode("utf-8-sig"))
    return any(key in said.get(table, {}) for key in keys)


def wanted_keys(raw: bytes | None, config: Config, folder: Path | None, token_id: str) -> list[Wanted]:
    """What an operator has not said and this node needs. ``folder``: where the running node_exporter looks, if that is
    elsewhere; ``token_id``: the one whose secret the token file gets, or "".
    """
    found: list[Wanted] = []
    if token_id and config.api.token_id not in ("", token_id):
        found.append(Wanted("api", "token_id", token_id))
    if folder is not None:
        found.append(Wanted("metrics", "textfile", str(folder / TEXTFILE)))
    is_silent = not says(raw, "notify", *NOTIFY_WAYS)
    if is_silent and os.access(config.notify.sendmail, os.X_OK):
        found.append(Wanted("notify", "mail_to", "root"))
    return found


def config_step(path: Path, raw: bytes | None, wanted: list[Wanted]) -> FileStep | None:
    """The file with these keys; None when it is as it should be. ConfigError where a person has to set one."""
    text = SAMPLE.read_text() if raw is None else raw.decode()
    for key in wanted:
        done = set_key(text, key.table, key.key, key.value)
        if done is None:
            raise ConfigError(f"{path}: {key} cannot be set in what stands there", remedy="set it by hand, then go on")
        text = done
    if raw is not None and text.encode() == raw:
        return None
    about = ", ".join(str(key) for key in wanted)
    what = (
        f"{path}: {'make it, every setting as a comment' if raw is None else 'set'}{', and ' if raw is None else ' '}"
    )
    return FileStep(path, raw, text.encode(), f"{what}{about}" if about else what.removesuffix(", and "))


def read(path: Path) -> tuple[bytes | None, Config]:
    """The file, and what it says. ConfigError when it cannot be read: nothing is built on a broken one."""
    raw = content(path)
    return raw, Config() if raw is None else reading.load(path)
