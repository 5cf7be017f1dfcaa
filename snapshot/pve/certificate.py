"""When the certificate ends that the API's host shows: a TLS connection of its own, on which nothing is asked."""

from __future__ import annotations

import socket
import ssl

from snapshot.base.aside import Aside

SECONDS = 5.0


class RefusedError(OSError):
    """The certificate is not accepted; the message says why, in OpenSSL's words."""


def ends_at(host: str, port: int, ca_data: str) -> float:
    """A Unix time. RefusedError, and OSError when nobody answers within SECONDS."""

    def look() -> float:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)  # as strict as the transport, no more
        context.load_verify_locations(cadata=ca_data)
        with (
            socket.create_connection((host, port), timeout=SECONDS) as connection,
            context.wrap_socket(connection, server_hostname=host) as tls,
        ):
            found = tls.getpeercert() or {}
        return float(ssl.cert_time_to_seconds(str(found.get("notAfter", ""))))

    try:
        return Aside(look, "certificate").result(SECONDS)
    except ssl.SSLCertVerificationError as error:
        raise RefusedError(error.verify_message) from None
    except (ValueError, RuntimeError) as error:  # a date that is none; no room for a thread
        raise OSError(str(error)) from None
