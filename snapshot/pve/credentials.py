"""Who we are to the API, and whom we trust: the token and the CA, as their files have them."""

from __future__ import annotations

from pathlib import Path

from snapshot.base.aside import Aside
from snapshot.config import settings, token
from snapshot.config.settings import Config
from snapshot.config.token import Token
from snapshot.errors import ApiUnreachableError, ConfigError
from snapshot.pve.https import Endpoint, read_ca

FILES_SECONDS = 2.0
"""How long the token file and the CA file may take to read, both together."""


class Credentials:
    """Who we are and whom we trust, from the token file and the CA file: read once, aside, and kept.

    The CA lies in /etc/pve, which hangs where the cluster's file system does, and the agent's socket needs none of it.
    """

    def __init__(self, config: Config) -> None:
        self._config = config
        self._reading: Aside[tuple[Token, Path | None, str]] | None = None

    def wait(self) -> tuple[Token, Path | None, str]:
        """The token, the CA file and what is in it. ConfigError, and ApiUnreachableError when they cannot be read now.

        The first to ask begins to read. Who asks after that waits no more.
        """
        is_first = self._reading is None
        try:
            self._reading = self._reading or Aside(self._read, "credentials")
            return self._reading.result(FILES_SECONDS if is_first else 0.0)
        except (TimeoutError, RuntimeError) as error:  # RuntimeError: no room for a thread
            api = self._config.api
            files = f"the token file {api.token_file} or the CA file {api.ca_file or settings.PVE_CA_FILE}"
            raise ApiUnreachableError(
                f"{files} cannot be read now ({error})",
                remedy="look whether their file system hangs: `systemctl status pve-cluster`, `dmesg`",
            ) from None

    def complete(self, endpoint: Endpoint) -> Endpoint:
        """See HttpsTransport."""
        try:
            found, ca_file, ca_data = self.wait()
        except ConfigError as error:
            raise ApiUnreachableError(error.message, remedy=error.remedy) from error
        return endpoint._replace(token_id=found.id, token_secret=found.secret, ca_file=ca_file, ca_data=ca_data)

    def _read(self) -> tuple[Token, Path | None, str]:
        found, ca_file = token.token(self._config), settings.ca_file(self._config)
        return found, ca_file, read_ca(ca_file)
