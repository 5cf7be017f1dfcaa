"""Which [[guest]] tables hold for a guest, through the real command: as PVE compares tags and pools."""

from __future__ import annotations

import pytest

from tests.lab.site import Site

PREFERS = "[[guest]]\nvmid = 100\nmax_window_seconds = 9\n"


@pytest.mark.parametrize(
    ("rules", "options"),
    [
        ('[[guest]]\ntag = "Prod"\npolicy = "require"\n', {"tags": "prod;web"}),
        (PREFERS + '[[guest]]\ntag = "prod"\npolicy = "require"\n', {"tags": "prod;web"}),
        (PREFERS + '[[guest]]\nvmid = 100\npolicy = "require"\n', {}),
        (
            '[[guest]]\ntag = "web"\npolicy = "never"\n[[guest]]\ntag = "prod"\npolicy = "require"\n',
            {"tags": "prod;web"},
        ),
    ],
)
def test_a_policy_require_is_kept_however_it_is_written(lab: Site, rules: str, options: dict[str, str]) -> None:
    lab.rules = rules
    lab.write_config()
    lab.node.set_config(100, agent=None, **options)
    assert lab.safe_snapshot("100", "--name", "s1").exit_code == 6
    assert not any(r.method == "POST" for r in lab.node.requests("/snapshot"))


def test_two_tables_that_contradict_each_other_are_a_mistake_in_the_file(lab: Site) -> None:
    lab.rules = '[[guest]]\nvmid = 100\npolicy = "require"\n[[guest]]\nvmid = 100\npolicy = "never"\n'
    lab.write_config()
    run = lab.safe_snapshot("100", "--name", "s1")
    assert run.exit_code == 3
    assert "number 1 and number 2" in run.stderr
