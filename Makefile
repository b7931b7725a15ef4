# Every target installs what it needs first; `scripts/setup` does nothing when all is there.
.DEFAULT_GOAL := help
.PHONY: help rehearse rehearse-vagrant quick test matrix check docs bench lock clean

BIN := .venv/bin

help: ## list these targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "make %-17s %s\n", $$1, $$2}' Makefile

rehearse: ## deploy to eight real SSH hosts on this machine, with and without faults
	@scripts/setup
	@$(BIN)/deploytool rehearse

rehearse-vagrant: ## the same, and more, on eight virtual machines; minutes, and root or libvirt
	@scripts/setup vagrant
	@$(BIN)/deploytool rehearse --fleet vagrant --scenario all $(REHEARSE_ARGS)

# Of tests/: unit/, agent/verbs/ and simulated/test_single_faults.py with one case of each fault; of
# these, what is not marked `slow`, `sshd` or `containers`. All else is left to `make test`.
QUICK := tests/unit tests/agent/verbs tests/simulated/test_single_faults.py
quick: ## lint, types, fast unit tests, a few simulated faults; no root, nothing slow or on hosts
	@scripts/setup quick
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/pytest --quiet --numprocesses 2 --singles 1 \
		-m 'not slow and not sshd and not containers' $(PYTEST_ARGS) $(QUICK)

# Two at a time, each file by one of them, the slow ones first. Not more: each brings up a fleet of
# eight containers, and their number on one machine is bounded (inotify).
test: ## run all tests (containers need root, or Docker)
	@scripts/setup test
	@$(BIN)/pytest --numprocesses 2 --dist loadfile --no-loadscope-reorder $(PYTEST_ARGS)

# Many faults, pairs of them, and crashes beside them: PYTEST_ARGS may ask for less or more
# ("--singles all --seed 7"). What was played is in the lines "... pairs, ... crashes".
matrix: ## play many faults, pairs of them, and crashes on simulated fleets: hours
	@scripts/setup test
	@$(BIN)/pytest --numprocesses 2 --dist load -rP --singles 400 --pairs 20000 --crashes 1000 $(PYTEST_ARGS) \
		tests/simulated/test_single_faults.py tests/simulated/test_pairs.py \
		tests/simulated/test_crashes.py

check: ## lint, types, import rules, shell scripts, docs, and the gate on this repository
	@scripts/setup check
	$(BIN)/ruff check .
	$(BIN)/ruff format --check --quiet .
	$(BIN)/mypy
	$(BIN)/vermin --quiet --no-tips --violations --target=3.9- --exclude typing.Self \
		--exclude typing.dataclass_transform deploytool/agent
	$(BIN)/lint-imports
	PYTHONPATH=router_binary $(BIN)/lint-imports --config router_binary/.importlinter
	git ls-files -z -- '*.sh' scripts vagrant/build-box .ci/run ':!deploytool/agent' ':!scripts/*.py' | \
		xargs -0 shellcheck
	cat deploytool/agent/last_rungs.sh deploytool/agent/trusted.sh deploytool/agent/stub.sh | shellcheck -
	VAGRANT_HOME=$(CURDIR)/.deploytool/vagrant-home VAGRANT_DEFAULT_PROVIDER=libvirt \
		VAGRANT_DOTFILE_PATH=$(CURDIR)/.deploytool/vagrant-machines vagrant validate
	$(BIN)/mkdocs build --quiet
	$(BIN)/deploytool gate --branch HEAD --skip GATE_REHEARSED

docs: ## draw what the docs take from the code, and build the site: build/site
	@scripts/setup
	@$(BIN)/python scripts/docs.py
	@$(BIN)/mkdocs build

# Each script writes its own sections of the page; `make bench BENCH="stop many"` runs these alone.
BENCH := deploy cost look latency many journal flags router stop
bench: ## measure a verified deploy beside other tools; writes benchmarks/RESULTS.md
	@scripts/setup bench
	@failed=; for one in $(BENCH); do \
		echo "== $$one"; \
		$(BIN)/python benchmarks/$$one.py || failed="$$failed $$one"; \
	done; [ -z "$$failed" ] || { echo "FAILED, their sections are the old ones:$$failed" >&2; exit 1; }

lock: ## renew the hashed locks from pyproject.toml (asks the package index)
	@scripts/lock

clean: ## take throwaway fleets away, and remove what was built here
	@scripts/clean
