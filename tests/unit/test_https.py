"""Each way in which a request over HTTPS can fail, on real sockets: was it carried out or not, or does nobody know?"""

from __future__ import annotations

import contextlib
import gzip
import json
import os
import resource
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from snapshot.errors import (
    ApiDeniedError,
    ApiError,
    ApiFailureError,
    ApiUnreachableError,
    ConfigError,
    InterruptedBySignalError,
    ReplyLostError,
)
from snapshot.pve.https import Endpoint, HttpsTransport, read_ca
from snapshot.pve.transport import GATEWAY_STATUSES
from tests.lab.node.certs import authority
from tests.lab.site import wait_for
from tests.unit.wire import Connection, Handler, Wire, reply

SECRET = "5cc9cd64-7b0c-4d2e-a2a3-1a2b3c4d5e6f"
OK = reply("200 OK", '{"data":{"result":1}}')
HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 21\r\n\r\n"


def transport(port: int, ca_file: Path | None, host: str = "127.0.0.1") -> HttpsTransport:
    return HttpsTransport(Endpoint(host, port, "root@pam!safe", SECRET, ca_file))


def freeze(api: HttpsTransport, seconds: float = 5.0) -> object:
    with contextlib.closing(api):
        return api.request("POST", "nodes/pve1/qemu/100/agent/fsfreeze-freeze", timeout_seconds=seconds)


def failure(api: HttpsTransport, seconds: float = 5.0) -> ApiError:
    """The error of one freeze request; it never shows the secret."""
    with pytest.raises(ApiError) as caught:
        freeze(api, seconds)
    assert SECRET not in str(caught.value)
    assert SECRET not in repr(caught.value)
    assert "127.0.0.1" in str(caught.value)
    return caught.value


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Callable[..., Wire]]:
    with contextlib.ExitStack() as stack:
        yield lambda handler, **options: stack.enter_context(Wire(tmp_path, handler, **options))


Serve = Callable[..., Wire]


def test_a_good_answer_is_its_data_and_the_token_goes_with_the_request(serve: Serve) -> None:
    wire = serve(OK)
    assert freeze(transport(wire.port, wire.ca_file)) == {"result": 1}
    assert wire.requests[0].startswith(b"POST /api2/json/nodes/pve1/qemu/100/agent/fsfreeze-freeze HTTP/1.1\r\n")
    assert f"Authorization: PVEAPIToken=root@pam!safe={SECRET}".encode() in wire.requests[0]


def test_parameters_go_with_the_method_that_pve_expects(serve: Serve) -> None:
    wire = serve(reply("200 OK", '{"data":null}'))
    with contextlib.closing(transport(wire.port, wire.ca_file)) as api:
        api.request("GET", "cluster/resources", {"type": "vm"})
        api.request("POST", "nodes/pve1/qemu/100/snapshot", {"snapname": "s1", "vmstate": 0})
        api.request("PUT", "nodes/pve1/qemu/100/snapshot/s1/config", {"description": "ü & = ?"})
        api.request("DELETE", "nodes/pve1/qemu/100/snapshot/s1")
    assert [r.split(b" ", 2)[0] for r in wire.requests] == [b"GET", b"POST", b"PUT", b"DELETE"]
    assert b"?type=vm " in wire.requests[0]
    assert wire.requests[1].endswith(b"snapname=s1&vmstate=0")
    assert wire.requests[2].endswith(b"description=%C3%BC+%26+%3D+%3F")


# ------------------------------------------------------------------------------------------- certainly not carried out


