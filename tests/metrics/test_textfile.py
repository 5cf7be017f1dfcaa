"""Writing the textfile: killed at every step, two at once, a full disk, a folder that is not ours."""

from __future__ import annotations

import contextlib
import fcntl
import multiprocessing
import os
import signal
import stat
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from snapshot.base.clock import SystemClock
from snapshot.config.settings import Config, JournalConfig, MetricsConfig
from snapshot.journal.store import Journal
from snapshot.metrics import publish, textfile
from tests.metrics.conftest import World, record, samples

STEPS = ("open", "write", "fchmod", "utime", "fsync", "rename", "unlink", "close")
NOBODY = 65534


def _forked(work: Callable[[], None]) -> int:
    """Run ``work`` in a child; the status with which it ended (negative: the signal)."""
    pid = os.fork()
    if pid == 0:
        try:
            work()
        except BaseException:  # noqa: BLE001 - a forked child must never return into pytest
            os._exit(1)
        os._exit(0)
    _, status = os.waitpid(pid, 0)
    return os.waitstatus_to_exitcode(status)


def _kill_at(step: int) -> None:
    """From now on, SIGKILL this process right before its ``step``-th system call of the ones that write files."""
    count = 0

    def counted(function: Callable[..., object]) -> Callable[..., object]:
        def wrapper(*args: object, **kwargs: object) -> object:
            nonlocal count
            count += 1
            if count == step:
                os.kill(os.getpid(), signal.SIGKILL)
            return function(*args, **kwargs)

        return wrapper

    for name in STEPS:
        setattr(os, name, counted(getattr(os, name)))


def test_killed_at_every_step_the_file_is_the_old_one_or_the_new_one(tmp_path: Path) -> None:
    path = tmp_path / "m.prom"
    old, new = b"old\n" * 5000, b"new\n" * 5000
    path.write_bytes(old)
    seen = set()
    for step in range(1, 100):
        path.write_bytes(old)

        def work(step: int = step) -> None:
            _kill_at(step)
            textfile.write(path, lambda: new, 1.0, SystemClock())

        status = _forked(work)
        seen.add(path.read_bytes())
        assert path.read_bytes() in (old, new), f"torn at step {step}"
        if status == 0:
            break
        assert status == -signal.SIGKILL
        # The next writer is not held up, and leaves nothing of the dead one.
        textfile.write(path, lambda: b"next\n", 1.0, SystemClock())
        assert path.read_bytes() == b"next\n"
        assert os.listdir(tmp_path) == ["m.prom"]
    assert status == 0
    assert step > 8
    assert seen == {old, new}


def test_killed_at_every_step_of_publishing_no_counter_goes_back(world: World) -> None:
    """The whole way: the journal's transaction and the file; what a killed run published is never above the journal."""
    name = "pve_fsfreeze_attempts_total"
    world.good_run()
    assert world.publish() == []
    published = 1.0
    for step in (1, 2, 3, 5, 7, 9, 11):

        def work(step: int = step) -> None:
            journal = Journal(world.config.journal.path)
            _kill_at(step)
            publish.publish(world.config, journal, world.clock)

        world.good_run()
        _forked(work)
        now = next(v for (n, _), v in samples(world.textfile.read_text()).items() if n == name)
        assert published <= now <= (world.value(name) or 0)
        published = now


def test_the_file_is_readable_for_everybody_and_nothing_else_stays_in_the_folder(world: World) -> None:
    world.good_run()
    before = os.umask(0o077)
    try:
        assert world.publish() == []
    finally:
        os.umask(before)
    assert stat.S_IMODE(world.textfile.stat().st_mode) == 0o644
    assert os.listdir(world.textfile.parent) == [world.textfile.name]


def _hammer(folder: str, vmid: int, runs: int) -> None:
    config = Config(
        journal=JournalConfig(path=Path(folder) / "state" / "journal.sqlite"),
        metrics=MetricsConfig(textfile=Path(folder) / "metrics" / "vzdump_hooks.prom"),
    )
    journal = Journal(config.journal.path)
    for number in range(runs):
        record_id = f"{vmid}-{number}"
        journal.begin(record(record_id, vmid, time.time()))
        journal.update(record_id, freeze_outcome="acknowledged", closed_at=time.time(), window_seconds=0.1)
        problems = publish.publish(config, journal, SystemClock())
        assert problems == [], problems


