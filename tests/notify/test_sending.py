"""How it is sent: once, in order, within a time limit, again when a receiver was down; and no secret anywhere."""

from __future__ import annotations

import contextlib
import http.server
import itertools
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from snapshot.errors import JournalError
from snapshot.journal import outbox, silences
from snapshot.journal.store import Journal
from snapshot.notify import alarms, sending, tell, ways
from tests.lab.node.certs import authority
from tests.metrics.conftest import World
from tests.notify.receivers import MailServer, WebServer, answer, write_secret
from tests.notify.test_alarms import events, round_of
from tests.unit.wire import Connection, Wire, reply

ROOT = Path(__file__).resolve().parents[2]
HANG_SECONDS = 20.0
"""Far below what each of these receivers would keep a client for."""


def kinds(web: WebServer) -> list[str]:
    return [event for letter in events(web) for event, _ in letter]


def lines(world: World) -> str:
    """What `status` says."""
    return "\n".join(silences.silences(world.journal, world.config, world.clock.now))


# -------------------------------------------------------------------------------------------- a receiver that is down


def test_a_receiver_that_is_down_for_ten_minutes_gets_everything_once_and_in_order(
    told: World, web: WebServer, post: MailServer
) -> None:
    web.handler, post.is_down = answer(503), True
    told.failed_run(100)
    said = round_of(told)
    assert [line.split(": ")[1] for line in said] == ["mail", "webhook", "heartbeat"]
    assert "tried again in 60 s" in said[0]
    assert "127.0.0.1: it answered 503" in said[1]
    told.good_run(100)
    for _ in range(10):
        round_of(told)
    attempts = [letter["id"] for letter in web.letters]
    assert len(set(attempts)) == 1, "the second waits for the first"
    assert len(attempts) == 4, "with pauses that grow: 1, 2, 4 minutes"
    assert "[notify] nobody is told by webhook since" in lines(told)
    assert "(2 messages waiting): 127.0.0.1: it answered 503" in lines(told)
    assert "[notify] nobody is told by mail since" in lines(told)
    web.handler, post.is_down = answer(200), False
    web.got.clear()
    for _ in range(10):
        assert round_of(told) == []
    assert kinds(web) == ["alarm", "alarm-over"]
    assert len({letter["id"] for letter in web.letters}) == 2
    assert ["good again" in subject for subject in post.subjects] == [False, True]
    assert "[notify]" not in lines(told)


def test_one_way_that_is_down_keeps_no_other_waiting(told: World, web: WebServer, post: MailServer) -> None:
    post.is_down = True
    told.failed_run(100)
    round_of(told)
    told.good_run(100)
    round_of(told)
    assert kinds(web) == ["alarm", "alarm-over"]
    assert post.got == []


