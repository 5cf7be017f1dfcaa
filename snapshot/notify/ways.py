"""The ways to the administrator: a mail, a webhook, a heartbeat. Each is tried once, within a time limit."""

from __future__ import annotations

import json
import os
import re
import shlex
import tempfile
import urllib.parse
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

from snapshot.base.clock import Clock
from snapshot.base.detached import run
from snapshot.commands import folder
from snapshot.commands.document import ALARM, ALARM_OVER, ENVIRONMENT
from snapshot.commands.runner import GRACE_SECONDS, run_commands
from snapshot.config.settings import HOST, Config
from snapshot.config.token import read_private
from snapshot.errors import ConfigError
from snapshot.journal import outbox
from snapshot.journal.jobs import pings_file
from snapshot.notify import letter
from snapshot.pve.https_post import NotSentError, Target, send

SECONDS = 10.0
"""For one letter on one way, all of it."""
BEAT_SECONDS = 5.0

COMMANDS_SECONDS = 30.0
"""For the own commands of one letter, all of them."""
COMMAND_SECONDS = 1.0
"""The least that one of them gets of it, where [commands] timeout_seconds is not less still."""

MAIL, WEBHOOK, COMMANDS, HEARTBEAT = "mail", "webhook", "commands", "heartbeat"
JOBS = outbox.JOBS

_ADDRESS = re.compile(r"[A-Za-z0-9!#$%&'*+/=^_`{|}~.][A-Za-z0-9!#$%&'*+/=^_`{|}~.-]*(?:@[A-Za-z0-9._:\[\]-]+)?\Z")
"""As it stands in a header, without quotes and with nothing encoded (``=?``)."""
_HEADER = re.compile(r"([A-Za-z0-9!#$%&'*+.^_`|~-]{1,100}):[ \t]*([ -~]*)\Z")


class Own(NamedTuple):
    """The administrator's own commands, and who gets what they print."""

    folder: Path
    say: Callable[[str], None]

    @property
    def are_there(self) -> bool:
        """Whether there is any, one that is refused included."""
        return bool(folder.find(self.folder, os.geteuid()))


def letter_ways(config: Config, own: Own | None = None) -> tuple[str, ...]:
    """Which of the ways that take letters are configured."""
    notify = config.notify
    wanted = {MAIL: notify.mail_to, WEBHOOK: notify.webhook_file, COMMANDS: own is not None and own.are_there}
    return tuple(way for way, value in wanted.items() if value)


def all_ways(config: Config, own: Own | None = None) -> tuple[str, ...]:
    """These, and that of the jobs' pings: all on which something may wait."""
    return (*letter_ways(config, own), *((JOBS,) if pings_file(config) else ()))


def is_shared(config: Config) -> bool:
    """Whether a job's ping goes where the recovery's goes."""
    return pings_file(config) == config.notify.heartbeat_file


def send_letter(way: str, config: Config, body: str, clock: Clock) -> None:
    """One attempt. NotSentError, whose text has no secret, whatever goes wrong: no way keeps another from its turn."""
    try:
        _SENDERS[way](config, body, clock)
    except NotSentError:
        raise
    except Exception as error:  # noqa: BLE001 - of a fault of ours too; its text may hold the secret
        raise NotSentError(f"internal error ({type(error).__name__}); please report it") from None


def call_commands(own: Own, config: Config, body: str) -> list[str]:
    """Call the own commands in the phase ``alarm`` with what began, then in ``alarm-over`` with what has ended. Lines
    about those that failed; they are not called again for it.
    """
    found = json.loads(body)
    phases = {
        phase: events
        for phase in (ALARM, ALARM_OVER)
        if (events := [event for event in found.get("events", []) if event["event"] == phase])
    }
    calls = len(phases) * sum(not command.refused for command in folder.find(own.folder, os.geteuid()))
    share = max(COMMAND_SECONDS, COMMANDS_SECONDS / max(calls, 1) - GRACE_SECONDS)
    limit = min(share, config.commands.timeout_seconds)
    problems = []
    for phase, events in phases.items():
        told = {key: value for key, value in found.items() if key != "version"} | {"events": events}
        outcomes = run_commands(own.folder, phase, (), ENVIRONMENT, told, say=own.say, timeout_seconds=limit)
        problems += [outcome.line(phase) for outcome in outcomes if outcome.problem]
    return problems


def beat(config: Config, *, is_well: bool, clock: Clock) -> None:
    """The ping that says that all is well, or its other form. NotSentError."""
    _ping(config, config.notify.heartbeat_file, clock, is_well=is_well)


def place(way: str, config: Config) -> str:
    """Where a way leads, as far as that is no secret."""
    if way == MAIL:
        return config.notify.mail_to
    notify = config.notify
    path = {WEBHOOK: notify.webhook_file, JOBS: pings_file(config)}.get(way, notify.heartbeat_file)
    try:
        return _lines(path)[0].host if path is not None else ""
    except NotSentError:
        return str(path)


