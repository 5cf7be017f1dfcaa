"""From ``apt install`` to the first guarded backup by the documentation's own text, and back, on bare Debian roots."""

from __future__ import annotations

import json
import os
import re
import shutil
import stat
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.json_schema import follows_the_schema
from tests.lab.node.ops_backup import write_jobs
from tests.packaging.debian import CHECKOUT, build, debian, require_root
from tests.packaging.node import NodeTree, node_tree

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]

SUITES = ["bookworm", "trixie"]
PAGE = (CHECKOUT / "docs/install.md").read_text()


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    require_root()
    return build(tmp_path_factory.mktemp("package"))


@pytest.fixture(params=SUITES)
def bare(request: pytest.FixtureRequest, package: Path) -> Iterator[NodeTree]:
    """A node without the package, which lies in root's home, where a shell is opened."""
    version = "8.4.0" if request.param == "bookworm" else "9.2.6"
    with debian(request.param) as tree, node_tree(tree, pve_version=version) as node:
        shutil.copy(package, tree.root / "root")
        yield node


def documented() -> list[str]:
    """The commands of the page's own block."""
    blocks = re.findall(r"```(?:sh)?\n(.*?)```", PAGE.partition("## In three commands")[2], re.DOTALL)
    return next(block for block in blocks if "safe-snapshot setup" in block).splitlines()


def test_three_commands_lead_to_a_guarded_backup_and_an_alarm_path_that_was_tried(bare: NodeTree) -> None:
    install, setup, backup = documented()
    bare.ok(install)
    shown = bare.ok(setup, "y\n")
    assert shown.count("[y/N]") == 1, shown
    assert "mail to root: taken" in shown
    assert "To: root" in bare.read("var/mail/root")
    log = bare.ok(backup)
    promised = re.search(r"^INFO: vzdump-hook: guest 100.*$", PAGE, re.MULTILINE)
    assert promised
    (line,) = [found for found in log.splitlines() if "guest 100, frozen for" in found]
    shown, page = (re.sub(r"\d+ ms", "", text) for text in (line, promised[0]))
    if not bare.lab.node.settings.at_least("9.1.10"):  # there vzdump thaws by itself, and the reason says so
        shown, page = (text.partition("consistent: ")[0] for text in (shown, page))
    assert shown == page, log
    assert "https" not in log
    assert not bare.lab.guest.is_frozen()
    assert "freeze-guard@pve!hooks-" in bare.read("etc/vzdump-hooks/token")
    used = {request.user for request in bare.lab.node.requests("agent") if request.user}
    assert {user.partition("!")[0] for user in used} <= {"freeze-guard@pve"}


def test_a_drill_in_a_bare_node_shows_what_can_be_shown_without_systemd(bare: NodeTree) -> None:
    bare.ok("dpkg --install /root/vzdump-hooks_*.deb")
    bare.ok("safe-snapshot setup", "y\n")
    status, shown = bare.shell("safe-snapshot --json drill 100 --yes")
    found = follows_the_schema(json.loads(shown[shown.index("{") :]))
    assert (status, found["exit_code"], found["error"]) == (0, 0, None), shown
    rounds = [(one["name"], one["is_kept"], one["route"]) for one in found["rounds"]]
    socket = "its guard over agent socket /var/run/qemu-server/100.qga"
    assert rounds == [("owner-killed", True, socket), ("api-cut", True, socket)]
    told = {check["name"]: (check["result"], check["message"]) for check in found["checks"]}
    assert told["systemd"][0] == "warning"
    assert "its round is not played" in told["systemd"][1]
    assert told["unit"][0] == "warning", "without systemd nobody can say that the timer runs"
    assert [(tried["way"], tried["ok"]) for tried in found["alarms"]] == [("metrics", True), ("mail", True)]
    assert "Subject: DRILL: " in bare.read("var/mail/root")
    assert 'kept="yes"' in bare.read("var/lib/prometheus/node-exporter/vzdump_hooks.prom")
    assert not bare.lab.guest.is_frozen()
    assert "no open window, no frozen guest" in bare.ok("safe-snapshot status")
    assert "drill-without-api" not in bare.ok("ls -A /var/lib/vzdump-hooks")
    status, shown = bare.shell("safe-snapshot drill 100 --yes")
    assert status == 0, shown
    assert "every bound kept that was tried; NOT SHOWN: guard-killed" in shown.splitlines()[-1]


