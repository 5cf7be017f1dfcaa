"""What all commands share: their options, and the Session, through which an outcome leaves the program."""

from __future__ import annotations

import functools
import os
import signal
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

import click

from snapshot.base import logfmt, streams
from snapshot.base.clock import SystemClock
from snapshot.base.late import late
from snapshot.base.procfs import ProcessIdentity
from snapshot.base.signals import SIGNALS, SignalGate
from snapshot.base.streams import Line
from snapshot.config import reading
from snapshot.config.settings import DEFAULT_PATH, Config
from snapshot.errors import ConfigError, Failure, SafeSnapshotError
from snapshot.guard.launcher import ProcessLauncher
from snapshot.model import Vmid, check_description, check_snapshot_name
from snapshot.pve.neighbours import with_neighbours
from snapshot.report import console
from snapshot.report.envelope import Envelope
from snapshot.report.history import parse_since

if TYPE_CHECKING:
    from snapshot.pve.access import Access, open_access
else:  # the HTTPS library, which no help needs and nobody who only reads the journal
    open_access = late("snapshot.pve.access:open_access")

EXIT_CODES = """\b
Exit codes:
  0   done                          8   A GUEST MAY STILL BE FROZEN
  1   failed, see the message       9   the journal cannot be used
  2   wrong command line            10  done, but not all of it recorded
  3   wrong configuration           11  the freeze's answer was lost
  4   guest not fit for it          12  the guard cannot be started
  5   PVE API                       13  the guest is frozen by somebody else
  6   not consistent (require)      14  the doctor found something
  7   PVE could not take it         15  not all was removed that should be
                                    16  the disks do not tell
                                    128+n  ended by signal n
                                    docs/exit-codes.md has more
"""

T = TypeVar("T")
Decorator = Callable[[Callable[..., Any]], Callable[..., Any]]
QUIET, NORMAL, VERBOSE = 0, 1, 2


