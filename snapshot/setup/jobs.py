"""Backup jobs with a script of their own: they do not call the one of /etc/vzdump.conf, and so not ours."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from snapshot.base.text import clean
from snapshot.errors import ReplyLostError
from snapshot.setup.accounts import ASK_SECONDS
from snapshot.setup.pve import Pve
from snapshot.setup.record import Entry, Record
from snapshot.setup.step import TakenBack

KIND = "job"


class ScriptedJob(NamedTuple):
    """A backup job, its id and script to the letter, since both are written again."""

    id: str
    script: str
    node: str
    """The one that it runs on; empty for all."""


def own_scripts(pve: Pve, hook: str) -> list[ScriptedJob]:
    """The jobs whose script is another than ours."""
    return [job for job in _jobs(pve).values() if job.script not in ("", "0", hook)]


def _jobs(pve: Pve) -> Mapping[str, ScriptedJob]:
    answer = pve.transport.request("GET", "cluster/backup", timeout_seconds=ASK_SECONDS)
    if not isinstance(answer, list):
        raise ReplyLostError("PVE's answer to cluster/backup is not a list")
    rows = [row for row in answer if isinstance(row, dict)]
    return {
        str(r.get("id")): ScriptedJob(str(r.get("id")), str(r.get("script") or ""), str(r.get("node") or ""))
        for r in rows
    }


class JobStep(NamedTuple):
    """The job's own script goes: then the one of /etc/vzdump.conf counts, on a node without ours too."""

    pve: Pve
    job: ScriptedJob

    @property
    def what(self) -> str:
        """See SetupStep."""
        return f"job {clean(self.job.id, 60)}: take its own script {clean(self.job.script, 120)} out"

    @property
    def _path(self) -> str:
        return f"cluster/backup/{self.job.id}"

    def shows(self) -> list[str]:
        """See SetupStep."""
        return [self.pve.shown("PUT", self._path, {"delete": "script"})]

    def do(self, record: Record) -> None:
        """See SetupStep."""
        record.add(KIND, self.job.id, script=self.job.script)
        self.pve.change("PUT", self._path, {"delete": "script"})


def give_back(pve: Pve, entry: Entry) -> TakenBack:
    """The job has its script again, unless it was given another one, or is gone."""
    what = f"job {clean(entry.name, 60)}"
    job = _jobs(pve).get(entry.name)
    if job is None:
        return TakenBack(what, "the job was removed since")
    if job.script not in ("", entry.facts["script"]):
        return TakenBack(what, f"it was given the script {clean(job.script, 120)} since")
    if not job.script:
        pve.change("PUT", f"cluster/backup/{entry.name}", {"script": entry.facts["script"]})
    return TakenBack(what)
