"""What setup does on a node, what it leaves alone, and what --undo says of what was changed since."""

from __future__ import annotations

import codecs
import contextlib
import json
import os
from pathlib import Path

import pytest

from snapshot.config import reading
from snapshot.config.settings import Config, JournalConfig
from snapshot.config.token import token
from snapshot.errors import ConfigError, SafeSnapshotError
from snapshot.journal.store import Journal
from snapshot.setup import back
from snapshot.setup.node import node_name
from snapshot.setup.record import FACTS, turn
from snapshot.setup.step import ChangedMeanwhileError
from tests.lab.node.node import GuestSpec
from tests.lab.node.ops_backup import read_jobs, write_jobs
from tests.lab.node.usercfg import CfgUser, UserFile
from tests.setup.kit import Bench
from tests.unit.kit import START, VirtualClock, record

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="setup is root's")

USER, ROLE = "freeze-guard@pve", "FreezeGuard"
READS = "--collector.textfile.directory"


@pytest.fixture
def bench(folder: Path) -> Bench:
    return Bench(folder)


def users(bench: Bench) -> UserFile:
    return UserFile(bench.lab.root)


def script(bench: Bench, name: str = "mine.pl", text: str = "#!/bin/sh\nexit 0\n") -> Path:
    path = bench.root / "root" / name
    path.write_text(text)
    path.chmod(0o700)
    return path


def left(bench: Bench) -> dict[str, str]:
    return {done.what: done.left for done in bench.take_back() if done.left}


# -- role, user, token ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("version", "agents"),
    [("9.2.6", {"VM.GuestAgent.Audit", "VM.GuestAgent.FileSystemMgmt"}), ("8.4.0", {"VM.Monitor"})],
)
def test_the_token_may_do_what_is_needed_in_the_words_of_this_pve_and_no_more(
    folder: Path, version: str, agents: set[str]
) -> None:
    bench = Bench(folder, pve_version=version)
    bench.set_up()
    found = token(reading.load(bench.places.config))
    assert found.id == f"{USER}!hooks-pve1"
    assert users(bench).secret(found.id) == found.secret
    assert users(bench).privileges(found.id, "/vms/100") == {
        "VM.Audit",
        "VM.Snapshot",
        "Sys.Audit",
        "Datastore.Audit",
        *agents,
    }


def test_what_the_configuration_asks_for_takes_more_and_a_later_wish_is_added(bench: Bench) -> None:
    bench.set_up()
    bench.write_config("[hook]\nwrite_notes = true\n[thaw]\nsysrq = true\n")
    assert next(step.what for step in bench.set_up().steps) == (
        f"role {ROLE}: add VM.Backup Datastore.AllocateSpace VM.Console"
    )
    assert users(bench).get().roles[ROLE] >= {"VM.Backup", "Datastore.AllocateSpace", "VM.Console", "VM.Audit"}
    bench.take_back()
    assert ROLE not in users(bench).get().roles


def test_after_an_upgrade_from_pve_8_the_role_gets_the_agents_own_privileges(folder: Path) -> None:
    bench = Bench(folder, pve_version="8.4.0")
    bench.set_up()
    bench.lab.set(pve_version="9.2.6")
    (step,) = bench.set_up().steps
    assert step.what == f"role {ROLE}: add VM.GuestAgent.Audit VM.GuestAgent.FileSystemMgmt"
    assert users(bench).get().roles[ROLE] >= {"VM.GuestAgent.Audit", "VM.GuestAgent.FileSystemMgmt"}
    assert not left(bench)


def test_the_secret_is_in_its_file_alone_which_nobody_else_can_read(
    bench: Bench, capfd: pytest.CaptureFixture[str]
) -> None:
    secret_told = bench.set_up()
    secret = token(reading.load(bench.places.config)).secret
    assert bench.token_file.stat().st_mode & 0o777 == 0o600
    shown = json.dumps([[step.what, *step.shows()] for step in secret_told.steps])
    assert secret not in shown + "".join(capfd.readouterr())
    holders = [name for name, (*_, data) in bench.files().items() if secret.encode() in data]
    assert sorted(holders) == sorted([str(bench.token_file), f"{bench.lab.root}/etc/pve/priv/token.cfg"])


