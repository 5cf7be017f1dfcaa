"""The configuration: a Config or a ConfigError that names the key, and nothing else. The token."""

from __future__ import annotations

import os
import tomllib
import typing
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from snapshot.config import groups, reading, settings
from snapshot.config.groups import GroupPolicy, GroupRule
from snapshot.config.reading import load, load_lenient, parse
from snapshot.config.selection import Selection
from snapshot.config.settings import Config, ForeignFreeze, FreezeOwner, GuestRule, LauncherKind
from snapshot.config.token import Token, token
from snapshot.errors import ConfigError
from snapshot.model import Guest, GuestKind, Node, Policy, Vmid
from tests.unit.kit import raised

SECRET = "5cc9cd64-7b0c-4d2e-a2a3-1a2b3c4d5e6f"
TOKEN_ID = "root@pam!safe"

KEYS = sorted(
    {*Config._fields}
    | {name for section in typing.get_type_hints(Config).values() for name in getattr(section, "_fields", ())}
    | {*GuestRule._fields, *GroupRule._fields}
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
    section = data.draw(st.sampled_from([name for name in Config._fields if name not in ("guest", "group")]))
    default = getattr(Config(), section)
    plain = {name: _toml_value(value) for name, value in default._asdict().items() if value is not None}
    assert parse({section: plain}, "config.toml") == Config()


def _toml_value(value: object) -> object:
    if isinstance(value, Policy | FreezeOwner | ForeignFreeze | LauncherKind):
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
        ({"guest": [{"pool": "", "policy": "never"}]}, "[[guest]] number 1: the pool is empty"),
        ({"guest": [{"vmid": 100}, {"tag": ""}]}, "[[guest]] number 2: the tag is empty"),
        ({"group": {"name": "shop"}}, "must be a list of tables: write [[group]]"),
        ({"group": [{"guests": ["100"]}]}, "[[group]] number 1: '' is not a name"),
        ({"group": [{"name": "a b", "guests": ["100"]}]}, "[[group]] number 1: 'a b' is not a name"),
        ({"group": [{"name": "shop"}]}, "[[group]] number 1: it names nobody: it needs guests, tag or pool"),
        ({"group": [{"name": "shop", "guests": ["99x-"]}, {}]}, "[[group]] number 2: '' is not a name"),
        ({"group": [{"name": "shop", "guests": ["200-100"]}]}, "[[group]] number 1: '200-100' is a range that ends"),
        (
            {"group": [{"name": "shop", "tag": "a"}, {"name": "shop", "tag": "b"}]},
            "[[group]] number 2: there is a group 'shop' already",
        ),
        ({"group": [{"name": "shop", "tag": "a", "policy": "some"}]}, "one of: all-or-none, best-effort"),
        ({"group": [{"name": "shop", "tag": "a", "max_window_seconds": 0}]}, "must be a positive number"),
        ({"freeze": {"max_window_seconds": 0.001}}, "0.1 at least and 3600 at most"),
        ({"metrics": {"textfile": "/x\x1b[31m.prom"}}, "must be an absolute path"),
        ({"local": {"node": "pve\x1b[1m"}}, "has characters that cannot be shown"),
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
max_window_seconds = 5
[[guest]]
pool = "silver/db"
max_window_seconds = 6
[[guest]]
tag = "web"
policy = "never"
[[guest]]
tag = "Db"
policy = "require"
max_window_seconds = 7
[[guest]]
vmid = 100
policy = "prefer"
[[guest]]
vmid = 100
run_limit_seconds = 0
"""


@pytest.mark.parametrize(
    ("vmid", "tags", "pool", "policy", "max_window_seconds"),
    [
        (100, ("db",), "silver", Policy.PREFER, 7),  # the policy by vmid, the rest by tag
        (100, (), "silver", Policy.PREFER, 5),
        (101, ("web", "db"), "silver", Policy.REQUIRE, 7),  # of two tags the stricter policy, wherever it stands
        (101, ("web",), "silver", Policy.NEVER, 5),
        (101, ("other",), "silver", Policy.NEVER, 5),
        (101, (), "silver/db", Policy.NEVER, 6),  # the inner pool first, then the one it lies in
        (101, (), "silver/db/old", Policy.NEVER, 6),
        (101, (), "silverware", Policy.PREFER, 30),
        (101, ("other",), "gold", Policy.PREFER, 30),
        (101, (), "", Policy.PREFER, 30),
    ],
)
def test_tables_that_match_a_guest_are_merged_key_by_key(
    vmid: int, tags: tuple[str, ...], pool: str, policy: Policy, max_window_seconds: float
) -> None:
    found = rules(MANY_RULES).for_guest(vmid, tags, pool)
    assert (found.policy, found.max_window_seconds) == (policy, max_window_seconds)
    assert found.run_limit_seconds == (0 if vmid == 100 else 26 * 3600)


def test_a_guest_without_a_rule_gets_the_general_settings() -> None:
    general = Config().for_guest(100)
    assert general.policy is Policy.PREFER
    assert general.owner is FreezeOwner.HOOK
    assert general.ignore_freeze_option is False
    assert general == rules('[[guest]]\ntag = "db"\npolicy = "never"\n').for_guest(100, (), "")


@pytest.mark.parametrize(("folds", "policy"), [(True, Policy.REQUIRE), (False, Policy.PREFER)])
def test_a_tag_knows_no_case_unless_the_datacenter_says_so(folds: bool, policy: Policy) -> None:
    config = rules('[[guest]]\ntag = "Prod"\npolicy = "require"\n')
    assert config.for_guest(100, ("prod",), folds_tags=lambda: folds).policy is policy
    assert config.for_guest(100, ("Prod",), folds_tags=lambda: pytest.fail("no matter here")).policy is Policy.REQUIRE
    assert config.for_guest(100, ("web",), folds_tags=lambda: pytest.fail("nor here")).policy is Policy.PREFER


@pytest.mark.parametrize("selector", ["vmid = 100", 'tag = "db"', 'pool = "silver"'])
def test_two_tables_for_the_same_guests_that_contradict_each_other_are_a_mistake_in_the_file(selector: str) -> None:
    first = f'[[guest]]\n{selector}\npolicy = "require"\n'
    with pytest.raises(ConfigError, match=r"number 1 and number 2 .* contradict each other on policy"):
        rules(f'{first}[[guest]]\n{selector}\npolicy = "never"\n')
    assert rules(f'{first}[[guest]]\n{selector}\npolicy = "require"\nowner = "vzdump"\n')


NUMBERS = sorted(
    (section, key)
    for section, cls in typing.get_type_hints(Config).items()
    if section not in ("guest", "group")
    for key, hint in typing.get_type_hints(cls).items()
    if hint is float
)


@pytest.mark.parametrize(("section", "key"), NUMBERS)
def test_every_number_has_a_largest_value_that_a_wait_can_take(section: str, key: str) -> None:
    longest = reading.LONGEST[key]
    assert longest * 1000 < 2**63
    assert getattr(getattr(parse({section: {key: longest}}, "config.toml"), section), key) == longest
    assert f"{longest:g} at most" in said({section: {key: longest * 1.01}})


@pytest.mark.parametrize(
    "text",
    ["user:s3cret@host:9091", "http:/user:s3cret@host", "http://h/?token=s3cret", "http://h/#s3cret", "s3cret",
     "ftp://user:s3cret@host", "http://user:s3cret@", "http://user:s3cret@host:99999", "http://s3cret s3cret@h"],
)  # fmt: skip
def test_a_pushgateway_that_is_no_url_is_refused_without_showing_it(text: str) -> None:
    assert "s3cret" not in said({"metrics": {"pushgateway": text}})


def test_a_pushgateways_credentials_never_print() -> None:
    found = parse({"metrics": {"pushgateway": "http://us%3Aer:s3cret@h:9091/x"}}, "x").metrics
    assert found.pushgateway is not None
    assert (found.pushgateway.url, found.pushgateway.user) == ("http://h:9091/x", "us:er")
    assert "s3cret" not in f"{found} {found.pushgateway} {found.pushgateway!r}"


def test_a_hosts_credentials_are_not_repeated() -> None:
    assert "s3cret" not in said({"api": {"host": "https://root:s3cret@pve1"}})


BROKEN = """
[api]
host = "pve7"
[freeze]
max_window_seconds = -1
[hook]
owner = "vzdump"
[[guest]]
vmid = 100
policy = "always"
[[guest]]
vmid = 101
policy = "require"
"""


def test_of_a_broken_configuration_the_parts_without_a_fault_count(tmp_path: Path) -> None:
    path = tmp_path / "config.toml"
    path.write_text(BROKEN)
    config, problems = load_lenient(path)
    assert config.api.host == "pve7"
    assert config.hook.owner is FreezeOwner.VZDUMP
    assert config.freeze == Config().freeze
    assert [rule.vmid for rule in config.guest] == [101]
    assert len(problems) == 2
    assert all(str(path) in line for line in problems)


@given(st.dictionaries(st.sampled_from(KEYS) | st.text(max_size=8), VALUES, max_size=6))
def test_a_sound_configuration_has_no_problems_and_any_other_has(tree: dict[str, object]) -> None:
    is_sound = raised(lambda: parse(tree, "config.toml"), ConfigError) is None
    config, problems = reading.parse_lenient(tree, "config.toml")
    assert bool(problems) is not is_sound
    if is_sound:
        assert config == parse(tree, "config.toml")


def test_many_tables_of_a_broken_configuration_are_each_read_once(monkeypatch: pytest.MonkeyPatch) -> None:
    built: list[str] = []
    build = reading._build
    monkeypatch.setattr(
        reading,
        "_build",
        lambda cls, tree, where, prefix: (built.append(prefix), build(cls, tree, where, prefix))[1],
    )
    tables = [{"vmid": 100 + n, "policy": "require", "max_window_seconds": 5} for n in range(400)]
    config, problems = reading.parse_lenient({"unknown": {}, "guest": tables}, "config.toml")
    assert (len(config.guest), len(problems)) == (400, 1)
    assert built.count("guest") == 400


def test_the_tables_of_a_broken_configuration_keep_their_numbers() -> None:
    tables = [{"vmid": 100, "policy": "never"}, {"vmid": 0}, {"vmid": 100, "policy": "require"}]
    config, problems = reading.parse_lenient({"guest": tables}, "config.toml")
    assert [rule.policy for rule in config.guest] == [Policy.NEVER]
    assert ["number 2" in problems[0], "number 1 and number 3" in problems[1]] == [True, True]


def test_a_byte_order_mark_before_the_configuration_is_no_matter(tmp_path: Path) -> None:
    path = tmp_path / "config.toml"
    path.write_bytes(b"\xef\xbb\xbf[api]\nhost = 'pve7'\n")
    assert load(path).api.host == "pve7"


def test_a_configuration_that_cannot_be_read_at_all_leaves_the_defaults(tmp_path: Path) -> None:
    path = tmp_path / "config.toml"
    path.write_bytes(b"[api")
    config, problems = load_lenient(path)
    assert config == Config()
    assert [f"the configuration {path} is not TOML" in line for line in problems] == [True]
    assert len(load_lenient(tmp_path / "none")[1]) == 1


@pytest.mark.parametrize("kind", ["fifo", "folder", "device", "endless"])
def test_what_is_no_regular_file_is_refused_at_once(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "odd"
    if kind == "fifo":
        os.mkfifo(path, 0o600)
    elif kind == "folder":
        path.mkdir()
    elif kind == "device":
        path.symlink_to("/dev/zero")
    else:
        path.write_bytes(b"#" * (reading.MOST_BYTES + 1))
    with pytest.raises(ConfigError, match="cannot be read"):
        load(path)
    with pytest.raises(ConfigError, match="cannot be read"):
        token(parse({"api": {"token_file": str(path)}}, "x"))


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
def test_a_token_file_of_another_user_is_refused(tmp_path: Path) -> None:
    config = with_token(tmp_path / "token", SECRET)
    os.chown(tmp_path / "token", 65534, -1)
    with pytest.raises(ConfigError, match="belongs to another user"):
        token(config)


def test_a_missing_file_is_an_error_only_when_it_was_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "DEFAULT_PATH", tmp_path / "none.toml")
    assert load() == Config()
    assert load_lenient() == (Config(), [])
    with pytest.raises(ConfigError, match="does not exist"):
        load(tmp_path / "none.toml")


def test_a_folder_in_place_of_the_file_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "DEFAULT_PATH", tmp_path)
    for path in (tmp_path, None):
        with pytest.raises(ConfigError, match="cannot be read"):
            load(path)


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


def test_a_secret_without_an_id_is_refused_with_the_file_and_what_it_must_hold(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="token_id is not set") as caught:
        token(with_token(tmp_path / "token", SECRET, token_id=""))
    assert str(tmp_path / "token") in str(caught.value)
    assert "user@realm!tokenname=secret" in caught.value.remedy
    assert SECRET not in str(caught.value)


def test_broken_toml_has_its_remedy_wherever_it_is_met(tmp_path: Path) -> None:
    path = tmp_path / "config.toml"
    path.write_text("[hook\n")
    with pytest.raises(ConfigError, match=r"is not TOML .*line 1") as caught:
        reading.load(path)
    assert "mend that line" in caught.value.remedy
    assert "mend that line" in reading.load_lenient(path)[1][0]


@pytest.mark.parametrize("installed", [True, False])
def test_a_configuration_that_is_not_there_names_one_that_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, installed: bool
) -> None:
    assert str(reading.SAMPLE) == "/usr/share/vzdump-hooks/config.toml"
    monkeypatch.setattr(reading, "SAMPLE", tmp_path / "config.toml")
    if installed:
        (tmp_path / "config.toml").touch()
    with pytest.raises(ConfigError) as caught:
        reading.load(tmp_path / "none.toml")
    named = str(tmp_path / "config.toml") if installed else "contrib/config.toml"
    assert caught.value.remedy == f"{named} is one to copy"


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


@pytest.mark.parametrize("local", [{"node": "pve7", "pvesh": "/bin/true"}, {"node": "", "pvesh": "/none"}])
def test_a_missing_token_file_is_said_with_how_to_come_by_one(tmp_path: Path, local: dict[str, str]) -> None:
    """On a node setup makes it, with the least privileges; elsewhere setup could do nothing."""
    with pytest.raises(ConfigError, match="there is no API token") as caught:
        token(parse({"api": {"token_file": str(tmp_path / "none")}, "local": local}, "x"))
    is_node = local.get("pvesh") != "/none"
    assert ("`safe-snapshot setup`" in caught.value.remedy) == is_node
    assert ("this is no PVE node" in caught.value.remedy) == (not is_node)
    assert is_node or all(word in caught.value.remedy for word in ("[api] host", "docs/install.md", "By hand"))
    assert "root@pam" not in caught.value.remedy


def test_a_folder_in_place_of_the_token_file_is_said(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be read"):
        token(parse({"api": {"token_file": str(tmp_path)}}, "x"))


def test_a_configured_ca_file_wins_over_pves_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pves = tmp_path / "pve-root-ca.pem"
    monkeypatch.setattr(settings, "PVE_CA_FILE", pves)
    assert settings.ca_file(Config()) is None
    pves.write_text("")
    assert settings.ca_file(Config()) == pves
    assert settings.ca_file(parse({"api": {"ca_file": "/ca.pem"}}, "x")) == Path("/ca.pem")


def test_this_machine_is_a_node_when_it_has_pves_socket_folder(tmp_path: Path) -> None:
    here = {"socket_folder": str(tmp_path)}
    assert settings.local_node(parse({"local": here}, "x")) == os.uname().nodename.partition(".")[0]
    assert settings.local_node(parse({"local": {"socket_folder": "/nowhere"}}, "x")) == ""
    assert settings.local_node(parse({"local": here | {"node": ""}}, "x")) == ""
    assert settings.local_node(parse({"local": {"node": "pve7"}}, "x")) == "pve7"


# ------------------------------------------------------------------------------- the token as systemd hands it over


@pytest.fixture
def credentials(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of our unit's credentials; no configuration, and no token file where it is by default."""
    folder = tmp_path / "credentials"
    folder.mkdir(mode=0o500)
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(folder))
    monkeypatch.setattr(reading, "DEFAULT_PATH", tmp_path / "none.toml")
    return folder


