"""Probes of what runs by itself: vzdump's script, the jobs, recover, the journal, and who is told of alarms. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from snapshot.base.clock import iso
from snapshot.base.text import counted
from snapshot.config.settings import MetricsConfig
from snapshot.doctor.exporter import RunningExporter
from snapshot.doctor.facts import Facts, Look, unanswered
from snapshot.doctor.findings import Finding, finding, not_known
from snapshot.doctor.machine import SERVICE, TIMER, Script, is_our_script
from snapshot.journal.silences import LOOK_SECONDS
from snapshot.pve import remedies
from snapshot.recovery import foreign

FREE_BYTES = 32 << 20
_CONF = "/etc/vzdump.conf"
_KEPT = ", which keeps that script as one of your own commands"
_DEPENDS_ON_GUEST = frozenset({"last-run-old", "never-guarded", "guest-not-known"})


def script(facts: Facts) -> Look:
    """What vzdump calls, on this node and on the others."""
    found: list[Finding] = []
    if facts.node:
        found += _script_here(facts)
    elsewhere = {node: asked for node, asked in facts.cluster.scripts.items() if node != facts.node}
    for node, asked in sorted(elsewhere.items()):
        subject = f"node {node}"
        if not asked.is_known:
            found.append(not_known(subject, f"what its {_CONF} names: {asked.why}", "`safe-snapshot doctor` there"))
        elif not asked.value:
            found.append(finding("no-script", subject, f"{_CONF} of {node} names no script", _setup(node)))
        elif not is_our_script(asked.value):
            text = f"{_CONF} of {node} names another script: {asked.value}"
            found.append(finding("script-other", subject, text, _setup(node, _KEPT)))
    if not facts.node and not elsewhere:
        nodes = facts.cluster.nodes
        return unanswered("script", nodes._replace(why=nodes.why or "no node tells"), "which script vzdump calls")
    count = len(elsewhere) + bool(facts.node)
    return Look("script", "" if found else f"vzdump-hook on {counted(count, 'node')}", tuple(found))


def _script_here(facts: Facts) -> Iterator[Finding]:
    named, subject = facts.machine.script, f"node {facts.node}"
    if facts.machine.has_vzdump_conf is None:
        yield not_known(subject, f"{_CONF} cannot be read", "run it as root")
    elif named is None:
        yield finding("no-script", subject, f"{_CONF} names no script: backups are not guarded", _setup())
    elif not named.exists or not named.executable:
        what = "is missing" if not named.exists else "is not executable"
        remedy = f"install the package, `chmod 755 {named.path}`, or take the line out of {_CONF}"
        yield finding("script-missing", subject, f"{named.path} {what}: every backup job fails", remedy)
    elif not named.is_ours:
        yield from _other(named, subject)


def _other(named: Script, subject: str) -> Iterator[Finding]:
    if named.wraps:
        text = f"{_CONF} names {named.path}, which speaks of vzdump-hook: what it does behind it, it does frozen"
        yield finding("script-wraps", subject, text, f"take that call out of it, then {_setup(then=_KEPT)}")
    else:
        text = f"{_CONF} names another script: {named.path}"
        yield finding("script-other", subject, text, _setup(then=_KEPT))


def _setup(node: str = "", then: str = "") -> str:
    where = f"on {node}: " if node else ""
    return f"{where}`safe-snapshot setup`{then}"


def jobs(facts: Facts) -> Look:
    """Every backup job: a script of its own, and its mode."""
    asked = facts.cluster.jobs
    if asked.value is None:
        return unanswered("jobs", asked, "the cluster's backup jobs")
    found: list[Finding] = []
    enabled = [job for job in asked.value if job.enabled]
    for job in enabled:
        subject = f"job {job.id}"
        if job.script and not is_our_script(job.script):
            text = f"it names a script of its own, in place of vzdump-hook: {job.script}"
            remedy = f"`safe-snapshot setup --jobs`, on {job.node or 'a node'}{_KEPT}"
            found.append(finding("job-script-other", subject, text, remedy))
        if job.mode in ("stop", "suspend"):
            text = f"mode {job.mode}: nothing is frozen"
            remedy = f"`pvesh set /cluster/backup/{job.id} --mode snapshot`, where the guests have an agent"
            found.append(finding("job-mode", subject, text, remedy))
    off = len(asked.value) - len(enabled)
    return Look("jobs", f"{counted(len(enabled), 'job')}" + (f", {off} switched off" if off else ""), tuple(found))


def backups(facts: Facts) -> Look:
    """The last nights' backups on this node that ran without us."""
    if not facts.node:
        return Look("backups", "", (not_known("backups", "the nodes' own task lists", "`safe-snapshot doctor` there"),))
    if facts.past.absent or facts.past.error is not None:
        return Look("backups", "", because="journal")
    unhooked = facts.past.unhooked
    if not unhooked:
        return Look("backups", "none of the last nights' ran without vzdump-hook")
    upid, ended_at = unhooked[-1]
    text = f"{counted(len(unhooked), 'backup task')} of the last 3 days ran without vzdump-hook, the last {upid} until "
    text += iso(ended_at)
    set_at = facts.machine.script_set_at
    if facts.machine.script is not None and facts.machine.script.is_ours and set_at is not None and ended_at < set_at:
        return Look("backups", f"{text}, before vzdump-hook was written into {_CONF}")
    remedy = f"look at `script:` in {_CONF}, and at the job's own: `pvesh get /cluster/backup`"
    return Look("backups", "", (finding("backup-without-hook", f"node {facts.node}", text, remedy),))