def test_a_secret_that_was_lost_is_replaced(bench: Bench) -> None:
    bench.set_up()
    earlier = token(reading.load(bench.places.config)).secret
    bench.token_file.unlink()
    assert len(bench.set_up().steps) == 1
    found = token(reading.load(bench.places.config))
    assert found.secret != earlier
    assert users(bench).secret(found.id) == found.secret


def test_a_token_of_that_name_that_setup_did_not_make_is_left_alone(bench: Bench) -> None:
    with users(bench).changed() as config:
        config.users[USER] = CfgUser(tokens={"hooks-pve1": ("by hand", False)})
    bench.set_up()
    assert token(reading.load(bench.places.config)).id == f"{USER}!hooks-pve1-2"
    assert left(bench) == {f"rights of {USER}": "still used by its tokens hooks-pve1", f"role {ROLE}": f"{USER} has it"}
    assert list(users(bench).get().users[USER].tokens) == ["hooks-pve1"]


def test_a_user_that_somebody_else_made_keeps_its_rights_and_stays(bench: Bench) -> None:
    with users(bench).changed() as config:
        config.users[USER] = CfgUser(comment="mine")
        config.roles[ROLE] = {"VM.Audit"}
        config.acl["/pool/prod", USER, ROLE] = True
    before = users(bench).get()
    found = bench.set_up()
    assert f"{USER} was made by somebody else: it keeps the rights that it has" in found.notes
    assert users(bench).get().acl == before.acl
    assert users(bench).get().roles[ROLE] > {"VM.Audit"}
    assert not left(bench)
    assert users(bench).get() == before


def test_a_user_that_somebody_else_made_and_disabled_is_not_enabled(bench: Bench) -> None:
    with users(bench).changed() as config:
        config.users[USER] = CfgUser(enable=False)
    with pytest.raises(ConfigError, match="is disabled"):
        bench.set_up()
    assert not bench.places.record.exists()


def test_a_token_that_is_configured_already_is_kept(bench: Bench) -> None:
    with users(bench).changed() as config:
        config.users["root@pam"].tokens["vzdump-hooks"] = ("", False)
    bench.token_file.write_text("root@pam!vzdump-hooks=abc\n")
    bench.token_file.chmod(0o600)
    before = bench.files()[str(bench.token_file)]
    found = bench.set_up()
    assert "the token root@pam!vzdump-hooks is there and is kept" in found.notes
    assert not any("role" in step.what or "user" in step.what for step in found.steps)
    assert bench.files()[str(bench.token_file)] == before
    assert not left(bench)
    assert bench.files()[str(bench.token_file)] == before


def test_a_configured_token_that_pve_does_not_know_is_not_built_upon(bench: Bench) -> None:
    bench.token_file.write_text("root@pam!gone=abc\n")
    bench.token_file.chmod(0o600)
    with pytest.raises(ConfigError, match="PVE does not know the token root@pam!gone"):
        bench.set_up()
    assert not bench.places.vzdump_conf.exists()


def test_nodes_of_a_cluster_share_user_and_role_and_the_last_one_takes_them_away(folder: Path) -> None:
    first = Bench(folder, nodes=("pve1", "pve2"))
    before = users(first).get()
    second = Bench.__new__(Bench)
    second.lab = first.lab
    second.add_node(folder, "pve2")
    first.set_up()
    link = first.places.pve / "local"
    link.unlink()
    link.symlink_to("nodes/pve2")
    assert node_name(second.places) == "pve2"
    for step in (found := second.plan()).steps:
        step.do(back.Record.open(second.places.record))
    assert not [step.what for step in found.steps if step.what.startswith(("role", "user", "rights"))]
    assert sorted(users(first).get().users[USER].tokens) == ["hooks-pve1", "hooks-pve2"]
    assert left(first) == {
        f"user {USER}": "still used by its tokens hooks-pve2",
        f"role {ROLE}": f"{USER} has it",
    }
    assert not first.places.record.exists()
    assert users(first).secret(f"{USER}!hooks-pve2")
    assert not left(second)
    assert users(first).get() == before


