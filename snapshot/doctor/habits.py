"""Probes of what runs by itself: vzdump's script, the jobs, recover, the journal, and who is told of alarms. Pure."""

from __future__ import annotations

import fnmatch
from collections.abc import Iterator

from snapshot.base.clock import iso
from snapshot.base.text import counted
from snapshot.doctor.facts import Facts, Look
from snapshot.doctor.findings import Finding, finding, not_known
from snapshot.doctor.machine import SERVICE, TIMER, Script, is_our_script
from snapshot.journal.silences import LOOK_SECONDS
from snapshot.pve import remedies
from snapshot.recovery import foreign

FREE_BYTES = 32 << 20
HOOK = "/usr/bin/vzdump-hook"
_CONF = "/etc/vzdump.conf"
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
            found.append(finding("no-script", subject, f"{_CONF} of {node} names no script", _add_script(node)))
        elif not is_our_script(asked.value):
            text = f"{_CONF} of {node} names another script: {asked.value}"
            found.append(finding("script-other", subject, text, _move(asked.value, node)))
    if not facts.node and not elsewhere:
        found.append(not_known("script", f"which script vzdump calls: {facts.cluster.nodes.why or 'no node tells'}"))
    count = len(elsewhere) + bool(facts.node)
    return Look("script", "" if found else f"vzdump-hook on {counted(count, 'node')}", tuple(found))


def _script_here(facts: Facts) -> Iterator[Finding]:
    named, subject = facts.machine.script, f"node {facts.node}"
    if facts.machine.has_vzdump_conf is None:
        yield not_known(subject, f"{_CONF} cannot be read", "run it as root")
    elif named is None:
        yield finding("no-script", subject, f"{_CONF} names no script: backups are not guarded", _add_script(""))
    elif not named.exists or not named.executable:
        what = "is missing" if not named.exists else "is not executable"
        remedy = f"install the package, `chmod 755 {named.path}`, or take the line out of {_CONF}"
        yield finding("script-missing", subject, f"{named.path} {what}: every backup job fails", remedy)
    elif not named.is_ours:
        yield from _other(named, subject)


def _other(named: Script, subject: str) -> Iterator[Finding]:
    if named.wraps:
        text = f"{_CONF} names {named.path}, which speaks of vzdump-hook: what it does behind it, it does frozen"
        yield finding("script-wraps", subject, text, _move(named.path, ""))
    else:
        text = f"{_CONF} names another script: {named.path}"
        yield finding("script-other", subject, text, _move(named.path, ""))


def _add_script(node: str) -> str:
    where = f"on {node}: " if node else ""
    return f"{where}`echo 'script: {HOOK}' >>{_CONF}`"


def _move(path: str, node: str) -> str:
    where = f"on {node}: " if node else ""
    name = path.rpartition("/")[2]
    return (
        f"{where}`install -D -m 755 {path} /etc/vzdump-hooks/hooks.d/10-{name}`, then "
        f"`sed -i 's#^script:.*#script: {HOOK}#' {_CONF}` (docs/install.md)"
    )


def jobs(facts: Facts) -> Look:
    """Every backup job: a script of its own, and its mode."""
    asked = facts.cluster.jobs
    if asked.value is None:
        return Look("jobs", "", (not_known("jobs", f"the cluster's backup jobs: {asked.why}"),))
    found: list[Finding] = []
    enabled = [job for job in asked.value if job.enabled]
    for job in enabled:
        subject = f"job {job.id}"
        if job.script and not is_our_script(job.script):
            text = f"it names a script of its own, in place of vzdump-hook: {job.script}"
            remedy = f"as root on a node: `pvesh set /cluster/backup/{job.id} --script {HOOK}`"
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
        return Look("backups", "", (not_known("backups", "without a journal nobody knows which had our hook"),))
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
        remedy = f"`systemctl enable --now {TIMER}`; without systemd the cron line of docs/install.md"
        if not facts.node:
            found.append(not_known("recover", "whether it runs on the nodes", "`safe-snapshot doctor` there"))
        elif units is None:
            found.append(not_known("recover", "systemd does not answer, and no cron line runs it", remedy))
        else:
            what = "is not installed" if timer.get("LoadState") != "loaded" else f"is {timer.get('ActiveState', '?')}"
            found.append(finding("recover-not-run", "recover", f"{TIMER} {what}, and no cron line runs it", remedy))
    if timer.get("ActiveState") == "active" and timer.get("UnitFileState") == "disabled":
        text = f"{TIMER} runs now, and is not enabled: after the next boot it does not"
        found.append(finding("recover-not-run", "recover", text, f"`systemctl enable {TIMER}`"))
    result = (units or {}).get(SERVICE, {})
    if result.get("Result", "success") != "success":
        text = f"the last run failed ({result['Result']}, exit status {result.get('ExecMainStatus', '?')})"
        found.append(finding("recover-fails", "recover", text, f"`systemctl status {SERVICE}`, `safe-snapshot status`"))
    found += [
        finding("look-old", "recover", silence.line, f"`systemctl status {TIMER}`")
        for silence in facts.past.silences
        if silence.runbook == "look-old"
    ]
    return Look("recover", "" if found else well, tuple(found))


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
        remedy = f'`mail_to = "root"` below [notify] in {facts.config_path}, or `apt install prometheus-node-exporter`'
        found.append(finding("nobody-told", "alarms", text, remedy))
    elif is_read is None and exporters is None:
        found.append(not_known("metrics", "whether a node_exporter runs here"))
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
    folder = str(path.parent)
    return any(fnmatch.fnmatch(folder, pattern.rstrip("/")) for one in exporters for pattern in one.folders)


def _textfile(facts: Facts) -> Iterator[Finding]:
    path = facts.config.metrics.textfile
    if path is None:
        return
    others = sorted({folder for one in facts.machine.exporters or () for folder in one.folders})
    if not facts.past.has_textfile_folder:
        if not facts.node:
            return
        remedy = "`apt install prometheus-node-exporter`, or [metrics] textfile"
        yield finding("textfile-folder", "metrics", f"there is no folder {path.parent}: no metrics are written", remedy)
    elif facts.machine.exporters and _is_read(facts) is False:
        reads = f"reads {', '.join(others)}" if others else "reads no folder"
        remedy = (
            f'textfile = "{others[0]}/{path.name}" below [metrics] in {facts.config_path}'
            if others
            else f"start it with --collector.textfile.directory={path.parent}"
        )
        text = f"the metrics are written to {path.parent}, and node_exporter (pid {_pids(facts)}) {reads}"
        yield finding("textfile-not-read", "metrics", text, remedy)
    written_at = facts.past.textfile_at
    if facts.node and written_at is not None and facts.now - written_at > LOOK_SECONDS:
        text = f"{path} was last written at {iso(written_at)}"
        yield finding("metrics-stale", "metrics", text, f"`systemctl status {TIMER}`")


def _pids(facts: Facts) -> str:
    return ", ".join(str(one.pid) for one in facts.machine.exporters or ())


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
