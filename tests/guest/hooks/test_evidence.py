"""What the host reads of the hooks' word, and what follows for a verdict."""

from __future__ import annotations

import base64
import json
import socket
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from snapshot.base.clock import SystemClock
from snapshot.model import Verdict, VerdictKind
from snapshot.pve.qga import SocketChannel
from snapshot.window.guesthooks import EVIDENCE_BYTES, EVIDENCE_FILE, Marks, look, marks_of, raised
from tests.guest.hooks.sandbox import BOOT, HooksGuest
from tests.guest.hooks.test_scripts import evidence
from tests.hook.kit import back_up, hook_site, settled, story
from tests.lab.guest.agentmodel import Faults
from tests.lab.guest.scripted import ScriptedGuest
from tests.lab.site import site

HELD = Verdict(VerdictKind.FILESYSTEM_CONSISTENT, "1 filesystem frozen")
BEFORE = Marks(BOOT, 6, "thawed")
AFTER = Marks(BOOT, 7, "thawed", (("mariadb", 1), ("postgresql", 2)))


def test_what_the_scripts_write_is_what_the_host_reads(guest: HooksGuest) -> None:
    guest.mariadb()
    guest.postgresql()
    agent = guest.agent()
    before = Marks()
    agent.call("freeze")
    agent.call("thaw")
    after = marks_of((guest.home / "evidence").read_bytes())
    assert after == Marks(BOOT, 1, "thawed", (("postgresql", 1), ("mariadb", 1)))
    found = raised(HELD, before, after)
    assert found.kind is VerdictKind.APPLICATION_CONSISTENT
    assert found.reason == "1 filesystem frozen; PostgreSQL checkpointed, MariaDB locked by the guest's hooks"


def test_one_more_window_of_the_same_boot_is_this_one() -> None:
    assert raised(HELD, BEFORE, AFTER).kind is VerdictKind.APPLICATION_CONSISTENT
    assert "PostgreSQL checkpointed (2 servers)" in raised(HELD, BEFORE, AFTER).reason


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (None, AFTER),
        (BEFORE, None),
        (AFTER, AFTER),  # no hook ran: the agent was started without them
        (BEFORE, AFTER._replace(window=8)),  # somebody else froze as well
        (BEFORE, AFTER._replace(window=6)),
        (BEFORE._replace(boot="0" * 36), AFTER),
        (Marks(), AFTER),  # the file was not there, and now it has a seventh window
        (BEFORE, AFTER._replace(state="frozen")),  # the thaw's hook has not ended
        (BEFORE, AFTER._replace(state="refused")),
        (BEFORE, AFTER._replace(apps=())),
        (BEFORE, AFTER._replace(apps=(("oracle", 1),))),
    ],
)
def test_anything_else_is_no_evidence(before: Marks | None, after: Marks | None) -> None:
    assert raised(HELD, before, after) == HELD


def test_a_hook_that_failed_is_told_and_raises_nothing() -> None:
    found = raised(HELD, BEFORE, AFTER._replace(failed=("mariadb",)))
    assert found.kind is VerdictKind.FILESYSTEM_CONSISTENT
    assert found.reason == "1 filesystem frozen; guest hooks failed: mariadb"


@pytest.mark.parametrize("kind", [kind for kind in VerdictKind if kind is not VerdictKind.FILESYSTEM_CONSISTENT])
def test_no_other_verdict_is_raised(kind: VerdictKind) -> None:
    verdict = Verdict(kind, "why")
    assert raised(verdict, BEFORE, AFTER) == verdict


GOOD = evidence(7, "thawed", "app mariadb 1", "failed postgresql")


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\xff" * 100,
        GOOD.encode()[:-1],  # cut
        GOOD.encode() + b"x",
        GOOD.replace("end\n", "").encode(),
        GOOD.replace("window 7", "window 07").encode(),
        GOOD.replace("window 7", "window 99999999999").encode(),
        GOOD.replace("window 7", "window \N{ARABIC-INDIC DIGIT SEVEN}").encode(),
        GOOD.replace("app mariadb 1", "app mariadb 0").encode(),
        GOOD.replace("app mariadb 1", "app MARIADB\x1b[2J 1").encode(),
        GOOD.replace("app mariadb 1", "\n".join(["app mariadb 1"] * 21)).encode(),
        GOOD.replace(" 1\n", " 2\n", 1).encode(),  # another version of the format
    ],
)
def test_what_the_hooks_would_not_write_is_not_read(content: bytes) -> None:
    assert marks_of(GOOD.encode()) is not None
    assert marks_of(content) is None


# -- over the socket --------------------------------------------------------------------------------------------------

Answers = Callable[[str, dict[str, object]], object]


