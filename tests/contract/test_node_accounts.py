"""The lab's roles, users, tokens, rights and backup jobs against PVE's own habits, as pvesh tells them."""

from __future__ import annotations

import json
import subprocess
from typing import Any

from tests.lab.node.client import Client, Lab, with_scripted

USER = "freeze-guard@pve"
TOKEN = f"/access/users/{USER}/token/hooks-pve1"


def _run(lab: Lab, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [lab.node.pvesh, *arguments, "--output-format", "json"]
    return subprocess.run(command, capture_output=True, text=True, env={}, timeout=60, check=False)


def _ok(lab: Lab, *arguments: str) -> Any:
    done = _run(lab, *arguments)
    assert (done.returncode, done.stderr) == (0, ""), done
    return json.loads(done.stdout or "null")


def _made(lab: Lab) -> str:
    """Role, user, right and token; the token's secret."""
    _ok(lab, "create", "/access/roles", "--roleid", "R", "--privs", "VM.Audit,VM.Snapshot")
    _ok(lab, "create", "/access/users", "--userid", USER, "--comment", "made by us, with the role R")
    _ok(lab, "set", "/access/acl", "--path", "/", "--users", USER, "--roles", "R")
    answer = _ok(lab, "create", TOKEN, "--privsep", "0")
    assert answer["full-tokenid"] == f"{USER}!hooks-pve1"
    return str(answer["value"])


def test_a_token_is_as_good_as_its_user_and_its_secret_is_told_once() -> None:
    with with_scripted() as lab:
        secret = _made(lab)
        headers = {"Authorization": f"PVEAPIToken={USER}!hooks-pve1={secret}"}
        with Client(lab.node, headers=headers) as client:
            assert client.ask("GET", "/nodes/pve1/qemu/100/config").status == 200
            assert client.ask("POST", "/nodes/pve1/qemu/100/agent/fsfreeze-thaw").status == 403
            held = client.ask("GET", "/access/permissions?path=/vms/100").data
            assert held == {"/": {"VM.Audit": 1, "VM.Snapshot": 1}}
        assert _ok(lab, "get", f"/access/users/{USER}/token") == [{"tokenid": "hooks-pve1", "expire": 0, "privsep": 0}]
        again = _run(lab, "create", TOKEN)
        assert (again.returncode, again.stdout) == (255, "")
        assert again.stderr.startswith("400 Parameter verification failed.\ntokenid: Token already exists.")
        found = _ok(lab, "get", f"/access/users/{USER}")
        assert found["comment"] == "made by us, with the role R"
        assert (found["enable"], found["tokens"]) == (1, {"hooks-pve1": {"expire": 0, "privsep": 0}})
        _ok(lab, "set", f"/access/users/{USER}", "--enable", "0")
        with Client(lab.node, headers=headers) as client:
            assert client.ask("GET", "/version").status == 401


def test_a_user_takes_its_tokens_and_rights_along_and_a_role_stays_in_the_rights() -> None:
    with with_scripted() as lab:
        before = lab.node.root / "etc/pve/user.cfg"
        assert not before.exists()
        _made(lab)
        assert [row["ugid"] for row in _ok(lab, "get", "/access/acl")] == [USER]
        _ok(lab, "delete", "/access/roles/R")
        assert [row["roleid"] for row in _ok(lab, "get", "/access/acl")] == ["R"]
        _ok(lab, "delete", f"/access/users/{USER}")
        assert _ok(lab, "get", "/access/acl") == []
        assert (lab.node.root / "etc/pve/priv/token.cfg").read_text() == ""


def test_what_is_not_there_or_there_already_is_told_in_pves_words() -> None:
    with with_scripted() as lab:
        _made(lab)
        for arguments, text in [
            (("get", "/access/users/x@pve"), "no such user ('x@pve')\n"),
            (("create", "/access/users", "--userid", USER), f"create user failed: user '{USER}' already exists\n"),
            (("create", "/access/roles", "--roleid", "R"), "create role failed: role 'R' already exists\n"),
            (("set", "/access/roles/S", "--privs", ""), "update role failed: role 'S' does not exist\n"),
            (("delete", f"/access/users/{USER}/token/x"), f"no such token 'x' for user '{USER}'\n"),
            (("set", "/cluster/backup/x", "--delete", "script"), "no such vzdump job\n"),
        ]:
            done = _run(lab, *arguments)
            assert done.returncode != 0
            assert done.stderr == text
        bad = _run(lab, "create", "/access/roles", "--roleid", "T", "--privs", "VM.Monitor")
        assert "invalid privilege 'VM.Monitor'" in bad.stderr


def test_the_agents_privileges_are_those_of_the_version() -> None:
    for version, present, absent in (
        ("9.2.6", "VM.GuestAgent.Audit", "VM.Monitor"),
        ("8.4.0", "VM.Monitor", "VM.GuestAgent.Audit"),
    ):
        with with_scripted(pve_version=version) as lab:
            roles = {row["roleid"]: row["privs"].split(",") for row in _ok(lab, "get", "/access/roles")}
            assert present in roles["Administrator"]
            assert absent not in roles["Administrator"]


def test_a_job_whose_script_goes_and_comes_back_is_the_same_file() -> None:
    with with_scripted() as lab:
        given = ("--id", "backup-1", "--schedule", "21:00", "--all", "1", "--script", "/root/my.sh")
        _ok(lab, "create", "/cluster/backup", *given)
        file = lab.node.root / "etc/pve/jobs.cfg"
        before = file.read_text()
        assert before == "vzdump: backup-1\n\tschedule 21:00\n\tall 1\n\tenabled 1\n\tscript /root/my.sh\n\n"
        _ok(lab, "set", "/cluster/backup/backup-1", "--delete", "script")
        assert "script" not in _ok(lab, "get", "/cluster/backup")[0]
        _ok(lab, "set", "/cluster/backup/backup-1", "--script", "/root/my.sh")
        assert file.read_text() == before