def _mail(config: Config, body: str, clock: Clock) -> None:
    notify = config.notify
    if not all(_ADDRESS.match(one.strip()) for one in notify.mail_to.split(",")):
        raise NotSentError(
            "[notify] mail_to is no address: it is one, as root or ops@example.com, or several with commas"
        )
    found = json.loads(body)
    with tempfile.TemporaryFile() as file:
        # All of it, before the program begins: whoever dies meanwhile, it gets no half mail.
        file.write(letter.mail(found, notify.mail_to))
        file.seek(0)
        try:
            status, said = run((str(notify.sendmail), "-i", "-t"), SECONDS, stdin=file.fileno())
        except TimeoutError as error:
            raise NotSentError(str(error)) from None
        except OSError as error:
            why = f"{notify.sendmail} cannot be run ({error.strerror or error})"
            raise NotSentError(f"{why}; [notify] sendmail names the program") from None
    if status != 0:
        raise NotSentError(f"{notify.sendmail} ended with {status}: {said or 'without a word'}")


def _webhook(config: Config, body: str, clock: Clock) -> None:
    path = config.notify.webhook_file
    assert path is not None
    own = {"Content-Type": "application/json", "Idempotency-Key": str(json.loads(body)["id"])}
    _request(config, _lines(path)[0], body.encode(), own, seconds=SECONDS, clock=clock)


def _job(config: Config, body: str, clock: Clock) -> None:
    _ping(config, pings_file(config), clock, is_well=json.loads(body)["is_well"])


def _ping(config: Config, path: Path | None, clock: Clock, *, is_well: bool) -> None:
    if path is not None:
        _request(config, _heartbeat_target(path, is_well=is_well), None, {}, seconds=BEAT_SECONDS, clock=clock)


SECONDS_OF: Mapping[str, Callable[[], float]] = {
    MAIL: lambda: SECONDS,
    WEBHOOK: lambda: SECONDS,
    COMMANDS: lambda: COMMANDS_SECONDS,
    JOBS: lambda: BEAT_SECONDS,
}
"""How long one letter may take."""

_SENDERS: Mapping[str, Callable[[Config, str, Clock], None]] = {MAIL: _mail, WEBHOOK: _webhook, JOBS: _job}


def _request(
    config: Config, target: Target, body: bytes | None, headers: Mapping[str, str], *, seconds: float, clock: Clock
) -> None:
    try:
        send(target, body, headers, seconds=seconds, ca_file=config.notify.ca_file, clock=clock)
    except ConfigError as error:
        raise NotSentError(str(error)) from None
    except NotSentError as error:
        raise NotSentError(f"{target.host}: {error}", error.wait_seconds) from None


def _heartbeat_target(path: Path, *, is_well: bool) -> Target:
    found = _lines(path)
    if is_well:
        return found[0]
    if len(found) > 1:
        return found[1]
    parts = urllib.parse.urlsplit(found[0].url)
    return found[0]._replace(url=parts._replace(path=f"{parts.path.rstrip('/')}/fail").geturl())


def _lines(path: Path) -> list[Target]:
    """The URLs of a file, each with the headers of the file. NotSentError, which names the file alone."""
    try:
        text = read_private(
            path,
            "notify",
            missing=f"make it: `install -m 600 /dev/stdin {shlex.quote(str(path))}`, then the URL and Ctrl-D",
            setting="docs/notify.md",
        )
    except ConfigError as error:
        raise NotSentError(str(error)) from None
    urls, headers = list[str](), dict[str, str]()
    for number, line in enumerate(filter(None, map(str.strip, text.splitlines())), 1):
        header = _HEADER.match(line)
        if line.startswith(("https://", "http://")):
            urls.append(line)
        elif header is not None and urls:
            headers[header[1]] = header[2]
        else:
            what = "neither a URL (https://...) nor, below one, a header (`Name: value`)"
            raise NotSentError(f"line {number} of {path} is {what}")
    if not urls:
        raise NotSentError(f"there is no URL in {path}: write it into its first line")
    return [_target(url, headers, path) for url in urls]


def _target(url: str, headers: Mapping[str, str], path: Path) -> Target:
    try:
        parts = urllib.parse.urlsplit(url)
        host, port = parts.hostname or "", parts.port or (443 if parts.scheme == "https" else 80)
    except ValueError:
        host, port = "", 0
    if not HOST.match(host) or any(not "!" <= c <= "~" for c in url):
        raise NotSentError(
            f"a URL in {path} has no host, or no port, that can be one, or a character that none has"
        )  # not repeated: it may be the secret
    return Target(parts.scheme, host, port, url, headers)
