"""From ``[api] host`` to the address that is asked."""

from __future__ import annotations

from pathlib import Path

import pytest

from snapshot.clock import SystemClock
from snapshot.config import parse
from snapshot.errors import ConfigError
from snapshot.pve.routes import open_access


def url(tmp_path: Path, host: str) -> str:
    token = tmp_path / "token"
    token.write_text("root@pam!hooks=secret\n")
    token.chmod(0o600)
    api = {"host": host, "port": 8006, "token_file": str(token)}
    access = open_access(parse({"api": api, "local": {"node": ""}}, "test"), SystemClock())
    assert access.api is not None
    return access.api.name


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("pve1", "https://pve1:8006"),
        ("pve1:443", "https://pve1:443"),
        ("pve1.example.org", "https://pve1.example.org:8006"),
        ("192.0.2.7", "https://192.0.2.7:8006"),
        ("192.0.2.7:443", "https://192.0.2.7:443"),
        ("2001:db8::7", "https://[2001:db8::7]:8006"),
        ("[2001:db8::7]", "https://[2001:db8::7]:8006"),
        ("[2001:db8::7]:443", "https://[2001:db8::7]:443"),
        ("::1", "https://[::1]:8006"),
    ],
)
def test_a_host_may_be_a_name_or_an_address_with_or_without_a_port(tmp_path: Path, host: str, expected: str) -> None:
    assert url(tmp_path, host) == expected


@pytest.mark.parametrize("host", ["", " ", "https://pve1", "pve1/", "pve 1", "user@pve1", "pve1:", "pve1:port", "\n"])
def test_what_is_no_host_is_refused(tmp_path: Path, host: str) -> None:
    with pytest.raises(ConfigError, match=r"\[api\] host"):
        url(tmp_path, host)
