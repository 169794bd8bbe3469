# Everything here sets itself up: Python 3.11 or newer and make are enough.

# The interpreters that pyenv installed, found without its shims, which uv cannot ask.
PYENV_ROOT ?= $(HOME)/.pyenv
PYENV_BINS := $(strip $(foreach minor,14 13 12 11,$(wildcard $(PYENV_ROOT)/versions/3.$(minor).*/bin)))
empty :=
export PATH := $(if $(PYENV_BINS),$(subst $(empty) ,:,$(PYENV_BINS)):)$(PATH)

# GNU make before 4.4 does not export to its own shell function.
PYTHON ?= $(shell PATH='$(PATH)'; for python in python3.14 python3.13 python3.12 python3.11 python3; do \
	$$python -c 'import sys, ensurepip, venv; sys.exit(sys.version_info < (3, 11))' 2>/dev/null \
	&& echo $$python && break; done)

# A machine's own certificate authorities, where it has any: pip reads them by itself.
CERTIFICATES := $(wildcard /etc/ssl/certs/ca-certificates.crt /etc/pki/tls/certs/ca-bundle.crt /etc/ssl/cert.pem)
ifneq ($(CERTIFICATES),)
export UV_SYSTEM_CERTS ?= 1
endif
export UV_PYTHON_DOWNLOADS ?= never
export PIP_DISABLE_PIP_VERSION_CHECK ?= 1
ARGS ?=

.PHONY: help demo test bench offload races consistency docs clean

help:
	@echo 'make demo            a message board over real PostgreSQL replication, and what each router makes of it'
	@echo 'make demo ARGS=--serve   the same site, left running for a browser'
	@echo 'make test            every test on every Python and Django there is here, lint, types, docs, package'
	@echo 'make bench           the benchmarks'
	@echo 'make races           sessions of several processes at every bad moment, ours and django-distributed'
	@echo 'make offload         how many reads followers take, in seven minutes; ARGS=--seconds=15 for less'
	@echo 'make consistency     what many clients read while followers lag and die, for some minutes'
	@echo 'make docs            the documentation, in .tox/html'
	@echo 'make clean           remove what the above made'

demo: .venv-demo/ready
	.venv-demo/bin/python -m example.demo $(ARGS)

test: .venv-tox/ready
	@.ci/debian
	@rm -rf .tox/reports .tox/measured
	@.venv-tox/bin/tox run-parallel --parallel auto --parallel-no-spinner; status=$$?; \
	.venv-tox/bin/python .ci/counts.py .tox/reports || status=1; \
	exit $$status

bench: .venv-benchmark/ready
	.venv-benchmark/bin/python -m benchmarks.routing $(ARGS)
	.venv-benchmark/bin/python -m benchmarks.requests $(ARGS)
	.venv-benchmark/bin/python -m benchmarks.cache $(ARGS)
	.venv-benchmark/bin/python -m benchmarks.connect $(ARGS)
	.venv-benchmark/bin/python -m benchmarks.marks $(ARGS)
	.venv-benchmark/bin/python -m benchmarks.sessions

races: .venv-races/ready
	.venv-races/bin/python -m tests.races $(ARGS)

offload: .venv-benchmark/ready
	.venv-benchmark/bin/python -m benchmarks.offload $(ARGS)

consistency: .venv-consistency/ready
	@.ci/debian
	.venv-consistency/bin/python -m tests.consistency $(ARGS)

docs: .venv-tox/ready
	.venv-tox/bin/tox run -e docs
	@echo 'Open .tox/html/index.html'

clean:
	rm -rf .venv-demo .venv-tox .venv-benchmark .venv-races .venv-consistency .tox .coverage .coverage.* .mypy_cache .pytest_cache .ruff_cache .hypothesis dist

.venv-tox/ready: pyproject.toml
	$(virtual_environment)
	.venv-tox/bin/python -m pip install --quiet --upgrade --group tox
	@touch $@

.venv-%/ready: pyproject.toml
	$(virtual_environment)
	.venv-$*/bin/python -m pip install --quiet --editable . --group $*
	@touch $@

# Older pips know no dependency groups, so a new environment's own pip is brought up to date first.
define virtual_environment
	@test -n '$(PYTHON)' || { echo 'Python 3.11 or newer is needed, with its venv module (on Debian: python3-venv).'; exit 1; }
	@echo 'Making $(@D) with $(PYTHON)'
	@$(PYTHON) -m venv --clear $(@D)
	@$(@D)/bin/python -m pip install --quiet --upgrade 'pip>=25.1'
endef