def test_a_refused_connection_is_unreachable(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    error = failure(transport(port, None))
    assert isinstance(error, ApiUnreachableError)
    assert "systemctl status pveproxy" in error.remedy


def test_a_host_name_that_nobody_knows_is_unreachable() -> None:
    with pytest.raises(ApiUnreachableError):
        freeze(transport(8006, None, host="no-such-host.invalid"))


def test_a_connection_that_does_not_open_in_time_is_unreachable() -> None:
    with socket.socket() as full:  # a listener whose queue is full lets a connection hang
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        fillers = [socket.socket() for _ in range(4)]
        try:
            for filler in fillers:
                filler.setblocking(False)
                with contextlib.suppress(BlockingIOError):
                    filler.connect(full.getsockname())
            began = time.monotonic()
            assert isinstance(failure(transport(full.getsockname()[1], None), 0.3), ApiUnreachableError)
            # proxmoxer 1.2 has no limit here, and the kernel's is two minutes.
            assert time.monotonic() - began < 5
        finally:
            for filler in fillers:
                filler.close()


def test_a_certificate_of_another_ca_is_unreachable_and_nothing_is_sent(serve: Serve, tmp_path: Path) -> None:
    wire = serve(OK)
    other = tmp_path / "other.pem"
    other.write_bytes(authority("Somebody Else").certificate)
    error = failure(transport(wire.port, other))
    assert isinstance(error, ApiUnreachableError)
    assert "certificate" in error.message
    assert f"ca_file ({other})" in error.remedy
    assert "/etc/ssl/certs/ca-certificates.crt" in error.remedy
    assert wire.requests == []


def test_a_host_name_that_is_not_in_the_certificate_is_unreachable_and_nothing_is_sent(serve: Serve) -> None:
    wire = serve(OK, listen="127.0.0.2")
    with pytest.raises(ApiUnreachableError, match="certificate") as caught:
        freeze(transport(wire.port, wire.ca_file, host="127.0.0.2"))
    assert caught.value.remedy == "set [api] host to a name in the certificate"
    assert wire.requests == []


def test_without_a_ca_file_the_systems_are_asked_and_a_lab_certificate_is_not_accepted(serve: Serve) -> None:
    wire = serve(OK)
    assert isinstance(failure(transport(wire.port, None)), ApiUnreachableError)
    assert wire.requests == []


def test_a_server_that_speaks_no_tls_is_called_so() -> None:
    with socket.create_server(("127.0.0.1", 0)) as plain:

        def answer() -> None:
            connection, _ = plain.accept()
            with connection:
                connection.recv(4096)
                connection.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")

        thread = threading.Thread(target=answer)
        thread.start()
        error = failure(transport(plain.getsockname()[1], None))
        thread.join()
    assert "TLS" in error.message
    assert "[api] host and port" in error.remedy


# ----------------------------------------------------------------------------------------------------- nobody knows


def closes_at_once(connection: Connection) -> None:
    """The end of the stream, and not one byte of an answer."""


def resets(connection: Connection) -> None:
    connection.reset()


def resets_in_the_head(connection: Connection) -> None:
    connection.send(HEAD[:20])
    time.sleep(0.05)
    connection.reset()


def resets_in_the_body(connection: Connection) -> None:
    connection.send(HEAD + b'{"data":')
    time.sleep(0.05)
    connection.reset()


def closes_in_the_head(connection: Connection) -> None:
    connection.send(HEAD[:20])


def closes_in_the_body(connection: Connection) -> None:
    connection.send(HEAD + b'{"data":')


def is_silent(connection: Connection) -> None:
    connection.over.wait(10)


def is_silent_in_the_body(connection: Connection) -> None:
    connection.send(HEAD + b'{"data":')
    connection.over.wait(10)


def speaks_garbage_below_tls(connection: Connection) -> None:
    connection.raw(b"this is no TLS record at all, whatever it is")


def breaks_a_tls_record(connection: Connection) -> None:
    connection.raw(b"\x17\x03\x03\x00\x20" + b"\x00" * 32)


def speaks_garbage_above_tls(connection: Connection) -> None:
    connection.send(b"\x00\x01\x02 not HTTP\r\n\r\n")


def breaks_the_chunks(connection: Connection) -> None:
    connection.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nZZZ\r\nnope")


def breaks_the_compression(connection: Connection) -> None:
    connection.send(b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 4\r\n\r\nnope")


def sends_an_endless_header(connection: Connection) -> None:
    connection.send(b"HTTP/1.1 200 OK\r\nX: " + b"x" * 200_000 + b"\r\n\r\n")


AMBIGUOUS = [
    closes_at_once,
    resets,
    resets_in_the_head,
    resets_in_the_body,
    closes_in_the_head,
    closes_in_the_body,
    is_silent,
    is_silent_in_the_body,
    speaks_garbage_below_tls,
    breaks_a_tls_record,
    speaks_garbage_above_tls,
    breaks_the_chunks,
    breaks_the_compression,
    sends_an_endless_header,
]


@pytest.mark.parametrize("handler", AMBIGUOUS, ids=lambda handler: handler.__name__)
def test_a_request_that_arrived_and_was_not_answered_may_have_been_carried_out(serve: Serve, handler: Handler) -> None:
    wire = serve(handler)
    began = time.monotonic()
    error = failure(transport(wire.port, wire.ca_file), 0.4 if "silent" in handler.__name__ else 5.0)
    assert isinstance(error, ReplyLostError), error
    assert time.monotonic() - began < 8  # the silent ones would wait for 10 s
    assert len(wire.requests) == 1  # and it is never sent a second time behind our back


@pytest.mark.parametrize("status", sorted(GATEWAY_STATUSES))
def test_an_answer_of_a_proxy_in_the_middle_is_a_lost_reply(serve: Serve, status: int) -> None:
    wire = serve(reply(f"{status} Connection timed out"))
    error = failure(transport(wire.port, wire.ca_file))
    assert isinstance(error, ReplyLostError)
    assert f"{status} Connection timed out" in error.message


@pytest.mark.parametrize(
    "body",
    [
        "null",
        "[]",
        "{}",
        '"text"',
        "1",
        "true",
        "",
        "<html><body>502 Bad Gateway</body></html>",
        '{"data":',
        b"\xff\xfe\x00",
        "[" * 100_000,
        '{"data": NaN, ' + "x",
    ],
    ids=lambda body: repr(body)[:24],
)
def test_a_good_status_with_an_answer_that_is_not_pves_is_a_lost_reply(serve: Serve, body: bytes | str) -> None:
    wire = serve(reply("200 OK", body, "text/html"))
    assert isinstance(failure(transport(wire.port, wire.ca_file)), ReplyLostError)


def test_a_slow_answer_within_its_time_is_an_answer(serve: Serve) -> None:
    def slow(connection: Connection) -> None:
        time.sleep(0.3)
        OK(connection)

    wire = serve(slow)
    assert freeze(transport(wire.port, wire.ca_file), 5.0) == {"result": 1}


def test_a_data_that_is_null_is_none(serve: Serve) -> None:
    wire = serve(reply("200 OK", '{"data":null}'))
    assert freeze(transport(wire.port, wire.ca_file)) is None


# --------------------------------------------------------------------------------- a time limit is the whole request's


LIMIT_SECONDS = 0.4
HANG_SECONDS = 8.0
"""Far beyond the limit, far below what each of these servers would keep a client for."""


def keeps_saying(connection: Connection, text: bytes, pause_seconds: float) -> None:
    while not connection.over.wait(pause_seconds):
        connection.send(text)


def drips_its_body(connection: Connection) -> None:
    connection.send(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 1000000\r\n\r\n")
    keeps_saying(connection, b" ", 0.1)


def drips_its_chunks(connection: Connection) -> None:
    connection.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
    keeps_saying(connection, b"1\r\n \r\n", 0.1)


def drips_a_body_that_ends_with_the_connection(connection: Connection) -> None:
    connection.send(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n\r\n")
    keeps_saying(connection, b" ", 0.1)


def drips_its_status_line(connection: Connection) -> None:
    connection.send(b"HTTP/1.1 200 ")
    keeps_saying(connection, b"O", 0.1)


def drips_its_headers(connection: Connection) -> None:
    connection.send(b"HTTP/1.1 200 OK\r\n")
    keeps_saying(connection, b"X: y\r\n", 0.1)


def says_100_continue_slowly(connection: Connection) -> None:
    keeps_saying(connection, b"HTTP/1.1 100 Continue\r\n\r\n", 0.1)


def says_100_continue_quickly(connection: Connection) -> None:
    keeps_saying(connection, b"HTTP/1.1 100 Continue\r\n\r\n" * 40, 0.001)


def drips_an_error(connection: Connection) -> None:
    connection.send(b"HTTP/1.1 500 VM 100 is not running\r\nContent-Length: 1000000\r\n\r\n")
    keeps_saying(connection, b" ", 0.1)


def drips_a_bad_parameter(connection: Connection) -> None:
    connection.send(b"HTTP/1.1 400 Parameter verification failed.\r\nContent-Length: 1000000\r\n\r\n")
    keeps_saying(connection, b" ", 0.1)


DRIPPING = [
    drips_its_body,
    drips_its_chunks,
    drips_a_body_that_ends_with_the_connection,
    drips_its_status_line,
    drips_its_headers,
    says_100_continue_slowly,
    says_100_continue_quickly,
    drips_an_error,
    drips_a_bad_parameter,
]


@pytest.mark.parametrize("handler", DRIPPING, ids=lambda handler: handler.__name__)
def test_a_server_that_drips_is_one_that_does_not_answer_and_its_connection_is_closed(
    serve: Serve, handler: Handler
) -> None:
    left = threading.Event()

    def watched(connection: Connection) -> None:
        try:
            handler(connection)
        except OSError:
            left.set()
            raise

    wire = serve(watched)
    began = time.monotonic()
    with contextlib.closing(transport(wire.port, wire.ca_file)) as api:
        with pytest.raises(ReplyLostError, match="did not answer in time"):
            api.request("POST", "nodes/pve1/qemu/100/agent/fsfreeze-thaw", timeout_seconds=LIMIT_SECONDS)
        assert time.monotonic() - began < HANG_SECONDS
        assert left.wait(HANG_SECONDS), "the connection is still open"


def test_a_server_that_accepts_and_does_not_shake_hands_is_unreachable_at_the_limit(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        began = time.monotonic()
        error = failure(transport(silent.getsockname()[1], None), LIMIT_SECONDS)
        assert time.monotonic() - began < HANG_SECONDS
    assert isinstance(error, ApiUnreachableError), "nothing of the request was sent"


def test_a_handshake_that_drips_is_over_at_the_limit() -> None:
    over = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def drip() -> None:
            connection, _ = listener.accept()
            with connection, contextlib.suppress(OSError):
                connection.sendall(b"\x16\x03\x03\x3f\xff\x02\x00\x3f\xfb")  # a ServerHello, byte by byte
                while not over.wait(0.1):
                    connection.sendall(b"\x03")

        thread = threading.Thread(target=drip)
        thread.start()
        began = time.monotonic()
        error = failure(transport(listener.getsockname()[1], None), LIMIT_SECONDS)
        assert time.monotonic() - began < HANG_SECONDS
        over.set()
        thread.join()
    assert isinstance(error, ApiUnreachableError)


def test_a_resolver_that_hangs_costs_one_thread_and_the_limit(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    wire = serve(OK)
    goes_on, asked, real = threading.Event(), [], socket.getaddrinfo

    def hangs(host: str, *rest: Any, flags: int = 0, **values: Any) -> Any:
        if flags & socket.AI_NUMERICHOST:
            raise socket.gaierror(socket.EAI_NONAME, "not a number")
        asked.append(host)
        goes_on.wait(30)
        return real("127.0.0.1", *rest, **values)

    monkeypatch.setattr(socket, "getaddrinfo", hangs)
    api = transport(wire.port, wire.ca_file, host="localhost")
    for _ in range(5):
        with pytest.raises(ApiUnreachableError):
            api.request("GET", "version", timeout_seconds=0.1)
    assert asked == ["localhost"]
    assert len([thread for thread in threading.enumerate() if thread.name == "lookup"]) == 1
    goes_on.set()
    for _ in range(3):
        assert freeze(api) == {"result": 1}
    assert asked == ["localhost"], "an address that works is not looked up again"


def test_an_address_that_does_not_work_any_more_is_looked_up_again(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    wire = serve(OK)
    places, real = ["127.0.0.1", "127.0.0.9", "127.0.0.1"], socket.getaddrinfo

    def moves(_host: str, *rest: Any, flags: int = 0, **values: Any) -> Any:
        if flags & socket.AI_NUMERICHOST:
            raise socket.gaierror(socket.EAI_NONAME, "not a number")
        return real(places.pop(0), *rest, **values)

    monkeypatch.setattr(socket, "getaddrinfo", moves)
    api = transport(wire.port, wire.ca_file, host="pve1")
    api._addresses._known = [(socket.AF_INET, ("127.0.0.9", wire.port))]
    assert freeze(api) == {"result": 1}
    assert len(places) == 2


def test_a_guard_that_retries_against_a_dripping_server_piles_nothing_up(serve: Serve) -> None:
    wire = serve(drips_its_body)
    api = transport(wire.port, wire.ca_file)
    for round_ in range(6):
        with pytest.raises(ReplyLostError):
            api.request("GET", "version", timeout_seconds=0.15)
        if round_ == 0:
            before = len(os.listdir("/proc/self/fd"))
            threads = threading.active_count()
    # The server's ends are this process's too: they go as it notices.
    assert wait_for(lambda: len(os.listdir("/proc/self/fd")) <= before + 1, HANG_SECONDS)
    assert wait_for(lambda: threading.active_count() <= threads, HANG_SECONDS)


def test_a_signal_ends_the_wait_at_once(serve: Serve) -> None:
    wire = serve(drips_its_body)

    def interrupt(number: int, _frame: object) -> None:
        raise InterruptedBySignalError(number)

    earlier = signal.signal(signal.SIGUSR1, interrupt)
    timer = threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGUSR1))
    timer.start()
    try:
        began = time.monotonic()
        with contextlib.closing(transport(wire.port, wire.ca_file)) as api, pytest.raises(InterruptedBySignalError):
            api.request("GET", "version", timeout_seconds=30)
        assert time.monotonic() - began < HANG_SECONDS
    finally:
        timer.join()
        signal.signal(signal.SIGUSR1, earlier)


def test_time_limits_of_threads_that_share_a_transport_are_their_own(serve: Serve) -> None:
    def slow(connection: Connection) -> None:
        connection.over.wait(1.0)
        OK(connection)

    wire = serve(slow)
    found: list[object] = []
    with contextlib.closing(transport(wire.port, wire.ca_file)) as api:
        patient = threading.Thread(target=lambda: found.append(api.request("GET", "version", timeout_seconds=20)))
        patient.start()
        with pytest.raises(ReplyLostError):
            api.request("GET", "version", timeout_seconds=0.2)
        patient.join()
    assert found == [{"result": 1}]


# -------------------------------------------------------------------------------------------- an answer has a length


def floods_its_body(connection: Connection) -> None:
    connection.send(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n\r\n")
    keeps_saying(connection, b"[" * 65536, 0.0)


def floods_its_chunks(connection: Connection) -> None:
    connection.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
    keeps_saying(connection, b"10000\r\n" + b"x" * 65536 + b"\r\n", 0.0)


def floods_an_error(connection: Connection) -> None:
    connection.send(b"HTTP/1.1 500 no\r\n\r\n")
    keeps_saying(connection, b"\xff" * 65536, 0.0)


def floods_with_100_continue(connection: Connection) -> None:
    keeps_saying(connection, b"HTTP/1.1 100 Continue\r\n\r\n" * 2000, 0.0)


@pytest.mark.parametrize(
    "handler",
    [floods_its_body, floods_its_chunks, floods_an_error, floods_with_100_continue],
    ids=lambda handler: handler.__name__,
)
def test_an_answer_without_end_is_not_kept(serve: Serve, handler: Handler) -> None:
    wire = serve(handler)
    before = peak_kib()
    error = failure(transport(wire.port, wire.ca_file), 60.0)  # an answer of an agent's: a mebibyte at most
    assert isinstance(error, ReplyLostError)
    assert "more than 1 MiB" in error.message
    assert peak_kib() - before < 64 << 10


def peak_kib() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def test_an_answer_about_the_whole_cluster_may_be_longer(serve: Serve) -> None:
    rows = [{"vmid": 100 + number, "type": "qemu", "node": "pve1", "name": "x" * 200} for number in range(10_000)]
    wire = serve(reply("200 OK", json.dumps({"data": rows})))
    with contextlib.closing(transport(wire.port, wire.ca_file)) as api:
        assert api.request("GET", "cluster/resources", {"type": "vm"}, timeout_seconds=60) == rows
        with pytest.raises(ReplyLostError):
            api.request("POST", "nodes/pve1/qemu/100/agent/fsfreeze-status", timeout_seconds=60)


def test_a_packed_answer_is_not_unpacked(serve: Serve) -> None:
    bomb = gzip.compress(b" " * (64 << 20))

    def packed(connection: Connection) -> None:
        connection.send(b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: %d\r\n\r\n" % len(bomb) + bomb)

    wire = serve(packed)
    assert "gzip" in failure(transport(wire.port, wire.ca_file)).message
    assert b"Accept-Encoding: identity" in wire.requests[0]


# ------------------------------------------------------------------------------------------- nobody is sent elsewhere


@pytest.mark.parametrize("status", ["300 x", "301 Moved", "302 Found", "303 x", "304 x", "307 x", "308 x", "101 x"])
@pytest.mark.parametrize("scheme", ["https", "http"])
def test_a_redirect_is_no_answer_of_pves_and_is_not_followed(serve: Serve, status: str, scheme: str) -> None:
    elsewhere = socket.create_server(("127.0.0.1", 0))
    elsewhere.setblocking(False)
    place = f"{scheme}://127.0.0.1:{elsewhere.getsockname()[1]}/\x1b[2J"

    def redirects(connection: Connection) -> None:
        connection.send(f"HTTP/1.1 {status}\r\nLocation: {place}\r\nContent-Length: 0\r\n\r\n".encode())

    with elsewhere:
        wire = serve(redirects)
        error = failure(transport(wire.port, wire.ca_file))
        with pytest.raises(BlockingIOError):
            elsewhere.accept()
    assert isinstance(error, ReplyLostError)
    assert "not PVE's API" in error.message
    assert "[api] host and port" in error.remedy
    assert error.message.isprintable()
    assert len(wire.requests) == 1


# ---------------------------------------------------------------------------------------------------- PVE's own no


@pytest.mark.parametrize(
    ("status", "words"),
    [
        ("401 Permission denied - invalid csrf token", "did not accept the credentials"),
        ("401 No ticket", "did not accept the credentials (No ticket)"),
        ("403 Permission check failed (/vms/100, VM.Snapshot)", "VM.Snapshot"),
    ],
)
def test_a_refused_token_or_privilege_is_denied(serve: Serve, status: str, words: str) -> None:
    wire = serve(reply(status))
    error = failure(transport(wire.port, wire.ca_file))
    assert isinstance(error, ApiDeniedError)
    assert error.status == int(status[:3])
    assert error.remedy
    assert words in error.message


@pytest.mark.parametrize(
    "status",
    [
        "400 Parameter verification failed.",
        "404 Not Found",
        "500 VM 100 is not running",
        "501 Method 'POST /nodes/x' not implemented",
    ],
)
def test_pves_reason_phrase_is_its_word(serve: Serve, status: str) -> None:
    wire = serve(reply(status))
    error = failure(transport(wire.port, wire.ca_file))
    assert isinstance(error, ApiFailureError)
    assert error.status == int(status[:3])
    assert status[4:] in error.message


@pytest.mark.parametrize(
    "body",
    [
        '{"data":null}',
        "null",
        "[]",
        "<html>",
        "",
        '{"errors":"x"}',
        '{"errors":["x"]}',
        '{"errors":null}',
        b"\xff",
        "1",
    ],
    ids=repr,
)
def test_an_error_whose_body_makes_no_sense_is_still_pves_error_or_a_lost_reply(
    serve: Serve, body: bytes | str
) -> None:
    wire = serve(reply("500 VM 100 qga command 'guest-fsfreeze-freeze' failed - got timeout", body))
    error = failure(transport(wire.port, wire.ca_file))
    assert isinstance(error, ApiFailureError | ReplyLostError), error


def test_a_bad_parameter_is_named(serve: Serve) -> None:
    wire = serve(reply("400 Parameter verification failed.", '{"data":null,"errors":{"snapname":"too long"}}'))
    assert "snapname: too long" in failure(transport(wire.port, wire.ca_file)).message


def test_foreign_text_is_made_fit_for_one_line(serve: Serve) -> None:
    wire = serve(reply("500 a\x1b[31m b" + "c" * 1000))
    text = failure(transport(wire.port, wire.ca_file)).message
    assert text.isprintable()
    assert len(text) < 500


# -------------------------------------------------------------------------------------------------- the environment


@pytest.mark.parametrize("variable", ["HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy", "HTTP_PROXY"])
def test_a_proxy_in_the_environment_is_never_asked(
    serve: Serve, monkeypatch: pytest.MonkeyPatch, variable: str
) -> None:
    wire = serve(OK)
    with socket.create_server(("127.0.0.1", 0)) as proxy:
        proxy.setblocking(False)
        monkeypatch.delenv("no_proxy", raising=False)
        monkeypatch.delenv("NO_PROXY", raising=False)
        monkeypatch.setenv(variable, f"http://127.0.0.1:{proxy.getsockname()[1]}")
        assert freeze(transport(wire.port, wire.ca_file)) == {"result": 1}
        with pytest.raises(BlockingIOError):
            proxy.accept()


@pytest.mark.parametrize("variable", ["REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"])
def test_a_ca_bundle_in_the_environment_neither_breaks_nor_widens_our_trust(
    serve: Serve, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, variable: str
) -> None:
    wire = serve(OK)
    monkeypatch.setenv(variable, str(tmp_path / "none.pem"))
    assert freeze(transport(wire.port, wire.ca_file)) == {"result": 1}
    monkeypatch.setenv(variable, str(wire.ca_file))
    other = tmp_path / "other.pem"
    other.write_bytes(authority("Somebody Else").certificate)
    assert isinstance(failure(transport(wire.port, other)), ApiUnreachableError)
    assert isinstance(failure(transport(wire.port, None)), ApiUnreachableError)


def test_a_netrc_does_not_replace_the_token(serve: Serve, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login somebody password else\n")
    netrc.chmod(0o600)
    monkeypatch.setenv("NETRC", str(netrc))
    monkeypatch.setenv("HOME", str(tmp_path))
    wire = serve(OK)
    freeze(transport(wire.port, wire.ca_file))
    assert b"PVEAPIToken=" in wire.requests[0]
    assert b"Basic" not in wire.requests[0]


# ---------------------------------------------------------------------------------------------------------- the rest


def test_a_signal_that_comes_through_while_waiting_is_not_taken_for_a_broken_answer(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    wire = serve(OK)
    with contextlib.closing(transport(wire.port, wire.ca_file)) as api:
        api.request("GET", "version")
        assert api._api is not None
        session = api._api._store["session"]

        def interrupted(*_: object, **__: object) -> None:
            raise InterruptedBySignalError(15)

        monkeypatch.setattr(session, "request", interrupted)
        with pytest.raises(InterruptedBySignalError):
            api.request("GET", "version")


def test_a_transport_that_was_closed_opens_again(serve: Serve) -> None:
    wire = serve(OK)
    api = transport(wire.port, wire.ca_file)
    assert freeze(api) == {"result": 1}
    assert freeze(api) == {"result": 1}


def test_a_connection_that_the_server_closed_meanwhile_is_opened_anew_for_the_next_request(serve: Serve) -> None:
    """pveproxy closes idle connections after 5 s: that must not cost a thaw."""

    def keeps_open(connection: Connection) -> None:
        connection.send(HEAD + b'{"data":{"result":1}}')  # says nothing of a close, and closes

    wire = serve(keeps_open)
    with contextlib.closing(transport(wire.port, wire.ca_file)) as api:
        for _ in range(3):
            assert api.request("GET", "version") == {"result": 1}
            time.sleep(0.1)


def test_no_file_is_read_after_the_first_connection(serve: Serve, tmp_path: Path) -> None:
    """One in /etc/pve would hang, outside any limit, where the cluster's file system does."""
    wire = serve(OK)
    ca_file = tmp_path / "copy.pem"
    ca_file.write_bytes(wire.ca_file.read_bytes())
    api = transport(wire.port, ca_file)
    assert freeze(api) == {"result": 1}
    ca_file.unlink()
    os.mkfifo(ca_file)
    assert freeze(api) == {"result": 1}
    assert len(wire.requests) == 2


def test_an_address_of_ipv6_is_connected_to() -> None:
    with pytest.raises(ApiUnreachableError, match=r"^https://\[::1\]:1 cannot be reached"):
        freeze(HttpsTransport(Endpoint("::1", 1, "a@b!c", SECRET)))


def test_who_cannot_be_reached_is_told_without_the_objects_in_between() -> None:
    with pytest.raises(ApiUnreachableError) as caught:
        freeze(HttpsTransport(Endpoint("127.0.0.1", 1, "a@b!c", SECRET)))
    assert "Connection refused" in caught.value.message
    assert "0x" not in caught.value.message
    assert "<" not in caught.value.message


def test_an_address_of_ipv6_is_written_in_brackets() -> None:
    assert Endpoint("fd00::1", 8006, "a@b!c", SECRET).url == "https://[fd00::1]:8006"
    assert SECRET not in repr(Endpoint("pve1", 8006, "a@b!c", SECRET))


@pytest.mark.parametrize("content", [None, b"", b"no certificate", b"-----BEGIN CERTIFICATE-----\nnope\n"])
def test_a_ca_file_that_is_none_is_a_configuration_error(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "ca.pem"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ConfigError, match="the CA file") as caught:
        read_ca(path)
    assert "pve-root-ca.pem" in caught.value.remedy


def test_a_good_ca_file_is_accepted(tmp_path: Path) -> None:
    path = tmp_path / "ca.pem"
    path.write_bytes(authority().certificate)
    read_ca(path)
