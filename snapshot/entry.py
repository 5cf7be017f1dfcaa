"""``safe-snapshot`` starts here: alone with modules of our own, and quiet when it is stopped before it has begun.

Our programs run as root: no module of somebody else's may be loaded because a variable names its folder. The Debian
package starts them with ``python3 -I``; a script that pip made cannot, so it starts itself once more. What is imported
at the top of this file is what the interpreter has loaded by itself.
"""

from __future__ import annotations

import os
import sys


def isolate() -> None:
    """Start this very program again in isolated mode where the environment could bring foreign modules in."""
    if not sys.flags.isolated and sys.executable and any(name.startswith("PYTHON") for name in os.environ):
        os.execv(sys.executable, [sys.executable, "-I", *sys.argv])  # noqa: S606 - ourselves, without a shell


def main() -> None:
    """The entry point."""
    isolate()
    # No module but ours before isolate(), and the command's own cost 60 ms, in which a Ctrl-C must end quietly.
    import signal  # noqa: PLC0415

    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        # The imports of a command take longer than a mistyped line needs to be regretted: a Ctrl-C in them ends the
        # program like any other, not with a traceback. cli.main() brings handlers of its own.
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    from snapshot.cli import main as cli  # noqa: PLC0415 - 60 ms: see above

    cli.main()
