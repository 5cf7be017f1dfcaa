# Every target sets itself up: Debian packages (as root, or it says which command to run), a venv, the lab's guest.
PY := .venv/bin/python
export LAB_CACHE ?= $(CURDIR)/.lab
.DEFAULT_GOAL := help

help:  ## this list
	@grep -hE '^[a-z0-9-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 18

.venv/.ready: pyproject.toml scripts/setup
	scripts/setup
	touch $@

.PHONY: test-slow databases deb apt-repo package-test release test-libraries help demo test lint bench lab campaign campaign-groups campaign-real fuzz-disks mutations hook-matrix report-pictures clean

test: .venv/.ready lint  ## what CI runs: lint, unit, process and real-guest tests
	LAB_REQUIRED=1 scripts/run-tests $(ARGS)

lint: .venv/.ready  ## ruff and mypy; the wheel and its metadata
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/mypy
	scripts/check-distribution

demo: .venv/.ready  ## a safe snapshot of a real guest, with the disk's own word on it
	$(PY) -m tests.lab.demo

lab: .venv/.ready  ## a PVE cluster in a box to play with, until Ctrl-C; ARGS=--help
	$(PY) -m tests.lab $(ARGS)

bench: .venv/.ready  ## freeze windows and costs, as ratios in one run; ARGS=trace: each millisecond of one
	$(PY) -m pip install --quiet --disable-pip-version-check -e '.[bench]'
	$(PY) -m tests.bench $(ARGS)

fuzz-disks: .venv/.ready  ## a million mutated blocks of disks, one at a time: no crash, no reading without bound, no wrong word
	$(PY) -m tests.disk.fuzz --blocks 1000000 $(ARGS)

campaign: .venv/.ready  ## 50,000 freeze windows in virtual time, faults at every step
	$(PY) -m tests.campaign --windows 50000 $(ARGS)

campaign-groups: .venv/.ready  ## 50,000 freeze windows in groups, in virtual time, the leader killed too
	$(PY) -m tests.campaign.grouprun --windows 50000 $(ARGS)

campaign-real: .venv/.ready  ## 200 windows on real guests, processes killed at random instants
	$(PY) -m tests.campaign_real --windows 200 $(ARGS)

mutations: .venv/.ready  ## break each guarantee in a copy of the tree: the tests named for it must notice
	$(PY) -m tests.mutations $(ARGS)

hook-matrix: .venv/.ready  ## every owner, mode, storage kind and age of PVE, ten backups each, judged by the disk
	$(PY) -m tests.hook.matrix --repeat 10 $(ARGS)

test-slow: .venv/.ready  ## what is marked slow: whole Debians under systemd, the package on Debian 12 and 13 (root, debootstrap)
	$(PY) -m pytest -m "slow and not databases" $(ARGS)

databases: .venv/.ready  ## PostgreSQL and MariaDB under load in Debian guests, twenty copies started sealed off (root, debootstrap, FUSE)
	LAB_REQUIRED=1 $(PY) -m pytest -m databases tests/guest/hooks/test_databases.py $(ARGS)

deb:  ## the Debian package for PVE nodes, in dist/; with Debian's libraries or the venv's, and no network
	contrib/debian/build

apt-repo: deb  ## a signed apt repository of it, in dist/apt; APT_KEY=<id of your own secret key>
	contrib/debian/repository "$(APT_KEY)" dist/apt dist/vzdump-hooks_*_all.deb

package-test: .venv/.ready  ## the package: lintian, clean Debian 12 and 13 by apt, a backup, upgrade, remove, purge (root)
	scripts/package-test $(ARGS)

release: .venv/.ready lint  ## all that is published, in dist/; CHANGELOG and version have to agree; APT_KEY as above
	APT_KEY="$(APT_KEY)" scripts/release $(ARGS)

test-libraries:  ## the tests with Debian 12's, Debian 13's and the newest libraries, each on Python 3.11, 3.12 and 3.13
	scripts/test-libraries $(ARGS)

report-pictures: .venv/.ready  ## the report page in a real Chromium: three widths, both themes, five stories; the dashboard
	command -v chromium >/dev/null || apt-get install -y -qq --no-install-recommends chromium fonts-dejavu-core
	$(PY) -m pytest -m slow tests/metrics/test_report_browser.py tests/metrics/test_dashboard_browser.py $(ARGS)

clean:  ## remove the venv and the lab's cache
	rm -rf .venv .lab .pytest_cache .mypy_cache .ruff_cache
