"""The findings: the severity of each code, what it means, and the remedy in general. docs/findings.md is made of it.

A finding's own remedy is more exact: it names the guest, the node, the file. Those of a guest: guestcodes.py.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple


class Code(NamedTuple):
    """One kind of finding. ``severity``: ``error``, ``warning`` or ``note``."""

    severity: str
    about: str
    """``installation`` or ``guest``."""
    meaning: str
    remedy: str


def _of_installation(severity: str, meaning: str, remedy: str) -> Code:
    return Code(severity, "installation", meaning, remedy)


_I = _of_installation

CODES: Mapping[str, Code] = {
    # -- the configuration and the ways to PVE
    "config-broken": _I(
        "error",
        "The configuration cannot be used as it is. Backups go on, but nothing is frozen until it is mended: whom to "
        "freeze cannot be known from a part. Policy `require` holds where it can be read.",
        "Mend the line that the message names; runbooks/config-broken.md.",
    ),
    "own-command-refused": _I(
        "warning",
        "A file of hooks.d is not run, because others than root could change it, or because it is no command.",
        "The message has the command. Look first at what the file does.",
    ),
    "strangers-may-write": _I(
        "warning",
        "Others than root may replace the journal, and with it what is known of frozen guests; or the metrics, and "
        "silence the alerts; or the configuration, which names programs that root runs.",
        "The message has the command that takes the right away.",
    ),
    "no-way": _I(
        "error",
        "There is no way to Proxmox VE: no API token that can be used, and this machine is no node.",
        "On a node `safe-snapshot setup`, elsewhere install.md, by hand.",
    ),
    "no-token": _I(
        "note",
        "No API token: on a node the work is done by pvesh and the agents' sockets. It works; each pvesh call starts a "
        "Perl program, which takes about a second.",
        "`safe-snapshot setup` makes one.",
    ),
    "token-unusable": _I(
        "warning",
        "There is a token file, and it cannot be used: pvesh does the work on this node.",
        "The message says what is wrong with the file.",
    ),
    "api-unreachable": _I(
        "error",
        "The PVE API does not answer where the configuration says. On a node pvesh takes its place, elsewhere a peer.",
        "Check `[api] host` and `port`, and pveproxy on the node.",
    ),
    "api-denied": _I(
        "error",
        "The PVE API refuses the token.",
        "`pveum user token list <user>` shows the tokens; write the secret anew. One of its own that is gone "
        "`safe-snapshot setup` makes anew.",
    ),
    "api-failing": _I(
        "error",
        "The PVE API answers with an error of its own, or with something that is no answer of PVE's.",
        "`systemctl status pveproxy pvedaemon` on the node; `[api] host` must name pveproxy itself.",
    ),
    "certificate-refused": _I(
        "error",
        "The API's certificate is not accepted: nothing is sent to a host that cannot prove who it is.",
        "Set `[api] ca_file` to the CA that signed it, or `[api] host` to a name in it.",
    ),
    "certificate-expires": _I(
        "warning",
        "The API's certificate ends soon. PVE renews its own two weeks before, an ACME one a month before: so that did "
        "not work.",
        "`pvecm updatecerts --force` for PVE's own, `pvenode acme cert renew` for an ACME one.",
    ),
    "no-guest-visible": _I(
        "error",
        "The API lists no guest at all for this token: without VM.Audit PVE shows an empty list and no error.",
        "Grant VM.Audit; privileges.md has the commands.",
    ),
    "privilege-missing": Code(
        "warning",
        "both",
        "The token lacks a privilege. Without VM.GuestAgent.* (before PVE 9: VM.Monitor) nothing is frozen, without "
        "VM.Snapshot `safe-snapshot` takes none, without Sys.Audit other nodes' addresses, jobs and versions stay "
        "unknown.",
        "The finding has the command or commands; privileges.md the whole table.",
    ),
    "no-quorum": _I(
        "error",
        "The cluster has no quorum: nothing can be written below /etc/pve, so no snapshot and no backup begins.",
        "`pvecm status` shows who is missing.",
    ),
    "node-offline": Code(
        "warning",
        "both",
        "A node is offline, or does not report: nothing can be asked of its guests, or done with them.",
        "Bring it back: `pvecm status` on another node. A guest that HA moves is examined there.",
    ),
    "pve-thaws-early": Code(
        "note",
        "both",
        "Before qemu-server 9.1.10 PVE thaws a frozen guest inside its own snapshot task, so a snapshot is `unknown` "
        "at best. Backups with vzdump-hook can be proven, by vzdump's log (vzdump-hook.md, what the verdict rests on).",
        "Upgrade PVE; from 9.1.5 on `freeze-fs=0` with `ignore_freeze_option = true` is a way out (safe-snapshot.md).",
    ),
    "clock-off": _I(
        "warning",
        "This machine's clock and that of the API's host differ by more than five seconds: ages, deadlines of others' "
        "freezes and certificates are judged by them.",
        "`chronyc tracking`, or `timedatectl timesync-status`, on both.",
    ),
    "clock-not-synced": _I(
        "warning",
        "The kernel says that this machine's clock follows no time server.",
        "Install chrony, which PVE has by default: `systemctl enable --now chrony`.",
    ),
    # -- what runs by itself, and who is told
    "no-script": _I(
        "error",
        "vzdump on this node calls no script: its backups are not guarded, and no job record is kept.",
        "`safe-snapshot setup` on that node.",
    ),
    "script-other": _I(
        "error",
        "vzdump calls another script than vzdump-hook: there is one script a job, so its backups are not guarded.",
        "`safe-snapshot setup` on that node moves the script into hooks.d, where it is called as vzdump called it "
        "(install.md, a script that you have already).",
    ),
    "script-missing": _I(
        "error",
        "The script that vzdump shall call is missing or not executable: every backup job fails before it begins.",
        "Install the package, or take the `script:` line out.",
    ),
    "script-wraps": _I(
        "warning",
        "vzdump calls a script that calls vzdump-hook. Whatever it does behind our post-restart, it does with the "
        "guest frozen.",
        "Take that call out of it; then `safe-snapshot setup` moves it into hooks.d.",
    ),
    "job-script-other": _I(
        "error",
        "A backup job names a script of its own, which takes the place of the nodes' one: its backups are not guarded.",
        "`safe-snapshot setup --jobs` takes it out, and keeps it in hooks.d; of a job of several nodes it says how.",
    ),
    "job-mode": _I(
        "note",
        "A backup job's mode is not `snapshot`. Mode `stop` shuts the guests down (their backups are `offline`), mode "
        "`suspend` pauses them, and nothing is frozen (`crash-consistent`).",
        "`pvesh set /cluster/backup/<id> --mode snapshot`, where the guests have an agent.",
    ),
    "backup-without-hook": _I(
        "warning",
        "Backup jobs of the last nights ran on this node, and vzdump-hook was not called in them.",
        "runbooks/backup-without-hook.md; where a no-script finding stands beside it, that is why.",
    ),
    "recover-not-run": _I(
        "error",
        "Nothing runs `safe-snapshot recover`: neither the timer nor a cron line. What a crash of the node's userland "
        "leaves frozen stays so, and nobody notices a freeze by others.",
        "`safe-snapshot setup` enables the timer; `systemctl start safe-snapshot-recover.timer` starts one that was "
        "stopped; without systemd the cron line of install.md.",
    ),
    "recover-fails": _I(
        "warning",
        "The last `safe-snapshot recover` of the unit failed.",
        "`systemctl status safe-snapshot-recover.service` has its line; exit status 8 means that a guest needs you.",
    ),
    "look-old": _I(
        "warning",
        "Nobody has looked at this node's guests for a quarter of an hour; it is due each minute.",
        "runbooks/look-old.md.",
    ),
    "state-folder": _I(
        "error",
        "The journal's folder cannot be written to: no guest is frozen without a journal.",
        "`install -d -m 700 /var/lib/vzdump-hooks`, or another `[journal] path`.",
    ),
    "state-full": _I(
        "warning",
        "The disk under the journal is nearly full. A window that cannot be recorded is none: the guest is not frozen.",
        "Free some space there.",
    ),
    "journal-broken": _I(
        "error",
        "The journal cannot be read. A broken one is set aside and begun anew by the next run.",
        "`safe-snapshot recover`, then runbooks/journal-begun-anew.md.",
    ),
    "no-journal": _I(
        "note",
        "There is no journal yet: it begins with the first backup, snapshot or recover.",
        "Nothing to do on a new installation; else look at `[journal] path`.",
    ),
    "journal-begun-anew": _I(
        "warning",
        "A broken journal was set aside within the last day.",
        "runbooks/journal-begun-anew.md.",
    ),
    "may-be-frozen": Code(
        "error",
        "both",
        "A window is open that nobody sees to, or that is past its deadline: its guest may be frozen.",
        "`safe-snapshot status`, then `safe-snapshot recover`; runbooks/guest-still-frozen.md.",
    ),
    "textfile-folder": _I(
        "warning",
        "The folder for the metrics is not there, so none are written and no alert can come.",
        '`safe-snapshot setup` makes it; or set `[metrics] textfile`, to `""` where none are wanted.',
    ),
    "textfile-not-read": _I(
        "warning",
        "node_exporter runs here and reads another folder than the one that the metrics are written to, or none.",
        "`safe-snapshot setup` where the configuration names none; else set `[metrics] textfile` to a file in its "
        "folder, or its `--collector.textfile.directory` to ours.",
    ),
    "metrics-stale": _I(
        "warning",
        "The metrics file has not been written for more than a quarter of an hour; `recover` writes it each minute.",
        "runbooks/metrics-stale.md.",
    ),
    "nobody-told": _I(
        "warning",
        "No node_exporter reads the metrics, none are pushed, and `[notify]` is empty: nobody would hear of an alarm.",
        '`safe-snapshot setup`, or `mail_to = "root"` in `[notify]`; `safe-snapshot notify --test` tries it.',
    ),
    "letters-not-sent": _I(
        "warning",
        "A mail, webhook or heartbeat of `[notify]` does not arrive.",
        "`safe-snapshot notify --test` shows the error.",
    ),
    "rule-matches-nothing": _I(
        "note",
        "A `[[guest]]` table of the configuration matches no guest: a slip of the pen, or a guest that is gone.",
        "Mend the vmid, tag or pool, or take the table out.",
    ),
    # -- what nobody could say
    "not-known": Code(
        "note",
        "both",
        "It cannot be asked from here: another machine's file, a privilege that the token lacks, a command that is not "
        "there. Nothing is called well that was not asked.",
        "Run `safe-snapshot doctor` where it can be asked, most often on the node as root.",
    ),
    "not-examined": Code(
        "warning",
        "both",
        "It should have been asked and could not be: PVE gave no answer, or the time for this run was used up.",
        "`safe-snapshot doctor <vmid>` examines one guest; `--within` gives it more time.",
    ),
}
"""Those of an installation, and those that both may have."""