def test_a_user_that_somebody_else_has_taken_over_since_stays(bench: Bench) -> None:
    bench.set_up()
    with users(bench).changed() as config:
        config.users[USER].comment = "ours now"
    assert left(bench) == {f"user {USER}": "its comment says that somebody else has it now"}
    assert USER in users(bench).get().users


# -- the configuration ------------------------------------------------------------------------------------------------


def test_the_textfile_goes_where_the_running_node_exporter_looks(bench: Bench) -> None:
    folder = bench.root / "textfiles"
    bench.run_exporter("/usr/local/bin/node_exporter", f"-collector.textfile.directory={folder}")
    bench.set_up()
    assert reading.load(bench.places.config).metrics.textfile == folder / "vzdump_hooks.prom"
    assert folder.stat().st_mode & 0o777 == 0o755
    (folder / "vzdump_hooks.prom").touch()
    assert not left(bench)
    assert not folder.exists()


@pytest.mark.parametrize(
    ("flags", "word"),
    [
        ([], "runs without --collector.textfile.directory"),
        (["--no-collector.textfile", f"{READS}=/srv/t"], "with its textfile collector switched off"),
        (["--collector.disable-defaults", f"{READS}=/srv/t"], "with its textfile collector switched off"),
        ([f"{READS}=/srv/*", READS, "/opt/[ab]"], "reads /srv/*, /opt/[ab], and [metrics] textfile must name one"),
    ],
)
def test_no_metrics_go_where_a_node_exporter_does_not_look_and_the_operator_is_told(
    bench: Bench, flags: list[str], word: str
) -> None:
    bench.run_exporter("/usr/local/bin/node_exporter", *flags)
    assert reading.load(bench.places.config).metrics == Config().metrics
    (note,) = [note for note in bench.set_up().notes if "node_exporter" in note]
    assert note.startswith("node_exporter (pid 12) ")
    assert word in note
    assert f"the metrics go to {bench.places.textfiles}" in note
    assert reading.load(bench.places.config).metrics == Config().metrics
    assert bench.places.textfiles.is_dir()


def test_a_folder_of_a_containers_node_exporter_is_not_made(bench: Bench) -> None:
    folder = bench.root / "textfiles"
    bench.run_exporter("node_exporter", f"{READS}={folder}", root=bench.folder)
    assert any("runs in a container" in note for note in bench.set_up().notes)
    assert not folder.exists()


def test_a_textfile_that_the_operator_names_stays_and_one_that_a_pattern_reads_too(bench: Bench) -> None:
    bench.run_exporter("node_exporter", f"{READS}={bench.root}/srv/*")
    bench.write_config(f'[metrics]\ntextfile = "{bench.root}/srv/a/x.prom"\n')
    found = bench.set_up()
    assert not [note for note in found.notes if "node_exporter" in note]
    assert (bench.root / "srv/a").is_dir()
    assert str(reading.load(bench.places.config).metrics.textfile) == f"{bench.root}/srv/a/x.prom"
    bench.take_back()
    bench.write_config('[metrics]\ntextfile = ""\n')
    assert not any("for the metrics" in step.what for step in bench.plan().steps)


def test_a_textfile_that_the_operator_names_is_not_moved_to_where_an_exporter_looks(bench: Bench) -> None:
    bench.run_exporter("node_exporter", f"{READS}={bench.root}/read")
    bench.write_config(f'[metrics]\ntextfile = "{bench.root}/mine/x.prom"\n')
    bench.set_up()
    assert str(reading.load(bench.places.config).metrics.textfile) == f"{bench.root}/mine/x.prom"
    assert not (bench.root / "read").exists()


