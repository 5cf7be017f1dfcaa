"""What setup would do on this node: only what is not as it should be yet. Reads, and changes nothing."""

from __future__ import annotations

import codecs
import os
from pathlib import Path
from typing import NamedTuple

from snapshot.base.text import clean
from snapshot.commands import folder as own_commands
from snapshot.config.settings import TOKEN_ID, Config
from snapshot.config.token import token
from snapshot.errors import ConfigError, SafeSnapshotError
from snapshot.pve import vzdumpconf
from snapshot.setup import configuring, ownscript, place, tokens
from snapshot.setup.accounts import USER, needed_privileges
from snapshot.setup.jobs import JobStep, ScriptedJob, own_scripts
from snapshot.setup.node import Places
from snapshot.setup.place import FileStep, FolderStep, StateStep
from snapshot.setup.pve import Pve
from snapshot.setup.readers import Readers, look_for_readers
from snapshot.setup.record import Record
from snapshot.setup.rights import plan_rights
from snapshot.setup.step import SetupStep
from snapshot.setup.units import plan_units

SCRIPT_KIND = "script"


class SetupPlan(NamedTuple):
    """The steps in their order, and what an operator should know."""

    steps: list[SetupStep]
    notes: list[str]
    jobs: list[ScriptedJob]
    """With a script of their own, that ``with_jobs`` would mend."""
    timer_note: str = ""
    """Why nobody looks every minute: the doctor tells that too, where it looks at what became of the node."""
    unguarded: str = ""
    """Why backups do not call us when all steps are done; empty when they do."""


