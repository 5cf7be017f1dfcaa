"""The alerts: one table, the source of the rule file, the mixin and the list of runbooks.

An expression's ``%(name)s`` are the settings of SETTINGS: the rule file has their defaults, the mixin leaves them to
its user. Names, labels and annotations follow the guidelines of the monitoring mixins.
"""

from __future__ import annotations

from dataclasses import dataclass

from snapshot.journal import families as f
from snapshot.journal import labelfamilies as labels
from snapshot.journal.family import Family

PREFIX = "VzdumpHooks"
"""What the names of all alerts begin with."""

SETTINGS: dict[str, str] = {
    "freezeSelector": "",
    "guestLabels": "cluster, id, vmid",
    "frozenGraceSeconds": "30",
    "notConsistentSeconds": "259200",
    "eventWindow": "6h",
    "memory": "30d",
    "staleSeconds": "93600",
    "agentDownFor": "5m",
    "staleFor": "10m",
    "notKnownSeconds": "1800",
    "lookSeconds": "900",
    "eventSeconds": "86400",
    "drillSeconds": "900",
    "textfile": ".*vzdump_hooks[.]prom",
    "runbookURLPattern": "file:///usr/share/doc/vzdump-hooks/runbooks/%s.md",
}
SETTING_HELP: dict[str, str] = {
    "freezeSelector": 'which series the alerts are about: more matchers, such as `job="node"`',
    "guestLabels": "what identifies a guest wherever it runs; `cluster` is for those who scrape several and add it",
    "frozenGraceSeconds": "how long past its own deadline a window may stay open before it is critical",
    "notConsistentSeconds": "how long a guest may go without a consistent snapshot or backup: 3 days",
    "eventWindow": "how long an event (a guard's thaw, a hook's error) is shown",
    "memory": "how far back an event counter is looked for before it is taken for new",
    "staleSeconds": "how old the metrics of a node may get: 26 hours fit a nightly backup",
    "agentDownFor": "for how long VzdumpHooksAgentDown holds before it fires",
    "staleFor": "for how long VzdumpHooksMetricsStale holds before it fires",
    "notKnownSeconds": "how long nobody may know whether a guest that writes nothing is frozen",
    "lookSeconds": "how old the last look at a node's guests may get: it is due each minute",
    "eventSeconds": "how long an event with a time of its own (a backup without the hook, a new journal) is shown",
    "drillSeconds": "how long VzdumpHooksDrill fires after `safe-snapshot drill`",
    "textfile": "the textfile's path, as a regular expression",
    "runbookURLPattern": "where the runbooks are; `%s` is a runbook's name. As they stand on a node with the package",
}


def _of(family: Family, *matchers: str) -> str:
    """A selector of the family's series; what an empty ``freezeSelector`` leaves behind is taken away by ``plain``."""
    return f"{family.name}{{{''.join(f'{matcher}, ' for matcher in matchers)}%(freezeSelector)s}}"


def plain(expr: str) -> str:
    """An expression whose settings are filled in, without what an empty selector left. The mixin does the same."""
    return expr.replace(", }", "}").replace("{}", "")


_RUN = _of(f.LAST_RUN)
_OF_A_LABEL = f'{{__name__=~"{labels.LABEL_LAST.name}|{labels.LABEL_EXPECTED.name}", %(freezeSelector)s}}'
_NOT_MOVED = f"""
unless on (%(guestLabels)s, node) (
  max by (%(guestLabels)s, node) ({_RUN})
  < on (%(guestLabels)s) group_left ()
  max by (%(guestLabels)s) ({_RUN})
)"""
"""Leaves out what the node that a guest has left says of it: another node has news of a later run."""


def _failed(stages: str) -> str:
    """Guests whose last run failed at one of the stages (``a|b``), by the node that they are on."""
    matches = "=~" if "|" in stages else "="
    return _of(f.LAST_FAILURE, f'stage{matches}"{stages}"') + f" == 1{_NOT_MOVED}"


def _happened(family: Family) -> str:
    """Series of a counter that grew within the event window, or appeared in it with a value above 0.

    The second part is for an event that nobody scraped within the window: its value is above the last one before.
    """
    metric = _of(family)
    return f"""increase({metric}[%(eventWindow)s]) > 0
or {metric} > last_over_time({metric}[%(memory)s] offset %(eventWindow)s)
or (
  {metric} > 0
  unless last_over_time({metric}[%(memory)s] offset %(eventWindow)s)
)"""