def recover(facts: Facts) -> Look:
    """Whether anything runs `safe-snapshot recover`, and with what success."""
    found: list[Finding] = []
    units, cron = facts.machine.units, facts.machine.cron
    timer = (units or {}).get(TIMER, {})
    well = f"{TIMER} is active" if timer.get("ActiveState") == "active" else f"by {cron}"
    if timer.get("ActiveState") != "active" and not cron:
        remedy = f"`systemctl start {TIMER}`"
        if timer.get("LoadState") != "loaded":
            remedy = "install the package, or see docs/install.md, at boot and every minute: units, or a cron line"
        elif timer.get("UnitFileState") == "disabled":
            remedy = _setup()
        if not facts.node:
            found.append(not_known("recover", "whether it runs on the nodes", "`safe-snapshot doctor` there"))
        elif units is None:
            found.append(not_known("recover", "systemd does not answer, and no cron line runs it", remedy))
        else:
            what = "is not installed" if timer.get("LoadState") != "loaded" else f"is {timer.get('ActiveState', '?')}"
            found.append(finding("recover-not-run", "recover", f"{TIMER} {what}, and no cron line runs it", remedy))
    if timer.get("ActiveState") == "active" and timer.get("UnitFileState") == "disabled":
        text = f"{TIMER} runs now, and is not enabled: after the next boot it does not"
        found.append(finding("recover-not-run", "recover", text, _setup()))
    result = (units or {}).get(SERVICE, {})
    if result.get("Result", "success") != "success":
        text = f"the last run failed ({result['Result']}, exit status {result.get('ExecMainStatus', '?')})"
        found.append(finding("recover-fails", "recover", text, f"`systemctl status {SERVICE}`, `safe-snapshot status`"))
    if not _is_idle(facts):
        found += [
            finding("look-old", "recover", silence.line, f"`systemctl status {TIMER}`")
            for silence in facts.past.silences
            if silence.runbook == "look-old"
        ]
    return Look("recover", "" if found else well, tuple(found))


def _is_idle(facts: Facts) -> bool:
    """Whether it is known of this node that nothing runs `recover`: old looks and old metrics follow from that."""
    timer = (facts.machine.units or {}).get(TIMER, {})
    known = bool(facts.node) and facts.machine.units is not None
    return known and timer.get("ActiveState") != "active" and not facts.machine.cron


def journal(facts: Facts) -> Look:
    """The journal and its folder, and the windows that need somebody."""
    past, path = facts.past, facts.config.journal.path
    found: list[Finding] = []
    if past.error is not None and facts.is_root:
        remedy = past.error.remedy or "`safe-snapshot recover`"
        found.append(finding("journal-broken", "journal", past.error.message, remedy))
    elif past.error is not None:
        found.append(not_known("journal", past.error.message, "run it as root"))
    elif past.absent:
        found.append(finding("no-journal", "journal", f"there is none yet at {path}"))
    if past.is_writable is False and facts.is_root:
        remedy = f"`install -d -m 700 {path.parent}`, and look whether its file system is mounted read-only"
        found.append(finding("state-folder", "journal", f"{path.parent} cannot be written to", remedy))
    elif past.is_writable is False:
        found.append(not_known("journal", f"whether root can write to {path.parent}", "run it as root"))
    if past.free_bytes is not None and past.free_bytes < FREE_BYTES:
        text = f"{past.free_bytes >> 20} MiB are free under {path.parent}"
        found.append(finding("state-full", "journal", text, f"free some space: `df {path.parent}`"))
    for window in past.in_need:
        whose = f"guest {window.vmid} on {window.node}"
        text = f"{whose}: window {window.id[:8]} is open since {foreign.span(facts.now - window.intent_at)}"
        remedy = remedies.of_stuck(window.vmid, window.thaw_detail)
        found.append(finding("may-be-frozen", f"guest {window.vmid}", text, remedy, window.vmid))
    found += [
        finding("journal-begun-anew", "journal", silence.line, "look at the disk, `dmesg`")
        for silence in past.silences
        if silence.runbook == "journal-begun-anew"
    ]
    return Look("journal", str(path), tuple(found))


