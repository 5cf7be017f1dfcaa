"""What an operator is told to do: true for this guest, and never a way back to where he came from."""

from __future__ import annotations

import re

import pytest

from snapshot.model import CheckResult, FreezeOutcome, FreezeReply, Guest, GuestKind, Node, Vmid
from snapshot.preflight import answers, disks, facts
from snapshot.pve import locks, remedies
from snapshot.pve.agent import AgentRefusedError
from snapshot.pve.guests import AgentOption

VM = Guest(Vmid(100), Node("pve1"), GuestKind.QEMU, running=True)
CT = Guest(Vmid(200), Node("pve1"), GuestKind.LXC, running=True)

TASKS = [
    ("zfs error: cannot create snapshot 'rpool/data/vm-100-disk-0@s1': out of space", "free space"),
    (
        "lvcreate snapshot 'pve/snap_vm-100-disk-0_s1' error: free space in thin pool pve/data reached threshold.",
        "lvs -a",
    ),
    ("rbd snapshot 'vm-100-disk-0' error: rbd: failed to create snapshot: (122) Disk quota exceeded", "ceph df"),
    ("qemu-img: Could not create snapshot 's1': No space left on device", "free space"),
    ("lvcreate 'x' error: Volume group has insufficient free space (0 extents): 4 required.", "free space"),
    ("cluster not ready - no quorum?", "pvecm status"),
    ("unable to open file '/etc/pve/nodes/pve1/qemu-server/100.conf.tmp.4711' - Permission denied", "pvecm status"),
    ("VM is locked (snapshot)", "--source active --vmid 100"),
    ("VM is locked (backup)", "--source active --typefilter vzdump"),
    ("VM is locked (suspended)", "`qm resume 100`"),
    ("can't lock file '/var/lock/qemu-server/lock-100.conf' - got timeout", "try again"),
    ("snapshot name 's1' already used", "another --name"),
    ("snapshot feature is not available", "`safe-snapshot check 100` names the disk"),
    ("storage 'nas' is not online", "pvesm status"),
    ("mount error: No route to host", "pvesm status"),
    (
        "unexpected status",
        "`qm unlock 100`, then `qm resume 100` when its processors stand still, then `qm delsnapshot 100 ",
    ),
    ("zfs error: cannot create snapshot 'rpool/data/vm-100-disk-0@s1': dataset already exists", "another --name"),
    ("zfs error: cannot create snapshot 'rpool/x@s1': pool I/O is currently suspended", "pvesm status"),
    ("unable to create image: Transport endpoint is not connected", "pvesm status"),
    ("unable to open '/etc/pve/qemu-server/100.conf' - Transport endpoint is not connected", "pve-cluster"),
    ("cfs-lock 'storage-nas' error: got lock request timeout", "try again"),
    ("command '/usr/bin/rbd snap create x' failed: got timeout", "too late"),
    ("VM 100 qmp command 'savevm-start' failed - VM snapshot already started", "try again"),
    ("something new", "task's log"),
]


@pytest.mark.parametrize(("text", "words"), TASKS)
def test_a_tasks_end_has_a_remedy_of_its_own(text: str, words: str) -> None:
    assert words in remedies.of_task(text, VM)


@pytest.mark.parametrize("text", ["CT is locked (mounted)", "CT is locked (snapshot)", "unexpected status"])
def test_a_container_is_never_told_a_command_for_machines(text: str) -> None:
    assert "qm " not in remedies.of_task(text, CT)
    assert "pct " in remedies.of_task(text, CT)