@dataclass(frozen=True)
class Alert:
    """One alerting rule; its runbook is docs/runbooks/<the name in kebab case, without the prefix>.md."""

    name: str
    """Without the prefix."""
    severity: str
    expr: str
    summary: str
    description: str
    hold: str = "0m"
    """The rule's ``for``."""

    @property
    def alert(self) -> str:
        """The name as it is in Prometheus."""
        return PREFIX + self.name

    @property
    def runbook(self) -> str:
        """The runbook's name, which its file in docs/runbooks has before ``.md``."""
        return "".join(f"-{c.lower()}" if c.isupper() else c for c in self.name).lstrip("-")


_NODE = "node {{ $labels.node }}{{ with $labels.cluster }} of cluster {{ . }}{{ end }}"
_NAME = (
    f'{{{{ with printf "{f.GUEST_INFO.name}{{cluster=%q, node=%q, id=%q}}" '
    "$labels.cluster $labels.node $labels.id | query }}"
    ' ({{ . | first | label "name" }}){{ end }}'
)
"""Asked for when the text is written: a join in the expression would end the alert where the name is not known, or is
known twice, and would begin another one when the guest is renamed."""
_GUEST = f"Guest {{{{ $labels.id }}}}{_NAME} on {_NODE}"
_RECENT_RUN = f"and on (%(guestLabels)s, node, source) (time() - {_RUN} < 2 * 86400)"

