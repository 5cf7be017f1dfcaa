"""A case for each finding: what is broken on a well clinic, and which codes must come of it, no more and no fewer."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from snapshot.journal.broken import BEGUN_ANEW_NOTE
from tests.doctor.kit import RIGHTS, Clinic
from tests.engine.kit import FREEZE, guest_uuid, set_pending
from tests.lab.guest.agentfacts import LINUX, GuestFacts
from tests.lab.guest.agentmodel import Refusal
from tests.lab.node.node import GuestSpec
from tests.unit.kit import record

HOUR, DAY = 3600.0, 86400.0
TASK = "UPID:pve1:00001001:00002001:{start:08X}:vzdump:100:root@pam:"


@dataclass(frozen=True)
class Case:
    """``prepare`` breaks something; the visit must find ``codes``. ``site``: arguments of a clinic of its own."""

    name: str
    prepare: Callable[[Clinic], None]
    codes: frozenset[str]
    site: Mapping[str, Any] = field(default_factory=dict)
    vmids: tuple[int, ...] = ()
    facts: GuestFacts | None = None


RAISED: list[Case] = []
"""A finding is raised."""
NEAR: list[Case] = []
"""It looks alike, and is none."""


def case(*codes: str, into: list[Case] = RAISED, **values: Any) -> Callable[[Callable[[Clinic], None]], None]:
    """A case that must come to ``codes``."""

    def add(prepare: Callable[[Clinic], None]) -> None:
        into.append(Case(prepare.__name__, prepare, frozenset(codes), **values))

    return add


def near(*codes: str, **values: Any) -> Callable[[Callable[[Clinic], None]], None]:
    """A case that must come to ``codes`` alone, none by default."""
    return case(*codes, into=NEAR, **values)


def with_mount(**row: object) -> GuestFacts:
    """A guest with another filesystem."""
    return GuestFacts(osinfo=LINUX.osinfo, fsinfo=(*LINUX.fsinfo, {"name": "vdb", "type": "ext4", "disk": [], **row}))


# -- configuration and ways to PVE


@case("strangers-may-write")
def a_configuration_that_all_may_write(clinic: Clinic) -> None:
    """It names the programs that root runs."""
    clinic.lab.config_path.chmod(0o666)


@case("config-broken")
def a_setting_that_is_none(clinic: Clinic) -> None:
    clinic.rule(vmid=100, colour="blue")


@case("own-command-refused")
def an_own_command_that_others_may_write(clinic: Clinic) -> None:
    path = clinic.lab.run / "hooks.d" / "10-mine"
    path.parent.mkdir()
    path.parent.chmod(0o755)
    path.write_text("#!/bin/sh\n")
    path.chmod(0o777)


@near()
def an_own_command_that_is_roots_alone(clinic: Clinic) -> None:
    path = clinic.lab.run / "hooks.d" / "10-mine"
    path.parent.mkdir()
    path.parent.chmod(0o755)
    path.write_text("#!/bin/sh\n")
    path.chmod(0o755)


@case("strangers-may-write")
def a_metrics_folder_that_all_may_write(clinic: Clinic) -> None:
    clinic.lab.metrics_path.parent.chmod(0o777)


@case("no-way", "not-known")
def no_token_and_no_node(clinic: Clinic) -> None:
    clinic.elsewhere()
    clinic.lab.node.token_file.unlink()


@case("no-token", "not-known")
def a_node_without_a_token(clinic: Clinic) -> None:
    clinic.lab.node.token_file.unlink()


@case("token-unusable", "not-known")
def a_token_that_others_may_read(clinic: Clinic) -> None:
    clinic.lab.node.token_file.chmod(0o644)


@case("api-unreachable", "not-known")
def nobody_listens(clinic: Clinic) -> None:
    clinic.config(api={"port": 1})


@case("api-unreachable", "not-known")
def nobody_listens_and_nobody_stands_by(clinic: Clinic) -> None:
    clinic.elsewhere()
    clinic.config(api={"port": 1})


@case("api-denied", "not-known")
def a_token_that_was_revoked(clinic: Clinic) -> None:
    clinic.elsewhere()
    clinic.lab.node.set(tokens={})


@case("api-failing", "not-known")
def a_server_that_is_not_pves(clinic: Clinic) -> None:
    clinic.elsewhere()
    clinic.lab.node.fault("/version", "body", body="<html>", times=None)


@case("certificate-refused", "not-known")
def a_ca_that_did_not_sign_it(clinic: Clinic) -> None:
    clinic.elsewhere()
    clinic.foreign_ca()


@case("certificate-expires", "clock-off")
def a_certificate_that_ends_soon(clinic: Clinic) -> None:
    clinic.ahead(days=25, keep_now=True)


@near("clock-off")
def a_certificate_that_is_good_for_weeks(clinic: Clinic) -> None:
    clinic.ahead(days=15, keep_now=True)


@case("no-guest-visible", "privilege-missing", "rule-matches-nothing")
def a_token_that_sees_nothing(clinic: Clinic) -> None:
    clinic.grant("Sys.Audit", "Datastore.Audit")
    clinic.rule(vmid=100, policy="prefer")


@case("privilege-missing")
def a_token_that_may_not_freeze(clinic: Clinic) -> None:
    clinic.grant(*(right for right in RIGHTS if not right.endswith("FileSystemMgmt")))


@case("privilege-missing", "not-known")
def a_token_without_sys_audit(clinic: Clinic) -> None:
    clinic.grant(*(right for right in RIGHTS if right != "Sys.Audit"))


@near()
def the_rights_of_pve_8(clinic: Clinic) -> None:
    clinic.grant("VM.Audit", "VM.Snapshot", "VM.Monitor", "Sys.Audit")


@case("no-quorum", site={"nodes": ("pve1", "pve2")})
def a_cluster_without_quorum(clinic: Clinic) -> None:
    clinic.well_elsewhere("pve2")
    rows = '{"data":[{"type":"cluster","name":"lab","quorate":0},{"type":"node","name":"pve1","online":1}]}'
    clinic.lab.node.fault("/cluster/status", "body", body=rows, times=None)


@case("node-offline", site={"nodes": ("pve1", "pve2")})
def a_node_that_is_off(clinic: Clinic) -> None:
    clinic.well_elsewhere("pve2")
    clinic.lab.node.set_node_online("pve2", False)


@near(site={"nodes": ("pve1", "pve2")})
def a_cluster_of_two_that_is_well(clinic: Clinic) -> None:
    clinic.well_elsewhere("pve2")


@case("pve-thaws-early", site={"pve_version": "9.1.9"})
def a_pve_that_thaws_by_itself(clinic: Clinic) -> None:
    pass


@near(site={"pve_version": "9.1.10"})
def the_first_pve_that_does_not(clinic: Clinic) -> None:
    pass


@case("clock-off", "last-run-old", "look-old")
def a_clock_that_is_two_days_ahead(clinic: Clinic) -> None:
    clinic.ahead(days=2)


@case("clock-off")
def a_clock_that_is_a_minute_behind(clinic: Clinic) -> None:
    clinic.ahead(days=-60 / DAY)


@near()
def a_clock_that_is_a_second_ahead(clinic: Clinic) -> None:
    clinic.ahead(days=1 / DAY)


@case("clock-not-synced")
def a_clock_that_follows_nobody(clinic: Clinic) -> None:
    clinic.said["timedatectl"] = "no\n"


@case("not-known")
def a_machine_without_timedatectl(clinic: Clinic) -> None:
    clinic.said["timedatectl"] = None


@case("rule-matches-nothing")
def a_rule_for_a_guest_that_is_gone(clinic: Clinic) -> None:
    clinic.rule(vmid=4711, policy="require")


@near()
def a_rule_by_a_tag_in_other_letters(clinic: Clinic) -> None:
    clinic.lab.node.set_config(100, tags="prod")
    clinic.rule(tag="PROD", policy="prefer")


# -- what runs by itself


@case("no-script")
def a_vzdump_conf_without_a_script(clinic: Clinic) -> None:
    clinic.write("etc/vzdump.conf", "mode: snapshot\n#script: /usr/bin/vzdump-hook\n")


@case("no-script")
def a_line_that_pve_does_not_take_for_a_script(clinic: Clinic) -> None:
    clinic.write("etc/vzdump.conf", "\ufeffscript: /usr/bin/vzdump-hook\nscript : /usr/bin/vzdump-hook\n")


@case("no-script")
def a_script_that_was_taken_out_again(clinic: Clinic) -> None:
    clinic.write("etc/vzdump.conf", "script: /usr/bin/vzdump-hook\nscript: 0\n")


@case("no-script")
def a_node_without_vzdump_conf(clinic: Clinic) -> None:
    (clinic.root / "etc/vzdump.conf").unlink()


@case("no-script", site={"nodes": ("pve1", "pve2")})
def another_node_without_a_script(clinic: Clinic) -> None:
    clinic.well_elsewhere("pve2", script="")


@case("script-other")
def a_script_of_somebody_elses(clinic: Clinic) -> None:
    clinic.write("etc/vzdump.conf", "script: /root/hook.pl\n")
    clinic.write("root/hook.pl", "#!/usr/bin/perl\n", 0o755)


@case("script-other", site={"nodes": ("pve1", "pve2")})
def another_nodes_script_of_somebody_elses(clinic: Clinic) -> None:
    clinic.well_elsewhere("pve2", script="/root/hook.pl")


@case("script-missing")
def a_script_that_is_not_there(clinic: Clinic) -> None:
    (clinic.root / "usr/bin/vzdump-hook").unlink()


@case("script-missing")
def a_script_that_cannot_be_executed(clinic: Clinic) -> None:
    (clinic.root / "usr/bin/vzdump-hook").chmod(0o644)


@case("script-wraps")
def a_script_that_calls_ours(clinic: Clinic) -> None:
    clinic.write("etc/vzdump.conf", "script: /root/hook.sh\n")
    clinic.write("root/hook.sh", '#!/bin/sh\n/usr/bin/vzdump-hook "$@"\n', 0o755)


@near()
def a_link_to_our_script(clinic: Clinic) -> None:
    clinic.write("etc/vzdump.conf", "script: /opt/vzdump-hooks/bin/vzdump-hook\n")
    clinic.write("opt/vzdump-hooks/bin/vzdump-hook", "#!/bin/sh\n", 0o755)


@case("job-script-other")
def a_job_with_a_script_of_its_own(clinic: Clinic) -> None:
    clinic.jobs({"id": "backup-1", "all": 1, "script": "/root/hook.pl"})


@near()
def a_job_that_names_ours(clinic: Clinic) -> None:
    clinic.jobs({"id": "backup-1", "all": 1, "script": "/usr/bin/vzdump-hook"})


@near()
def a_job_that_is_switched_off(clinic: Clinic) -> None:
    clinic.jobs({"id": "a", "all": 1}, {"id": "b", "all": 1, "enabled": 0, "script": "/root/x", "mode": "stop"})


@case("job-mode")
def a_job_that_stops_its_guests(clinic: Clinic) -> None:
    clinic.jobs({"id": "backup-1", "vmid": "100,101", "mode": "stop"})


@case("not-in-a-job")
def a_guest_that_the_only_job_leaves_out(clinic: Clinic) -> None:
    clinic.jobs({"id": "backup-1", "all": 1, "exclude": "100"})


@case("backup-without-hook")
def a_backup_last_night_without_us(clinic: Clinic) -> None:
    clinic.task(TASK.format(start=int(time.time())), time.time() - 60)
    clinic.conf_since(time.time() - DAY)


@near()
def a_backup_from_before_our_script(clinic: Clinic) -> None:
    clinic.task(TASK.format(start=int(time.time())), time.time() - 60)


@near()
def a_backup_that_had_our_hook(clinic: Clinic) -> None:
    clinic.task(TASK.format(start=int(time.time())), time.time() - 60)
    clinic.conf_since(time.time() - DAY)
    with clinic.journal() as journal:
        journal.set_note(f"job:{0x1001}:{0x2001}", "1", time.time())


@case("recover-not-run")
def a_node_without_the_timer(clinic: Clinic) -> None:
    clinic.units(timer="")


@case("recover-not-run")
def a_timer_that_is_not_enabled(clinic: Clinic) -> None:
    clinic.units(state="disabled")


@case("recover-not-run")
def a_node_without_the_timer_for_hours(clinic: Clinic) -> None:
    """That nobody has looked, and that the metrics are old, follows from it."""
    clinic.units(timer="")
    clinic.look_at(seen_at=time.time() - HOUR)
    clinic.metrics_at(time.time() - HOUR)


@case("look-old")
def a_timer_that_runs_and_does_nothing(clinic: Clinic) -> None:
    clinic.look_at(seen_at=time.time() - HOUR)
    clinic.metrics_at(time.time() - HOUR)


@near()
def a_cron_line_in_place_of_the_timer(clinic: Clinic) -> None:
    clinic.units(timer="")
    clinic.write("etc/cron.d/vzdump-hooks", "* * * * * root /usr/bin/safe-snapshot --quiet recover\n")


@case("not-known")
def no_systemd_and_no_cron_line(clinic: Clinic) -> None:
    clinic.said["systemctl"] = None
    clinic.write("etc/cron.d/other", "#* * * * * root /usr/bin/safe-snapshot recover\n")


@case("recover-fails")
def a_recover_that_failed(clinic: Clinic) -> None:
    clinic.units(result="exit-code")


@case("look-old")
def a_look_that_is_an_hour_old(clinic: Clinic) -> None:
    clinic.look_at(seen_at=time.time() - HOUR)


@case("state-folder")
def a_journal_where_nothing_can_be_written(clinic: Clinic) -> None:
    clinic.is_read_only = True


@case("state-full")
def a_disk_that_is_nearly_full(clinic: Clinic) -> None:
    clinic.is_full = True


@case("journal-broken")
def a_journal_that_is_a_folder(clinic: Clinic) -> None:
    clinic.lab.journal_path.unlink()
    clinic.lab.journal_path.mkdir()


@case("journal-broken")
def a_journal_that_is_none(clinic: Clinic) -> None:
    """Whoever freezes sets a broken one aside; the doctor changes nothing."""
    clinic.lab.journal_path.write_bytes(b"no journal" * 1000)


@case("no-journal")
def a_journal_that_is_not_there_yet(clinic: Clinic) -> None:
    clinic.lab.journal_path.unlink()


@case("journal-begun-anew")
def a_journal_that_was_begun_anew(clinic: Clinic) -> None:
    with clinic.journal() as journal:
        journal.set_note(BEGUN_ANEW_NOTE, repr(time.time() - HOUR), time.time())


@case("may-be-frozen")
def a_window_that_was_left_open(clinic: Clinic) -> None:
    with clinic.journal() as journal:
        journal.begin(record("open", 100, at=time.time() - HOUR, state="frozen"))


@case("textfile-folder", "nobody-told")
def no_folder_for_the_metrics(clinic: Clinic) -> None:
    clinic.lab.metrics_path.unlink()
    clinic.lab.metrics_path.parent.rmdir()
    clinic.exporter("--collector.textfile.directory=/elsewhere")


@case("textfile-not-read", "nobody-told")
def an_exporter_that_reads_elsewhere(clinic: Clinic) -> None:
    clinic.exporter("--collector.textfile.directory", "/var/lib/elsewhere", name="/usr/local/bin/node_exporter")


@case("textfile-not-read", "nobody-told")
def an_exporter_whose_textfile_collector_is_off(clinic: Clinic) -> None:
    clinic.exporter("--no-collector.textfile", f"--collector.textfile.directory={clinic.lab.metrics_path.parent}")


@case("textfile-not-read", "nobody-told")
def an_exporter_of_a_container(clinic: Clinic) -> None:
    clinic.exporter(f"--collector.textfile.directory={clinic.lab.metrics_path.parent}", is_elsewhere=True)


@case("not-known")
def an_exporter_that_may_not_be_looked_at(clinic: Clinic) -> None:
    (clinic.root / "proc/77/root").unlink()


@case("not-known")
def a_proc_that_shows_nobody(clinic: Clinic) -> None:
    (clinic.root / "proc/1/cmdline").unlink()


@near()
def an_exporter_that_reads_by_a_pattern(clinic: Clinic) -> None:
    pattern = str(clinic.lab.metrics_path.parent.parent) + "/*"
    clinic.exporter(f"--collector.textfile.directory={pattern}", name="/usr/local/bin/node_exporter")


@case("metrics-stale")
def metrics_of_an_hour_ago(clinic: Clinic) -> None:
    clinic.metrics_at(time.time() - HOUR)


@case("nobody-told")
def a_node_without_an_exporter(clinic: Clinic) -> None:
    clinic.exporter(name="/usr/bin/other")


@near()
def mails_in_place_of_an_exporter(clinic: Clinic) -> None:
    clinic.exporter(name="/usr/bin/other")
    clinic.config(notify={"mail_to": "root"})


@case("letters-not-sent")
def a_mail_that_does_not_go(clinic: Clinic) -> None:
    with clinic.journal() as journal:
        journal.set_note("notify-fails:mail", f'[{time.time() - HOUR}, "no route"]', time.time())


# -- a guest


@case("guest-not-found", vmids=(4711,))
def a_guest_that_does_not_exist(clinic: Clinic) -> None:
    pass


@case("not-examined")
def a_guest_whose_configuration_cannot_be_read(clinic: Clinic) -> None:
    clinic.lab.node.fault("/qemu/100/config", "status", status=500, reason="got timeout", times=None)


@case("agent-off")
def an_agent_that_is_not_switched_on(clinic: Clinic) -> None:
    clinic.lab.node.set_config(100, agent=None)


@case("agent-pending")
def an_agent_that_waits_for_a_start(clinic: Clinic) -> None:
    clinic.lab.node.set_config(100, agent=None)
    set_pending(clinic.lab, agent="1")


@case("agent-silent")
def an_agent_that_is_gone(clinic: Clinic) -> None:
    clinic.silence()


@case("agent-not-asked")
def a_proxy_between_us_and_the_agent(clinic: Clinic) -> None:
    clinic.by_api()
    clinic.lab.node.fault("/agent/", "body", body="{}", times=None)


@case("agent-broken")
def an_agent_that_says_neither_frozen_nor_thawed(clinic: Clinic) -> None:
    clinic.by_api()
    clinic.lab.node.fault("/agent/fsfreeze-status", "body", body='{"data":{"result":"?"}}', times=None)


@case("agent-too-old")
def an_agent_that_does_not_know_the_status(clinic: Clinic) -> None:
    text = "The command guest-fsfreeze-status has not been found"
    clinic.guest.faults.refuse["guest-fsfreeze-status"] = Refusal("CommandNotFound", text)


@case("freeze-blocked")
def an_agent_whose_freeze_is_blocked(clinic: Clinic) -> None:
    clinic.guest.faults.blocked = frozenset({FREEZE})


@case("thaw-blocked")
def an_agent_whose_thaw_is_blocked(clinic: Clinic) -> None:
    """PVE would freeze it in the next backup, and nobody could thaw it."""
    clinic.guest.faults.blocked = frozenset({"guest-fsfreeze-thaw"})


@case("commands-not-known")
def an_agent_that_lists_nonsense(clinic: Clinic) -> None:
    clinic.by_api()
    clinic.lab.node.fault("/agent/info", "body", body='{"data":{"result":{"supported_commands":5}}}', times=None)


@case("filesystems-not-known")
def an_agent_that_does_not_list_its_filesystems(clinic: Clinic) -> None:
    clinic.guest.faults.refuse["guest-get-fsinfo"] = Refusal("GenericError", "no")


@case("freeze-off")
def a_guest_whose_option_turns_freezing_off(clinic: Clinic) -> None:
    clinic.lab.node.set_config(100, agent="1,freeze-fs=0")


@near()
def a_guest_that_is_frozen_in_spite_of_its_option(clinic: Clinic) -> None:
    clinic.lab.only_we_freeze()


@case("frozen-now")
def a_guest_that_is_frozen(clinic: Clinic) -> None:
    clinic.guest.ask(FREEZE)


@case("nothing-to-freeze", facts=GuestFacts(osinfo=LINUX.osinfo, fsinfo=()))
def a_guest_in_which_nothing_can_be_frozen(clinic: Clinic) -> None:
    pass


@case("loop-mount", facts=with_mount(mountpoint="/tmp", name="loop0"))
def a_guest_with_a_loop_mount(clinic: Clinic) -> None:
    pass


@case("virtfs", facts=with_mount(mountpoint="/home/virtfs/joe/usr"))
def a_guest_with_cpanels_mounts(clinic: Clinic) -> None:
    pass


@near(facts=with_mount(mountpoint="/boot/efi", type="vfat"))
def a_guest_with_one_filesystem_that_takes_no_freeze(clinic: Clinic) -> None:
    pass


@near(facts=with_mount(mountpoint="/tmp", name="loop0"))
def a_loop_mount_of_a_guest_that_nobody_freezes(clinic: Clinic) -> None:
    clinic.rule(vmid=100, policy="never")


@case("disk-no-snapshot")
def a_disk_on_plain_lvm(clinic: Clinic) -> None:
    clinic.lab.node.set(storages={**clinic.lab.node.settings.storages, "san": {"type": "lvm"}})
    clinic.lab.node.set_config(100, scsi1="san:vm-100-disk-1,size=8G")


@case("storage-not-known")
def a_pve_that_does_not_say_whether_it_can(clinic: Clinic) -> None:
    clinic.lab.node.fault("/feature", "body", body='{"data":{}}', times=None)


@case("cache-unsafe")
def a_disk_whose_flushes_are_dropped(clinic: Clinic) -> None:
    clinic.lab.node.set_config(100, scsi1="local-lvm:vm-100-disk-1,cache=unsafe,size=8G")


@near()
def a_disk_in_a_file_whose_flushes_are_dropped(clinic: Clinic) -> None:
    clinic.lab.node.set_config(100, scsi1="local:100/vm-100-disk-1.qcow2,cache=unsafe,size=8G")


@case("disk-not-in-backup")
def a_disk_without_a_backup(clinic: Clinic) -> None:
    clinic.lab.node.set_config(100, scsi1="local-lvm:vm-100-disk-1,backup=0,size=8G")


@case("require-not-met", "agent-silent")
def a_guest_that_must_be_frozen_and_cannot(clinic: Clinic) -> None:
    clinic.rule(vmid=100, policy="require")
    clinic.silence()


@near()
def a_guest_that_must_be_frozen_and_can(clinic: Clinic) -> None:
    clinic.rule(vmid=100, policy="require")


@near()
def a_guest_that_must_be_frozen_and_is_off(clinic: Clinic) -> None:
    clinic.rule(vmid=100, policy="require")
    clinic.guest.stop()


@case("label-odd")
def a_tag_that_only_looks_like_a_label(clinic: Clinic) -> None:
    clinic.lab.node.set_config(100, tags="prod;snap-daily")


@near()
def tags_that_are_labels(clinic: Clinic) -> None:
    clinic.lab.node.set_config(100, tags="prod;snap-daily-7;snapper")


@case("replicated")
def a_guest_that_is_replicated(clinic: Clinic) -> None:
    clinic.lab.node.set(replication=[{"id": "100-0", "guest": 100, "type": "local", "target": "pve2"}])


@near()
def a_replication_that_is_switched_off(clinic: Clinic) -> None:
    clinic.lab.node.set(replication=[{"id": "100-0", "guest": 100, "type": "local", "target": "x", "disable": 1}])


@case("guest-locked")
def a_guest_that_is_locked(clinic: Clinic) -> None:
    clinic.lab.node.set_config(100, lock="migrate")


@case("hibernated")
def a_guest_that_is_hibernated(clinic: Clinic) -> None:
    clinic.guest.stop()
    clinic.lab.node.set_config(100, lock="suspended", vmstate="local-lvm:vm-100-state-suspend")


@case("template")
def a_template(clinic: Clinic) -> None:
    clinic.guest.stop()
    clinic.lab.node.set_config(100, template=1)


@case("container")
def a_container(clinic: Clinic) -> None:
    clinic.lab.node.add_guest(GuestSpec(101, kind="lxc"))


@case("processors-stand-still")
def a_guest_that_is_paused(clinic: Clinic) -> None:
    guests = clinic.lab.node.settings.guests
    clinic.lab.node.set(guests={**guests, "100": {**guests["100"], "qmpstatus": "paused"}})
    clinic.guest.pause()
    clinic.is_silent = True


@case("running-not-known")
def a_pve_that_does_not_say_whether_it_runs(clinic: Clinic) -> None:
    clinic.lab.node.fault("/status/current", "body", body='{"data":{}}', times=None)


@case("own-machine")
def the_guest_that_we_run_in(clinic: Clinic) -> None:
    path = clinic.write("product_uuid", guest_uuid(clinic.lab).upper() + "\n")
    clinic.config(local={"product_uuid_file": str(path)})


@case("in-a-window")
def a_guest_in_a_window_of_ours(clinic: Clinic) -> None:
    clinic.open_window(owner=os.getppid())


@case("last-run-old")
def a_guest_whose_last_run_is_two_days_old(clinic: Clinic) -> None:
    clinic.lab.journal_path.unlink()
    clinic.run_at(time.time() - 2 * DAY)
    clinic.look_at()


@near()
def a_guest_that_is_backed_up_weekly(clinic: Clinic) -> None:
    clinic.lab.journal_path.unlink()
    clinic.run_at(time.time() - 2 * DAY)
    clinic.look_at()
    clinic.rule(vmid=100, run_limit_seconds=8 * DAY)


@case("never-guarded")
def a_guest_that_no_run_came_to(clinic: Clinic) -> None:
    clinic.lab.journal_path.unlink()
    clinic.look_at(first_seen_at=time.time() - 2 * DAY)


@case("guest-not-known")
def a_guest_that_writes_nothing_and_does_not_answer(clinic: Clinic) -> None:
    clinic.look_at(state="", why="agent-silent", still_since_at=time.time() - HOUR)
