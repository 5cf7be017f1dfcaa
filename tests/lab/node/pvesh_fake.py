"""A ``pvesh`` for the lab: the node's methods without any daemon, as root, with pvesh's own exit codes.

Like the real one it does the work in its own process (it needs neither pveproxy nor pvedaemon) and runs tasks in the
foreground: their lines, then the UPID, and exit status 0 even when the task failed. The text
format, which the real one draws as tables, is JSON here.

    python tests/lab/node/pvesh_fake.py <lab root> <node> <get|create|set|delete> <path> [--key value ...]
"""

from __future__ import annotations

import json
import os
import re
import sys
import time
from pathlib import Path
from typing import Any

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parents[3]))

from tests.lab.node.host import Host
from tests.lab.node.ops import OPERATIONS, load_all, perform
from tests.lab.node.tasks import Upid, is_running

METHODS = {"get": "GET", "create": "POST", "set": "PUT", "delete": "DELETE"}
BAD_PARAMETER = 255
# Perl's `die` exits with whatever errno was left behind: these are the ones that were seen (ECONNREFUSED, ENOENT).
_EXIT_CODES = (
    (re.compile("QEMU guest agent is not running"), 111),
    (re.compile("^Configuration file .* does not exist|^VM \\d+ (?:is )?not running"), 2),
)
_FORMATS = ("json", "json-pretty", "text", "yaml")
_FLAGS = ("noproxy", "quiet", "nooutput")
# Parameters beyond the path's own; a path that is not here takes none.
_PARAMETERS = {
    "/snapshot": ("snapname", "description", "vmstate", "force"),
    "/snapshot/{snapname}": ("force",),
    "/snapshot/{snapname}/config": ("description",),
    "/feature": ("feature", "snapname"),
    "/sendkey": ("key", "skiplock"),
    "/agent": ("command",),
    **{f"/status/{verb}": ("skiplock", "timeout") for verb in ("start", "stop", "shutdown", "reset")},
    "/log": ("start", "limit"),
    "/tasks": ("source", "typefilter", "vmid", "start", "limit", "since", "until", "errors", "userfilter"),
    "/cluster/resources": ("type",),
    "/config": ("current", "snapshot"),
    "/content": ("content", "vmid"),
    "/content/{volume}": ("notes", "protected"),
    "/access/roles": ("roleid", "privs"),
    "/access/roles/{roleid}": ("privs", "append"),
    "/access/users": ("userid", "comment", "enable"),
    "/access/users/{userid}": ("comment", "enable"),
    "/access/users/{userid}/token/{tokenid}": ("privsep", "comment", "expire"),
    "/access/acl": ("path", "users", "groups", "tokens", "roles", "propagate", "delete"),
    "/cluster/backup": ("id", "schedule", "script", "node", "all", "vmid", "mode", "storage", "enabled"),
    "/cluster/backup/{id}": ("script", "delete", "node", "mode", "storage", "enabled"),
}
_REQUIRED = {("POST", "/snapshot"): "snapname", ("PUT", "/sendkey"): "key", ("GET", "/feature"): "feature"}


def main(argv: list[str]) -> int:
    """Do what pvesh does; returns its exit code."""
    root, node, *rest = argv
    host = Host(Path(root))
    time.sleep(host.settings.pvesh_seconds)
    if not host.settings.pvesh_as_root:
        return _complain("please run as root", BAD_PARAMETER)
    load_all()
    options = [word for word in rest if word not in ("--noproxy", "--nooutput")]
    verb, path = (*options[:2], "", "")[:2]
    method = METHODS.get(verb)
    if method is None:
        usage = "".join(f"\n       pvesh {known} <api_path> [OPTIONS]" for known in sorted(METHODS))
        why = f"unknown command '{verb}'" if verb else "no command specified"
        return _complain(f"ERROR: {why}\nUSAGE: pvesh <COMMAND> [ARGS] [OPTIONS]\n{usage}", BAD_PARAMETER)
    found = find(method, path)
    if found is None:
        return _complain(f"No '{verb}' handler defined for '{path}'", 1)
    template, values = found
    try:
        given = parse_options(options[2:])
    except ValueError as error:
        return _complain(f"400 unable to parse option\n{error}", BAD_PARAMETER)
    output = given.pop("output-format", "text")
    quiet = bool(given.pop("quiet", False)) or "--nooutput" in rest
    given = {key: value for key, value in given.items() if key not in _FLAGS}
    problems = check(method, template, given)
    if problems:
        lines = "".join(f"\n{key}: {text}" for key, text in problems.items())
        return _complain(f"400 Parameter verification failed.{lines}", BAD_PARAMETER)
    return _call(host, node, method, template, {**given, **values}, output=output, quiet=quiet)


