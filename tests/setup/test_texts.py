"""vzdump.conf and the configuration as texts: one thing is changed, every other byte stays."""

from __future__ import annotations

import shutil
import subprocess
import tomllib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from snapshot.pve.vzdumpconf import script, with_script, without
from snapshot.setup.configuring import SAMPLE
from snapshot.setup.tomltext import set_key

OURS = b"/usr/bin/vzdump-hook"
CONFS = [
    (b"", b""),
    (b"mode: snapshot\n", b""),
    (b"script: /a/b\n", b"/a/b"),
    (b"script:/a/b", b"/a/b"),
    (b"\t script:   /a b/c \t\r\nmode: stop\n", b"/a b/c"),
    (b"#script: /a\n", b""),
    (b"  # script: /a\n", b""),
    (b"script: /one\n# x\nscript: /two\nscripts: /three\n", b"/two"),
    (b"script: /one\nscript:\n", b""),
    (b"script /a\n", b""),
    (b"script : /a\n", b""),
    (b"script: /a # no comment\n", b"/a # no comment"),
    (b"notes-template: script: /a\n", b""),
    (b"script: /\xff\xe4\n\n\n", b"/\xff\xe4"),
    (b"script: script: /a\n", b"script: /a"),
    (b"script: 0\n", b""),
    (b"\xef\xbb\xbfscript: /a\n", b""),
    (b"\xef\xbb\xbf# mine\nscript: /a\n", b"/a"),
]
PERL = r"""
local $/; my $raw = <STDIN>; my $found = '';
while ($raw =~ /^\s*(.+?)\s*$/gm) {
    my $line = $1;
    next if $line =~ /^#/;
    $found = $2 if $line =~ m/^(\S+?):\s*(.*)$/ && $1 eq 'script';
}
print $found if $found;
"""
"""How PVE reads the file (PVE::JSONSchema, parse_config), and when vzdump runs a script (PVE::VZDump)."""


@pytest.mark.parametrize(("raw", "value"), CONFS)
def test_the_script_is_the_one_that_pve_reads(raw: bytes, value: bytes) -> None:
    assert script(raw) == value
    if shutil.which("perl"):
        assert subprocess.run(["perl", "-e", PERL], input=raw, capture_output=True, check=True).stdout == value


@pytest.mark.parametrize("raw", [raw for raw, _ in CONFS])
def test_setting_it_changes_one_line_and_taking_it_out_again_gives_the_rest(raw: bytes) -> None:
    changed = with_script(raw, OURS)
    assert script(changed) == OURS
    if shutil.which("perl"):
        assert subprocess.run(["perl", "-e", PERL], input=changed, capture_output=True, check=True).stdout == OURS
    old, new = raw.split(b"\n"), changed.split(b"\n")
    assert len(set(new) - set(old)) == 1
    back = without(b"zstd: 1\n" + changed, OURS, raw)
    assert back is not None
    assert script(back) == script(raw)
    assert OURS not in back


@given(
    st.binary(max_size=80), st.lists(st.sampled_from([b"script: /x\n", b"#script: y\n", b"mode: stop\n"]), max_size=4)
)
def test_no_file_loses_a_byte_of_another_line(noise: bytes, lines: list[bytes]) -> None:
    raw = noise + b"\n" + b"".join(lines)
    changed = with_script(raw, OURS)
    assert script(changed) == OURS
    kept = [line for line in raw.split(b"\n") if not line.strip().startswith(b"script:")]
    assert [line for line in changed.split(b"\n") if line in kept][: len(kept) - 1] == kept[: len(kept) - 1] or noise


def test_a_file_that_names_another_script_by_now_is_not_known_how_to_mend() -> None:
    assert without(b"script: /other\n", OURS, b"") is None


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("", '[notify]\nmail_to = "root"\n'),
        (
            "# mine\n[freeze]\npolicy = 'require'",
            "# mine\n[freeze]\npolicy = 'require'\n\n[notify]\nmail_to = \"root\"\n",
        ),
        ("[notify]\n#mail_to = ''\n[hook]\n", '[notify]\nmail_to = "root"\n[hook]\n'),
        ("[notify]\nmail_to = 'x' # y\n", '[notify]\nmail_to = "root"\n'),
        ("[ notify ] # z\nca_file = '/a'\n", "[ notify ] # z\nmail_to = \"root\"\nca_file = '/a'\n"),
        ("[notify]", '[notify]\nmail_to = "root"\n'),
        ("\ufeff[hook]\n", '\ufeff[hook]\n\n[notify]\nmail_to = "root"\n'),
        ("\ufeff[notify]\n#mail_to = ''\n", '\ufeff[notify]\nmail_to = "root"\n'),
        ("\ufeff", '\ufeff[notify]\nmail_to = "root"\n'),
    ],
)
def test_a_key_is_set_where_an_operator_would(before: str, after: str) -> None:
    assert set_key(before, "notify", "mail_to", "root") == after


@pytest.mark.parametrize(
    "text",
    ["notify.mail_to = ''\n", "notify = { }\n", 'a = """\n[notify]\n#mail_to = ""\n"""\n', "no toml", "notify = 3\n"],
)
def test_a_file_in_which_that_would_say_something_else_is_left_to_the_operator(text: str) -> None:
    assert set_key(text, "notify", "mail_to", "root") is None


def test_in_the_sample_one_line_changes() -> None:
    text = SAMPLE.read_text()
    changed = set_key(text, "metrics", "textfile", "/srv/t.prom")
    assert changed is not None
    different = [(a, b) for a, b in zip(text.splitlines(), changed.splitlines(), strict=True) if a != b]
    assert [b for _, b in different] == ['textfile = "/srv/t.prom"']
    assert tomllib.loads(changed)["metrics"] == {"textfile": "/srv/t.prom"}
