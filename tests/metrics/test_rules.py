"""The alert rules: promtool's own tests, the mixin, the runbooks."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest
from click.testing import CliRunner

from scripts.generators import ROOT, alert_rules
from scripts.generators.alerts import ALERTS, PREFIX, SETTING_HELP, SETTINGS
from snapshot.cli.main import main_group
from snapshot.journal.families import FAMILIES
from tests.metrics.programs import program, promtool

FOLDER = ROOT / "contrib" / "prometheus"
TESTS = (FOLDER / "vzdump-hooks.rules.test.yml", FOLDER / "vzdump-hooks.rules.days.test.yml")
HEADS = ("## Objective", "## Symptoms", "## Steps", "## How to verify", "## When to stop")
ANNOUNCED = {
    "GuestStillFrozen",
    "ThawFailed",
    "FreezeFailed",
    "WindowOverLimit",
    "GuardIntervened",
    "NotConsistentSince",
    "AgentDown",
    "HookErrors",
    "MetricsStale",
    "GuardNotArmed",
    "DiskContradicts",
    "LastRunOld",
    "NeverGuarded",
    "GuestNotKnown",
    "BackupWithoutHook",
    "ClustersMixed",
    "ConfigBroken",
    "LookOld",
    "JournalBegunAnew",
    "Drill",
    "LabelMissed",
    "LabelLeftOut",
}

OF_A_NODE = {
    "HookErrors",
    "MetricsStale",
    "BackupWithoutHook",
    "ClustersMixed",
    "ConfigBroken",
    "LookOld",
    "JournalBegunAnew",
    "Drill",
}
"""No guest can be named."""


def _test_against(rules: str, name: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """promtool's tests, run against other rules than those in contrib/."""
    (folder / name).write_text(rules)
    stories = [folder / path.name for path in TESTS]
    for path, original in zip(stories, TESTS, strict=True):
        path.write_text(original.read_text().replace("  - vzdump-hooks.rules.yml", f"  - {name}"))
    return promtool("test", "rules", *stories)


def test_promtool_takes_the_rules_and_all_stories_come_true() -> None:
    checked = promtool("check", "rules", FOLDER / "vzdump-hooks.rules.yml")
    assert checked.returncode == 0, checked.stderr
    assert f"{len(ALERTS)} rules found" in checked.stdout
    tested = promtool("test", "rules", *TESTS)
    assert tested.returncode == 0, tested.stderr + tested.stdout


@pytest.fixture
def vendored(tmp_path: Path) -> Path:
    """The mixin as jsonnet-bundler lays it into a user's folder: its own folder, and nothing of what is around it."""
    return shutil.copytree(FOLDER / "mixin", tmp_path / "vendor" / "mixin")