def test_where_proc_shows_nobody_no_exporter_is_called_missing(bench: Bench) -> None:
    (bench.places.proc / "1/cmdline").unlink()
    assert any("whether a node_exporter runs cannot be seen" in note for note in bench.plan().notes)


@pytest.mark.parametrize("says", ['[notify]\nmail_to = ""\n', '[notify]\nheartbeat_file = "/etc/beat"\n'])
def test_who_is_told_of_alarms_is_roots_mail_unless_the_operator_has_said(bench: Bench, says: str) -> None:
    bench.set_up()
    assert reading.load(bench.places.config).notify.mail_to == "root"
    bench.take_back()
    bench.write_config(f'{says}sendmail = "{bench.sendmail}"\n')
    bench.set_up()
    assert reading.load(bench.places.config).notify.mail_to == ""


def test_a_missing_configuration_is_made_with_every_setting_as_a_comment(bench: Bench) -> None:
    bench.places.config.unlink()
    made = [step for step in bench.plan().steps if step.what.startswith(str(bench.places.config))]
    assert "make it, every setting as a comment" in made[0].what
    assert any("+#max_window_seconds = 30.0" in line for line in made[0].shows())


def test_a_broken_configuration_is_not_built_upon(bench: Bench) -> None:
    bench.places.config.write_text("[freeze]\npolicy = 'perhaps'\n")
    before = bench.files()
    with pytest.raises(ConfigError, match="perhaps"):
        bench.set_up()
    assert bench.files() == before


def test_a_configuration_that_was_changed_since_is_left(bench: Bench) -> None:
    bench.set_up()
    with bench.places.config.open("a") as file:
        file.write("# mine\n")
    assert left(bench) == {str(bench.places.config): "it was changed since"}
    assert bench.places.config.read_text().endswith("# mine\n")
    assert not bench.places.record.exists()


def test_a_byte_order_mark_in_front_of_a_file_is_taken_and_stays(bench: Bench) -> None:
    """Some editors put one there, and nobody sees it."""
    mark = codecs.BOM_UTF8
    bench.places.config.write_bytes(mark + bench.places.config.read_bytes())
    bench.places.vzdump_conf.write_bytes(mark + b"script: /root/mine\nmode: snapshot\n")
    before = {path: path.read_bytes() for path in (bench.places.config, bench.places.vzdump_conf)}
    found = bench.set_up()
    assert [note for note in found.notes if "begins with a byte order mark, so PVE passes its first line over" in note]
    assert bench.places.config.read_bytes().startswith(mark + b'[notify]\nmail_to = "root"\n')
    assert reading.load(bench.places.config).notify.mail_to == "root"
    assert bench.places.vzdump_conf.read_bytes() == (
        before[bench.places.vzdump_conf] + b"script: " + os.fsencode(bench.places.hook) + b"\n"
    )
    bench.token_file.write_bytes(mark + bench.token_file.read_bytes())
    assert token(reading.load(bench.places.config)).id == f"{USER}!hooks-pve1"
    assert not bench.plan().steps
    assert not left(bench)
    assert {path: path.read_bytes() for path in before} == before
    assert not bench.token_file.exists()


# -- vzdump.conf and own scripts --------------------------------------------------------------------------------------


def test_an_own_script_is_called_as_an_own_command_from_now_on(bench: Bench) -> None:
    mine = script(bench, "my hook.pl")
    bench.places.vzdump_conf.write_text(f"# one\nmode: snapshot\n  script: {mine}  \nmailto: root")
    bench.set_up()
    assert bench.places.vzdump_conf.read_text() == (
        f"# one\nmode: snapshot\n  script: {bench.places.hook}  \nmailto: root"
    )
    copy = bench.places.config.parent / "hooks.d/10-my-hook.pl"
    assert copy.read_bytes() == mine.read_bytes()
    assert (copy.stat().st_mode & 0o777, copy.stat().st_uid) == (0o755, 0)
    assert not bench.plan().steps


