"""Probes of the ways to PVE: configuration, API, certificate, privileges, clock, nodes and versions. Pure."""

from __future__ import annotations

from collections.abc import Iterator

from snapshot.base.clock import iso
from snapshot.base.text import counted
from snapshot.doctor.facts import Facts, Look, unanswered
from snapshot.doctor.findings import NOT_EXAMINED, Finding, Severity, finding, not_known
from snapshot.errors import ApiDeniedError, ApiUnreachableError
from snapshot.preflight.answers import LEAVES_ALONE, can_be_proven
from snapshot.preflight.checks import ASK_PRIVILEGES, FREEZE_PRIVILEGES
from snapshot.pve.estate import Rights
from snapshot.pve.guests import AgentOption

CLOCK_SECONDS = 5.0
CERTIFICATE_SECONDS = 10 * 86400.0
"""PVE renews its own certificate two weeks before its end, an ACME one a month before."""

SETUPS_TOKENS = "freeze-guard@pve!"
"""How the ids of those begin that `safe-snapshot setup` makes."""

_NEEDED: tuple[tuple[tuple[str, ...], str, str], ...] = (
    (("VM.Audit",), "/vms", "guests are found"),
    (ASK_PRIVILEGES, "/vms", "their agents are asked"),
    (FREEZE_PRIVILEGES, "/vms", "they are frozen and thawed"),
    (("VM.Snapshot",), "/vms", "`safe-snapshot` takes snapshots"),
    (("Sys.Audit",), "/", "other nodes' addresses, jobs and versions are known"),
)
"""Any one of the first, where, and what for: docs/privileges.md has the same table."""


def configuration(facts: Facts) -> Look:
    """The file, own commands, and who else may write where we rely on it."""
    found = [
        finding("config-broken", "configuration", text, f"mend it in {facts.config_path}") for text in facts.problems
    ]
    found += [finding("own-command-refused", "hooks.d", text, _mend(text)) for text in facts.refused]
    found += [finding("strangers-may-write", "folders", text, _mend(text)) for text in facts.strangers]
    if not facts.problems and facts.cluster.listing.is_known:
        found += _rules(facts)
    well = str(facts.config_path) if facts.has_config else f"no file {facts.config_path}: the defaults hold"
    return Look("configuration", well, tuple(found))


def _rules(facts: Facts) -> Iterator[Finding]:
    guests = [row.guest for row in facts.cluster.listing.value or ()]
    for rule in facts.config.guest:
        if not any(rule.matches(g.vmid, g.tags, g.pool, facts.cluster.folds_tags) for g in guests):
            key, value = rule.selector
            text = f"the [[guest]] table with {key} = {value!r} matches no guest that this token may see"
            yield finding("rule-matches-nothing", "configuration", text, f"mend it in {facts.config_path}")


def api(facts: Facts) -> Look:
    """Whether PVE can be asked, and how."""
    found = list(_api(facts))
    version = facts.cluster.version.value or facts.cluster.door.version
    well = f"{facts.way} answers, pve-manager {version or '?'}"
    return Look("api", well if facts.cluster.version.is_known else facts.way, tuple(found))