def _call(
    host: Host, node: str, method: str, template: str, values: dict[str, Any], *, output: str, quiet: bool
) -> int:
    target = values.get("node", node) if "{node}" in template else node
    target = node if target == "localhost" else target
    if "{node}" in template:
        values["node"] = target
    nodes = host.settings.nodes
    if target not in nodes:
        reason = f"failed to get address info for: {target}: Name or service not known"
        return _complain(f"hostname lookup '{target}' failed - {reason}", 2)
    if not nodes[target].get("online", True):  # another node is reached by ssh
        return _complain("proxy handler failed: exit code 255", BAD_PARAMETER)
    values |= {"_kind": "lxc" if "/lxc" in template else "qemu", "_front": node}
    answer = perform(host, method, template, values, "root@pam")
    if "status" in answer:
        if answer["status"] == 400:
            lines = "".join(f"\n{key}: {text}" for key, text in (answer["errors"] or {}).items())
            return _complain(f"400 {answer['message']}{lines}", BAD_PARAMETER)
        codes = [code for pattern, code in _EXIT_CODES if pattern.search(answer["message"])]
        return _complain(answer["message"], codes[0] if codes else BAD_PARAMETER)
    data = answer["data"]
    if method in ("POST", "DELETE") and isinstance(data, str) and (upid := Upid.parse(data)):
        follow(host, upid)
    if data is not None and not quiet:
        pretty = 3 if output in ("json-pretty", "text") and not isinstance(data, str) else None
        print(json.dumps(data, sort_keys=True, indent=pretty))
    return 0


def follow(host: Host, upid: Upid) -> None:
    """Copy the task's lines to standard output until it ends; its closing error goes to standard error."""
    path, shown = host.tasks.path(upid), 0
    while True:
        ended = not is_running(upid.pid, upid.pstart)
        lines = path.read_text(errors="replace").split("\n")[:-1]
        for line in lines[shown:]:
            if not line.startswith("TASK "):
                print(line, flush=True)
            elif line.startswith("TASK ERROR: "):
                _complain(line.removeprefix("TASK ERROR: "), 0)
            elif line.startswith("TASK WARNINGS: "):
                _complain(f"Task finished with {line.rpartition(' ')[2]} warning(s)!", 0)
        shown = len(lines)
        if ended:
            return
        time.sleep(0.005)


def find(method: str, path: str) -> tuple[str, dict[str, str]] | None:
    """The path template of an operation, and the parameters that stand in the path."""
    for known_method, template in OPERATIONS:
        pattern = re.sub(r"\\\{volume\\\}", "(?P<volume>.+)", re.escape(template))
        pattern = re.sub(r"\\\{(\w+)\\\}", r"(?P<\1>[^/]+)", pattern)
        match = re.fullmatch(pattern, "/" + path.strip("/"))
        if known_method == method and match:
            return template, match.groupdict()
    return None


def parse_options(words: list[str]) -> dict[str, str]:
    """``--key value``, ``-key value`` and ``--key=value``. Raises ValueError."""
    options: dict[str, str] = {}
    rest = iter(words)
    for word in rest:
        if not word.startswith("-"):
            raise ValueError(f"unexpected argument '{word}'")
        key, equals, value = word.lstrip("-").partition("=")
        if key in _FLAGS:
            options[key] = "1"
            continue
        if not equals:
            found = next(rest, None)
            if found is None:
                raise ValueError(f"Option {key} requires an argument")
            value = found
        options[key] = value
    if options.get("output-format", "json") not in _FORMATS:
        raise ValueError(f"value '{options['output-format']}' does not have a value in the enumeration")
    return options


def check(method: str, template: str, given: dict[str, str]) -> dict[str, str]:
    """What is wrong with the parameters, as far as the lab knows them."""
    tail = re.sub(r"^/nodes/\{node\}(?:/(?:qemu|lxc)/\{vmid\}|/storage/\{storage\}|/tasks/\{upid\})?", "", template)
    if method in ("PUT", "POST") and tail == "/config":
        return {}
    allowed = _PARAMETERS.get(tail, ())
    text = "property is not defined in schema and the schema does not allow additional properties"
    problems = {key: text for key in given if key not in allowed}
    required = _REQUIRED.get((method, tail))
    if required and required not in given:
        problems[required] = "property is missing and it is not optional"
    name = given.get("snapname")
    if tail == "/snapshot" and name is not None and not re.fullmatch(r"(?i)[a-z][a-z0-9_-]{1,39}", name):
        problems["snapname"] = f"invalid format - invalid configuration ID '{name}'\n"
    return problems


def _complain(text: str, code: int) -> int:
    print(text, file=sys.stderr, flush=True)
    return code


if __name__ == "__main__":
    code = main(sys.argv[1:])
    sys.stdout.flush()
    os._exit(code)
