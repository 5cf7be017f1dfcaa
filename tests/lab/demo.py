"""``make demo``: the main job on a real guest, step by step, with the disk's own word on it. Cleans up after itself.

Without QEMU or its packages it says so and goes on with a scripted guest.
"""

from __future__ import annotations

import signal
import subprocess
import sys
import time

from snapshot.base.text import clean
from tests.lab.fixtures import real_available, why_no_real
from tests.lab.guest.base import Guest
from tests.lab.guest.oracle import Judgement, judge, judge_image
from tests.lab.guest.real import RealGuest
from tests.lab.guest.scripted import ScriptedGuest
from tests.lab.site import Site, site, wait_for

KILL_LIMIT_SECONDS = 10.0


def main() -> int:
    """Run the demo; 0 when everything was as it should be."""
    real = real_available()
    if real:
        say("booting a real QEMU guest (Debian kernel, real qemu-guest-agent, ext4 on qcow2) and a PVE node in a box")
    else:
        say(f"no real guest here: {why_no_real()}")
        say("going on with a scripted guest, which speaks the real agent's protocol")
    try:
        good = told(real=real)
    except OSError as error:
        say(f"the guest or its node is not there: {clean(str(error), 200)}; run it again")
        good = False
    print("\nDEMO " + ("OK: every verdict agrees with the disk" if good else "FAILED: see above"))
    return 0 if good else 1


def told(*, real: bool) -> bool:
    """The story; whether everything was as it should be."""
    started = time.monotonic()
    with site(RealGuest if real else ScriptedGuest) as lab:
        say(f"guest 100 runs and answers, the API listens at {lab.node.url} ({time.monotonic() - started:.1f} s)")
        steps = (checked, consistent, without_freeze, killed, backed_up, measured)
        good = all(step(lab) for step in steps)
    say(f"cleaned up ({time.monotonic() - started:.0f} s in all)")
    return good


def checked(lab: Site) -> bool:
    """`safe-snapshot check`."""
    title("Can this guest be frozen?")
    return run(lab, "check", "100") == 0


def consistent(lab: Site) -> bool:
    """A safe snapshot, and the disk's answer. An `unknown` fails it, as any word does that is not the disk's."""
    title("A safe snapshot: frozen, proven, thawed")
    code = run(lab, "100", "safe", "--policy", "require")
    said = oracle(judge(lab.guest.disk, "safe", lab.guest.fs))
    return code == 0 and agrees(lab, "snapshot", said) and said.consistent and thawed(lab.guest)


def without_freeze(lab: Site) -> bool:
    """The contrast."""
    title("The same without a freeze, for contrast")
    lab.node.set_config(100, agent="1,freeze-fs=0")
    code = run(lab, "100", "--name", "plain", "--policy", "never")
    lab.node.set_config(100, agent="1")
    said = oracle(judge(lab.guest.disk, "plain", lab.guest.fs))
    return code == 0 and agrees(lab, "snapshot", said) and not said.consistent


def killed(lab: Site) -> bool:
    """SIGKILL in the middle of the window: the guard thaws."""
    title("safe-snapshot is killed (SIGKILL) while the guest is frozen")
    lab.node.fault("/snapshot$", "delay", method="POST", delay=20.0)
    process = lab.start("100", "--name", "killed")
    if not wait_for(lambda: frozen_by_agent(lab.guest), KILL_LIMIT_SECONDS):
        say("the guest was never frozen")
        return False
    process.send_signal(signal.SIGKILL)
    died = time.monotonic()
    process.communicate()
    good = wait_for(lambda: not frozen_by_agent(lab.guest), KILL_LIMIT_SECONDS)
    say(f"the guard thawed the guest {time.monotonic() - died:.2f} s after its owner's death" if good else "NOT THAWED")
    lab.node.clear_faults()
    wait_for(lambda: all(w.closed_at for w in lab.windows()), KILL_LIMIT_SECONDS)
    worth = next((window.verdict for window in lab.windows() if window.source == "snapshot"), None)
    say(f"our verdict on what its owner left behind: {worth}; nobody vouches for it")
    return good and worth in (None, "unknown") and thawed(lab.guest)


def backed_up(lab: Site) -> bool:
    """A vzdump backup with the hook."""
    title("A vzdump backup with `script: vzdump-hook`")
    with lab.vzdump(100) as job:
        result = job.wait()
    for line in result.log_lines:
        if "vzdump-hook" in line or "freeze" in line or "started backup" in line or line.startswith("TASK"):
            print(f"    {line}")
    archive = result.guests[100].archive
    if not result.ok or archive is None:
        return False
    said = oracle(judge_image(archive, lab.guest.fs))
    return agrees(lab, "vzdump", said) and said.consistent


def measured(lab: Site) -> bool:
    """The textfile."""
    title("What Prometheus sees")
    text = lab.metrics_path.read_text() if lab.metrics_path.exists() else ""
    shown = ("last_window_seconds{", "last_verdict{", "guard_thaws_total{", "guest_frozen{", "failures_total{")
    for line in text.splitlines():
        if any(name in line for name in shown) and not line.endswith(" 0.0"):
            print(f"    {line}")
    return bool(text)


def run(lab: Site, *arguments: str) -> int:
    """Run safe-snapshot with its output in view."""
    print(f"    $ safe-snapshot {' '.join(arguments)}")
    done = subprocess.run(
        lab.command(*arguments),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    for line in done.stdout.splitlines():
        print(f"    {line}")
    return done.returncode


def oracle(said: Judgement) -> Judgement:
    """Show the disk's own answer."""
    say(f"the disk itself, read without us: {word_of(said)} ({said.evidence})")
    return said


def word_of(said: Judgement) -> str:
    """The verdict that would be true."""
    return "filesystem-consistent" if said.consistent else "crash-consistent"


def agrees(lab: Site, source: str, said: Judgement) -> bool:
    """Whether our own verdict, of the newest window of ``source``, is the disk's. One that is `unknown` is not."""
    ours = next((window.verdict for window in lab.windows() if window.source == source), None)
    good = ours == word_of(said)
    say(f"our verdict: {ours}, as the disk says" if good else f"OUR VERDICT IS {ours}, AND THE DISK SAYS OTHERWISE")
    return good


def thawed(guest: Guest) -> bool:
    """Whether the guest writes again, seen from outside."""
    frozen = guest.is_frozen()
    say("the guest's disk stands still" if frozen else "the guest writes again (seen from outside, without its agent)")
    return not frozen


def frozen_by_agent(guest: Guest) -> bool:
    """What the agent says; a busy agent counts as no."""
    try:
        return bool(guest.ask("guest-fsfreeze-status", timeout=2.0) == "frozen")
    except OSError:
        return False


def title(text: str) -> None:
    """A step's heading."""
    print(f"\n== {text}", flush=True)


def say(text: str) -> None:
    """A line of the demo's own."""
    print(f"    [{text}]", flush=True)


if __name__ == "__main__":
    sys.exit(main())