def test_a_fault_of_ours_on_one_way_keeps_no_other_waiting_and_tells_no_secret(
    told: World, web: WebServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> bytes:
        raise RuntimeError(web.secret)

    monkeypatch.setattr(ways.letter, "mail", broken)
    told.failed_run(100)
    (said,) = round_of(told)
    assert said.startswith("notify: mail: internal error (RuntimeError)")
    assert web.secret not in said
    assert kinds(web) == ["alarm"]
    assert len(web.beats) == 1
    assert "nobody is told by mail since" in lines(told), "status says which way fails"


def test_a_letter_that_cannot_be_sent_for_a_day_is_given_up_and_status_says_so(told: World, web: WebServer) -> None:
    web.handler = answer(500)
    told.failed_run(100)
    round_of(told)
    waited = 0
    while told.journal.query("SELECT 1 FROM outbox"):
        told.clock.now += 240  # a round every five minutes is as good as one every minute, and a fifth of the work
        round_of(told)
        waited += 300
    assert 86400 <= waited <= 86400 + 900
    assert "1 message could not be sent by webhook for a day and given up" in lines(told)
    assert len(web.letters) < 120
    web.handler = answer(200)
    web.got.clear()
    told.good_run(100)
    round_of(told)
    assert kinds(web) == ["alarm-over"], "what comes next is sent"
    assert "given up" in lines(told)
    told.clock.now += 90000
    assert "given up" not in lines(told)


def test_a_clock_that_is_set_back_makes_no_letter_wait_for_it(told: World, web: WebServer) -> None:
    web.handler = answer(500)
    told.failed_run(100)
    round_of(told)
    told.clock.now -= 30 * 86400
    web.handler = answer(200)
    web.got.clear()
    round_of(told)
    assert len(web.letters) >= 1


def test_a_way_that_is_not_configured_any_more_is_waited_for_by_nobody(told: World, web: WebServer) -> None:
    web.handler = answer(500)
    told.failed_run(100)
    round_of(told)
    assert told.journal.query("SELECT 1 FROM outbox WHERE way = 'webhook'")
    told.config = told.config._replace(notify=told.config.notify._replace(webhook_file=None, heartbeat_file=None))
    round_of(told)
    assert not told.journal.query("SELECT 1 FROM outbox")
    assert "[notify]" not in lines(told)


def test_a_row_that_makes_no_sense_costs_itself_alone(told: World, web: WebServer) -> None:
    with told.journal.transaction("written") as db:
        for body, at in (("nonsense", 1.0), ("[" * 100_000, 1.0), ("{}", "x"), ('{"id": 1}', told.clock.now)):
            db.execute(
                "INSERT INTO outbox (id, way, at, body, attempts, next_at) VALUES ('x', 'webhook', ?, ?, 0, 0.0)",
                (at, body),
            )
        db.execute("INSERT INTO told VALUES ('run:qemu/100:snapshot', '[1, 2]', 0.0)")
    told.failed_run(100)
    assert round_of(told) == []
    assert kinds(web)[-1:] == ["alarm"]


# ----------------------------------------------------------------------------------------------- whoever is killed when

DIES = """
import json, os, signal, sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from snapshot.base.clock import SystemClock
from snapshot.config import reading
from snapshot.journal import file
from snapshot.journal.store import Journal
from snapshot.notify import tell, ways
config, at, told_at = reading.load(Path(sys.argv[2])), int(sys.argv[3]), float(sys.argv[4])
steps = []
def step(name):
    steps.append(name)
    if len(steps) == at:
        print(name, flush=True)
        os.kill(os.getpid(), signal.SIGKILL)
connect = file.connect
def connected(*args, **options):
    db, found = connect(*args, **options)
    db.set_trace_callback(lambda sql: step(sql[:30]) if db.in_transaction and not sql.startswith("SELECT") else None)
    return db, found
file.connect = connected
send = ways.send_letter
def sending(way, *arguments):
    step(f"before {way}")
    send(way, *arguments)
    step(f"after {way}")
ways.send_letter = sending
class Clock(SystemClock):
    def time(self):
        return told_at
print(tell.after_recovery(config, lambda: Journal(config.journal.path), [], Clock()))
"""


def written(world: World) -> Path:
    """The configuration as a file."""
    notify, path = world.config.notify, world.folder / "config.toml"
    text = f'[journal]\npath = "{world.config.journal.path}"\n[metrics]\ntextfile = ""\n[notify]\nmail_to = "root"\n'
    files = {"sendmail": notify.sendmail, "webhook_file": notify.webhook_file, "heartbeat_file": notify.heartbeat_file}
    path.write_text(text + "".join(f'{key} = "{file}"\n' for key, file in files.items() if file is not None))
    return path


def test_a_sender_that_is_killed_at_any_step_leaves_one_letter_that_is_sent(
    told: World, web: WebServer, post: MailServer
) -> None:
    """The receiver sees one id, whenever the sender dies; twice only where it dies between the answer and the mark."""
    path, killed_after = written(told), list[str]()
    for at in itertools.count(1):
        web.got.clear()
        post.got.clear()
        told_of = told.failed_run(100) if at % 2 else told.good_run(100)
        arguments = (str(ROOT), str(path), str(at), repr(told.clock.now + 60))
        done = subprocess.run(
            [sys.executable, "-c", DIES, *arguments], check=False, timeout=60, capture_output=True, text=True
        )
        if done.returncode == 0:
            assert done.stdout == "[]\n", done
            break
        assert done.returncode == -signal.SIGKILL, done
        killed_after.append(done.stdout.strip())
        told.clock.now += 120
        assert round_of(told) == []
        assert round_of(told) == []
        ids = Counter(letter["id"] for letter in web.letters)
        mails = Counter(mail["Message-ID"].partition("@")[0].lstrip("<") for mail in post.got)
        assert set(ids) == set(mails), f"{killed_after[-1]}: {told_of}"
        assert len(ids) == 1, f"{killed_after[-1]}: one alarm is one letter"
        assert set(kinds(web)) == ({"alarm"} if at % 2 else {"alarm-over"})
        is_between = killed_after[-1].startswith(("after", "DELETE", "COMMIT"))  # it was taken, and is not marked yet
        assert is_between or (ids.total(), mails.total()) == (1, 1), killed_after[-1]
    assert {"before mail", "after mail", "before webhook", "after webhook"} <= set(killed_after)
    assert any(name.startswith("INSERT INTO outbox") for name in killed_after)
    assert len(killed_after) > 12


@pytest.mark.parametrize("other_is", ["faster", "later"])
def test_two_senders_at_once_send_each_letter_once(
    told: World, web: WebServer, post: MailServer, monkeypatch: pytest.MonkeyPatch, other_is: str
) -> None:
    told.failed_run(100)
    place = (outbox, "claim") if other_is == "faster" else (ways, "send_letter")
    first, others = getattr(*place), [1]

    def overtaken(*arguments: object) -> object:
        if others:
            others.pop()
            with contextlib.closing(Journal(told.config.journal.path)) as other:
                sending.send_due(other, told.config, told.clock)
        return first(*arguments)

    monkeypatch.setattr(*place, overtaken)
    round_of(told)
    assert not others
    assert (len(web.letters), len(post.got)) == (1, 1)


def test_two_recoveries_at_once_write_one_letter_and_hold_no_journal_while_they_look(
    told: World, web: WebServer, post: MailServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    told.failed_run(100)
    look, others = alarms.look, [1]

    def overtaken(*arguments: Any) -> Any:
        found = look(*arguments)
        if others:
            others.pop()
            with contextlib.closing(Journal(told.config.journal.path)) as other:
                tell.write_down(other, told.config, [], told.clock.now, ways.letter_ways(told.config))
        return found

    monkeypatch.setattr(alarms, "look", overtaken)
    assert round_of(told) == []
    assert not others
    assert (len(web.letters), len(post.got)) == (1, 1)


def test_what_was_told_and_what_waits_outlive_a_broken_journal(told: World, web: WebServer) -> None:
    told.config = told.config._replace(notify=told.config.notify._replace(mail_to=""))
    told.failed_run(100)
    round_of(told)
    web.handler = answer(500)
    told.failed_run(101)
    round_of(told)
    path = told.config.journal.path
    root = told.journal.query("SELECT rootpage FROM sqlite_schema WHERE name = 'windows_by_time'")[0][0]
    raw = bytearray(path.read_bytes())
    raw[(root - 1) * 4096 : root * 4096] = b"\xff" * 4096
    path.write_bytes(raw)
    with contextlib.closing(Journal(path)) as journal:
        journal.history(limit=1)
        assert silences.begun_anew_at(journal) is not None
    web.handler = answer(200)
    web.got.clear()
    for _ in range(3):
        round_of(told)
    first, anew = [key for letter in events(web) for _, key in letter]
    assert first == "run:qemu/101:snapshot", "what waited; and nothing is told again"
    assert anew.startswith("journal-begun-anew:")


def test_a_journal_that_cannot_be_written_is_told_by_the_heartbeat_alone(told: World, web: WebServer) -> None:
    def broken() -> Journal:
        raise JournalError("the disk is full")

    said = tell.after_recovery(told.config, broken, [], told.clock)
    assert said == ["notify: the disk is full"]
    assert web.beats == ["/beat/fail"]


# ----------------------------------------------------------------------------------------- receivers that are not good


@contextlib.contextmanager
def secure(world: World, handler: object, **options: object) -> Iterator[Wire]:
    """The webhook is a server with TLS."""
    with Wire(world.folder, handler, **options) as wire:  # type: ignore[arg-type]
        url = f"https://127.0.0.1:{wire.port}/hook/{WebServer.secret}\n"
        notify = world.config.notify._replace(
            mail_to="",
            webhook_file=write_secret(world.folder / "secure", url),
            heartbeat_file=None,
            ca_file=world.folder / "ca.pem",
        )
        world.config = world.config._replace(notify=notify)
        yield wire


def test_a_certificate_that_verifies_is_accepted(told: World) -> None:
    told.failed_run(100)
    with secure(told, reply("200 OK")) as wire:
        assert round_of(told) == []
        assert wire.requests[0].startswith(f"POST /hook/{WebServer.secret} HTTP/1.1\r\n".encode())


@pytest.mark.parametrize("why", ["another CA", "another host"])
def test_a_certificate_that_does_not_verify_gets_no_letter(told: World, why: str) -> None:
    told.failed_run(100)
    with secure(told, reply("200 OK"), listen="0.0.0.0") as wire:
        if why == "another CA":
            (told.folder / "ca.pem").write_bytes(authority("somebody else").certificate)
        else:
            assert told.config.notify.webhook_file is not None
            write_secret(told.config.notify.webhook_file, f"https://127.0.0.2:{wire.port}/{WebServer.secret}\n")
        (said,) = round_of(told)
        assert ("another host's: write its name" in said) == (why == "another host")
        assert ("see [notify] ca_file" in said) == (why == "another CA")
        assert WebServer.secret not in said
        assert wire.requests == []


@pytest.mark.parametrize(
    ("status", "what"),
    [(401, "it wants another key, in the URL or in a header"), (404, "it knows no such place; look at the URL")],
)
def test_an_answer_that_the_administrator_can_mend_says_what_to_look_at(
    told: World, web: WebServer, status: int, what: str
) -> None:
    web.handler = answer(status)
    told.failed_run(100)
    assert f"127.0.0.1: it answered {status}: {what}; tried again in 60 s" in "\n".join(round_of(told))


def test_a_redirect_is_not_followed(told: World, web: WebServer) -> None:
    with WebServer() as elsewhere:
        web.handler = answer(302, Location=f"{elsewhere.url}/caught")
        told.failed_run(100)
        said = "\n".join(round_of(told))
        assert "it answered 302, a redirect, which is not followed" in said
        assert elsewhere.got == []
        assert elsewhere.url not in said


def drips(request: http.server.BaseHTTPRequestHandler, text: bytes) -> None:
    for _ in range(int(2 * HANG_SECONDS / 0.05)):
        time.sleep(0.05)
        request.wfile.write(text)


def drips_its_head(request: http.server.BaseHTTPRequestHandler) -> None:
    request.wfile.write(b"HTTP/1.1 200 OK\r\n")
    drips(request, b"X-Slow: 1\r\n")


def says_wait_for_ever(request: http.server.BaseHTTPRequestHandler) -> None:
    drips(request, b"HTTP/1.1 100 Continue\r\n\r\n")


def floods_its_head(request: http.server.BaseHTTPRequestHandler) -> None:
    while True:
        request.wfile.write(b"HTTP/1.1 100 Continue\r\n\r\n" * 10_000)


def says_nothing(request: http.server.BaseHTTPRequestHandler) -> None:
    request.rfile.read(1)  # until the client goes


@pytest.mark.parametrize("handler", [drips_its_head, says_wait_for_ever, floods_its_head, says_nothing])
def test_a_receiver_that_never_ends_costs_its_limit(
    told: World, web: WebServer, monkeypatch: pytest.MonkeyPatch, handler: object
) -> None:
    monkeypatch.setattr(ways, "SECONDS", 0.4)
    monkeypatch.setattr(ways, "BEAT_SECONDS", 0.4)
    web.handler = handler  # type: ignore[assignment]
    told.failed_run(100)
    began = time.monotonic()
    said = "\n".join(tell.after_recovery(told.config, lambda: Journal(told.config.journal.path), [], RealClock(told)))
    assert time.monotonic() - began < HANG_SECONDS
    assert "webhook" in said
    assert web.secret not in said


@pytest.mark.parametrize("body", ["endless", "dripping"])
def test_no_body_is_read(told: World, web: WebServer, body: str) -> None:
    def answers(request: http.server.BaseHTTPRequestHandler) -> None:
        request.wfile.write(b"HTTP/1.1 200 OK\r\n\r\n")
        while not web.over.wait(0 if body == "endless" else 0.05):
            request.wfile.write(b"x" * (1 << 16 if body == "endless" else 1))

    web.handler = answers
    told.failed_run(100)
    began = time.monotonic()
    assert round_of(told) == []
    assert time.monotonic() - began < HANG_SECONDS


class RealClock:
    """The story's instant, with seconds that pass."""

    def __init__(self, world: World) -> None:
        self._world = world

    def time(self) -> float:
        return self._world.clock.now

    def monotonic(self) -> float:
        return time.monotonic()

    def sleep(self, seconds: float) -> None:
        time.sleep(seconds)


def test_a_receiver_with_tls_that_drips_costs_its_limit(told: World, monkeypatch: pytest.MonkeyPatch) -> None:
    def drips(connection: Connection) -> None:
        while not connection.over.wait(0.05):
            connection.send(b"HTTP/1.1 100 Continue\r\n\r\n")

    monkeypatch.setattr(ways, "SECONDS", 0.4)
    told.failed_run(100)
    with secure(told, drips):
        began = time.monotonic()
        clock = RealClock(told)
        (said,) = tell.after_recovery(told.config, lambda: Journal(told.config.journal.path), [], clock)
        assert time.monotonic() - began < HANG_SECONDS
        assert "no whole answer within 0.4 s" in said


@pytest.mark.parametrize(
    ("script", "said"),
    [
        ("#!/bin/sh\necho 'mail system \033[31mis down' >&2\nexit 75\n", "ended with 75: mail system [31mis down"),
        ("#!/bin/sh\nexec sleep 300\n", "did not end within"),
        ("#!/bin/sh\nhead -c 100000000 /dev/zero >&2\nexit 1\n", "ended with 1"),
        (None, "cannot be run (No such file or directory)"),
    ],
)
def test_a_sendmail_that_is_not_good_is_said_and_bounded(
    told: World, monkeypatch: pytest.MonkeyPatch, script: str | None, said: str
) -> None:
    monkeypatch.setattr(ways, "SECONDS", 1.0 if script and "sleep" in script else 30.0)
    if script is None:
        told.config.notify.sendmail.unlink()
    else:
        told.config.notify.sendmail.write_text(script)
    told.failed_run(100)
    began = time.monotonic()
    line = "\n".join(round_of(told))
    assert f"notify: mail: {told.config.notify.sendmail} {said}" in line
    assert "\033" not in line
    assert time.monotonic() - began < HANG_SECONDS


@pytest.mark.parametrize(
    "mail_to",
    [
        "root; rm -rf /",
        "-oQ/tmp",
        "root, -x",
        " ",
        ",",
        "root,",
        "r\u00f6\u00f6t",
        "=?utf-8?q?=0ABcc=3A_x=40y?=",
        "a b@example.com",
    ],
)
def test_what_is_no_address_gets_no_mail_and_the_others_are_told(
    told: World, web: WebServer, post: MailServer, mail_to: str
) -> None:
    told.config = told.config._replace(notify=told.config.notify._replace(mail_to=mail_to))
    told.failed_run(100)
    (said,) = round_of(told)
    assert "[notify] mail_to is no address: it is one, as root or ops@example.com" in said
    assert post.got == []
    assert kinds(web) == ["alarm"]
    assert len(web.beats) == 1


@pytest.mark.parametrize("mail_to", ["root", "a.b+c@example.com, root", "x@[192.0.2.1]"])
def test_addresses_are_addresses(told: World, post: MailServer, mail_to: str) -> None:
    told.config = told.config._replace(notify=told.config.notify._replace(mail_to=mail_to))
    told.failed_run(100)
    assert round_of(told) == []
    assert [mail["To"] for mail in post.got] == [mail_to]


# ------------------------------------------------------------------------------------------------------------- secrets


SECRETS = (WebServer.secret, WebServer.token)


@pytest.mark.parametrize(
    ("text", "mode", "said"),
    [
        ("https://example.com/{}", 0o644, "is readable by others .mode 0644.; chmod 600"),
        ("ftp://example.com/{}", 0o600, "line 1 of .* is neither a URL .* nor, below one, a header"),
        ("https://exa mple/{}", 0o600, "a URL in .* has no host, or no port"),
        ("https://example.com:99999/{}", 0o600, "a URL in .* has no host, or no port"),
        ("https://example.com/\nX-{} tOkEn", 0o600, "line 2 of .* is neither a URL .* nor, below one, a header"),
        ("X-Token: {}", 0o600, "line 1 of .* is neither"),
        ("", 0o600, "there is no URL in"),
        ("https://exämple.com/{}", 0o600, "not ASCII"),
    ],
)
def test_a_file_that_is_no_good_is_said_without_a_word_of_it(told: World, text: str, mode: int, said: str) -> None:
    assert told.config.notify.webhook_file is not None
    write_secret(told.config.notify.webhook_file, text.format(WebServer.secret)).chmod(mode)
    told.failed_run(100)
    (line,) = [line for line in round_of(told) if "webhook" in line.partition("/")[0]]
    assert re.search(said, line), line
    assert not any(secret in line for secret in (*SECRETS, "tOkEn"))


def test_no_secret_is_in_a_process_list_the_journal_an_error_or_a_log(told: World, web: WebServer) -> None:
    """Of a real process, while the receiver holds its request."""
    path, seen = written(told), list[str]()

    def holds(request: http.server.BaseHTTPRequestHandler) -> None:
        if request.command == "GET":
            request.wfile.write(b"HTTP/1.1 200 OK\r\nno header at all\r\n\r\n")  # which a library may log with its URL
            return
        for process in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                seen.append((process / "cmdline").read_text(errors="replace"))
                if process.name != str(os.getpid()):
                    seen.append((process / "environ").read_text(errors="replace"))
        answer(500, Location=f"/{WebServer.secret}")(request)

    web.handler = holds
    done = subprocess.run(
        [sys.executable, "-m", "snapshot.cli.main", "--config", str(path), "notify", "--test", "--verbose"],
        cwd=ROOT,
        check=False,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 1, done
    assert "mail to root: taken" in done.stdout
    assert "webhook to 127.0.0.1: FAILED: 127.0.0.1: it answered 500" in done.stdout
    assert "heartbeat to 127.0.0.1: taken" in done.stdout
    assert any("notify" in text for text in seen), "it was seen at work"
    told.failed_run(100)
    said = round_of(told)
    journal = b"".join(file.read_bytes() for file in told.config.journal.path.parent.iterdir() if file.is_file())
    everything = "\n".join([*seen, done.stdout, done.stderr, *said, lines(told), journal.decode(errors="replace")])
    assert "127.0.0.1" in everything
    assert not any(secret in everything for secret in SECRETS)
    assert web.got[0].headers["X-Token"] == WebServer.token
    assert web.secret in web.got[0].path


@pytest.mark.parametrize("text", [b"\x00\x01 no HTTP\r\n\r\n", b"HTTP/9.9 200\r\n", b"HTTP/1.1 2x0 OK\r\n\r\n", b""])
def test_no_error_has_a_word_of_the_url(told: World, web: WebServer, text: bytes) -> None:
    """Whatever a library says of an answer that is none."""
    web.handler = lambda request: request.wfile.write(text) and None
    told.failed_run(100)
    said = round_of(told)
    assert any("webhook" in line for line in said)
    assert not any(secret in line for line in said for secret in SECRETS)


@pytest.mark.parametrize("place", ["http://127.0.0.1:9", "https://127.0.0.1:9", "https://no-such-host.invalid"])
def test_a_place_where_nobody_answers_is_said_without_a_word_of_the_url(told: World, place: str) -> None:
    assert told.config.notify.webhook_file is not None
    write_secret(told.config.notify.webhook_file, f"{place}/{WebServer.secret}\n")
    told.failed_run(100)
    (said,) = [line for line in round_of(told) if "webhook" in line]
    assert "Connection refused" in said or "nobody knows its name" in said
    assert not any(secret in said for secret in SECRETS)


def test_a_test_that_is_taken_everywhere_ends_well_and_one_of_nothing_is_a_wrong_configuration(
    told: World, web: WebServer, post: MailServer
) -> None:
    def run(path: Path, *more: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "snapshot.cli.main", "--config", str(path), "notify", *more]
        return subprocess.run(command, cwd=ROOT, check=False, capture_output=True, text=True, timeout=60)

    done = run(written(told), "--test", "--json")
    assert done.returncode == 0, done
    found = json.loads(done.stdout)
    assert [(way["way"], way["ok"]) for way in found["ways"]] == [
        ("mail", True),
        ("webhook", True),
        ("heartbeat", True),
    ]
    assert "a test of vzdump-hooks" in post.subjects[0]
    assert "Nothing is wrong" in web.letters[0]["text"]
    empty = told.folder / "empty.toml"
    empty.write_text("")
    done = run(empty, "--test")
    assert done.returncode == 3
    assert "[notify] sets no way: there is nothing to try or to send" in done.stderr


def test_notify_sends_at_once_what_waits(told: World, web: WebServer) -> None:
    web.handler = answer(500)
    told.failed_run(100)
    round_of(told)
    web.handler = answer(200)
    web.got.clear()
    (done,) = sending.send_due(told.journal, told.config, told.clock, at_once=True)
    assert (done.way, done.ok, done.detail) == ("webhook", True, "1 message sent")
    assert kinds(web) == ["alarm"]


def test_a_heartbeat_with_a_second_url_is_told_there_when_something_is_wrong(told: World, web: WebServer) -> None:
    """As Uptime Kuma has it."""
    up, down = (f"{web.url}/api/push/key?status={word}" for word in ("up", "down"))
    assert told.config.notify.heartbeat_file is not None
    write_secret(told.config.notify.heartbeat_file, f"{up}\n{down}\n")
    round_of(told)
    told.failed_run(100)
    round_of(told)
    assert web.beats == ["/api/push/key?status=up", "/api/push/key?status=down"]
