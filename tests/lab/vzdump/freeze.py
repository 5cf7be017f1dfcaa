"""vzdump's own freeze and thaw, in the words and with the habits of each age of qemu-server.

Source: qemu-server ``PVE/VZDump/QemuServer.pm`` (qga_fs_freeze, qga_fs_thaw) and ``PVE/QemuServer/Agent.pm``, with
their history:

=========== =========================================================================================================
before 9.0.23 one freeze command with an hour's limit; a refusal of the agent is not noticed
9.0.23      ten minutes, then status polls; a refusal is logged as ``unable to freeze guest fs - ...``
9.1.6       a refusal of the thaw is logged as ``Agent error: ...``; an absent or disabled agent is said to be so
9.1.10      ``skipping guest filesystem freeze - ...``; a frozen guest is skipped and not thawed
=========== =========================================================================================================
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from tests.lab.node.qmp import PeerTimeout
from tests.lab.vzdump.errors import DEATHS, Die, Interrupted
from tests.lab.vzdump.log import Logger
from tests.lab.vzdump.options import Limits, TermInFreeze

_POLLS = 5
_MINUTES_A_POLL = 10
_OPTION_NAMES = ("freeze-fs", "guest-fsfreeze", "freeze-fs-on-backup")

# command, limit in seconds -> result; raises Die
AskAgent = Callable[[str, float], Any]


def parse_agent(value: str | None) -> dict[str, str]:
    """The guest's ``agent:`` line; empty when the agent is not enabled."""
    settings = {}
    for part in (value or "").split(","):
        name, equals, setting = part.partition("=")
        settings[name if equals else "enabled"] = setting if equals else name
    return settings if settings.get("enabled") in ("1", "yes", "on", "true") else {}


def wants_freeze(value: str | None) -> bool:
    """Whether PVE's option lets the guest be frozen; says nothing about the agent being enabled."""
    agent = parse_agent(value)
    return all(agent.get(name, "1") in ("1", "yes", "on", "true") for name in _OPTION_NAMES)


@dataclass(frozen=True)
class Freezer:
    """Freezes and thaws one guest. ``freeze`` tells whether ``thaw`` is to be called."""

    ask: AskAgent
    logger: Logger
    limits: Limits
    version: tuple[int, ...]
    term_in_freeze: TermInFreeze

    def freeze(self, agent: str | None) -> bool:
        applicable = self._applicable if self.version >= (9, 1, 10) else self._applicable_before_9_1_10
        if not applicable(agent):
            return False
        self.logger.info("issuing guest-agent 'fs-freeze' command")
        try:
            if self.version >= (9, 0, 23):
                self._freeze_and_ask()
            else:
                self.ask("guest-fsfreeze-freeze", self.limits.old_freeze)
        except DEATHS as error:
            if isinstance(error, Interrupted) and self.term_in_freeze == "raised":
                raise
            self.logger.error(str(error))
        return True  # even on error: PVE wants to be sure of the thaw

    def thaw(self) -> None:
        self.logger.info("issuing guest-agent 'fs-thaw' command")
        try:
            result = self.ask("guest-fsfreeze-thaw", self.limits.thaw)
            if self.version >= (9, 1, 6):
                check_result(result)
        except DEATHS as error:
            self.logger.error(str(error))

    def _applicable(self, agent: str | None) -> bool:
        if not parse_agent(agent) or not wants_freeze(agent):
            self.logger.info("skipping guest filesystem freeze - disabled in VM options")
            return False
        if not self._running():
            self.logger.info("skipping guest filesystem freeze - agent configured but not running?")
            return False
        try:
            status = self.ask("guest-fsfreeze-status", self.limits.other)
            check_result(status)
        except DEATHS as error:
            self.logger.message("warn", f"unable to check guest fs freeze status - {error}")
            return True
        if status == "frozen":
            self.logger.info("skipping guest filesystem freeze - already frozen")
            return False
        return True

    def _applicable_before_9_1_10(self, agent: str | None) -> bool:
        if self.version >= (9, 1, 6):
            if not parse_agent(agent):
                self.logger.info("skipping guest-agent 'fs-freeze', agent not configured in VM options")
                return False
        elif agent in (None, "", "0"):
            return False  # without a word; `enabled=0` was taken for an enabled agent
        if not self._running():
            self.logger.info("skipping guest-agent 'fs-freeze', agent configured but not running?")
            return False
        if not wants_freeze(agent):
            self.logger.info("skipping guest-agent 'fs-freeze', disabled in VM options")
            return False
        return True

    def _running(self) -> bool:
        try:
            self.ask("guest-ping", self.limits.ping)
        except DEATHS:
            return False
        return True

    def _freeze_and_ask(self) -> None:
        try:
            result = self.ask("guest-fsfreeze-freeze", self.limits.freeze)
        except DEATHS as error:
            if isinstance(error, Interrupted) and self.term_in_freeze == "raised":
                raise
        else:
            if isinstance(result, dict) and result.get("error"):
                raise Die(f"unable to freeze guest fs - {result['error'].get('desc', 'unknown')}")
            return
        try:
            status = self._poll_status()
        except DEATHS as error:
            raise Die(f"querying status after freezing guest fs failed - {error}") from None
        if status != "frozen":
            raise Die(f"unable to freeze guest fs - unexpected status '{status}'")

    def _poll_status(self) -> Any:
        """Only a timeout is asked again; the status queues behind the freeze in the agent."""
        for left in range(_POLLS, 0, -1):
            # `print`, and to the task log alone. The figure is PVE's own, also where the lab's limits are shorter.
            self.logger.raw(f"still waiting on guest fs freeze - timeout in {_MINUTES_A_POLL * left} minutes\n")
            try:
                status = self.ask("guest-fsfreeze-status", self.limits.freeze)
            except PeerTimeout:
                continue
            check_result(status)
            return status
        raise Die(f"timeout after {_MINUTES_A_POLL * (_POLLS + 1)} minutes")


def check_result(result: Any) -> None:
    """check_agent_error: raise Die when the agent answered with an error."""
    if isinstance(result, dict) and result.get("error", {}).get("desc"):
        raise Die(f"Agent error: {result['error']['desc']}")