def _api(facts: Facts) -> Iterator[Finding]:
    door, cluster = facts.cluster.door, facts.cluster
    if facts.no_way is not None:
        yield finding("no-way", "api", facts.no_way.message, facts.no_way.remedy)
        return
    if facts.token_trouble is not None:
        code = "token-unusable" if facts.has_token_file else "no-token"
        text = f"{facts.token_trouble.message}: pvesh does the work on this node"
        yield finding(code, "token", text, facts.token_trouble.remedy)
    if door.error is not None:
        code = "api-failing"
        if door.certificate_refused:
            code = "certificate-refused"
        elif isinstance(door.error, ApiUnreachableError):
            code = "api-unreachable"
        elif isinstance(door.error, ApiDeniedError):
            code = "api-denied"
        trouble = finding(code, "api", door.error.message, door.error.remedy or "`systemctl status pveproxy pvedaemon`")
        yield trouble._replace(severity=Severity.WARNING) if cluster.version.is_known else trouble
    elif not cluster.version.is_known:
        remedy = "`systemctl status pve-cluster pvedaemon` on the node"
        error = cluster.version.error
        text = error.message if error is not None else cluster.version.why
        yield finding("api-failing", "api", text, (error.remedy if error is not None else "") or remedy)
    if cluster.version.is_known and not cluster.listing.is_known:
        yield finding(NOT_EXAMINED, "guests", f"PVE does not list them: {cluster.listing.why}", "try again")
    elif cluster.listing.is_known and not cluster.listing.value:
        remedy = "grant the token VM.Audit (docs/privileges.md), or check that there are guests: `qm list`, `pct list`"
        yield finding("no-guest-visible", "api", "PVE lists no guest at all", remedy)
    for oddity in cluster.oddities[:3]:
        yield finding(NOT_EXAMINED, "guests", oddity, "`pvesh get /cluster/resources --type vm` shows it")


def certificate(facts: Facts) -> Look:
    """How long the API's certificate is good. One that is refused is told with the API."""
    ends_at = facts.cluster.door.certificate_ends_at
    if ends_at is None and facts.is_api_silent:
        return Look("certificate", "", because="api")
    if not facts.cluster.door.name:
        return Look("certificate", "not used: PVE is asked by pvesh")
    if ends_at is None:
        return Look("certificate", "", (not_known("certificate", "its end could not be read"),))
    text = f"good until {iso(ends_at)}"
    if ends_at - facts.now > CERTIFICATE_SECONDS:
        return Look("certificate", text)
    remedy = "on that node `pvecm updatecerts --force && systemctl reload pveproxy`; ACME: `pvenode acme cert renew`"
    return Look("certificate", text, (finding("certificate-expires", "certificate", f"it is {text}", remedy),))


def privileges(facts: Facts) -> Look:
    """Each privilege that a command needs, against what the token has."""
    rights = facts.cluster.rights
    if rights.value is None:
        return unanswered("privileges", rights, "PVE does not tell")
    needed = list(_needed(facts, rights.value))
    lacking = [(some, path, why) for some, path, why, is_held in needed if not is_held]
    held = [f"{_shown(some)} on {path}" for some, path, _, is_held in needed if is_held]
    found = tuple(
        finding(
            "privilege-missing",
            "token",
            f"it lacks {_shown(some)} on {path}: with it {why}",
            _grant(facts, some, path),
        )
        for some, path, why in lacking
    )
    return Look("privileges", ", ".join(held), found)


def _needed(facts: Facts, rights: Rights) -> Iterator[tuple[tuple[str, ...], str, str, bool]]:
    """A right may be given for single guests or for a pool: then it is no lack of all."""
    needed = list(_NEEDED)
    if facts.config.hook.write_notes:
        needed.append((("VM.Backup",), "/vms", "the verdict is written into a backup's notes"))
    if facts.config.thaw.sysrq:
        needed.append((("VM.Console",), "/vms", "SysRq is pressed as the last resort"))
    somewhere = [path for path in rights.paths if path.startswith("/vms/")]
    for some, path, why in needed:
        places = [path, *(somewhere if path == "/vms" else ())]
        yield some, path, why, any(set(some) & rights.on(place) for place in places)


def _shown(some: tuple[str, ...]) -> str:
    return some[0] if len(some) == 1 else f"{some[0]} (before PVE 9: {some[-1]})"


