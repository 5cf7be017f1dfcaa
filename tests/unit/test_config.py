"""The configuration: a Config or a ConfigError that names the key, and nothing else. The token."""

from __future__ import annotations

import os
import tomllib
import typing
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from snapshot import config as configuration
from snapshot.config import Config, ForeignFreeze, FreezeOwner, GuestRule, Launcher, Token, load, parse, token
from snapshot.errors import ConfigError
from snapshot.model import Policy
from tests.unit.kit import raised

SECRET = "5cc9cd64-7b0c-4d2e-a2a3-1a2b3c4d5e6f"
TOKEN_ID = "root@pam!safe"

KEYS = sorted(
    {*Config._fields}
    | {name for section in typing.get_type_hints(Config).values() for name in getattr(section, "_fields", ())}
    | {*GuestRule._fields}
)
SCALARS = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text()
    | st.sampled_from(["require", "hook", "auto", "/x", "root@pam!t", ""])
    | st.binary(max_size=4)
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(KEYS) | st.text(max_size=8), inner, max_size=4)
    ),
    max_leaves=12,
)


def said(tree: dict[str, object]) -> str:
    """What parse() complains about, remedy included."""
    with pytest.raises(ConfigError) as caught:
        parse(tree, "config.toml")
    assert str(caught.value).startswith("config.toml: ")
    return str(caught.value)


@given(st.dictionaries(st.sampled_from(KEYS) | st.text(max_size=8), VALUES, max_size=6))
def test_any_tree_gives_a_config_or_a_config_error(tree: dict[str, object]) -> None:
    if raised(lambda: parse(tree, "config.toml"), ConfigError) is None:
        assert isinstance(parse(tree, "config.toml"), Config)


@given(st.text() | st.binary().map(lambda raw: raw.decode("latin-1")))
def test_any_file_gives_a_config_or_a_config_error(tmp_path_factory: pytest.TempPathFactory, text: str) -> None:
    path = tmp_path_factory.getbasetemp() / "any.toml"
    path.write_bytes(text.encode("utf-8", "surrogatepass"))
    if raised(lambda: load(path), ConfigError) is None:
        assert isinstance(load(path), Config)


@given(st.data())
def test_every_key_takes_its_own_default_back(data: st.DataObject) -> None:
    section = data.draw(st.sampled_from([name for name in Config._fields if name != "guest"]))
    default = getattr(Config(), section)
    plain = {name: _toml_value(value) for name, value in default._asdict().items() if value is not None}
    assert parse({section: plain}, "config.toml") == Config()


def _toml_value(value: object) -> object:
    if isinstance(value, Policy | FreezeOwner | ForeignFreeze | Launcher):
        return value.value
    if isinstance(value, Path):
        return str(value)
    return list(value) if isinstance(value, tuple) else value


def test_an_empty_file_is_the_defaults(tmp_path: Path) -> None:
    path = tmp_path / "config.toml"
    path.write_text("")
    assert load(path) == Config()


@pytest.mark.parametrize(
    ("tree", "name", "near"),
    [
        ({"freze": {}}, "freze", "freeze"),
        ({"freeze": {"max_window_second": 1}}, "freeze.max_window_second", "max_window_seconds"),
        ({"api": {"hosts": "pve"}}, "api.hosts", "host"),
        ({"guest": [{"vmdi": 100}]}, "guest.vmdi", "vmid"),
    ],
)
def test_an_unknown_key_is_refused_with_the_nearest_known_one(tree: dict[str, object], name: str, near: str) -> None:
    text = said(tree)
    assert f"unknown key {name!r}" in text
    assert f"did you mean {near!r}?" in text


def test_an_unknown_key_that_resembles_nothing_is_refused_with_the_known_ones() -> None:
    text = said({"guard": {"zzz": 1}})
    assert "known here: launcher, arm_timeout_seconds" in text