FREEZES = [
    ("failed to open /data: Permission denied (GenericError)", "virt_qemu_ga_read_nonsecurity_files"),
    ("failed to add \\\\?\\Volume{4c1b02c1}\\ to snapshot set: (GenericError)", "vssadmin list writers"),
    ("couldn't hold writes: fsfreeze is limited up to 10 seconds: (GenericError)", "vssadmin list writers"),
    ("failed to initialize for backup: (error: 80042302) (GenericError)", "vssadmin list writers"),
    ("failed to freeze /tmp: Resource deadlock avoided (GenericError)", "losetup"),
    ("fsfreeze hook has failed with status 3 (GenericError)", "fsfreeze-hook.d"),
    ("child process has failed to execute fsfreeze hook: exit status 3 (GenericError)", "fsfreeze-hook.d"),
    ("Command guest-fsfreeze-freeze has been disabled: the command is not allowed (CommandNotFound)", "block-rpcs"),
    ("Command guest-fsfreeze-freeze has been disabled: the agent is in frozen state (CommandNotFound)", "status"),
    ("The command guest-fsfreeze-freeze has not been found (CommandNotFound)", "newer"),
    ("failed to freeze /data: Input/output error (GenericError)", "dmesg"),
    ("something new (GenericError)", "journalctl -u qemu-guest-agent"),
]


@pytest.mark.parametrize(("detail", "words"), FREEZES)
def test_a_failed_freeze_has_a_remedy_of_its_own_and_no_way_back_to_a_green_check(detail: str, words: str) -> None:
    found = remedies.of_freeze(FreezeReply(FreezeOutcome.FAILED, detail=detail), VM)
    assert words in found
    assert "check" not in found


# -- locks


ALL_LOCKS = [
    *("backup", "clone", "create", "migrate", "rollback", "snapshot", "snapshot-delete", "suspending", "suspended"),
    *("destroyed", "disk", "fstrim", "mounted", "one of tomorrow"),
]


PASSES = {"destroyed": (), "mounted": ("unmount",), "suspended": ("resume",), "backup": ("resume",)}
"""What PVE lets through while a lock stands, beside what only reads (AbstractConfig.pm, check_lock and its callers)."""
READS = ("config", "listsnapshot", "status")
HARMLESS = ("pvesh get", "safe-snapshot thaw", "lxc-unfreeze")


@pytest.mark.parametrize("lock", ALL_LOCKS)
@pytest.mark.parametrize("guest", [VM, CT], ids=["qemu", "lxc"])
def test_what_is_told_of_a_lock_stands_in_an_order_that_pve_takes(guest: Guest, lock: str) -> None:
    found = locks.check_of(guest._replace(lock=lock))
    assert found.result is CheckResult.FAILED
    assert lock in found.message
    commands = re.findall(r"`([^`]+)`", found.remedy)
    is_locked = True
    for command in commands:
        if command.startswith(HARMLESS):
            continue
        program, verb, vmid = command.split()[:3]
        assert (program, vmid) == (locks.tool(guest), str(guest.vmid))
        assert not is_locked or verb in (*READS, *PASSES.get(lock, ()), "unlock"), f"PVE refuses {command!r}"
        is_locked = is_locked and verb != "unlock"
    if lock in ("suspended", "mounted"):
        assert is_locked, "its own command takes the lock away"
    else:
        assert not is_locked
        assert found.remedy.startswith("wait for its task")


def test_a_guest_whose_snapshot_was_killed_is_unlocked_then_resumed_then_cleaned_up_then_thawed() -> None:
    told = remedies.of_task("unexpected status", VM, "s1")
    steps = ("`qm unlock 100`", "`qm resume 100`", "`qm delsnapshot 100 s1 --force`", "`safe-snapshot thaw 100`")
    places = [told.index(step) for step in steps]
    assert places == sorted(places)


@pytest.mark.parametrize("lock", ["", "backup"])
def test_a_guest_that_pve_resumes_as_it_is_is_not_told_to_be_unlocked(lock: str) -> None:
    assert locks.resume_of(VM._replace(lock=lock)) == "`qm resume 100`"


def test_a_hibernated_guest_is_woken_up_and_not_unlocked() -> None:
    found = locks.check_of(VM._replace(lock="suspended"))
    assert "`qm resume 100`" in found.remedy
    assert "unlock" not in found.remedy


