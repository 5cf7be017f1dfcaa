"""What the agent's and PVE's answers mean: counts that are none, refusals that are clean, errors that are not."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from snapshot.errors import ApiDeniedError, ApiFailureError, ApiUnreachableError, ReplyLostError
from snapshot.model import FreezeOutcome, FreezeReply, FreezeState
from snapshot.pve import agent
from snapshot.pve.agent import (
    AgentRefusedError,
    AgentReplyLostError,
    ApiChannel,
    CommandNotSentError,
    count_of,
    unwrap,
)
from tests.unit.kit import GUEST, ScriptedChannel, ScriptedTransport, VirtualClock, busy, lost

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)


def freeze(answer: object) -> FreezeReply:
    return agent.freeze(ScriptedChannel(VirtualClock(), freeze=answer), 5.0)


def over_api(answer: object) -> ApiChannel:
    return ApiChannel(ScriptedTransport({"": answer}), GUEST)


@pytest.mark.parametrize(("count", "outcome"), [(1, FreezeOutcome.ACKNOWLEDGED), (12, FreezeOutcome.ACKNOWLEDGED)])
def test_a_count_acknowledges_the_freeze_of_so_many_filesystems(count: int, outcome: FreezeOutcome) -> None:
    reply = freeze(count)
    assert (reply.outcome, reply.filesystems) == (outcome, count)


def test_zero_filesystems_is_nothing_frozen() -> None:
    assert freeze(0).outcome is FreezeOutcome.NOTHING_FROZEN


@pytest.mark.parametrize("answer", [True, False, -1, "1", "", 1.0, 0.5, None, {}, [1], {"return": 1}, 2**63, 10**30])
def test_an_answer_that_is_no_count_is_unknown_not_acknowledged_and_not_refused(answer: object) -> None:
    reply = freeze(answer)
    assert reply.outcome is FreezeOutcome.UNKNOWN
    assert reply.filesystems == 0
    assert "is not a count" in reply.detail


@given(JSON)
def test_whatever_the_agent_returns_a_freeze_has_an_outcome(answer: object) -> None:
    reply = freeze(answer)
    good = isinstance(answer, int) and not isinstance(answer, bool) and 0 < answer <= agent.MOST_FILESYSTEMS
    assert (reply.outcome is FreezeOutcome.ACKNOWLEDGED) is good
    assert reply.detail.isprintable()


@given(JSON)
def test_a_count_is_a_whole_number_of_filesystems_or_none(answer: object) -> None:
    assert count_of(answer) is None or 0 <= count_of(answer) <= agent.MOST_FILESYSTEMS  # type: ignore[operator]


@pytest.mark.parametrize(
    ("kind", "description", "outcome"),
    [
        ("CommandNotFound", "The command guest-fsfreeze-freeze has not been found", FreezeOutcome.REFUSED),
        ("CommandNotFound", "Command guest-fsfreeze-freeze has been disabled", FreezeOutcome.REFUSED),
        (
            "CommandNotFound",
            "Command guest-fsfreeze-freeze has been disabled: the agent is in frozen state",
            FreezeOutcome.REFUSED,
        ),
        (
            "CommandNotFound",
            "Command guest-fsfreeze-freeze has been disabled: the command is not allowed",
            FreezeOutcome.REFUSED,
        ),
        (
            "GenericError",
            "The command guest-fsfreeze-freeze has been disabled for this instance",
            FreezeOutcome.REFUSED,
        ),
        ("GenericError", "failed to freeze /has been disabled: Device or resource busy", FreezeOutcome.FAILED),
        ("GenericError", "fsfreeze hook has failed with status 3", FreezeOutcome.REFUSED),
        ("GenericError", "child process has failed to execute fsfreeze hook: exit status 3", FreezeOutcome.REFUSED),
        ("GenericError", "failed to open /mnt: Permission denied", FreezeOutcome.FAILED),
        ("GenericError", "failed to freeze /data: Device or resource busy", FreezeOutcome.FAILED),
        ("", "", FreezeOutcome.FAILED),
    ],
)
def test_only_a_no_from_before_the_freezing_is_a_clean_refusal(
    kind: str, description: str, outcome: FreezeOutcome
) -> None:
    assert freeze(AgentRefusedError(kind, description)).outcome is outcome


def test_a_command_that_was_not_sent_is_refused_and_a_lost_reply_unknown() -> None:
    assert freeze(busy()).outcome is FreezeOutcome.REFUSED
    assert freeze(lost()).outcome is FreezeOutcome.UNKNOWN


@pytest.mark.parametrize("state", FreezeState)
def test_the_status_is_one_of_two_words(state: FreezeState) -> None:
    assert agent.status(ScriptedChannel(VirtualClock(), status=state.value)) is state


@given(JSON)
def test_any_other_status_is_a_lost_reply(answer: object) -> None:
    if answer not in ("frozen", "thawed"):
        with pytest.raises(AgentReplyLostError):
            agent.status(ScriptedChannel(VirtualClock(), status=answer))


# ------------------------------------------------------------------------------------------------------ over the API


def test_an_error_of_the_agents_arrives_as_http_200_and_is_one_all_the_same() -> None:
    answer = {"result": {"error": {"class": "CommandNotFound", "desc": "Command x has been disabled"}}}
    with pytest.raises(AgentRefusedError, match="has been disabled") as caught:
        over_api(answer).call("fsfreeze-freeze", timeout_seconds=1.0)
    assert caught.value.kind == "CommandNotFound"


@pytest.mark.parametrize("error", ["text", None, [], 1, {}, {"class": None}, {"desc": "\x1b[31m"}])
def test_an_error_in_any_shape_is_a_refusal_in_printable_words(error: object) -> None:
    with pytest.raises(AgentRefusedError) as caught:
        unwrap({"error": error})
    assert str(caught.value).isprintable()


@given(JSON)
def test_an_answer_without_a_result_is_a_lost_reply(answer: object) -> None:
    if isinstance(answer, dict) and "result" in answer:
        return
    with pytest.raises(AgentReplyLostError):
        over_api(answer).call("fsfreeze-thaw", timeout_seconds=1.0)


@pytest.mark.parametrize("result", [0, 3, "thawed", None, {}, []])
def test_a_result_is_handed_on_as_it_is(result: object) -> None:
    assert over_api({"result": result}).call("ping", timeout_seconds=1.0) == result


@pytest.mark.parametrize(
    ("command", "method"), [("fsfreeze-thaw", "POST"), ("ping", "POST"), ("info", "GET"), ("get-fsinfo", "GET")]
)
def test_a_command_uses_pves_method_and_path(command: str, method: str) -> None:
    transport = ScriptedTransport({"": {"result": {}}})
    ApiChannel(transport, GUEST).call(command, timeout_seconds=1.0)
    assert transport.requests == [(method, f"nodes/pve1/qemu/100/agent/{command}", {})]


NOT_SENT = {
    "guest off": (ApiFailureError("500: VM 100 is not running", status=500), "guest_off"),
    "busy or gone": (ApiFailureError("500: QEMU guest agent is not running", status=500), "busy_or_gone"),
    "busy or gone, over ssh with a banner": (
        ApiFailureError("This VM host is ours. 500: QEMU guest agent is not running", status=500),
        "busy_or_gone",
    ),
    "no agent": (ApiFailureError("500: No QEMU guest agent configured", status=500), ""),
    "moved": (ApiFailureError("Configuration file 'nodes/a/qemu-server/1.conf' does not exist", status=500), ""),
    "node gone": (ApiFailureError("hostname lookup 'pve9' failed - failed to get address info", status=500), ""),
    "bad parameter": (ApiFailureError("Parameter verification failed.", status=400), ""),
    "unknown path": (ApiFailureError("Method not implemented", status=501), ""),
    "no connection": (ApiUnreachableError("refused"), ""),
    "no privilege": (ApiDeniedError("Permission check failed", status=403), "denied"),
}


@pytest.mark.parametrize("name", NOT_SENT)
def test_what_pve_refuses_before_it_sends_was_not_sent(name: str) -> None:
    error, mark = NOT_SENT[name]
    with pytest.raises(CommandNotSentError) as caught:
        over_api(error).call("fsfreeze-freeze", timeout_seconds=1.0)
    marks = {m: getattr(caught.value, m) for m in ("guest_off", "busy_or_gone", "denied")}
    assert marks == {m: m == mark for m in marks}


QUOTED = "VM 100 qga command 'guest-fsfreeze-thaw' failed - got wrong command id '{}' (expected 12010)"


@pytest.mark.parametrize(
    "text",
    [
        "VM 100 is not running",
        "QEMU guest agent is not running",
        "No QEMU guest agent configured",
        "Configuration file 'nodes/pve1/qemu-server/100.conf' does not exist",
        "hostname lookup 'pve1' failed - x",
    ],
)
@pytest.mark.parametrize("frame", [QUOTED, QUOTED.partition(" (")[0], "VM 100 qga command 'x' failed - {}", "{} or so"])
def test_words_of_the_agents_inside_pves_message_are_not_pves_own(frame: str, text: str) -> None:
    """A guest chooses what its agent answers: its freeze must not pass for one that was never sent."""
    if frame == "{} or so" and text.startswith("hostname"):
        return  # ends as the resolver pleases
    where = "https://pve1:8006 answered 500: "
    with pytest.raises(AgentReplyLostError):
        over_api(ApiFailureError(where + frame.format(text), status=500)).call("fsfreeze-freeze", timeout_seconds=1.0)


def test_another_guest_that_is_off_is_no_word_on_this_one() -> None:
    with pytest.raises(AgentReplyLostError):
        over_api(ApiFailureError("500: VM 1100 is not running", status=500)).call("ping", timeout_seconds=1.0)
    with pytest.raises(AgentReplyLostError):
        over_api(ApiFailureError("500: VM 10 is not running", status=500)).call("ping", timeout_seconds=1.0)


@pytest.mark.parametrize(
    "error",
    [
        ReplyLostError("596"),
        ApiFailureError("VM 100 qga command 'guest-fsfreeze-freeze' failed - got timeout", status=500),
        ApiFailureError("VM 100 qga command 'guest-fsfreeze-freeze' failed - client closed connection", status=500),
        ApiFailureError("something nobody has ever seen", status=500),
        ApiFailureError("", status=404),
        ApiFailureError("teapot", status=418),
    ],
    ids=str,
)
def test_any_other_failure_may_have_come_after_the_command(error: Exception) -> None:
    with pytest.raises(AgentReplyLostError):
        over_api(error).call("fsfreeze-freeze", timeout_seconds=1.0)
