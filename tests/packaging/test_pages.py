"""Each command of ours in the pages, as they stand, by the installed package on a node that has nothing else."""

from __future__ import annotations

import shlex
import shutil
from pathlib import Path

import pytest

from snapshot.cli.main import main_group
from tests.engine import test_commands_of_the_pages as pages
from tests.packaging.debian import build, debian, require_root
from tests.packaging.node import NODE, node_tree
from tests.packaging.test_contents import all_commands

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]

PVE = {"bookworm": "8.4.0", "trixie": "9.2.6"}
UNPROVEN = 6
"""PVE 8 thaws a guest inside its own snapshot task."""
SERVED = """\
safe-snapshot metrics serve --port 0 2>/root/said &
until address=$(grep -o 'http://.*' /root/said); do kill -0 $! || exit 1; sleep 0.1; done
python3 -c 'import sys, urllib.request as url; print(url.urlopen(sys.argv[1], timeout=60).read().decode())' "$address"
kill $! && wait $!
"""


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    require_root()
    return build(tmp_path_factory.mktemp("package"))


@pytest.mark.parametrize("suite", PVE)
def test_the_installed_package_does_what_the_pages_say(suite: str, package: Path) -> None:
    with debian(suite) as tree, node_tree(tree, guests=3, pve_version=PVE[suite]) as node:
        pages.as_the_pages_mean(node.lab)
        shutil.copy(package, tree.root / "root/package.deb")
        node.ok("dpkg --install /root/package.deb")
        for path, _ in all_commands(main_group, ("safe-snapshot",)):
            assert "Usage: safe-snapshot" in node.ok(f"{' '.join(path)} --help")
        before = tree.files("etc", "var/lib/vzdump-hooks")
        assert "script: /usr/bin/vzdump-hook" in node.ok("safe-snapshot setup --dry-run")
        assert tree.files("etc", "var/lib/vzdump-hooks") == before
        node.ok("safe-snapshot setup --yes")
        config = tree.root / "etc/vzdump-hooks/config.toml"
        config.write_text(config.read_text() + pages.RULES)
        bad = []
        for command in pages.COMMANDS:
            line = shlex.join(word.replace("pve1", NODE) for word in command.words)
            status, shown = node.shell(line)
            well = pages.WELL | ({UNPROVEN} if suite == "bookworm" else set())
            well |= {1, 2, 3} if "--monitor" in command.words else set()
            if status not in well or (status == 4 and not pages.UNFIT.search(shown)) or "Traceback" in shown:
                bad.append(f"{command.page}: {line}: exit {status}\n{shown}")
            assert not any(guest.is_frozen() for guest in node.lab.guests.values()), line
        assert not bad, "\n\n".join(bad)
        assert "pve_fsfreeze_window_seconds" in node.ok(SERVED)
        status, shown = node.shell("safe-snapshot verify 100 before-upgrade")
        assert (status, "cannot-tell" in shown) == (16, True), f"{status} {shown}"
        assert "guest 100" in node.ok("vzdump-hook --self-test 100")
        node.ok("safe-snapshot setup --undo --yes && apt-get purge -y vzdump-hooks")