def test_an_own_script_that_calls_ours_is_named_and_left(bench: Bench) -> None:
    mine = script(bench, text='#!/bin/sh\nexec /usr/bin/vzdump-hook "$@"\n')
    bench.places.vzdump_conf.write_text(f"script: {mine}\n")
    found = bench.set_up()
    assert any("is left in its place: it calls vzdump-hook itself" in note for note in found.notes)
    assert bench.places.vzdump_conf.read_text() == f"script: {mine}\n"
    assert not (bench.places.config.parent / "hooks.d").exists()


def test_a_script_that_fails_in_unknown_phases_is_told_with_the_mend(bench: Bench) -> None:
    mine = script(bench, text="#!/usr/bin/perl\nelse { die 'got unknown phase' }\n# as vzdump-hook-script.pl\n")
    bench.places.vzdump_conf.write_text(f"script: {mine}\n")
    assert any("docs/commands.md#phases" in note for note in bench.set_up().notes)


def test_a_script_that_is_not_there_is_replaced_and_comes_back(bench: Bench) -> None:
    bench.places.vzdump_conf.write_text("script: /nowhere/x\n")
    found = bench.set_up()
    assert any("/nowhere/x does not exist" in note for note in found.notes)
    bench.take_back()
    assert bench.places.vzdump_conf.read_text() == "script: /nowhere/x\n"


def test_only_our_line_is_taken_out_of_a_vzdump_conf_that_was_changed_since(bench: Bench) -> None:
    mine = script(bench)
    bench.places.vzdump_conf.write_text(f"script: {mine}\n")
    bench.set_up()
    bench.places.vzdump_conf.write_text(f"mode: stop\nscript: {bench.places.hook}\nzstd: 2\n")
    assert not left(bench)
    assert bench.places.vzdump_conf.read_text() == f"mode: stop\nscript: {mine}\nzstd: 2\n"
    bench.places.vzdump_conf.unlink()
    bench.set_up()
    bench.places.vzdump_conf.write_text(f"script: {bench.places.hook}\nzstd: 2\n")
    assert not left(bench)
    assert bench.places.vzdump_conf.read_text() == "zstd: 2\n"


def test_a_vzdump_conf_that_was_given_another_script_since_is_left(bench: Bench) -> None:
    bench.set_up()
    bench.places.vzdump_conf.write_text("script: /root/other\n")
    assert left(bench) == {str(bench.places.vzdump_conf): "it was changed since"}
    assert bench.places.vzdump_conf.read_text() == "script: /root/other\n"


def test_a_copy_that_was_changed_since_is_left_with_its_folder(bench: Bench) -> None:
    bench.places.vzdump_conf.write_text(f"script: {script(bench)}\n")
    bench.set_up()
    copy = bench.places.config.parent / "hooks.d/10-mine.pl"
    copy.write_text("#!/bin/sh\n# mended\n")
    assert left(bench) == {str(copy): "it was changed since", str(copy.parent): "10-mine.pl is in it"}
    assert copy.exists()


def test_what_was_changed_between_the_question_and_the_answer_is_not_written_over(bench: Bench) -> None:
    found = bench.plan()
    bench.places.vzdump_conf.write_text("mode: stop\n")
    known = back.Record.open(bench.places.record)
    steps = {type(step): step for step in found.steps if step.what.startswith(str(bench.places.vzdump_conf))}
    (step,) = steps.values()
    with pytest.raises(ChangedMeanwhileError):
        step.do(known)
    assert bench.places.vzdump_conf.read_text() == "mode: stop\n"


# -- jobs -------------------------------------------------------------------------------------------------------------


