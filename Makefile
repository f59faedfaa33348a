# All targets use .venv, which is created and filled at the first use, and filled again when pyproject.toml changes.
# To use a certain Python: make PYTHON=/path/to/python3 test. A .venv of another Python is then created again. Without
# PYTHON, an existing .venv is kept.

VENV := .venv
BIN := $(VENV)/bin
# -qq: errors only, since a company's own index may print warnings at each install.
INSTALL := $(BIN)/python -m pip install -qq --disable-pip-version-check --constraint constraints.txt

ifneq ($(PYTHON),)
WHICH_PYTHON := -c 'import sys; print(sys.base_prefix, sys.hexversion)' 2>/dev/null
ifneq ($(shell $(PYTHON) $(WHICH_PYTHON)),$(shell $(BIN)/python $(WHICH_PYTHON)))
ANOTHER_PYTHON := another-python
endif
endif

# The suite and the benchmarks start hundreds of Pythons. Without bytecode files, each would compile all its modules.
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
.PHONY: help demo test test-etcds test-pythons etcds lint lint-pyright lint-mypy lint-style lint-layers lint-english format bench bench-losing faults fuzz sim planted proof pictures protobuf-matrix clean another-python

help:
	@echo 'make demo             run three candidates on a separate etcd: a leader dies, and the next one takes over'
	@echo 'make test             run lint, types, layers, and the whole suite, with real etcd servers'
	@echo 'make test-etcds       run the tests that need a server, on each listed version of etcd, or on ETCD_VERSIONS="3.6.16 3.7.3"'
	@echo 'make test-pythons     run the tests that depend on Python and the libraries, on 3.11 (lowest libraries), 3.12 and 3.13'
	@echo 'make etcds            build these versions in advance, into the cache directory'
	@echo 'make lint             run lint, types and layers, without the suite'
	@echo 'make format           format the code, and fix what ruff can fix automatically'
	@echo 'make bench            measure the cost of elections, beside Go, kazoo and others: about 15 minutes; BENCH=--quick is short'
	@echo 'make bench-losing     measure the time until a leader detects its loss'
	@echo 'make faults           inject faults of 40 kinds on three and five members, for FAULTS_SECONDS=600, by FAULTS_SEED=...; as root'
	@echo 'make fuzz             send any bytes and messages as a peer, and floods as a hostile one: about ten minutes'
	@echo 'make sim              simulate SEEDS=1000 runs with faults, JOBS=2 at a time'
	@echo 'make planted          hunt the planted bugs that the simulator has found before'
	@echo 'make proof            check the TLA+ model of the lease rule with TLC: half an hour; PROOF="rule variant-g" runs only these'
	@echo 'make pictures         draw the pictures of docs/design.md from the code'
	@echo 'make protobuf-matrix  run etcd3 under the major versions of protobuf, each in a separate virtual environment'
	@echo 'make clean            remove .venv, caches and builds'

demo: $(VENV)/demo.stamp
	@$(BIN)/etcdleader demo

# The newest listed etcd, built at the first run; ETCD_TEST_VERSION=3.6.16 names another, ETCD_BINARY=... a program.
# With Go and Java installed, candidates in both and the etcdctl of older etcds are built, too. HAProxy and promtool are
# unpacked from Debian's packages unless they are installed. The tests of a file stay together, so that the servers that
# they share are started once.
test: lint
	@$(BIN)/python -m tests.versions.run choose
	@$(BIN)/python -m tests.interop.build
	@$(BIN)/python -m tests.helpers.debian
	$(BIN)/python -m pytest -n 5 --dist loadfile --no-loadscope-reorder

# The list is in tests/versions/listed.py.
ETCD_VERSIONS ?=

test-etcds: $(VENV)/dev.stamp
	@$(BIN)/python -m tests.versions.run test $(ETCD_VERSIONS)

# Only the Pythons that the machine has are used: those on the PATH, or in pyenv.
test-pythons: $(VENV)/dev.stamp
	@$(BIN)/python tools/python_matrix.py $(PYTHONS)

etcds: $(VENV)/dev.stamp
	@$(BIN)/python -m tests.versions.run build $(ETCD_VERSIONS)

# Two jobs at a time: each type checker keeps one processor busy for ten seconds.
lint: $(VENV)/dev.stamp
	@$(MAKE) --no-print-directory --jobs=2 --output-sync=target lint-pyright lint-mypy lint-style lint-layers lint-english