def _grant(facts: Facts, some: tuple[str, ...], path: str) -> str:
    """The commands. A token with separated privileges needs them itself, and its user too (pveum)."""
    if facts.token_id.startswith(SETUPS_TOKENS):
        return "`safe-snapshot setup`, on a node"
    is_old = (facts.cluster.version.value or "").partition(".")[0] in ("7", "8")
    name = some[-1] if is_old and len(some) > 1 else some[0]
    role = "FreezeGuard" + name.replace(".", "")
    user = facts.token_id.partition("!")[0]
    token = f" --tokens '{facts.token_id}'" if "!" in facts.token_id else ""
    return (
        f"`pveum role add {role} --privs {name} && pveum acl modify {path} --users '{user or 'root@pam'}'{token} "
        f"--roles {role}`"
    )


def clock(facts: Facts) -> Look:
    """Our clock against the API host's, and whether the kernel follows a time server."""
    found: list[Finding] = []
    off, synced = facts.cluster.door.clock_off_seconds, facts.machine.is_synced
    remedy = "`chronyc tracking` on both shows which is wrong; `systemctl restart chrony` there"
    is_unasked = off is None and facts.is_api_silent
    if off is None and not is_unasked:
        found.append(not_known("clock", "the API's host was not asked for its time"))
    elif off is not None and abs(off) > CLOCK_SECONDS:
        way = "ahead of" if off > 0 else "behind"
        text = f"this machine's clock is {abs(off):.0f} s {way} that of {facts.cluster.door.name}"
        found.append(finding("clock-off", "clock", text, remedy))
    if synced is None:
        found.append(not_known("clock", "whether it follows a time server is not known (timedatectl gave no answer)"))
    elif not synced:
        text = "the kernel says that this machine's clock follows no time server"
        found.append(finding("clock-not-synced", "clock", text, "`systemctl enable --now chrony`"))
    if is_unasked:
        text = "" if found else "it follows a time server; whether it is as the API's host is not known"
        return Look("clock", text, tuple(found), because="api")
    return Look("clock", "" if found else "as the API's host, and synchronised", tuple(found))


def nodes(facts: Facts) -> Look:
    """Quorum, nodes that are off, versions, and what they mean for the owner of a freeze."""
    cluster = facts.cluster
    if cluster.nodes.value is None:
        return unanswered("nodes", cluster.nodes, "PVE does not tell")
    found: list[Finding] = []
    if cluster.quorate.value is False:
        remedy = "`pvecm status` on a node shows who is missing"
        found.append(finding("no-quorum", "cluster", "the cluster has no quorum: nothing can be written", remedy))
    elif not cluster.quorate.is_known and len(cluster.nodes.value) > 1:
        found.append(not_known("cluster", f"whether it has quorum: {cluster.quorate.why}"))
    for node in cluster.nodes.value:
        subject = f"node {node.name}"
        if not node.online:
            remedy = "`pvecm status` on another node"
            found.append(finding("node-offline", subject, f"{node.name} is offline, or does not report", remedy))
            continue
        version = cluster.versions.get(node.name, "")
        proven = can_be_proven(AgentOption.parse("1"), version)
        if proven is None:
            found.append(not_known(subject, "its version of qemu-server (it takes Sys.Audit on the node)"))
        elif not proven:
            since = ".".join(map(str, LEAVES_ALONE))
            text = (
                f"qemu-server {version}: before {since} PVE thaws by itself: snapshots of running guests are unknown "
                "at best; backups are proven by vzdump's log, with owner vzdump as well as with owner hook"
            )
            remedy = "upgrade PVE; or freeze-fs=0 with ignore_freeze_option (docs/safe-snapshot.md), from 9.1.5 on"
            found.append(finding("pve-thaws-early", subject, text, remedy))
    versions = sorted({version for version in cluster.versions.values() if version})
    text = f"{counted(len(cluster.nodes.value), 'node')}, qemu-server {', '.join(versions) or '?'}"
    return Look("nodes", text, tuple(found))


def _mend(text: str) -> str:
    """The command that a line holds in backticks."""
    parts = text.split("`")
    return f"`{parts[1]}`" if len(parts) >= 3 else "see the line"