def test_two_hooks_and_an_exporter_at_once_never_show_a_torn_file_or_a_counter_that_went_back(world: World) -> None:
    world.clock.now = time.time()
    world.good_run(300)
    assert world.publish() == []
    runs = 25
    context = multiprocessing.get_context("fork")
    writers = [context.Process(target=_hammer, args=(str(world.folder), vmid, runs)) for vmid in (100, 200)]
    last: dict[object, float] = {}
    scraped: dict[object, float] = {}
    reads = 0

    def follow(text: str, before: dict[object, float]) -> dict[object, float]:
        assert text.endswith("\n")
        assert "pve_fsfreeze_build_info" in text
        after = {key: value for key, value in samples(text).items() if key[0].endswith("_total")}
        for key, value in before.items():
            assert after[key] >= value, f"{key} went back"  # type: ignore[index]
        return dict(after)

    for writer in writers:
        writer.start()
    while any(writer.is_alive() for writer in writers):
        last = follow(world.textfile.read_text(), last)
        scraped = follow(world.text(), scraped)
        reads += 1
    for writer in writers:
        writer.join()
        assert writer.exitcode == 0
    assert reads > 5
    last = follow(world.textfile.read_text(), last)
    assert sum(v for (n, _), v in last.items() if n == "pve_fsfreeze_attempts_total") == 2 * runs + 1  # type: ignore[misc]
    assert os.listdir(world.textfile.parent) == [world.textfile.name]


def test_an_older_rendering_never_replaces_a_newer_one(tmp_path: Path) -> None:
    """The slow writer holds its turn from before it renders; the other one renders after it."""
    path = tmp_path / "m.prom"
    value, rendering = iter((b"1\n", b"2\n")), threading.Event()

    def slow() -> bytes:
        content = next(value)
        rendering.set()
        time.sleep(0.3)
        return content

    turn = tmp_path / "turn"
    thread = threading.Thread(target=textfile.write, args=(path, slow, 30.0, SystemClock(), turn))
    thread.start()
    assert rendering.wait(30)
    textfile.write(path, lambda: next(value), 30.0, SystemClock(), turn)
    thread.join()
    assert path.read_bytes() == b"2\n"


def test_who_waited_while_another_rendered_what_both_have_to_say_writes_nothing(tmp_path: Path) -> None:
    """A hundred runs that end at once make a few files, not a hundred."""
    path, turn, clock = tmp_path / "m.prom", tmp_path / "turn", SystemClock()
    waiting, rendered = threading.Event(), list[int]()

    def content() -> bytes:
        rendered.append(len(rendered))
        waiting.wait(30)
        return b"x\n"

    threads = [threading.Thread(target=textfile.write, args=(path, content, 60.0, clock, turn)) for _ in range(8)]
    for thread in threads:
        thread.start()
    while len(rendered) < 1:
        time.sleep(0.001)
    time.sleep(0.1)  # the others are called meanwhile; who is late renders by himself, which is right too
    waiting.set()
    for thread in threads:
        thread.join()
    assert len(rendered) < 8
    future = time.time() + 3600
    os.utime(path, (future, future))  # by a clock that was wrong
    textfile.write(path, lambda: b"new\n", 1.0, clock, turn)
    assert path.read_bytes() == b"new\n"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
def test_another_user_cannot_keep_the_metrics_from_being_written(world: World) -> None:
    """Whoever can open a file or a folder can hold its lock: ours is where nobody else can."""
    world.good_run()
    assert world.publish() == []
    for folder in (world.folder, *world.folder.parents):
        if folder.stat().st_uid == os.geteuid() and folder != Path("/"):
            folder.chmod(folder.stat().st_mode | 0o755)
    world.config.journal.path.parent.chmod(0o755)
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.setgid(NOBODY)
        os.setuid(NOBODY)
        held = []
        for folder in (world.textfile.parent, world.config.journal.path.parent):
            for path in (folder, *folder.iterdir()):
                with contextlib.suppress(OSError):
                    held.append(os.open(path, os.O_RDONLY))
                    fcntl.flock(held[-1], fcntl.LOCK_EX)
        os.write(writer, str(len(held)).encode())
        time.sleep(60)
        os._exit(0)
    try:
        assert int(os.read(reader, 10)) >= 3
        started = world.clock.now
        assert world.publish() == []
        assert world.clock.now == started
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)


def test_a_writer_that_hangs_costs_the_others_a_line_and_a_bounded_wait(world: World) -> None:
    world.good_run()
    assert world.publish() == []
    before = world.textfile.read_bytes()
    holder = os.open(publish.lock_of(world.config), os.O_RDWR)
    try:
        fcntl.flock(holder, fcntl.LOCK_EX)
        started = world.clock.now
        (problem,) = world.publish()
        assert world.clock.now - started <= publish.TURN_SECONDS + 1
    finally:
        os.close(holder)
    assert f"publish-lock for {publish.TURN_SECONDS:g} s" in problem
    assert "fuser" in problem
    assert world.textfile.read_bytes() == before


@contextlib.contextmanager
def _small_disk(path: Path) -> Iterator[Path]:
    path.mkdir(exist_ok=True)
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(path)], capture_output=True, check=False
    )
    if mounted.returncode != 0:
        pytest.skip(f"a tmpfs cannot be mounted here: {mounted.stderr.decode().strip()}")
    try:
        yield path
    finally:
        subprocess.run(["umount", "-l", str(path)], check=True)