class Session:
    """The common options, and everything built from them when first needed."""

    def __init__(self) -> None:
        self.config_path: Path | None = None
        self.as_json = False
        self.as_logfmt = False
        self.vmid: Vmid | None = None
        self.verbosity = NORMAL
        self.command: str | None = None
        """Which one the line asks for, once that is understood."""
        self.clock = SystemClock()
        self.warnings: list[str] = []
        """Lines for the outcome, whatever it is."""
        self.gate: SignalGate | None = None
        """Of a run that freezes."""
        self._kept: list[tuple[str, float]] = []
        self._said: set[str] = set()
        self._started = self.clock.monotonic()

    @functools.cached_property
    def me(self) -> ProcessIdentity:
        """Who we are; read where it is asked for, since /proc may not be there to be read."""
        return ProcessIdentity.own()

    @property
    def is_verbose(self) -> bool:
        """Whether what is normal is wanted too."""
        return self.verbosity >= VERBOSE

    @property
    def is_quiet(self) -> bool:
        """Whether only the closing line is wanted."""
        return self.verbosity == QUIET

    def config(self) -> Config:
        """The configuration. ConfigError as usual."""
        return reading.load(self.config_path)

    def access(self) -> Access:
        """The ways to PVE, by other nodes too, which an earlier run has seen. ConfigError when there is none."""
        return open_access(with_neighbours(self.config()), self.clock, self._say_or_keep)

    def rescue_access(self) -> Access:
        """The ways to PVE for what must go on with a broken configuration: what can be read of it, and a warning each
        for the rest. ConfigError when no way is left.
        """
        if self.config_path is not None and not self.config_path.exists():
            return self.access()  # a slip of the pen, and the error says so
        config, problems = reading.load_lenient(self.config_path)
        try:
            access = open_access(config, self.clock)
        except ConfigError as error:
            if problems:
                raise ConfigError(problems[0]) from error  # what is wrong first; the rest follows from it
            raise
        self.warnings += [f"{problem}; going on with what can be read" for problem in problems]
        return access

    def launcher(self, config: Config) -> ProcessLauncher:
        """Who starts guards."""
        return ProcessLauncher(config, self.config_path, self.clock)

    def say(self, line: str, at: float | None = None) -> None:
        """One progress line on standard error, with its time since the start. Never raises."""
        if self.verbosity == QUIET or self.as_json:
            return
        seconds = (self.clock.monotonic() if at is None else at) - self._started
        if self.as_logfmt:
            streams.out(logfmt.line("step", vmid=self.vmid, at_seconds=seconds, message=line))
        else:
            console.err(f"{seconds:7.3f} s  {line}")
            self._said.add(line)

    def _say_or_keep(self, line: str) -> None:
        """A line that may come at any time is kept while the guest may be frozen: nothing is written then."""
        if self.gate is not None and self.gate.is_unstoppable:
            self._kept.append((line, self.clock.monotonic()))
        else:
            self.say(line)

    def explain(self, lines: list[str]) -> None:
        """What --verbose adds, on standard error."""
        if self.verbosity >= VERBOSE and not self.as_json:
            for line in lines:
                console.err(line)

    def warn_aside(self) -> None:
        """The warnings until now on standard error, for a command whose standard output is something else."""
        if not self.as_json and not self.is_quiet:
            for warning in self.warnings:
                console.err(f"warning: {warning}")

    def finish(
        self,
        lines: Sequence[str | Line],
        data: Mapping[str, object],
        *,
        warnings: Iterable[str] = (),
        error: Failure | None = None,
    ) -> NoReturn:
        """Print the outcome and end: ``lines`` for a person, all the rest as JSON. One that cannot be printed is a
        failure of its own.
        """
        for kept, at in self._kept:
            self.say(kept, at)
        outcome = self.envelope(data, warnings, error)
        problem = ""
        if self.as_json:
            problem = streams.out(outcome.render())
        else:
            said = [f"warning: {warning}" for warning in self.warnings]
            seen = self._said if streams.share_a_terminal() else ()  # on one screen, whoever reads it has read that
            for line in (one for one in (*said, *lines) if one not in seen):
                if isinstance(line, Line):
                    problem = problem or streams.out(*line)
                elif line.startswith("ERROR"):
                    console.err(line)
                else:
                    problem = problem or console.out(line)
        if problem:
            console.err(
                f"ERROR: the outcome (exit code {outcome.exit_code}) cannot be written to standard output: {problem}"
            )
        sys.exit(outcome.exit_code or (SafeSnapshotError.exit_code if problem else 0))

    def stream(self, key: str, items: Iterable[object]) -> NoReturn:
        """Print the outcome as JSON, with a list that may be long, and end."""
        exit_code = self.envelope({}).stream(key, items, sys.stdout.write)
        sys.stdout.flush()
        sys.exit(exit_code)

    def envelope(
        self, data: Mapping[str, object], warnings: Iterable[str] = (), error: Failure | None = None
    ) -> Envelope:
        """The outcome of this session."""
        return Envelope(self.command, data, (*self.warnings, *warnings), error)


def end_at_once(left: str = "a guest that was frozen may still be: `safe-snapshot status`") -> None:
    """From here on a signal ends the program where it stands. The rescue commands hold no guest that would need to be
    thawed first, what they write is whole or not there, and whoever presses Ctrl-C in one wants another way, now.
    ``left``: what is said of the guests then.
    """

    def end(number: int, _frame: FrameType | None) -> None:
        console.err(f"ERROR: ended by signal {number}; {left}")
        os._exit(128 + number)

    for number in SIGNALS:
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, end)


pass_session = click.make_pass_decorator(Session)


def common(envvar: str | None = None, *, has_json: bool = True) -> Decorator:
    """--config, --json, --quiet and --verbose, which are understood before and after a command's name.

    One that prints no object has no --json, and says so when it is asked for one in front of its name.
    """

    def decorate(command: Callable[..., Any]) -> Callable[..., Any]:
        command = command if has_json else _refusing_json(command)
        for names, attributes in _common_options(envvar):
            if has_json or _JSON_FLAG not in names:
                command = click.option(*names, **attributes)(command)
        return command

    return decorate