def test_a_job_with_its_own_script_is_named_and_mended_only_when_asked(bench: Bench) -> None:
    mine = script(bench)
    write_jobs(bench.lab.root, {"b1": {"schedule": "21:00", "script": str(mine)}})
    found = bench.set_up()
    assert [job.id for job in found.jobs] == ["b1"]
    assert read_jobs(bench.lab.root)["b1"]["script"] == str(mine)
    assert not (bench.places.config.parent / "hooks.d").exists()
    bench.set_up(with_jobs=True)
    assert "script" not in read_jobs(bench.lab.root)["b1"]
    assert (bench.places.config.parent / "hooks.d/10-mine.pl").exists()
    assert not left(bench)
    assert read_jobs(bench.lab.root)["b1"]["script"] == str(mine)


def test_a_job_that_was_given_another_script_since_keeps_it_and_one_that_is_gone_stays_gone(bench: Bench) -> None:
    mine = script(bench)
    write_jobs(bench.lab.root, {name: {"schedule": "21:00", "script": str(mine)} for name in ("b1", "b2")})
    bench.set_up(with_jobs=True)
    write_jobs(bench.lab.root, {"b1": {"schedule": "21:00", "script": "/root/new"}})
    assert left(bench) == {"job b1": "it was given the script /root/new since", "job b2": "the job was removed since"}
    assert read_jobs(bench.lab.root) == {"b1": {"schedule": "21:00", "script": "/root/new"}}


def test_a_job_that_runs_on_other_nodes_too_is_left_to_the_operator(folder: Path) -> None:
    """There its script would not be called any more, and ours not yet: a backup would lose both."""
    bench = Bench(folder, nodes=("pve1", "pve2"))
    mine = str(script(bench))
    jobs = {
        "all": {"schedule": "21:00", "script": mine},
        "here": {"schedule": "21:00", "script": mine, "node": "pve1"},
        "there": {"schedule": "21:00", "script": mine, "node": "pve2"},
    }
    write_jobs(bench.lab.root, jobs)
    found = bench.set_up(with_jobs=True)
    assert [job for job, values in read_jobs(bench.lab.root).items() if "script" in values] == ["all", "there"]
    notes = [note for note in found.notes if note.startswith("job ")]
    assert ["on every node" in notes[0], "on pve2" in notes[1]] == [True, True]
    assert notes[0].endswith("set /cluster/backup/all --delete script")


# -- units, and where setup refuses -----------------------------------------------------------------------------------


def test_units_that_are_there_are_enabled_and_those_that_were_stay(bench: Bench) -> None:
    assert "safe-snapshot-recover.timer and its service: not installed" in bench.plan().timer_note
    bench.install_units()
    (bench.root / "units/safe-snapshot-recover.timer.on").touch()
    bench.set_up()
    assert bench.units_on() == ["safe-snapshot-recover.service", "safe-snapshot-recover.timer"]
    assert not left(bench)
    assert bench.units_on() == ["safe-snapshot-recover.timer"]


def test_a_machine_that_is_no_node_is_told_so_in_one_line(bench: Bench) -> None:
    (bench.places.pve / "local").unlink()
    with pytest.raises(SafeSnapshotError, match="is not mounted: nothing was changed"):
        node_name(bench.places)
    for places in (bench.places._replace(pve=Path("/nowhere")), bench.places._replace(pvesh="/nowhere/pvesh")):
        with pytest.raises(SafeSnapshotError, match="this is no Proxmox VE node"):
            node_name(places)


def test_no_vzdump_conf_names_a_hook_that_is_not_there(bench: Bench) -> None:
    bench.places.hook.unlink()
    with pytest.raises(SafeSnapshotError, match="vzdump-hook is not there: nothing was changed"):
        bench.set_up()
    assert not bench.places.vzdump_conf.exists()


def test_a_record_that_cannot_be_read_stops_everything(bench: Bench) -> None:
    bench.places.record.write_text('{"version": 9}')
    with pytest.raises(SafeSnapshotError, match="cannot be read in"):
        bench.set_up()
    with pytest.raises(SafeSnapshotError, match="cannot be read in"):
        bench.take_back()
    assert not bench.places.vzdump_conf.exists()


