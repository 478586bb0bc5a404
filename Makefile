# Everything here sets itself up: one virtual environment, kept in $(CACHE) under a name that
# depends on the requirements, the interpreter and ROS_WHEELS. Other runs and clones share it.

PYTHON ?= python3
ROS_WHEELS = jazzy
CACHE = $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/maskomaly_ros
SOURCE =
OUT = demo_output
PYTEST_ARGS =
# What meets each of the libraries, in less than a minute.
OLDEST_TESTS = test/test_package.py test/test_parameter_table.py test/test_parameter_files.py test/test_parameters.py \
	test/test_queries.py test/test_encodings.py test/test_obstacles.py test/html test/node/test_messages.py \
	test/networks/test_networks.py test/networks/test_download.py test/cli/test_main.py
PROCESSES = 2
# A debugger needs the terminal, which one process has.
in_one = $(filter 1,$(PROCESSES))$(filter --pdb --trace,$(PYTEST_ARGS))
side_by_side = $(if $(in_one),,-n $(PROCESSES) --dist worksteal)
MINUTES = 30
# What the environment has to hold; it grows from one to the next.
STAGE = test
demo: STAGE = demo
docs: STAGE = docs
SEED = 1

# Busy waiting of torch's threads starves the other processes of a small machine.
export OMP_WAIT_POLICY = PASSIVE

# The package is used from this checkout, whatever the environment was made from.
run = $(check_python) && \
	python=$$("$(PYTHON)" tools/environment.py --cache "$(CACHE)" --wheels "$(ROS_WHEELS)" \
		--stage "$(STAGE)") && \
	PYTHONPATH="$(CURDIR)$${PYTHONPATH:+:$$PYTHONPATH}" "$$python"
check_python = { "$(PYTHON)" -c 'import sys; sys.exit(sys.version_info < (3, 10))' || { \
	echo 'Python 3.10 or newer is needed: make PYTHON=/path/to/python3.12 ...' >&2; exit 1; }; }

.PHONY: help demo test test-fast test-oldest lint docs fuzz bench soak audit venv clean distclean

help:  ## Print this
	@echo 'Usage: make TARGET [NAME=value ...]'
	@echo
	@sed -n 's/^\([a-z-]*\): .*## \(.*\)/  \1#\2/p' Makefile | awk -F'#' '{printf "%-12s %s\n", $$1, $$2}'
	@echo
	@echo '  PYTHON       interpreter, 3.10 or newer ($(PYTHON))'
	@echo '  ROS_WHEELS   jazzy or kilted: ROS 2 from PyPI; a sourced distribution comes first ($(ROS_WHEELS))'
	@echo '  SOURCE       for demo: a video, a folder of images or a rosbag; else a generated clip'
	@echo '  OUT          for demo: folder of the results ($(OUT))'
	@echo '  PYTEST_ARGS  for test: more arguments, such as "-k launch"'
	@echo '  PROCESSES    for test, test-fast: how many take the tests from each other ($(PROCESSES))'
	@echo '  MINUTES      for fuzz and soak: how long ($(MINUTES))'
	@echo '  SEED         for soak: of what is random ($(SEED))'
	@echo '  CACHE        where the environment is kept ($(CACHE))'

demo:  ## Run the node on a camera stream and show what it finds
	@$(run) -m maskomaly_ros.cli demo --out "$(OUT)" $(if $(SOURCE),--source "$(SOURCE)")

test:  ## Run the tests
	@command -v chromium >/dev/null && command -v chromedriver >/dev/null || \
		echo 'Tests of the HTML pages skip without Chromium (Debian, Ubuntu: apt install chromium chromium-driver).'
	@$(run) -m pytest $(side_by_side) $(PYTEST_ARGS)

test-fast:  ## Run the tests that take no time, for the inner loop
	@$(run) -m pytest -m 'not slow' -p no:cacheprovider $(side_by_side) $(PYTEST_ARGS)

test-oldest: STAGE = oldest
test-oldest:  ## Run a part of the tests with the oldest versions that setup.py admits
	@$(run) -m pytest -q $(OLDEST_TESTS) $(PYTEST_ARGS)

lint:  ## Check style, types, dependencies, and which part imports which
	@$(run) -m ruff check
	@$(run) -m ruff format --check
	@$(run) -m mypy
	@$(run) -c 'from importlinter.cli import lint_imports_command as lint; lint()'
	@$(run) tools/dependencies.py

docs:  ## Build the documentation in build/docs; a warning or a link that leads nowhere fails
	@$(run) -m sphinx -b html --fail-on-warning --keep-going --quiet docs build/docs
	@echo 'Open build/docs/index.html'

fuzz:  ## Fuzz what reads foreign data, with new examples until MINUTES are over
	@end=$$(( $$(date +%s) + 60 * $(MINUTES) )); while [ $$(date +%s) -lt $$end ]; do \
		( export MASKOMALY_FUZZ_EFFORT=10; $(run) -m pytest -q --timeout 0 test/test_fuzz.py $(PYTEST_ARGS) ) || exit 1; done

bench:  ## Run the benchmarks of a CPU in ten minutes and compare with the committed ones
	@$(run) benchmarks/bench.py

soak:  ## Run the node under load and random faults for MINUTES and check what must hold
	@$(run) benchmarks/soak.py --minutes "$(MINUTES)" --seed "$(SEED)"

audit:  ## Look for known vulnerabilities in what is installed (needs network access)
	@$(run) -m pip_audit --local --skip-editable

venv:  ## Make the environment and print the path of its Python
	@$(run) -c 'import sys; print(sys.executable)'

clean:  ## Remove what building, testing and the demo leave in this checkout
	rm -rf build install log dist *.egg-info demo_output .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -not -path './.git/*' -exec rm -rf {} +

distclean: clean  ## Remove the environments as well
	rm -rf "$(CACHE)"/venv-*