@pytest.mark.parametrize(
    ("tree", "words"),
    [
        ({"freeze": 1}, "[freeze] must be a table"),
        ({"freeze": {"policy": "always"}}, "it must be one of: require, prefer, never"),
        ({"freeze": {"policy": []}}, "it must be one of: require, prefer, never"),
        ({"freeze": {"max_window_seconds": "30"}}, "must be a number, not '30'"),
        ({"freeze": {"max_window_seconds": True}}, "must be a number, not True"),
        ({"freeze": {"max_window_seconds": 0}}, "must be a positive number"),
        ({"freeze": {"max_window_seconds": -1}}, "must be a positive number"),
        ({"freeze": {"max_window_seconds": float("nan")}}, "must be a positive number"),
        ({"freeze": {"max_window_seconds": float("inf")}}, "must be a positive number"),
        ({"freeze": {"max_window_seconds": 10**400}}, "must be a positive number"),
        ({"api": {"port": 0}}, "is not a port number"),
        ({"api": {"port": 65536}}, "is not a port number"),
        ({"api": {"port": True}}, "must be a whole number, not True"),
        ({"api": {"port": 8006.0}}, "must be a whole number"),
        ({"api": {"token_id": "root@pam"}}, "is not of the form user@realm!tokenname"),
        ({"api": {"token_file": "token"}}, "must be an absolute path"),
        ({"api": {"token_file": "/a\0b"}}, "must be an absolute path"),
        ({"api": {"token_file": ""}}, "must be an absolute path"),
        ({"api": {"peers": "pve2"}}, "'api.peers' must be a list"),
        ({"api": {"peers": [2]}}, "must be a string, not 2"),
        ({"thaw": {"sysrq": 1}}, "must be true or false, not 1"),
        ({"guest": {"vmid": 100}}, "must be a list of tables: write [[guest]]"),
        ({"guest": ["100"]}, "[guest] must be a table"),
        ({"guest": [{}]}, "[[guest]] number 1 needs exactly one of vmid, tag and pool"),
        ({"guest": [{"vmid": 100}, {"vmid": 101, "tag": "db"}]}, "[[guest]] number 2 needs exactly one of"),
        ({"guest": [{"vmid": 99}]}, "[[guest]] number 1: 99 is not a vmid"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_wrong_value_is_refused_in_words_that_name_it(tree: dict[str, object], words: str) -> None:
    assert words in said(tree)


def test_a_whole_number_is_a_number_of_seconds() -> None:
    assert parse({"freeze": {"max_window_seconds": 5}}, "x").freeze.max_window_seconds == 5.0


def test_an_empty_string_switches_an_optional_path_off() -> None:
    assert parse({"metrics": {"textfile": ""}}, "x").metrics.textfile is None


def rules(text: str) -> Config:
    return parse(tomllib.loads(text), "config.toml")


MANY_RULES = """
[[guest]]
pool = "silver"
policy = "never"
[[guest]]
tag = "db"
policy = "require"
[[guest]]
tag = "web"
policy = "never"
[[guest]]
vmid = 100
policy = "prefer"
[[guest]]
vmid = 100
policy = "never"
"""


@pytest.mark.parametrize(
    ("vmid", "tags", "pool", "policy"),
    [
        (100, ("db",), "silver", Policy.PREFER),  # by vmid first, and the first of two
        (101, ("web", "db"), "silver", Policy.REQUIRE),  # by tag, in the file's order, not the guest's
        (101, ("web",), "silver", Policy.NEVER),
        (101, ("other",), "silver", Policy.NEVER),  # by pool last
        (101, ("other",), "gold", None),
        (101, (), "", None),
    ],
)
def test_the_most_particular_rule_wins(vmid: int, tags: tuple[str, ...], pool: str, policy: Policy | None) -> None:
    assert rules(MANY_RULES).rule_for(vmid, tags, pool).policy is policy


def test_a_guest_without_a_rule_gets_an_empty_one() -> None:
    assert Config().rule_for(100) == GuestRule()


def test_a_rule_without_a_pool_does_not_match_a_guest_without_one() -> None:
    assert rules('[[guest]]\ntag = "db"\npolicy = "never"\n').rule_for(100, (), "").policy is None


def test_a_missing_file_is_an_error_only_when_it_was_asked_for(tmp_path: Path) -> None:
    assert load(tmp_path / "none.toml", required=False) == Config()
    with pytest.raises(ConfigError, match="does not exist"):
        load(tmp_path / "none.toml")


def test_a_folder_in_place_of_the_file_is_said(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be read"):
        load(tmp_path, required=False)


@pytest.mark.parametrize("raw", [b"\xff\xfe", b"[api", b"a = 1\na = 2\n", b"[api]\nhost = 'x'\n[api]\n", b"\0"])
def test_what_is_not_toml_is_called_so(tmp_path: Path, raw: bytes) -> None:
    path = tmp_path / "config.toml"
    path.write_bytes(raw)
    with pytest.raises(ConfigError, match="is not TOML"):
        load(path)


def with_token(path: Path, text: str | bytes, mode: int = 0o600, token_id: str = TOKEN_ID) -> Config:
    """A configuration whose token file holds ``text``."""
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    path.chmod(mode)
    return parse({"api": {"token_file": str(path), "token_id": token_id}}, "x")


@pytest.mark.parametrize("text", [SECRET, SECRET + "\n", f"  {SECRET}  \n\n", f"{TOKEN_ID}={SECRET}\n"])
def test_a_token_file_holds_the_secret_alone_or_pves_own_form(tmp_path: Path, text: str) -> None:
    found = token(with_token(tmp_path / "token", text))
    assert found == Token(TOKEN_ID, SECRET)
    assert SECRET not in repr(found)


def test_pves_own_form_needs_no_configured_id(tmp_path: Path) -> None:
    assert token(with_token(tmp_path / "token", f"{TOKEN_ID}={SECRET}", token_id="")) == Token(TOKEN_ID, SECRET)


@pytest.mark.parametrize(
    "text", ["", "\n", "  ", "two words", f"{SECRET}\n{SECRET}", "other@pam!x=" + SECRET, f"{TOKEN_ID}=", "="]
)
def test_a_token_file_without_the_secret_of_one_token_is_refused_without_showing_it(tmp_path: Path, text: str) -> None:
    with pytest.raises(ConfigError, match="does not hold the secret of one token") as caught:
        token(with_token(tmp_path / "token", text))
    assert SECRET not in str(caught.value)


def test_a_secret_without_an_id_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="token_id is not set"):
        token(with_token(tmp_path / "token", SECRET, token_id=""))


def test_a_token_file_in_another_alphabet_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="not ASCII"):
        token(with_token(tmp_path / "token", "gehéimnis"))


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o602, 0o610, 0o601, 0o644, 0o666, 0o777])
def test_a_token_file_that_others_may_touch_is_refused_with_the_mend(tmp_path: Path, mode: int) -> None:
    with pytest.raises(ConfigError, match=f"chmod 600 {tmp_path}/token") as caught:
        token(with_token(tmp_path / "token", SECRET, mode))
    assert f"{mode:04o}" in str(caught.value)
    assert SECRET not in str(caught.value)


