"""A journal, and receivers that are real servers on this machine."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.metrics.conftest import World, world
from tests.notify.receivers import MailServer, WebServer, sendmail, write_secret

__all__ = ["world"]


@pytest.fixture
def web() -> Iterator[WebServer]:
    with WebServer() as server:
        yield server


@pytest.fixture
def post() -> Iterator[MailServer]:
    with MailServer() as server:
        yield server


@pytest.fixture
def told(world: World, web: WebServer, post: MailServer) -> World:
    """The world, with everybody told of it."""
    folder = world.folder
    notify = world.config.notify._replace(
        mail_to="root",
        sendmail=sendmail(folder / "sendmail", post.port),
        webhook_file=write_secret(folder / "webhook", f"{web.url}/hook/{web.secret}\nX-Token: {web.token}\n"),
        heartbeat_file=write_secret(folder / "heartbeat", f"{web.url}/beat/{web.secret}\n"),
    )
    world.config = world.config._replace(notify=notify)
    return world
