# Two commands, on a fresh machine or an old one:
#   make demo   trains the digits classifier on two Horovod ranks, deploys it, predicts over HTTP
#   make test   lint, types, import contracts and all tests
# Both set up first what is missing (.ci/setup: system packages as root, .venv, torch, Horovod).

SHELL := /bin/bash
BIN := $(CURDIR)/.venv/bin
export PATH := $(BIN):$(PATH)
# Ranks get their own threads; the processes beside them should not fight them for the cores.
export OMP_NUM_THREADS ?= 1
export PYTHONUNBUFFERED := 1
export PIP_DISABLE_PIP_VERSION_CHECK := 1

BENCHES := bench-semantics bench-serving bench-deploy bench-launch bench-capture bench-jobs bench-metrics bench-responsive bench-server
.PHONY: demo test setup test-faults test-security test-front corpus $(BENCHES)

demo: setup
	python notebooks/demo.py

# A test that failed is run once more, alone: two ranks on two busy cores can miss a deadline.
test: setup
	ruff check nbaas tests
	ruff format --check nbaas tests
	mypy
	lint-imports
	pytest $(PYTEST) || pytest --last-failed --last-failed-no-failures=none $(PYTEST)

setup:
	@bash .ci/setup

# Parts of `make test` by themselves, and the front end's own checks, which need node.
test-faults: setup  # P1 to P48 with kill -9, full disks and clocks that jump; a table at the end
	pytest -m faults $(PYTEST)

test-security: setup  # P60 to P71
	pytest -m security $(PYTEST)

test-front: setup
	cd labextension && jlpm install --immutable && jlpm check && jlpm test

# For those who want to know more; none is needed to use or to check nbaas.
corpus: setup  # every training cell on 1 to 4 ranks, notebooks under %%train too, as a table
	python tests/corpus/run.py --all --door $(CORPUS)

bench-semantics: setup  # steps per second beside hand-written Horovod and DDP
	python tests/benchmarks/semantics.py $(BENCH)

bench-serving: setup  # requests per second beside other servers
	python tests/benchmarks/serving.py $(BENCH)

bench-deploy: setup  # from %deploy to the first answer, cold and warm
	python tests/benchmarks/deploy.py $(BENCH)

bench-launch: setup  # from submit to the first step, cold and warm
	python tests/benchmarks/launch.py $(BENCH)

bench-capture: setup  # launch of a cell that captures 1 GB, memory of its ranks
	python tests/benchmarks/capture.py $(BENCH)

bench-jobs: setup  # a supervisor's cost, a list of 10,000 jobs, a curve of 1,000,000 points
	python tests/benchmarks/jobs.py $(BENCH)

bench-metrics: setup  # what logging costs the training thread, beside other loggers; what a panel costs
	python tests/benchmarks/metrics.py $(BENCH)
	python tests/benchmarks/panel.py

bench-responsive: setup  # how long a background job holds up the kernel's main thread
	python tests/benchmarks/responsive.py $(BENCH)

bench-server: setup  # event-loop lag, the prediction route beside Tornado, the panel's first rows
	python tests/benchmarks/server.py $(BENCH)