def hand_over(credentials: Path, text: str, mode: int = 0o400) -> None:
    credentials.chmod(0o700)
    (credentials / "token").write_text(text)
    (credentials / "token").chmod(mode)
    credentials.chmod(0o500)


@pytest.mark.parametrize("mode", [0o400, 0o440])
def test_a_credential_of_our_unit_is_the_token(credentials: Path, mode: int) -> None:
    """0440 is what an access list for the unit's own user looks like."""
    hand_over(credentials, f"{TOKEN_ID}={SECRET}\n", mode)
    for config in (load(), load_lenient()[0]):
        assert token(config) == Token(TOKEN_ID, SECRET)


def test_a_credential_that_everybody_may_read_is_refused(credentials: Path) -> None:
    hand_over(credentials, f"{TOKEN_ID}={SECRET}\n", 0o444)
    with pytest.raises(ConfigError, match="readable by others"):
        token(load())


def test_a_token_file_that_the_configuration_names_goes_before_a_credential(credentials: Path, tmp_path: Path) -> None:
    hand_over(credentials, "root@pam!other=11111111-2222-3333-4444-555555555555\n")
    with_token(tmp_path / "named", f"{TOKEN_ID}={SECRET}\n")
    path = tmp_path / "config.toml"
    path.write_text(f'[api]\ntoken_file = "{tmp_path / "named"}"\n')
    assert token(load(path)) == Token(TOKEN_ID, SECRET)