def told(facts: Facts) -> Look:
    """Whether anybody would hear of an alarm: the metrics' folder and whether it is read, mails and webhooks."""
    config, found = facts.config, list[Finding]()
    path, exporters = config.metrics.textfile, facts.machine.exporters
    is_read: bool | None = False
    if path is not None:
        is_read = _is_read(facts)
        found += _textfile(facts)
    other = config.metrics.pushgateway is not None or config.notify.is_wanted
    if not other and is_read is False and not facts.node:
        found.append(
            not_known("alarms", "whether anybody is told of those of the nodes", "`safe-snapshot doctor` there")
        )
    elif not other and is_read is False:
        text = "no node_exporter reads the metrics, none are pushed, and [notify] is empty: nobody hears of an alarm"
        remedy = f'{_setup()}, or `mail_to = "root"` below [notify] in {facts.config_path}'
        found.append(finding("nobody-told", "alarms", text, remedy))
    elif path is not None and is_read is None:
        what = "whether a node_exporter runs here" if exporters is None else "whose folder the node_exporter here reads"
        found.append(not_known("metrics", what, "run it as root"))
    found += [
        finding("letters-not-sent", "notify", line, "`safe-snapshot notify --test`") for line in facts.past.letters
    ]
    ways = [
        f"node_exporter reads {path.parent}" if is_read and path is not None else "",
        "pushgateway" if config.metrics.pushgateway is not None else "",
        "[notify]" if config.notify.is_wanted else "",
    ]
    return Look("alarms", ", ".join(filter(None, ways)), tuple(found))


def _is_read(facts: Facts) -> bool | None:
    """Whether a node_exporter reads our textfile's folder; None: not known."""
    path, exporters = facts.config.metrics.textfile, facts.machine.exporters
    if exporters is None or path is None:
        return None
    words = {one.reads(path.parent) for one in exporters}
    return True if True in words else None if None in words else False


def _textfile(facts: Facts) -> Iterator[Finding]:
    path = facts.config.metrics.textfile
    if path is None:
        return
    if not facts.past.has_textfile_folder:
        if not facts.node:
            return
        makes = _setup() if path == MetricsConfig().textfile else f"`install -d -m 755 {path.parent}`"
        remedy = f"{makes}, or another [metrics] textfile"
        yield finding("textfile-folder", "metrics", f"there is no folder {path.parent}: no metrics are written", remedy)
    elif facts.machine.exporters and _is_read(facts) is False:
        yield _read_elsewhere(facts, path, facts.machine.exporters)
    written_at = facts.past.textfile_at
    follows = _is_idle(facts) or any(silence.runbook == "look-old" for silence in facts.past.silences)
    if facts.node and written_at is not None and facts.now - written_at > LOOK_SECONDS and not follows:
        text = f"{path} was last written at {iso(written_at)}"
        yield finding("metrics-stale", "metrics", text, f"`systemctl status {TIMER}`")


def _read_elsewhere(facts: Facts, path: Path, exporters: Sequence[RunningExporter]) -> Finding:
    """None of them reads our folder: what each does, and the nearest way out."""
    reads = "; ".join(f"node_exporter (pid {one.pid}) {_what(one)}" for one in exporters)
    text = f"the metrics are written to {path.parent}, and {reads}"
    folder = next((one.folder for one in exporters if one.folder is not None), None)
    remedy = f"start it with --collector.textfile.directory={path.parent}"
    if folder is not None:
        remedy = f'textfile = "{folder}/{path.name}" below [metrics] in {facts.config_path}'
        if path == MetricsConfig().textfile:
            remedy = f"{_setup()}, or {remedy}"
    elif any(one.is_off for one in exporters):
        remedy = f"switch its textfile collector on, with --collector.textfile.directory={path.parent}"
    return finding("textfile-not-read", "metrics", text, remedy)


def _what(one: RunningExporter) -> str:
    if one.is_off:
        return "has its textfile collector switched off"
    if not one.folders:
        return "reads no folder"
    return f"reads {', '.join(one.folders)}{' of its container' if one.is_elsewhere else ''}"


def of_guests(facts: Facts) -> dict[str, list[Finding]]:
    """The silences that are about one guest, by its id."""
    found: dict[str, list[Finding]] = {}
    for silence in facts.past.silences:
        look = silence.look
        if look is None or silence.runbook not in _DEPENDS_ON_GUEST:
            continue
        remedy = f"docs/runbooks/{silence.runbook}.md"
        one = finding(silence.runbook, f"guest {look.vmid}", silence.line, remedy, look.vmid)
        found.setdefault(look.id, []).append(one)
    return found