def nothing_there(node: NodeTree) -> None:
    """As the package leaves it."""


def comments_and_an_own_script(node: NodeTree) -> None:
    root = node.tree.root
    (root / "root/my-hook.pl").write_text("#!/bin/sh\nexit 0\n")
    (root / "root/my-hook.pl").chmod(0o700)
    (root / "etc/vzdump.conf").write_bytes(b"# \xff mine\n#script: FILENAME\nscript: /root/my-hook.pl\r\nmailto: a@b")
    os.chown(root / "etc/vzdump.conf", 0, 8)
    (root / "etc/vzdump.conf").chmod(0o640)


def jobs_with_own_scripts(node: NodeTree) -> None:
    comments_and_an_own_script(node)
    jobs = {"a": {"schedule": "21:00", "all": "1", "script": "/root/my-hook.pl"}, "b": {"schedule": "22:00"}}
    write_jobs(node.lab.node.root, jobs)


def an_older_configuration(node: NodeTree) -> None:
    node.ok("pvesh create /access/users/root@pam/token/vzdump-hooks --privsep 0 --output-format json >/root/answer")
    secret = re.findall(r'"value": "([^"]+)"', node.read("root/answer"))[0]
    etc = node.tree.root / "etc/vzdump-hooks"
    (etc / "config.toml").write_text(
        '# mine\n[api]\ntoken_id = "root@pam!vzdump-hooks"\n[freeze]\npolicy = "require"\n'
    )
    (etc / "token").write_text(f"{secret}\n")
    (etc / "token").chmod(0o600)
    (node.tree.root / "etc/vzdump.conf").write_text("script:   /usr/bin/vzdump-hook\n")


CASES = [nothing_there, comments_and_an_own_script, jobs_with_own_scripts, an_older_configuration]


@pytest.mark.parametrize("case", CASES)
def test_setup_and_undo_leave_every_file_as_it_was(bare: NodeTree, case: Callable[[NodeTree], None]) -> None:
    bare.ok("dpkg --install /root/vzdump-hooks_*.deb")
    case(bare)
    before = files(bare)
    bare.ok("safe-snapshot setup --jobs --yes")
    changed = files(bare)
    assert changed != before
    assert "nothing to do" in bare.ok("safe-snapshot setup --jobs --yes")
    assert files(bare) == changed
    log = bare.ok("vzdump 100")
    assert "guest 100, frozen for" in log
    bare.ok("rm -rf /var/lib/vzdump-hooks/journal.sqlite* /var/lib/vzdump-hooks/guards /var/lib/vzdump-hooks/*.lock")
    assert "as it was before setup\n" in bare.ok("safe-snapshot setup --undo --yes")
    assert files(bare) == before
    bare.ok("dpkg --purge vzdump-hooks" if case is nothing_there else "true")


def files(node: NodeTree) -> dict[str, tuple[int, int, int, bytes]]:
    """What stands below the tree's folders and PVE's own, but for what says when something was looked at."""
    found: dict[str, tuple[int, int, int, bytes]] = {}
    for top in ("etc", "usr/bin", "usr/lib/systemd", "var/lib/vzdump-hooks", "var/lib/systemd", "root"):
        for path in sorted((node.tree.root / top).rglob("*")):
            status = path.lstat()
            if path.name in ("user.cfg", "token.cfg", "priv", ".bash_history"):
                continue  # PVE writes these two anew; what they say is asked below
            data = path.read_bytes() if stat.S_ISREG(status.st_mode) else b""
            data = os.fsencode(os.readlink(path)) if path.is_symlink() else data
            found[str(path)] = (status.st_mode, status.st_uid, status.st_gid, data)
    told = [node.lab.node.pvesh, "get"]
    for what in ("/access/roles", "/access/acl", "/cluster/backup"):
        answer = subprocess.run([*told, what, "--output-format", "json"], capture_output=True, check=True).stdout
        found[what] = (0, 0, 0, answer)
    user = subprocess.run([*told, "/access/users/freeze-guard@pve"], capture_output=True, check=False)
    found["user"] = (user.returncode and 1, 0, 0, b"")
    return found