@pytest.mark.parametrize("text", [None, "", "\n"])
def test_no_credential_and_a_blank_one_leave_the_file(credentials: Path, text: str | None) -> None:
    """A unit that may run without a token is handed a blank line then."""
    if text is not None:
        hand_over(credentials, text)
    assert load().api.token_file == Config().api.token_file


def test_a_broken_configuration_does_not_cost_the_credential(credentials: Path, tmp_path: Path) -> None:
    hand_over(credentials, f"{TOKEN_ID}={SECRET}\n")
    path = tmp_path / "config.toml"
    for text in ("[api", "[freeze]\npolicy = 1\n"):
        path.write_text(text)
        config, problems = load_lenient(path)
        assert len(problems) == 1
        assert token(config) == Token(TOKEN_ID, SECRET)


def test_groups_are_read_with_their_order_and_limit() -> None:
    found = rules(
        '[[group]]\nname = "shop"\nguests = ["web*", "101"]\npool = "prod"\npolicy = "best-effort"\n'
        "max_window_seconds = 12\n"
    )
    assert found.group == (
        GroupRule("shop", ("web*", "101"), "", "prod", GroupPolicy.BEST_EFFORT, max_window_seconds=12.0),
    )
    assert str(found.group[0].selection) == "web* 101 --pool prod"


def test_a_group_is_frozen_in_the_order_of_the_words_that_name_its_guests() -> None:
    def guest(vmid: int, name: str) -> Guest:
        return Guest(Vmid(vmid), Node("a"), GuestKind.QEMU, name=name)

    guests = [guest(100, "db"), guest(101, "web1"), guest(102, "web2"), guest(103, "cache")]
    order = groups.in_order(Selection.parse(["web*,103", "100-103"]), guests)
    assert [one.name for one in order] == ["web1", "web2", "cache", "db"]
    assert groups.in_order(Selection.parse(tags=["prod"]), guests[::-1]) == guests


def test_a_group_with_a_fault_counts_for_nothing_and_the_others_count() -> None:
    tables = [{"name": "shop", "tag": "a"}, {"name": "shop", "tag": "b"}, {"name": "crm", "guests": ["100"]}]
    config, problems = reading.parse_lenient({"group": tables}, "config.toml")
    assert [rule.name for rule in config.group] == ["shop", "crm"]
    assert problems == ["config.toml: [[group]] number 2: there is a group 'shop' already"]