def agent_at(path: Path, answers: Answers) -> None:
    """An agent on the socket that serves one client; ``answers`` is asked for all but syncs and the status."""
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(path))
    listener.listen()

    def serve() -> None:
        connection, _ = listener.accept()
        with listener, connection, connection.makefile("rb") as lines:
            for line in lines:
                request = json.loads(line.lstrip(b"\xff"))
                command, arguments = request["execute"], request.get("arguments", {})
                if command == "guest-sync-delimited":
                    connection.sendall(b"\xff" + json.dumps({"return": arguments["id"]}).encode() + b"\n")
                elif command == "guest-fsfreeze-status":
                    connection.sendall(b'{"return": "thawed"}\n')
                else:
                    answer = answers(command, arguments)
                    reply = {"error": answer} if isinstance(answer, dict) and "class" in answer else {"return": answer}
                    connection.sendall(json.dumps(reply).encode() + b"\n")

    threading.Thread(target=serve, daemon=True).start()


def error(text: str, kind: str = "GenericError") -> dict[str, str]:
    return {"class": kind, "desc": text}


def test_the_file_is_read_opened_and_closed(tmp_path: Path) -> None:
    asked: list[tuple[str, dict[str, object]]] = []

    def answers(command: str, arguments: dict[str, object]) -> object:
        asked.append((command, arguments))
        content = {"count": len(GOOD), "buf-b64": base64.b64encode(GOOD.encode()).decode(), "eof": True}
        return {"guest-file-open": 1000, "guest-file-read": content}.get(command, {})

    agent_at(tmp_path / "qga", answers)
    assert look(SocketChannel(tmp_path / "qga", SystemClock())) == marks_of(GOOD.encode())
    assert asked == [
        ("guest-file-open", {"path": EVIDENCE_FILE}),
        ("guest-file-read", {"handle": 1000, "count": EVIDENCE_BYTES}),
        ("guest-file-close", {"handle": 1000}),
    ]


@pytest.mark.parametrize(
    ("answer", "found"),
    [
        (error(f"failed to open file '{EVIDENCE_FILE}' (mode: 'r'): No such file or directory"), Marks()),
        (error(f"failed to open file '{EVIDENCE_FILE}' (mode: 'r'): Permission denied"), None),
        (error("Command guest-file-open has been disabled", "CommandNotFound"), None),
    ],
)
def test_only_a_file_that_is_not_there_is_the_hooks_silence(tmp_path: Path, answer: object, found: object) -> None:
    agent_at(tmp_path / "qga", lambda *_: answer)
    assert look(SocketChannel(tmp_path / "qga", SystemClock())) == found


@pytest.mark.parametrize("content", [None, {}, {"buf-b64": 5}, {"buf-b64": "!"}, [], "x", {"buf-b64": "QQ==" * 2000}])
def test_nonsense_from_a_guest_is_not_known(tmp_path: Path, content: object) -> None:
    agent_at(tmp_path / "qga", lambda command, _: content if command == "guest-file-read" else 1)
    assert look(SocketChannel(tmp_path / "qga", SystemClock())) is None


def test_without_a_socket_nothing_is_known(tmp_path: Path) -> None:
    assert look(None) is None
    assert look(SocketChannel(tmp_path / "none", SystemClock())) is None


# -- in a whole run ---------------------------------------------------------------------------------------------------

READY = ("app postgresql 1", "app mariadb 1")


def test_a_snapshot_on_the_node_is_application_consistent_by_the_hooks_word() -> None:
    with site(lambda vmid, run: ScriptedGuest(vmid, run, faults=Faults(hooks_say=READY))) as lab:
        lab.on_the_node()
        for _ in range(2):  # the first window of a boot, and one more
            run = lab.safe_snapshot("--json", "100", "--policy", "require")
            assert run.exit_code == 0, run.text
            assert run.json["verdict"]["kind"] == "application-consistent", run.text
        assert [window.verdict for window in lab.windows()] == ["application-consistent"] * 2


def test_away_from_the_node_the_hooks_are_not_asked() -> None:
    with site(lambda vmid, run: ScriptedGuest(vmid, run, faults=Faults(hooks_say=READY))) as lab:
        run = lab.safe_snapshot("--json", "100", "--policy", "require")
        assert run.json["verdict"]["kind"] == "filesystem-consistent", run.text
        assert not lab.node.requests("file-read")


def test_a_hook_that_failed_stands_in_the_reason() -> None:
    with site(lambda vmid, run: ScriptedGuest(vmid, run, faults=Faults(hooks_say=(READY[0], "failed mariadb")))) as lab:
        lab.on_the_node()
        run = lab.safe_snapshot("--json", "100", "--policy", "require")
        assert run.exit_code == 0, run.text
        assert run.json["verdict"]["kind"] == "filesystem-consistent"
        assert "guest hooks failed: mariadb" in run.json["verdict"]["reason"]


@pytest.mark.parametrize("rules", ["", 'owner = "vzdump"\n'])
def test_a_backup_is_application_consistent_whoever_freezes(rules: str) -> None:
    def make(vmid: int, run: Path) -> ScriptedGuest:
        return ScriptedGuest(vmid, run, faults=Faults(hooks_say=READY))

    with hook_site(make, rules=f"[[guest]]\nvmid = 100\npolicy = 'prefer'\n{rules}") as lab:
        back_up(lab)
        assert settled(lab).verdict == "application-consistent", story(lab)