ALERTS = (
    Alert(
        "GuestStillFrozen",
        "critical",
        f"""(
  time() - {_of(f.FROZEN_SINCE)}
  > %(frozenGraceSeconds)s + ({_of(f.WINDOW_LIMIT)} or 0 * {_of(f.GUEST_FROZEN)})
)
and {_of(f.GUEST_FROZEN)} == 1
unless on (%(guestLabels)s) (
  max by (%(guestLabels)s) ({_of(f.LAST_CONSISTENT)})
  > on (%(guestLabels)s)
  max by (%(guestLabels)s) ({_of(f.FROZEN_SINCE)})
)""",
        "A guest's file systems have stayed frozen past the deadline.",
        f"{_GUEST} may have been frozen for {{{{ $value | humanizeDuration }}}} (by {{{{ $labels.source }}}}): its "
        "writes stand still. The guard goes on thawing; act now.",
    ),
    Alert(
        "ThawFailed",
        "warning",
        _failed("thaw"),
        "The last thaw of a guest could not be confirmed in time.",
        f"{_GUEST}: the thaw of the last {{{{ $labels.source }}}} run failed ({{{{ $labels.reason }}}}). Clears with "
        "the next good run.",
    ),
    Alert(
        "FreezeFailed",
        "warning",
        _failed("preflight|freeze|hold"),
        "The last snapshot or backup of a guest is not filesystem-consistent.",
        f"{_GUEST}: the last {{{{ $labels.source }}}} run failed at stage {{{{ $labels.stage }}}} "
        "({{ $labels.reason }}). Clears with the next good run.",
    ),
    Alert(
        "DiskContradicts",
        "warning",
        _failed("disk"),
        "The disk in the last snapshot of a guest says that it was in use, whatever its agent says.",
        f"{_GUEST}: every answer called the last snapshot consistent, and its disk says that it was in use. The "
        "verdict has fallen to crash-consistent. Clears with the next good run.",
    ),
    Alert(
        "GuardNotArmed",
        "warning",
        _failed("guard"),
        "No guard could be armed for a guest, so it was not frozen.",
        f"{_GUEST}: the last {{{{ $labels.source }}}} run had no guard, and without one nothing is frozen by us. It is "
        "crash-consistent. Clears with the next good run.",
    ),
    Alert(
        "WindowOverLimit",
        "warning",
        f"{_of(f.LAST_WINDOW)} > {_of(f.WINDOW_LIMIT)}{_NOT_MOVED}",
        "A guest was frozen for longer than its limit.",
        f"{_GUEST} was frozen for {{{{ $value | humanizeDuration }}}} in the last {{{{ $labels.source }}}} run, which "
        "is more than its max_window_seconds. Clears with the next window within the limit.",
    ),
    Alert(
        "GuardIntervened",
        "warning",
        f"(\n{_happened(f.GUARD_THAWS)}\n)\n{_RECENT_RUN}",
        "The guard had to thaw a guest.",
        f"{_GUEST} was thawed by its guard ({{{{ $labels.cause }}}}) in a {{{{ $labels.source }}}} run: the process "
        "that had frozen it died, hung or was too slow.",
    ),
    Alert(
        "NotConsistentSince",
        "warning",
        f"""(
  time() - max by (%(guestLabels)s) ({_of(f.LAST_CONSISTENT)}) > %(notConsistentSeconds)s
  and
  max by (%(guestLabels)s) ({_RUN}) > max by (%(guestLabels)s) ({_of(f.LAST_SUCCESS)})
)
+ on (%(guestLabels)s) group_right ()
0 * (
  max by (%(guestLabels)s, node) ({_RUN})
  == on (%(guestLabels)s) group_left ()
  max by (%(guestLabels)s) ({_RUN})
)""",
        "A guest has had no consistent snapshot or backup for days.",
        f"{_GUEST} {{{{ if gt $value 1e9 }}}}has never had a consistent snapshot or backup{{{{ else }}}}has had no "
        "consistent snapshot or backup for {{ $value | humanizeDuration }}{{ end }}, and the last run failed too.",
    ),
    Alert(
        "LastRunOld",
        "warning",
        f"""(
  time() - max by (%(guestLabels)s) ({_RUN}) > max by (%(guestLabels)s) ({_of(f.RUN_LIMIT)})
)
+ on (%(guestLabels)s) group_right ()
0 * max by (%(guestLabels)s, node) ({_of(f.RUN_LIMIT)})""",
        "A guest has had no guarded snapshot or backup for longer than its limit.",
        f"{_GUEST} runs, and its last guarded snapshot or backup, whatever became of it, is "
        "{{ $value | humanizeDuration }} old.",
        hold="%(staleFor)s",
    ),
    Alert(
        "NeverGuarded",
        "warning",
        f"""(
  time() - max by (%(guestLabels)s, node) ({_of(f.SEEN_SINCE)})
  > max by (%(guestLabels)s, node) ({_of(f.RUN_LIMIT)})
)
unless on (%(guestLabels)s) {_RUN}""",
        "A running guest has never had a guarded snapshot or backup.",
        f"{_GUEST} has run there for {{{{ $value | humanizeDuration }}}}, and no run of ours has ever come to it.",
        hold="%(staleFor)s",
    ),
    Alert(
        "GuestNotKnown",
        "warning",
        f"time() - {_of(f.NOT_KNOWN_SINCE)} > %(notKnownSeconds)s",
        "Nobody knows whether a guest is frozen.",
        f"{_GUEST} has written nothing for {{{{ $value | humanizeDuration }}}}, and nobody could tell whether it is "
        "frozen ({{ $labels.why }}).",
    ),
    Alert(
        "LabelMissed",
        "warning",
        f"""(
  time()
  - max by (%(guestLabels)s, label) ({_OF_A_LABEL})
  > max by (%(guestLabels)s, label) ({_of(labels.LABEL_LIMIT)})
)
+ on (%(guestLabels)s, label) group_right ()
0 * max by (%(guestLabels)s, node, label) ({_of(labels.LABEL_LIMIT)})""",
        "A label that a guest's tag asks for did not come.",
        f"{_GUEST} asks by its tag for {{{{ $labels.label }}}} snapshots, and for {{{{ $value | humanizeDuration }}}} "
        "none was taken.",
        hold="%(staleFor)s",
    ),
    Alert(
        "LabelLeftOut",
        "warning",
        f"{_of(labels.LABEL_LEFT_OUT)} == 1",
        "The last run of a label left a guest out.",
        f"{_GUEST} got no snapshot in the last {{{{ $labels.label }}}} run. `safe-snapshot status` on the node that "
        "took it says why. Clears with the next one that the guest gets.",
    ),
    Alert(
        "BackupWithoutHook",
        "warning",
        f"time() - {_of(f.LAST_UNHOOKED)} < %(eventSeconds)s",
        "A backup job ran without vzdump-hook.",
        f"On {_NODE} "
        "a vzdump task ended {{ $value | humanizeDuration }} ago in which vzdump-hook was "
        "not called: its guests were not guarded. `safe-snapshot status` there names the task.",
    ),
    Alert(
        "ClustersMixed",
        "warning",
        f"""(
  count by (%(guestLabels)s) (
    max by (%(guestLabels)s, node) (
      {_of(f.GUEST_RUNNING)} == 1
      and on (cluster, job, instance, node) (time() - {_of(f.LAST_LOOK)} < %(lookSeconds)s)
    )
  ) > 1
)
or count by (cluster, job, node) ({_of(f.LAST_LOOK)}) > 1""",
        "Two clusters cannot be told apart: their series need a label `cluster`.",
        "{{ if $labels.id }}Guest {{ $labels.id }} runs on {{ $value }} nodes at once"
        "{{ else }}{{ $value }} machines of job {{ $labels.job }} call themselves node {{ $labels.node }}{{ end }}"
        "{{ with $labels.cluster }}, all of cluster {{ . }}{{ end }}. What is said of one may be about the other: each "
        "cluster's targets need a label `cluster` of their own.",
        hold="%(staleFor)s",
    ),
    Alert(
        "ConfigBroken",
        "warning",
        f"{_of(f.CONFIG_BROKEN)} == 1",
        "The configuration cannot be used as it is.",
        f"On {_NODE} "
        "the configuration has a mistake: what can be read holds, defaults stand for the "
        "rest. `safe-snapshot status` there says which.",
        hold="%(agentDownFor)s",
    ),
    Alert(
        "LookOld",
        "warning",
        f"time() - {_of(f.LAST_LOOK)} > %(lookSeconds)s",
        "Nobody looks at a node's guests any more.",
        f"On {_NODE} "
        "the last look at the guests is {{ $value | humanizeDuration }} old: a freeze by "
        "others, or one that was left behind, would not be noticed.",
        hold="%(agentDownFor)s",
    ),
    Alert(
        "JournalBegunAnew",
        "warning",
        f"time() - {_of(f.BEGUN_ANEW)} < %(eventSeconds)s",
        "A broken journal was set aside and begun anew.",
        f"On {_NODE} "
        "the journal was found broken {{ $value | humanizeDuration }} ago. What could be "
        "read was carried over; look at the disk.",
    ),
    Alert(
        "Drill",
        "warning",
        f"time() - {_of(f.LAST_DRILL)} < %(drillSeconds)s",
        "THIS IS A DRILL: safe-snapshot drill was held, and its alert arrives.",
        f"THIS IS A DRILL. On {_NODE} "
        "`safe-snapshot drill` was held {{ $value | humanizeDuration }} "
        "ago. It comes as any alert of severity warning would, and goes by itself.",
    ),
    Alert(
        "AgentDown",
        "warning",
        f"{_of(f.AGENT_UP)} == 0{_NOT_MOVED}",
        "A guest agent does not answer.",
        f"{_GUEST}: the guest agent did not answer when it was last asked. Snapshots and backups of this guest are "
        "crash-consistent only.",
        hold="%(agentDownFor)s",
    ),
    Alert(
        "HookErrors",
        "warning",
        _happened(f.HOOK_ERRORS),
        "A vzdump hook phase failed with an error of ours.",
        f"On {_NODE} "
        "the hook phase {{ $labels.phase }} ended with an error. No guest is named here: "
        "the backup's task log has the line, with the guest's vmid.",
    ),
    Alert(
        "MetricsStale",
        "warning",
        f"""(time() - node_textfile_mtime_seconds{{file=~"%(textfile)s", %(freezeSelector)s}} > %(staleSeconds)s)
or (time() - push_time_seconds{{job="vzdump_hooks", %(freezeSelector)s}} > %(staleSeconds)s)
or (
  max by (cluster, job, instance) (last_over_time({_of(f.BUILD_INFO)}[2d]))
  unless max by (cluster, job, instance) ({_of(f.BUILD_INFO)})
)
or absent({_of(f.BUILD_INFO)})""",
        "Freeze metrics are old, or gone.",
        "{{ if $labels.instance }}The freeze metrics of {{ $labels.instance }} (job {{ $labels.job }}"
        "{{ with $labels.cluster }}, cluster {{ . }}{{ end }}) are older than they may be, or gone"
        "{{ else }}No node exports freeze metrics{{ end }}: what is frozen there, and what failed, is not seen. "
        "No guest can be named.",
        hold="%(staleFor)s",
    ),
)