# -- disks


@pytest.mark.parametrize(
    ("guest", "key", "value", "words"),
    [
        (VM, "scsi0", "local:100/vm-100-disk-0.raw,size=4G", "`qm move-disk 100 scsi0 local --format qcow2`"),
        (VM, "scsi0", "san:vm-100-disk-0,size=4G", "`qm move-disk 100 scsi0 <LVM-thin, ZFS or Ceph>`"),
        (VM, "tpmstate0", "local:100/vm-100-disk-1.raw,size=4M,version=v2.0", "with the guest off"),
        (VM, "virtio1", "/dev/disk/by-id/ata-X", "device or file of the node"),
        (CT, "mp0", "/tank/media,mp=/media", "lxc.mount.entry"),
        (CT, "mp1", "volume=local:200/vm-200-disk-1.raw,mp=/x", "`pct move-volume 200 mp1 "),
        (CT, "rootfs", "san:vm-200-disk-0,size=8G", "`pct move-volume 200 rootfs "),
    ],
)
def test_the_disk_that_cannot_be_snapshotted_is_named(guest: Guest, key: str, value: str, words: str) -> None:
    good = {"rootfs": "tank:subvol-200-disk-0"} if guest is CT else {"scsi7": "tank:vm-100-disk-7,size=1G"}
    config = {**good, "ide2": "local:iso/x.iso,media=cdrom", "unused0": "local:100/vm-100-disk-9.raw", key: value}
    found = disks.obstacles(guest, config, {"san": "lvm", "local": "dir", "tank": "zfspool"})
    assert [disk.key for disk in found] == [key]
    assert words in f"{found[0].why}; {found[0].remedy}"
    assert (locks.tool(CT) if guest is VM else locks.tool(VM)) + " " not in found[0].remedy


def test_what_nobody_knows_of_a_disk_is_not_said_of_it() -> None:
    config = {"scsi0": "a:vm-100-disk-0", "scsi1": "b:100/vm-100-disk-1.raw", "scsi2": "b:100/vm-100-disk-2.qcow2"}
    assert [disk.key for disk in disks.obstacles(VM, config, {})] == ["scsi1"]


# -- the agent's option


@pytest.mark.parametrize(
    ("value", "freeze", "expected"),
    [
        (None, True, "enabled=1"),
        ("0", True, "enabled=1"),
        ("0,type=isa,fstrim_cloned_disks=1", True, "enabled=1,type=isa,fstrim_cloned_disks=1"),
        ("1,freeze-fs-on-backup=0,type=isa", True, "enabled=1,freeze-fs-on-backup=1,type=isa"),
        ("type=isa,enabled=0,freeze-fs=0", True, "enabled=1,type=isa,freeze-fs=1"),
        ("0,freeze-fs=0", False, "enabled=1,freeze-fs=0"),
        ("1,fstrim=1,type=isa", True, "enabled=1,type=isa"),
    ],
)
def test_switching_the_agent_on_keeps_the_rest_of_its_option(value: str | None, freeze: bool, expected: str) -> None:
    assert AgentOption.parse(value).switched_on(freeze=freeze) == expected


# -- what the agent answers


@pytest.mark.parametrize(
    "answer",
    [
        None,
        5,
        "x",
        [],
        {},
        {"supported_commands": 5},
        {"supported_commands": True},
        {"supported_commands": []},
        {"supported_commands": [5, None]},
        {"supported_commands": [{"name": 5, "enabled": True}]},
        {"supported_commands": [{"name": "guest-fsfreeze-freeze", "enabled": "yes"}]},
        {"supported_commands": [{"enabled": True}, {"name": "guest-ping", "enabled": True}]},
    ],
)
def test_an_agent_that_lists_its_commands_as_nonsense_is_not_known_to_lack_any(answer: object) -> None:
    found = answers.freeze_commands(answer, frozen=False)
    assert found.result is CheckResult.WARNING
    assert "not known" in found.message