def _fill(ballast: Path) -> None:
    descriptor = os.open(ballast, os.O_WRONLY | os.O_CREAT)
    with contextlib.suppress(OSError):
        while True:
            os.write(descriptor, b"x" * 4096)
    os.close(descriptor)


def test_a_full_disk_leaves_the_old_file_and_says_so(world: World, tmp_path: Path) -> None:
    with _small_disk(tmp_path / "small") as small:
        world.config = Config(journal=world.config.journal, metrics=MetricsConfig(textfile=small / "m.prom"))
        world.good_run()
        assert world.publish() == []
        before = (small / "m.prom").read_bytes()
        _fill(small / "ballast")
        world.good_run()
        (problem,) = world.publish()
        assert "No space left on device" in problem
        assert "the file there is as old as its date says" in problem
        assert (small / "m.prom").read_bytes() == before
        assert sorted(os.listdir(small)) == ["ballast", "m.prom"]
        (small / "ballast").unlink()
        assert world.publish() == []
        assert (
            b'attempts_total{id="qemu/100",node="pve1",source="snapshot",vmid="100"} 2.0'
            in (small / "m.prom").read_bytes()
        )


def test_a_full_disk_under_the_journal_is_a_line_and_nothing_more(tmp_path: Path) -> None:
    with _small_disk(tmp_path / "small") as small:
        (small / "j").mkdir()
        _fill(small / "ballast")
        (small / "j" / "journal.sqlite").touch()
        journal = Journal(small / "j" / "journal.sqlite", read_only=True)
        config = Config(metrics=MetricsConfig(textfile=tmp_path / "m.prom"))
        (problem,) = publish.publish(config, journal, SystemClock())
        journal.close()
        assert problem.startswith("metrics were not written: the journal")
        assert not (tmp_path / "m.prom").exists()


def _as_nobody(world: World) -> list[str]:
    reader, writer = os.pipe()

    def work() -> None:
        os.setgid(NOBODY)
        os.setuid(NOBODY)
        journal = Journal(world.config.journal.path, read_only=True)
        os.write(writer, "\n".join(publish.publish(world.config, journal, world.clock)).encode())

    status = _forked(work)
    os.close(writer)
    with os.fdopen(reader) as pipe:
        problems = pipe.read().splitlines()
    assert status == 0
    return problems


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
def test_a_folder_that_is_not_ours_is_a_line_that_says_what_to_do(world: World) -> None:
    world.good_run()
    assert world.publish() == []
    before = world.textfile.read_bytes()
    for folder in (world.folder, *world.folder.parents):
        if folder.stat().st_uid == os.geteuid() and folder != Path("/"):
            folder.chmod(folder.stat().st_mode | 0o755)
    world.config.journal.path.parent.chmod(0o755)
    world.config.journal.path.chmod(0o644)
    (problem,) = _as_nobody(world)
    assert "Permission denied" in problem
    assert "this user may not write to" in problem
    assert world.textfile.read_bytes() == before
    assert os.listdir(world.textfile.parent) == [world.textfile.name]


def test_a_missing_folder_is_named_and_not_created(world: World) -> None:
    world.textfile.parent.rmdir()
    world.good_run()
    (problem,) = world.publish()
    assert f"create the folder {world.textfile.parent}" in problem
    assert not world.textfile.parent.exists()


def test_the_default_folder_may_be_missing_nobody_asked_for_it(
    world: World, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    default = MetricsConfig(textfile=tmp_path / "no-node-exporter-here" / "vzdump_hooks.prom")
    monkeypatch.setattr(publish, "MetricsConfig", lambda: default)
    world.config = Config(journal=world.config.journal, metrics=default)
    world.good_run()
    assert world.publish() == []


def test_a_trap_left_in_a_folder_that_others_may_write_to_is_not_stepped_into(world: World) -> None:
    """A symbolic link under the file's or a temporary file's name would have us overwrite what it points to."""
    victim = world.folder / "victim"
    victim.write_text("precious")
    for name in (f".{world.textfile.name}.new", f".{world.textfile.name}.{'0' * 16}.new", world.textfile.name):
        (world.textfile.parent / name).symlink_to(victim)
    world.good_run()
    assert world.publish() == []
    assert victim.read_text() == "precious"
    assert not world.textfile.is_symlink()


def test_a_bug_in_rendering_is_a_line_too(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    from snapshot.metrics import exposition

    world.good_run()
    assert world.publish() == []
    before = world.textfile.read_bytes()
    monkeypatch.setattr(exposition, "render", lambda *_: 1 / 0)
    (problem,) = world.publish()
    assert "ZeroDivisionError" in problem
    assert world.textfile.read_bytes() == before


def test_an_empty_textfile_setting_writes_none(world: World) -> None:
    world.config = Config(journal=world.config.journal, metrics=MetricsConfig(textfile=None))
    world.good_run()
    assert world.publish() == []
    assert not (world.folder / "metrics" / "vzdump_hooks.prom").exists()
