"""The thaw: retried over every route until the agent acknowledged it and says thawed.

Rules:

- The status is the agent's memory and can lie, so at least one thaw is always sent and acknowledged, whatever the
  status says.
- A busy agent answers like one that is gone. Neither is ever taken for a thawed guest.
- A guest that is off, or removed, holds nothing. One route's text is no proof of that (a peer may be wrong, and PVE's
  messages hold words of the agent's): it counts when a second source says the same, else it is no answer.
- After an acknowledged thaw only the status is asked again; a thaw is repeated only while it says frozen, because every
  thaw runs the guest's thaw hooks again.
- Two of us never ask at once. Who has a limit keeps it: no request is begun after it, except the first thaw. Before
  each request ``ahead`` is called, so whoever stands behind the caller knows that it lives; after
  ``longest_silence_seconds`` without, it does not.
- A thaw that the agent forbids (``qemu-ga -b``) is forbidden over every route: who has a limit gives up after
  FORBIDDEN_SECONDS, who has none goes on, for the operator may allow it. Or thaw the guest there, which the agent does
  not notice until it is restarted: its word is believed then once the guest was seen to write, too.
- A failing thaw hook means that the filesystems *are* thawed: it is reported, not retried.
- Whatever a route raises, the retries go on: nothing but a confirmed thaw, the limit and the caller end them.
- Nothing in here writes, logs or imports before the first request: `Thawer` is built while the guard is armed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import NamedTuple

from snapshot.base.clock import Clock
from snapshot.base.retry import Pace, retry_until
from snapshot.errors import GuestRemovedError
from snapshot.model import FreezeState, ThawReport
from snapshot.pve import agent
from snapshot.pve.agent import (
    AgentChannel,
    AgentRefusedError,
    AgentReplyLostError,
    CommandNotSentError,
)
from snapshot.pve.connection import Heard
from snapshot.pve.ladder import MOVED_TEXT, Ladder
from snapshot.pve.pvesh import START_SECONDS
from snapshot.pve.remedies import FAILED_TEXT, FORBIDDEN_TEXT
from snapshot.thaw.limit import OutOfTimeError, TimeLimit
from snapshot.thaw.once import Once
from snapshot.thaw.telling import Answers


class Thawing(NamedTuple):
    """How a thaw is retried."""

    pace: Pace
    attempt_seconds: float
    last_resort_after: int = 8
    """Rounds without success before the last resort is used, and between its uses."""


CARRIED_OUT_SECONDS = 2.0
"""How long a late freeze is still watched for behind a thaw that counted a filesystem. That was this window's one
freeze, unless another's was in front of it in the agent's queue: then ours follows at once, ahead of our next look."""

FORBIDDEN_SECONDS = 4.0
"""How long a thaw is tried that the agent forbids: a refusal is an answer. Long enough to see a guest write."""

QUICK_SECONDS = 0.5
"""A round that fails sooner than this was answered by somebody: PVE waits for 3 s for an agent that is silent."""


class Thawer:
    """Thaws one guest. Keeps what was learned from round to round, so one Thawer serves one window."""

    def __init__(
        self,
        ladder: Ladder,
        thawing: Thawing,
        clock: Clock,
        answers: Answers | None = None,
    ) -> None:
        self._answers = answers or Answers()
        self._ladder = ladder
        self._thawing = thawing
        self._clock = clock
        self._limit = TimeLimit(clock, None, 0.0)
        self._ahead: Callable[[], None] = lambda: None
        self._seat: AgentChannel | None = None
        self._reset()

    @property
    def fastest(self) -> AgentChannel:
        """The route that is tried first. A connection that it was told to keep open carries the thaw."""
        return self._ladder.fastest

    def sit(self, *, awaits_knock: bool = False) -> AgentChannel | None:
        """Keep the agent's seat from before a freeze on, and let the others pass: see AgentChannel.sit.

        The route on which it is ours; None without.
        """
        self._seat = self.fastest
        return self._seat if self._seat.sit(awaits_knock=awaits_knock) else None

    def heard(self, ask_seconds: float | None = None) -> Sequence[Heard]:
        """What the agent has said on a seat that is kept: see AgentChannel.heard."""
        return self._seat.heard(ask_seconds) if self._seat is not None else ()

    def get_up(self) -> None:
        """Leave the seat, if it was kept: nothing of ours is asked for a while."""
        if self._seat is not None:
            self._seat.release()

    @property
    def longest_silence_seconds(self) -> float:
        """The longest time between two requests of a thaw: one over the slowest route, and a pause."""
        return self._thawing.attempt_seconds + START_SECONDS + self._thawing.pace.slowest_seconds

    @property
    def slowest_after(self) -> int:
        """After how many rounds the retries have reached their slowest pace."""
        pace = self._thawing.pace
        return next(n for n in range(1, 1000) if pace.is_slowest(n))

    def _reset(self) -> None:
        self.acknowledged = False
        self._asked = False
        self._may_be_sent = False
        """Whether a thaw may have reached the agent."""
        self._attempts = 0
        self._filesystems: int | None = None
        self._hook_failed = False
        self._guest_gone = False
        self._confirmed = False
        self._forbidden_since: float | None = None
        self._from_inside = False
        self._written: int | None = None
        """What the guest had written when its agent first said thawed, though it forbids the thaw."""
        self._replies_lost = 0
        self._route = ""
        self._detail = ""

    def until_confirmed(
        self,
        limit_seconds: float | None,
        sleep: Callable[[float], None] | None = None,
        between: Callable[[ThawReport], bool] = lambda report: False,
        ahead: Callable[[], None] = lambda: None,
    ) -> ThawReport:
        """Retry until confirmed, or ``limit_seconds`` have passed (None: for ever).

        ``between`` is called before each further round (never before the first request) and ends the retries by
        returning True; ``sleep`` replaces the clock's; ``ahead`` is called before each request and must not block.
        """
        pace = self._thawing.pace
        limited = Pace(pace.first_seconds, pace.slowest_seconds, pace.factor, limit_seconds)
        self._limit, self._ahead = TimeLimit(self._clock, limit_seconds, self._thawing.attempt_seconds), ahead
        stopped = was_silent = wakes = False

        def one_round(number: int) -> ThawReport:
            nonlocal stopped, was_silent, wakes
            stopped = number > 1 and between(self.report())
            if stopped:
                return self.report()
            began = self._clock.monotonic()
            confirmed = self.round()
            is_silent = self._clock.monotonic() - began >= QUICK_SECONDS
            wakes, was_silent = was_silent and not is_silent, is_silent
            if not confirmed and number % self._thawing.last_resort_after == 0:
                self._use_last_resort()
            return self.report()

        # An agent that wakes up first answers callers that left, and PVE stumbles over an answer that is not its own
        # ("got wrong command id", PVE::QMPClient): the next tries must come soon.
        return retry_until(
            one_round,
            lambda report: report.confirmed or stopped or (limit_seconds is not None and self._is_forbidden_for_long()),
            limited,
            self._clock,
            sleep,
            starts_over=lambda report: wakes,
        )

    def round(self) -> bool:
        """One try over the ladder; True when the thaw is confirmed."""
        self._attempts += 1
        off = Once(self._ladder.is_off)
        forbidden_since, self._forbidden_since = self._forbidden_since, None
        for channel in self._ladder.round():
            try:
                if self._ask(channel):
                    self._route = channel.name
                    self._confirmed = True
                    self._detail = ""
                else:
                    self._note(channel.name, f"{channel.name}: it acknowledges the thaw, and says frozen")
                return self._confirmed
            except CommandNotSentError as error:
                if error.guest_off and off():
                    self._guest_gone = self._confirmed = True
                    self._route = channel.name
                    return True
                self._note(channel.name, f"{error}; nobody else says so" if error.guest_off else str(error))
                if MOVED_TEXT in str(error) and self._relocate():
                    return self._confirmed
            except AgentReplyLostError as error:
                self._replies_lost += 1
                self._note(channel.name, str(error))
            except AgentRefusedError as error:
                # The agent itself said no: every other route leads to the same agent.
                return self._refused(channel, error, forbidden_since)
            except OutOfTimeError:
                return False
            except Exception as error:  # noqa: BLE001 - a bug in one route must not end the retries over all of them
                self._note(channel.name, f"{channel.name}: {type(error).__name__}: {error}")
            finally:
                channel.release()
        return False

    def _note(self, name: str, answer: str) -> None:
        """A route has not done."""
        self._detail = answer
        self._answers.note(name, answer)

    def look(self) -> FreezeState | None:
        """What the agent says right now over the first route that answers; None when none does. Sends no thaw.

        A guest that is off, or that does not exist any more, holds nothing: THAWED.
        """
        off = Once(self._ladder.is_off)
        for channel in self._ladder.round():
            try:
                return agent.status(channel, self._thawing.attempt_seconds)
            except CommandNotSentError as error:
                if error.guest_off and off():
                    return FreezeState.THAWED
                self._detail = str(error)
                if MOVED_TEXT in str(error) and self._relocate():
                    return FreezeState.THAWED if self._guest_gone else self.look()
            except Exception as error:  # noqa: BLE001 - whatever it was, this route has not answered
                self._detail = f"{channel.name}: {error}"
        return None

    def start_over(self) -> None:
        """Forget an earlier thaw: a late freeze needs a new acknowledged one."""
        self._reset()

    def report(self) -> ThawReport:
        """What is known so far."""
        return ThawReport(
            confirmed=self._confirmed,
            attempts=self._attempts,
            filesystems=self._filesystems,
            route=self._route,
            hook_failed=self._hook_failed,
            guest_gone=self._guest_gone,
            detail=self._detail,
            thaw_replies_lost=self._replies_lost,
            forbidden=self._forbidden_since is not None and not self._confirmed,
            from_inside=self._from_inside,
        )

    def _refused(self, channel: AgentChannel, error: AgentRefusedError, since: float | None) -> bool:
        """The agent has said no; ``since``: when it first forbade the thaw. True when the guest is thawed even so."""
        self._note(channel.name, f"{FORBIDDEN_TEXT if error.is_forbidden else FAILED_TEXT}: {error}")
        if error.is_forbidden:
            self._forbidden_since = self._clock.monotonic() if since is None else since
            self._from_inside = self._confirmed = self._was_thawed_inside(channel)
            self._route = channel.name if self._confirmed else ""
        return self._confirmed

    def _is_forbidden_for_long(self) -> bool:
        since = self._forbidden_since
        return since is not None and self._clock.monotonic() - since >= FORBIDDEN_SECONDS

    def _was_thawed_inside(self, channel: AgentChannel) -> bool:
        """Whether the agent says thawed, twice at least, and the guest has written between. A bug in here is no yes."""
        written: int | None = None
        with suppress(Exception):
            if self._says_thawed(channel):
                channel.release()
                written = self._ladder.written()
        before, self._written = self._written, written
        if before is None or written is None or written < before:
            return False
        self._written = before
        return written > before

    def _ask(self, channel: AgentChannel) -> bool:
        if self.acknowledged and self._says_thawed(channel):
            return True
        if self._asked:
            self._check_time()
        self._asked = True
        self._announce()
        may_be_sent, self._may_be_sent = self._may_be_sent, True
        try:
            count = channel.call("fsfreeze-thaw", timeout_seconds=self._thawing.attempt_seconds, keep_open=True)
        except CommandNotSentError:
            self._may_be_sent = may_be_sent
            raise
        except AgentRefusedError as error:
            if not agent.hook_has_failed(error.description):
                raise
            self._hook_failed = True
        else:
            filesystems = agent.count_of(count)
            if filesystems is None:
                raise AgentReplyLostError(f"the agent's answer to the thaw is not a count: {count!r:.60}")
            self._filesystems = max(filesystems, self._filesystems or 0)
        self.acknowledged = True
        return self._says_thawed(channel)

    def _says_thawed(self, channel: AgentChannel) -> bool:
        self._check_time()
        self._announce()
        return agent.status(channel, self._thawing.attempt_seconds) is FreezeState.THAWED

    def _announce(self) -> None:
        self._ladder.moves()
        with suppress(Exception):  # a request is worth more than the word that it comes
            self._ahead()

    def _check_time(self) -> None:
        self._limit.check(is_unasked=self._attempts <= 1 and not self._may_be_sent)

    def _relocate(self) -> bool:
        """Follow a guest that moved, or learn that it is gone; True when either was settled."""
        try:
            ladder = self._ladder.relocate()
        except GuestRemovedError:
            self._guest_gone = self._confirmed = True
            return True
        except Exception as error:  # noqa: BLE001 - a token file being replaced: the next round asks again
            self._detail = f"{self._detail}; its new place: {error}"
            return False
        if ladder is None:
            return False
        self._ladder = ladder
        return True

    def _use_last_resort(self) -> None:
        if self._ladder.last_resort is None:
            return
        try:
            said = self._ladder.last_resort()
        except Exception as error:  # noqa: BLE001 - see round
            said = f"{type(error).__name__}: {error}"
        self._answers.note("last resort", said)
        self._detail = f"{self._detail}; last resort: {said}"
