# The two commands of the README. Each makes and uses .venv by itself; uv is used where it is installed.
PYTHON ?= python3
VENV := .venv
RUN := $(VENV)/bin/python

.PHONY: run test docs notebooks install clean

run: $(VENV)/.run ## the main job, end to end
	$(RUN) -m rmtjax.train --config=configs/synthetic.py

test: $(VENV)/.test ## formatting, types and all tests
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy & types=$$!; $(RUN) -m pytest && wait $$types

docs: $(VENV)/.docs ## the API reference: docs/index.html
	JAX_PLATFORMS=cpu $(RUN) -m pdoc --docformat google --output-directory docs $(DOCUMENTED)

DOCUMENTED := rmtjax.spectra rmtjax.checkpoints rmtjax.diversity rmtjax.evaluation rmtjax.statistics \
	rmtjax.weightwatcher rmtjax.observers rmtjax.config rmtjax.results rmtjax.report

notebooks: $(VENV)/.test ## run all notebooks and store what they show
	$(RUN) tests/notebook_outputs.py

install: $(VENV)/.run

# compat: by its path. An import hook would lose to a folder called rmtjax in the folder above the checkout.
define install
	@$(PYTHON) -c 'import sys; v = sys.version_info[:2]; sys.exit(None if (3, 11) <= v < (3, 14) else "rmtjax needs Python 3.11, 3.12 or 3.13, and $(PYTHON) is %d.%d: make PYTHON=python3.12 $(MAKECMDGOALS)" % v)'
	@if command -v uv >/dev/null; then \
		test -x $(RUN) || uv venv --quiet --python "$$(command -v $(PYTHON))" $(VENV); \
		uv pip install --quiet --python $(RUN) --constraint requirements.lock -C editable_mode=compat --editable $(1); \
	else \
		test -x $(RUN) || $(PYTHON) -m venv $(VENV); \
		$(RUN) -m pip install --quiet --disable-pip-version-check --no-compile --constraint requirements.lock -C editable_mode=compat --editable $(1); \
	fi
	@touch $@
endef

$(VENV)/.run: pyproject.toml requirements.lock
	$(call install,'.[train]')

$(VENV)/.test: pyproject.toml requirements.lock
	$(call install,'.[test]')
	@touch $(VENV)/.run

$(VENV)/.docs: pyproject.toml requirements.lock
	$(call install,'.[train$(comma)docs]')

comma := ,

clean:
	rm -rf $(VENV) build docs *.egg-info
