"""Ends an own command when we are killed (SIGKILL, out of memory): nothing of ours can act any more then.

A shell at the other end of a pipe, in a session of its own: at the pipe's end, which comes with ours, it ends the
command's process group as the runner would have. Not timeout(1) or setpriv(1), in front of the command: one ends what
a TERM's trap has begun, with its second TERM, the other leaves the command's children behind.
"""

from __future__ import annotations

import contextlib
import subprocess

from snapshot.base.aside import reap

_SCRIPT = """
read -r group && {
  read -r _
  kill -TERM "-$group"
  sleep "$1"
  kill -KILL "-$group"
}
"""


class Keeper:
    """Begun before its command. ``grace_seconds``: from TERM to KILL. Where none can be started, there is none."""

    def __init__(self, grace_seconds: float) -> None:
        self._shell: subprocess.Popen[bytes] | None = None
        with contextlib.suppress(OSError):
            self._shell = subprocess.Popen(  # noqa: S603 - our own words
                ["/bin/sh", "-c", _SCRIPT, "keeper", f"{grace_seconds:g}"],
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                start_new_session=True,
                cwd="/",
                env={"PATH": "/usr/bin:/bin"},
                bufsize=0,
            )

    def keep(self, group: int) -> None:
        """From now on the processes of ``group`` end with us."""
        if self._shell is not None and self._shell.stdin is not None:
            with contextlib.suppress(OSError):
                self._shell.stdin.write(b"%d\n" % group)

    def end(self) -> None:
        """The command is over: whatever it left behind lives on."""
        if self._shell is not None and self._shell.stdin is not None:
            self._shell.kill()  # first: it acts when its pipe ends
            reap(self._shell)
            self._shell.stdin.close()