@pytest.mark.parametrize("mode", [0o600, 0o400, 0o700])
def test_a_token_file_of_its_owner_alone_is_taken(tmp_path: Path, mode: int) -> None:
    assert token(with_token(tmp_path / "token", SECRET, mode)).secret == SECRET


def test_a_missing_token_file_is_said_with_how_to_make_one(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="there is no API token") as caught:
        token(parse({"api": {"token_file": str(tmp_path / "none")}}, "x"))
    assert "pveum user token add" in caught.value.remedy


def test_a_folder_in_place_of_the_token_file_is_said(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be read"):
        token(parse({"api": {"token_file": str(tmp_path)}}, "x"))


def test_a_configured_ca_file_wins_over_pves_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pves = tmp_path / "pve-root-ca.pem"
    monkeypatch.setattr(configuration, "PVE_CA_FILE", pves)
    assert configuration.ca_file(Config()) is None
    pves.write_text("")
    assert configuration.ca_file(Config()) == pves
    assert configuration.ca_file(parse({"api": {"ca_file": "/ca.pem"}}, "x")) == Path("/ca.pem")


def test_this_machine_is_a_node_when_it_has_pves_socket_folder(tmp_path: Path) -> None:
    here = {"socket_folder": str(tmp_path)}
    assert configuration.local_node(parse({"local": here}, "x")) == os.uname().nodename.partition(".")[0]
    assert configuration.local_node(parse({"local": {"socket_folder": "/nowhere"}}, "x")) == ""
    assert configuration.local_node(parse({"local": here | {"node": ""}}, "x")) == ""
    assert configuration.local_node(parse({"local": {"node": "pve7"}}, "x")) == "pve7"