def _jsonnet(*arguments: str | Path) -> str:
    done = subprocess.run([program("jsonnet"), *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def _alerts_of(mixin: Path, config: str = "") -> str:
    return _jsonnet("-e", f"((import '{mixin}/mixin.libsonnet') + {{ _config+:: {{ {config} }} }}).prometheusAlerts")


def test_the_mixin_makes_the_same_rules_and_its_limits_can_be_changed(vendored: Path, tmp_path: Path) -> None:
    tested = _test_against(_alerts_of(vendored), "mixin.json", tmp_path)
    assert tested.returncode == 0, tested.stderr + tested.stdout
    changed = _alerts_of(vendored, "staleSeconds: '60', runbookURLPattern: 'https://wiki.example.org/%s'")
    rules = {rule["alert"]: rule for rule in json.loads(changed)["groups"][0]["rules"]}
    assert "> 60)" in rules["VzdumpHooksMetricsStale"]["expr"]
    assert rules["VzdumpHooksAgentDown"]["annotations"]["runbook_url"] == "https://wiki.example.org/agent-down"


def test_the_mixins_files_are_those_of_any_mixin(vendored: Path, tmp_path: Path) -> None:
    assert json.loads((vendored / "jsonnetfile.json").read_text())["version"] == 1
    written = tmp_path / "rules.yml"
    written.write_text(_jsonnet("-S", vendored / "alerts.jsonnet"))
    assert f"{len(ALERTS)} rules found" in promtool("check", "rules", written).stdout
    _jsonnet("-m", tmp_path, vendored / "dashboards.jsonnet")
    ours = ROOT / "contrib" / "grafana" / "vzdump-hooks.json"
    assert json.loads((tmp_path / "vzdump-hooks.json").read_text()) == json.loads(ours.read_text())


def test_jsonnetfmt_would_change_nothing() -> None:
    files = sorted((FOLDER / "mixin").rglob("*sonnet"))
    assert len(files) == 6
    # As node_exporter's mixin has it.
    style = ("-n", "2", "--max-blank-lines", "2", "--string-style", "s", "--comment-style", "s")
    done = subprocess.run(
        [program("jsonnetfmt"), "--test", *style, *files], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_alerts_can_be_had_for_some_of_the_series(vendored: Path, tmp_path: Path) -> None:
    chosen = json.loads(_alerts_of(vendored, """freezeSelector: 'job="pve"'"""))["groups"][0]["rules"]
    for rule in chosen:
        series = re.findall(r"(?:pve_fsfreeze|node_textfile|push_time)\w+|\{__name__[^}]*\}", rule["expr"])
        assert series
        assert rule["expr"].count('job="pve"}') == len(series), rule["expr"]
    written = tmp_path / "chosen.json"
    written.write_text(json.dumps({"groups": [{"name": "chosen", "rules": chosen}]}))
    assert promtool("check", "rules", written).returncode == 0


def test_all_alerts_begin_alike_and_their_texts_are_as_mixins_want_them() -> None:
    rules = (FOLDER / "vzdump-hooks.rules.yml").read_text()
    names = re.findall(r"- alert: (\w+)", rules)
    assert len(set(names)) == len(ALERTS)
    assert all(re.fullmatch(rf"{PREFIX}[A-Z]\w+", name) for name in names)
    for kind in ("summary", "description"):
        texts = re.findall(rf"{kind}: '(.*)'$", rules, re.MULTILINE)
        assert len(texts) == len(ALERTS)
        assert all(text[0].isupper() or text.startswith("{{") for text in texts)
        assert all(text.endswith(".") for text in texts)
    assert "{{" not in "".join(alert.summary for alert in ALERTS), "a headline of several alerts"


def test_an_alert_that_never_fired_would_fail_its_stories(tmp_path: Path) -> None:
    silent = re.sub(r"        expr: \|\n(?: {10}.*\n)+", "        expr: vector(0) > 1\n", alert_rules.rule_file({}))
    assert promtool("check", "rules", "/dev/stdin", stdin=silent.encode()).returncode == 0
    tested = _test_against(silent, "silent.yml", tmp_path)
    assert set(re.findall(rf"alertname: {PREFIX}(\w+)", tested.stderr + tested.stdout)) == ANNOUNCED


# What each part of an expression is there for: without it a story must fail.
PARTS = {
    "a later consistent run elsewhere proves the thaw": (
        r"unless on \(cluster, id, vmid\) \(\n.*last_consistent[^\n]*\n.*\n.*\n +\)",
        "",
    ),
    "a counter that began before the window is not new": (r"unless last_over_time.*", ""),
    "an event is about a guest that ran lately": (r"and on \(cluster, id, vmid, node, source\) \(time\(\).*", ""),
    "a counter that appears with a value counts": (r"or \(\n +pve_fsfreeze_guard_thaws_total > 0\n.*\n +\)", ""),
    "an event that was scraped too late counts": (r"or \w+ > last_over_time.*", ""),
    "a missing limit hides nothing": (r" or 0 \* pve_fsfreeze_guest_frozen", ""),
    "a node that a guest has left is not asked": (
        r"unless on \(cluster, id, vmid, node\) \(\n.*\n.*\n.*\n +\)",
        "",
    ),
    "clusters are kept apart": (r"cluster, ", ""),
    "total absence is seen": (r"or absent\(.*", ""),
    "an old push is seen": (r"or \(time\(\) - push_time_seconds.*", ""),
    "a node that goes silent is seen": (r"or \(\n +max by \(cluster, job, instance\)[^\n]*\n.*\n +\)", ""),
    "guests that are not to be frozen are left alone": (r"and\n.*last_run.*last_success.*", ""),
    "a lower limit would be noticed": (r"> 259200", "> 1"),
    "the grace is kept": (r"> 30 \+", "> -300 +"),
    "a name is of the same cluster": (r'\{cluster=%q, node=%q, id=%q\}" \$labels\.cluster', '{node=%q, id=%q}"'),
    "a name is as this node has it": (r'node=%q, id=%q\}" (\S+) \$labels\.node', r'id=%q}" \1'),
    "a guest that runs twice is seen": (r"\) > 1\n", ") > 9\n"),
    "two nodes of one name are seen": (r"or count by \(cluster, job, node\).*", ""),
    "a node that looks no more mixes nothing": (r"and on \(cluster, job, instance, node\) \(time\(\).*", ""),
    "two clusters' nodes of one name are no mixture": (r"count by \(cluster, job, node\)", "count by (job, node)"),
}


@pytest.mark.slow
@pytest.mark.parametrize("part", PARTS)
def test_every_part_of_the_expressions_is_needed_by_a_story(part: str, tmp_path: Path) -> None:
    rules = alert_rules.rule_file({})
    broken = re.sub(*PARTS[part], rules)
    assert broken != rules
    checked = promtool("check", "rules", "/dev/stdin", stdin=broken.encode())
    assert checked.returncode == 0, checked.stderr
    assert _test_against(broken, "broken.yml", tmp_path).returncode != 0


def test_all_announced_alerts_exist_and_say_what_an_operator_needs() -> None:
    assert {alert.name for alert in ALERTS} == ANNOUNCED
    for alert in ALERTS:
        assert alert.summary
        assert alert.severity == ("critical" if alert.name == "GuestStillFrozen" else "warning")
        if alert.name not in OF_A_NODE:
            assert "Guest {{ $labels.id }}{{ with printf" in alert.description
            assert "on node {{ $labels.node }}" in alert.description
        else:
            assert "{{ $labels.node }}" in alert.description or "{{ $labels.instance }}" in alert.description
        assert "{{ with $labels.cluster }}" in alert.description


def test_alerts_use_only_metrics_that_are_exported() -> None:
    known = {family.name for family in FAMILIES}
    for alert in ALERTS:
        assert set(re.findall(r"pve_fsfreeze_[a-z_]+", alert.expr)) <= known, alert.name


def test_every_alert_links_a_runbook_that_exists_and_has_its_five_parts() -> None:
    rules = (FOLDER / "vzdump-hooks.rules.yml").read_text()
    links = re.findall(r"runbook_url: 'file:///usr/share/doc/vzdump-hooks/(runbooks/[^']+)'", rules)
    assert len(links) == len(ALERTS)
    for alert, link in zip(ALERTS, links, strict=True):
        text = (ROOT / "docs" / link).read_text()
        assert text.startswith(f"# {alert.alert}\n")
        positions = [text.index(f"\n{head}\n") for head in HEADS]
        assert positions == sorted(positions), link
        steps = text[text.index("## Steps") : text.index("## How to verify")]
        numbers = [int(n) for n in re.findall(r"^(\d+)\. ", steps, re.MULTILINE)]
        assert numbers == list(range(1, len(numbers) + 1)), link
        assert len(numbers) >= 2
    listed = set(re.findall(r"\(([a-z-]+\.md)\)", (ROOT / "docs/runbooks/README.md").read_text()))
    assert listed == {Path(link).name for link in links}


def test_the_rule_files_own_line_leads_its_runbooks_elsewhere(tmp_path: Path) -> None:
    rules = shutil.copy(FOLDER / "vzdump-hooks.rules.yml", tmp_path)
    (line,) = re.findall(r"^#   (sed .*)$", Path(rules).read_text(), re.MULTILINE)
    subprocess.run(line, shell=True, cwd=tmp_path, check=True)
    changed = Path(rules).read_text()
    assert changed.count("runbook_url: 'https://wiki.example.org/freezes/") == len(ALERTS)
    assert promtool("check", "rules", rules).returncode == 0


def _commands() -> list[tuple[str, str]]:
    """(page, command) of every safe-snapshot command line that a page for operators has, with a guest's number."""
    found = []
    for page in (*(ROOT / "docs" / "runbooks").glob("*.md"), ROOT / "docs" / "logs.md", ROOT / "docs" / "metrics.md"):
        text = page.read_text()
        lines = re.findall(r"`([^`]+)`", text.replace("\n", " ")) + re.findall(r"^ {7,}(\S.*)$", text, re.MULTILINE)
        for line in lines:
            command = re.split(r"[|;>]", line.replace("<vmid>", "100"))[0]
            if command.startswith("safe-snapshot ") and "..." not in command:
                found.append((page.name, command.strip()))
    return found


def test_every_safe_snapshot_command_of_the_pages_is_understood() -> None:
    commands = _commands()
    assert len(commands) > 30
    for page, command in commands:
        # An unknown command or option is refused before the help is shown.
        result = CliRunner().invoke(main_group, [*shlex.split(command)[1:], "--help"])
        assert result.exit_code == 0, f"{page}: `{command}`: {result.output}"


def test_links_between_runbooks_lead_somewhere() -> None:
    generated_elsewhere = {"exit-codes.md"}
    for page in (ROOT / "docs" / "runbooks").glob("*.md"):
        for target in re.findall(r"\]\(([^)#]+)\)", page.read_text()):
            path = (page.parent / target).resolve()
            assert path.exists() or path.name in generated_elsewhere, f"{page.name} links {target}"


def test_every_setting_is_explained_and_used() -> None:
    assert set(SETTINGS) == set(SETTING_HELP)
    used = "".join(alert.expr + alert.hold for alert in ALERTS) + "%(runbookURLPattern)s"
    assert {name for name in SETTINGS if f"%({name})s" in used} == set(SETTINGS)
