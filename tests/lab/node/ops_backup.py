"""API methods about backup jobs (PVE::API2::Backup), over ``etc/pve/jobs.cfg`` in PVE's own format."""

from __future__ import annotations

import uuid
from pathlib import Path
from typing import Any

from tests.lab.node.errors import Die
from tests.lab.node.host import Host
from tests.lab.node.ops import Caller, bad_parameter, operation

JOBS = "/cluster/backup"
_INTERNAL = ("id", "delete", "_kind", "_front")


def read_jobs(root: Path) -> dict[str, dict[str, str]]:
    """Every vzdump job and its settings."""
    path, found = root / "etc/pve/jobs.cfg", dict[str, dict[str, str]]()
    for line in path.read_text().splitlines() if path.exists() else ():
        key, _, value = line.strip().partition(" ")
        if line.startswith("vzdump:"):
            found[value] = {}
        elif key:
            list(found.values())[-1][key] = value
    return found


def write_jobs(root: Path, jobs: dict[str, dict[str, str]]) -> None:
    """The file as PVE::SectionConfig writes it: the schedule first, the rest by name."""
    lines: list[str] = []
    for name, values in jobs.items():
        lines.append(f"vzdump: {name}")
        lines += [f"\t{key} {values[key]}" for key in sorted(values, key=lambda key: (key != "schedule", key))]
        lines.append("")
    path = root / "etc/pve/jobs.cfg"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(lines) + "\n" if lines else "")


def _settings(values: dict[str, Any]) -> dict[str, str]:
    return {key: str(value) for key, value in values.items() if key not in _INTERNAL}


@operation("GET", JOBS)
def jobs(host: Host, values: dict[str, Any], caller: Caller) -> list[dict[str, Any]]:
    caller.need("/", "Sys.Audit")
    written = [{"id": name, "type": "vzdump", **job} for name, job in read_jobs(host.root).items()]
    told = [{"type": "vzdump", "enabled": 1, "schedule": "21:00", **job} for job in host.settings.jobs]
    return [*told, *written]


@operation("POST", JOBS)
def add_job(host: Host, values: dict[str, Any], caller: Caller) -> None:
    found = read_jobs(host.root)
    name = str(values.get("id") or uuid.uuid4())
    if name in found:
        raise Die(f"Job '{name}' already exists")
    write_jobs(host.root, {**found, name: {"enabled": "1", **_settings(values)}})


@operation("GET", f"{JOBS}/{{id}}")
def job(host: Host, values: dict[str, Any], caller: Caller) -> dict[str, Any]:
    found = read_jobs(host.root).get(str(values["id"]))
    if found is None:
        raise bad_parameter(id=f"No such job '{values['id']}'")
    return {"id": values["id"], "type": "vzdump", **found}


@operation("PUT", f"{JOBS}/{{id}}")
def change_job(host: Host, values: dict[str, Any], caller: Caller) -> None:
    found, name = read_jobs(host.root), str(values["id"])
    deleted = [key for key in str(values.get("delete") or "").split(",") if key]
    if name not in found:
        raise Die("no such vzdump job")
    if not deleted and not _settings(values):
        raise Die("no options specified")
    found[name] = {key: value for key, value in found[name].items() if key not in deleted} | _settings(values)
    write_jobs(host.root, found)


@operation("DELETE", f"{JOBS}/{{id}}")
def delete_job(host: Host, values: dict[str, Any], caller: Caller) -> None:
    found = read_jobs(host.root)
    if found.pop(str(values["id"]), None) is None:
        raise bad_parameter(id=f"No such job '{values['id']}'")
    write_jobs(host.root, found)