def _refusing_json(callback: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(callback)
    def checked(*args: Any, **values: Any) -> Any:
        session = click.get_current_context().find_object(Session)
        if session is not None and session.as_json:
            raise click.UsageError(f"this command prints no JSON object: leave {_JSON_FLAG} out")
        return callback(*args, **values)

    return checked


def since_option(default: str | None) -> Decorator:
    """--since, as an instant."""
    help_text = "Only windows since: 36h, 7d, 2w, 1y, or a date."
    return click.option("--since", callback=_since, default=default, metavar="WHEN", help=help_text)


def logfmt_option(command: Callable[..., Any]) -> Callable[..., Any]:
    """--logfmt, for the commands that timers run."""
    return click.option("--logfmt", is_flag=True, expose_value=False, callback=_note("as_logfmt", True), help=_LOGFMT)(
        command
    )


def _common_options(envvar: str | None) -> list[tuple[tuple[str, ...], dict[str, Any]]]:
    """Names and attributes, the last one first: that is how decorators are applied."""

    def flag(name: str, value: object, text: str) -> dict[str, Any]:
        return {"is_flag": True, "expose_value": False, "callback": _note(name, value), "help": text}

    path: dict[str, Any] = {
        "type": click.Path(path_type=Path, readable=False),
        "expose_value": False,
        "callback": _note_config,
    }
    return [
        (("--verbose", "-v"), flag("verbosity", VERBOSE, _VERBOSE)),
        (("--quiet", "-q"), flag("verbosity", QUIET, _QUIET)),
        ((_JSON_FLAG,), flag("as_json", True, _JSON)),
        (("--config",), {**path, "metavar": "FILE", "envvar": envvar, "help": _CONFIG}),
    ]


_CONFIG = f"Another configuration than {DEFAULT_PATH}; also $VZDUMP_HOOKS_CONFIG."
_JSON_FLAG = "--json"
_JSON = "One versioned JSON object on standard output and nothing else."
_LOGFMT = "key=value lines on standard output, for a log collector (docs/logs.md)."
_QUIET = "Only the closing line."
_VERBOSE = "Also what is normal: every check, the task's log; a traceback with an internal error."


def _note(name: str, value: object) -> Callable[[click.Context, click.Parameter, bool], None]:
    def callback(ctx: click.Context, _param: click.Parameter, given: bool) -> None:
        if given:
            setattr(ctx.ensure_object(Session), name, value)

    return callback


def _note_config(ctx: click.Context, _param: click.Parameter, path: Path | None) -> None:
    if path is not None:
        # The guard is started with another working directory.
        ctx.ensure_object(Session).config_path = path.absolute()


def _since(ctx: click.Context, _param: click.Parameter, value: str | None) -> float | None:
    now = ctx.ensure_object(Session).clock.time()
    return None if value is None else _checked(lambda text: parse_since(text, now), value)


def name_option(_ctx: click.Context, _param: click.Parameter, value: str | None) -> str | None:
    """A name that PVE takes, or a usage error with the rule."""
    return None if value is None else _checked(check_snapshot_name, value)


def description_option(_ctx: click.Context, _param: click.Parameter, value: str) -> str:
    """A description that PVE takes, or a usage error with the rule."""
    return _checked(check_description, value)


def _checked(check: Callable[[str], T], value: str) -> T:
    try:
        return check(value)
    except ValueError as error:
        raise click.BadParameter(str(error)) from None


class Seconds(click.FloatRange):
    """A duration. ``nan`` compares with nothing, so a range lets it through: a window without a deadline."""

    name = "seconds"

    def __init__(self, shortest: float = 0.1) -> None:
        super().__init__(min=shortest, max=3600)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """See click.ParamType."""
        seconds = super().convert(value, param, ctx)
        if seconds != seconds:  # noqa: PLR0124 - the definition of nan
            self.fail(f"{value!r} is not a number of seconds", param, ctx)
        return seconds
