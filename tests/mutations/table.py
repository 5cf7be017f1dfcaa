"""The mutations: what is broken, by which change of the source, and which tests must catch it."""

from __future__ import annotations

from dataclasses import dataclass

WINDOW = "snapshot/window/window.py"
OWN_ROW = "snapshot/window/ownrow.py"
OPERATION = "snapshot/take/operation.py"
GROUP = "snapshot/fleet/group.py"
GROUP_MEMBER = "snapshot/fleet/member.py"
GROUP_LEADER = "snapshot/fleet/lead.py"
GROUP_UNIT = "snapshot/fleet/groupunit.py"
MOMENT = "snapshot/fleet/moment.py"
GROUP_TESTS = "tests/fleet/test_group.py"
TOGETHER = "tests/fleet/test_together.py"
TOGETHER_ON_REAL = "tests/real/test_together.py"
GROUP_CAMPAIGN = "tests/campaign/test_groups.py"
KNOCK = "snapshot/take/knock.py"
KNOCKS = "snapshot/window/knock.py"
SNAPSHOT_WINDOW = "snapshot/window/snapshot.py"
THAW = "snapshot/thaw/thawer.py"
GUARD = "snapshot/guard/core.py"
TURN = "snapshot/guard/turn.py"
VERDICT = "snapshot/window/verdict.py"
AGENT = "snapshot/pve/agent.py"
QGA = "snapshot/pve/qga.py"
CONNECTION = "snapshot/pve/connection.py"
SEAT = "snapshot/pve/seat.py"
BACKLOG = "snapshot/pve/backlog.py"
HTTPS = "snapshot/pve/https.py"
HTTPS_LIMITS = "snapshot/pve/https_limits.py"
PVESH = "snapshot/pve/pvesh.py"
ROUTES = "snapshot/pve/routes.py"
STANDBY = "snapshot/pve/standby.py"
LADDER = "snapshot/pve/ladder.py"
JOURNAL = "snapshot/journal/store.py"
OURS = "vzdump_hooks/hold/ours.py"
VZDUMPS = "vzdump_hooks/hold/vzdumps.py"
FOLLOW = "vzdump_hooks/tasklog/follow.py"
HOOK_JUDGE = "vzdump_hooks/hold/verdict.py"

SETUP_PLACE = "snapshot/setup/place.py"
SETUP_TOKENS = "snapshot/setup/tokens.py"
SETUP_RIGHTS = "snapshot/setup/rights.py"
SETUP_PLAN = "snapshot/setup/plan.py"
SETUP_KILLED = "tests/setup/test_killed.py"
SETUP_TESTS = "tests/setup/test_setup.py"
SETUP_COMMAND = "tests/setup/test_command.py"
SETUP_TEXTS = "tests/setup/test_texts.py"
SETUP_TROUBLE = "tests/setup/test_trouble.py"
DISK_TESTS = "tests/disk"
DRILL = "snapshot/drill/drill.py"
DRILL_PLAY = "snapshot/drill/play.py"
DRILL_ROUNDS = "snapshot/drill/rounds.py"
DRILL_DISK = "snapshot/drill/disk.py"
DRILL_READY = "snapshot/drill/ready.py"
DRILL_FIRING = "snapshot/drill/firing.py"
DRILL_TESTS = "tests/drill/test_drill.py"
CHECK_TESTS = "tests/engine/test_what_check_says.py"
SELF_TESTS = "tests/hook/test_self_test.py"
PACKAGE_BUILD = "contrib/debian/build"
PACKAGE_TESTS = "tests/packaging/test_contents.py"
LEAVING = "snapshot/setup/leaving.py"
LEAVING_TESTS = "tests/setup/test_leaving.py"
UNIT_TESTS = "tests/packaging/test_units.py"
IMPORT_TESTS = "tests/unit/test_imports.py"
RECOVER_UNIT = "contrib/systemd/safe-snapshot-recover.service"
SAMPLE_UNIT = "contrib/systemd/sample/safe-snapshot@.service"
DRILL_PARTS = "tests/drill/test_parts.py"
DRILL_ROUNDS_TESTS = "tests/unit/test_drillrounds.py"

CHOICE = "snapshot/config/choice.py"
LABELS = "snapshot/config/labels.py"
SELECTION_TESTS = "tests/unit/test_selection.py"
LABEL_TESTS = "tests/unit/test_labels.py"
MANY_GUESTS = "tests/engine/test_many_guests.py"

FLEET = "snapshot/fleet"
FLEET_MANY = "tests/fleet/test_many.py"
FLEET_KILLED = "tests/fleet/test_killed.py"
FLEET_WORKER = "tests/fleet/test_worker.py"
INTERRUPTION = "tests/unit/test_interruption.py::test_a_signal_ends_each_wait_of_a_thread_that_minds_it"
FLEET_PURE = "tests/fleet/test_pure.py"
FLEET_CREW = "tests/fleet/test_crew.py"
FLEET_LOOK = "tests/fleet/test_look.py"
CAMPAIGN = "tests/campaign/test_campaign.py::test_a_short_campaign_finds_no_violation"
THAW_TESTS = "tests/campaign/test_thaw.py"
CONSOLE_TESTS = "tests/engine/test_console.py"
RESCUE_WORDS = "tests/engine/test_rescue_words.py"
GUARD_TESTS = "tests/campaign/test_guardcore.py"
WINDOW_TESTS = "tests/campaign/test_window.py"
FIRST_REQUEST = "tests/campaign/test_first_request.py"
HOOK_WINDOW = "tests/hook/test_window.py"
HOOK_WATCHING = "tests/hook/test_watching.py"
AGENT_SOCKET = "tests/hook/test_agent_socket.py"
HOOK_VERDICT = "tests/hook/test_evidence.py"
HOOK_PHASES = "tests/hook/test_phases.py"
JOURNAL_TESTS = "tests/unit/test_journal.py"
QGA_TESTS = "tests/unit/test_qga.py"
SEAT_TESTS = "tests/engine/test_seat.py"
KNOCK_TESTS = "tests/engine/test_knock.py"
HTTPS_TESTS = "tests/unit/test_https.py"
PVESH_TESTS = "tests/unit/test_pvesh.py"
STANDBY_TESTS = "tests/unit/test_standby.py"
LADDER_TESTS = "tests/unit/test_ladder.py"
FOLLOWING = "tests/hook/test_following.py"
FROZEN = "snapshot/recovery/frozen.py"
LOOK_TESTS = "tests/unit/test_frozen.py"
STRANGERS = "tests/engine/test_foreign_freezes.py"
SILENCES = "snapshot/journal/silences.py"
FOREIGN = "snapshot/recovery/foreign.py"
DETACHED = "snapshot/base/detached.py"
SURVEY = "snapshot/recovery/survey.py"
DETACHED_TESTS = "tests/unit/test_detached.py"
CONFIG_TESTS = "tests/unit/test_config.py"
WATCHDOG = "snapshot/base/watchdog.py"
WATCHDOG_TESTS = "tests/unit/test_watchdog.py"
RECOVERY = "snapshot/recovery/recover.py"
HEAL = "snapshot/recovery/heal.py"
SETTLE = "snapshot/recovery/settle.py"
OVERDUE = "snapshot/recovery/overdue.py"
CLAIM = "snapshot/guard/claim.py"
SLOTS = "snapshot/base/slots.py"
NURSERY = "snapshot/guard/nursery.py"
HOSTED = "snapshot/guard/hosted.py"
HOST = "snapshot/base/host.py"
FAILOVER_TESTS = "tests/engine/test_failover.py"
NURSERY_TESTS = "tests/process/test_nursery.py"
HOSTED_TESTS = "tests/process/test_hosted_guards.py"
HOST_TESTS = "tests/unit/test_host.py"
SHARED_TESTS = "tests/unit/test_hosted.py"
SLOTS_TESTS = "tests/unit/test_slots.py"
TWO_RUNS = "tests/engine/test_two_runs.py"
IN_USE = "tests/fleet/test_in_use.py"
TURNS_TESTS = "tests/engine/test_turns.py"
PROCESS = "snapshot/base/hardening.py"
WAITING_TESTS = "tests/unit/test_waiting.py"
PVE_SNAPSHOT = "snapshot/take/pvesnapshot.py"
JOURNAL_FILE = "snapshot/journal/file.py"
BROKEN = "snapshot/journal/broken.py"
SCHEMA = "snapshot/journal/schema.py"
STRANGERS_LOOK = "snapshot/recovery/strangers.py"
GUARD_PROCESS = "snapshot/guard/__main__.py"
LINE = "snapshot/cli/line.py"
ENVELOPE = "snapshot/report/envelope.py"
ENVELOPE_TESTS = "tests/unit/test_envelope.py"
BY_HAND = "snapshot/recovery/byhand.py"
GUEST_HOOKS = "contrib/guest/hooks/fsfreeze-hooks"
HOOK_LIB = "contrib/guest/hooks/hook-lib"
MARIADB_HOOK = "contrib/guest/hooks/hooks.d/40-mariadb"
POSTGRESQL_HOOK = "contrib/guest/hooks/hooks.d/30-postgresql"
HOOKS_WORD = "snapshot/window/guesthooks.py"
GUEST_HOOK_TESTS = "tests/guest/hooks/test_scripts.py"
HOOKS_WORD_TESTS = "tests/guest/hooks/test_evidence.py"
OWN_FREEZING = "tests/engine/test_pves_own_freezing.py"
CLAIM_TESTS = "tests/unit/test_claim.py"
PROCESS_TESTS = "tests/unit/test_process.py"
SECOND_SOURCE = "tests/unit/test_second_source.py"
SILENCES_TESTS = "tests/metrics/test_silences.py"
RECOVERY_TESTS = "tests/unit/test_recovery.py"
SIGNAL_TESTS = "tests/engine/test_signals.py"
OWN_FOLDER = "snapshot/commands/folder.py"
OWN_RUNNER = "snapshot/commands/runner.py"
OWN_KEEPER = "snapshot/commands/keeper.py"
OWN_TESTS = "tests/unit/test_commands.py"
OWN_IN_SNAPSHOTS = "tests/engine/test_own_commands.py"
OWN_IN_BACKUPS = "tests/hook/test_own_commands.py"
OWN_ON_REAL = "tests/real/test_own_commands.py"
DISPATCH = "vzdump_hooks/dispatch.py"
POST_RESTART = "vzdump_hooks/phases/post_restart.py"
OUTBOX = "snapshot/journal/outbox.py"
TELL = "snapshot/notify/tell.py"
SENDING = "snapshot/notify/sending.py"
WAYS = "snapshot/notify/ways.py"
RUNS = "snapshot/notify/runs.py"
POST = "snapshot/pve/https_post.py"
ALARM_TESTS = "tests/notify/test_alarms.py"
DOCTOR_WORTH = "snapshot/doctor/worth.py"
DOCTOR_ROUNDS = "snapshot/doctor/rounds.py"
DOCTOR_EXPORTER = "snapshot/doctor/exporter.py"
DOCTOR_REPORT = "snapshot/report/doctor.py"
DIGEST = "snapshot/report/digest.py"
GROUPED = "snapshot/report/grouped.py"
STANDING = "snapshot/report/standing.py"
REPORT_PAGE = "tests/metrics/test_report_page.py"
EXPORTER_TESTS = "tests/doctor/test_exporter.py"
REPORT_TESTS = "tests/doctor/test_report.py"
VISIT_TESTS = "tests/doctor/test_visit.py"
WORTH_TESTS = "tests/doctor/test_worth.py"
ROUNDS_TESTS = "tests/doctor/test_rounds.py"
MONITOR_TESTS = "tests/doctor/test_monitor.py"
SENDING_TESTS = "tests/notify/test_sending.py"
TEXT_TESTS = "tests/notify/test_texts.py"
BOUNDS_TESTS = "tests/notify/test_bounds.py"
JOBS = "snapshot/journal/jobs.py"
JOB_PHASE = "vzdump_hooks/phases/job.py"
JOB_TESTS = "tests/notify/test_jobs.py"
JOB_HOOK_TESTS = "tests/hook/test_job_ping.py"
KEEP = "snapshot/retention/keep.py"
RETAINED = "snapshot/retention/ours.py"
RETENTION_PLAN = "snapshot/retention/plan.py"
PRUNE = "snapshot/retention/prune.py"
LABEL_RUNS = "snapshot/journal/labelruns.py"
KEEP_TESTS = "tests/retention/test_keep.py"
PRUNE_TESTS = "tests/retention/test_prune.py"
LABEL_RUN_TESTS = "tests/retention/test_labelruns.py"


@dataclass(frozen=True)
class Edit:
    """One precise change: ``old`` must occur exactly once in ``file``."""

    file: str
    old: str
    new: str


@dataclass(frozen=True)
class Mutation:
    """A guarantee broken. ``catchers`` are pytest arguments, each of which must fail by itself."""

    name: str
    edits: tuple[Edit, ...]
    catchers: tuple[str, ...]


def edit(file: str, old: str, new: str) -> Edit:
    """An edit whose texts may begin with a newline of their own, for the eye."""
    return Edit(file, old.removeprefix("\n"), new.removeprefix("\n"))


def mutation(name: str, file: str, old: str, new: str, *catchers: str) -> Mutation:
    """A mutation with one edit."""
    return Mutation(name, (edit(file, old, new),), catchers)


LATE_GUARD = '''class _ArmedLate:
    """The guard is started when the freeze has been answered."""

    pid = __import__("os").getpid()

    def __init__(self, launcher, order):
        self._arm, self._guard = lambda: launcher.arm(order), None

    def tell(self, op, **values):
        if self._guard is None and op in (Op.FROZEN, Op.THAWING):
            self._guard = self._arm()
            self._guard.tell(Op.FREEZING)
        if self._guard is not None:
            self._guard.tell(op, **values)

    def is_alive(self):
        return self._guard is None or self._guard.is_alive()

    def let_go(self, op, **values):
        if self._guard is not None:
            self._guard.tell(op, **values)
            self._guard.release()

    def replace_if_dead(self):
        return {}

    columns = {"guard_pid": pid, "guard_pid_start": 0}


class Window:
    """A freeze window.'''

