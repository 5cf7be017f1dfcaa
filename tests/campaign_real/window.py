"""One window: a run of safe-snapshot, the blows, the restoring of order, and the two invariants from outside.

1. From the moment on at which somebody of ours could thaw the guest, it is thawed within BOUND_SECONDS and stays so.
   The witness is the guest's drive: QEMU's own statistics of its writes.
2. No verdict is better than the disk: what is called filesystem-consistent is held against the oracle.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import threading
import time
from dataclasses import dataclass, field

from snapshot.journal.record import WindowRecord
from snapshot.journal.store import Journal
from snapshot.states import State
from snapshot.window.knock import FREEZES
from tests.campaign_real.plan import Blow, Plan
from tests.lab.guest.oracle import judge
from tests.lab.guest.real import RealGuest
from tests.lab.site import Site, wait_for
from tests.process.processes import guards, kill
from tests.process.timeline import Timeline, watched
from tests.unit.kit import record

BOUND_SECONDS = 5.0
"""For everything; the promises for single blows are stricter and have tests of their own in tests/process."""
OWNER_KILLED_SECONDS = 2.0
MAX_WINDOW_SECONDS = 5.0
GUARD_MARGIN_SECONDS = 2.0
OWNER_LIMIT_SECONDS = 6.0
LATE_SECONDS = 6.0

SETTINGS = {
    "freeze": {
        "freeze_timeout_seconds": 3,
        "max_window_seconds": MAX_WINDOW_SECONDS,
        "late_freeze_seconds": LATE_SECONDS,
    },
    "thaw": {"owner_limit_seconds": OWNER_LIMIT_SECONDS},
}


@dataclass
class Outcome:
    """What became of one window. ``problems`` is empty when both invariants hold."""

    plan: Plan
    seconds: float = 0.0
    frozen_seconds: float = 0.0
    """The longest time that the guest was frozen once it could have been thawed."""
    was_frozen: bool = False
    was_frozen_at_the_knock: bool = False
    exit_code: int | None = None
    verdict: str | None = None
    disk_says_consistent: bool | None = None
    problems: list[str] = field(default_factory=list)
    story: list[str] = field(default_factory=list)


class WindowRun:
    """Runs one plan on a site whose guests are up and in order, and leaves them so."""

    def __init__(self, lab: Site, plan: Plan) -> None:
        self.lab = lab
        self.plan = plan
        self.guest = lab.guests[plan.vmid]
        self.name = f"w{plan.index}-{time.monotonic_ns() // 1_000_000}"  # also when a window is repeated
        self.outcome = Outcome(plan)
        self._began = time.monotonic()
        self._able_at = self._began
        self._owner_dead = self._owner_stopped = self._guard_dead = False

    def run(self) -> Outcome:
        """Everything. AssertionError and OSError of the lab itself end up among the problems."""
        try:
            with watched(self.guest) as timeline:
                self._run(timeline)
        except (AssertionError, OSError, RuntimeError, subprocess.SubprocessError) as error:
            self.outcome.problems.append(f"{type(error).__name__}: {error}")
        finally:
            self._restore()
        self.outcome.seconds = time.monotonic() - self._began
        return self.outcome

    def _run(self, timeline: Timeline) -> None:
        plan, lab = self.plan, self.lab
        lab.node.forget_requests()
        lab.settings["local"] = {"node": lab.node.node if plan.on_the_node else ""}
        lab.settings["freeze"]["at_the_knock"] = plan.at_the_knock
        if plan.at_the_knock:
            self._remember_short_freezes()
        lab.write_config()
        self.guest.set_knob("freeze_sleep", plan.freeze_sleep)
        self.guest.set_knob("thaw_sleep", plan.thaw_sleep)
        lab.node.set(task_delays={"prepare": plan.prepare_seconds, "inside": plan.task_seconds})
        self._hooks_before = len(self.guest.hook_log())
        with lab.start(str(plan.vmid), "--name", self.name) as owner:
            assert wait_for(lambda: bool(guards(lab)) or owner.poll() is not None, 30), "no guard"
            if plan.start == "freeze":
                wait_for(lambda: self._has_begun() or owner.poll() is not None, 20)
            self._strike(owner)
            self._let_it_end(owner)
        self._recover()
        self._check_thawed(timeline)
        self._check_journal()
        self._check_disk()

    def _has_begun(self) -> bool:
        """Whether the node has the request that the blows' times count from."""
        first = "/snapshot" if self.plan.at_the_knock else "fsfreeze-freeze"
        return any(request.method == "POST" for request in self.lab.node.requests(first))

    def _remember_short_freezes(self) -> None:
        """As three windows that went well would have left them: the last ones may have been killed."""
        with contextlib.closing(Journal(self.lab.journal_path)) as journal:
            for number in range(FREEZES):
                at = time.time() - 1.0 + number / 10
                name = f"short-{number}-{self.name}"
                ended = record(name, self.plan.vmid, at, state="thawed", closed_at=at, freeze_outcome="acknowledged")
                journal.begin(ended._replace(freezing_seconds=0.1, verdict="filesystem-consistent"))

    # ------------------------------------------------------------------ blows

    def _strike(self, owner: subprocess.Popen[str]) -> None:
        """The blows and their undoing, each at its instant."""
        start = time.monotonic()
        todo: list[tuple[float, Blow, bool]] = [(blow.after, blow, False) for blow in self.plan.blows]
        todo += [
            (b.after + b.lasts, b, True) for b in self.plan.blows if b.action in ("kill api", "cut front", "stop agent")
        ]
        for at, blow, undo in sorted(todo, key=lambda entry: entry[0]):
            time.sleep(max(0.0, start + at - time.monotonic()))
            (self._undo if undo else self._do)(blow.action, owner)

    def _do(self, action: str, owner: subprocess.Popen[str]) -> None:
        self._note(action)
        match action:
            case "kill owner":
                self._kill_owner(owner)
            case "kill guard":
                self._kill_guards()
            case "kill both":
                self._kill_guards()
                self._kill_owner(owner)
            case "kill api":
                self.lab.node.kill()
            case "cut front":
                with contextlib.suppress(RuntimeError):  # it was killed
                    self.lab.node.stop_front()
            case "stop agent":
                self.guest.stop_agent()
            case "stop owner":
                if owner.poll() is None:
                    owner.send_signal(signal.SIGSTOP)
                    self._owner_stopped = True
            case "reset guest":
                self.guest.reset()
        self._able_at = max(self._able_at, time.monotonic())

    def _undo(self, action: str, owner: subprocess.Popen[str]) -> None:
        self._note(f"{action}: over")
        match action:
            case "kill api":
                self.lab.node.restart()
            case "cut front":
                if self.lab.node.pid:
                    self.lab.node.start_front()
                else:
                    self.lab.node.restart()
            case "stop agent":
                self.guest.continue_agent()
        self._able_at = max(self._able_at, time.monotonic())

    def _kill_owner(self, owner: subprocess.Popen[str]) -> None:
        owner.kill()
        self._owner_dead = True

    def _kill_guards(self) -> None:
        for pid in guards(self.lab):
            with contextlib.suppress(ProcessLookupError):
                kill(pid)
            self._guard_dead = True
        assert wait_for(lambda: not guards(self.lab), 5), "a guard survives SIGKILL"  # its end takes a moment

    # ------------------------------------------------------- the window's end

    def _let_it_end(self, owner: subprocess.Popen[str]) -> None:
        """Wait for the owner; one that is stopped is left so until the guard must have stepped in."""
        if self._owner_stopped and not self._owner_dead:
            self._able_at = max(self._able_at, time.monotonic() + MAX_WINDOW_SECONDS + GUARD_MARGIN_SECONDS)
            time.sleep(MAX_WINDOW_SECONDS + GUARD_MARGIN_SECONDS + 1.0)
            self._note("stopped owner killed")
            self._kill_owner(owner)
            if self._guard_dead:
                self._able_at = time.monotonic()
        reader = threading.Thread(target=owner.communicate, daemon=True)  # so that no pipe fills up
        reader.start()
        reader.join(60)
        assert owner.returncode is not None, "the owner does not end"
        self.outcome.exit_code = owner.returncode
        if not self._owner_dead:
            # An owner that lives may hold its window to its deadline, and thaw until then.
            self._note(f"owner ended with {owner.returncode}")

    def _recover(self) -> None:
        """What the timer would do, when nobody is left."""
        if self._owner_dead and not guards(self.lab):
            self._able_at = max(self._able_at, time.monotonic())
            self._note("recover")
            recovered = self.lab.safe_snapshot("recover")
            self._note(f"recover ended with {recovered.exit_code}")

    # ------------------------------------------------------------- invariants

    def _check_thawed(self, timeline: Timeline) -> None:
        if self.plan.has("reset guest"):
            # PVE's own call waits for an answer that the guest has forgotten, for up to an hour, and keeps the agent's
            # channel so long: end it, or nobody gets through. Nothing is frozen after a reset.
            self.lab.node.restart()
            self.guest.wait_agent()
            assert wait_for(lambda: not self.guest.is_frozen(), BOUND_SECONDS), "frozen after a reset"
            return
        # Late freezes included: whatever hung in the agent has run by now.
        timeline.wait_until_thawed_for(2.0, timeout=LATE_SECONDS + 20)
        freezes = timeline.freezes()
        self.outcome.was_frozen = bool(freezes) or len(self.guest.hook_log()) > self._hooks_before
        is_past_pve = self.plan.at_the_knock and not self.lab.node.requests("fsfreeze-freeze")
        self.outcome.was_frozen_at_the_knock = self.outcome.was_frozen and is_past_pve
        self.outcome.frozen_seconds = timeline.frozen_after(self._able_at)
        bound = self._bound()
        if self.outcome.frozen_seconds > bound:
            self.outcome.problems.append(
                f"frozen for {self.outcome.frozen_seconds:.2f} s (bound {bound:g} s) after {self._at(self._able_at)}; "
                f"freezes: {', '.join(f'{self._at(a)} to {self._at(b)}' for a, b in freezes)}"
            )
        if self.guest.ask("guest-fsfreeze-status") != "thawed":
            self.outcome.problems.append("the agent still says frozen")

    def _bound(self) -> float:
        actions = {blow.action for blow in self.plan.blows}
        if actions == {"kill owner"}:
            return OWNER_KILLED_SECONDS
        if not self._owner_dead:
            return MAX_WINDOW_SECONDS + GUARD_MARGIN_SECONDS
        return BOUND_SECONDS

    def _check_journal(self) -> None:
        """No window is open without somebody who watches it."""
        record = self._record()
        if record is None:
            return
        self.outcome.verdict = record.verdict

        def looked_after() -> bool:
            found = self._record()
            return found is not None and (found.closed_at is not None or bool(guards(self.lab)))

        is_watched = wait_for(looked_after, 10)
        if not is_watched and self._owner_dead and self._was_thawed(self._record() or record):
            # Killed between its confirmed thaw and its verdict: nothing is at risk, and `recover` writes the end.
            self.lab.safe_snapshot("recover")
            is_watched = looked_after()
        if not is_watched:
            self.outcome.problems.append(f"the window is open and nobody watches it: {self._record()!r}")
        self.outcome.verdict = (self._record() or record).verdict

    def _was_thawed(self, record: WindowRecord) -> bool:
        """Whether the owner had confirmed its thaw when it was killed (the guest is thawed: that was looked at). It has
        written so, or it had just told its guard, which nobody killed and which then left without a thaw of its own.
        """
        return record.state == State.THAWED.value or not (self._guard_dead or record.guard_cause)

    def _check_disk(self) -> None:
        """The snapshot, where there is one, and the disk's own word on it."""
        for upid in self.lab.node.running_tasks():
            self.lab.node.wait_task(str(upid), 30)
        try:
            found = judge(self.guest.disk, self.name, self.guest.fs)
        except LookupError:
            return
        self.outcome.disk_says_consistent = found.consistent
        if self.outcome.verdict == "filesystem-consistent" and not found.consistent:
            self.outcome.problems.append(f"called filesystem-consistent, and {found.evidence}")

    def _record(self) -> WindowRecord | None:
        return next((w for w in self.lab.windows() if w.snapshot_name == self.name), None)

    # ------------------------------------------------------------------ order

    def _restore(self) -> None:
        """Leave the site as it was found, whatever happened."""
        lab = self.lab
        for pid in guards(lab):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        if not lab.node.pid:
            lab.node.restart()
        with contextlib.suppress(RuntimeError):
            lab.node.start_front()
        lab.node.set(task_delays={})
        try:
            self.guest.continue_agent()
            self.guest.wait_agent(20)
            if self.guest.ask("guest-fsfreeze-status") == "frozen" or self.guest.is_frozen():
                self.guest.ask("guest-fsfreeze-thaw")
            with contextlib.suppress(Exception):
                self._remove_snapshot()
        except (OSError, RuntimeError):
            assert isinstance(self.guest, RealGuest)
            self.guest.stop()
            self.guest.start()
        lab.node.set_config(self.plan.vmid, lock=None)

    def _remove_snapshot(self) -> None:
        with self.guest.monitor() as monitor:
            monitor.execute(
                "blockdev-snapshot-delete-internal-sync", {"device": self.guest.drive_node, "name": self.name}
            )

    def _note(self, what: str) -> None:
        self.outcome.story.append(f"{self._at(time.monotonic())} {what}")

    def _at(self, instant: float) -> str:
        return f"{instant - self._began:.2f}"