class _Planner:
    def __init__(self, places: Places, pve: Pve, record: Record, node: str) -> None:
        self._places = places
        self._pve = pve
        self._record = record
        self._node = node
        self._commands = own_commands.beside(places.config)
        self._raw, self._config = configuring.read(places.config)
        self._copies: list[FileStep] = []
        self._unguarded = ""
        self.notes: list[str] = []

    def plan(self, *, with_jobs: bool) -> SetupPlan:
        """Everything, the hook last of all: from then on it is called."""
        token_steps, token_id = self._access()
        readers = look_for_readers(self._places, self._raw, self._config)
        wanted = configuring.wanted_keys(self._raw, self._config, readers.folder, token_id)
        config = configuring.config_step(Path(os.path.realpath(self._places.config)), self._raw, wanted)
        hook = self._hook()
        units = plan_units(self._places.systemctl)
        mended, left = self._jobs()
        job_steps: list[SetupStep] = [JobStep(self._pve, job) for job in mended] if with_jobs else []
        if not with_jobs:
            self._copies = self._copies[: len(self._copies) - self._of_jobs]
        steps: list[SetupStep] = [
            *self._folders(readers),
            *token_steps,
            *([config] if config else []),
            *self._copies,
            *hook,
            *job_steps,
            *units.steps,
        ]
        self.notes += [*([readers.note] if readers.note else []), *units.notes, *left]
        if steps and (self._config.notify.is_wanted or any(key.table == "notify" for key in wanted)):
            self.notes.append("then one message is sent on each way of [notify], to try it")
        notes = list(dict.fromkeys(self.notes))
        return SetupPlan(steps, notes, [] if with_jobs else mended, units.timer_note, self._unguarded)

    # ------------------------------------------------------------------ access

    def _access(self) -> tuple[list[SetupStep], str]:
        """The steps to a token of this node's own, and its id; none where the configuration has one that works."""
        file, config = self._config.api.token_file, self._config
        entry = self._record.find(tokens.KIND)
        ours = entry.name if entry else None
        if place.content(file) is not None and not (ours and tokens.holds(file, ours)):
            self._look_at_the_token(config)
            return [], ""
        known = self._pve.accounts.roles().get("Administrator", frozenset())
        steps = plan_rights(self._pve, self._record, needed_privileges(config, known), self.notes)
        user = self._pve.accounts.user(USER)
        name = tokens.choose_name(self._node, user.tokens if user else frozenset(), ours)
        if not (user and name in user.tokens and tokens.holds(file, name)):
            steps.append(tokens.TokenStep(self._pve, name, file, self._node))
        return steps, tokens.token_id(name)

    def _look_at_the_token(self, config: Config) -> None:
        """The one that somebody else has put there: kept, if PVE knows it. ConfigError as token()."""
        found = token(config).id
        assert TOKEN_ID.match(found)
        userid, _, name = found.rpartition("!")
        user = self._pve.accounts.user(userid)
        if user is None or name not in user.tokens:
            raise ConfigError(
                f"PVE does not know the token {found} of {config.api.token_file}",
                remedy="take that file away, and token_id out of the configuration: setup makes one of its own",
            )
        self.notes.append(f"the token {found} is there and is kept")

    # ------------------------------------------------------------------- hook

    def _hook(self) -> list[SetupStep]:
        """The line in vzdump.conf, and in front of it what becomes of the script that stands there."""
        if not os.access(self._places.hook, os.X_OK):
            raise SafeSnapshotError(
                f"{self._places.hook} is not there: nothing was changed",
                remedy="install the package, or link the virtual environment's commands (docs/install.md)",
            )
        path = Path(os.path.realpath(self._places.vzdump_conf))
        raw = place.content(path)
        script = vzdumpconf.script(raw or b"")
        if (raw or b"").startswith(codecs.BOM_UTF8):
            self.notes.append(f"{path} begins with a byte order mark, so PVE passes its first line over: take it out")
        if script and self._is_ours(script):
            return []
        if script and not self._take_over(script, f"{path}: "):
            self._unguarded = f"{path} still names {clean(script.decode(errors='replace'), 120)}"
            return []
        after = vzdumpconf.with_script(raw or b"", os.fsencode(self._places.hook))
        instead = f" instead of {clean(script.decode(errors='replace'), 120)}" if script else ""
        return [FileStep(path, raw, after, f"{path}: script: {self._places.hook}{instead}", kind=SCRIPT_KIND)]

    def _is_ours(self, script: bytes) -> bool:
        return _real(script) == os.path.realpath(self._places.hook)

    def _take_over(self, script: bytes, where: str) -> bool:
        """Whether ours may stand in this one's place; a copy of it is planned."""
        if os.path.dirname(_real(script)) == os.path.realpath(self._commands):
            return True
        found = ownscript.look(script)
        self.notes += found.notes
        if not found.can_be_replaced:
            self.notes.append(f"{where}{found.name} is left in its place: {found.problem}")
            return False
        if found.data is not None:
            copy = ownscript.copy_of(found, self._commands, self._copies)
            self._copies += [copy] if copy else []
        return True

    # ------------------------------------------------------------------- jobs

    def _jobs(self) -> tuple[list[ScriptedJob], list[str]]:
        """The jobs that can be mended from here, and of each other one why not."""
        before = len(self._copies)
        mended, left = [], []
        alone = len(list((self._places.pve / "nodes").iterdir())) <= 1
        for job in own_scripts(self._pve, str(self._places.hook)):
            script, name = os.fsencode(job.script), clean(job.id, 60)
            if self._is_ours(script):
                continue
            if job.node != self._node and not alone:
                where = f"on {job.node}" if job.node else "on every node"
                left.append(
                    f"job {name} has the script {clean(job.script, 120)} and runs {where}: not guarded. Once setup has "
                    f"run there, and the script stands in each hooks.d: {self._pve.shown(*_out(job))}"
                )
            elif self._take_over(script, f"job {name}: "):
                mended.append(job)
        self._of_jobs = len(self._copies) - before
        return mended, left

    # ---------------------------------------------------------------- folders

    def _folders(self, readers: Readers) -> list[SetupStep]:
        places = self._places
        steps: list[SetupStep] = []
        if not places.state.is_dir():
            steps.append(StateStep(places.state))
        if not places.config.parent.is_dir():
            steps.append(FolderStep(places.config.parent, 0o700, f"{places.config.parent}: make it"))
        if self._copies and not self._commands.is_dir():
            steps.append(FolderStep(self._commands, 0o755, f"{self._commands}: make it, for your own commands"))
        wanted = readers.made
        missing = [path for path in (wanted, *wanted.parents) if not path.is_dir()] if wanted is not None else []
        steps += [FolderStep(path, 0o755, f"{path}: make it, for the metrics") for path in reversed(missing)]
        return steps


def _real(script: bytes) -> str:
    """Where the name leads; empty for one that can be no file's."""
    return "" if b"\0" in script else os.path.realpath(os.fsdecode(script))


def _out(job: ScriptedJob) -> tuple[str, str, dict[str, object]]:
    return "PUT", f"cluster/backup/{job.id}", {"delete": "script"}


def make(places: Places, pve: Pve, record: Record, node: str, *, with_jobs: bool = False) -> SetupPlan:
    """The plan. ConfigError for a configuration that is broken, ApiError when PVE cannot be asked, SafeSnapshotError
    for what has to be mended by hand first.
    """
    return _Planner(places, pve, record, node).plan(with_jobs=with_jobs)