lint-pyright:
	$(BIN)/pyright --pythonpath $(BIN)/python

lint-mypy:
	$(BIN)/mypy

lint-style:
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

lint-layers:
	$(BIN)/lint-imports

lint-english:
	$(BIN)/python tools/english.py

format: $(VENV)/dev.stamp
	$(BIN)/ruff check --fix-only .
	$(BIN)/ruff format .

# On the newest listed etcd, unless ETCD_TEST_VERSION or ETCD_BINARY names another. Go's client is built in module mode;
# ZooKeeper is measured if it is installed (Debian: zookeeper).
BENCH ?=

bench: $(VENV)/bench.stamp
	$(BIN)/python -m benchmarks $(BENCH)

bench-losing: $(VENV)/dev.stamp
	$(BIN)/python -m benchmarks.bench_losing

# Kills, freezes, cuts off and confuses members and candidates, and checks that there were never two leaders. The seed
# determines the order; a random seed is printed. The report is build/faults/report.md.
FAULTS_SECONDS ?= 600
FAULTS_SEED ?=
# The version of etcd, by default the newest listed, and its feature gates: FAULTS_GATES=FastLeaseKeepAlive=false.
FAULTS_ETCD ?=
FAULTS_GATES ?=

faults: $(VENV)/dev.stamp
	$(BIN)/python -m tests.faults.run --seconds $(FAULTS_SECONDS) $(FAULTS_SEED:%=--seed %) $(FAULTS_ETCD:%=--etcd %) $(FAULTS_GATES:%=--gates %)

# More examples of bytes and messages than `make test` tries, and longer floods of a hostile peer: about ten minutes.
FUZZ_EXAMPLES ?= 20000
HOSTILE_MEGABYTES ?= 1000

fuzz: $(VENV)/dev.stamp
	FUZZ_EXAMPLES=$(FUZZ_EXAMPLES) HOSTILE_MEGABYTES=$(HOSTILE_MEGABYTES) $(BIN)/python -m pytest -n 2 \
		tests/grpc/test_any_bytes.py tests/grpc/test_hostile_peer.py tests/client/test_any_messages.py

# The library on a simulated network and cluster. FIRST=... is the first seed.
SEEDS ?= 1000
JOBS ?= 2
FIRST ?= 0

sim: $(VENV)/dev.stamp
	@$(BIN)/python -m tests.simulator.run --seeds $(SEEDS) --jobs $(JOBS) --first $(FIRST)

# PLANTED="--all --seeds 1000 --keep" hunts every planted bug, and keeps the seeds: hours.
PLANTED ?=

planted: $(VENV)/dev.stamp
	@$(BIN)/python -m tests.simulator.planted --jobs $(JOBS) $(PLANTED)

# TLC is fetched with Maven at the first run, and kept in build/proof. It needs Java. The configurations are in proof/.
PROOF ?=

proof: $(VENV)/made.stamp
	@$(BIN)/python -m proof.check $(PROOF)

# The pictures show rooms and imports, and one candidacy's way, recorded from a run. A test compares them with the code.
pictures: $(VENV)/dev.stamp
	@$(BIN)/python -m tools.code_pictures

protobuf-matrix: $(VENV)/dev.stamp
	$(BIN)/python tools/protobuf_matrix.py

clean:
	rm -rf $(VENV) build dist .hypothesis .import_linter_cache .mypy_cache .pytest_cache .ruff_cache
	find src tests benchmarks proof -name __pycache__ -prune -exec rm -rf {} +

$(VENV)/made.stamp: tools/make_venv.sh $(ANOTHER_PYTHON)
	@sh tools/make_venv.sh $(VENV)
	@touch $@

$(VENV)/demo.stamp: $(VENV)/made.stamp pyproject.toml
	@echo 'Installing etcdleader with its command and an etcd into $(VENV) ...'
	@$(INSTALL) --editable '.[cli,embedded]'
	@touch $@

$(VENV)/dev.stamp: $(VENV)/made.stamp pyproject.toml constraints.txt
	@echo 'Installing etcdleader, its extras and the tools of its developers into $(VENV) ...'
	@$(INSTALL) --editable '.[cli,embedded,opentelemetry,prometheus,srv,trio]' --group dev
	@touch $@ $(VENV)/demo.stamp

$(VENV)/bench.stamp: $(VENV)/dev.stamp
	@echo 'Installing the clients that the benchmarks measure into $(VENV) ...'
	@$(INSTALL) --group bench
	@touch $@
