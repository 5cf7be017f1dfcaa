"""What is in the Debian package, without installing it. Needs dpkg-deb, no root and no network."""

from __future__ import annotations

import gzip
import hashlib
import inspect
import os
import re
import runpy
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from snapshot.cli.commands import COMMANDS
from snapshot.cli.main import main_group
from tests.packaging.debian import CHECKOUT, build
from vzdump_hooks.call import Phase

pytestmark = pytest.mark.skipif(shutil.which("dpkg-deb") is None, reason="dpkg-deb is not installed")

SHARE, DOC = "usr/share/vzdump-hooks", "usr/share/doc/vzdump-hooks"
DAY = "1790000000"
LINK = re.compile(r"\]\((?!https?:|mailto:|#)([^)#\s]+)[^)]*\)")


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(tmp_path_factory.mktemp("package"), SOURCE_DATE_EPOCH=DAY)


@pytest.fixture(scope="module")
def tree(package: Path) -> Path:
    """Its files, and what dpkg is told in ``DEBIAN``."""
    found = package.parent / "tree"
    subprocess.run(["dpkg-deb", "--raw-extract", package, found], check=True)
    return found


def test_the_same_sources_give_the_same_package_wherever_they_are_built(package: Path, tmp_path: Path) -> None:
    """Another folder, umask, zone, language and temporary folder; without git and with other caches."""
    sources = tmp_path / "sources"
    ignored = shutil.ignore_patterns(".git", ".venv", ".lab", "tests", ".*_cache", "dist", "*.pyc")
    shutil.copytree(CHECKOUT, sources, ignore=ignored)
    (sources / "snapshot/__pycache__").mkdir(exist_ok=True)
    (sources / "snapshot/__pycache__/old.pyc").write_bytes(b"x")
    elsewhere = {"TZ": "Asia/Tokyo", "LANG": "C", "TMPDIR": str(tmp_path), "HOME": str(tmp_path)}
    done = subprocess.run(
        ["sh", "-c", 'umask 077 && exec "$0" "$1"', sources / "contrib/debian/build", tmp_path / "out"],
        cwd="/",
        env={**os.environ, **elsewhere, "PYTHON": sys.executable, "SOURCE_DATE_EPOCH": DAY},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    again = Path(done.stdout.strip())
    assert again.name == package.name
    digests = {hashlib.sha256(path.read_bytes()).hexdigest() for path in (package, again)}
    assert len(digests) == 1


def test_a_python_without_the_libraries_is_told_which_packages_to_install(tmp_path: Path) -> None:
    bare = tmp_path / "python"
    bare.write_text(f'#!/bin/sh\nexec {sys.executable} -I -S "$@"\n')
    bare.chmod(0o755)
    done = subprocess.run(
        [CHECKOUT / "contrib/debian/build", tmp_path / "out"],
        env={**os.environ, "PYTHON": str(bare)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout, len(done.stderr.splitlines())) == (1, "", 1), done.stderr
    command = done.stderr.partition(": apt-get install --no-install-recommends ")[2].split()
    depends = re.findall(r"^Depends: (.*)$", (CHECKOUT / "contrib/debian/control").read_text(), re.MULTILINE)
    assert command == sorted({one.split()[0] for one in depends[0].split(", ")})
    assert not (tmp_path / "out").exists()


def test_dpkg_never_asks_about_a_file(tree: Path) -> None:
    """There is no conffile; the sample lies where nobody edits it."""
    assert not (tree / "DEBIAN/conffiles").exists()
    assert list((tree / "etc/vzdump-hooks").iterdir()) == []
    assert (tree / SHARE / "config.toml").read_bytes() == (CHECKOUT / "contrib/config.toml").read_bytes()


def test_everything_of_contrib_comes_along(tree: Path) -> None:
    """Units, sample timers, alert rules, the dashboard, own commands, the in-guest dead-man."""
    contrib = CHECKOUT / "contrib"
    expected = {
        str(path.relative_to(contrib)).replace("systemd/sample/", "systemd/")
        for path in contrib.rglob("*")
        if path.is_file() and path.relative_to(contrib).parts[0] != "debian" and path.parent != contrib / "systemd"
    }
    assert {str(path.relative_to(tree / SHARE)) for path in (tree / SHARE).rglob("*") if path.is_file()} == expected
    units = {path.name for path in (contrib / "systemd").iterdir() if path.is_file()}
    assert {path.name for path in (tree / "usr/lib/systemd/system").iterdir()} == units


def test_who_made_it_and_under_which_licence_can_be_read_by_a_machine(tree: Path) -> None:
    text = (tree / DOC / "copyright").read_text()
    paragraphs = [dict(re.findall(r"^(\S+): (.*)$", part, re.MULTILINE)) for part in text.split("\n\n")]
    assert paragraphs[0]["Format"] == "https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/"
    assert (paragraphs[1]["Files"], paragraphs[1]["License"]) == ("*", "Expat")
    assert paragraphs[1]["Copyright"] in (CHECKOUT / "LICENSE").read_text()
    assert 'THE SOFTWARE IS PROVIDED "AS IS"' in text
    control = dict(re.findall(r"^(\S+): (.*)$", (tree / "DEBIAN/control").read_text(), re.MULTILINE))
    assert control["Homepage"].startswith("https://")
    assert re.fullmatch(r"The vzdump-hooks authors <\S+@\S+>", control["Maintainer"])


def test_each_link_of_a_page_leads_somewhere_in_the_package(tree: Path) -> None:
    dead = []
    for page in sorted((tree / DOC).rglob("*.md")):
        for link in LINK.findall(page.read_text()):
            if not (page.parent / link).exists():
                dead.append(f"{page.relative_to(tree / DOC)}: {link}")
    assert dead == []


def test_each_file_has_its_sum(tree: Path) -> None:
    lines = (tree / "DEBIAN/md5sums").read_text().splitlines()
    sums = {name: digest for digest, name in (line.split("  ", 1) for line in lines)}
    files = {
        str(path.relative_to(tree)) for path in (tree / "usr").rglob("*") if path.is_file() and not path.is_symlink()
    }
    assert set(sums) == files
    name = f"{DOC}/copyright"
    assert hashlib.md5((tree / name).read_bytes(), usedforsecurity=False).hexdigest() == sums[name]


# ------------------------------------------------------------------- man pages


def all_commands(command: click.Command, path: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    """A command by its words, and those below it."""
    yield path, command
    if isinstance(command, click.Group):
        for name, one in command.commands.items():
            yield from all_commands(one, (*path, name))


def page(tree: Path, name: str, section: int = 1) -> str:
    """A page's source, with roff's escapes taken out."""
    text = gzip.decompress((tree / f"usr/share/man/man{section}/{name}.{section}.gz").read_bytes()).decode()
    return text.replace("\\-", "-").replace("\\&", "").replace("\\(ga", "`").replace("\\(aq", "'").replace("\\e", "\\")


def test_each_command_has_a_page_with_each_of_its_options(tree: Path) -> None:
    with click.Context(main_group, info_name="safe-snapshot", **main_group.context_settings) as ctx:
        for path, command in all_commands(main_group, ("safe-snapshot",)):
            name = "-".join(path)
            text = page(tree, name)
            assert f"\n{name} - " in text
            for param in command.get_params(ctx):
                if isinstance(param, click.Option) and not param.hidden:
                    assert all(re.search(rf"^\.B .*{option}\b", text, re.MULTILINE) for option in param.opts), name
            if len(path) > 1:
                assert f"See {name}(1)." in page(tree, "-".join(path[:-1]))
    names = {path.name for path in (tree / "usr/share/man/man1").iterdir()}
    assert {"safe-snapshot-take.1.gz", "safe-snapshot-metrics-serve.1.gz"} <= names
    assert "-h, --help" in page(tree, "safe-snapshot-thaw")
    assert "--self-test GUEST" in page(tree, "vzdump-hook")
    assert "[freeze]" in page(tree, "vzdump-hooks", section=5)


def test_a_page_is_the_same_with_a_python_that_leaves_a_docstring_its_margin() -> None:
    text = runpy.run_path(str(CHECKOUT / "scripts/man-pages"))["text"]
    words = "What it is.\n\n    \b\n    one\n      two\n\n    More.\n    "
    assert list(text(words)) == ["What it is.", ".PP", ".nf", "one", "  two", ".fi", ".PP", "More."]
    assert list(text(inspect.cleandoc(words))) == list(text(words))


@pytest.mark.skipif(shutil.which("man") is None, reason="man is not installed")
def test_man_has_nothing_to_say_against_a_page(tree: Path) -> None:
    for path in sorted((tree / "usr/share/man").rglob("*.gz")):
        done = subprocess.run(
            ["man", "--warnings", "-E", "UTF-8", "-l", "-Tutf8", "-Z", path],
            capture_output=True,
            env={**os.environ, "MANWIDTH": "80", "LC_ALL": "C.UTF-8"},
            check=False,
        )
        assert (done.returncode, done.stderr) == (0, b""), path.name


# ----------------------------------------------------------------- completions

TAB = """\
source "$1"
COMP_LINE="$2 " COMP_POINT=${#2}; let COMP_POINT+=1
[[ -n $3 ]] && COMP_LINE+=$3 && let COMP_POINT+=${#3}
read -ra COMP_WORDS <<< "$2"; COMP_WORDS+=("$3"); COMP_CWORD=$((${#COMP_WORDS[@]} - 1))
of_the_program=$(complete -p "${COMP_WORDS[0]}" | sed -E 's/.*-F ([^ ]+) .*/\\1/')
"$of_the_program" "${COMP_WORDS[0]}" "$3" "${COMP_WORDS[COMP_CWORD-1]}"
printf '%s\\n' "${COMPREPLY[@]}"
"""


def tab(tree: Path, line: str, word: str) -> set[str]:
    """What bash offers behind ``line`` for ``word``, with the package's own file."""
    path = tree / "usr/share/bash-completion/completions" / line.split(maxsplit=1)[0]
    done = subprocess.run(
        ["bash", "--norc", "-c", TAB, "bash", path, line, word],
        capture_output=True,
        text=True,
        env={"PATH": f"{Path(sys.executable).parent}:/usr/bin:/bin", "LC_ALL": "C.UTF-8"},
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return set(done.stdout.split())


def test_the_shell_offers_every_command_and_every_option_of_it(tree: Path) -> None:
    offered = tab(tree, "safe-snapshot", "")
    assert set(COMMANDS) <= offered
    with click.Context(main_group, info_name="safe-snapshot", **main_group.context_settings) as ctx:
        for path, command in all_commands(main_group, ("safe-snapshot",)):
            options = {
                long
                for param in command.get_params(ctx)
                if isinstance(param, click.Option) and not param.hidden
                for long in param.opts
                if long.startswith("--")
            }
            assert options <= tab(tree, " ".join(path), "--"), path
    assert {"print", "serve"} <= tab(tree, "safe-snapshot metrics", "")


def test_the_shell_offers_the_hooks_own_words(tree: Path) -> None:
    offered = tab(tree, "vzdump-hook", "")
    assert {"--self-test", "--config", "--help", "--version"} <= offered
    assert {phase.value for phase in Phase} <= offered


@pytest.mark.parametrize("shell", ["zsh", "fish"])
def test_other_shells_find_theirs_and_understand_it(tree: Path, shell: str) -> None:
    names = {"zsh": "zsh/vendor-completions/_safe-snapshot", "fish": "fish/vendor_completions.d/safe-snapshot.fish"}
    path = tree / "usr/share" / names[shell]
    assert f"_SAFE_SNAPSHOT_COMPLETE={shell}_complete" in path.read_text()
    if shell == "zsh":
        assert path.read_text().startswith("#compdef safe-snapshot\n")
    if shutil.which(shell) is None:
        pytest.skip(f"{shell} is not installed: its syntax is not looked at")
    subprocess.run([shell, "-n", path], check=True)
