"""The units of contrib/systemd as text, and what systemd says of them; tests/process runs them under a real one."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest
from click.testing import CliRunner

from snapshot.cli.main import main_group
from snapshot.config.labels import PERIODS
from snapshot.journal.labelruns import limit_seconds

UNITS = Path(__file__).resolve().parents[2] / "contrib/systemd"
SERVICES = sorted(str(path.relative_to(UNITS)) for path in UNITS.rglob("*.service"))
WITH_API = [
    *("safe-snapshot-recover.service", "sample/safe-snapshot@.service"),
    *("sample/safe-snapshot-label@.service", "sample/safe-snapshot-prune@.service"),
]
TIMERS = sorted(str(path.relative_to(UNITS)) for path in UNITS.rglob("*.timer"))
MOST_EXPOSED = 3.0
# What systemd-analyze objects to, and with which word a unit's comments give the reason; else with the setting's name.
REASONS = {
    "User=/DynamicUser=": "Not User=",
    "RootDirectory=/RootImage=": "Not RootDirectory=",
    "RestrictAddressFamilies=~AF_NETLINK": "AF_NETLINK:",
    "RestrictAddressFamilies=~AF_UNIX": "AF_UNIX:",
    "RestrictAddressFamilies=~AF_(INET|INET6)": "AF_INET, AF_INET6:",
    "CapabilityBoundingSet=~CAP_(DAC_*|FOWNER|IPC_OWNER)": "CAP_DAC_OVERRIDE:",
    "SystemCallFilter=~@resources": "@resources",
    "SystemCallFilter=~@privileged": "@privileged",
    "DeviceAllow=": "DeviceAllow=char-rtc",
    "ProcSubset=": "ProcSubset=",
    "ProtectSystem=": '"full"',
    "ProtectHome=": 'Not "yes"',
}


def settings_of(name: str) -> dict[str, str]:
    """The settings; the last of several with one name."""
    lines = [line for line in (UNITS / name).read_text().splitlines() if not line.startswith("#")]
    return dict(line.split("=", 1) for line in lines if "=" in line)


def instance_of(name: str) -> str:
    """A template's name with an instance that it is made for."""
    return name.replace("@", "@100" if name.startswith("safe-snapshot@") else "@daily")


@pytest.mark.parametrize("label", PERIODS)
def test_a_label_that_is_a_period_is_a_time_that_systemd_knows(label: str) -> None:
    assert settings_of("sample/safe-snapshot-label@.timer")["OnCalendar"] == "%i"
    done = subprocess.run(["systemd-analyze", "calendar", label], capture_output=True, text=True, check=False)
    if "Failed to" in done.stderr and "calendar" not in done.stderr:
        pytest.skip(f"this systemd-analyze knows no calendar: {done.stderr[:200]}")
    assert done.returncode == 0, done.stderr
    assert limit_seconds(label) > 0, "it is missed when it does not come"


@pytest.mark.parametrize("name", ["sample/safe-snapshot-label@.service", "sample/safe-snapshot-prune@.service"])
def test_a_labels_command_line_is_one_that_we_understand(name: str) -> None:
    program, *words = settings_of(name)["ExecStart"].replace("%i", "daily").split()
    assert program == "/usr/bin/safe-snapshot"
    assert "label:daily" in words
    assert words[words.index("--label") + 1] == "daily"
    shown = CliRunner().invoke(main_group, [*words, "--help"])
    assert shown.exit_code == 0, shown.output


def test_what_is_too_many_goes_however_the_labels_run_ended() -> None:
    settings = settings_of("sample/safe-snapshot-label@.service")
    assert settings["OnSuccess"] == settings["OnFailure"] == "safe-snapshot-prune@%i.service"


@pytest.mark.parametrize("name", WITH_API)
def test_pvesh_can_reach_a_guest_on_another_node_from_within_the_unit(name: str) -> None:
    """It goes there by ssh with the key in /root/.ssh, which ProtectHome=yes hides."""
    settings = settings_of(name)
    assert settings["ProtectHome"] == "read-only"
    assert settings["ReadWritePaths"] == "-/etc/pve"
    assert {"AF_UNIX", "AF_INET", "AF_INET6"} <= set(settings["RestrictAddressFamilies"].split())


@pytest.mark.parametrize("name", WITH_API)
def test_what_outlives_a_unit_is_not_ended_with_it(name: str) -> None:
    """A guard without a unit of its own, a pvesh that takes a snapshot: systemd would end the whole control group."""
    assert settings_of(name)["KillMode"] == "process"


@pytest.mark.parametrize("name", WITH_API)
def test_a_unit_is_given_the_token_and_hides_its_file_from_no_guard_in_its_group(name: str) -> None:
    settings = settings_of(name)
    assert settings["LoadCredential"] == "token:/etc/vzdump-hooks/token"
    assert not {"InaccessiblePaths", "TemporaryFileSystem"} & set(settings)


def test_the_minutes_unit_starts_without_a_token_and_does_not_fill_the_journal() -> None:
    settings = settings_of("safe-snapshot-recover.service")
    assert settings["SetCredential"] == "token:\\n"  # systemd takes no empty one from a file
    assert settings["LogLevelMax"] == "notice"
    assert "--logfmt" in settings["ExecStart"], "its lines have levels"


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd-analyze is not installed")
@pytest.mark.parametrize("name", SERVICES)
def test_a_unit_is_exposed_no_more_than_it_says_with_a_reason_for_each_point(name: str, tmp_path: Path) -> None:
    unit = tmp_path / Path(name).name
    unit.write_text((UNITS / name).read_text())
    done = subprocess.run(
        ["systemd-analyze", "security", "--no-pager", "--offline=true", unit],
        capture_output=True,
        text=True,
        env={"LC_ALL": "C.UTF-8", "PATH": "/usr/bin:/bin", "SYSTEMD_PAGER": ""},
        timeout=60,
        check=False,
    )
    said = re.search(r"exposure level for \S+: ([\d.]+)", done.stdout)
    if said is None:
        pytest.skip(f"this systemd-analyze cannot look at a file: {done.stderr[:200]}")
    assert float(said[1]) <= MOST_EXPOSED, done.stdout
    comments = " ".join(line for line in unit.read_text().splitlines() if line.startswith("#"))
    told = re.search(r"says ([\d.]+) \(Debian 12\)", comments)
    assert told is not None
    version = subprocess.run(["systemd-analyze", "--version"], capture_output=True, text=True, check=True).stdout
    if version.startswith("systemd 252 "):
        assert float(told[1]) == float(said[1])
        objections = [line.split()[1] for line in done.stdout.splitlines() if line.startswith("\N{BALLOT X}")]
        assert objections
        assert not [each for each in objections if REASONS.get(each, each) not in comments]


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd-analyze is not installed")
@pytest.mark.parametrize("name", [*SERVICES, *TIMERS])
def test_systemd_understands_each_line(name: str, tmp_path: Path) -> None:
    """Where it does not, it passes over it: a unit that is not hardened, or has no token."""
    for path in UNITS.rglob("*.*er*"):
        text = path.read_text().replace("/usr/bin/safe-snapshot", "/usr/bin/env")
        (tmp_path / instance_of(path.name)).write_text(text)
    unit = tmp_path / instance_of(Path(name).name)
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", unit], capture_output=True, text=True, timeout=60, check=False
    )
    ours = [line for line in (done.stdout + done.stderr).splitlines() if "safe-snapshot" in line]
    assert not ours, "\n".join(ours)