FILE = {"kind": "file", "name": "/nowhere/a", "facts": {"before": "bWluZQ==", "after": "x"}}


@pytest.mark.parametrize(
    "entry",
    [
        {**FILE, "name": "/a\0b"},
        {**FILE, "name": "a"},
        {**FILE, "name": 3},
        {**FILE, "kind": None},
        {**FILE, "facts": {"after": "x"}},
        {**FILE, "facts": {"before": 3, "after": "x"}},
        {**FILE, "facts": {"before": "%%%", "after": "x"}},
        {**FILE, "facts": {"before": None, "after": "x\0"}},
        {"kind": "script", "name": "/a", "facts": {}},
        {"kind": "folder", "name": "b\0", "facts": {}},
        {"kind": "unit", "name": "x\0y", "facts": {}},
        {"kind": "token", "name": "x", "facts": {}},
        {"kind": "token", "name": "x", "facts": {"file": "/a\0"}},
        {"kind": "job", "name": "x", "facts": {}},
        {"kind": "role", "name": "x", "facts": {"before": 3, "privileges": []}},
        {"kind": "role", "name": "x", "facts": {"before": None, "privileges": [3]}},
        {"kind": "moon\0", "name": "x", "facts": {}},
    ],
)
def test_a_record_that_no_setup_has_written_is_not_gone_by(bench: Bench, entry: dict[str, object]) -> None:
    text = json.dumps({"version": 1, "entries": [FILE, entry]})
    bench.places.record.write_text(text)
    with pytest.raises(SafeSnapshotError, match="cannot be read in"):
        bench.take_back()
    assert bench.places.record.read_text() == text


def test_every_kind_of_change_that_setup_makes_is_read_again(bench: Bench) -> None:
    bench.install_units()
    write_jobs(bench.lab.root, {"b1": {"schedule": "21:00", "script": str(script(bench))}})
    bench.set_up(with_jobs=True)
    kinds = {entry.kind for entry in back.Record.open(bench.places.record).entries}
    assert kinds == set(back.ORDER) == set(FACTS)


def test_nothing_is_taken_back_while_a_freeze_window_is_open(bench: Bench) -> None:
    path = bench.places.state / "journal.sqlite"
    config = Config()._replace(journal=JournalConfig(path))
    back.check_quiet(config)
    with contextlib.closing(Journal(path)) as journal:
        journal.begin(record("w1"))
        with pytest.raises(SafeSnapshotError, match=r"a freeze window is open \(guest 100\): nothing was changed"):
            back.check_quiet(config)
        journal.update("w1", state="thawed", closed_at=START + 1, verdict="unknown", reason="x")
    back.check_quiet(config)


def test_a_turn_is_waited_for_and_not_for_ever(folder: Path) -> None:
    clock = VirtualClock()
    with turn(folder, clock), pytest.raises(SafeSnapshotError, match="another `safe-snapshot setup` is at work"):
        turn(folder, clock).__enter__()
    assert clock.now >= 60
    with turn(folder, clock):
        assert clock.now < 62


def test_a_state_folder_that_setup_has_made_goes_with_the_rest(bench: Bench) -> None:
    bench.places.state.rmdir()
    bench.set_up()
    assert bench.places.record.stat().st_mode & 0o777 == 0o600
    assert not left(bench)
    assert not bench.places.state.exists()


def test_the_guests_that_nobody_freezes_any_more_are_named(bench: Bench) -> None:
    for vmid, agent in ((100, "1,freeze-fs=0"), (101, "1"), (102, "1,freeze-fs=0")):
        bench.lab.add_guest(GuestSpec(vmid, config={"agent": agent}))
    rules = "".join(f"[[guest]]\nvmid = {vmid}\nignore_freeze_option = true\n" for vmid in (100, 101))
    bench.write_config(rules)
    config = reading.load(bench.places.config)
    assert back.unfrozen_guests(config, bench.pve(), bench.places, "pve1") == ["100 (guest100)"]