MUTATIONS: tuple[Mutation, ...] = (
    Mutation(
        "guard armed late",
        (
            edit(
                WINDOW,
                """
            self._guard = OwnGuard(self._tools.launcher, self.spec.order_of(record))
        except GuardError as error:
            self._record(rows.not_started(str(error), "guard", self._tools.clock.time()))
""",
                """
            self._guard = _ArmedLate(self._tools.launcher, self.spec.order_of(record))
        except GuardError as error:
            self._record(rows.not_started(str(error), "guard", self._tools.clock.time()))
""",
            ),
            edit(WINDOW, 'class Window:\n    """A freeze window.', LATE_GUARD),
        ),
        (CAMPAIGN,),
    ),
    Mutation(
        "guard told after the freeze",
        (
            edit(
                WINDOW,
                "        guard.tell(Op.FREEZING, sits=float(sits), deadline_seconds=left)\n        self._machine",
                "        self._machine",
            ),
            edit(
                WINDOW,
                "        finally:\n            self._took(reply)",
                "        finally:\n            guard.tell(Op.FREEZING)\n            self._took(reply)",
            ),
        ),
        (CAMPAIGN,),
    ),
    mutation(
        "no guard, and a freeze all the same",
        WINDOW,
        """
            return "the guard died before the freeze"
""",
        """
            pass
""",
        f"{WINDOW_TESTS}::test_no_freeze_is_sent_without_a_living_guard",
    ),
    mutation(
        "intent not committed",
        OWN_ROW,
        """
        self._tools.book.begin(record, self._is_rival)
""",
        "",
        CAMPAIGN,
        f"{WINDOW_TESTS}::test_the_intent_is_on_disk_before_the_guard_is_armed",
    ),
    mutation(
        "somebody else's freeze taken for ours",
        AGENT,
        """
    return error.is_forbidden or hook_has_failed(error.description)
""",
        """
    return hook_has_failed(error.description)
""",
        f"{WINDOW_TESTS}::test_a_freeze_that_is_refused_since_another_one_holds_the_guest_thaws_nothing",
    ),
    mutation(
        "an earlier window's late freeze taken for somebody else's",
        OWN_ROW,
        """
        self.is_first = self.is_first and is_over
""",
        "",
        f"{WINDOW_TESTS}::test_what_an_earlier_window_of_ours_may_have_frozen_late_is_thawed",
    ),
    mutation(
        "thaw not retried",
        THAW,
        """
            lambda report: report.confirmed or stopped or (limit_seconds is not None and self._is_forbidden_for_long()),
""",
        """
            lambda report: True,
""",
        THAW_TESTS,
        CAMPAIGN,
    ),
    mutation(
        "thaw skipped when the status says thawed",
        THAW,
        """
        if self.acknowledged and self._says_thawed(channel):
""",
        """
        if self._says_thawed(channel):
""",
        f"{THAW_TESTS}::test_a_thaw_is_sent_although_the_status_says_thawed",
        CAMPAIGN,
    ),
    mutation(
        "status not asked after the thaw",
        THAW,
        """
        self.acknowledged = True
        return self._says_thawed(channel)
""",
        """
        self.acknowledged = True
        return True
""",
        f"{THAW_TESTS}::test_a_guest_that_still_says_frozen_is_thawed_again",
    ),
    mutation(
        "busy taken for thawed",
        THAW,
        """
                if error.guest_off and off():
                    self._guest_gone""",
        """
                if (error.guest_off and off()) or error.busy_or_gone:
                    self._guest_gone""",
        f"{THAW_TESTS}::test_a_busy_agent_is_never_taken_for_a_thawed_guest",
        CAMPAIGN,
    ),
    mutation(
        "a lost reply to the thaw taken for a good one",
        THAW,
        """
            except AgentReplyLostError as error:
                self._replies_lost += 1
""",
        """
            except AgentReplyLostError as error:
                self.acknowledged = True
                self._replies_lost += 1
""",
        f"{THAW_TESTS}::test_a_lost_reply_to_the_thaw_is_no_acknowledgement",
    ),
    mutation(
        "a failing thaw hook retried for ever",
        THAW,
        """
            if not agent.hook_has_failed(error.description):
                raise
""",
        """
            raise
""",
        f"{THAW_TESTS}::test_a_failing_thaw_hook_is_reported_and_not_retried",
        CAMPAIGN,
    ),
    mutation(
        "a guest that migrated is not followed by the watch",
        THAW,
        """
                    return FreezeState.THAWED if self._guest_gone else self.look()
""",
        """
                    return None
""",
        f"{THAW_TESTS}::test_a_guest_that_migrated_is_followed",
    ),
    mutation(
        "routes that cannot be found anew end the retries",
        THAW,
        """
        except Exception as error:  # noqa: BLE001 - a token file being replaced: the next round asks again
            self._detail = f"{self._detail}; its new place: {error}"
            return False
""",
        "",
        f"{THAW_TESTS}::test_routes_that_cannot_be_found_anew_do_not_end_the_retries",
    ),
    mutation(
        "the limit not kept",
        "snapshot/thaw/limit.py",
        "            raise OutOfTimeError\n",
        "            pass\n",
        f"{THAW_TESTS}::test_no_request_is_begun_after_the_limit",
    ),
    mutation(
        "who was stopped until its limit was over calls a guest stuck that it never asked",
        "snapshot/thaw/limit.py",
        "        if not is_unasked or self._overtime is None:\n",
        "        if True:\n",
        "tests/unit/test_thaw.py::test_who_stood_still_until_its_limit_was_over_asks_all_the_same",
    ),
    mutation(
        "who was stopped until its limit was over goes on for ever",
        "snapshot/thaw/limit.py",
        "now + self._overtime, None\n",
        "now + self._overtime, self._overtime\n",
        "tests/unit/test_thaw.py::test_and_has_the_time_of_one_attempt_for_it",
    ),
    mutation(
        "the owner does not say that it lives",
        THAW,
        """
        self._asked = True
        self._announce()
""",
        """
        self._asked = True
""",
        f"{THAW_TESTS}::test_whoever_stands_behind_hears_of_each_request_before_it",
        CAMPAIGN,
    ),
    mutation(
        "thaw not in the finally",
        WINDOW,
        '''
        """Whatever happened: thaw."""
        self.thaw()
''',
        '''
        """Whatever happened: thaw."""
        if error is None:
            self.thaw()
''',
        CAMPAIGN,
    ),
    mutation(
        "proof skipped",
        WINDOW,
        """
                state = agent.status(self._tools.thawer.fastest, seconds, keep_open=True)
""",
        """
                state = FreezeState.FROZEN
""",
        f"{WINDOW_TESTS}::test_the_proof_is_what_the_agent_says_after_the_point_in_time",
        f"{WINDOW_TESTS}::test_the_proof_is_bounded_by_the_deadline",
    ),
    mutation(
        "a guard that stands in for a dead one does not know that a freeze was sent",
        "snapshot/window/ownguard.py",
        "self._order._replace(at_risk=True)",
        "self._order",
        f"{WINDOW_TESTS}::test_a_guard_that_stands_in_for_one_that_died_is_armed_with_the_freeze_on_its_way",
    ),
    mutation(
        "the proof's connection not kept for the thaw",
        WINDOW,
        """
                state = agent.status(self._tools.thawer.fastest, seconds, keep_open=True)
""",
        """
                state = agent.status(self._tools.thawer.fastest, seconds)
""",
        f"{WINDOW_TESTS}::test_proof_thaw_and_status_share_a_connection_and_nothing_keeps_it",
    ),
    mutation(
        "a connection kept after a thaw that failed",
        THAW,
        """
            finally:
                channel.release()
""",
        "",
        f"{QGA_TESTS}::test_a_thaw_that_fails_leaves_the_agent_to_others",
    ),
    mutation(
        "count not compared",
        VERDICT,
        """
    if thaw.filesystems < freeze.filesystems:
""",
        """
    if False:
""",
        "tests/unit/test_verdict.py",
        CAMPAIGN,
    ),
    mutation(
        "no answer to the proof taken for frozen",
        VERDICT,
        """
    if evidence.proof is not Proof.STILL_FROZEN:
""",
        """
    if evidence.proof is Proof.NOT_ASKED:
""",
        "tests/unit/test_verdict.py",
    ),
    mutation(
        "a broken window judged like a whole one",
        VERDICT,
        """
    if evidence.broken_by:
""",
        """
    if False:
""",
        "tests/unit/test_verdict.py",
    ),
    mutation(
        "a lost reply to the freeze taken for a refusal",
        AGENT,
        """
        return FreezeReply(FreezeOutcome.UNKNOWN, detail=str(error))
""",
        """
        return FreezeReply(FreezeOutcome.REFUSED, detail=str(error))
""",
        "tests/unit/test_agent.py",
        CAMPAIGN,
    ),
    mutation(
        "an error of the agent's taken for an answer",
        AGENT,
        """
    if isinstance(result, dict) and "error" in result:
""",
        """
    if False:
""",
        "tests/unit/test_agent.py",
        CAMPAIGN,
    ),
    mutation(
        "a busy agent's answer over the API taken for a guest that is off",
        AGENT,
        """
    if _says(text, re.compile(rf"\\bVM {vmid} is not running\\Z")):
""",
        """
    if "is not running" in text and "VM " in text:
""",
        "tests/unit/test_agent.py::test_what_pve_refuses_before_it_sends_was_not_sent",
    ),
    mutation(
        "an agent's words inside PVE's message taken for PVE's own",
        AGENT,
        """
    return found is not None and _QUOTING.search(text[: found.start()]) is None
""",
        """
    return found is not None
""",
        "tests/unit/test_agent.py::test_words_of_the_agents_inside_pves_message_are_not_pves_own",
    ),
    mutation(
        "one route's word that a guest is off believed",
        THAW,
        """
                if error.guest_off and off():
                    self._guest_gone""",
        """
                if error.guest_off:
                    self._guest_gone""",
        "tests/unit/test_thaw.py::test_one_routes_word_that_a_guest_is_off_is_no_proof",
    ),
    mutation(
        "a guard that fails ends with its guest frozen",
        GUARD,
        """
            if self._is_at_risk:
                self._last_stand()
""",
        "",
        f"{GUARD_TESTS}::test_whatever_a_seam_raises_a_guest_that_may_be_frozen_is_thawed",
        f"{GUARD_TESTS}::test_a_guard_that_fails_hangs_up_so_that_its_owner_knows",
    ),
    mutation(
        "an owner that stands still keeps its turn",
        TURN,
        """
        if not self._life.end_if_it_stands_still(is_silent=is_silent):
            return False
""",
        """
        return False
""",
        f"{GUARD_TESTS}::test_an_owner_that_was_stopped_in_the_agents_seat_is_ended_at_the_deadline",
    ),
    mutation(
        "the guard is not told who keeps the agent's seat over its freeze",
        TURN,
        "            self._may_sit = self._keeps_seat or message.what",
        "            self._may_sit = message.what",
        f"{GUARD_TESTS}::test_an_owner_that_has_kept_the_agents_seat_since_its_freeze_and_was_stopped_is_ended_at_the_deadline",
        "tests/campaign/test_seats.py::test_an_owner_stopped_in_its_seat_keeps_no_rescue_waiting",
    ),
    mutation(
        "a window does not say that it keeps the agent's seat",
        WINDOW,
        "guard.tell(Op.FREEZING, sits=float(sits), deadline_seconds=left)",
        "guard.tell(Op.FREEZING)",
        "tests/campaign/test_seats.py::test_an_owner_stopped_in_its_seat_keeps_no_rescue_waiting",
    ),
    mutation(
        "stale reply believed",
        CONNECTION,
        """
            if isinstance(answer, dict) and answer.get("return") == self._token and SENTINEL in line:
""",
        """
            if isinstance(answer, dict):
""",
        "tests/unit/test_qga.py",
    ),
    mutation(
        "a time limit for each read instead of the request",
        HTTPS_LIMITS,
        "            self.settimeout(interruption.patience(self.limits.left()))\n",
        "            self.settimeout(5.0)\n",
        f"{HTTPS_TESTS}::test_a_server_that_drips_is_one_that_does_not_answer_and_its_connection_is_closed",
    ),
    mutation(
        "an answer of any length kept",
        HTTPS_LIMITS,
        """
        if self._bytes_left < 0:
""",
        """
        if False:
""",
        f"{HTTPS_TESTS}::test_an_answer_without_end_is_not_kept",
    ),
    mutation(
        "a redirect taken for an answer",
        HTTPS,
        "if redirects or status",
        "if status",
        f"{HTTPS_TESTS}::test_a_redirect_is_no_answer_of_pves_and_is_not_followed",
    ),
    mutation(
        "a request that may have left called not sent",
        HTTPS_LIMITS,
        """
        self.limits.was_sent = True
""",
        "",
        f"{HTTPS_TESTS}::test_a_request_that_arrived_and_was_not_answered_may_have_been_carried_out",
    ),
    mutation(
        "pvesh killed in the middle of a task",
        PVESH,
        """outlasts_us=is_task""",
        """outlasts_us=False""",
        f"{PVESH_TESTS}::test_a_task_that_takes_longer_than_we_wait_is_not_cut_off_in_its_middle",
    ),
    mutation(
        "a host that hangs asked first in each round",
        LADDER,
        """
        if channel.is_silent:
            self.let_rest(channel)
""",
        """
        if False:
            self.let_rest(channel)
""",
        f"{LADDER_TESTS}::test_a_host_that_hangs_is_not_asked_in_each_round",
    ),
    mutation(
        "peers looked for before the first request",
        ROUTES,
        """
    if ahead:
        doors.open_ahead(ladder)
""",
        """
    doors.open_ahead(ladder)
""",
        "tests/unit/test_routes.py::test_to_build_the_ladder_of_a_rescue_asks_nobody",
    ),
    mutation(
        "a request that may have been carried out sent again",
        STANDBY,
        """is_unusable(error) and method == "GET" and""",
        """is_unusable(error) and""",
        f"{STANDBY_TESTS}::test_what_may_have_been_carried_out_or_waits_for_others_is_not_repeated",
    ),
    mutation(
        "pending options read as PVE's present ones",
        "snapshot/pve/guests.py",
        """f"{guest.path}/config", {"current": 1})""",
        """f"{guest.path}/config")""",
        "tests/unit/test_guests.py::test_the_configuration_that_is_asked_for_is_the_one_pve_goes_by_now",
    ),
    mutation(
        "EOF not watched",
        GUARD,
        """
                case Happening.OWNER_GONE:
                    self._owner.is_gone = True
                    return Cause.OWNER_DIED
""",
        "",
        f"{GUARD_TESTS}::test_an_owner_that_dies_is_answered_with_a_thaw_at_once",
        CAMPAIGN,
    ),
    mutation(
        "deadline ignored by the guard",
        GUARD,
        """
            message = self._hear(min(deadline, look_at) - now)
""",
        """
            message = self._hear(1e9)
""",
        f"{GUARD_TESTS}::test_an_owner_that_hangs_is_overtaken_at_the_deadline",
        "tests/campaign/test_campaign.py::test_an_owner_that_stands_still_is_overtaken_by_its_guard_at_the_deadline",
    ),
    mutation(
        "deadline ignored by the owner",
        WINDOW,
        """
            raise WindowBrokenError(self._past_deadline, Word.DEADLINE)
""",
        """
            pass
""",
        f"{WINDOW_TESTS}::test_a_window_is_broken_at_its_deadline",
    ),
    mutation(
        "a guard that died not noticed",
        WINDOW,
        """
            raise WindowBrokenError("the guard died: the guest is thawed at once", Word.GUARD_DIED)
""",
        """
            pass
""",
        f"{WINDOW_TESTS}::test_a_window_is_broken_when_its_guard_dies",
    ),
    mutation(
        "UNKNOWN closed early by the owner",
        WINDOW,
        "        if self.late_seconds > 0:\n            values[",
        "        if False:\n            values[",
        f"{WINDOW_TESTS}::test_a_window_whose_freeze_may_still_come_stays_open_behind_its_verdict",
    ),
    mutation(
        "UNKNOWN closed early by the rescue and by who heals",
        SETTLE,
        """
    late = 0.0 if was_never_armed""",
        """
    late = 0.0 if True or was_never_armed""",
        "tests/unit/test_recovery.py::test_a_window_whose_freeze_may_still_come_stays_open",
    ),
    mutation(
        "UNKNOWN closed early by backup-end",
        "vzdump_hooks/phases/backup_end.py",
        "if report is not None and is_unclear and settle(",
        "if report is None and is_unclear and settle(",
        f"{HOOK_WINDOW}::test_a_window_whose_freeze_may_still_come_is_not_closed_when_its_processes_are_dead",
    ),
    mutation(
        "UNKNOWN closed early by the guard",
        GUARD,
        """
            if self._clock.monotonic() >= self._late_until and state is FreezeState.THAWED:
""",
        """
            if state is FreezeState.THAWED:
""",
        f"{GUARD_TESTS}::test_the_watch_ends_with_a_thaw_since_an_agent_that_was_restarted_may_say_thawed_of_a_frozen_guest",
        CAMPAIGN,
    ),
    mutation(
        "silence taken for the end of the watch",
        GUARD,
        """
            if self._clock.monotonic() >= self._late_until and state is FreezeState.THAWED:
                self._thaw_late_freeze(is_seen=False)
""",
        """
            if self._clock.monotonic() >= self._late_until:
""",
        f"{GUARD_TESTS}::test_the_watch_ends_only_after_the_late_period_and_an_answer",
    ),
    mutation(
        "late freeze not watched for",
        GUARD,
        """
        while self._late_until is not None and not self._signalled:
""",
        """
        while False:
""",
        f"{GUARD_TESTS}::test_a_late_freeze_is_thawed_as_soon_as_it_shows",
        CAMPAIGN,
    ),
    mutation(
        "a restarted agent's status believed to the end",
        GUARD,
        """
                self._thaw_late_freeze(is_seen=False)
                self._late_until = None
                return
""",
        """
                self._late_until = None
                return
""",
        f"{GUARD_TESTS}::test_the_watch_ends_with_a_thaw_since_an_agent_that_was_restarted_may_say_thawed_of_a_frozen_guest",
    ),
    mutation(
        "no alarm for a late freeze that stays",
        GUARD,
        """
                self._tell(lambda: self._recorder.stuck(Cause.LATE_FREEZE, report))
""",
        """
                pass
""",
        f"{GUARD_TESTS}::test_a_late_freeze_that_cannot_be_thawed_raises_the_alarm_too",
    ),
    mutation(
        "the guard writes before it thaws",
        GUARD,
        """
        report = self._until_confirmed(between)
        if not told:
""",
        """
        between(self._thawer.report())
        report = self._until_confirmed(between)
        if not told:
""",
        f"{GUARD_TESTS}::test_nothing_is_recorded_before_the_first_thaw_request",
    ),
    mutation(
        "the owner writes before it thaws",
        WINDOW,
        """
        self._thaw_decided = self._tools.clock.monotonic()
""",
        """
        self._thaw_decided = self._tools.clock.monotonic()
        self._record(self._outcome())
""",
        CAMPAIGN,
        f"{FIRST_REQUEST}::test_the_owner_does_nothing_else_between_its_decision_and_its_thaw",
    ),
    mutation(
        "the guard does not give way to its owner",
        GUARD,
        """
                case Op.THAWING:
                    until = self._owner.thaws_until()
""",
        "",
        f"{GUARD_TESTS}::test_an_owner_that_comes_back_past_its_deadline_is_given_way",
    ),
    mutation(
        "two windows of one guest",
        JOURNAL,
        """
            if other is not None:
""",
        """
            if False:
""",
        f"{WINDOW_TESTS}::test_a_second_window_of_a_guest_is_refused_while_the_first_one_is_manned",
    ),
    mutation(
        "a run whose turn comes late on a busy machine does not freeze",
        OWN_ROW,
        "            if WORN_SECONDS < age <= self._spec.max_window_seconds:\n",
        "            if False:\n",
        f"{WINDOW_TESTS}::test_a_run_whose_turn_comes_late_freezes_still",
    ),
    mutation(
        "a run that stood still past its deadline says anew that its guard stands",
        OWN_ROW,
        "            if WORN_SECONDS < age <= self._spec.max_window_seconds:\n",
        "            if WORN_SECONDS < age:\n",
        f"{WINDOW_TESTS}::test_a_run_that_stood_still_while_it_waited_for_its_turn_does_not_freeze",
    ),
    mutation(
        "a run that stood still freezes all the same",
        OWN_ROW,
        """
        return now - self._armed_at > READY_SECONDS or now - self._intended_at > given_up
""",
        """
        return False
""",
        f"{WINDOW_TESTS}::test_no_freeze_is_sent_by_a_run_that_stood_still_while_its_guard_was_armed",
        f"{WINDOW_TESTS}::test_no_freeze_is_sent_by_a_run_that_stood_still_after_its_guard_was_armed",
    ),
    mutation(
        "the hook takes its interpreter down in order",
        "vzdump_hooks/entry.py",
        "    os._exit(code)",
        "    sys.exit(code)",
        "tests/hook/test_entry.py::test_the_hook_ends_at_once_when_all_is_said",
    ),
    mutation(
        "the hook does not let go at an error of the backup",
        OURS,
        """
            if event in ENDS:
                why =""",
        """
            if event in ():
                why =""",
        f"{HOOK_WINDOW}::test_a_backup_that_ends_before_its_point_in_time_ends_the_window",
    ),
    mutation(
        "the death of vzdump's worker not watched",
        FOLLOW,
        "        if not self._waiting and self._worker.is_dead(min(seconds, pause)):",
        "        if not self._waiting and self._worker.is_dead(min(seconds, pause)) and False:",
        f"{FOLLOWING}::test_a_workers_death_is_noticed_at_once",
        f"{HOOK_WINDOW}::test_vzdumps_freeze_is_thawed_when_vzdump_dies",
    ),
    mutation(
        "the hook's holder watches neither deadline nor guard",
        OURS,
        """
            self._window.check()
""",
        """
            pass
""",
        f"{HOOK_WINDOW}::test_the_deadline_thaws_and_says_so",
        f"{HOOK_WINDOW}::test_a_process_of_ours_that_is_killed_leaves_the_guest_thawed",
    ),
    mutation(
        "the death of the waiting hook not noticed",
        OURS,
        "        if not self._is_at_knock and not self._tools.report(HoldReport(True, message)):",
        "        if not self._is_at_knock and not self._tools.report(HoldReport(True, message)) and False:",
        f"{HOOK_WINDOW}::test_a_hook_that_is_killed_while_it_waits_leaves_the_guest_thawed",
    ),
    mutation(
        "the death of the hook that waits for the knock's holder not noticed",
        OURS,
        "        if not self._tools.report(HoldReport(True, message)):",
        "        if not self._tools.report(HoldReport(True, message)) and False:",
        "tests/hook/test_knock.py::test_a_hook_that_is_killed_before_the_knock_has_nobody_frozen",
    ),
    mutation(
        "a verdict on our freeze without the log's order",
        HOOK_JUDGE,
        """
        log.is_whole
        and not log.saw(LogEvent.FREEZE_FAILED""",
        """
        log.saw(LogEvent.THAW_ISSUED)
        and not log.saw(LogEvent.FREEZE_FAILED""",
        f"{HOOK_VERDICT}::test_a_window_of_ours_is_good_only_with_the_whole_proof",
    ),
    mutation(
        "a verdict on vzdump's freeze without the log's order",
        HOOK_JUDGE,
        "        (not log.is_whole, unknown,",
        "        (not log.saw(LogEvent.FREEZE_ISSUED), unknown,",
        f"{HOOK_VERDICT}::test_a_window_of_vzdumps_is_good_only_when_it_was_seen_frozen_and_thawed_in_order",
    ),
    mutation(
        "a freeze of vzdump's that nobody saw is believed",
        HOOK_JUDGE,
        "        (not seen.frozen, unknown,",
        "        (False, unknown,",
        f"{HOOK_VERDICT}::test_a_freeze_that_nobody_saw_is_unknown",
    ),
    mutation(
        "a backup without a point in time is judged",
        HOOK_JUDGE,
        "    if not log.saw(LogEvent.POINT_IN_TIME):",
        "    if False:",
        f"{HOOK_VERDICT}::test_a_backup_that_failed_at_its_start_is_never_good",
    ),
    mutation(
        "another guest's lines end our window",
        "vzdump_hooks/tasklog/wordings.py",
        "        event, before = (recognise(line) if self.begun else None), self._before",
        "        event, before = recognise(line), self._before",
        "tests/hook/test_wordings.py::test_another_guests_lines_before_ours_are_nobodys",
    ),
    mutation(
        "what an earlier backup of the guest logged is taken for this one's",
        FOLLOW,
        """
            if event is LogEvent.GUEST_BEGUN:
                self._waiting.clear()
            elif event is not None:
""",
        """
            if event is not None:
""",
        f"{FOLLOWING}::test_an_earlier_backup_of_the_same_guest_does_not_end_our_window",
    ),
    mutation(
        "the end of a long line is read as a line",
        "vzdump_hooks/tasklog/lines.py",
        "        self._rest = rest[:LONGEST_LINE]",
        "        self._rest = rest[-LONGEST_LINE:]",
        f"{FOLLOWING}::test_the_end_of_a_long_line_never_looks_like_a_line",
    ),
    mutation(
        "the API is asked for the log without a pause",
        FOLLOW,
        "        if not self._waiting and now >= self._read_at:",
        "        if not self._waiting:",
        f"{FOLLOWING}::test_the_api_is_not_asked_more_often_than_it_likes",
    ),
    mutation(
        "a guard that is started again ends at a broken configuration",
        "snapshot/guard/__main__.py",
        """
        if is_armed_by_owner:
            raise
""",
        """
        raise
""",
        "tests/process/test_guard_killed.py::"
        "test_a_guard_that_is_started_again_goes_by_the_defaults_where_the_configuration_is_broken",
    ),
    mutation(
        "frozen though the log cannot be followed",
        "vzdump_hooks/hold/backup.py",
        "    is_heard = tools.follower.catch_up()",
        "    is_heard = tools.follower.catch_up() or True",
        f"{HOOK_WINDOW}::test_without_a_log_that_can_be_followed_nothing_is_frozen",
    ),
    mutation(
        "vzdump's freeze without a deadline",
        VZDUMPS,
        "        if self._begun_at is None or self._tools.clock.monotonic() - self._begun_at <= limit:",
        "        if True:",
        f"{HOOK_WINDOW}::test_vzdumps_freeze_is_thawed_at_the_deadline",
    ),
    mutation(
        "vzdump's thaw believed because it was logged",
        VZDUMPS,
        "        if broken_by or failed or self._thawer.look() is not FreezeState.THAWED:",
        "        if broken_by:",
        f"{HOOK_WINDOW}::test_a_thaw_that_vzdump_only_logged_is_done_by_us",
        f"{HOOK_WINDOW}::test_a_thaw_of_vzdumps_that_failed_is_done_by_us",
    ),
    mutation(
        "nobody goes on with a thaw of vzdump's that is not confirmed",
        VZDUMPS,
        "self._guard.tell(Op.DISARM if end.confirmed else Op.ABANDON)",
        "self._guard.tell(Op.DISARM)",
        f"{HOOK_WINDOW}::test_a_thaw_that_nobody_can_confirm_gets_a_guard_that_goes_on",
    ),
    mutation(
        "vzdump's freeze is left to itself where we do not freeze",
        "vzdump_hooks/phases/post_restart.py",
        "    if plan.left_alone:",
        "    if plan.left_alone or plan.obstacle:",
        f"{HOOK_WATCHING}::test_a_worker_that_is_killed_inside_vzdumps_own_freeze_leaves_the_guest_thawed",
    ),
    mutation(
        "a backup without a log is not followed",
        VZDUMPS,
        "ended = self._follow(beginning) if is_heard else self._follow_unheard(beginning)",
        "ended = self._follow(beginning) if is_heard else Ended()",
        f"{HOOK_WATCHING}::test_a_worker_that_is_killed_inside_vzdumps_own_freeze_leaves_the_guest_thawed",
    ),
    mutation(
        "no guard for vzdump's freeze",
        VZDUMPS,
        "        if with_guard:",
        "        if False:",
        f"{HOOK_WATCHING}::test_a_watcher_that_is_killed_leaves_nobody_frozen",
        f"{HOOK_WATCHING}::test_a_watcher_that_stands_still_loses_its_turn_at_the_deadline",
    ),
    mutation(
        "a guard of vzdump's freeze ends with a watcher that told it nothing",
        GUARD,
        """
                    if self._spec.others_freeze:
                        self._freeze_is_sent()  # nobody""",
        """
                    if False:
                        self._freeze_is_sent()  # nobody""",
        f"{GUARD_TESTS}::test_a_guard_of_vzdumps_freeze_whose_owner_dies_before_a_word_thaws_the_freeze_that_comes",
    ),
    mutation(
        "a second backup of a guest in one job gets the first one's verdict",
        "vzdump_hooks/phases/plan.py",
        "    return list(takewhile(lambda window: window.id != last, windows))",
        "    return windows",
        f"{HOOK_WATCHING}::test_the_second_backup_of_a_guest_in_one_job_does_not_get_the_first_ones_verdict",
    ),
    mutation(
        "a holder that cannot be started leaves nothing for recover",
        "vzdump_hooks/phases/post_restart.py",
        "            journal.begin(record)",
        "            pass",
        f"{HOOK_WINDOW}::test_a_holder_that_cannot_be_started_at_all_leaves_the_guest_to_recover",
    ),
    mutation(
        "a backup that failed keeps a good verdict",
        "vzdump_hooks/phases/backup_end.py",
        "        elif window is not None and aborted and plan is not None:",
        "        elif False:",
        f"{HOOK_WINDOW}::test_a_backup_that_fails_after_its_point_in_time_keeps_no_good_verdict",
    ),
    mutation(
        "backup-end does not make sure of the thaw",
        "vzdump_hooks/phases/backup_end.py",
        "            window = _thaw(call, config, window, is_unclear=is_unclear) or window",
        "            pass",
        f"{HOOK_WINDOW}::test_a_process_of_ours_that_is_killed_leaves_the_guest_thawed",
    ),
    mutation(
        "another job's window taken for this one's",
        "vzdump_hooks/phases/plan.py",
        """if window.source == worker.source and window.upid == worker.job]""",
        """if window.source == "vzdump"]""",
        "tests/unit/test_notes.py::test_the_windows_of_a_job_are_those_of_its_own_task",
    ),
    mutation(
        "a guest found frozen not healed",
        "vzdump_hooks/phases/planning.py",
        "    if health.frozen and health.guest is not None",
        "    if False and health.guest is not None",
        f"{HOOK_PHASES}::test_a_guest_that_an_earlier_run_left_frozen_is_healed_before_its_backup",
    ),
    mutation(
        "our question's stale answer fails PVE's next call",
        CONNECTION,
        "1 + secrets.randbelow(HIGHEST_ID)",
        "1_000_000_000 + secrets.randbelow(HIGHEST_ID)",
        "tests/hook/test_agent_socket.py::test_a_question_of_ours_to_a_stopped_agent_does_not_cost_pve_its_next_call",
    ),
    mutation(
        "a guest that writes is asked",
        FROZEN,
        """
        elif row.still_since_at is None or not row.running:
            continue  # it writes
""",
        "",
        f"{LOOK_TESTS}::test_who_writes_is_well_and_not_asked",
        f"{STRANGERS}::test_a_guest_that_writes_is_not_asked",
    ),
    mutation(
        "silence taken for an answer",
        FROZEN,
        """
    return row._replace(state="", why=why.value, silent=row.silent + 1)
""",
        """
    return row._replace(state="thawed", why="", silent=row.silent + 1)
""",
        f"{LOOK_TESTS}::test_what_is_no_answer_is_not_known",
        f"{STRANGERS}::test_a_guest_that_nobody_can_ask_is_never_called_well",
    ),
    mutation(
        "a thawed guest that stands still stays thawed unasked",
        FROZEN,
        """
    return row._replace(why=before.why if before.silent else Why.NOT_ASKED.value)
""",
        """
    return row._replace(state=before.state, why=before.why)
""",
        f"{LOOK_TESTS}::test_a_guest_that_stands_still_is_well_only_in_the_round_that_asked_it",
    ),
    mutation(
        "PVE's workers asked without a budget",
        FROZEN,
        """
            if self.pve_seconds and self.pve_seconds + QUESTION_SECONDS > PVE_SECONDS:
                return
""",
        "",
        f"{LOOK_TESTS}::test_questions_over_the_api_have_a_budget",
    ),
    mutation(
        "a list of guests without a guest taken for an all-clear",
        FROZEN,
        "        if not rows and not here:",
        "        if False:",
        f"{LOOK_TESTS}::test_a_list_of_guests_that_cannot_be_had_is_no_word_on_them",
        f"{STRANGERS}::test_a_token_that_sees_no_guest_gives_no_all_clear",
    ),
    mutation(
        "somebody else's freeze thawed while it may be a window of another machine",
        "snapshot/recovery/foreign.py",
        "    return max(0.0, earliest - now)",
        "    return 0.0",
        f"{STRANGERS}::test_a_freeze_by_somebody_else_is_thawed_where_the_operator_wants_it_once_no_window_can_be_so_long",
        "tests/engine/test_freeze_answers.py"
        "::test_a_guest_found_frozen_by_somebody_else_is_not_thawed_before_a_window_of_another_machine_is_over",
    ),
    mutation(
        "somebody else's freeze is never an alarm",
        "snapshot/recovery/strangers.py",
        '        if now < window.deadline_at:\n            text = f"frozen by',
        '        if True:\n            text = f"frozen by',
        f"{STRANGERS}::test_a_guest_that_somebody_else_froze_is_an_alarm_past_the_limit_and_not_before",
    ),
    mutation(
        "a guest thawed under a task of PVE's",
        "snapshot/recovery/strangers.py",
        "        work = at_work(self._access, guest)",
        '        work = ""',
        f"{STRANGERS}::test_a_guest_that_pve_is_at_work_on_is_no_alarm_and_is_not_thawed",
    ),
    mutation(
        "a stuck window taken for one in progress",
        "snapshot/journal/living.py",
        "    if window.state == State.STUCK.value or not is_in_progress",
        "    if not is_in_progress",
        f"{STRANGERS}::test_status_and_recover_say_the_same_of_a_stuck_window",
    ),
    mutation(
        "an overdue guest whose owner lives taken for one in progress",
        "snapshot/journal/living.py",
        "    return not may_be_frozen(window) or now < window.deadline_at + ALIVE_MARGIN_SECONDS",
        "    return True",
        f"{STRANGERS}::test_a_guest_that_may_be_frozen_past_its_deadline_is_told_though_its_owner_lives",
    ),
    mutation(
        "a living owner is told of at its deadline",
        "snapshot/journal/living.py",
        "    return not may_be_frozen(window) or now < window.deadline_at + ALIVE_MARGIN_SECONDS",
        "    return not may_be_frozen(window) or now < window.deadline_at",
        "tests/unit/test_overdue.py::test_a_living_owner_is_believed_for_a_margin_past_its_deadline",
    ),
    mutation(
        "a line that a terminal has shown already is shown again",
        "snapshot/cli/line.py",
        "seen = self._said if streams.share_a_terminal() else ()",
        "seen = ()",
        *(
            f"{CONSOLE_TESTS}::test_a_terminal_is_told_each_line_once[{case}]"
            for case in ("thaw all-guest 100 is thawed", "recover-guest 100 on pve1: foreign")
        ),
    ),
    mutation(
        "an outcome that was said on standard error is not written to a pipe",
        "snapshot/cli/line.py",
        "seen = self._said if streams.share_a_terminal() else ()",
        "seen = self._said",
        "tests/engine/test_foreign_freezes.py::test_a_freeze_by_somebody_else_that_ends_is_over_in_words",
    ),
    mutation(
        "a guest without a name has empty brackets",
        "snapshot/base/text.py",
        'f"{vmid} ({name})" if name else f"{vmid}"',
        'f"{vmid} ({name})"',
        "tests/unit/test_report.py::test_a_guest_without_a_name_has_no_brackets",
    ),
    mutation(
        "a foreign freeze that has lasted since before our own thaw",
        "snapshot/recovery/strangers.py",
        ", thawed_at=self._last_thaw(guest))",
        ")",
        *(
            "tests/engine/test_foreign_freezes.py::"
            f"test_a_freeze_by_somebody_else_has_not_lasted_since_before_a_thaw_that_was_confirmed[{by}]"
            for by in ("thaw, with a window", "thaw, without one", "a run of ours")
        ),
    ),
    mutation(
        "a rescue that is silent while no way helps",
        "snapshot/thaw/telling.py",
        "            self._heard(name, answer)",
        "            pass",
        f"{RESCUE_WORDS}::test_the_rescue_says_what_each_way_answered_and_for_how_long_it_goes_on[100]",
    ),
    mutation(
        "one way's answer for all of them",
        "snapshot/thaw/rescue.py",
        "said = report.detail if report.forbidden else in_words(answers.last)",
        "said = report.detail",
        f"{RESCUE_WORDS}::test_where_no_way_helps_all_answers_are_told_and_the_runbook_and_the_reset_last[-q thaw 100]",
    ),
    mutation(
        "a thaw that waits for a terminal which stands still",
        "snapshot/base/aloud.py",
        "        self._lines.put((line, self._clock.monotonic() if at is None else at))\n",
        "        return self._say(line, at)  # type: ignore[arg-type]\n",
        "tests/unit/test_telling.py::test_nobody_waits_for_a_terminal_that_stands_still",
    ),
    mutation(
        "a limit used up on a thaw that the agent forbids",
        THAW,
        "        return since is not None and self._clock.monotonic() - since >= FORBIDDEN_SECONDS",
        "        return False",
        "tests/unit/test_thaw.py::test_who_has_a_limit_does_not_use_it_up_on_a_thaw_that_the_agent_forbids",
    ),
    mutation(
        "an agent that forbids the thaw believed without the guest's writes",
        THAW,
        "        return written > before",
        "        return True",
        "tests/unit/test_thaw.py::test_a_guest_that_was_thawed_inside_is_believed_when_its_agent_says_so_and_it_writes",
    ),
    mutation(
        "the rescue ends with a broken configuration",
        LINE,
        "        config, problems = reading.load_lenient(self.config_path)",
        "        config, problems = self.config(), []",
        f"{STRANGERS}::test_a_rescue_goes_on_with_a_configuration_that_is_broken",
    ),
    mutation(
        "a broken journal is left as it is",
        JOURNAL,
        "        if file.is_broken(error) and self._mends and not self._is_new:",
        "        if False:",
        f"{JOURNAL_TESTS}::test_any_broken_page_costs_no_window",
    ),
    mutation(
        "a new journal knows nothing of the broken one's windows",
        BROKEN,
        '        for order in ("DESC", "ASC"):',
        "        for order in ():",
        f"{JOURNAL_TESTS}::test_an_open_window_and_the_counters_outlive_a_broken_index",
    ),
    mutation(
        "a commit that a power loss may take back",
        JOURNAL,
        "PRAGMA synchronous = EXTRA",
        "PRAGMA synchronous = FULL",
        f"{JOURNAL_TESTS}::test_a_commit_survives_a_power_loss_also_in_the_folder",
    ),
    mutation(
        "a pipe in the journal's place is opened",
        "snapshot/journal/file.py",
        "    if not stat.S_ISREG(mode):",
        "    if False:",
        f"{JOURNAL_TESTS}::test_what_is_no_file_is_refused_at_once",
    ),
    mutation(
        "the journal is not waited for before the freeze",
        JOURNAL_FILE,
        "            if clock.monotonic() >= deadline:",
        "            if True:",
        f"{WINDOW_TESTS}::test_a_journal_that_others_hold_is_waited_for_while_the_guest_is_not_frozen",
    ),
    mutation(
        "one odd value costs every command",
        JOURNAL,
        """
            except ValueError as error:
                self._odd("window", row["id"], error)""",
        """
            except ZeroDivisionError as error:
                self._odd("window", row["id"], error)""",
        "tests/metrics/test_odd_rows.py::test_one_odd_window_is_told_and_the_others_are_shown",
    ),
    mutation(
        "a link of somebody else's is followed by root",
        "snapshot/base/files.py",
        "    replace(Path(os.path.realpath(path)) if follow else path, data, mode)",
        "    replace(Path(os.path.realpath(path)), data, mode)",
        "tests/metrics/test_history.py::test_a_page_in_a_folder_of_somebody_else_is_written_through_no_link",
    ),
    mutation(
        "the turn to publish is one that anybody can take",
        "snapshot/metrics/textfile.py",
        "os.open(lock, _LOCK_FLAGS, 0o600)",
        "os.open(lock, _LOCK_FLAGS, 0o644)",
        "tests/metrics/test_textfile.py::test_another_user_cannot_keep_the_metrics_from_being_written",
    ),
    mutation(
        "a gateway that drips holds the backup up",
        "snapshot/metrics/exposition.py",
        "    thread.join(limit_seconds)",
        "    thread.join()",
        "tests/metrics/test_ways_out.py::test_a_pushgateway_that_drips_is_given_up_in_time",
    ),
    mutation(
        "a backup past the hook is nobody's concern",
        "snapshot/journal/silences.py",
        "    if found:\n        journal.set_note(UNHOOKED_NOTE",
        "    if False:\n        journal.set_note(UNHOOKED_NOTE",
        "tests/metrics/test_silences.py::test_a_vzdump_task_without_our_hook_is_found_once_and_told_for_a_day",
    ),
    mutation(
        "a freeze by others is no alarm, however long",
        "snapshot/metrics/exposition.py",
        "        if window.is_foreign and now <= window.deadline_at:",
        "        if window.is_foreign:",
        "tests/metrics/test_silences.py::test_a_freeze_by_others_counts_once_it_has_lasted_too_long_and_is_no_run",
    ),
    mutation(
        "a guest that no run comes to has no series",
        "snapshot/metrics/exposition.py",
        "        running.add_metric(key, 1.0)",
        "        pass",
        "tests/metrics/test_silences.py::test_every_running_guest_has_series_guarded_or_not",
    ),
    mutation(
        "an end that makes no sense closes a window",
        "snapshot/journal/record.py",
        'OPEN = f"(closed_at IS NULL OR',
        'OPEN = f"(closed_at IS NULL OR 1 = 0 AND',
        "tests/metrics/test_odd_rows.py::test_an_end_that_makes_no_sense_closes_no_window",
    ),
    mutation(
        "a window that does not say whose it is concerns nobody",
        RECOVERY,
        "is_lost = is_lost or bool(book.journal.lost_windows())",
        "pass",
        "tests/metrics/test_odd_rows.py::test_a_window_that_does_not_say_whose_it_is_has_every_guest_looked_at",
    ),
    mutation(
        "PVE's own freeze in a snapshot task of ours has no deadline",
        SNAPSHOT_WINDOW,
        "            if not is_harmless() and self._tools.thawer.look() is not FreezeState.THAWED:",
        "            if False:",
        f"{OWN_FREEZING}::test_a_freeze_of_pves_own_is_thawed_at_the_deadline",
    ),
    mutation(
        "what PVE's own thaw left frozen stays so",
        SNAPSHOT_WINDOW,
        "        if self._pve_since is None or self._pve_left is State.THAWED:",
        "        if True:",
        f"{OWN_FREEZING}::test_a_guest_that_pves_own_thaw_left_frozen_is_thawed",
        f"{OWN_FREEZING}::test_a_freeze_of_pves_own_whose_worker_is_killed_is_thawed",
    ),
    mutation(
        "the guard is not told that PVE may freeze",
        SNAPSHOT_WINDOW,
        """
        self._armed_guard().tell(Op.FREEZING)
        self._replace_dead_guard()  # the new""",
        "        self._replace_dead_guard()  # the new",
        f"{OWN_FREEZING}::test_a_freeze_of_pves_own_is_thawed_when_the_run_is_killed",
    ),
    mutation(
        "the freeze of a killed snapshot task counts as over",
        PVE_SNAPSHOT,
        "            window.pve_has_ended(is_thawed=None)",
        "            window.pve_has_ended(is_thawed=True)",
        f"{OWN_FREEZING}::test_a_freeze_of_pves_own_whose_worker_is_killed_is_thawed",
    ),
    mutation(
        "a thaw of PVE's that failed is not read in its log",
        "snapshot/take/judging.py",
        '    return any("thaw problems" in line for line in log)',
        "    return False",
        f"{OWN_FREEZING}::test_a_guest_that_pves_own_thaw_left_frozen_is_thawed_also_when_its_agent_is_mute_by_then",
    ),
    mutation(
        "a guard that dies in PVE's task is not replaced",
        SNAPSHOT_WINDOW,
        """
        self._replace_dead_guard()  # the new one takes the guest for one that may be frozen
""",
        "",
        f"{OWN_FREEZING}::test_a_freeze_of_pves_own_is_thawed_when_the_guard_is_killed_and_the_deadline_passes",
    ),
    mutation(
        "who holds a paused backup of a thawed guest is ended",
        OVERDUE,
        '    if window.source == "snapshot" or may_be_frozen:',
        "    if True:",
        f"{STRANGERS}::test_a_paused_backup_whose_guest_is_thawed_is_not_ended",
    ),
    mutation(
        "who was stopped is left where the guest says thawed",
        RECOVERY,
        """
        has_ended = end_who_stands_still(window, now, self._me)
        if has_ended""",
        """
        has_ended = False
        if has_ended""",
        f"{STRANGERS}::test_who_stands_still_past_the_deadline_is_ended_also_where_the_guest_says_thawed",
    ),
    mutation(
        "the rescue waits behind who was stopped in the agent's seat",
        BY_HAND,
        "clear_the_way=lambda: _clear_the_way(access, vmid, me)",
        "clear_the_way=lambda: None",
        f"{STRANGERS}::test_the_rescue_ends_who_stands_still_in_the_agents_seat",
    ),
    mutation(
        "who was given up keeps the agent's seat",
        RECOVERY,
        """
        end_who_stands_still(window, now, self._me, may_be_frozen=window.thawed_at is None)
""",
        "",
        f"{STRANGERS}::test_the_rescue_ends_who_stands_still_in_the_agents_seat[given up]",
    ),
    mutation(
        "a process that moves is ended",
        PROCESS,
        '        if self._state() != "T" and not (is_silent and not self.is_gone()):',
        "        if self.is_gone():",
        f"{PROCESS_TESTS}::test_a_living_process_is_left_alone_unless_it_is_known_to_be_silent",
    ),
    mutation(
        "another process with the number of ours is ended",
        PROCESS,
        "            if process_start(pid) == start:",
        "            if True:",
        f"{PROCESS_TESTS}::test_another_process_with_the_same_number_is_left_alone",
    ),
    mutation(
        "a stopped owner is ended before its deadline",
        TURN,
        "        if now < self.due or self.has_disarmed",
        "        if self.has_disarmed",
        f"{GUARD_TESTS}::test_before_the_deadline_a_stopped_owner_is_left_alone",
    ),
    mutation(
        "an owner that moves is taken for one that hangs",
        TURN,
        "silence > self._thawer.longest_silence_seconds",
        "silence > 0",
        f"{GUARD_TESTS}::test_an_owner_that_hangs_without_a_word_is_ended_after_its_longest_silence_and_not_before",
    ),
    mutation(
        "a guard that cannot look its window up lets a stopped owner stand",
        GUARD_PROCESS,
        "        due = clock.monotonic() + spec.deadline_seconds + DEADLINE_MARGIN_SECONDS",
        "        pass",
        f"{GUARD_TESTS}::test_an_owner_is_given_way_to_the_latest_deadline_where_its_window_cannot_be_looked_up",
    ),
    mutation(
        "a thaw that counted the late freeze does not end the watch",
        GUARD,
        "        if report.confirmed and report.filesystems and self._knows_of_one_freeze and",
        "        if False and",
        f"{GUARD_TESTS}::test_a_thaw_that_counts_the_freeze_whose_answer_nobody_heard_ends_the_window",
        f"{GUARD_TESTS}::test_the_watch_ends_with_the_thaw_of_the_late_freeze_so_that_others_may_freeze_again",
    ),
    mutation(
        "the watch ends with a thaw that counted somebody else's freeze",
        GUARD,
        "self._clock.monotonic() + CARRIED_OUT_SECONDS)",
        "self._clock.monotonic())",
        f"{GUARD_TESTS}::test_a_freeze_of_ours_behind_somebody_elses_in_the_agents_queue_is_thawed_too",
    ),
    mutation(
        "a lost answer costs everybody an hour",
        WINDOW,
        "        if report.filesystems and self._machine.late_freeze_possible and self._is_one_freeze:",
        "        if False:",
        f"{WINDOW_TESTS}::test_a_lost_answer_costs_nobody_anything_once_its_freeze_was_thawed_with_a_count",
    ),
    mutation(
        "a rescue that counted the freeze leaves the window open",
        "snapshot/journal/living.py",
        "    if record.filesystems_thawed or (thawed is not None and thawed.confirmed and thawed.filesystems):",
        "    if False:",
        f"{RECOVERY_TESTS}::test_a_window_whose_freeze_cannot_come_any_more_is_closed",
    ),
    mutation(
        "a thaw that counted one of two freezes ends the watch",
        GUARD,
        "        self._knows_of_one_freeze = not self._is_at_risk and not self._spec.others_freeze",
        "        self._knows_of_one_freeze = True",
        f"{GUARD_TESTS}::test_a_thaw_that_counts_one_freeze_does_not_end_the_watch_where_there_may_be_two",
    ),
    mutation(
        "a second window while a late freeze may come",
        "snapshot/journal/living.py",
        """
    return process_lives(record.guard_pid, record.guard_pid_start)
""",
        """
    return False
""",
        f"{WINDOW_TESTS}::test_a_second_window_is_refused_while_a_guard_watches_for_a_late_freeze",
    ),
    mutation(
        "two guards hold one claim",
        CLAIM,
        """
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            is_ours""",
        "            is_ours",
        f"{CLAIM_TESTS}::test_a_window_has_one_guard_and_the_second_hears_who_it_is",
    ),
    mutation(
        "the claims' folder stays open to others",
        "snapshot/base/files.py",
        "        if found.st_mode & 0o077:",
        "        if False:",
        f"{CLAIM_TESTS}::test_the_folder_and_its_files_are_closed_to_everybody_else",
    ),
    mutation(
        "a file that its holder removed is a claim",
        CLAIM,
        "            is_ours = _is_still(folder, path.name, descriptor)",
        "            is_ours = True",
        f"{CLAIM_TESTS}::test_a_file_that_its_holder_removed_meanwhile_is_no_claim",
    ),
    mutation(
        "the end of a window takes others' claims away",
        CLAIM,
        """
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            os.unlink""",
        "            os.unlink",
        f"{CLAIM_TESTS}::test_the_end_of_a_window_leaves_the_claims_of_others_alone",
    ),
    mutation(
        "a guard without a claim does not thaw",
        CLAIM,
        """
    except OSError:
        return Claim()
    try:""",
        """
    except OSError:
        return Holder()
    try:""",
        f"{CLAIM_TESTS}::test_a_guard_goes_on_without_a_claim_where_none_can_be_had",
    ),
    mutation(
        "a full disk costs a second guard its claim",
        CLAIM,
        "        return os.open(name, os.O_RDONLY | _FLAGS, dir_fd=folder)  # read-only",
        "        raise  # read-only",
        f"{CLAIM_TESTS}::test_a_disk_that_is_full_or_read_only_by_now_costs_no_claim",
    ),
    mutation(
        "there are more slots than were said",
        SLOTS,
        """
    except BlockingIOError:
        return False
""",
        """
    except BlockingIOError:
        return True
""",
        f"{SLOTS_TESTS}::test_there_are_so_many_slots_and_no_more",
    ),
    mutation(
        "who comes takes the slot that another waits for",
        SLOTS,
        "        if _locks(waiting, fcntl.LOCK_EX):  # nobody waits",
        "        if True:",
        f"{SLOTS_TESTS}::test_who_comes_while_others_wait_takes_no_short_cut",
    ),
    mutation(
        "a slot that is given back is kept",
        SLOTS,
        "        descriptor, self._descriptor = self._descriptor, -1",
        "        descriptor, self._descriptor = self._descriptor, -1\n        descriptor = os.dup(descriptor)",
        f"{SLOTS_TESTS}::test_who_gives_it_back_has_it_no_more_and_who_ends_neither",
    ),
    mutation(
        "a guard that fails or is killed does not begin again",
        NURSERY,
        "        if self._is_ending or (by_itself and status in (DONE, LEFT)):",
        "        if True:",
        f"{NURSERY_TESTS}::test_one_that_is_killed_is_forked_again_and_takes_its_window_over",
        f"{HOSTED_TESTS}::test_all_windows_of_a_process_that_is_killed_are_taken_over",
        f"{HOSTED_TESTS}::test_what_one_raises_ends_that_one_and_it_takes_its_window_over",
    ),
    mutation(
        "a forked guard that hangs is left to it",
        NURSERY,
        "            if hanging:",
        "            if False:",
        f"{NURSERY_TESTS}::test_one_that_hangs_is_killed_for_it_and_forked_again",
        f"{HOSTED_TESTS}::test_all_windows_of_a_process_that_stands_still_are_taken_over",
    ),
    mutation(
        "a guard that hangs is hidden by one that moves",
        "snapshot/guard/wards.py",
        "        return [ward for ward in self.wards.values() if now - ward.heard_at > ward.limit_seconds]",
        "        hanging = [ward for ward in self.wards.values() if now - ward.heard_at > ward.limit_seconds]\n"
        "        return hanging if len(hanging) == len(self.wards) else []",
        f"{HOSTED_TESTS}::test_one_that_hangs_is_not_hidden_by_others_that_move",
    ),
    mutation(
        "a guard that has hung sits among others again",
        NURSERY,
        "is_alone, due = by_itself or ward.has_hung, ",
        "is_alone, due = False, ",
        f"{HOSTED_TESTS}::test_one_that_hangs_is_not_hidden_by_others_that_move",
    ),
    mutation(
        "a forked guard has no session of its own",
        HOSTED,
        "    os.setsid()\n",
        "",
        f"{NURSERY_TESTS}::test_a_forked_guard_is_a_process_of_its_own_with_nothing_inherited",
    ),
    mutation(
        "a forked process inherits what its parent has open",
        HOST,
        "        os.closerange(3, control.fileno())\n",
        "",
        f"{NURSERY_TESTS}::test_a_forked_guard_is_a_process_of_its_own_with_nothing_inherited",
        f"{HOST_TESTS}::test_nothing_but_memory_is_inherited",
    ),
    mutation(
        "a stopped nursery leaves its guards to themselves",
        NURSERY,
        "os.kill(nest.host.pid, signal.SIGTERM)",
        "os.kill(nest.host.pid, 0)",
        f"{NURSERY_TESTS}::test_a_nursery_that_is_stopped_lets_its_guards_thaw_first",
        f"{HOSTED_TESTS}::test_up_to_so_many_guards_have_a_process_each_and_more_share_them",
    ),
    mutation(
        "a nursery ends before its last guard",
        NURSERY,
        "        while (self._has_starter and not self._is_ending) or self._wards or self._to_begin_again:",
        "        while self._has_starter and not self._is_ending:",
        f"{NURSERY_TESTS}::test_a_nursery_ends_behind_its_starter_and_its_last_guard",
    ),
    mutation(
        "a nursery forks while a name is looked up",
        NURSERY,
        "            if thread.is_alive():",
        "            if False:",
        f"{NURSERY_TESTS}::test_none_is_forked_from_a_process_in_which_a_name_is_looked_up",
    ),
    mutation(
        "few guards share a process, too",
        NURSERY,
        "(len(usable) >= MOST_HOSTS or not best.wards)",
        "True",
        f"{HOSTED_TESTS}::test_up_to_so_many_guards_have_a_process_each_and_more_share_them",
    ),
    mutation(
        "each guard has a process of its own, however many they are",
        NURSERY,
        "(len(usable) >= MOST_HOSTS or not best.wards)",
        "not best.wards",
        f"{HOSTED_TESTS}::test_up_to_so_many_guards_have_a_process_each_and_more_share_them",
    ),
    mutation(
        "a new process is forked while another one has nothing to do",
        NURSERY,
        "(len(usable) >= MOST_HOSTS or not best.wards)",
        "len(usable) >= MOST_HOSTS",
        f"{HOSTED_TESTS}::test_a_process_that_has_nothing_to_do_is_taken_before_a_new_one",
    ),
    mutation(
        "a new guard sits beside one that says nothing",
        "snapshot/guard/wards.py",
        "        return any(now - ward.heard_at > QUIET_SECONDS for ward in self.wards.values()), len(self.wards)",
        "        return False, len(self.wards)",
        f"{SHARED_TESTS}::test_a_process_in_which_a_guard_says_nothing_is_spared_before_one_that_has_much_to_do",
    ),
    mutation(
        "guards of one process share its connection",
        GUARD_PROCESS,
        "ready.access.apart(watchdog.moves) if ready",
        "ready.access if ready",
        f"{HOSTED_TESTS}::test_up_to_so_many_guards_have_a_process_each_and_more_share_them",
    ),
    mutation(
        "guards of one process share what they find out of the API",
        "snapshot/pve/standby.py",
        "        found = copy.copy(self)\n",
        "        found = self\n",
        f"{SHARED_TESTS}::test_no_two_guards_share_a_connection_or_what_they_find_out",
    ),
    mutation(
        "each guard reads the certificates for itself",
        HTTPS,
        "self._tls = self._tls or tls_context",
        "self._tls = tls_context",
        f"{SHARED_TESTS}::test_certificates_are_read_once_for_all_guards",
    ),
    mutation(
        "a guard that has ended goes on holding the processes that it watched",
        "snapshot/guard/inbox.py",
        "            os.close(self._watched.pop())",
        "            self._watched.pop()",
        f"{SHARED_TESTS}::test_an_inbox_that_is_ended_holds_nothing_any_more",
    ),
    mutation(
        "a guard that has ended leaves its connections open",
        GUARD_PROCESS,
        "    opened.callback(access.close)\n",
        "",
        f"{HOSTED_TESTS}::test_a_process_that_has_nothing_to_do_is_taken_before_a_new_one",
    ),
    mutation(
        "what one guard raises ends all of its process",
        HOST,
        "            status = self._work(errand)\n",
        "            status = self._work(errand)\n        except BaseException:\n            os._exit(BROKEN)\n",
        f"{HOSTED_TESTS}::test_what_one_raises_ends_that_one_and_it_takes_its_window_over[SystemExit]",
        f"{HOST_TESTS}::test_an_exception_costs_its_own_order",
    ),
    mutation(
        "a guard that fails without a nursery is left so",
        HOSTED,
        "            if os.getppid() == self._nursery:",
        "            if True:",
        f"{HOSTED_TESTS}::test_one_that_fails_where_the_nursery_is_gone_begins_again_by_itself",
    ),
    mutation(
        "a guard begins in a process that was told to end",
        HOSTED,
        "        if errand.signals.pending is not None:",
        "        if False:",
        f"{HOSTED_TESTS}::test_a_signal_makes_all_guards_of_a_process_thaw_first[TERM]",
    ),
    mutation(
        "a process that was told to end is kept",
        NURSERY,
        "                    nest.retire()",
        "                    pass",
        f"{HOSTED_TESTS}::test_a_signal_makes_all_guards_of_a_process_thaw_first[TERM]",
    ),
    mutation(
        "a signal to a process of many guards is nobody's",
        "snapshot/guard/inbox.py",
        '            self._selector.register(signals, selectors.EVENT_READ, "told")',
        "            pass",
        f"{SHARED_TESTS}::test_a_signal_that_others_hear_too_is_reported_once",
    ),
    mutation(
        "a signal to a process of many guards is reported for ever",
        "snapshot/guard/inbox.py",
        "            self._selector.unregister(key.fileobj)  # it stays readable\n",
        "",
        f"{SHARED_TESTS}::test_a_signal_that_others_hear_too_is_reported_once",
    ),
    mutation(
        "a guard that lives beside others counts as the one of each window it ever had",
        GUARD_PROCESS,
        "(is_alone and _has_another_guard(record, me))",
        "_has_another_guard(record, me)",
        f"{SHARED_TESTS}::test_a_process_that_lives_has_this_windows_guard_only_where_it_is_its_only_one",
    ),
    mutation(
        "what a guard could not record in time is recorded behind its end",
        "snapshot/guard/background.py",
        "            if self._is_given_up:",
        "            if False:",
        "tests/unit/test_recorder.py::test_a_record_that_hangs_is_the_last_one_where_nobody_waited_for_it",
    ),
    mutation(
        "a signal that interrupts an errand waits for the next order",
        HOST,
        "        signal.set_wakeup_fd(self._rings, warn_on_full_buffer=False)\n",
        "",
        f"{HOST_TESTS}::test_a_signal_that_interrupts_an_errand_reaches_them_all",
    ),
    mutation(
        "an order without room ends the host",
        HOST,
        "        except (OSError, RuntimeError):",
        "        except RuntimeError:",
        f"{HOST_TESTS}::test_an_order_for_which_there_is_no_room_costs_itself_alone",
    ),
    mutation(
        "threads of a host have large stacks",
        HOST,
        "    threading.stack_size(STACK_BYTES)\n",
        "",
        f"{HOST_TESTS}::test_all_threads_of_a_host_have_small_stacks",
    ),
    mutation(
        "each thread of a host has a heap",
        HOST,
        "        ctypes.CDLL(None).mallopt(_M_ARENA_MAX, 1)",
        "        pass",
        f"{HOST_TESTS}::test_all_threads_of_a_host_share_one_heap",
    ),
    mutation(
        "a forked guard copies all that it shares",
        PROCESS,
        "            flags |= MCL_ONFAULT",
        "            pass",
        f"{NURSERY_TESTS}::test_forked_guards_stay_in_memory_and_share_most_of_it",
    ),
    mutation(
        "a run of many starts each guard by itself",
        "snapshot/cli/many.py",
        "    if not is_dry and (problem := launcher.preload()):",
        '    if not is_dry and (problem := ""):',
        f"{NURSERY_TESTS}::test_a_run_of_many_has_its_guards_forked_and_leaves_no_nursery",
    ),
    mutation(
        "a window is not held where the nursery is gone",
        "snapshot/guard/launcher.py",
        "            process = None if self._is_forked(spec, address) else self._start",
        "            process = None if self._is_forked(spec, address) or self._nursery else self._start",
        f"{NURSERY_TESTS}::test_guards_outlive_a_nursery_that_is_killed_and_the_next_one_is_started_by_itself",
    ),
    mutation(
        "a peer that is off is asked first with each request",
        STANDBY,
        "                standby.turn = (standby.turn + 1) % len(standby.others)",
        "                return standby.others[-1].request(method, path, params, timeout_seconds=timeout_seconds)",
        "tests/unit/test_standby.py::test_one_that_did_not_answer_is_not_asked_first_again",
    ),
    mutation(
        "a guard does not know the nodes that its owner goes by",
        "snapshot/guard/launcher.py",
        '        return found + [word for peer in self._config.api.peers for word in ("--peer", peer)]',
        "        return found",
        f"{FAILOVER_TESTS}::test_the_guard_of_such_a_run_knows_them_too",
    ),
    mutation(
        "no run remembers the cluster's nodes",
        "snapshot/cli/take.py",
        "    if not request.dry_run and result.guest is not None:",
        "    if False:",
        f"{FAILOVER_TESTS}::test_without_peers_the_nodes_that_an_earlier_run_has_seen_take_over",
    ),
    mutation(
        "PVE's own thaw is the reason whichever version it has",
        "snapshot/take/judging.py",
        "        }[leaves_alone()]",
        "        }[False]",
        f"{OWN_FREEZING}::test_pves_own_thaw_is_the_reason_only_where_it_may_have_been_it[its version is known]",
        f"{OWN_FREEZING}::test_pves_own_thaw_is_the_reason_only_where_it_may_have_been_it[and is not]",
    ),
    mutation(
        "a limit that is too short is not named",
        "snapshot/take/unfrozen.py",
        "        seconds, setting = min(limits)",
        "        seconds, setting = max(limits)",
        "tests/engine/test_freeze_answers.py::test_a_limit_that_is_too_short_is_named[--max-window-max_window_seconds]",
    ),
    mutation(
        "policy require freezes a guest of which nothing can be proven",
        "snapshot/take/examine.py",
        "            _refuse_what_proves_nothing(run, guest)",
        "            pass",
        f"{OWN_FREEZING}::test_what_pve_cannot_prove_is_refused_before_the_freeze_for_policy_require[9.1.9]",
    ),
    mutation(
        "a run does not wait for another one of its guest",
        "snapshot/take/examine.py",
        "    if tools.wait_seconds is not None:",
        "    if False:",
        f"{TWO_RUNS}::test_the_second_waits_says_so_and_takes_its_own_under_a_name_of_its_own",
        f"{TWO_RUNS}::test_a_name_that_the_first_has_given_by_then_is_refused_before_the_freeze",
    ),
    mutation(
        "a run of many begins a guest that another run is at work on",
        "snapshot/fleet/guestwork.py",
        "        if self.is_ours or self.request.dry_run or tools.access.turns is None:",
        "        if True:",
        f"{IN_USE}::test_two_runs_of_many_at_once_take_two_consistent_ones_of_each",
        f"{IN_USE}::test_one_that_stays_in_use_is_named_when_its_time_is_over",
    ),
    mutation(
        "a group begins with a guest that another run is at work on",
        "snapshot/cli/many.py",
        "grouped is not None and guest.vmid in grouped.alone",
        "grouped is not None",
        f"{IN_USE}::test_a_member_that_stays_in_use_is_as_one_that_is_locked[all or none]",
    ),
    mutation(
        "two groups wait for each other's guests",
        "snapshot/cli/together.py",
        "    for vmid in sorted(guest.vmid for guest in guests):",
        "    for vmid in (guest.vmid for guest in guests):",
        f"{IN_USE}::test_groups_take_their_guests_in_one_order",
    ),
    mutation(
        "a run does not wait for its turn",
        "snapshot/take/examine.py",
        "    if turns is None or run.request.dry_run:",
        "    if True or turns is None or run.request.dry_run:",
        f"{TURNS_TESTS}::test_a_run_waits_while_as_many_windows_as_may_be_are_open_and_says_so",
    ),
    mutation(
        "no signal ends a wait for a turn",
        "snapshot/take/run.py",
        """
        with self.tools.gate.open():
            self.tools.clock.sleep(seconds)
""",
        """
        self.tools.clock.sleep(seconds)
""",
        f"{TURNS_TESTS}::test_a_signal_ends_the_wait_and_nothing_was_done",
    ),
    mutation(
        "a freeze takes a node's last worker",
        WINDOW,
        '        obstacle = (self._wait_for_turn() if knock is None else "") or self._obstacle(guard)',
        "        obstacle = self._obstacle(guard)",
        f"{TURNS_TESTS}::test_a_freeze_that_would_take_the_nodes_last_worker_is_not_sent",
    ),
    mutation(
        "a window that waits for its freeze grows old",
        OWN_ROW,
        "        slot = self._tools.turn(renew)\n",
        "        slot = self._tools.turn(lambda: None)\n",
        f"{WINDOW_TESTS}::test_a_freeze_that_waits_long_for_its_turn_is_still_sent_for_its_row_is_kept_young",
    ),
    mutation(
        "a question before a window takes a node's last worker",
        "snapshot/pve/access.py",
        "    if socket is None and access.turns is not None:",
        "    if False:",
        f"{TURNS_TESTS}::test_a_question_that_would_take_it_is_not_sent_either",
    ),
    mutation(
        "a folder that cannot be used costs the run",
        SLOTS,
        "            return Slot(problem=",
        "            raise TimeoutError from error\n            return Slot(problem=",
        f"{SLOTS_TESTS}::test_where_no_folder_can_be_had_there_is_no_limit_and_it_says_why",
    ),
    mutation(
        "a living owner is counted as dead",
        SETTLE,
        "(Word.DEADLINE if lives else Word.OWNER_DIED)",
        "(Word.OWNER_DIED)",
        "tests/unit/test_overdue.py::test_an_owner_that_was_given_up_is_called_dead_only_where_it_is",
    ),
    mutation(
        "one host alone says that a guest is off",
        "snapshot/pve/doors.py",
        "        return min(2, len(self._doors()))",
        "        return 1",
        f"{SECOND_SOURCE}::test_one_host_alone_cannot_say_that_a_guest_is_off_where_there_are_others",
        f"{SECOND_SOURCE}::test_one_host_alone_cannot_say_that_a_guest_is_gone_where_there_are_others",
    ),
    mutation(
        "a guest whose QEMU lives here is gone",
        ROUTES,
        "        if gone and not lives:",
        "        if gone:",
        f"{SECOND_SOURCE}::test_a_guest_that_the_token_does_not_see_any_more_is_not_gone_while_its_qemu_lives_here",
    ),
    mutation(
        "a guest that the token does not see any more is gone",
        ROUTES,
        "                return lives is False or _is_without(api, guest, seconds)",
        "                return True",
        f"{SECOND_SOURCE}::test_a_guest_that_the_token_does_not_see_any_more_is_not_gone",
    ),
    mutation(
        "whatever does not run is off",
        ROUTES,
        '.get("status") == "stopped"',
        '.get("status") != "running"',
        f"{SECOND_SOURCE}::test_only_stopped_is_off",
    ),
    mutation(
        "recover closes the window of a guest that the list lacks",
        RECOVERY,
        "            build_ladder(self._access, window.guest).relocate()  # a list",
        "            raise GuestRemovedError('x')  # a list",
        f"{STRANGERS}::test_a_list_that_lacks_the_guest_of_a_window_does_not_close_it",
    ),
    mutation(
        "recover closes a window because of an uptime",
        RECOVERY,
        "        if is_another and self._state(guest) is None:",
        "        if is_another:",
        f"{STRANGERS}::test_a_guest_that_answers_gets_its_thaw_however_young_its_qemu_seems",
    ),
    mutation(
        "a list that lacks a guest ends its alarm",
        STRANGERS_LOOK,
        "        if window.vmid not in found.listed and not self._is_removed(window):",
        "        if False:",
        f"{STRANGERS}::test_a_list_that_lacks_a_guest_that_somebody_else_froze_does_not_end_its_alarm",
    ),
    mutation(
        "a clock that was set back postpones the alarm",
        STRANGERS_LOOK,
        "        if max(window.intent_at, window.frozen_at or 0.0) <= now:",
        "        if True:",
        f"{STRANGERS}::test_a_clock_that_was_set_back_does_not_postpone_the_alarm",
    ),
    mutation(
        "writes that were counted late end a freeze",
        FROZEN,
        """
        if before.state == FreezeState.FROZEN.value:
            # What""",
        """
        if False:
            # What""",
        f"{LOOK_TESTS}::test_writes_that_were_counted_after_a_freeze_do_not_make_it_well",
    ),
    mutation(
        "a frozen guest that falls silent is not frozen any more",
        FROZEN,
        """
    if row.state == FreezeState.FROZEN.value:
        return row._replace(silent""",
        """
    if False:
        return row._replace(silent""",
        f"{LOOK_TESTS}::test_a_frozen_guest_whose_agent_falls_silent_stays_frozen",
    ),
    mutation(
        "PVE's list outdoes a QEMU that lives here",
        FROZEN,
        '            is_as_listed = local is None or (is_here and listed.status == "running")',
        "            is_as_listed = True",
        f"{STRANGERS}::test_what_lives_on_the_node_is_looked_at_whatever_the_list_says",
    ),
    mutation(
        "a silent agent is asked in each round",
        FROZEN,
        "    if row.silent <= 1 or row.asked_at is None:",
        "    if True:",
        f"{LOOK_TESTS}::test_an_agent_that_is_silent_is_asked_ever_more_seldom_and_never_forgotten",
    ),
    mutation(
        "an agent in a window of ours is asked by the look",
        FROZEN,
        "        if row.vmid in leave_out:",
        "        if False:",
        f"{LOOK_TESTS}::test_a_guest_in_a_window_of_ours_is_left_to_it",
    ),
    mutation(
        "the rescue believes one host's list",
        BY_HAND,
        "            return window.guest",
        "            pass",
        "tests/unit/test_to_rescue.py::test_a_guest_with_an_open_window_is_tried_whatever_one_hosts_list_says",
    ),
    mutation(
        "a broken journal takes the plans of backups with it",
        BROKEN,
        "\"key GLOB 'plan:*'\", ",
        "",
        f"{SILENCES_TESTS}::test_jobs_that_had_our_hook_are_forgotten_in_the_end_but_not_by_a_broken_journal",
    ),
    mutation(
        "a broken journal takes with it which backups of a job are over",
        BROKEN,
        ", \"key GLOB 'done:*'\"",
        "",
        f"{SILENCES_TESTS}::test_jobs_that_had_our_hook_are_forgotten_in_the_end_but_not_by_a_broken_journal",
    ),
    mutation(
        "a broken journal takes with it that a backup of a job failed",
        BROKEN,
        ", \"key GLOB 'failed:*'\"",
        "",
        f"{SILENCES_TESTS}::test_jobs_that_had_our_hook_are_forgotten_in_the_end_but_not_by_a_broken_journal",
    ),
    mutation(
        "a broken journal takes with it which jobs had our hook",
        BROKEN,
        "\"key GLOB 'job:*'\", ",
        "",
        f"{SILENCES_TESTS}::test_jobs_that_had_our_hook_are_forgotten_in_the_end_but_not_by_a_broken_journal",
    ),
    mutation(
        "a broken journal is moved from under its writer",
        BROKEN,
        """
    _lock(descriptor, path, clock)
""",
        "",
        f"{JOURNAL_TESTS}::test_a_file_is_not_set_aside_while_somebody_writes_to_it",
    ),
    mutation(
        "a broken journal is moved from under another thread's hands",
        BROKEN,
        "fcntl.F_OFD_SETLK",
        "fcntl.F_SETLK",
        f"{JOURNAL_TESTS}::test_nor_while_another_thread_of_this_process_does",
    ),
    mutation(
        "the new journal is set aside in place of the broken one",
        BROKEN,
        "        if identity(real) != broken:",
        "        if False:",
        f"{JOURNAL_TESTS}::test_what_another_process_has_set_aside_already_stays",
    ),
    mutation(
        "a side file of the journal is looked at twice",
        "snapshot/journal/file.py",
        "            if not stat.S_ISREG(side.stat().st_mode):\n",
        "            if side.exists() and not side.is_file():\n",
        "tests/unit/test_journal.py::test_a_side_file_that_another_process_removes_meanwhile_is_none",
    ),
    mutation(
        "the broken journal's side files stay with the new one",
        BROKEN,
        """
        for suffix in SIDE_FILES:
            with""",
        """
        for suffix in ():
            with""",
        f"{JOURNAL_TESTS}::test_the_side_files_of_the_broken_one_go_with_it",
    ),
    mutation(
        "who has the broken journal open writes on in it",
        JOURNAL,
        "        if file.identity(self.path) != self._file:",
        "        if False:",
        f"{JOURNAL_TESTS}::test_whoever_has_the_broken_file_open_goes_on_in_the_new_one",
    ),
    mutation(
        "who comes late calls a thawed window stuck",
        "snapshot/journal/record.py",
        """
    if record.state == State.THAWED.value:
        return {name""",
        """
    if False:
        return {name""",
        f"{JOURNAL_TESTS}::test_a_window_that_its_guard_has_thawed_is_not_called_stuck_by_an_owner_that_stood_still",
    ),
    mutation(
        "a journal of a newer version is written to",
        SCHEMA,
        "    if found > VERSION:",
        "    if False:",
        f"{JOURNAL_TESTS}::test_a_journal_of_a_newer_version_is_left_alone",
    ),
    mutation(
        "what pvesh says is kept without end",
        PVESH,
        """
                run.check()
""",
        "",
        f"{PVESH_TESTS}::test_a_pvesh_that_talks_without_end_is_killed_at_its_cap",
    ),
    mutation(
        "an agent's line without end is kept",
        CONNECTION,
        "        if len(self._unended) > AGENT_BYTES:",
        "        if False:",
        f"{QGA_TESTS}::test_an_endless_line_before_the_sync_is_cut_off",
    ),
    mutation(
        "the agent's seat is kept from everybody",
        SEAT,
        "                elif self._is_in_the_way(self._connection) and others:",
        "                elif self._is_in_the_way(self._connection) and False:",
        f"{SEAT_TESTS}::test_pve_has_all_its_turns_while_we_sit_and_the_proof_and_the_thaw_are_ours[scripted]",
    ),
    mutation(
        "the seat is left before a new place is taken",
        SEAT,
        """                    here, self._connection = self._connection, self._placed()
                    here.close()
""",
        """                    self._connection.close()
                    self._connection = self._placed()
""",
        f"{SEAT_TESTS}::test_the_agent_is_never_alone_while_pve_comes_and_goes",
    ),
    mutation(
        "the seat is given up at the first who waits",
        SEAT,
        """                    here, self._connection = self._connection, self._placed()
                    here.close()
""",
        """                    self._leave()
                    return False
""",
        f"{SEAT_TESTS}::test_the_agent_is_never_alone_while_pve_comes_and_goes",
    ),
    mutation(
        "an agent that lost our sync keeps all others waiting behind us",
        SEAT,
        "        return self._read_at is not None and now - self._read_at >= SILENT_SECONDS",
        "        return False",
        f"{SEAT_TESTS}::test_an_agent_that_lost_our_sync_keeps_nobody_waiting_behind_us[scripted]",
    ),
    mutation(
        "a place that has waited for long is given up as soon as it is our turn",
        SEAT,
        "        return self._read_at is not None and now - self._read_at >= SILENT_SECONDS",
        "        return connection.is_read and now - connection.asked_at >= SILENT_SECONDS",
        f"{SEAT_TESTS}::test_behind_one_who_stays_for_long_there_is_one_place_of_ours_and_its_question_is_answered",
    ),
    mutation(
        "the place behind one who stays is given up",
        QGA,
        "        if awaits_knock and not is_ours:",
        "        if not is_ours:",
        f"{SEAT_TESTS}::test_behind_one_who_stays_for_long_there_is_one_place_of_ours_and_its_question_is_answered",
    ),
    mutation(
        "what the agent says in a turn of ours is not kept",
        SEAT,
        "                self._heard.append(connection.heard)",
        "                pass",
        f"{SEAT_TESTS}::test_the_agent_says_to_us_behind_each_turn_of_pves_whether_it_is_frozen[scripted]",
        f"{AGENT_SOCKET}::test_however_short_a_freeze_of_vzdumps_is_the_agent_says_frozen_in_it",
    ),
    mutation(
        "only what the agent said last is kept",
        SEAT,
        "                self._heard.append(connection.heard)",
        "                self._heard = deque([connection.heard])",
        f"{SEAT_TESTS}::test_the_agent_says_to_us_behind_each_turn_of_pves_whether_it_is_frozen[scripted]",
    ),
    mutation(
        "a freeze of vzdump's that came before us is a stranger's",
        VZDUMPS,
        "        if not self._tools.follower.has_logged(LogEvent.FREEZE_ISSUED):",
        "        if True:",
        f"{AGENT_SOCKET}::test_a_freeze_of_vzdumps_that_came_before_us_is_not_called_a_strangers",
    ),
    mutation(
        "no seat is kept over vzdump's own freeze",
        VZDUMPS,
        "        if not is_heard:\n            self._thawer.get_up()",
        "        self._thawer.get_up()",
        f"{AGENT_SOCKET}::test_vzdump_finds_the_agents_seat_taken_from_its_first_question_to_behind_its_thaw",
        f"{AGENT_SOCKET}::test_however_short_a_freeze_of_vzdumps_is_the_agent_says_frozen_in_it",
    ),
    mutation(
        "a watcher that stands still before vzdump's freeze keeps the agent's seat",
        "snapshot/guard/turn.py",
        "            elif message.what is Op.ASKING:",
        "            elif False:",
        f"{HOOK_WATCHING}::test_a_watcher_that_stands_still_loses_its_turn_at_the_deadline[before]",
    ),
    mutation(
        "the guard is not told that the watcher keeps the agent's seat",
        VZDUMPS,
        "        self._tell(Op.ASKING)\n",
        "",
        f"{HOOK_WATCHING}::test_a_watcher_that_stands_still_loses_its_turn_at_the_deadline[before]",
    ),
    mutation(
        "a seat that is not ours yet awaits a knock",
        QGA,
        "        if awaits_knock and not is_ours:",
        "        if False:",
        f"{SEAT_TESTS}::test_behind_somebody_else_nobody_is_kept_waiting_for_a_knock",
    ),
    mutation(
        "a seat is kept without a thread that lets others pass",
        QGA,
        "        except RuntimeError:  # no thread can be started",
        "        except ZeroDivisionError:",
        f"{SEAT_TESTS}::test_where_no_thread_can_be_started_there_is_no_seat",
    ),
    mutation(
        "a look that fails leaves the seat taken",
        SEAT,
        "                if self._is_kept:\n                    self._leave()",
        "                pass",
        f"{SEAT_TESTS}::test_a_look_that_fails_in_whatever_way_keeps_nobody_waiting",
    ),
    mutation(
        "a stranger is let through while the guest is frozen",
        SEAT,
        "(are_trusted == sorted(are_trusted) and not self._is_frozen)",
        "(are_trusted == sorted(are_trusted))",
        f"{SEAT_TESTS}::test_a_stranger_who_comes_while_the_guest_is_frozen_waits_for_the_thaw",
        "tests/campaign/test_seats.py::test_a_stranger_who_comes_while_the_guest_is_frozen_and_stays_is_in_nobodys_way",
    ),
    mutation(
        "a stranger sits down between PVE's freeze and our thaw",
        SEAT,
        "(are_trusted == sorted(are_trusted) and not self._is_frozen)",
        "(not self._is_frozen)",
        f"{SEAT_TESTS}::test_pve_passes_while_the_guest_is_frozen_and_not_with_a_stranger_behind_it",
    ),
    mutation(
        "a stranger knocks",
        SEAT,
        "        if not self._trusted[first]:",
        "        if False:",
        f"{SEAT_TESTS}::test_a_stranger_does_not_knock",
    ),
    mutation(
        "whatever a worker of PVE's closes meanwhile makes it a stranger",
        BACKLOG,
        '    except OSError:  # closed meanwhile\n        return ""',
        '    except ZeroDivisionError:\n        return ""',
        f"{SEAT_TESTS}::test_who_is_trusted_is_told_by_the_name_of_the_process_that_has_the_socket",
    ),
    mutation(
        "the guard is a stranger to its owner's seat",
        "snapshot/guard/__main__.py",
        "        harden(NAME)\n",
        '        harden("python3")\n',
        "tests/process/test_guard_anatomy.py::test_a_guard_is_known_by_its_name",
    ),
    mutation(
        "a required snapshot that was begun before a freeze that failed is left there",
        "snapshot/take/unfrozen.py",
        ' if snapshot.exists else "no snapshot taken"',
        ' if False else "no snapshot taken"',
        f"{KNOCK_TESTS}::test_required_and_not_frozen_at_the_knock_the_snapshot_that_was_begun_is_removed",
    ),
    mutation(
        "a seat is kept where nobody sees who waits",
        SEAT,
        "                if others is None:",
        "                if False:",
        f"{SEAT_TESTS}::test_a_look_that_fails_in_whatever_way_keeps_nobody_waiting",
    ),
    mutation(
        "who waits is let through between the proof and the thaw",
        QGA,
        "            self._connection, self._seat = self._seat.hold(), None",
        "            self._connection, self._seat = self._seat._connection, None",
        f"{SEAT_TESTS}::test_whoever_waits_once_we_hold_the_seat_waits",
    ),
    mutation(
        "the seat is given up before the freeze is sent at the knock",
        SEAT,
        "                    self._is_kept = False\n                    return self._quiet_at",
        "                    return self._quiet_at",
        f"{SEAT_TESTS}::test_whoever_knocks_waits_for_our_freeze_and_finds_the_guest_frozen[scripted]",
    ),
    mutation(
        "whoever knocks is kept waiting for ever",
        SEAT,
        "        if self._clock.monotonic() - self._quiet_at >= KNOCK_SECONDS:",
        "        if False:",
        f"{SEAT_TESTS}::test_whoever_knocks_is_let_through_where_nobody_freezes_in_time",
    ),
    mutation(
        "the freeze before PVE's task is sent over whatever connection",
        QGA,
        "                lost = () if self._is_knocked else (BrokenPipeError, ConnectionResetError)",
        "                lost = (BrokenPipeError, ConnectionResetError)",
        f"{SEAT_TESTS}::test_a_seat_that_is_lost_at_the_knock_is_not_replaced_by_another_connection",
    ),
    mutation(
        "the freeze goes before the knock",
        KNOCKS,
        "    at = seat.knock(seconds)\n",
        '    at = __import__("time").monotonic()\n',
        f"{KNOCK_TESTS}::test_a_task_that_does_not_ask_in_time_is_taken_again_in_sequence",
    ),
    mutation(
        "how long a guest's freezes take is ignored",
        KNOCKS,
        "    return len(quick) == FREEZES",
        "    return True",
        f"{KNOCK_TESTS}::test_a_guest_that_is_not_known_to_freeze_quickly_is_frozen_in_sequence",
    ),
    mutation(
        "what PVE's task says of a guest frozen at the knock is not asked",
        "snapshot/take/operation.py",
        "    if doubt:\n",
        "    if False:\n",
        f"{KNOCK_TESTS}::test_a_task_that_is_terminated_while_its_ping_waits_for_the_freeze_is_taken_again_in_sequence",
    ),
    mutation(
        "what vzdump says of a guest frozen at the knock is not asked",
        "vzdump_hooks/hold/ours.py",
        "        if doubt:\n",
        "        if False:\n",
        "tests/hook/test_knock.py"
        "::test_a_guest_is_only_called_frozen_at_the_knock_where_vzdump_says_that_it_found_it_so",
    ),
    mutation(
        "a snapshot that proves nothing is not taken again",
        KNOCK,
        "    found = run.verdict\n",
        "    found = None\n",
        f"{KNOCK_TESTS}::test_a_guest_that_was_thawed_at_the_knock_is_taken_again_in_sequence",
    ),
    mutation(
        "a freeze that outlasted PVE's patience counts",
        WINDOW,
        "            channel, seconds = knock.seat, min(seconds, knock.until - self._tools.clock.monotonic())",
        "            channel = knock.seat",
        f"{WINDOW_TESTS}::test_at_the_knock_the_freeze_goes_over_the_seat_and_is_no_longer_waited_for_than_pve_waits",
    ),
    mutation(
        "a backup that must be consistent waits for the knock",
        "vzdump_hooks/phases/planning.py",
        "settings.at_the_knock and policy is not Policy.REQUIRE and",
        "settings.at_the_knock and",
        "tests/hook/test_knock.py::test_a_backup_that_must_be_consistent_is_frozen_before_vzdump_asks",
    ),
    mutation(
        "vzdump's lines behind its question do not end the wait for the knock",
        OURS,
        "                while not any(map(follower.has_logged, PAST_KNOCK)):",
        "                while True:",
        "tests/hook/test_knock.py::test_a_vzdump_that_goes_on_without_asking_is_not_called_consistent",
    ),
    mutation(
        "an answer to the freeze that is read too late counts",
        KNOCKS,
        "        if reply.outcome is FreezeOutcome.ACKNOWLEDGED and at > self.until:",
        "        if False:",
        f"{WINDOW_TESTS}::test_an_answer_that_is_read_when_pve_may_have_gone_on_proves_nothing",
    ),
    mutation(
        "what was frozen in sequence is taken again in sequence",
        "snapshot/take/operation.py",
        "        again = seat is not None and knock.is_to",
        "        again = at_knock and knock.is_to",
        f"{KNOCK_TESTS}::test_what_was_frozen_in_sequence_already_is_not_taken_again",
    ),
    mutation(
        "a guest that was shut down before the knock is taken again as if it ran",
        "snapshot/take/operation.py",
        "        _take(run, is_again=True)  # from the start: the guest may have been shut down meanwhile",
        "        _frozen(run, guest, at_knock=False)",
        f"{KNOCK_TESTS}::test_a_guest_that_is_shut_down_before_the_knock_is_taken_again_as_what_it_is",
    ),
    mutation(
        "a run that is at work is told as a freeze whose answer was lost",
        "snapshot/journal/rows.py",
        "    if other.verdict is None and process_lives(other.owner_pid, other.owner_pid_start):",
        "    if other.thawed_at is None:",
        "tests/unit/test_taken.py::test_who_has_the_guest_is_told_as_what_it_is[thawed]",
    ),
    mutation(
        "a freeze that was given up at the knock is not taken again",
        KNOCK,
        "FreezeOutcome.ACKNOWLEDGED, FreezeOutcome.UNKNOWN}",
        "FreezeOutcome.ACKNOWLEDGED}",
        f"{KNOCK_TESTS}::test_a_freeze_that_outlasts_pves_patience_is_given_up_thawed_and_taken_again_in_sequence",
    ),
    mutation(
        "the guard of a freeze that was given up at the knock is not waited for",
        KNOCK,
        "        while (window.is_watched or window.late_seconds > 0)",
        "        while window.late_seconds > 0",
        f"{KNOCK_TESTS}::test_a_freeze_that_outlasts_pves_patience_is_given_up_thawed_and_taken_again_in_sequence",
    ),
    mutation(
        "a freeze that may come still is taken again",
        KNOCK,
        "    if not is_in_vain or window.late_seconds > 0 or",
        "    if not is_in_vain or",
        f"{KNOCK_TESTS}::test_a_freeze_that_outlasts_pves_patience_and_was_not_seen_to_be_undone_is_not_taken_again",
    ),
    mutation(
        "a guard that watches on is taken for one that has ended",
        "snapshot/window/ownguard.py",
        "        return not process_lives(*self._process)",
        "        return True",
        f"{WINDOW_TESTS}::test_a_guard_that_was_let_go_is_seen_until_its_process_has_ended",
    ),
    mutation(
        "a newer agent's words for a hook that fails are not known",
        "snapshot/pve/agent.py",
        "(?:failed to execute fsfreeze hook|terminated abnormally)",
        "(?:no such words)",
        "tests/unit/test_agent.py::test_only_a_no_from_before_the_freezing_is_a_clean_refusal",
    ),
    mutation(
        "nobody looks behind a thaw that is long ago, and another's freeze was in front of ours",
        "snapshot/window/window.py",
        "(now if self._dismissed is None else self._dismissed)",
        "(self._thaw_confirmed or now)",
        f"{WINDOW_TESTS}::test_however_long_ago_the_thaw_was_the_guard_looks_once_more",
    ),
    mutation(
        "a snapshot whose request was lost is taken for one that does not come",
        "snapshot/take/pvesnapshot.py",
        "                self.exists = None  # it may come yet",
        "                pass  # it may come yet",
        "tests/engine/test_snapshot_tasks.py::test_one_that_has_not_appeared_may_come_yet",
    ),
    mutation(
        "our own lost freeze is forgotten behind PVE's",
        SNAPSHOT_WINDOW,
        "State.UNKNOWN if ours_may_come else self._pve_left",
        "self._pve_left",
        f"{WINDOW_TESTS}::test_a_freeze_that_may_come_still_is_watched_for_behind_pves_own[0-False]",
    ),
    mutation(
        "our freeze that was carried out ends the watch for PVE's",
        SNAPSHOT_WINDOW,
        "        self.is_carried_out = False",
        "        pass",
        f"{WINDOW_TESTS}::test_a_freeze_that_may_come_still_is_watched_for_behind_pves_own[1-None]",
    ),
    mutation(
        "a freeze of ours is told as one of PVE's",
        SNAPSHOT_WINDOW,
        "self._pve_since is not None and self._pve_left in (None, State.UNKNOWN)",
        "self._pve_since is not None",
        f"{KNOCK_TESTS}::test_a_freeze_that_outlasts_pves_patience_is_given_up_thawed_and_taken_again_in_sequence",
    ),
    mutation(
        "what was not frozen at the knock is told as frozen there",
        KNOCK,
        "    if window.reply is None:",
        "    if False:",
        f"{KNOCK_TESTS}::test_a_task_that_does_not_ask_in_time_is_taken_again_in_sequence",
        f"{KNOCK_TESTS}::test_a_guest_that_is_shut_down_before_the_knock_is_taken_again_as_what_it_is",
    ),
    mutation(
        "a backup that ended before the knock is told as a vzdump that went on",
        OURS,
        "        if any(map(follower.has_logged, ENDS)):",
        "        if False:",
        "tests/hook/test_knock.py::test_a_backup_that_ends_before_vzdump_asks_is_told_as_that",
    ),
    mutation(
        "a window without a verdict counts as a success",
        "snapshot/journal/series.py",
        "        succeeded = record.failure_stage is None and record.verdict != VerdictKind.UNKNOWN.value",
        "        succeeded = record.failure_stage is None",
        "tests/metrics/test_series.py::test_a_window_that_was_taken_again_is_neither_a_failure_nor_a_success",
    ),
    mutation(
        "the guard is not told who sits for the knock",
        WINDOW,
        """
        self._armed_guard().tell(Op.ASKING)
        return self._tools.thawer.sit(awaits_knock=True)
""",
        """
        return self._tools.thawer.sit(awaits_knock=True)
""",
        f"{WINDOW_TESTS}::test_at_the_knock_the_freeze_goes_over_the_seat_and_is_no_longer_waited_for_than_pve_waits",
    ),
    mutation(
        "PVE is not let pass behind the freeze",
        KNOCKS,
        "            self.seat.sit()\n",
        "            pass\n",
        f"{WINDOW_TESTS}::test_at_the_knock_the_freeze_goes_over_the_seat_and_is_no_longer_waited_for_than_pve_waits",
    ),
    mutation(
        "no seat is taken before the freeze",
        WINDOW,
        "        sits = knock is not None or self._tools.thawer.sit() is not None\n",
        "        sits = knock is not None\n",
        f"{WINDOW_TESTS}::test_the_seat_is_taken_before_the_freeze_and_left_behind_the_thaw",
    ),
    mutation(
        "the seat is kept behind a freeze that was refused",
        WINDOW,
        "        self._tools.thawer.get_up()\n",
        "",
        f"{WINDOW_TESTS}::test_the_seat_is_taken_before_the_freeze_and_left_behind_the_thaw[True]",
    ),
    mutation(
        "what PVE 8 says of a freeze of its own that failed is not shown",
        "snapshot/take/pvesnapshot.py",
        ' or "freeze problems" in line',
        "",
        "tests/engine/test_pves_own_freezing.py::test_before_9_0_23_a_freeze_of_pves_own_without_an_answer_is_shown",
    ),
    mutation(
        "the seat is kept from PVE's own freeze",
        SNAPSHOT_WINDOW,
        "        self._tools.thawer.get_up()\n",
        "",
        f"{WINDOW_TESTS}::test_a_guest_that_is_left_to_pve_has_its_agents_seat_free",
    ),
    mutation(
        "a state folder of a stranger's is nobody's concern",
        "snapshot/base/files.py",
        "    if found.st_uid not in (0, me):",
        "    if False:",
        "tests/metrics/test_silences.py::test_what_belongs_to_somebody_else_is_told_with_the_command_that_mends_it",
    ),
    mutation(
        "recover ends who was stopped before its deadline",
        OVERDUE,
        """
    if now < window.deadline_at + ALIVE_MARGIN_SECONDS:
        return False
    has_ended""",
        "    has_ended",
        f"{STRANGERS}::test_who_stands_still_before_the_deadline_is_left_alone",
    ),
    mutation(
        "a clock that was set back silences the questions",
        FROZEN,
        "    return not row.asked_at <= now < row.asked_at + wait",
        "    return now >= row.asked_at + wait",
        f"{LOOK_TESTS}::test_a_clock_that_was_set_back_does_not_keep_an_agent_from_being_asked",
    ),
    mutation(
        "what was known of another QEMU counts",
        FROZEN,
        "        before = None  # another QEMU",
        "        pass  # another QEMU",
        f"{LOOK_TESTS}::test_a_guest_that_was_started_again_and_is_silent_is_not_known",
    ),
    mutation(
        "a guest that is paused or unclear is not looked at",
        FROZEN,
        'is_ours and listed.status != "stopped"',
        'is_ours and listed.status == "running"',
        f"{STRANGERS}::test_elsewhere_only_a_guest_that_is_stopped_is_not_looked_at",
    ),
    mutation(
        "a frozen guest of a journal that got lost waits for its alarm",
        STRANGERS_LOOK,
        "            is_lost = since is None or look.id in since",
        "            is_lost = False",
        "tests/process/test_broken_journal.py::test_recover_finds_the_frozen_guest_without_a_journal",
    ),
    mutation(
        "recover remembers a look that was not answered",
        STRANGERS_LOOK,
        '" ".join(sorted(unsure))',
        '""',
        f"{STRANGERS}::test_a_guest_that_nobody_could_ask_since_the_journal_is_new_may_be_frozen_by_us",
    ),
    mutation(
        "a task of PVE's explains a freeze for ever",
        FOREIGN,
        "        return since_at + max(limit, AT_WORK_LIMIT_SECONDS)",
        "        return since_at + 1e9",
        "tests/unit/test_foreign.py::test_a_task_explains_a_freeze_for_a_while_and_not_for_ever",
    ),
    mutation(
        "a task whose worker is dead is at work",
        "snapshot/pve/atwork.py",
        " and process_lives(task.pid, task.pstart)]",
        "]",
        f"{STRANGERS}::test_a_guest_that_pve_is_at_work_on_is_no_alarm_and_is_not_thawed",
    ),
    mutation(
        "replication is no work of PVE's",
        "snapshot/pve/atwork.py",
        '    return "replication" if _is_replicated(access, guest) else ""',
        '    return ""',
        "tests/unit/test_foreign.py::test_who_is_at_work_on_a_guest_of_another_node",
    ),
    mutation(
        "somebody else's silent guest is well again",
        STRANGERS_LOOK,
        """
        if look.state == FreezeState.THAWED.value:
            return [self._ended""",
        """
        if True:
            return [self._ended""",
        f"{STRANGERS}::test_a_guest_that_somebody_else_froze_and_nobody_could_ask_since_stays_an_alarm",
    ),
    mutation(
        "a guest in a living window of ours is thawed under it",
        HEAL,
        "    if living is not None:",
        "    if False:",
        f"{HOOK_PHASES}::test_a_guest_in_a_living_window_of_ours_is_not_thawed_under_it",
    ),
    mutation(
        "status calls a frozen guest that nobody sees to well",
        SURVEY,
        "        if self.in_need or self.alarms:",
        "        if self.in_need:",
        "tests/engine/test_cli.py::test_status_with_a_broken_journal_still_shows_frozen_guests",
    ),
    mutation(
        "status with a stuck window ends well",
        SURVEY,
        "        if self.in_need or self.alarms:",
        "        if self.alarms:",
        f"{STRANGERS}::test_a_stuck_window_whose_guard_lives_needs_help",
    ),
    mutation(
        "status does not say that the journal cannot be opened",
        SURVEY,
        """
        problem = error
""",
        """
        pass
""",
        f"{STRANGERS}::test_status_says_that_the_journal_cannot_be_read",
    ),
    mutation(
        "status of a blind token is an all-clear",
        SURVEY,
        "    if found.is_blind:",
        "    if False:",
        f"{STRANGERS}::test_a_token_that_sees_no_guest_gives_no_all_clear",
    ),
    mutation(
        "a guest that nobody could ask is not named",
        FROZEN,
        "look for look in self.looks if not look.state and look.why not in _NO_MATTER",
        "look for look in self.looks if False",
        f"{STRANGERS}::test_a_guest_whose_agent_was_busy_is_asked_again",
    ),
    mutation(
        "an error amid a history leaves half an object",
        ENVELOPE,
        "        except (SafeSnapshotError, InterruptedBySignalError) as error:",
        "        except ZeroDivisionError as error:",
        f"{ENVELOPE_TESTS}::test_an_error_amid_a_list_stands_behind_it_in_one_whole_object",
        "tests/metrics/test_history.py::test_a_journal_that_breaks_amid_the_reading_leaves_one_whole_object",
    ),
    mutation(
        "an error in JSON is called as our source calls it",
        ENVELOPE,
        '{"code": error.code,',
        '{"code": type(error).__name__,',
        f"{ENVELOPE_TESTS}::test_every_kind_of_error_has_its_word_and_its_exit_code",
    ),
    mutation(
        "an object has a key that its schema does not name",
        ENVELOPE,
        '        "proof": result.proof,',
        '        "proof": result.proof,\n        "proven": result.proof,',
        "tests/unit/test_report.py::test_a_run_has_every_key_whatever_happened",
    ),
    mutation(
        "Ctrl-C does not end the rescue",
        LINE,
        "        os._exit(128 + number)",
        "        pass",
        f"{STRANGERS}::test_ctrl_c_ends_the_rescue_at_once",
    ),
    mutation(
        "a journal that was begun anew does not say so",
        BROKEN,
        """
        new.execute("INSERT OR REPLACE INTO notes VALUES (?, ?, ?)", (BEGUN_ANEW_NOTE, repr(now), now))
""",
        "",
        f"{SILENCES_TESTS}::test_jobs_that_had_our_hook_are_forgotten_in_the_end_but_not_by_a_broken_journal",
    ),
    mutation(
        "any state may follow any other in the journal",
        "snapshot/journal/record.py",
        '        check_step(State(record.state), State(values["state"]))',
        "        pass",
        f"{JOURNAL_TESTS}::test_a_state_that_cannot_follow_the_one_before_is_refused_and_nothing_is_written",
    ),
    mutation(
        "a reader cannot read what a killed writer left",
        JOURNAL_FILE,
        "    return _code(error) == sqlite3.SQLITE_READONLY_ROLLBACK",
        "    return False",
        f"{JOURNAL_TESTS}::test_a_reader_that_may_not_write_reads_what_a_killed_writer_left",
    ),
    mutation(
        "another program's tables are taken for ours",
        JOURNAL,
        """
        if schema.version(self._db) == schema.VERSION:
            schema.check(self._db)""",
        "        pass",
        f"{JOURNAL_TESTS}::test_a_database_with_other_tables_costs_no_window",
    ),
    Mutation(
        "a migration that is killed has half begun",
        (
            edit(SCHEMA, '        db.execute("BEGIN IMMEDIATE")', "        pass"),
            edit(SCHEMA, '        db.execute("COMMIT")', "        pass"),
        ),
        ("tests/unit/test_schema.py::test_a_migration_that_fails_halfway_leaves_the_version_before",),
    ),
    mutation(
        "two migrate a journal one after the other",
        SCHEMA,
        """
            for step in _STEPS[version(db) :]:""",
        "            for step in _STEPS[1:]:",
        "tests/unit/test_schema.py::test_of_two_that_migrate_at_once_the_second_does_nothing",
    ),
    mutation(
        "a reader of an earlier version never sees what is written next",
        JOURNAL,
        "        self._file = None  # read anew",
        "        # read anew",
        "tests/unit/test_schema.py::test_a_reader_of_an_earlier_version_changes_nothing_and_sees_what_is_written_next",
    ),
    mutation(
        "a journal of an earlier version on a full disk tells nobody whom we froze",
        JOURNAL,
        "                if not self._is_read_in_a_copy():",
        "                if True:",
        "tests/unit/test_schema.py::test_where_nothing_can_be_written_an_earlier_version_still_tells_whom_we_froze",
    ),
    mutation(
        "a pvesh that hangs is started again and again",
        PVESH,
        "        if hangs is not None and not hangs.is_over:",
        "        if False:",
        f"{PVESH_TESTS}::test_a_pvesh_that_cannot_be_killed_ends_nothing_and_is_not_started_again_while_it_hangs",
    ),
    mutation(
        "a line of a process of ours may be endless",
        DETACHED,
        "            if len(line) > LONGEST_LINE:",
        "            if False:",
        f"{DETACHED_TESTS}::test_a_line_that_drips_or_has_no_end_is_no_line",
    ),
    mutation(
        "another user's process is taken for the guard",
        DETACHED,
        """
        if peer_uid(connection) == os.geteuid():
            return connection""",
        """
        if True:
            return connection""",
        f"{DETACHED_TESTS}::test_a_process_of_ours_gets_in_between_others",
    ),
    mutation(
        "a systemd-run that does not end holds a backup up",
        DETACHED,
        """
    while (left := deadline - clock.monotonic()) > 0:
            if not waiting""",
        """
    while left := 1e9:
            if not waiting""",
        f"{DETACHED_TESTS}::test_a_systemd_run_that_does_not_end_is_ended",
    ),
    mutation(
        "each request looks a name up anew",
        HTTPS_LIMITS,
        "        lookup = self._lookup = self._lookup or Aside(",
        "        lookup = self._lookup = Aside(",
        f"{HTTPS_TESTS}::test_a_resolver_that_hangs_costs_one_thread_and_the_limit",
    ),
    mutation(
        "where everybody rests nobody is asked",
        LADDER,
        "        for channel in [] if is_heard else resting:",
        "        for channel in []:",
        f"{LADDER_TESTS}::test_where_everybody_is_silent_nobody_rests",
    ),
    mutation(
        "a silent route rests for ever",
        LADDER,
        "min(2 * self._length, LONGEST_REST)",
        "2 * self._length",
        f"{LADDER_TESTS}::test_one_that_was_silent_for_long_is_asked_again_within_a_bound",
    ),
    mutation(
        "a peer that hangs takes the others' turns",
        LADDER,
        "        number = min(in_turn, key=self._rest_of_peer, default=None)",
        "        number = next(iter(in_turn), None)",
        f"{LADDER_TESTS}::test_a_peer_that_hangs_lets_the_others_have_its_turns",
    ),
    mutation(
        "a CA file that does not answer keeps everybody waiting",
        "snapshot/pve/credentials.py",
        "            return self._reading.result(FILES_SECONDS if is_first else 0.0)",
        "            return self._read()",
        "tests/unit/test_routes.py::test_a_ca_file_that_does_not_answer_keeps_nobody_from_the_agents_socket",
    ),
    mutation(
        "a cluster file system that hangs keeps the node's guests back",
        "snapshot/pve/here.py",
        '        Aside(read, "guests").result(CONFIG_SECONDS)',
        "        read()",
        "tests/unit/test_here.py::test_a_cluster_file_system_that_hangs_costs_the_names_and_not_the_guests",
    ),
    mutation(
        "one alert goes by another prefix",
        "contrib/prometheus/vzdump-hooks.rules.yml",
        "- alert: VzdumpHooksThawFailed",
        "- alert: ThawFailed",
        "tests/metrics/test_rules.py::test_all_alerts_begin_alike_and_their_texts_are_as_mixins_want_them",
    ),
    mutation(
        "a runbook's address is one within the checkout",
        "contrib/prometheus/vzdump-hooks.rules.yml",
        "file:///usr/share/doc/vzdump-hooks/runbooks/thaw-failed.md",
        "docs/runbooks/thaw-failed.md",
        "tests/metrics/test_rules.py::test_every_alert_links_a_runbook_that_exists_and_has_its_five_parts",
        "tests/metrics/test_rules.py::test_the_rule_files_own_line_leads_its_runbooks_elsewhere",
    ),
    mutation(
        "the mixin needs a file that jsonnet-bundler does not bring",
        "contrib/prometheus/mixin/dashboards/dashboards.libsonnet",
        "import 'vzdump-hooks.json'",
        "import '../../../grafana/vzdump-hooks.json'",
        "tests/metrics/test_rules.py::test_the_mixins_files_are_those_of_any_mixin",
    ),
    mutation(
        "jsonnetfmt would write the mixin otherwise",
        "contrib/prometheus/mixin/config.libsonnet",
        "eventWindow: '6h'",
        'eventWindow: "6h"',
        "tests/metrics/test_rules.py::test_jsonnetfmt_would_change_nothing",
    ),
    mutation(
        "a part of an alert looks at other series than were chosen",
        "contrib/prometheus/mixin/alerts/alerts.libsonnet",
        "absent(pve_fsfreeze_build_info{%(freezeSelector)s})",
        "absent(pve_fsfreeze_build_info)",
        "tests/metrics/test_rules.py::test_the_alerts_can_be_had_for_some_of_the_series",
    ),
    mutation(
        "a failure's first series begins at 1",
        "snapshot/metrics/exposition.py",
        "            shown = 0.0 if is_new(published.get(text), now, scrape_seconds) else value",
        "            shown = value",
        "tests/metrics/test_newcounters.py::test_a_first_failure_is_zero_for_two_scrapes_and_then_one",
        "tests/metrics/test_newcounters.py::test_what_a_guard_did_first_begins_at_zero_too",
    ),
    mutation(
        "a new series stays at 0",
        "snapshot/metrics/publish.py",
        "        _note_new(rows, config, journal, clock)",
        "        pass",
        "tests/metrics/test_newcounters.py::test_a_first_failure_is_zero_for_two_scrapes_and_then_one",
        "tests/metrics/test_newcounters.py::test_a_second_failure_of_the_kind_is_shown_at_once_and_one_of_another_kind_is_not",
    ),
    mutation(
        "an older version's counter goes back to 0",
        "snapshot/journal/newcounters.py",
        "    if published_at is None or scrape_seconds <= 0:\n        return False\n",
        "    if published_at is None:\n        return True\n",
        "tests/metrics/test_newcounters.py::test_a_series_of_an_older_version_does_not_go_back_to_zero",
    ),
    mutation(
        "a clock that was put back hides a failure",
        "snapshot/journal/newcounters.py",
        "published_at <= now < published_at",
        "now < published_at",
        "tests/metrics/test_newcounters.py::test_a_clock_that_was_put_back_keeps_no_failure_out_of_sight",
    ),
    mutation(
        "a guest keeps the name that an older run knew",
        "snapshot/metrics/exposition.py",
        "            names[guest] = look.name",
        "            names.setdefault(guest, look.name)",
        "tests/metrics/test_series.py::test_a_guests_name_is_that_of_the_last_look_or_else_of_the_newest_run",
    ),
    mutation(
        "the dashboard takes two clusters' guest 100 for one",
        "contrib/grafana/vzdump-hooks.json",
        "max by (cluster, source) (pve_fsfreeze_last_window_seconds{",
        "max by (source) (pve_fsfreeze_last_window_seconds{",
        "tests/metrics/test_dashboard.py::test_no_two_clusters_guests_are_made_one",
        "tests/metrics/test_dashboard.py::test_every_query_returns_data_from_the_real_prometheus",
    ),
    mutation(
        "a panel shows what was not chosen",
        "contrib/grafana/vzdump-hooks.json",
        'increase(pve_fsfreeze_attempts_total{cluster=~\\"$cluster\\", job',
        "increase(pve_fsfreeze_attempts_total{job",
        "tests/metrics/test_dashboard.py::test_cluster_job_and_instance_are_chosen_and_every_selector_asks_for_them",
    ),
    mutation(
        "a panel looks back a day, whatever time was chosen",
        "contrib/grafana/vzdump-hooks.json",
        'pve_fsfreeze_late_freezes_total{cluster=~\\"$cluster\\", job=~\\"$job\\", instance=~\\"$instance\\", '
        'node=~\\"$node\\"}[$__rate_interval]',
        'pve_fsfreeze_late_freezes_total{cluster=~\\"$cluster\\", job=~\\"$job\\", instance=~\\"$instance\\", '
        'node=~\\"$node\\"}[1d]',
        "tests/metrics/test_dashboard.py::test_how_far_back_is_looked_is_the_dashboards_choice",
    ),
    mutation(
        "the dashboard is edited in place",
        "contrib/grafana/vzdump-hooks.json",
        '"editable": false',
        '"editable": true',
        "tests/metrics/test_dashboard.py::test_nobody_edits_it_in_place",
    ),
    mutation(
        "a join takes two clusters' guest 100 for one",
        "scripts/generators/joins.py",
        "max by (cluster, id) (pve_not_backed_up_info)\nunless on (cluster, id) (",
        "max by (id) (pve_not_backed_up_info)\nunless on (id) (",
        "tests/metrics/test_joins.py::test_a_guest_without_a_backup_job_and_without_a_snapshot_is_found",
    ),
    mutation(
        "a join fails where the other exporter is asked at two nodes",
        "scripts/generators/joins.py",
        'max by (cluster, id, name, tags) (pve_guest_info{{tags=~"(.*;)?prod(;.*)?"}})',
        'pve_guest_info{{tags=~"(.*;)?prod(;.*)?"}}',
        "tests/metrics/test_joins.py::test_a_failure_gets_the_name_and_the_tags_that_the_other_exporter_has",
    ),
    mutation(
        "the exporter's port is one that others have",
        "snapshot/cli/metrics.py",
        "PORT = 14638",
        "PORT = 9836",
        "tests/metrics/test_ways_out.py::test_the_exporters_port_is_nobody_elses_and_is_the_same_wherever_it_stands",
    ),
    mutation(
        "an exporter's client that drips is waited for",
        "snapshot/metrics/exporter.py",
        """
        self._patience.start()
""",
        "",
        "tests/metrics/test_ways_out.py::test_the_exporter_hangs_up_on_a_client_that_drips",
    ),
    mutation(
        "a token that one host refuses is shown to the next",
        STANDBY,
        " or (self._same_token and isinstance(error, ApiDeniedError))",
        "",
        f"{STANDBY_TESTS}::test_a_token_that_one_host_refuses_is_not_shown_to_the_next",
    ),
    mutation(
        "an API that says no is gone around",
        STANDBY,
        "        return error.status == 401",
        "        return True",
        f"{STANDBY_TESTS}::test_an_api_that_says_no_is_not_gone_around",
    ),
    mutation(
        "a token file of another user is believed",
        "snapshot/config/token.py",
        "    if found.st_uid not in (0, os.geteuid()):",
        "    if False:",
        "tests/unit/test_config.py::test_a_token_file_of_another_user_is_refused",
    ),
    mutation(
        "one fault costs the whole configuration",
        "snapshot/config/reading.py",
        "    return _with_credential(config), problems",
        "    return (Config() if problems else config), problems",
        "tests/unit/test_config.py::test_of_a_broken_configuration_the_parts_without_a_fault_count",
    ),
    mutation(
        "a broken configuration is told to nobody",
        SILENCES,
        "        journal.set_note(CONFIG_NOTE, text, now)",
        "        pass",
        f"{SILENCES_TESTS}::test_a_broken_configuration_is_a_metric_until_it_is_mended",
    ),
    mutation(
        "a missing folder of the metrics is told to nobody",
        SILENCES,
        """
        yield Silence("metrics", metrics)
""",
        """
        pass
""",
        f"{SILENCES_TESTS}::test_a_missing_folder_for_the_metrics_is_said_for_no_metric_can",
    ),
    mutation(
        "a recovery that does not run is told to nobody",
        SILENCES,
        "    if newest is not None and now - newest > LOOK_SECONDS:",
        "    if False:",
        f"{SILENCES_TESTS}::test_a_look_that_is_old_is_a_silence_of_its_own",
    ),
    mutation(
        "a guest of which nobody knows is told to nobody",
        SILENCES,
        "    if since is not None and now - since > NOT_KNOWN_SECONDS:",
        "    if False:",
        f"{SILENCES_TESTS}::test_a_guest_of_which_nobody_knows_is_named_with_the_reason",
    ),
    mutation(
        "a guest that no run has come to is told to nobody",
        SILENCES,
        "        elif last_run is None and",
        "        elif False and",
        f"{SILENCES_TESTS}::test_a_guest_that_no_run_has_ever_come_to_is_said_after_its_limit",
    ),
    mutation(
        "a last run that is too old is told to nobody",
        SILENCES,
        "        if last_run is not None and now - last_run > limit:",
        "        if False:",
        f"{SILENCES_TESTS}::test_a_last_run_that_is_too_old_is_said_with_the_guests_own_limit",
    ),
    mutation(
        "a clock that went back hides backups past the hook",
        SILENCES,
        " or seen_until > now:",
        ":",
        f"{SILENCES_TESTS}::test_a_clock_that_goes_back_neither_hides_tasks_for_ever_nor_finds_old_ones",
    ),
    mutation(
        "tasks that were rotated away are not looked at",
        SILENCES,
        'for name in ("index.1", "index"):',
        'for name in ("index",):',
        f"{SILENCES_TESTS}::test_what_was_rotated_away_meanwhile_is_looked_at_too",
    ),
    mutation(
        "whatever vzdump is at explains every guest's freeze",
        "snapshot/pve/atwork.py",
        ' and guest.lock == "backup"):',
        "):",
        "tests/unit/test_foreign.py::test_who_is_at_work_on_a_guest_of_another_node",
    ),
    mutation(
        "a guard goes on beside another one of its window",
        GUARD_PROCESS,
        "    if not isinstance(claim, Claim):\n        return claim\n",
        "    if not isinstance(claim, Claim):\n        claim = Claim()\n",
        "tests/process/test_guard_killed.py::test_a_window_has_one_guard_at_a_time",
    ),
    mutation(
        "a guest of which nobody knows is known in the metrics",
        "snapshot/metrics/exposition.py",
        "        known.add_metric(key, float(bool(look.state)))",
        "        known.add_metric(key, 1.0)",
        f"{SILENCES_TESTS}::test_every_running_guest_has_series_guarded_or_not",
    ),
    mutation(
        "a run that failed with its guest thawed leaves its window open",
        "snapshot/take/guarded.py",
        "        _close_failed(run, window, failed)\n",
        "",
        f"{SIGNAL_TESTS}::test_a_signal_at_any_step_thaws_first_and_says_what_is_left[POST /qemu/100/snapshot-15]",
    ),
    mutation(
        "an own command that others may write to is run",
        OWN_FOLDER,
        "    if found.st_mode & 0o022:",
        "    if False:",
        f"{OWN_TESTS}::test_a_file_that_others_may_write_to_is_refused",
        f"{OWN_TESTS}::test_of_a_folder_that_is_not_ours_alone_nothing_is_run[writable]",
    ),
    mutation(
        "an own command of another user is run",
        OWN_FOLDER,
        "    if found.st_uid not in (0, me):",
        "    if False:",
        f"{OWN_TESTS}::test_a_file_of_another_user_is_refused",
        f"{OWN_TESTS}::test_of_a_folder_that_is_not_ours_alone_nothing_is_run[nobody's]",
    ),
    mutation(
        "a link that leads out of the commands' folder is followed",
        OWN_FOLDER,
        "            if os.path.dirname(target) != os.path.realpath(folder):",
        "            if False:",
        f"{OWN_TESTS}::test_a_link_out_of_the_folder_is_refused_and_one_within_it_is_not",
    ),
    mutation(
        "a daemon of an own command that keeps its pipe is waited for",
        OWN_RUNNER,
        "    os.set_blocking(pipe, False)",
        "    os.set_blocking(pipe, True)",
        f"{OWN_TESTS}::test_a_daemon_that_keeps_its_pipes_holds_nobody_up",
    ),
    mutation(
        "of an own command that does not end its children live on",
        OWN_RUNNER,
        "        os.killpg(process.pid, number)",
        "        os.kill(process.pid, number)",
        f"{OWN_TESTS}::test_one_that_does_not_end_is_ended_with_all_that_it_started",
        f"{OWN_TESTS}::test_one_that_does_not_listen_to_term_is_killed_and_its_children_too",
    ),
    mutation(
        "who is killed leaves an own command behind",
        OWN_RUNNER,
        "            keeper.keep(process.pid)\n",
        "",
        f"{OWN_TESTS}::test_who_is_killed_leaves_no_command_behind",
    ),
    mutation(
        "what an own command left behind ends with us",
        OWN_KEEPER,
        "            self._shell.kill()",
        "            self._shell.stdin.close()",
        f"{OWN_TESTS}::test_a_daemon_that_keeps_its_pipes_holds_nobody_up",
    ),
    mutation(
        "a signal while an own command is ended saves it",
        OWN_RUNNER,
        "        with whole():\n            if process is not None:",
        "        with contextlib.nullcontext():\n            if process is not None:",
        f"{OWN_TESTS}::test_a_signal_while_a_deaf_command_is_ended_does_not_save_it",
    ),
    mutation(
        "a folder full of programs is called, or named in full",
        OWN_FOLDER,
        "    if len(commands) > MOST:",
        "    if False:",
        f"{OWN_TESTS}::test_a_folder_that_is_full_of_programs_is_refused_in_one_line",
    ),
    mutation(
        "an own command's name reaches the log as it is",
        OWN_FOLDER,
        "    return Command(clean(path.name, 100), str(path), why)",
        "    return Command(path.name, str(path), why)",
        f"{OWN_TESTS}::test_whatever_a_name_is_made_of_one_line_says_that_it_is_refused",
    ),
    mutation(
        "the flood of an own command goes into the log",
        "snapshot/commands/output.py",
        '        taken = data[: MOST_BYTES - self._bytes] if self._lines < MOST_LINES else b""',
        "        taken = data",
        f"{OWN_TESTS}::test_a_flood_costs_neither_the_log_nor_memory_and_is_no_failure",
    ),
    mutation(
        "who is interrupted leaves an own command behind",
        OWN_RUNNER,
        "            if process is not None:\n                _end(",
        "            if process is not None and process.returncode is not None:\n                _end(",
        f"{OWN_TESTS}::test_who_is_interrupted_leaves_no_command_behind",
    ),
    mutation(
        "a signal while an own command is started leaves it behind",
        OWN_RUNNER,
        "        with whole():\n            keeper =",
        "        with contextlib.nullcontext():\n            keeper =",
        f"{OWN_TESTS}::test_a_signal_while_a_command_is_started_leaves_none_behind",
    ),
    mutation(
        "own commands run behind our freeze in post-restart",
        DISPATCH,
        "AFTER_OURS = frozenset({",
        "AFTER_OURS = frozenset({Phase.POST_RESTART, ",
        f"{OWN_IN_BACKUPS}::test_no_command_runs_while_the_guest_is_frozen[hook]",
        f"{OWN_ON_REAL}::test_a_backup_ends_as_vzdumps_rules_say_and_nothing_runs_inside_its_freeze[together-hook]",
    ),
    Mutation(
        "own commands run behind the freeze that they are called before",
        (
            edit(
                POST_RESTART,
                """
    if call.commands and _is_vetoed(call, config, plan, worker):
        return True
    report = _hold(call, config, worker, plan)
""",
                """
    report = _hold(call, config, worker, plan)
    if call.commands and _is_vetoed(call, config, plan, worker):
        return True
""",
            ),
        ),
        (
            f"{OWN_IN_BACKUPS}::test_no_command_runs_while_the_guest_is_frozen[hook]",
            f"{OWN_IN_BACKUPS}::test_with_require_one_that_fails_before_the_freeze_vetoes_it",
            f"{OWN_ON_REAL}::test_a_backup_ends_as_vzdumps_rules_say_and_nothing_runs_inside_its_freeze[together-hook]",
        ),
    ),
    mutation(
        "an own command that fails before the backup vetoes nothing of ours",
        DISPATCH,
        "    if failed and invocation.phase in VETOED:",
        "    if False:",
        f"{OWN_IN_BACKUPS}::test_one_that_fails_before_the_backup_vetoes_it_and_the_guest_is_not_frozen[post-restart]",
    ),
    mutation(
        "an own command that is refused fails no backup that requires a freeze",
        "vzdump_hooks/phases/backup_start.py",
        "    if needs_freeze and obstacle is None and call.commands:",
        "    if False:",
        f"{OWN_IN_BACKUPS}::test_one_that_is_refused_fails_the_backups_that_require_a_freeze",
    ),
    mutation(
        "a job that is stopped leaves an own command behind",
        "vzdump_hooks/own.py",
        "        with gate.open():",
        "        gate.restore()\n        with gate.open():",
        f"{OWN_IN_BACKUPS}::test_a_job_that_is_stopped_takes_the_command_with_it",
    ),
    mutation(
        "an own command runs inside a snapshot's window",
        "snapshot/take/operation.py",
        "                window.prove()  # 6. proof",
        "                own.before_freeze(run, guest)\n                window.prove()  # 6. proof",
        f"{OWN_IN_SNAPSHOTS}::test_commands_are_called_before_the_freeze_and_when_the_verdict_stands[elsewhere]",
        f"{OWN_ON_REAL}::test_a_snapshot_is_consistent_and_nothing_runs_inside_its_freeze[together]",
    ),
    mutation(
        "a clock that was set forward ends the watch for a late freeze",
        "snapshot/journal/living.py",
        "    if not me.start or record.boot_id != me.boot_id:",
        "    if True:",
        f"{RECOVERY_TESTS}::test_no_clock_that_was_set_forward_ends_the_watch_for_a_late_freeze",
        f"{RECOVERY_TESTS}::test_a_clock_that_was_set_forward_closes_no_window_whose_freeze_may_still_come",
    ),
    mutation(
        "a signal while pvesh is started leaves it running",
        PVESH,
        "                with whole():",
        "                with contextlib.nullcontext():",
        f"{PVESH_TESTS}::test_a_signal_ends_the_wait_for_pvesh_and_pvesh_with_it",
    ),
    mutation(
        "the end of a task is noticed late",
        "snapshot/pve/tasks.py",
        "factor=1.15)",
        "factor=1.3)",
        "tests/unit/test_tasks.py::test_the_end_of_a_short_task_is_seen_within_a_seventh_of_its_length",
    ),
    mutation(
        "an alarm is told each minute",
        TELL,
        "            outbox.keep_told(db, before, {key: json.dumps(alarm) for key, alarm in kept.items()}, now)\n",
        "",
        f"{ALARM_TESTS}::test_a_verdict_that_is_worse_is_told_once_and_so_is_the_next_good_one",
    ),
    mutation(
        "a letter is not written with the mark that it is told",
        TELL,
        """
            if events and letter_ways:
""",
        """
            db.execute("COMMIT")
            db.execute("BEGIN IMMEDIATE")
            if events and letter_ways:
""",
        f"{SENDING_TESTS}::test_a_sender_that_is_killed_at_any_step_leaves_one_letter_that_is_sent",
    ),
    mutation(
        "a letter that is sent is not taken out",
        OUTBOX,
        """
        db.execute("DELETE FROM outbox WHERE number = ? AND id = ?", (letter.number, letter.id))
""",
        "",
        f"{SENDING_TESTS}::test_a_sender_that_is_killed_at_any_step_leaves_one_letter_that_is_sent",
        f"{ALARM_TESTS}::test_a_verdict_that_is_worse_is_told_once_and_so_is_the_next_good_one",
    ),
    mutation(
        "a letter is marked as sent before it is",
        SENDING,
        """
        try:
            ways.send_letter(way, self._config, found.body, self._clock)
""",
        """
        try:
            outbox.sent(self._journal, found)
            ways.send_letter(way, self._config, found.body, self._clock)
""",
        f"{SENDING_TESTS}::test_a_sender_that_is_killed_at_any_step_leaves_one_letter_that_is_sent",
        f"{SENDING_TESTS}::test_a_receiver_that_is_down_for_ten_minutes_gets_everything_once_and_in_order",
    ),
    mutation(
        "two senders send the same letter",
        OUTBOX,
        "        return done.rowcount > 0",
        "        return True",
        f"{SENDING_TESTS}::test_two_senders_at_once_send_each_letter_once[faster]",
    ),
    mutation(
        "a letter overtakes one that could not be sent",
        OUTBOX,
        "ORDER BY number LIMIT 1",
        "ORDER BY attempts, number LIMIT 1",
        f"{SENDING_TESTS}::test_a_receiver_that_is_down_for_ten_minutes_gets_everything_once_and_in_order",
    ),
    mutation(
        "a letter that is given up is told to nobody",
        OUTBOX,
        "        elif now - float(values[1]) < SHOWN_SECONDS:",
        "        elif False:",
        f"{SENDING_TESTS}::test_a_letter_that_cannot_be_sent_for_a_day_is_given_up_and_status_says_so",
    ),
    mutation(
        "each guest of a job is told by itself",
        RUNS,
        '    if window.source != "vzdump" or not window.upid:',
        "    if True:",
        f"{ALARM_TESTS}::test_the_guests_of_one_job_are_told_in_one_letter_when_it_is_over",
        f"{ALARM_TESTS}::test_a_job_of_forty_guests_of_which_twelve_fall_back_is_one_letter",
    ),
    mutation(
        "a job that hangs for days tells nobody of its guests",
        RUNS,
        "            if any(now - alarm.since_at > HELD_BACK_SECONDS for alarm in alarms if alarm.key not in told):",
        "            if False:",
        f"{ALARM_TESTS}::test_a_job_that_goes_on_for_days_is_told_twice_a_day",
    ),
    mutation(
        "a job that goes on for long is told guest by guest",
        RUNS,
        " for alarm in alarms if alarm.key not in told):",
        " for alarm in alarms):",
        f"{ALARM_TESTS}::test_a_job_that_goes_on_for_days_is_told_twice_a_day",
    ),
    mutation(
        "what begins and ends between two looks is told to nobody",
        TELL,
        "*itertools.chain(*passed), *ended]",
        "*ended]",
        f"{ALARM_TESTS}::test_a_run_that_failed_and_was_good_again_before_anybody_looked_is_told_with_its_end",
    ),
    mutation(
        "what began and ended between two looks is told again",
        TELL,
        """
            db.execute("INSERT OR REPLACE INTO notes VALUES (?, ?, ?)", (LOOKED_NOTE, repr(found.until), now))
""",
        """
            if looked is None:
                db.execute("INSERT OR REPLACE INTO notes VALUES (?, ?, ?)", (LOOKED_NOTE, repr(found.until), now))
""",
        f"{ALARM_TESTS}::test_a_run_that_failed_and_was_good_again_before_anybody_looked_is_told_with_its_end",
    ),
    mutation(
        "the end of an alarm reads like the alarm",
        "snapshot/notify/letter.py",
        'self.alarm.over or f"over: {self.alarm.head}"',
        'f"over: {self.alarm.head}"',
        f"{TEXT_TESTS}::test_the_end_of_an_alarm_does_not_read_like_the_alarm",
    ),
    mutation(
        "a letter says what is wrong, and no command",
        "snapshot/notify/alarms.py",
        '        f"{todo}; the runbook {silence.runbook}",',
        '        f"the runbook {silence.runbook}",',
        f"{TEXT_TESTS}::test_there_is_a_letter_of_each_alarm_that_says_what_to_do_as_a_command",
    ),
    mutation(
        "a node whose cluster cannot be read is said to be in none",
        "snapshot/pve/here.py",
        "        return None\n    return clean(name, 80)",
        '        return ""\n    return clean(name, 80)',
        f"{REPORT_PAGE}::test_a_node_in_no_cluster_is_told_from_one_whose_cluster_is_not_known",
        f"{REPORT_PAGE}::test_a_cluster_file_system_that_hangs_keeps_the_page_waiting_for_its_limit_only",
    ),
    mutation(
        "a page is of the time that was asked for, whatever its windows are of",
        "snapshot/report/html.py",
        "    first, last = minute(found.first_at), minute(found.last_at)",
        "    first, last = minute(found.since_at or found.first_at), minute(found.made_at)",
        f"{REPORT_PAGE}::test_the_time_of_a_page_is_that_of_its_windows_not_the_one_that_was_asked_for",
    ),
    mutation(
        "a page counts backups and snapshots together",
        DIGEST,
        '        source = BACKUP if row["source"] == BACKUP else SNAPSHOT',
        "        source = SNAPSHOT",
        f"{REPORT_PAGE}::test_backups_and_snapshots_are_counted_apart",
    ),
    mutation(
        "a page counts a drill as a run",
        DIGEST,
        '        if row["source"] == DRILL:',
        "        if False:",
        f"{REPORT_PAGE}::test_drills_and_freezes_by_others_are_no_runs",
    ),
    mutation(
        "a page counts a freeze by others as a run",
        DIGEST,
        '        if row["owner"] == Owner.FOREIGN.value:',
        "        if False:",
        f"{REPORT_PAGE}::test_drills_and_freezes_by_others_are_no_runs",
    ),
    mutation(
        "a failure on the page has no remedy",
        "snapshot/report/htmlwrong.py",
        """        f"{_todo(words.remedy.replace('<vmid>', vmid))}"\n""",
        "",
        f"{REPORT_PAGE}::test_the_page_lists_failures_in_words_with_the_remedy_for_a_guest_of_theirs",
    ),
    mutation(
        "a stuck guest stands below everything else",
        "snapshot/report/html.py",
        """{htmlwrong.stuck(now, found.made_at)}
{_well(now)}
{htmlwrong.missing(now)}
{htmlwrong.in_hand(now)}
{sections}
""",
        """{_well(now)}
{htmlwrong.missing(now)}
{htmlwrong.in_hand(now)}
{sections}
{htmlwrong.stuck(now, found.made_at)}
""",
        f"{REPORT_PAGE}::test_a_stuck_guest_stands_on_top_with_what_to_do",
    ),
    mutation(
        "a page cries about each window that is open",
        STANDING,
        "    in_need = {w.id for w in windows if needs_help(w, config, now, me)}",
        "    in_need = {w.id for w in windows}",
        f"{REPORT_PAGE}::test_a_window_that_somebody_has_in_hand_is_no_alarm",
    ),
    mutation(
        "a page cries about a window whose guest is thawed",
        STANDING,
        "    frozen = [w for w in windows if w.id in in_need and may_be_frozen(w)]",
        "    frozen = [w for w in windows if w.id in in_need]",
        f"{REPORT_PAGE}::test_a_window_that_was_only_not_closed_is_no_alarm",
    ),
    mutation(
        "a page does not know of windows that do not say whose they are",
        STANDING,
        ", *map(_lost, lost)),",
        ",),",
        f"{REPORT_PAGE}::test_a_journal_with_a_window_that_does_not_say_whose_it_is_is_no_clean_page",
    ),
    mutation(
        "a guest that no run ever came to is not on the page",
        "snapshot/report/htmlguests.py",
        "    for key, known in now.known.items():",
        "    for key, known in ():",
        f"{REPORT_PAGE}::test_stale_and_never_guarded_guests_are_flagged_and_listed_with_what_to_do",
        f"{REPORT_PAGE}::test_a_first_day_shows_the_guests_and_how_it_goes_on",
    ),
    mutation(
        "a stale guest has no flag",
        "snapshot/report/htmlguests.py",
        "    if kinds:",
        "    if False:",
        f"{REPORT_PAGE}::test_stale_and_never_guarded_guests_are_flagged_and_listed_with_what_to_do",
    ),
    mutation(
        "of what a guest lacks one thing has a flag",
        "snapshot/report/htmlguests.py",
        "for _, kind in kinds)",
        "for _, kind in kinds[:1])",
        f"{REPORT_PAGE}::test_a_guest_of_which_nobody_knows_whether_it_is_frozen_comes_before_those_that_are_only_not_backed_up",
    ),
    mutation(
        "the page puts what is missing in no order",
        STANDING,
        "sorted(missing.items(), key=_order)",
        "missing.items()",
        f"{REPORT_PAGE}::test_a_guest_of_which_nobody_knows_whether_it_is_frozen_comes_before_those_that_are_only_not_backed_up",
    ),
    mutation(
        "a run that is not judged yet has the verdict of the one before",
        DIGEST,
        """            part.verdicts[row["verdict"] if""",
        """            part.last_verdict = part.last_verdict or row["verdict"]
            part.verdicts[row["verdict"] if""",
        f"{REPORT_PAGE}::test_a_run_that_is_not_judged_yet_does_not_borrow_the_verdict_of_the_one_before",
    ),
    mutation(
        "a failed thaw stands below what happens more often",
        DIGEST,
        '(one.stage != "thaw", -one.count,',
        "(-one.count,",
        f"{REPORT_PAGE}::test_a_failed_thaw_stands_before_what_happens_more_often",
    ),
    mutation(
        "a page about one guest tells of the others",
        STANDING,
        "    return (question.vmid is None or guest.vmid == question.vmid) and",
        "    return",
        f"{REPORT_PAGE}::test_only_what_was_asked_for_is_told",
    ),
    mutation(
        "a machine that nobody looks at is called well",
        "snapshot/report/html.py",
        "    if now.looked_at is None:",
        "    if False:",
        f"{REPORT_PAGE}::test_a_machine_that_nobody_looks_at_is_not_called_well",
    ),
    mutation(
        "a page behind the last run says that there was none",
        "snapshot/report/html.py",
        "    if found.before_at is not None:",
        "    if False:",
        f"{REPORT_PAGE}::test_a_page_behind_the_last_run_says_when_that_was",
    ),
    mutation(
        "a page about a guest without a run says that there never was one",
        "snapshot/report/html.py",
        '    whose = "of these guests " if now.is_part else ""',
        '    whose = ""',
        f"{REPORT_PAGE}::test_a_page_about_a_guest_without_a_run_does_not_speak_of_the_others",
    ),
    mutation(
        "three windows are drawn as quantiles",
        "snapshot/report/htmlparts.py",
        "        if part.spread.count >= FOR_95:",
        "        if part.spread.count:",
        f"{REPORT_PAGE}::test_a_few_runs_are_shown_one_by_one_and_not_drawn",
    ),
    mutation(
        "a page calls a group of one point in time for the word of some of its members",
        GROUPED,
        '        return found.pop() if len(found) == 1 else ""',
        '        return max(found, default="")',
        f"{REPORT_PAGE}::test_a_group_is_called_one_only_where_every_member_is_consistent_and_says_the_same",
    ),
    mutation(
        "a page calls a group of one point in time with a member that is crash-consistent",
        GROUPED,
        "            member.verdict in CONSISTENT_VERDICTS for member",
        "            True for member",
        f"{REPORT_PAGE}::test_a_group_is_called_one_only_where_every_member_is_consistent_and_says_the_same",
    ),
    mutation(
        "not one point in time is read as one",
        GROUPED,
        '    for word in (f"not {moment.ONE}", moment.ONE):',
        "    for word in (moment.ONE,):",
        f"{REPORT_PAGE}::test_the_last_run_of_a_group_counts_and_a_bad_one_says_why",
    ),
    mutation(
        "a sentence on the page is markup",
        "snapshot/report/htmlwords.py",
        'r"<code>\\1</code>", escape(text))',
        'r"<code>\\1</code>", text)',
        f"{REPORT_PAGE}::test_whatever_others_wrote_is_text_on_the_page",
    ),
    mutation(
        "five hundred guests have a picture each",
        "snapshot/report/htmlguests.py",
        "_table(rest, sources, has_pictures=False)",
        "_table(rest, sources, has_pictures=True)",
        f"{REPORT_PAGE}::test_a_page_of_five_hundred_guests_is_small",
    ),
    mutation(
        "an own command that nobody may execute is passed over without a word",
        OWN_FOLDER,
        "    passed = [name for name in names if name not in found]",
        "    passed: list[str] = []",
        f"{OWN_IN_SNAPSHOTS}::test_check_says_which_are_called_and_which_are_passed_over",
    ),
    mutation(
        "a certificate of another host's is to be mended by a CA",
        POST,
        "cause.verify_code in _ANOTHER_HOSTS",
        "cause.verify_code in ()",
        f"{SENDING_TESTS}::test_a_certificate_that_does_not_verify_gets_no_letter[another host]",
    ),
    mutation(
        "a configuration that strangers may write to is nobody's business",
        SILENCES,
        "    return [line] if line else []\n\n\ndef _is_a_services",
        "    return []\n\n\ndef _is_a_services",
        "tests/metrics/test_silences.py::test_who_may_choose_the_programs_that_root_runs_is_told",
        "tests/metrics/test_silences.py::test_a_configuration_of_a_stranger_is_told_by_status_check_and_the_jobs_log",
    ),
    mutation(
        "a guest that a dead run left frozen waits for own commands",
        DISPATCH,
        "            sweep.before_commands(call)",
        "            pass",
        f"{OWN_IN_BACKUPS}::test_no_command_runs_before_a_guest_that_a_dead_run_left_frozen_is_thawed",
    ),
    mutation(
        "own commands run from a folder that somebody may exchange for another",
        OWN_FOLDER,
        " or _strangers_above(folder, me)",
        "",
        f"{OWN_TESTS}::test_a_folder_that_somebody_may_exchange_for_another_is_refused",
    ),
    mutation(
        "a folder above that of own commands is looked for on one way alone",
        OWN_FOLDER,
        "dict.fromkeys((*path.parents, *Path(os.path.realpath(path)).parents))",
        "Path(os.path.realpath(path)).parents",
        f"{OWN_TESTS}::test_a_folder_that_somebody_may_exchange_for_another_is_refused[True]",
    ),
    mutation(
        "a fault of ours on one way keeps the others waiting",
        WAYS,
        "    except Exception as error:  # noqa: BLE001 - of a fault of ours too; its text may hold the secret",
        "    except OSError as error:",
        f"{SENDING_TESTS}::test_a_fault_of_ours_on_one_way_keeps_no_other_waiting_and_tells_no_secret",
    ),
    mutation(
        "what is no address goes into a mail's header",
        WAYS,
        "    if not all(_ADDRESS.match(",
        "    if False and not all(_ADDRESS.match(",
        f"{SENDING_TESTS}::test_what_is_no_address_gets_no_mail_and_the_others_are_told",
    ),
    mutation(
        "a script in quotes lets the package go",
        LEAVING,
        """.strip(b"\\"'").strip()""",
        "",
        f"{LEAVING_TESTS}::test_what_still_names_the_hook_keeps_the_package",
    ),
    mutation(
        "a script that calls the hook lets the package go",
        LEAVING,
        '    return re.search(rb"vzdump-hook(?![\\w-])|vzdump_hooks", _COMMENT.sub(b"", _read(path))) is not None',
        "    return False",
        f"{LEAVING_TESTS}::test_what_still_names_the_hook_keeps_the_package",
    ),
    mutation(
        "a backup job lets the package go",
        LEAVING,
        "        if any(calls_us(root, value) for value in _values(_SCRIPT, section)):",
        "        if False:",
        f"{LEAVING_TESTS}::test_what_still_names_the_hook_keeps_the_package",
    ),
    mutation(
        "a backup that called the hook last night lets the package go",
        LEAVING,
        "    if used_at is not None and now - LAST_NIGHT_SECONDS",
        "    if False and now - LAST_NIGHT_SECONDS",
        f"{LEAVING_TESTS}::test_who_called_it_last_night_keeps_it_though_nothing_names_it",
    ),
    mutation(
        "what setup has taken back keeps the package for a day",
        LEAVING,
        " and not _was_taken_out(root, used_at):",
        ":",
        f"{LEAVING_TESTS}::test_a_file_that_was_changed_since_last_night_explains_who_called_it",
    ),
    mutation(
        "an open window lets the package go",
        LEAVING,
        "        check_quiet(config)\n",
        "        pass\n",
        f"{LEAVING_TESTS}::test_a_window_that_is_open_keeps_it",
    ),
    mutation(
        "a textfile of somebody else's goes with the package",
        LEAVING,
        '        if b"pve_fsfreeze_" in _read(path):',
        "        if True:",
        f"{LEAVING_TESTS}::test_the_textfile_goes_and_one_that_is_not_ours_stays",
    ),
    mutation(
        "a packed page has the minute of its build",
        PACKAGE_BUILD,
        "-exec gzip -9 -n {} +",
        "-exec gzip -9 {} +",
        f"{PACKAGE_TESTS}::test_the_same_sources_give_the_same_package_wherever_they_are_built",
    ),
    mutation(
        "the configuration is a file that dpkg asks about",
        PACKAGE_BUILD,
        'mkdir "$tree/DEBIAN"',
        'mkdir "$tree/DEBIAN"; echo /etc/vzdump-hooks/config.toml >"$tree/DEBIAN/conffiles"',
        f"{PACKAGE_TESTS}::test_dpkg_never_asks_about_a_file",
    ),
    mutation(
        "links between the packaged pages lead nowhere",
        PACKAGE_BUILD,
        "-exec sed -i -E -f",
        "-exec sed -n -E -f",
        f"{PACKAGE_TESTS}::test_each_link_of_a_page_leads_somewhere_in_the_package",
    ),
    mutation(
        "a command's options are left out of its page",
        "scripts/man-pages",
        "    for names, about in records:",
        "    for names, about in records[:2]:",
        f"{PACKAGE_TESTS}::test_each_command_has_a_page_with_each_of_its_options",
    ),
    mutation(
        "a page is another one with Python 3.13",
        "scripts/man-pages",
        "inspect.cleandoc(lines)",
        'lines.strip("\\n")',
        f"{PACKAGE_TESTS}::test_a_page_is_the_same_with_a_python_that_leaves_a_docstring_its_margin",
    ),
    mutation(
        "a Python without the libraries builds half a package",
        PACKAGE_BUILD,
        """if ! "$python" -c 'import click""",
        """if false && "$python" -c 'import click""",
        f"{PACKAGE_TESTS}::test_a_python_without_the_libraries_is_told_which_packages_to_install",
    ),
    mutation(
        "a test of the package that is skipped counts as one that passed",
        "tests/packaging/whole.py",
        'report.outcome, report.longrepr = "failed"',
        'report.outcome, report.longrepr = "skipped"',
        "tests/packaging/test_whole.py::test_what_is_skipped_fails_and_what_ran_is_counted",
    ),
    mutation(
        "the shell offers no phases of the hook",
        "scripts/completions",
        "phase.value for phase in Phase)",
        "phase.value for phase in ())",
        f"{PACKAGE_TESTS}::test_the_shell_offers_the_hooks_own_words",
    ),
    mutation(
        "who is called during an upgrade meets half of each version",
        "contrib/debian/launcher",
        "        if not 0 <= time.time()",
        "        if True or time.time()",
        "tests/packaging/test_launcher.py::test_who_is_called_while_the_files_are_changed_waits_for_the_end",
    ),
    mutation(
        "an upgrade that was killed keeps every hook waiting",
        "contrib/debian/launcher",
        "if not 0 <= time.time() - os.stat",
        "if 0 > os.stat",
        "tests/packaging/test_launcher.py::test_an_upgrade_that_was_killed_costs_no_backup",
    ),
    mutation(
        "a vzdump.conf that setup has taken away keeps the package for a day",
        LEAVING,
        "(path if path.exists() else path.parent).stat()",
        "path.stat()",
        f"{LEAVING_TESTS}::test_a_file_that_went_since_last_night_explains_who_called_it",
    ),
    mutation(
        "the licence is a table again",
        "pyproject.toml",
        'license = "MIT"',
        'license = { text = "MIT" }',
        "tests/packaging/test_distribution.py::test_the_licence_is_an_expression_and_said_once",
    ),
    mutation(
        "a journal that cannot be opened leaves a database open",
        JOURNAL,
        "        self._db.close()  # until",
        "        # until",
        f"{JOURNAL_TESTS}::test_a_journal_that_cannot_be_opened_leaves_no_database_open",
    ),
    mutation(
        "a lower bound is not what the tests run with",
        "pyproject.toml",
        '"tenacity>=8.2.1"',
        '"tenacity>=8.2.0"',
        "tests/packaging/test_libraries.py::test_the_lower_bounds_are_debian_12s_and_there_are_no_upper_ones",
    ),
    mutation(
        "libraries of other versions than those named are called tested",
        "scripts/test-libraries",
        "sys.exit(not all(",
        "sys.exit(not any(",
        "tests/packaging/test_libraries.py::test_an_environment_that_quietly_has_other_versions_is_not_called_tested",
    ),
    mutation(
        "libraries that the tests fail with are called good",
        "scripts/test-libraries",
        "set -o pipefail\n",
        "",
        "tests/packaging/test_libraries.py::test_tests_that_fail_or_are_not_there_fail_the_target",
    ),
    mutation(
        "a purge takes the administrator's own commands away",
        "contrib/debian/postrm",
        " ! -name hooks.d -exec",
        " -exec",
        "tests/packaging/test_postrm.py::test_a_purge_leaves_own_commands_where_they_are",
    ),
    mutation(
        "a proxy of the environment's is told the secret",
        POST,
        "        session.trust_env = False",
        "        session.trust_env = True",
        "tests/notify/test_places.py::test_no_proxy_of_the_environments_is_asked",
    ),
    mutation(
        "a guest that is gone is called good",
        RUNS,
        "            if self._here and row.id not in self._here:",
        "            if False:",
        f"{ALARM_TESTS}::test_a_guest_that_is_gone_is_neither_told_nor_called_good",
    ),
    mutation(
        "a letter is sent while a guest of its sender's is frozen",
        "snapshot/cli/recover.py",
        """
    try:
        with Aloud(session.say, session.clock) as aloud:
""",
        """
    _tell(session, config, [])
    try:
        with Aloud(session.say, session.clock) as aloud:
""",
        "tests/engine/test_notify.py::test_nothing_is_sent_before_the_guests_are_thawed",
    ),
    Mutation(
        "a letter follows a redirect",
        (
            edit(POST, "requests.codes.ok <= status < requests.codes.multiple_choices:", "status < 400:"),
            edit(POST, "allow_redirects=False", "allow_redirects=True"),
        ),
        (f"{SENDING_TESTS}::test_a_redirect_is_not_followed",),
    ),
    mutation(
        "a letter goes to whoever has any certificate",
        POST,
        """
            context = tls_context(limits, read_ca(ca_file, _CA_REMEDY))
            session.mount("https://", BoundedAdapter(addresses, limits, context))
""",
        """
            requests.packages.urllib3.disable_warnings()
            session.verify = False
""",
        f"{SENDING_TESTS}::test_a_certificate_that_does_not_verify_gets_no_letter",
    ),
    mutation(
        "the secret of a URL is in an error",
        POST,
        "            raise NotSentError(_why(error, limits, seconds)) from None",
        "            raise NotSentError(str(error)) from None",
        f"{SENDING_TESTS}::test_a_place_where_nobody_answers_is_said_without_a_word_of_the_url",
    ),
    mutation(
        "a receiver without TLS that drips is waited for",
        POST,
        "        self.settimeout(self.limits.left())\n",
        "",
        f"{SENDING_TESTS}::test_a_receiver_that_never_ends_costs_its_limit[says_wait_for_ever]",
    ),
    mutation(
        "the body of a receiver's answer is read",
        POST,
        "                stream=True,\n",
        "",
        f"{SENDING_TESTS}::test_no_body_is_read[dripping]",
    ),
    mutation(
        "own commands are called for an alarm each minute",
        SENDING,
        """
            outbox.sent(self._journal, found)
            return True
        if way == ways.JOBS and self._is_not_to_be_said(found):
""",
        """
            return False
        if way == ways.JOBS and self._is_not_to_be_said(found):
""",
        "tests/notify/test_own_commands.py::test_own_commands_are_told_of_an_alarm_and_of_its_end_once_each",
    ),
    mutation(
        "an own command that hangs keeps the next recovery waiting",
        WAYS,
        "    limit = min(share, config.commands.timeout_seconds)",
        "    limit = config.commands.timeout_seconds",
        "tests/notify/test_own_commands.py::test_one_that_fails_or_hangs_is_said_and_not_called_again[hangs]",
    ),
    mutation(
        "many own commands that hang keep the next recovery waiting",
        WAYS,
        "COMMANDS_SECONDS / max(calls, 1) - GRACE_SECONDS",
        "COMMANDS_SECONDS",
        f"{BOUNDS_TESTS}::test_own_commands_share_one_limit",
    ),
    mutation(
        "letters are sent for as long as there are any",
        SENDING,
        "                has_time = is_first or self._clock.monotonic() + ways.SECONDS_OF[way]() <= ends_at",
        "                has_time = True",
        f"{BOUNDS_TESTS}::test_a_round_is_bounded_however_slow_everybody_is_and_each_way_gets_its_turn",
    ),
    mutation(
        "one way with much to send leaves no time to the others",
        SENDING,
        "                has_time = is_first or self._clock",
        "                has_time = self._clock",
        f"{BOUNDS_TESTS}::test_a_round_is_bounded_however_slow_everybody_is_and_each_way_gets_its_turn",
    ),
    mutation(
        "a receiver that asks for time is not given it",
        SENDING,
        "            outbox.put_off(self._journal, found, now + wait)\n",
        "",
        f"{BOUNDS_TESTS}::test_a_receiver_that_asks_for_time_is_given_it",
    ),
    mutation(
        "a job's end leaves a ping each time that it is said",
        JOBS,
        "    if found is not None and found[0] in (word, FAILED):",
        "    if found is not None and found[0] == FAILED:",
        f"{JOB_TESTS}::test_each_job_is_a_ping_of_its_own_in_its_form_and_in_order",
    ),
    mutation(
        "a job that failed is pinged as one that ended well",
        WAYS,
        "    if is_well:\n        return found[0]",
        "    if True:\n        return found[0]",
        f"{JOB_TESTS}::test_each_job_is_a_ping_of_its_own_in_its_form_and_in_order",
        f"{ALARM_TESTS}::test_the_heartbeat_says_whether_all_is_well",
    ),
    mutation(
        "the failure form of a heartbeat is not the one that its file names",
        WAYS,
        "    if len(found) > 1:",
        "    if False:",
        f"{SENDING_TESTS}::test_a_heartbeat_with_a_second_url_is_told_there_when_something_is_wrong",
    ),
    mutation(
        "a job with a guest that fell back is pinged as well",
        JOB_PHASE,
        "        and not any(has_failed(window) for window in newest)\n",
        "",
        f"{JOB_HOOK_TESTS}::test_a_job_whose_guest_fell_back_has_failed",
    ),
    mutation(
        "a job with a backup that was aborted is pinged as well",
        "vzdump_hooks/phases/backup_end.py",
        "        if aborted:\n            _note_failed",
        "        if False:\n            _note_failed",
        f"{JOB_HOOK_TESTS}::test_a_backup_that_was_aborted_is_a_job_that_failed",
    ),
    mutation(
        "a job that is aborted after its end is pinged as well",
        JOBS,
        """
        db.execute("DELETE FROM outbox WHERE id = ? AND way = ? AND attempts = 0", (job.id, outbox.JOBS))
""",
        "",
        f"{JOB_HOOK_TESTS}::test_a_job_that_is_aborted_after_it_had_ended_well_has_failed",
    ),
    mutation(
        "a job that was killed leaves no ping",
        TELL,
        "            jobs.find_killed(journal, clock.time(), is_wanted=jobs.pings_file(config) is not None)\n",
        "",
        f"{JOB_TESTS}::test_a_job_that_was_killed_is_a_failure_and_one_that_another_has_followed_is_not",
    ),
    mutation(
        "a job that runs is taken for one that was killed",
        JOBS,
        "    return start > 0 and not process_lives(pid, start)",
        "    return start > 0",
        f"{JOB_HOOK_TESTS}::test_a_job_that_is_gone_without_a_word_has_failed_once",
    ),
    mutation(
        "a receiver of both pings is told that all is well while it is not",
        SENDING,
        "        return ways.is_shared(self._config) and not self._is_well and _is_well(found)",
        "        return False",
        f"{JOB_TESTS}::test_where_one_receiver_hears_both_it_is_never_told_two_things_in_a_row",
    ),
    mutation(
        "a job's failure is over at once where one receiver hears both pings",
        TELL,
        "            if not (ways.is_shared(config) and sending.has_told_failure):",
        "            if True:",
        f"{JOB_TESTS}::test_where_one_receiver_hears_both_it_is_never_told_two_things_in_a_row",
    ),
    mutation(
        "a run that fell back is pinged as well",
        "snapshot/cli/take.py",
        "result.error is None and not has_fallen_back(journal, result.vmid, result.name)",
        "result.error is None",
        "tests/engine/test_notify.py::test_a_run_of_safe_snapshot_leaves_a_ping_that_says_how_it_ended",
    ),
    mutation(
        "two recoveries tell the same alarm",
        TELL,
        "            if outbox.told(journal) != before or journal.note(LOOKED_NOTE) != looked:",
        "            if False:",
        f"{SENDING_TESTS}::test_two_recoveries_at_once_write_one_letter_and_hold_no_journal_while_they_look",
    ),
    mutation(
        "what was told is told again when the journal breaks",
        BROKEN,
        """
            _copy(old, new, "told", "key, body, at", f"ORDER BY key {order}")
""",
        "",
        f"{SENDING_TESTS}::test_what_was_told_and_what_waits_outlive_a_broken_journal",
    ),
    mutation(
        "what waits to be sent is lost when the journal breaks",
        BROKEN,
        """
            _copy(old, new, "outbox", "number, id, way, at, body, attempts, next_at", f"ORDER BY number {order}")
""",
        "",
        f"{SENDING_TESTS}::test_what_was_told_and_what_waits_outlive_a_broken_journal",
    ),
    mutation(
        "setup changes something before its record is on disk",
        "snapshot/setup/record.py",
        """
        self.entries.append(Entry(kind, name, facts))
        self._commit()
""",
        """
        self.entries.append(Entry(kind, name, facts))
""",
        f"{SETUP_KILLED}::test_a_killed_setup_is_taken_back_byte_for_byte[nothing_there]",
    ),
    mutation(
        "what a killed setup had half written stays",
        SETUP_PLACE,
        """
    path = Path(entry.name)
    files.sweep(path)
""",
        """
    path = Path(entry.name)
""",
        f"{SETUP_KILLED}::test_a_killed_setup_is_taken_back_byte_for_byte[nothing_there]",
    ),
    mutation(
        "a half-written token, with its secret, stays",
        SETUP_TOKENS,
        """Path(entry.facts["file"])
    files.sweep(path)
""",
        """Path(entry.facts["file"])
""",
        f"{SETUP_KILLED}::test_a_killed_setup_is_taken_back_byte_for_byte[nothing_there]",
    ),
    mutation(
        "undo writes over what was changed since",
        SETUP_PLACE,
        "        if mended is None:",
        "        if False:",
        f"{SETUP_TESTS}::test_a_configuration_that_was_changed_since_is_left",
        f"{SETUP_TESTS}::test_a_copy_that_was_changed_since_is_left_with_its_folder",
    ),
    mutation(
        "setup writes over what was changed between the question and the answer",
        SETUP_PLACE,
        "        if content(self.path) != self.before:",
        "        if False:",
        f"{SETUP_TESTS}::test_what_was_changed_between_the_question_and_the_answer_is_not_written_over",
    ),
    mutation(
        "a file that setup changes gets another mode",
        SETUP_PLACE,
        "            mode, owner = stat.S_IMODE(found.st_mode), (found.st_uid, found.st_gid)",
        "            owner = found.st_uid, found.st_gid",
        f"{SETUP_KILLED}::test_a_killed_setup_is_taken_back_byte_for_byte[an_own_script_and_comments]",
    ),
    mutation(
        "others can read the secret that setup writes",
        SETUP_TOKENS,
        "MODE = 0o600",
        "MODE = 0o644",
        f"{SETUP_TESTS}::test_the_secret_is_in_its_file_alone_which_nobody_else_can_read",
    ),
    mutation(
        "an answer that cannot be read is shown, and the secret in it",
        SETUP_TOKENS,
        "        except ReplyLostError:",
        "        except ZeroDivisionError:",
        f"{SETUP_COMMAND}::test_what_pvesh_prints_around_a_secret_is_in_no_message",
    ),
    mutation(
        "a token whose secret was lost is never made anew",
        SETUP_TOKENS,
        "        if user is not None and self.name in user.tokens:",
        "        if False:",
        f"{SETUP_TESTS}::test_a_secret_that_was_lost_is_replaced",
        f"{SETUP_KILLED}::test_a_killed_setup_is_finished_by_a_second_one[nothing_there]",
    ),
    mutation(
        "setup takes a token for its own that somebody else has made",
        SETUP_TOKENS,
        "if name and (name == ours or name not in taken))",
        "if name)",
        f"{SETUP_TESTS}::test_a_token_of_that_name_that_setup_did_not_make_is_left_alone",
    ),
    mutation(
        "undo deletes a user that other nodes still use",
        SETUP_RIGHTS,
        """
    if user.tokens:
        return TakenBack(what, _used_by(user))
    join(record, user)
""",
        """
    join(record, user)
""",
        f"{SETUP_TESTS}::test_nodes_of_a_cluster_share_user_and_role_and_the_last_one_takes_them_away",
    ),
    mutation(
        "undo deletes a user that somebody else has taken over",
        SETUP_RIGHTS,
        """
    if not user.is_ours:
        return TakenBack(what, "its comment says""",
        """
    if False:
        return TakenBack(what, "its comment says""",
        f"{SETUP_TESTS}::test_a_user_that_somebody_else_has_taken_over_since_stays",
    ),
    mutation(
        "the last node to leave does not know what the first one made",
        SETUP_TOKENS,
        """
        join(record, user)
        if record""",
        """
        if record""",
        f"{SETUP_TESTS}::test_nodes_of_a_cluster_share_user_and_role_and_the_last_one_takes_them_away",
    ),
    mutation(
        "setup widens the rights of a user that somebody else has made",
        SETUP_RIGHTS,
        "    if user is not None and not user.is_ours and given:",
        "    if False:",
        f"{SETUP_TESTS}::test_a_user_that_somebody_else_made_keeps_its_rights_and_stays",
    ),
    mutation(
        "a setup does not wait for what a killed one had started",
        "snapshot/setup/pve.py",
        "inherits=() if lock is None else (lock,)",
        "inherits=()",
        f"{SETUP_COMMAND}::test_whatever_setup_starts_of_pve_holds_its_turn_until_it_has_ended",
    ),
    mutation(
        "two setups at once do not take turns",
        "snapshot/setup/record.py",
        "                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)",
        "                pass",
        f"{SETUP_TESTS}::test_a_turn_is_waited_for_and_not_for_ever",
    ),
    mutation(
        "a script that calls our hook is called by it",
        "snapshot/setup/ownscript.py",
        """    if b"vzdump-hook" in data""",
        """    if b"not this" in data""",
        f"{SETUP_TESTS}::test_an_own_script_that_calls_ours_is_named_and_left",
    ),
    mutation(
        "a job loses its script on nodes that are not set up",
        SETUP_PLAN,
        "            if job.node != self._node and not alone:",
        "            if False:",
        f"{SETUP_TESTS}::test_a_job_that_runs_on_other_nodes_too_is_left_to_the_operator",
    ),
    mutation(
        "PVE 8 is asked for privileges that it does not know",
        "snapshot/setup/accounts.py",
        "known.issuperset(agent)",
        "known",
        f"{SETUP_TESTS}::test_the_token_may_do_what_is_needed_in_the_words_of_this_pve_and_no_more[8.4.0-agents1]",
    ),
    mutation(
        "vzdump is told to call a hook that is not there",
        SETUP_PLAN,
        "        if not os.access(self._places.hook, os.X_OK):",
        "        if False:",
        f"{SETUP_TESTS}::test_no_vzdump_conf_names_a_hook_that_is_not_there",
    ),
    mutation(
        "setup changes a node without having asked",
        "snapshot/cli/setup.py",
        "    if not (yes or dry_run) and (session.as_json or not sys.stdin.isatty()):",
        "    if False:",
        f"{SETUP_COMMAND}::test_nobody_to_ask_and_no_yes_changes_nothing_and_exits_2[arguments0]",
    ),
    mutation(
        "the first script line is taken for the one that counts",
        "snapshot/pve/vzdumpconf.py",
        "    return found[-1] if found else None",
        "    return found[0] if found else None",
        f"{SETUP_TEXTS}::test_the_script_is_the_one_that_pve_reads",
    ),
    mutation(
        "a configuration is changed into one that says something else",
        "snapshot/setup/tomltext.py",
        "    return done if _differs_only(text, done, table, key, value) else None",
        "    return done",
        f"{SETUP_TEXTS}::test_a_file_in_which_that_would_say_something_else_is_left_to_the_operator",
    ),
    mutation(
        "undo leaves our line in a vzdump.conf that was changed since",
        "snapshot/setup/back.py",
        "lambda now, before: vzdumpconf.without(now, hook, before)",
        "lambda now, before: None",
        f"{SETUP_TESTS}::test_only_our_line_is_taken_out_of_a_vzdump_conf_that_was_changed_since",
    ),
    mutation(
        "undo takes a token away that an open window may need",
        "snapshot/setup/back.py",
        "    if vmids:",
        "    if False:",
        f"{SETUP_TESTS}::test_nothing_is_taken_back_while_a_freeze_window_is_open",
    ),
    mutation(
        "a guest that is frozen in our own window is sent to a thaw by hand",
        "snapshot/preflight/preflight.py",
        "            if explains_freeze(window, config, now, me) if health.frozen else is_manned(window, me):",
        "            if not health.frozen and is_manned(window, me):",
        f"{CHECK_TESTS}::test_a_guest_that_is_frozen_in_our_own_window_is_to_be_waited_for[check 100]",
        f"{DRILL_TESTS}::test_a_guest_in_another_drills_window_is_to_be_waited_for",
    ),
    mutation(
        "a run looks for a window of ours around a frozen guest only when it is dry",
        "snapshot/take/examine.py",
        "    if is_dry or health.frozen:",
        "    if is_dry:",
        f"{CHECK_TESTS}::test_a_guest_that_is_frozen_in_our_own_window_is_told_in_its_checks",
    ),
    mutation(
        "a guest that nobody will thaw in time is to be waited for",
        "snapshot/journal/living.py",
        "    return may_freeze and is_in_hand(window, config, now, me)",
        "    return may_freeze and is_manned(window, me)",
        f"{CHECK_TESTS}::test_a_window_that_sees_to_no_thaw_is_not_to_be_waited_for[stuck]",
        f"{CHECK_TESTS}::test_a_window_that_sees_to_no_thaw_is_not_to_be_waited_for[past-its-deadline]",
    ),
    mutation(
        "a freeze is taken for that of a window that has thawed its guest",
        "snapshot/journal/living.py",
        "    return may_freeze and is_in_hand(window, config, now, me)",
        "    return is_in_hand(window, config, now, me)",
        f"{CHECK_TESTS}::test_a_window_that_sees_to_no_thaw_is_not_to_be_waited_for[that-is-thawed]",
    ),
    mutation(
        "a round that is not kept does not tell what to do",
        DRILL_ROUNDS,
        "        if self.is_kept is False and self.part in REMEDIES:",
        "        if self.is_kept and self.part in REMEDIES:",
        *(
            f"{DRILL_ROUNDS_TESTS}::test_a_round_that_is_not_kept_tells_what_to_do[{part}]"
            for part in ("guard", "freeze", "route", "systemd")
        ),
    ),
    mutation(
        "a guest that writes nothing is told without what to do",
        DRILL_ROUNDS,
        "seen.watching or IDLE",
        'seen.watching or "nothing was written"',
        f"{DRILL_ROUNDS_TESTS}::test_a_round_that_is_not_kept_tells_what_to_do[disk]",
    ),
    mutation(
        "a part that keeps a drill from freezing is told without its remedy",
        "snapshot/cli/drill.py",
        "BROKEN: {check.message}; {check.remedy}",
        "BROKEN: {check.message}",
        f"{DRILL_TESTS}::test_a_wrong_socket_folder_is_named_and_nothing_is_frozen[pve1]",
    ),
    mutation(
        "a guest that a drill refuses is told without what to do",
        DRILL,
        "        raise GuestUnfitError(lock.message, remedy=lock.remedy)",
        "        raise GuestUnfitError(lock.message)",
        f"{DRILL_TESTS}::test_a_guest_at_work_is_left_alone",
    ),
    mutation(
        "a frozen guest is found by a drill that does not tell how to thaw it",
        "snapshot/preflight/preflight.py",
        "whose freeze it is; to end it: {check.remedy}",
        "whose freeze it is",
        f"{DRILL_TESTS}::test_a_guest_that_is_frozen_or_off_is_left_alone",
    ),
    mutation(
        "a round that nobody has played passes for kept",
        "snapshot/cli/drill.py",
        "    if report.not_played:\n",
        "    if False:\n",
        f"{DRILL_PARTS}::test_a_round_that_is_not_played_is_not_called_kept",
    ),
    mutation(
        "a guest that a drill could not thaw is left to nobody",
        DRILL_PLAY,
        "                    self._tools.adopt(spec_of(row, self._tools.config))",
        "                    pass",
        f"{DRILL_TESTS}::test_a_guest_that_nobody_can_thaw_is_told_with_an_exit_code_of_its_own_and_left_to_a_guard",
    ),
    mutation(
        "a guest that a drill could not thaw is told as a broken part alone",
        DRILL_PLAY,
        "            raise\n        self._now(thawed_by_drill",
        "            return\n        self._now(thawed_by_drill",
        f"{DRILL_TESTS}::test_a_guest_that_nobody_can_thaw_is_told_with_an_exit_code_of_its_own_and_left_to_a_guard",
    ),
    mutation(
        "the guard of a freeze whose answer was lost is ended by the drill",
        DRILL_PLAY,
        "            if until > self._clock.time() + CLOSE_SECONDS and",
        "            if until < 0.0 and",
        f"{DRILL_TESTS}::test_a_freeze_whose_answer_is_lost_is_told_and_leaves_its_guard",
    ),
    mutation(
        "a freeze that the agent refuses is called the guard's fault",
        DRILL_ROUNDS,
        '        before = "freeze" if seen.arm_seconds else "guard"',
        '        before = "guard"',
        f"{DRILL_ROUNDS_TESTS}::test_a_freeze_that_failed_behind_an_armed_guard_is_not_the_guards_fault",
        f"{DRILL_TESTS}::test_a_freeze_whose_answer_is_lost_is_told_and_leaves_its_guard",
    ),
    mutation(
        "the configuration without API stays behind a drill",
        DRILL_PLAY,
        "            self._cut.unlink(missing_ok=True)",
        "            pass",
        f"{DRILL_TESTS}::test_a_signal_in_the_round_without_api_leaves_no_configuration_behind",
        f"{DRILL_TESTS}::test_its_windows_are_in_the_journal_and_in_no_series_of_a_run",
    ),
    mutation(
        "what a killed drill has left is left by the next one too",
        "snapshot/drill/cut.py",
        "            if whose is None or not process_lives(int(whose[1]), int(whose[2])):",
        "            if whose is not None and not process_lives(int(whose[1]), 0):",
        f"{DRILL_TESTS}::test_what_a_killed_drill_has_left_is_removed_by_the_next_once_no_guard_needs_it[its-window-closed]",
    ),
    mutation(
        "a guard's configuration is taken away while it may need it",
        "snapshot/drill/cut.py",
        "        if any(map(is_drill, journal.open_windows())):\n            return\n",
        "",
        f"{DRILL_TESTS}::test_what_a_killed_drill_has_left_is_removed_by_the_next_once_no_guard_needs_it[its-window-open]",
    ),
    mutation(
        "a drill does not look for what killed ones have left",
        DRILL,
        "    cut.sweep(tools.config)\n",
        "",
        f"{DRILL_TESTS}::test_its_windows_are_in_the_journal_and_in_no_series_of_a_run",
    ),
    mutation(
        "a drill's freeze that nobody thawed is left to nobody",
        DRILL_PLAY,
        "        self._thaw_here(row)\n\n    def _end_victim",
        "        return\n\n    def _end_victim",
        f"{DRILL_TESTS}::test_a_hung_guard_is_named_and_the_drill_thaws",
    ),
    mutation(
        "a round of the drill in which the drill had to thaw passes for kept",
        DRILL_ROUNDS,
        "    if seen.thawed_by_drill:\n        return False,",
        "    if seen.thawed_by_drill and seen.trouble:\n        return False,",
        f"{DRILL_ROUNDS_TESTS}::test_what_the_drill_had_to_thaw_names_the_part_that_did_not",
    ),
    mutation(
        "a disk that does not show the thaw counts as one that does",
        DRILL_ROUNDS,
        '    if after is None:\n        return None, "disk", seen.watching or IDLE',
        '    if after is None:\n        return True, "", seen.watching or IDLE',
        f"{DRILL_ROUNDS_TESTS}::test_a_bound_is_kept_broken_or_not_shown",
    ),
    mutation(
        "a drill's bound is held against the earliest that the first write can have been",
        DRILL_ROUNDS,
        "    if after.most > bound:",
        "    if after.least > bound:",
        f"{DRILL_ROUNDS_TESTS}::test_a_bound_is_kept_broken_or_not_shown",
    ),
    mutation(
        "writes of a guest that should be frozen pass for its thaw",
        DRILL_DISK,
        "    if first[1] <= end_at:",
        "    if first[1] <= frozen_at:",
        f"{DRILL_ROUNDS_TESTS}::test_writes_while_it_is_frozen_are_no_thaw",
    ),
    mutation(
        "a freeze at which nobody looked is read out of the looks around it",
        DRILL_DISK,
        "    if base is None or readings[base].asked_at > end_at:",
        "    if base is None:",
        f"{DRILL_ROUNDS_TESTS}::test_a_freeze_at_which_nobody_looked_shows_nothing",
    ),
    mutation(
        "a drill freezes though a part that thaws is broken",
        DRILL,
        "    if broken:\n        return DrillReport(None, checks",
        "    if not checks:\n        return DrillReport(None, checks",
        f"{DRILL_TESTS}::test_a_revoked_token_is_named_and_nothing_is_frozen",
        f"{DRILL_TESTS}::test_a_wrong_socket_folder_is_named_and_nothing_is_frozen",
    ),
    mutation(
        "a drill does not look whether PVE takes the token",
        DRILL_READY,
        '"token-unusable", "api-denied", "no-way"',
        '"token-unusable", "no-way"',
        f"{DRILL_TESTS}::test_a_revoked_token_is_named_and_nothing_is_frozen",
    ),
    mutation(
        "a unit that is off keeps no drill from freezing",
        DRILL_READY,
        '*("recover-not-run", "token-unusable"',
        '*("token-unusable"',
        f"{DRILL_PARTS}::test_a_finding_of_the_doctors_is_named_as_the_part_that_it_is_about[unit-recover-not-run0]",
    ),
    mutation(
        "a drill calls a part well that the doctor has found broken",
        DRILL_READY,
        "if check.result is not _OK or check.name not in broken)",
        "if check.name)",
        f"{DRILL_PARTS}::test_a_part_that_is_broken_is_not_called_well_too",
    ),
    mutation(
        "metrics that nobody reads pass for an alarm's path that works",
        DRILL_FIRING,
        "    if unheard or problems:",
        "    if problems:",
        f"{DRILL_PARTS}::test_metrics_that_nobody_reads_are_a_broken_alarm_and_the_remedy_is_told",
    ),
    mutation(
        "a drill freezes a guest that PVE has locked",
        DRILL,
        "    if lock.result is not CheckResult.OK:",
        "    if lock.result is CheckResult.NO_FREEZE and not lock.message:",
        f"{DRILL_TESTS}::test_a_guest_at_work_is_left_alone",
    ),
    mutation(
        "a drill goes on with a guest whose guard does not thaw it",
        DRILL,
        "            if rounds[-1].is_kept is False:\n                break",
        "            if rounds[-1].is_kept is False:\n                continue",
        f"{DRILL_TESTS}::test_a_hung_guard_is_named_and_the_drill_thaws",
    ),
    mutation(
        "a drill counts as a run in the metrics",
        "snapshot/journal/series.py",
        "    if after.is_foreign or is_drill(after):",
        "    if after.is_foreign:",
        f"{DRILL_TESTS}::test_its_windows_are_in_the_journal_and_in_no_series_of_a_run",
    ),
    mutation(
        "metrics that were not written pass for an alarm's path that works",
        DRILL_FIRING,
        "    if unheard or problems:",
        "    if False:",
        f"{DRILL_TESTS}::test_a_textfile_folder_that_is_not_there_is_named",
    ),
    mutation(
        "a drill freezes unasked",
        "snapshot/cli/drill.py",
        "        if not is_agreed:\n",
        "        if is_agreed:\n",
        f"{DRILL_TESTS}::test_nobody_is_frozen_unasked",
    ),
    mutation(
        "the doctor freezes",
        "snapshot/preflight/preflight.py",
        'info, state = _ask(channel, "info"), _ask(channel, "fsfreeze-status")',
        'info, state = _ask(channel, "info"), _ask(channel, "fsfreeze-freeze")',
        f"{VISIT_TESTS}::test_nothing_is_frozen_and_nothing_is_changed[socket]",
        f"{VISIT_TESTS}::test_nothing_is_frozen_and_nothing_is_changed[elsewhere]",
    ),
    mutation(
        "a script that is not known is taken for ours",
        DOCTOR_WORTH,
        "    if calls_us is None:\n",
        "    if calls_us is not calls_us:\n",
        f"{VISIT_TESTS}::test_without_a_word_on_the_script_a_backup_is_not_called_good",
        f"{WORTH_TESTS}::test_a_backup",
    ),
    mutation(
        "a guest of which nothing can be asked is called off",
        DOCTOR_WORTH,
        "    return not health.config or any(check.code in UNANSWERED for check in health.checks)\n",
        "    return False\n",
        f"{VISIT_TESTS}::test_of_a_guest_that_is_on_a_node_that_is_off_nothing_is_called_known",
        f"{WORTH_TESTS}::test_a_backup",
    ),
    mutation(
        "a script that vzdump cannot run is taken for one that it calls",
        "snapshot/doctor/facts.py",
        "script is not None and script.exists and script.executable",
        "script is not None",
        f"{VISIT_TESTS}::test_where_vzdump_cannot_run_its_script_no_backup_is_called_good",
    ),
    mutation(
        "the doctor asks many agents at once",
        DOCTOR_ROUNDS,
        "for number in range(min(AT_ONCE, len(wanted)))",
        "for number in range(min(8, len(wanted)))",
        f"{ROUNDS_TESTS}::test_two_are_examined_at_once_and_never_more",
    ),
    mutation(
        "the doctor asks a guest in a window of ours",
        DOCTOR_ROUNDS,
        "        if patient.window is not None:\n",
        "        if patient.window is patient:\n",
        f"{VISIT_TESTS}::test_a_guest_in_a_window_of_ours_is_not_asked",
    ),
    mutation(
        "the doctor's visit has no end",
        DOCTOR_ROUNDS,
        "        while clock.monotonic() < limit.ends_at and not is_left.is_set():\n",
        "        while not is_left.is_set():\n",
        f"{ROUNDS_TESTS}::test_once_the_time_is_up_no_examination_begins_and_each_guest_is_told_as_not_examined",
    ),
    mutation(
        "a folder of a container is taken for this node's",
        DOCTOR_EXPORTER,
        "        if self.is_elsewhere is not False:\n            return None\n",
        "",
        f"{EXPORTER_TESTS}::test_of_one_with_another_root_no_folder_is_ours",
        f"{SETUP_TESTS}::test_a_folder_of_a_containers_node_exporter_is_not_made",
    ),
    mutation(
        "metrics that a container's exporter cannot see are called read",
        DOCTOR_EXPORTER,
        "if self.is_elsewhere or not any(",
        "if not any(",
        f"{EXPORTER_TESTS}::test_of_one_with_another_root_no_folder_is_ours",
    ),
    mutation(
        "an exporter that may not be looked at is called one of ours",
        DOCTOR_EXPORTER,
        "        return True if self.is_elsewhere is False else None\n",
        "        return True\n",
        f"{EXPORTER_TESTS}::test_of_one_whose_root_may_not_be_looked_at_nothing_is_known",
        "tests/doctor/test_findings.py::test_it_is_found_and_nothing_else_is[an_exporter_that_may_not_be_looked_at]",
    ),
    mutation(
        "a service that systemd shields is taken for a container",
        DOCTOR_EXPORTER,
        'not os.path.samefile(proc / str(pid) / "root", proc / "self/root")',
        'os.readlink(proc / str(pid) / "ns/mnt") != os.readlink(proc / "self/ns/mnt")',
        f"{EXPORTER_TESTS}::test_one_with_mounts_of_its_own_and_our_root_is_one_of_ours",
    ),
    mutation(
        "an exporter whose textfile collector is off is called a reader",
        DOCTOR_EXPORTER,
        "folders = () if is_off else ",
        "folders = ",
        f"{EXPORTER_TESTS}::test_one_whose_textfile_collector_is_off_reads_no_folder",
        f"{SETUP_TESTS}::test_no_metrics_go_where_a_node_exporter_does_not_look_and_the_operator_is_told",
    ),
    mutation(
        "setup takes a pattern for a folder",
        DOCTOR_EXPORTER,
        " and name.isprintable() and not is_pattern(name))",
        " and name.isprintable())",
        f"{EXPORTER_TESTS}::test_no_pattern_and_no_odd_name_is_a_folder_to_write_to",
        f"{SETUP_TESTS}::test_no_metrics_go_where_a_node_exporter_does_not_look_and_the_operator_is_told",
    ),
    mutation(
        "a /proc that hides others is taken for one without exporters",
        DOCTOR_EXPORTER,
        '    if _words(proc / "1") is None:\n        return None\n',
        "",
        f"{EXPORTER_TESTS}::test_a_proc_that_does_not_show_the_first_process_tells_of_nobody",
        "tests/doctor/test_findings.py::test_it_is_found_and_nothing_else_is[a_proc_that_shows_nobody]",
    ),
    mutation(
        "a textfile that the operator names is moved",
        "snapshot/setup/readers.py",
        '(not exporters or configuring.says(raw, "metrics", "textfile"))',
        "not exporters",
        f"{SETUP_TESTS}::test_a_textfile_that_the_operator_names_is_not_moved_to_where_an_exporter_looks",
    ),
    mutation(
        "the doctor does not look who may change the configuration",
        "snapshot/doctor/examine.py",
        "(*silences.folder_lines(config), *silences.config_lines(config, config_path))",
        "(*silences.folder_lines(config),)",
        "tests/doctor/test_findings.py::test_it_is_found_and_nothing_else_is[a_configuration_that_all_may_write]",
    ),
    mutation(
        "what is not known because of another finding is called well",
        DOCTOR_REPORT,
        "return said if said or look.because else folded(",
        "return said if said else folded(",
        f"{REPORT_TESTS}::test_what_is_not_known_because_of_another_finding_is_told_once_and_never_as_well",
    ),
    mutation(
        "a timer that does not run is told by what follows from it, too",
        "snapshot/doctor/habits.py",
        "    return known and timer.get",
        "    return False and known and timer.get",
        "tests/doctor/test_findings.py::test_it_is_found_and_nothing_else_is[a_node_without_the_timer_for_hours]",
    ),
    mutation(
        "a command is cut where it has to be copied",
        "snapshot/report/folded.py",
        'lambda found: found[0].replace(" ", _HELD)',
        "lambda found: found[0]",
        f"{REPORT_TESTS}::test_no_line_is_wider_than_80_columns_but_for_one_word_and_none_is_lost",
    ),
    mutation(
        "findings run over the edge of the terminal",
        DOCTOR_REPORT,
        '    said = folded(f"{found.code}: {found.subject}: {found.text}", _margin(_MARKS[found.severity]))\n',
        '    said = [f"{_margin(_MARKS[found.severity])}{found.code}: {found.subject}: {found.text}"]\n',
        f"{REPORT_TESTS}::test_no_line_of_findings_looks_and_checks_is_wider_than_80_columns",
    ),
    mutation(
        "setup's plan runs over the edge of the terminal",
        "snapshot/cli/setup.py",
        '            lines += folded(step.what, f"{number:>3}. ", 7)\n',
        '            lines.append(f"{number:>3}. {step.what}")\n',
        f"{SETUP_COMMAND}::test_it_shows_asks_once_does_and_the_way_back_is_byte_for_byte",
    ),
    mutation(
        "setup tells its plan again while it works",
        "snapshot/cli/setup.py",
        'session.say(f"step {done + 1} of {len(found.steps)}")',
        'session.say(f"step {done + 1} of {len(found.steps)}: {one.what}")',
        f"{SETUP_COMMAND}::test_it_shows_asks_once_does_and_the_way_back_is_byte_for_byte",
    ),
    mutation(
        "one agent that never answers holds the doctor",
        DOCTOR_ROUNDS,
        "        while len(done) < len(wanted) and clock.monotonic() < limit.ends_at + CUT_SECONDS:\n",
        "        while len(done) < len(wanted):\n",
        f"{ROUNDS_TESTS}::test_an_answer_that_does_not_come_holds_nobody_for_long_once_the_time_is_up",
    ),
    mutation(
        "a PVE that never answers holds the doctor",
        "snapshot/doctor/examine.py",
        "        return asking.result(max(0.0, limit.ends_at - access.clock.monotonic()) + rounds.CUT_SECONDS)\n",
        "        return asking.result(300.0)\n",
        f"{VISIT_TESTS}::test_a_pve_that_answers_nothing_holds_the_visit_no_longer_than_its_limit",
    ),
    mutation(
        "a record that no setup has written is gone by",
        "snapshot/setup/record.py",
        'entries = [_checked(Entry(e["kind"], e["name"], dict(e["facts"])))',
        'entries = [(Entry(e["kind"], e["name"], dict(e["facts"])))',
        f"{SETUP_TESTS}::test_a_record_that_no_setup_has_written_is_not_gone_by",
    ),
    mutation(
        "names with a NUL in a record are gone by",
        "snapshot/setup/record.py",
        'isinstance(text, str) and "\\0" not in text',
        "isinstance(text, str)",
        f"{SETUP_TESTS}::test_a_record_that_no_setup_has_written_is_not_gone_by",
    ),
    mutation(
        "a change of a later version's kind is not refused",
        "snapshot/setup/back.py",
        "    if unknown is not None:\n",
        "    if unknown is record:\n",
        f"{SETUP_TROUBLE}::test_a_record_of_a_later_version_is_left_to_it",
    ),
    mutation(
        "undo does not name the file that it cannot take back",
        "snapshot/setup/back.py",
        'f"{entry.name} cannot be taken back (',
        'f"a file cannot be taken back (',
        f"{SETUP_TROUBLE}::test_a_file_that_nobody_may_change_is_named_both_ways",
    ),
    mutation(
        "undo does not name what it has left",
        "snapshot/setup/place.py",
        'return TakenBack(entry.name, "it was changed since")',
        'return TakenBack("a file", "it was changed since")',
        f"{SETUP_TESTS}::test_a_configuration_that_was_changed_since_is_left",
    ),
    mutation(
        "a monitor's figures are others than the doctor's",
        DOCTOR_REPORT,
        "for row in found.guests if is_consistent(row.backup)",
        "for row in found.guests if is_consistent(row.snapshot)",
        f"{MONITOR_TESTS}::test_the_figures_are_what_was_found",
    ),
    mutation(
        "notes count as warnings to a monitor",
        DOCTOR_REPORT,
        "f\"warnings={n['warnings']};0;;0\"",
        "f\"warnings={n['notes']};0;;0\"",
        f"{MONITOR_TESTS}::test_the_figures_are_what_was_found",
    ),
    mutation(
        "what is found several times is told as once",
        DOCTOR_REPORT,
        "{f' ({times})' if times > 1 else ''}",
        "",
        f"{MONITOR_TESTS}::test_what_is_found_several_times_is_told_once_with_its_number",
    ),
    mutation(
        "a byte order mark keeps setup from a configuration",
        "snapshot/setup/tomltext.py",
        '    mark = _MARK if text.startswith(_MARK) else ""\n',
        '    mark = ""\n',
        f"{SETUP_TESTS}::test_a_byte_order_mark_in_front_of_a_file_is_taken_and_stays",
        f"{SETUP_TEXTS}::test_a_key_is_set_where_an_operator_would",
    ),
    mutation(
        "a byte order mark makes a token no token",
        "snapshot/config/token.py",
        "raw.removeprefix(codecs.BOM_UTF8).decode",
        "raw.decode",
        f"{SETUP_TESTS}::test_a_byte_order_mark_in_front_of_a_file_is_taken_and_stays",
    ),
    mutation(
        "who has no token is sent to setup where that can do nothing",
        "snapshot/config/token.py",
        " if os.access(config.local.pvesh, os.X_OK) else NO_NODE",
        "",
        f"{CONFIG_TESTS}::test_a_missing_token_file_is_said_with_how_to_come_by_one",
    ),
    mutation(
        "another node's script is to be set on this one",
        "snapshot/doctor/habits.py",
        'where = f"on {node}: " if node else ""',
        'where = ""',
        f"{VISIT_TESTS}::test_of_another_node_setup_is_to_be_run_there",
    ),
    mutation(
        "what setup's own user lacks is granted around setup",
        "snapshot/doctor/ways.py",
        '    if facts.token_id.startswith(SETUPS_TOKENS):\n        return "`safe-snapshot setup`, on a node"\n',
        "",
        f"{VISIT_TESTS}::test_what_setups_own_user_lacks_setup_gives_it[setup's]",
    ),
    mutation(
        "a reader that has gone is told of a broken pipe",
        "snapshot/base/streams.py",
        "    except BrokenPipeError:\n",
        "    except NotImplementedError:\n",
        "tests/engine/test_cli.py::test_a_reader_that_has_seen_enough_ends_a_command_quietly[list]",
    ),
    mutation(
        "who calls the hook at a terminal is answered as vzdump",
        "vzdump_hooks/entry.py",
        "if _is_a_slip(rest):",
        "if False:",
        "tests/hook/test_entry.py::test_who_calls_it_at_a_terminal_is_told_what_it_is_for[arguments1]",
    ),
    mutation(
        "a container is drilled until its socket is found broken",
        "snapshot/drill/drill.py",
        "if listed.kind is not GuestKind.QEMU:",
        "if False:",
        "tests/drill/test_drill.py::test_a_container_is_told_that_it_has_no_agent_before_anything_else",
    ),
    mutation(
        "a configuration that is not there is called well by its name",
        "snapshot/doctor/ways.py",
        "str(facts.config_path) if facts.has_config else",
        "str(facts.config_path) if True else",
        "tests/doctor/test_visit.py::test_a_configuration_that_is_not_there_is_not_called_a_file",
    ),
    mutation(
        "a name chosen by hand hides the verdict",
        "snapshot/report/retention.py",
        'if one.is_known else "-"',
        'if one.left is None else "-"',
        "tests/retention/test_after.py::test_a_name_chosen_by_hand_hides_no_verdict",
    ),
    mutation(
        "a copied description lends its verdict",
        "snapshot/retention/ours.py",
        "is_known = record is not None and is_its_own and has_ended(record)",
        "is_known = record is not None",
        "tests/retention/test_after.py::test_a_name_chosen_by_hand_hides_no_verdict",
    ),
    mutation(
        "a tag that the line overrules is not told",
        "snapshot/retention/rules.py",
        "if rules[name] != Rule(last=tag.keep)",
        "if False",
        "tests/retention/test_after.py::test_a_run_prunes_its_own_label_by_the_rule_or_by_the_guests_tag",
    ),
    mutation(
        "a token with a byte order mark is not known for our own",
        "snapshot/setup/tokens.py",
        ".removeprefix(codecs.BOM_UTF8).startswith(",
        ".startswith(",
        f"{SETUP_TESTS}::test_a_byte_order_mark_in_front_of_a_file_is_taken_and_stays",
    ),
    mutation(
        "the doctor takes a line for a script that PVE does not",
        "snapshot/doctor/machine.py",
        "named = os.fsdecode(vzdumpconf.script(raw))",
        'named = raw.decode("utf-8-sig", errors="replace").partition("script")[2].partition("\\n")[0].strip(" :")',
        "tests/doctor/test_findings.py::test_it_is_found_and_nothing_else_is[a_line_that_pve_does_not_take_for_a_script]",
        "tests/doctor/test_findings.py::test_it_is_found_and_nothing_else_is[a_script_that_was_taken_out_again]",
    ),
    mutation(
        "one odd guest keeps the others from being examined",
        DOCTOR_ROUNDS,
        "    except Exception as bug:",
        "    except KeyboardInterrupt as bug:",
        f"{ROUNDS_TESTS}::test_what_one_examination_raises_is_told_with_its_guest",
    ),
    mutation(
        "what was not examined is OK to a monitor",
        DOCTOR_REPORT,
        "    return EXIT_UNKNOWN if len(known) < len(found.findings) else EXIT_OK\n",
        "    return EXIT_OK\n",
        f"{MONITOR_TESTS}::test_the_worst_that_is_known_decides_and_what_was_not_examined_is_never_ok",
    ),
    mutation(
        "a wrong command line is critical to a monitor",
        "snapshot/cli/main.py",
        '    if _asked_for("--json", "--monitor"):\n',
        '    if _asked_for("--json"):\n',
        f"{MONITOR_TESTS}::test_a_command_line_that_is_wrong_is_unknown_and_one_line",
    ),
    mutation(
        "a self-test's window passes for a backup's",
        "vzdump_hooks/tasklog/worker.py",
        "        return DRILL if self.is_self_test else Owner.VZDUMP.value",
        "        return Owner.VZDUMP.value",
        f"{SELF_TESTS}::test_nothing_of_it_counts_as_a_backup",
        f"{SELF_TESTS}::test_all_phases_are_played_and_the_guest_is_frozen_for_a_moment[hook]",
    ),
    mutation(
        "a guest of another node is sent after its socket",
        "snapshot/drill/drill.py",
        "        if access.local_node and not access.is_local(listed):",
        "        if not access.local_node and not access.is_local(listed):",
        "tests/drill/test_drill.py::test_a_guest_on_another_node_is_refused_before_its_socket_is_looked_for",
    ),
    mutation(
        "a self-test whose task is not found passes for a backup",
        "vzdump_hooks/tasklog/worker.py",
        'plays = b"--self-test" in _words_of(pid)',
        "plays = False",
        f"{SELF_TESTS}::test_a_self_test_whose_task_is_not_found_is_no_backup",
    ),
    mutation(
        "a task's log behind a linked folder is not found",
        "vzdump_hooks/tasklog/worker.py",
        "log_path(task_folder, upid).resolve() == target.resolve()",
        "task_folder.resolve() in target.resolve().parents",
        "tests/contract/test_node_by_hand.py::test_a_self_test_in_the_lab_is_well_on_each_node",
    ),
    mutation(
        "a self-test calls the administrator's own commands",
        "vzdump_hooks/entry.py",
        '    commands = _own_commands(config_path or CONFIG_PATH) if has_commands else ""',
        "    commands = _own_commands(config_path or CONFIG_PATH)",
        f"{SELF_TESTS}::test_own_commands_are_not_called",
    ),
    mutation(
        "a self-test's phases have its own environment",
        "vzdump_hooks/selftest.py",
        "            env=dict(_EMPTIED if is_of_job else self._environment()),",
        "            env={**os.environ, **self._environment()},",
        f"{SELF_TESTS}::test_each_phase_gets_what_vzdump_gives_it",
    ),
    mutation(
        "a warning of a phase is no failure of a self-test",
        "vzdump_hooks/selftest.py",
        'not any(line.startswith(("WARNING", "ERROR")) for line in self.lines)',
        'not any(line.startswith("ERROR") for line in self.lines)',
        f"{SELF_TESTS}::test_what_a_phase_warns_of_fails_it",
    ),
    mutation(
        "a self-test is made of a guest that PVE has locked",
        "vzdump_hooks/selftest.py",
        "    if busy:\n",
        "    if busy and not guest.running:\n",
        f"{SELF_TESTS}::test_a_guest_at_work_or_elsewhere_is_refused",
    ),
    mutation(
        "a guard that waits does not say that it moves",
        "snapshot/guard/inbox.py",
        "            self._moves()\n",
        "",
        "tests/process/test_watchdog.py::test_a_guard_says_its_limit_and_that_it_moves_in_each_part_of_its_work",
    ),
    mutation(
        "a guard says that it moves only when something happens",
        "snapshot/guard/inbox.py",
        "            left = LOOK_SECONDS if deadline is None else deadline - self._clock.monotonic()\n"
        "            for key, _ in self._selector.select(min(max(0.0, left), LOOK_SECONDS)):",
        "            left = 3600.0 if deadline is None else deadline - self._clock.monotonic()\n"
        "            for key, _ in self._selector.select(min(max(0.0, left), 3600.0)):",
        "tests/process/test_watchdog.py::test_a_guard_says_its_limit_and_that_it_moves_in_each_part_of_its_work",
    ),
    mutation(
        "a thread says that the guard moves while its loop hangs",
        GUARD_PROCESS,
        "    watchdog.begins(watchdog_seconds(config))\n",
        "    watchdog.begins(watchdog_seconds(config))\n"
        "    from snapshot.base.threads import start_thread\n"
        '    start_thread("word", lambda: [clock.sleep(0.05) for _ in iter(watchdog.moves, 1)])\n',
        "tests/process/test_watchdog.py::test_a_guard_whose_loop_hangs_says_nothing_any_more",
    ),
    mutation(
        "a guard waits for the systemd that it tells that it moves",
        WATCHDOG,
        "socket.SOCK_DGRAM | socket.SOCK_NONBLOCK",
        "socket.SOCK_DGRAM",
        f"{WATCHDOG_TESTS}::test_a_systemd_that_does_not_listen_keeps_nobody_waiting",
    ),
    mutation(
        "systemd is told at each turn of the loop that a guard moves",
        WATCHDOG,
        "        if now - self._said_at >= SELDOM_SECONDS:",
        "        if True:",
        f"{WATCHDOG_TESTS}::test_systemd_is_told_the_limit_and_then_that_we_move_but_not_too_often",
    ),
    mutation(
        "a guard that asks route after route looks hung",
        LADDER,
        """
                self.moves()
                yield channel""",
        """
                yield channel""",
        "tests/unit/test_moves.py::test_no_step_of_a_thaw_is_as_long_as_the_watchdog_waits",
    ),
    mutation(
        "a thaw and the question behind it are one step",
        THAW,
        "        self._ladder.moves()\n",
        "",
        "tests/unit/test_moves.py::test_the_question_behind_a_slow_thaw_is_a_step_of_its_own",
    ),
    mutation(
        "a run with a label keeps all that it ever took",
        "snapshot/fleet/guestwork.py",
        "                pruned = self._prune(tools, result)\n",
        "                pass\n",
        "tests/fleet/test_labels.py::test_what_the_rule_of_a_label_does_not_keep_goes_once_there_is_a_newer_one",
    ),
    mutation(
        "a run whose snapshot failed removes older ones all the same",
        "snapshot/fleet/guestwork.py",
        "            if is_newest and result.error is None and gate.pending is None:\n",
        "            if not self.request.dry_run:\n",
        "tests/fleet/test_labels.py::test_nothing_goes_where_no_newer_one_was_taken_or_in_a_dry_run",
    ),
    mutation(
        "of two snapshots of one second the newer one goes",
        "snapshot/retention/plan.py",
        "for one in reversed(found) if",
        "for one in found if",
        "tests/fleet/test_labels.py::test_the_one_that_was_just_taken_stays_though_another_is_of_the_same_second",
    ),
    mutation(
        "nobody writes down whom a label's run left out",
        "snapshot/cli/many.py",
        "                note_run(journal, self._label, self._session.clock.time(), taken, missed)\n",
        "                pass\n",
        "tests/fleet/test_labels.py::test_the_run_of_a_label_is_written_down_with_whom_it_left_out",
    ),
    mutation(
        "a task of a dead node is waited for to the end of its time",
        "snapshot/pve/tasks.py",
        "                if now - offline_since >= OFFLINE_SECONDS:\n",
        "                if False:\n",
        "tests/unit/test_tasks.py::test_a_node_that_stays_offline_ends_the_asking_long_before_the_tasks_time_is_over",
    ),
    mutation(
        "what a guard could not record is not tried again",
        "snapshot/guard/background.py",
        "                record = self._behind.catch_up\n",
        "                continue\n",
        "tests/unit/test_recorder.py::test_what_a_guard_cannot_write_on_a_full_disk_is_written_once_there_is_room",
    ),
    mutation(
        "a guard that waits for its records looks hung",
        "snapshot/guard/background.py",
        "            moves()\n",
        "",
        f"{WATCHDOG_TESTS}::test_a_guard_moves_while_it_waits_for_its_records",
    ),
    *(
        mutation(
            f"a thread's wait goes on whatever signal comes: {what}",
            f"snapshot/{path}.py",
            old,
            new,
            f"{INTERRUPTION}[{what}]",
        )
        for what, path, old, new in (
            ("asks_a_silent_api", "pve/https_limits", "interruption.mind()", "pass"),
            ("asks_a_silent_agent", "pve/connection", "interruption.mind()", "pass"),
            ("asks_a_silent_pvesh", "pve/pvesh", "interruption.mind()", "pass"),
            ("waits_for_a_task", "pve/tasks", "interruption.mind()", "pass"),
            ("runs_an_own_command", "commands/runner", "interruption.mind()", "pass"),
            ("waits_for_its_parent", "fleet/link", "interruption.mind()", "pass"),
            (
                "sleeps",
                "base/interruption",
                "        _here.signals.wait(seconds)\n",
                "        self._clock.sleep(seconds)\n",
            ),
        )
    ),
    mutation(
        "what a signal has ended is not put away in a thread",
        "snapshot/base/signals.py",
        "        with interruption.minding(None):\n",
        "        if True:\n",
        "tests/unit/test_interruption.py::test_an_own_command_that_a_signal_has_ended_is_gone",
    ),
    mutation(
        "the memory of a run grows with its guests",
        f"{FLEET}/worker.py",
        "        gc.collect()  # by itself",
        "        # by itself",
        f"{FLEET_WORKER}::test_a_guest_leaves_nothing_behind_in_a_process_that_goes_on",
    ),
    mutation(
        "each of many guests has a process of its own, and its memory",
        f"{FLEET}/worker.py",
        "or len(self._hosts) >= MOST_HOSTS",
        "or False",
        f"{FLEET_WORKER}::test_up_to_eight_have_a_process_each_and_more_share_them",
    ),
    mutation(
        "two guests share a process while another one is idle",
        f"{FLEET}/worker.py",
        "key=lambda host: host.load",
        "key=lambda host: 0",
        f"{FLEET_WORKER}::test_up_to_eight_have_a_process_each_and_more_share_them",
    ),
    mutation(
        "a worker begins in a process that is dead",
        f"{FLEET}/worker.py",
        "        self._hosts = [host for host in self._hosts if not host.has_ended()]\n",
        "",
        f"{FLEET_WORKER}::test_the_end_of_a_process_is_that_of_all_who_share_it_and_of_nobody_else",
    ),
    mutation(
        "why a guest waits is cut to the screen's width",
        "snapshot/report/boards.py",
        "if guest.vmid not in self._waited:",
        "if False:",
        f"{FLEET_MANY}::test_why_a_guest_waits_stands_whole_above_its_live_line_once",
    ),
    mutation(
        "nobody says that the guard has thawed, until somebody judges the window",
        "snapshot/report/history.py",
        "window.reason or _guards_work(window)",
        "window.reason or ''",
        "tests/metrics/test_history.py::test_a_window_whose_guard_had_to_thaw_says_so_before_anybody_has_judged_it",
    ),
    mutation(
        "a process that is killed between its choice and its order costs a guest",
        f"{FLEET}/worker.py",
        "except ConnectionError:",
        "except FileExistsError:",
        f"{FLEET_WORKER}::test_one_that_is_killed_between_its_choice_and_its_order_costs_nobody",
    ),
    mutation(
        "whoever waits for an order's end dies where its process was killed with the order unread",
        HOST,
        "except ConnectionResetError:",
        "except FileExistsError:",
        "tests/unit/test_host.py::test_one_that_is_killed_before_it_has_read_an_order_ends_that_one_too",
    ),
    mutation(
        "a later worker hides the parent's death from an earlier one",
        HOST,
        "        os.closerange(3, control.fileno())\n",
        "",
        f"{FLEET_WORKER}::test_the_end_of_one_worker_is_seen_while_a_later_one_lives",
    ),
    Mutation(
        "a terminal's Ctrl-C reaches the workers beside their parent",
        (
            edit(f"{FLEET}/worker.py", "    os.setpgid(0, 0)\n", ""),
            edit(f"{FLEET}/worker.py", "            os.setpgid(made.pid, made.pid)\n", "            pass\n"),
        ),
        (f"{FLEET_WORKER}::test_what_a_terminal_sends_reaches_the_parent_alone",),
    ),
    mutation(
        "a worker whose parent is gone begins a window",
        f"{FLEET}/worker.py",
        "self._is_parent_gone or self._link.is_closed\n",
        "False\n",
        f"{FLEET_WORKER}::test_a_worker_whose_parent_is_gone_begins_no_window_and_finishes_the_one_it_is_in",
        f"{FLEET_KILLED}::test_a_parent_that_is_killed_leaves_nobody_frozen_and_nobody_begins",
    ),
    mutation(
        "a worker whose parent is gone does not finish what it has begun",
        f"{FLEET}/worker.py",
        "        if not self._has_begun:\n",
        "        if True:\n",
        f"{FLEET_WORKER}::test_a_worker_whose_parent_is_gone_begins_no_window_and_finishes_the_one_it_is_in",
    ),
    mutation(
        "a signal that comes while a worker is started is lost",
        HOST,
        "signal.pthread_sigmask(signal.SIG_BLOCK, (*calling.signals, *calling.ignored))",
        "signal.pthread_sigmask(signal.SIG_BLOCK, ())",
        f"{FLEET_WORKER}::test_a_signal_that_comes_while_a_worker_starts_is_not_lost",
    ),
    mutation(
        "a run that is ended does not tell its workers",
        f"{FLEET}/crew.py",
        "                job.worker.signal(number)\n",
        "                pass\n",
        f"{FLEET_KILLED}::test_what_is_frozen_is_thawed_and_what_has_not_begun_does_not_begin",
    ),
    mutation(
        "what has not begun begins though a signal has ended the run",
        f"{FLEET}/crew.py",
        "        queue, self._queue = self._queue, []\n",
        "        self._is_over, self.bell.ended_by, queue = False, None, []\n",
        f"{FLEET_KILLED}::test_what_is_frozen_is_thawed_and_what_has_not_begun_does_not_begin",
    ),
    mutation(
        "the run is stopped while a guest is in its window",
        f"{FLEET}/crew.py",
        "        if bell.wants_stop and not self._at_work and not self._lost:\n",
        "        if bell.wants_stop:\n",
        f"{FLEET_KILLED}::test_ctrl_z_stops_the_run_once_no_guest_is_in_work_and_it_goes_on_when_it_may",
    ),
    mutation(
        "a locked guest keeps its place while it waits",
        f"{FLEET}/crew.py",
        "            self._ledger.give_back(unit)\n        told = job.told\n",
        "            job.told is not None and job.told['op'] == 'later' or self._ledger.give_back(unit)\n"
        "        told = job.told\n",
        f"{FLEET_MANY}::test_a_locked_guest_is_tried_again_and_keeps_no_slot_meanwhile",
    ),
    mutation(
        "the storages of a guest are not waited for",
        f"{FLEET}/crew.py",
        "        for unit in self._ledger.admit(wanted):\n",
        "        for unit in [unit for unit, _ in wanted]:\n",
        f"{FLEET_MANY}::test_a_storage_of_all_nodes_is_shared_by_at_most_so_many",
    ),
    mutation(
        "a crew sleeps though somebody may begin",
        f"{FLEET}/crew.py",
        "        if self._has_changed or (self.bell",
        "        if (self.bell",
        f"{FLEET_CREW}::test_where_no_process_can_be_started_the_others_end_first_and_then_it_is_tried_again",
    ),
    mutation(
        "a guest whose worker died in its window is called thawed unseen",
        f"{FLEET}/fate.py",
        "    if may_be_frozen(window):\n",
        "    if False:\n",
        f"{FLEET_KILLED}::test_a_worker_that_dies_while_its_guest_cannot_be_thawed_is_the_worst_that_can_be",
    ),
    mutation(
        "a lock that comes after the look ends the guest's turn",
        f"{FLEET}/guestwork.py",
        "(lock := _lock_of(result)) is not None",
        "(lock := None) is not None",
        f"{FLEET_MANY}::test_a_lock_that_comes_between_the_look_and_the_snapshot_is_waited_for_too",
    ),
    mutation(
        "a hibernated guest is waited for",
        f"{FLEET}/guestwork.py",
        "lock and lock != locks.HIBERNATED and",
        "lock and",
        f"{FLEET_MANY}::test_a_guest_that_is_hibernated_is_not_waited_for",
    ),
    mutation(
        "how full a guest's storages are is not looked at",
        f"{FLEET}/guestwork.py",
        "        self.warnings += room.refuse_by_use(guest, names, known.uses, bound)\n",
        "",
        f"{FLEET_MANY}::test_a_full_storage_is_named_and_costs_its_own_guests",
    ),
    mutation(
        "a storage is full only beyond its bound",
        f"{FLEET}/room.py",
        "elif percent >= full_percent:",
        "elif percent > full_percent:",
        f"{FLEET_PURE}::test_a_storage_at_its_bound_is_refused_with_its_name_and_how_full_it_is",
    ),
    mutation(
        "another node's storage of the same name counts",
        f"{FLEET}/room.py",
        "for use in uses if use.node == guest.node}",
        "for use in uses}",
        f"{FLEET_PURE}::test_the_same_name_on_another_node_is_another_storage",
    ),
    mutation(
        "a guest is frozen in a cluster without quorum",
        f"{FLEET}/guestwork.py",
        "        room.refuse_by_state(guest, self._known.state)\n",
        "",
        f"{FLEET_MANY}::test_without_quorum_no_guest_is_frozen",
    ),
    mutation(
        "an old word on quorum and storages counts for ever",
        f"{FLEET}/room.py",
        "return now - self.at <= FRESH_SECONDS",
        "return True",
        f"{FLEET_LOOK}::test_what_has_grown_old_is_asked_again_and_told_to_the_others",
    ),
    mutation(
        "a guest that waited for its storages goes by what was true before",
        f"{FLEET}/guestwork.py",
        "        known = self._room(guest)\n",
        "        known = self._known or self._room(guest)\n",
        f"{FLEET_LOOK}::test_a_guest_that_waited_for_its_storages_goes_by_what_is_true_then",
    ),
    mutation(
        "every worker asks what another was told a moment ago",
        f"{FLEET}/guestwork.py",
        "        self._known = work.room\n",
        "        self._known: Room | None = None\n",
        f"{FLEET_LOOK}::test_what_another_worker_was_told_a_moment_ago_is_not_asked_again",
    ),
    mutation(
        "nobody keeps what a worker was told for the next",
        f"{FLEET}/crew.py",
        "            self._room = said\n",
        "            pass\n",
        f"{FLEET_CREW}::test_what_one_worker_was_told_of_the_cluster_those_that_begin_later_know",
    ),
    mutation(
        "the others are told for certain what PVE does not say",
        f"{FLEET}/guestwork.py",
        "            if self._known.is_whole:\n",
        "            if True:\n",
        f"{FLEET_LOOK}::test_what_pve_does_not_say_is_told_nobody",
    ),
    mutation(
        "a guest whose node has just died is told as one that PVE does not speak of",
        f"{FLEET}/guestwork.py",
        "            self._known = None\n            self._room(guest)",
        "            self._room(guest)",
        f"{FLEET_LOOK}::test_a_node_that_died_since_the_cluster_was_asked_is_named",
    ),
    mutation(
        "a guest of a long run goes by the tags and the lock that it had at the beginning",
        f"{FLEET}/guestwork.py",
        "FoundAhead(as_configured(guest, config), at, config)",
        "FoundAhead(guest, at, config)",
        f"{FLEET_LOOK}::test_a_guests_lock_and_tags_are_those_of_its_configuration_and_not_of_an_old_list",
    ),
    mutation(
        "a run goes by what was found of its guest long ago",
        "snapshot/take/examine.py",
        "found is not None and found.is_fresh(tools.clock.monotonic())",
        "found is not None",
        f"{FLEET_LOOK}::test_the_run_asks_again_only_for_what_has_grown_old",
    ),
    mutation(
        "two snapshots of a guest get one name in the hour that comes twice",
        "snapshot/config/naming.py",
        "    while str(name) in taken and",
        "    while False and",
        f"{FLEET_PURE}::test_no_two_snapshots_of_a_guest_get_one_name",
        f"{FLEET_MANY}::test_a_name_that_is_taken_gets_a_number",
    ),
    mutation(
        "the metrics of a run with many guests stay where they were",
        "snapshot/cli/many.py",
        "        self._session.warnings += self._publish()\n",
        "",
        f"{FLEET_MANY}::test_every_guest_is_done_and_told",
    ),
    mutation(
        "live lines are drawn on a terminal that knows none",
        "snapshot/base/terminal.py",
        'in ("", "dumb", "unknown")',
        'in ("", "unknown")',
        f"{FLEET_MANY}::test_a_terminal_gets_live_lines_within_its_width_and_a_dumb_one_plain_lines",
    ),
    mutation(
        "a group has no turn at a node for its freezes",
        "snapshot/take/together.py",
        "    if go.is_first and run.tools.access.turns is not None:\n",
        "    if False and run.tools.access.turns is not None:\n",
        f"{TOGETHER}::test_a_group_has_its_turn_at_a_node_before_any_guest_is_frozen",
        f"{TOGETHER}::test_a_group_keeps_its_turn_at_a_node_until_all_are_frozen",
    ),
    mutation(
        "a group gives its turn back while a freeze is on its way",
        "snapshot/take/together.py",
        "        run.freezes = turns.call(guest.node, run.sleep, still_waits, GROUP_CALL_SECONDS)\n",
        "        turns.call(guest.node, run.sleep, still_waits, GROUP_CALL_SECONDS).release()\n",
        f"{TOGETHER}::test_a_group_keeps_its_turn_at_a_node_until_all_are_frozen",
    ),
    mutation(
        "a group keeps its turn though all are frozen",
        "snapshot/take/together.py",
        "            fence.reach(Milestone.FROZEN, window.check, is_frozen=True)\n        run.freezes.release()\n",
        "            fence.reach(Milestone.FROZEN, window.check, is_frozen=True)\n",
        f"{TOGETHER}::test_a_group_keeps_its_turn_at_a_node_until_all_are_frozen",
    ),
    mutation(
        "each of a group has a turn at its node of its own",
        GROUP,
        '"is_first": beside[0] is member',
        '"is_first": True',
        f"{GROUP_TESTS}::test_who_is_the_first_at_its_node_and_how_many_are_there_is_told",
    ),
    mutation(
        "many that wait for tasks of one node keep its workers busy by their looks",
        "snapshot/pve/tasks.py",
        "max(1.0, watchers / WORKERS_LEFT)",
        "1.0",
        "tests/unit/test_tasks.py::test_many_that_wait_at_one_node_look_together_no_more_often_than_two",
    ),
    mutation(
        "a point in time before all are frozen",
        GROUP,
        "        return all(other.has_come_to(step) for other in self.members if other is not member)\n",
        "        return True\n",
        f"{GROUP_TESTS}::test_nobody_goes_on_before_all_have_come",
        f"{TOGETHER}::test_guests_are_frozen_in_order_taken_and_thawed_in_reverse",
        f"{TOGETHER_ON_REAL}::test_across_the_snapshots_no_effect_is_without_its_cause",
    ),
    mutation(
        "several of a group are frozen at a time",
        GROUP,
        "            return [m for m in self.members[:number] if not m.has_come_to(following)]\n",
        "            return []\n",
        f"{GROUP_TESTS}::test_one_freezes_at_a_time_and_in_order",
    ),
    mutation(
        "a group is thawed in the order in which it was frozen",
        GROUP,
        "behind = [m for m in self.members[number + 1 :] if",
        "behind = [m for m in self.members[:number] if",
        f"{GROUP_TESTS}::test_they_are_thawed_in_reverse_order",
        f"{TOGETHER}::test_guests_are_frozen_in_order_taken_and_thawed_in_reverse",
    ),
    mutation(
        "a guest of a group is proven and thawed behind its own point in time",
        OPERATION,
        "                together.turn_to_thaw(run, window)\n",
        "",
        f"{TOGETHER}::test_guests_are_frozen_in_order_taken_and_thawed_in_reverse",
    ),
    mutation(
        "the snapshots of a group that has ended are kept",
        OPERATION,
        "    if not go.keep and (consistent or",
        "    if False and (consistent or",
        f"{GROUP_CAMPAIGN}::test_a_short_campaign_with_groups_finds_no_violation",
    ),
    mutation(
        "what a killed process left of a group is kept",
        GROUP_UNIT,
        "            found.append(leftover.remove(member, tools, exists=exists))\n",
        "",
        f"{TOGETHER}::test_a_process_that_is_killed_leaves_nobody_frozen_and_no_part_of_a_group",
    ),
    mutation(
        "one point in time, whoever stood still when",
        MOMENT,
        "        if one.still_from > first or one.still_until < last\n",
        "        if one.still_from > last\n",
        f"{GROUP_TESTS}::test_one_that_did_not_takes_the_words_away",
        f"{GROUP_TESTS}::test_no_words_for_a_guest_that_could_have_moved",
    ),
    mutation(
        "who waits for its group watches neither guard nor deadline",
        GROUP_MEMBER,
        "            check()\n            if self._clock",
        "            if self._clock",
        f"{GROUP_TESTS}::test_a_guard_that_dies_or_a_deadline_ends_the_wait",
    ),
    mutation(
        "the end of a group's leader ends nothing",
        GROUP_MEMBER,
        """
            self._ended, self._is_alone = GONE, True
            raise self._error() from None
""",
        """
            return None
""",
        f"{GROUP_TESTS}::test_the_end_of_the_group_or_of_its_leader_ends_the_wait",
    ),
    mutation(
        "a thaw waits for its turn without a bound",
        GROUP_MEMBER,
        "                until = min(until, patience, self._ends_by - PROOF_SECONDS)\n",
        "",
        f"{GROUP_TESTS}::test_no_thaw_waits_for_others_longer_than_their_turns",
    ),
    mutation(
        "a group is told what becomes of it before the journal is",
        GROUP_LEADER,
        "            self._agreed = self._agree(decision) if self.group.all_or_none else decision\n",
        "            self._agreed = decision\n",
        f"{GROUP_TESTS}::test_what_becomes_of_the_snapshots_is_in_the_journal_before_anybody_is_told",
    ),
    mutation(
        "lines are shown while a guest of a group is frozen",
        GROUP_UNIT,
        "        if not self._is_holding():\n            later,",
        "        if True:\n            later,",
        f"{GROUP_TESTS}::test_nothing_is_shown_while_a_guest_may_be_frozen",
    ),
    mutation(
        "one that has left its group is let through still",
        "snapshot/fleet/group.py",
        "if member.left and step is not Milestone.JUDGED:",
        "if False:",
        "tests/fleet/test_group.py::test_one_that_left_while_it_waited_is_let_through_no_more",
    ),
    mutation(
        "each guest of a group has a deadline of its own",
        WINDOW,
        "        return min(self._freeze_sent + self.spec.max_window_seconds, self._group_ends_by)\n",
        "        return self._freeze_sent + self.spec.max_window_seconds\n",
        f"{WINDOW_TESTS}::test_a_window_of_a_group_ends_with_the_group",
    ),
    mutation(
        "a guard does not know of the deadline that a group shares",
        GUARD,
        'told.get("deadline_seconds", self._spec.deadline_seconds)',
        "self._spec.deadline_seconds",
        f"{GUARD_TESTS}::test_a_guard_goes_by_the_deadline_that_a_group_shares",
    ),
    mutation(
        "every command is loaded with the first",
        "snapshot/cli/commands.py",
        "        self._loaded: dict[str, click.Command] = {}\n",
        "        self._loaded: dict[str, click.Command] = {name: load(at) for name, at in where.items()}\n",
        f"{IMPORT_TESTS}::test_a_command_is_loaded_when_it_is_asked_for_and_no_other_is",
    ),
    mutation(
        "who reads the journal waits for the HTTPS library",
        LINE,
        '    open_access = late("snapshot.pve.access:open_access")\n',
        "    from snapshot.pve.access import open_access\n",
        f"{IMPORT_TESTS}::test_who_asks_pve_nothing_does_not_wait_for_the_library_that_could",
    ),
    mutation(
        "one guest loads the fleet",
        "snapshot/cli/take.py",
        '    take_many = late("snapshot.cli.many:take_many")\n',
        "    from snapshot.cli.many import take_many\n",
        "tests/engine/test_cli.py::test_a_run_for_one_guest_loads_nothing_of_the_fleet_nor_of_another_command",
    ),
    mutation(
        "a default name does not look at the guest's snapshots",
        "snapshot/take/run.py",
        'free_name(prefix, "", self.began_at, taken)',
        'free_name(prefix, "", self.began_at, ())',
        "tests/engine/test_default_names.py::test_a_run_whose_name_is_taken_gives_another_one",
        "tests/engine/test_default_names.py::test_what_would_be_done_has_that_name_too",
    ),
    mutation(
        "the default name of a group does not look at its members' snapshots",
        "snapshot/cli/together.py",
        "            taken.update(GuestApi(main).snapshots(guest))\n",
        "            GuestApi(main).snapshots(guest)\n",
        "tests/engine/test_default_names.py::test_the_members_of_a_group_have_one_name_that_none_of_them_has",
    ),
    mutation(
        "a journal that has not begun is an error for whoever reads what there was",
        "snapshot/journal/reader.py",
        "        if not file.is_absent(self.path):\n",
        "        if self.path:\n",
        "tests/metrics/test_history.py::test_an_empty_journal_and_one_that_has_not_begun_are_an_empty_list[False]",
        "tests/metrics/test_history.py::test_a_report_before_the_first_window_is_a_page_and_begins_no_journal",
        "tests/engine/test_metrics_command.py::test_the_metrics_are_printed_before_the_first_window_too",
        "tests/engine/test_metrics_command.py::test_the_exporter_answers_before_the_first_window_and_shows_it_then",
        "tests/retention/test_prune.py::test_what_is_there_is_listed_before_the_first_window_too",
    ),
    mutation(
        "metrics alone prints its help",
        "snapshot/cli/metrics.py",
        "        ctx.invoke(print_metrics)\n",
        "        click.echo(ctx.get_help())\n",
        "tests/engine/test_metrics_command.py::test_the_metrics_are_printed_before_the_first_window_too[words0]",
    ),
    mutation(
        "an exporter that begins ends by an exception",
        "snapshot/cli/metrics.py",
        '    end_at_once("nothing was served yet")\n',
        "",
        "tests/engine/test_metrics_command.py::test_an_exporter_ends_at_its_signal_wherever_it_stands[__init__-in_a_callback-143]",
    ),
    mutation(
        "an exporter needs a thread to end",
        "snapshot/cli/metrics.py",
        "lambda *_: os._exit(0))",
        'lambda *_: __import__("threading").Thread(target=exporter.shutdown, daemon=True).start())',
        "tests/engine/test_metrics_command.py::test_an_exporter_ends_at_its_signal_wherever_it_stands[serve_forever-in_a_lock_of_threading-0]",
    ),
    mutation(
        "history does not name the snapshot",
        "snapshot/report/history.py",
        'f", snapshot {window.snapshot_name}" if window.snapshot_name else ""',
        '""',
        "tests/metrics/test_history.py::test_history_names_the_snapshot_and_whose_it_is_in_lines_for_a_console",
    ),
    mutation(
        "a guest that a run of it alone did not begin leaves no trace",
        "snapshot/cli/take.py",
        "        left = leave_trace(result.guest, result, tools, began_at)\n",
        "",
        "tests/engine/test_snapshot_tasks.py"
        "::test_a_guest_that_a_run_of_it_alone_did_not_begin_is_in_the_history_as_one_of_many_is",
    ),
    mutation(
        "a word behind a vmid is a guest's name whatever it is",
        "snapshot/cli/guests.py",
        "        return check_snapshot_name(name.word)\n",
        '        return ""\n',
        "tests/engine/test_words_behind_a_vmid.py::test_a_word_behind_a_vmid_is_the_name_of_its_snapshot",
        "tests/engine/test_words_behind_a_vmid.py::test_its_json_is_that_of_one_guest",
    ),
    mutation(
        "a word behind a vmid names a snapshot though a guest is called so",
        "snapshot/cli/take.py",
        "    if guest is not None:\n",
        "    if False:\n",
        "tests/engine/test_words_behind_a_vmid.py::test_a_word_that_is_a_guests_name_too_is_a_question_and_not_a_run_without_that_guest",
    ),
    mutation(
        "a command behind a vmid is the name of a snapshot",
        "snapshot/cli/take.py",
        "isinstance(commands, click.Group) and word in commands.commands",
        "False",
        "tests/engine/test_words_behind_a_vmid.py::test_a_command_behind_a_vmid_freezes_nobody",
    ),
    mutation(
        "every second word of a line names a snapshot",
        "snapshot/cli/guests.py",
        "if len(words) != 2 or selection != Selection(terms(words)) or len(selection.guests) != 2:",
        "if len(selection.guests) != 2:",
        "tests/engine/test_words_behind_a_vmid.py::test_any_other_line_is_about_guests",
    ),
    mutation(
        "a drill takes the first of several guests of one name",
        "snapshot/cli/guests.py",
        "    if len(vmids) > 1:\n",
        "    if False:\n",
        "tests/engine/test_words_behind_a_vmid.py::test_two_guests_of_one_name_are_told_by_their_vmids",
    ),
    mutation(
        "the hook does not know its version",
        "vzdump_hooks/entry.py",
        'if rest[:1] == ["--version"]:',
        'if rest[:1] == ["-V"]:',
        "tests/hook/test_entry.py::test_it_says_its_version_as_the_other_program_does",
    ),
    mutation(
        "what is said on standard output is not folded",
        "snapshot/report/console.py",
        "streams.out(shown(text, sys.stdout), level)",
        "streams.out(text, level)",
        "tests/engine/test_console.py::test_no_line_for_a_person_is_wider_than_the_console",
        "tests/engine/test_console.py::test_colours_are_for_a_terminal_that_has_them_and_wants_them",
    ),
    mutation(
        "what is said on standard error is not folded",
        "snapshot/report/console.py",
        "streams.err(shown(text, sys.stderr))",
        "streams.err(text)",
        "tests/engine/test_console.py::test_no_line_for_a_person_is_wider_than_the_console",
    ),
    mutation(
        "a line is as wide as standard output, whatever it is written to",
        "snapshot/base/terminal.py",
        "termios.tcgetwinsize(stream.fileno())",
        "termios.tcgetwinsize(1)",
        "tests/unit/test_console.py::test_each_stream_has_its_own_width",
    ),
    mutation(
        "a line for systemd's journal is folded",
        "snapshot/report/console.py",
        "    if streams.is_the_journal(stream):\n",
        "    if False:\n",
        "tests/unit/test_console.py::test_a_line_for_systemds_journal_stays_whole",
    ),
    mutation(
        "logfmt is folded",
        "snapshot/cli/line.py",
        "                    problem = problem or streams.out(*line)\n",
        "                    problem = problem or console.out(*line)\n",
        "tests/engine/test_console.py::test_what_is_for_a_program_is_not_folded",
    ),
    mutation(
        "NO_COLOR is not looked at",
        "snapshot/report/console.py",
        " and not terminal.refuses_colour()",
        "",
        "tests/unit/test_console.py::test_the_word_that_matters_has_a_colour_on_a_terminal",
        "tests/engine/test_console.py::test_colours_are_for_a_terminal_that_has_them_and_wants_them",
    ),
    mutation(
        "a dumb terminal gets colours",
        "snapshot/report/console.py",
        " and not terminal.is_dumb()",
        "",
        "tests/unit/test_console.py::test_the_word_that_matters_has_a_colour_on_a_terminal",
    ),
    mutation(
        "what stands at a page's place is looked at twice",
        "snapshot/base/files.py",
        "    if _is_no_file(path):\n",
        "    if path.exists() and not path.is_file():\n",
        "tests/unit/test_put.py::test_a_file_that_goes_while_it_is_looked_at_is_written_anew",
    ),
    mutation(
        "the demo takes any verdict",
        "tests/lab/demo.py",
        "    good = ours == word_of(said)\n",
        "    good = ours is not None\n",
        "tests/contract/test_demo.py::test_a_verdict_that_is_not_the_disks_fails_the_demo",
    ),
    mutation(
        "a lab whose guest does not boot ends in a traceback",
        "tests/lab/__main__.py",
        "    except OSError as error:\n",
        "    except ZeroDivisionError as error:\n",
        "tests/contract/test_demo.py::test_a_guest_that_does_not_boot_is_told_and_is_no_traceback",
    ),
    mutation(
        "the lab knows Debian 12's packages alone",
        "tests/lab/packages.py",
        "            _link_usr(path)\n",
        "            pass\n",
        "tests/contract/test_lab_packages.py::test_a_guest_is_made_of_packages_of_either_layout[debian-13]",
        "tests/contract/test_lab_packages.py::test_a_cache_that_was_made_before_serves_as_it_is[debian-13]",
    ),
    mutation(
        "packages of which no guest can be made end in a traceback",
        "tests/lab/guest/image.py",
        "    except (OSError, ValueError, lzma.LZMAError) as error:\n",
        "    except ZeroDivisionError as error:\n",
        "tests/contract/test_lab_packages.py::test_packages_of_a_third_layout_are_told_in_a_sentence",
    ),
    mutation(
        "the lab's doctor looks at this machine",
        "tests/lab/shell.py",
        "(here.host.root, lambda argv: None)",
        "(Path('/'), lambda argv: None)",
        "tests/contract/test_node_by_hand.py::test_guests_go_off_and_on_and_each_node_sees_its_own_in_the_lab",
    ),
    mutation(
        "a dry run counts without the snapshot that is to come",
        "snapshot/retention/rules.py",
        '        found.append(Candidate(Snapshot(name, "", "", at), label, verdict=verdict))\n',
        "        pass\n",
        "tests/fleet/test_labels.py::test_a_dry_run_says_what_would_go_once_the_new_one_is_there_and_the_run_then_does_that",
    ),
    mutation(
        "a guest that a run of many refused leaves no trace",
        "snapshot/fleet/guestwork.py",
        "        left = [] if self.request.dry_run else leave_trace(self.guest, result, tools, since)\n",
        "        left: list[str] = []\n",
        "tests/fleet/test_refused.py::test_one_that_was_not_begun_is_in_the_history_with_the_reason",
        "tests/fleet/test_refused.py::test_without_quorum_each_guest_is",
    ),
    mutation(
        "a guest that was refused with a row of its own gets another",
        "snapshot/take/trace.py",
        "== (me.pid, me.start, me.boot_id))",
        "== (0, 0, me.boot_id))",
        "tests/fleet/test_refused.py::test_what_a_run_has_written_down_itself_is_there_once",
    ),
    mutation(
        "bash gets no word behind a colon",
        "snapshot/cli/main.py",
        "    bash.offer()\n",
        "",
        f"{MANY_GUESTS}::test_a_bash_at_a_terminal_completes_behind_a_colon_too",
    ),
    mutation(
        "a database's lock outlives the agent",
        MARIADB_HOOK,
        '  [ "$agent" = 0 ] || [ -d "/proc/$agent" ] || return 1\n',
        "",
        f"{GUEST_HOOK_TESTS}::test_a_lock_ends_when_the_agent_is_killed",
    ),
    mutation(
        "a database's lock outlives a hook that was killed",
        MARIADB_HOOK,
        '  [ -e "${home%/*}/committed" ] || [ -d "/proc/${HOOK_CALLER:-$$}" ] || return 1\n',
        "",
        f"{GUEST_HOOK_TESTS}::test_a_lock_ends_when_the_hook_is_killed_before_the_freeze_is_allowed",
    ),
    mutation(
        "the server does not end the lock of a client that stands still",
        MARIADB_HOOK,
        "SET SESSION wait_timeout=$limit; ",
        "",
        f"{GUEST_HOOK_TESTS}::test_the_server_itself_ends_the_lock_of_a_client_that_stands_still",
    ),
    mutation(
        "a lock that was lost before the thaw is not told",
        MARIADB_HOOK,
        '[ -z "$session" ] || [ "$session" != "$after" ]',
        '[ -z "$session" ]',
        f"{GUEST_HOOK_TESTS}::test_a_lock_ends_when_its_client_or_holder_is_killed_and_that_is_told",
    ),
    mutation(
        "a database's password may be read by others",
        MARIADB_HOOK,
        '$(find "$1" -prune -perm -040)',
        "",
        f"{GUEST_HOOK_TESTS}::test_a_password_that_others_can_read_is_refused",
    ),
    mutation(
        "a server that systemd would start is started by the freeze",
        MARIADB_HOOK,
        '  [ "$count" -gt 0 ] || return 77\n',
        "",
        f"{GUEST_HOOK_TESTS}::test_without_a_server_nothing_is_claimed_and_nothing_started",
    ),
    mutation(
        "a PostgreSQL that was restarted in the window is not told",
        POSTGRESQL_HOOK,
        '  [ -z "$changed" ] || { echo "$changed"; return 1; }\n',
        "",
        f"{GUEST_HOOK_TESTS}::test_a_server_that_is_restarted_in_the_window_is_told",
    ),
    mutation(
        "a server that cannot be asked is passed over",
        HOOK_LIB,
        '  [ "$count" -gt "$asked" ] || return 0\n',
        "  return 0\n",
        f"{GUEST_HOOK_TESTS}::test_a_server_that_cannot_be_reached_is_not_passed_over",
    ),
    mutation(
        "a client that leaves while servers are counted costs the freeze",
        HOOK_LIB,
        '" ${parent:-$pid} "',
        '" $parent "',
        f"{GUEST_HOOK_TESTS}::test_a_process_of_a_server_that_ends_while_servers_are_counted_is_none",
    ),
    mutation(
        "a database on NFS is called ready",
        HOOK_LIB,
        "in 0:*) return 1 ;; esac",
        "in 0:*) return 0 ;; esac",
        f"{GUEST_HOOK_TESTS}::test_files_on_a_filesystem_that_is_not_frozen_are_no_good",
    ),
    mutation(
        "a refused freeze leaves the databases locked",
        GUEST_HOOKS,
        "      undo # the agent calls no thaw hook after a freeze hook that failed\n",
        "",
        f"{GUEST_HOOK_TESTS}::test_a_refused_freeze_leaves_no_lock",
    ),
    mutation(
        "a guest's hook may take for ever",
        GUEST_HOOKS,
        '    if [ "$now" -ge "$until" ]; then\n',
        "    if false; then\n",
        f"{GUEST_HOOK_TESTS}::test_a_hook_that_takes_too_long_is_ended",
    ),
    mutation(
        "a guest's hooks keep their files on a disk that is frozen",
        GUEST_HOOKS,
        '  why="$home is not in memory"\n  return 1\n',
        "",
        f"{GUEST_HOOK_TESTS}::test_a_home_on_a_disk_is_refused",
    ),
    mutation(
        "a guest's hooks are undone in the order they ran",
        GUEST_HOOKS,
        '      { echo "$hook"; [ ! -e "$home/begun" ] || cat "$home/begun"; } >',
        '      { [ ! -e "$home/begun" ] || cat "$home/begun"; echo "$hook"; } >',
        f"{GUEST_HOOK_TESTS}::test_hooks_run_in_order_and_are_undone_in_reverse",
    ),
    mutation(
        "another window's hooks vouch for this one",
        HOOKS_WORD,
        "after.window == before.window + 1",
        "after.window >= before.window",
        f"{HOOKS_WORD_TESTS}::test_anything_else_is_no_evidence",
    ),
    mutation(
        "the hooks' word of another boot counts",
        HOOKS_WORD,
        ' and before.boot in ("", after.boot)',
        "",
        f"{HOOKS_WORD_TESTS}::test_anything_else_is_no_evidence",
    ),
    mutation(
        "a hook that failed is not heard",
        HOOKS_WORD,
        "    if after.failed:\n",
        "    if False:\n",
        f"{HOOKS_WORD_TESTS}::test_a_hook_that_failed_is_told_and_raises_nothing",
    ),
    mutation(
        "the hooks' word raises a verdict without a proven freeze",
        HOOKS_WORD,
        "    if verdict.kind is not VerdictKind.FILESYSTEM_CONSISTENT or before is None or after is None:\n",
        "    if before is None or after is None:\n",
        f"{HOOKS_WORD_TESTS}::test_no_other_verdict_is_raised",
    ),
    mutation(
        "more than the hooks would write is read",
        HOOKS_WORD,
        "_EVIDENCE.fullmatch(",
        "_EVIDENCE.match(",
        f"{HOOKS_WORD_TESTS}::test_what_the_hooks_would_not_write_is_not_read",
    ),
    mutation(
        "a file that may not be read is taken for none",
        QGA,
        "                if error.description.endswith(_NO_SUCH_FILE):\n",
        "                if True:\n",
        f"{HOOKS_WORD_TESTS}::test_only_a_file_that_is_not_there_is_the_hooks_silence",
    ),
    mutation(
        "an ext4 superblock's checksum is not looked at",
        "snapshot/disk/ext4.py",
        "    if has_checksum and (superblock[0x175] != 1 or crc32c(superblock[:0x3FC]) != checksum):\n",
        "    if has_checksum and superblock[0x175] != checksum != checksum:\n",
        f"{DISK_TESTS}/test_filesystems.py::test_an_ext4_flag_that_flips_is_caught_by_the_checksum",
    ),
    mutation(
        "an ext4's journal is not asked whether it is empty",
        "snapshot/disk/ext4.py",
        "    if journal_is_empty is False:\n",
        "    if journal_is_empty == 2:\n",
        f"{DISK_TESTS}/test_filesystems.py::test_an_ext4_whose_witnesses_differ_cannot_tell",
    ),
    mutation(
        "an ext4 superblock in a strange place is believed",
        "snapshot/disk/ext4.py",
        '        raise CannotTellError("its journal is not where its superblock says")\n',
        "        return None\n",
        f"{DISK_TESTS}/test_filesystems.py::test_a_superblock_of_ext4_in_a_place_where_it_does_not_belong_cannot_tell",
    ),
    mutation(
        "an XFS that ends with an unmount is believed whatever its superblock says",
        "snapshot/disk/xfs.py",
        "        if newest.is_first or ring.superblock_lsn != log.before(newest).lsn:\n",
        "        if newest.lsn < 0:\n",
        f"{DISK_TESTS}/test_filesystems.py::test_an_xfs_whose_unmount_the_superblock_does_not_bear_out_cannot_tell",
    ),
    mutation(
        "an XFS whose superblock was not written back was at rest",
        "snapshot/disk/xfs.py",
        "    if ring.superblock_lsn != newest.lsn:\n",
        "    if ring.superblock_lsn > newest.lsn:\n",
        f"{DISK_TESTS}/test_filesystems.py::test_an_xfs_whose_superblock_was_logged_and_not_written_back_cannot_tell",
    ),
    mutation(
        "an XFS that has lost the end of its log is believed",
        "snapshot/disk/xfs.py",
        "    if ring.superblock_lsn > newest.lsn:\n",
        "    if ring.superblock_lsn < 0:\n",
        f"{DISK_TESTS}/test_filesystems.py::test_an_xfs_that_has_lost_the_end_of_its_log_cannot_tell",
    ),
    mutation(
        "an XFS whose older changes were still to be written back was at rest",
        "snapshot/disk/xfs.py",
        "    if newest.tail != newest.lsn and newest.tail != log.before(newest).lsn:\n",
        "    if newest.tail < 0:\n",
        f"{DISK_TESTS}/test_filesystems.py::test_an_xfs_whose_superblock_was_logged_in_the_middle_of_work_cannot_tell",
    ),
    mutation(
        "the records of XFS's log are not checked",
        "snapshot/disk/xfslog.py",
        "            if crc32c(body, register) ^ 0xFFFFFFFF == said:\n",
        "            if said or body:\n",
        f"{DISK_TESTS}/test_filesystems.py::test_an_xfs_record_with_a_flipped_bit_never_changes_its_word",
    ),
    mutation(
        "XFS's log is read while writes are on their way",
        "snapshot/disk/xfslog.py",
        "        if any(found != cycle for found in ring.cycles(head - before, before)):\n",
        "        if head < before:\n",
        f"{DISK_TESTS}/test_filesystems.py::test_an_xfs_in_which_writes_were_on_their_way_cannot_tell",
    ),
    mutation(
        "a filesystem that cannot tell does not count",
        "snapshot/disk/word.py",
        "    for kind in (AtRest.NOT_CLEAN, AtRest.CANNOT_TELL):\n",
        "    for kind in (AtRest.NOT_CLEAN,):\n",
        f"{DISK_TESTS}/test_layout.py::test_one_that_cannot_tell_keeps_all_from_being_clean",
    ),
    mutation(
        "a superblock that was left of something earlier is believed",
        "snapshot/disk/examine.py",
        "        if is_xfs + is_ext + (other is not None) > 1:\n",
        "        if is_xfs + is_ext > 1:\n",
        f"{DISK_TESTS}/test_layout.py::test_a_superblock_that_was_left_of_something_earlier_cannot_tell",
    ),
    mutation(
        "reading a disk has no bound",
        "snapshot/disk/blocks.py",
        "        if self.bytes_left < 0 or self.reads_left < 0:\n",
        "        if self.bytes_left < 0 > self.reads_left:\n",
        f"{DISK_TESTS}/test_layout.py::test_reading_stops_at_its_bounds",
    ),
    mutation(
        "a linked clone's base image is taken for zeros",
        "snapshot/disk/qcow2.py",
        "            if self._header.has_base:\n",
        "            if self._header.has_base and entry:\n",
        f"{DISK_TESTS}/test_qcow2.py::test_a_cluster_that_is_not_plainly_there_is_refused",
    ),
    mutation(
        "a guest says which format its raw disk has",
        "snapshot/disk/source.py",
        '("qemu-io", "-r", "-U", "-f", "raw", "-c", read,',
        '("qemu-io", "-r", "-U", "-c", read,',
        f"{DISK_TESTS}/test_qcow2.py::test_a_guest_cannot_make_another_format_of_its_raw_disk",
    ),
    mutation(
        "a thin snapshot that we have activated stays so",
        "snapshot/disk/where.py",
        "        if not was_there:\n            # One",
        "        if was_there:\n            # One",
        f"{DISK_TESTS}/test_where.py::test_a_thin_snapshot_is_activated_and_deactivated_again_whatever_happens",
    ),
    mutation(
        "a thin snapshot that stays active loses its word",
        "snapshot/disk/where.py",
        "            with contextlib.suppress(CannotTellError):\n",
        "            with contextlib.nullcontext():\n",
        f"{DISK_TESTS}/test_where.py::test_a_thin_snapshot_that_cannot_be_deactivated_again_keeps_its_word",
    ),
    mutation(
        "a chain on LVM is looked for in a thin pool",
        "snapshot/disk/where.py",
        '        if path.startswith("/dev/") or file',
        "        if file",
        f"{DISK_TESTS}/test_where.py::test_a_chain_on_lvm_is_not_looked_for_in_a_thin_pool",
    ),
    mutation(
        "a link in a storage leads to a device",
        "snapshot/disk/source.py",
        "    if not stat.S_ISREG(found.st_mode) and not (may_be_device and stat.S_ISBLK(found.st_mode)):\n",
        "    if stat.S_ISDIR(found.st_mode):\n",
        f"{DISK_TESTS}/test_where.py::test_a_link_to_a_device_is_no_file",
    ),
    mutation(
        "what a volume is is looked at once it is open",
        "snapshot/disk/source.py",
        "    _check_kind(os.stat(path), may_be_device=may_be_device)\n",
        "",
        f"{DISK_TESTS}/test_where.py::test_a_file_that_is_something_else_is_not_even_opened",
    ),
    mutation(
        "each quote of LVM's metadata is followed to its end",
        "snapshot/disk/lvm.py",
        """            if token[0] == b'"':""",
        """            if token[0] == b"":""",
        f"{DISK_TESTS}/test_layout.py::test_quotes_without_an_end_are_not_each_followed_to_the_end_of_the_text",
    ),
    mutation(
        "a part of another volume is taken for a filesystem",
        "snapshot/disk/lvm.py",
        '        if not isinstance(status, list) or "VISIBLE" not in status:\n',
        "        if status is None:\n",
        f"{DISK_TESTS}/test_layout.py::test_a_part_of_another_volume_is_not_taken_for_a_filesystem",
    ),
    mutation(
        "a half of a RAID with its mark at the end is believed",
        "snapshot/disk/layout.py",
        "        if at >= 0 and blocks.read(at, 4) == RAID_MAGIC:\n",
        "        if at < 0 and blocks.read(at, 4) == RAID_MAGIC:\n",
        f"{DISK_TESTS}/test_layout.py::test_a_member_of_a_raid_whose_mark_is_at_its_end_cannot_tell",
    ),
    mutation(
        "each disk of a storage that hangs is waited for",
        "snapshot/disk/verify.py",
        "            words = () if hangs else of_disk(key, volume)\n",
        "            words = of_disk(key, volume)\n",
        f"{DISK_TESTS}/test_verify.py::test_a_storage_that_hangs_costs_its_limit_once",
    ),
    mutation(
        "a fault in a parser ends the run",
        "snapshot/disk/verify.py",
        "    except Exception as bug:",
        "    except MemoryError as bug:",
        f"{DISK_TESTS}/test_verify.py::test_a_fault_of_ours_ends_no_run",
    ),
    mutation(
        "a server with a dozen filesystems on one disk cannot be read",
        "snapshot/disk/blocks.py",
        "MOST_BYTES = 128 << 20\n",
        "MOST_BYTES = 32 << 20\n",
        f"{DISK_TESTS}/test_layout.py::test_a_dozen_filesystems_with_logs_of_a_usual_size_are_within_the_bounds",
    ),
    mutation(
        "the letter of a disk that contradicts leads to another runbook",
        "snapshot/notify/runs.py",
        '    "disk": "disk-contradicts",\n',
        "",
        "tests/notify/test_alarms.py::"
        "test_a_verdict_that_the_disk_contradicts_has_its_own_runbook_and_the_command_that_looks",
    ),
    mutation(
        "a verdict that the disk contradicts stands",
        "snapshot/take/diskword.py",
        "    if said.word is not AtRest.NOT_CLEAN or not verdict.is_consistent:\n",
        "    if said.word is AtRest.NOT_CLEAN or not verdict.is_consistent:\n",
        f"{DISK_TESTS}/test_beside_the_verdict.py::test_a_verdict_that_the_disk_contradicts_falls",
        f"{DISK_TESTS}/test_beside_the_verdict.py::test_with_require_a_snapshot_that_the_disk_contradicts_is_not_kept",
    ),
    mutation(
        "the disk contradicts the filesystems' verdict, and not the hooks'",
        "snapshot/take/diskword.py",
        " or not verdict.is_consistent:",
        " or verdict.kind is not VerdictKind.FILESYSTEM_CONSISTENT:",
        f"{DISK_TESTS}/test_beside_the_verdict.py::test_the_hooks_word_does_not_stand_against_the_disks",
    ),
    mutation(
        "verify takes no guest by its name",
        "snapshot/cli/verify.py",
        "api.find(one_of(session, access, vmid))",
        "api.find(vmid.vmid or 0)  # type: ignore[arg-type]",
        f"{DISK_TESTS}/test_beside_the_verdict.py::test_the_disk_of_a_guest_is_asked_by_its_name_too",
    ),
    mutation(
        "a self-test freezes the first of several guests of one name",
        "vzdump_hooks/selftest.py",
        "    if len(choice.vmids) != 1:",
        "    if not choice.vmids:",
        f"{SELF_TESTS}::test_a_guest_may_be_named_and_one_that_is_not_the_only_one_of_its_name_is_not_frozen",
    ),
    mutation(
        "a page shows an option that Proxmox VE does not have",
        "docs/many-guests.md",
        "qm set 100 --tags 'prod;",
        "qm set 100 --tag 'prod;",
        "tests/docs/test_commands.py::test_a_command_of_pves_has_the_words_that_pve_knows",
    ),
    mutation(
        "a page shows an option that we do not have",
        "docs/retention.md",
        "safe-snapshot prune 100 --keep 7  ",
        "safe-snapshot prune 100 --kept 7  ",
        "tests/docs/test_commands.py::test_a_command_of_ours_has_the_words_that_we_know",
    ),
    mutation(
        "a command of a page is refused when it is run",
        "docs/many-guests.md",
        "--at-once 4 --wait 30m ",
        "--at-once 4 --wait 30q ",
        "tests/engine/test_commands_of_the_pages.py::test_a_command_of_the_pages_does_its_work",
    ),
    mutation(
        "the first page tells another figure than was measured",
        "README.md",
        "guest stands still for 90 ms",
        "guest stands still for 40 ms",
        "tests/docs/test_readme.py::test_the_figures_of_the_first_page_are_those_that_were_measured",
    ),
    mutation(
        "a sample of what is said has a time of its own",
        "docs/safe-snapshot.md",
        "frozen for ... ms: filesystem-consistent: 1\n",
        "frozen for 56 ms: filesystem-consistent: 1\n",
        "tests/docs/test_readme.py::test_a_sample_of_what_is_said_has_no_time_that_was_never_measured[safe-snapshot.md]",
    ),
    mutation(
        "a page explains a message that nobody says",
        "docs/troubleshooting.md",
        "`without the journal we do not freeze`",
        "`without the journal nothing is frozen`",
        "tests/docs/test_troubleshooting.py::test_a_message_of_the_page_is_said_by_somebody",
    ),
    mutation(
        "a link leaves what the package has",
        "docs/how-it-works.md",
        "CONTRIBUTING.md, *How a freeze",
        "[it](../CONTRIBUTING.md), *How a freeze",
        "tests/docs/test_readme.py::test_a_link_leads_to_a_heading_that_is_there_and_never_out_of_the_documents",
    ),
    mutation(
        "a page names a default that is none",
        "docs/pbs.md",
        "thawed at `max_window_seconds` (30)",
        "thawed at `max_window_seconds` (60)",
        "tests/docs/test_readme.py::test_a_default_that_a_page_names_is_the_default",
    ),
    mutation(
        "a remedy names an option that Proxmox VE does not have",
        "snapshot/pve/locks.py",
        "/tasks --source active --vmid {guest.vmid}",
        "/tasks --source running --guest {guest.vmid}",
        "tests/docs/test_commands.py::test_a_command_of_pves_in_a_message_has_the_words_that_pve_knows",
    ),
    mutation(
        "nothing is heard of a task that PVE takes long for",
        PVE_SNAPSHOT,
        "self._tasks.end(upid, until, waiting)",
        "self._tasks.end(upid, until)",
        f"{WAITING_TESTS}::test_a_task_that_takes_long_is_heard_of_every_20_s[False]",
    ),
    mutation(
        "nothing is heard of a task in which PVE may freeze",
        PVE_SNAPSHOT,
        "lambda: waiting(alive)",
        "alive",
        f"{WAITING_TESTS}::test_a_task_that_takes_long_is_heard_of_every_20_s[True]",
    ),
    mutation(
        "nothing is heard of the search for a snapshot whose answer was lost",
        PVE_SNAPSHOT,
        "                    waiting(alive)",
        "                    alive()",
        f"{WAITING_TESTS}::test_the_search_for_a_snapshot_whose_answer_was_lost_is_heard_of",
    ),
    mutation(
        "the thread that thaws waits for a terminal",
        "snapshot/take/waiting.py",
        'self._tools.tell(f"waiting',
        'self._tools.say(f"waiting',
        f"{WAITING_TESTS}::test_a_task_that_takes_long_is_heard_of_every_20_s[True]",
    ),
    mutation(
        "an owner whose thaw fails does not say what the ways answer",
        "snapshot/take/run.py",
        "self.answers = Answers(ThawNews(guest.vmid, tools).heard)",
        "self.answers = Answers()",
        f"{RESCUE_WORDS}::test_a_run_whose_own_thaw_fails_says_what_each_way_answers",
    ),
    mutation(
        "an owner that could not thaw names one way's answer",
        "snapshot/take/guarded.py",
        "in_words(run.answers.last) or report.detail",
        "report.detail",
        f"{RESCUE_WORDS}::test_a_run_whose_own_thaw_fails_says_what_each_way_answers",
    ),
)
