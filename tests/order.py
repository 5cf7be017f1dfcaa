"""The order of the tests among several workers: what takes long begins first, on all of them.

xdist gives each worker an equal share of the tests in their order, and who is done takes over half of what another has
not begun, from its end (``--dist worksteal``). The two that a worker has next cannot be taken from it: where those are
long ones, the others wait for it at the end. So each share begins with long ones, and ends with those of milliseconds.
"""

from __future__ import annotations

from collections.abc import Sequence

# What has single tests of ten seconds and more, the longest first; by the beginning of a module's path.
LONG = (
    "tests/real/",
    "tests/campaign/test_campaign.py",
    "tests/process/test_foreign_real_guest.py",
    "tests/hook/test_lost_thaws.py",
    "tests/engine/test_knock.py",
    "tests/hook/test_self_test.py",
    "tests/guest_hook/test_real_guest.py",
    "tests/process/",
    "tests/drill/",
    "tests/engine/test_foreign_freezes.py",
    "tests/fleet/",
    "tests/engine/test_broken_api.py",
    "tests/setup/",
    "tests/hook/",
    "tests/bench/",
    "tests/contract/test_oracle.py",
    "tests/notify/test_sending.py",
    "tests/campaign/test_groups.py",
    "tests/engine/",
)
SHORT = ("tests/unit/", "tests/docs/", "tests/mutations/")


def spread(modules: Sequence[str], workers: int) -> list[int]:
    """The places of all tests, given by their modules, in the order for ``workers``. The tests of a module stay
    together, but for one that fills a share up.
    """
    of: dict[str, list[int]] = {}
    for place, module in enumerate(modules):
        of.setdefault(module, []).append(place)
    ranked = sorted(of, key=lambda module: (_rank(module), module))
    shares: list[list[int]] = [[] for _ in range(workers)]
    rest: list[int] = []
    for number, module in enumerate(ranked):
        (rest if module.startswith(SHORT) else shares[number % workers]).extend(of[module])
    for number, share in enumerate(shares):
        even = (len(rest) + sum(map(len, shares[number:]))) // (workers - number)
        more = max(0, even - len(share))
        share.extend(rest[:more])
        rest = rest[more:]
    return [place for share in shares for place in share]


def _rank(module: str) -> int:
    if module.startswith(SHORT):
        return len(LONG) + 1
    return next((rank for rank, start in enumerate(LONG) if module.startswith(start)), len(LONG))
