"""``pvesh`` as a transport: works on the node with pveproxy down. Root only; about a second a call (a Perl start).

Its habits (PVE/CLI/pvesh.pm): agent errors exit 0 like the API; a text on stderr and exit 111 or 2
is what HTTP would call a 500; 255 with "400 ..." a bad parameter; tasks run in the foreground and the UPID is the last
line of stdout.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
from collections.abc import Mapping
from urllib.parse import unquote

from snapshot.errors import ApiUnreachableError, ReplyLostError
from snapshot.pve.transport import clean, error_of_status

_VERBS = {"GET": "get", "POST": "create", "PUT": "set", "DELETE": "delete"}
_UPID = re.compile(r'"?(UPID:[^"\s]+:)"?\s*\Z')


START_SECONDS = 6.0
"""What pvesh needs for its own start on a busy node (about a second on an idle one), on top of the request's time."""


class PveshTransport:
    """Runs ``pvesh <verb> /<path>``. ``program`` may be a path, for nodes with an unusual PATH."""

    def __init__(self, program: str = "/usr/bin/pvesh") -> None:
        self.name = "pvesh"
        self._program = program

    def request(
        self, method: str, path: str, params: Mapping[str, object] | None = None, *, timeout_seconds: float = 10.0
    ) -> object:
        """See Transport.request."""
        # Not a URL: what is quoted for one (a UPID) must be plain here (PVE/CLI/pvesh.pm takes the path as it is).
        argv = [self._program, _VERBS[method], f"/{unquote(path)}", "--output-format", "json"]
        for key, value in (params or {}).items():
            argv += [f"--{key}", str(value)]
        try:
            process = subprocess.Popen(  # noqa: S603 - a fixed program, arguments without a shell
                argv,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                start_new_session=True,
                env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C"},
            )
        except OSError as error:
            raise ApiUnreachableError(f"{self._program} cannot be run ({error.strerror})") from error
        try:
            raw_out, raw_err = process.communicate(timeout=timeout_seconds + START_SECONDS)
        except subprocess.TimeoutExpired as error:
            _kill_group(process)
            raise ReplyLostError("pvesh did not answer in time: the request may still be carried out") from error
        out, err = raw_out.decode(errors="replace"), raw_err.decode(errors="replace")
        if process.returncode != 0:
            raise error_of_status(_status_of(process.returncode, err), err, self.name)
        return _parse(out)

    def close(self) -> None:
        """Nothing stays open."""


def _kill_group(process: subprocess.Popen[bytes]) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    for stream in (process.stdout, process.stderr):
        if stream is not None:
            stream.close()  # a guard that retries for hours must not run out of descriptors
    process.wait()


def _status_of(exit_code: int, stderr: str) -> int:
    leading = re.match(r"\s*(\d{3})\b", stderr)
    if leading:
        return int(leading[1])
    if "ermission check failed" in stderr or "ermission denied" in stderr:
        return 403
    return 500 if exit_code > 0 else 599


def _parse(out: str) -> object:
    try:
        return json.loads(out) if out.strip() else None
    except (ValueError, RecursionError):
        pass
    upid = _UPID.search(out)
    if upid:
        return upid[1]
    raise ReplyLostError(f"pvesh gave an answer that is not JSON: {clean(out, 80)}")
