"""API methods about tasks, and about the notes of backups (PVE::API2::Tasks)."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from tests.lab.node.errors import ApiError, Die
from tests.lab.node.host import Host
from tests.lab.node.ops import Caller, Listing, bad_parameter, operation
from tests.lab.node.tasks import Upid, process_start, stop_worker

TASKS = "/nodes/{node}/tasks"
CONTENT = "/nodes/{node}/storage/{storage}/content"
_BACKUP = re.compile(r"^vzdump-(qemu|lxc)-(\d+)-[0-9_-]+\.(vma|tar)(?:\.(?:zst|gz|lzo))?$")


def _upid(host: Host, values: dict[str, Any], caller: Caller, privilege: str) -> Upid:
    upid = Upid.parse(str(values["upid"]))
    if upid is None:
        raise bad_parameter(upid="unable to parse worker upid")
    if not _is_owner(caller, upid):
        caller.need(f"/nodes/{values['node']}", privilege)
    return upid


def _is_owner(caller: Caller, upid: Upid) -> bool:
    """A user owns what its tokens started; a token owns its own tasks only."""
    return caller.user in (upid.user, upid.user.partition("!")[0])


def _view(upid: Upid) -> dict[str, Any]:
    user, _, token = upid.user.partition("!")
    view = {
        "upid": str(upid),
        "node": upid.node,
        "pid": upid.pid,
        "pstart": upid.pstart,
        "starttime": upid.starttime,
        "type": upid.type,
        "id": upid.id,
        "user": user,
    }
    return view | ({"tokenid": token} if token else {})


@operation("GET", f"{TASKS}/{{upid}}/status")
def status(host: Host, values: dict[str, Any], caller: Caller) -> dict[str, Any]:
    upid = _upid(host, values, caller, "Sys.Audit")
    if not host.tasks.path(upid).exists():
        raise bad_parameter(upid="no such task")
    started = process_start(upid.pid)
    if started is not None and started[0] == upid.pstart:
        return _view(upid) | {"status": "running"}
    return _view(upid) | {"status": "stopped", "exitstatus": host.tasks.exit_status(upid)}


@operation("GET", f"{TASKS}/{{upid}}/log")
def log(host: Host, values: dict[str, Any], caller: Caller) -> Listing:
    upid = _upid(host, values, caller, "Sys.Audit")
    total, lines = host.tasks.lines(
        upid, int(values.get("start") or 0), int(values["limit"]) if values.get("limit") is not None else 50
    )
    return Listing(lines, total)


@operation("DELETE", f"{TASKS}/{{upid}}")
def stop(host: Host, values: dict[str, Any], caller: Caller) -> None:
    upid = _upid(host, values, caller, "Sys.Modify")
    if not host.tasks.path(upid).exists():
        raise bad_parameter(upid="no such task")
    stop_worker(upid, host.settings.limit("stop"))


@operation("GET", TASKS)
def task_list(host: Host, values: dict[str, Any], caller: Caller) -> Listing:
    """Finished tasks from ``index``, running ones from ``active``: as ``source`` asks, newest first."""
    active = host.tasks.refresh()
    source = values.get("source", "archive")
    found: list[dict[str, Any]] = []
    if source in ("active", "all"):
        found += [_view(entry["upid"]) | {"status": "RUNNING"} for entry in active if not entry["saved"]]
    if source != "active":
        found += [_view(upid) | {"endtime": end, "status": text} for upid, end, text in host.tasks.index()]
    audit = caller.has(f"/nodes/{values['node']}", "Sys.Audit")
    wanted = [
        entry
        for entry in found
        if entry["node"] == values["node"]
        and (audit or caller.user in (entry["user"], f"{entry['user']}!{entry.get('tokenid', '')}"))
        and values.get("typefilter") in (None, entry["type"])
        and str(values.get("vmid") or entry["id"]) == entry["id"]
        and entry["starttime"] >= int(values.get("since") or 0)
    ]
    start, limit = int(values.get("start") or 0), int(values["limit"]) if values.get("limit") is not None else 50
    return Listing(wanted[start : start + limit], len(wanted))


# ---------------------------------------------------------------- backup notes


def _dump_folder(host: Host, storage: str) -> Path:
    entry = host.settings.storages.get(storage)
    if entry is None:
        raise Die(f"storage '{storage}' does not exist")
    return Path(entry.get("path") or host.root / "var" / "lib" / "vz") / "dump"


def _backup(host: Host, values: dict[str, Any], caller: Caller) -> Path:
    volume = str(values["volume"])
    storage, _, name = volume.partition(":") if ":" in volume else (str(values.get("storage", "local")), ":", volume)
    match = _BACKUP.match(name.removeprefix("backup/"))
    if not match:
        raise Die(f"unable to parse directory volume name '{name}'")
    if not caller.has(f"/storage/{storage}", "Datastore.Allocate"):
        caller.need(f"/storage/{storage}", "Datastore.AllocateSpace")
        caller.need(f"/vms/{match[2]}", "VM.Backup")
    path = _dump_folder(host, storage) / match[0]
    if not path.exists():
        raise Die(f"volume_size_info on '{storage}:backup/{match[0]}' failed")
    return path


@operation("PUT", f"{CONTENT}/{{volume}}")
def content_put(host: Host, values: dict[str, Any], caller: Caller) -> None:
    """Notes and protection of a backup: files beside the archive, as PVE keeps them on a folder storage."""
    path = _backup(host, values, caller)
    if "notes" in values:
        file = path.with_name(path.name + ".notes")
        if values["notes"]:
            file.write_text(str(values["notes"]))
        else:
            file.unlink(missing_ok=True)
    if (protected := values.get("protected")) is not None:
        file = path.with_name(path.name + ".protected")
        if str(protected) == "1":
            file.touch()
        else:
            file.unlink(missing_ok=True)


@operation("GET", f"{CONTENT}/{{volume}}")
def content_get(host: Host, values: dict[str, Any], caller: Caller) -> dict[str, Any]:
    path = _backup(host, values, caller)
    return {key: value for key, value in _entry("", path).items() if key not in ("volid", "vmid", "ctime")} | {
        "path": str(path),
        "used": path.stat().st_size,
    }


@operation("GET", CONTENT)
def content_list(host: Host, values: dict[str, Any], caller: Caller) -> list[dict[str, Any]]:
    storage = str(values["storage"])
    path = f"/storage/{storage}"
    if not (caller.has(path, "Datastore.Audit") or caller.has(path, "Datastore.AllocateSpace")):
        raise ApiError(403, f"Permission check failed ({path}, Datastore.Audit|Datastore.AllocateSpace)")
    if values.get("content") not in (None, "backup"):
        return []
    folder = _dump_folder(host, storage)
    entries = [_entry(storage, path) for path in sorted(folder.glob("vzdump-*")) if _BACKUP.match(path.name)]
    return [entry for entry in entries if str(values.get("vmid", entry["vmid"])) == str(entry["vmid"])]


def _entry(storage: str, path: Path) -> dict[str, Any]:
    match = _BACKUP.match(path.name)
    assert match
    notes = path.with_name(path.name + ".notes")
    entry: dict[str, Any] = {
        "volid": f"{storage}:backup/{path.name}",
        "content": "backup",
        "subtype": match[1],
        "vmid": int(match[2]),
        "format": path.name.partition(f".{match[3]}")[1].lstrip(".") + path.name.partition(f".{match[3]}")[2],
        "size": path.stat().st_size,
        "ctime": int(path.stat().st_mtime),
    }
    if notes.exists():
        entry["notes"] = notes.read_text()
    if path.with_name(path.name + ".protected").exists():
        entry["protected"] = 1
    return entry