def listed(**states: bool) -> dict[str, object]:
    names = {f"guest-fsfreeze-{verb}": state for verb, state in states.items()}
    return {"supported_commands": [{"name": name, "enabled": state} for name, state in names.items()]}


def test_a_command_that_is_blocked_and_one_that_is_unknown_have_remedies_of_their_own() -> None:
    blocked = answers.freeze_commands(listed(freeze=False, thaw=True, status=True), frozen=False)
    unknown = answers.freeze_commands(listed(thaw=True, status=True), frozen=False)
    assert (blocked.result, unknown.result) == (CheckResult.NO_FREEZE, CheckResult.NO_FREEZE)
    assert "guest-fsfreeze-freeze switched off" in blocked.message
    assert "block-rpcs" in blocked.remedy
    assert "does not know guest-fsfreeze-freeze" in unknown.message
    assert "newer" in unknown.remedy


def test_a_frozen_agent_has_not_switched_its_freeze_off() -> None:
    assert answers.freeze_commands(listed(freeze=False, thaw=True, status=True), frozen=True).result is CheckResult.OK


def test_a_refusal_is_an_answer() -> None:
    found = answers.freeze_commands(
        AgentRefusedError("CommandNotFound", "Command guest-info has been disabled"), frozen=False
    )
    assert "the agent answers, but refuses guest-info" in found.message
    assert "allow-rpcs" in found.remedy


# -- filesystems


def fs(mountpoint: str, kind: str, device: str = "sda1") -> facts.Filesystem:
    return facts.Filesystem(mountpoint, kind, device)


@pytest.mark.parametrize(
    "found", [[], [fs("/boot/efi", "vfat")], [fs("/snap/x", "squashfs", "loop3")], [fs("D:", "CDFS")]]
)
def test_a_guest_in_which_nothing_can_be_frozen_is_told_so(found: list[facts.Filesystem]) -> None:
    (check,) = facts.check_of(found)
    assert check.result is CheckResult.NO_FREEZE
    assert "ZFS" in check.message


@pytest.mark.parametrize("kind", ["ext4", "xfs", "btrfs", "NTFS", "ReFS", "ufs", "one-of-tomorrow"])
def test_what_can_be_frozen_is_no_trouble(kind: str) -> None:
    assert facts.check_of([fs("/", kind), fs("/boot/efi", "vfat"), fs("/snap/x", "squashfs", "loop3")]) == []


def test_an_agent_that_does_not_list_its_filesystems_is_not_said_to_have_none() -> None:
    (check,) = facts.check_of(None)
    assert (check.result, check.code) == (CheckResult.WARNING, "filesystems-not-known")
    assert check.message.startswith("not known")


def test_mounts_that_are_known_to_stop_a_freeze_are_named() -> None:
    found = facts.check_of([fs("/", "ext4"), fs("/tmp", "ext4", "loop0"), fs("/home/virtfs/joe/usr", "ext4")])
    assert [check.result for check in found] == [CheckResult.WARNING] * 2
    assert "/tmp (ext4)" in found[0].message
    assert "/home/virtfs/joe/usr" in found[1].message


def test_an_agent_that_fails_to_thaw_is_not_told_to_allow_it() -> None:
    """What it answered is kept in the window's thaw_detail."""
    forbidden = remedies.of_stuck(100, f"{remedies.FORBIDDEN_TEXT}: has been disabled (CommandNotFound)")
    failed = remedies.of_stuck(100, f"{remedies.FAILED_TEXT}: failed to thaw /: Input/output error (GenericError)")
    assert "block-rpcs" in forbidden
    assert "block-rpcs" not in failed
    assert "dmesg" in failed
    assert "safe-snapshot thaw" not in failed, "that is what failed"
