"""What a receiver gets: one JSON object, with a title and a text that can be read on a phone at night."""

from __future__ import annotations

import email.message
import email.policy
import email.utils
import json
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from snapshot.base.clock import iso
from snapshot.base.text import clean
from snapshot.commands.document import ALARM
from snapshot.notify.alarm import Alarm

VERSION = 1

MOST_EVENTS = 40
"""Of one letter; a fleet that fails as a whole is told by its number."""
LONGEST_TEXT = 1000
LONGEST_TITLE = 150

_RUNBOOKS = "The runbooks are in /usr/share/doc/vzdump-hooks/runbooks."


class Change(NamedTuple):
    """An alarm that began, or one that was told and has ended: ``how`` says what is so now."""

    phase: str
    """``alarm`` or ``alarm-over``."""
    alarm: Alarm
    how: str = ""

    @property
    def head(self) -> str:
        """A few words."""
        return self.alarm.head if self.phase == ALARM else self.alarm.over or f"over: {self.alarm.head}"

    @property
    def object(self) -> dict[str, object]:
        """As it stands in JSON."""
        alarm = self.alarm
        found: dict[str, object] = {
            "event": self.phase,
            "key": alarm.key,
            "what": clean(self.how or alarm.text, LONGEST_TEXT),
            "since": iso(alarm.since_at),
            "todo": "" if self.how else alarm.todo,
            "guest": alarm.guest,
        }
        return found

    @property
    def lines(self) -> list[str]:
        """For a person."""
        alarm = self.alarm
        if self.phase == ALARM:
            text = [f"* {clean(alarm.text, LONGEST_TEXT)}", f"  since {_when(alarm.since_at)}"]
            return [*text, f"  what to do: {alarm.todo}"] if alarm.todo else text
        how = [] if self.how in self.head else [f"  {clean(self.how, LONGEST_TEXT)}"]
        return [f"* {self.head}", *how, f"  it had begun {_when(alarm.since_at)}"]


def body(letter_id: str, node: str, events: Sequence[Change], at: float) -> str:
    """The JSON object. ``text`` holds all of it, for receivers that show that alone."""
    shown = events[:MOST_EVENTS]
    more = len(events) - len(shown)
    title = clean(f"{node}: {_first(events).head}", LONGEST_TITLE)
    others = len({event.alarm.key for event in events}) - 1
    if others:
        title += f", and {others} more"
    lines = [line for event in shown for line in (*event.lines, "")]
    if more:
        lines += [f"... and {more} more: `safe-snapshot status` and `safe-snapshot history` on {node}", ""]
    lines.append(f"vzdump-hooks on {node}: `safe-snapshot status` there shows what is so now. {_RUNBOOKS}")
    message = "\n".join(lines)
    told = [change.object for change in shown]
    return _json(letter_id, node, at, title=title, message=message, events=told, more=more)


def _first(events: Sequence[Change]) -> Change:
    """The first, or its end where it has begun and ended."""
    key = events[0].alarm.key
    return next(event for event in reversed(events) if event.alarm.key == key)


def _when(at: float) -> str:
    """To the minute, in the node's time."""
    text = iso(at)
    return f"{text[:10]} {text[11:16]} {text[19:]}"


def test_body(letter_id: str, node: str, at: float) -> str:
    """What `safe-snapshot notify --test` sends."""
    message = f"This is a test of [notify] on {node}: who reads it is told of alarms. Nothing is wrong."
    return _json(letter_id, node, at, title=f"{node}: a test of vzdump-hooks", message=message)


def drill_body(letter_id: str, node: str, at: float, title: str, message: str) -> str:
    """What `safe-snapshot drill` sends: marked in its title, and by the key ``drill``, which no other message has."""
    found = {
        **json.loads(_json(letter_id, node, at, title=clean(title, LONGEST_TITLE), message=message)),
        "drill": True,
    }
    return json.dumps(found, ensure_ascii=False)


def _json(
    letter_id: str, node: str, at: float, *, title: str, message: str, events: Sequence[object] = (), more: int = 0
) -> str:
    found = {
        "version": VERSION,
        "id": letter_id,
        "node": node,
        "at": iso(at),
        "events": list(events),
        "more": more,
        "title": title,
        "message": message,
        "text": f"{title}\n\n{message}",
    }
    return json.dumps(found, ensure_ascii=False)


def mail(found: Mapping[str, Any], mail_to: str) -> bytes:
    """The same as a mail. Its Message-ID is the letter's: a mail that comes twice is known again by it."""
    message = email.message.EmailMessage(email.policy.SMTP.clone(linesep="\n"))
    message["To"] = mail_to
    message["Subject"] = clean(str(found["title"]))
    message["Message-ID"] = f"<{found['id']}@{found['node']}.vzdump-hooks>"
    message["Date"] = email.utils.localtime()
    message["Auto-Submitted"] = "auto-generated"
    message.set_content(f"{found['message']}\n")
    return message.as_bytes()
