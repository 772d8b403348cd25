# make demo: the whole loop on the embedded world.  make test, make lint: what CI runs.  make clean: removes it all.
PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
DEMO := jobs/configs/demo.yaml

.PHONY: demo test faults lint docs install clean
.DELETE_ON_ERROR:

install: $(VENV)/installed

# mmcv-lite and nuscenes-devkit bring two builds of OpenCV that overwrite each other; the headless one needs no libGL.
$(VENV)/installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip "setuptools<81"
	$(BIN)/python -m pip install --quiet -c constraints.txt -e ".[dev]"
	$(BIN)/python -m pip uninstall --quiet --yes opencv-python
	$(BIN)/python -m pip install --quiet --force-reinstall --no-deps -c constraints.txt opencv-python-headless
	touch $@

demo: install
	$(BIN)/python -m jobs.run_rounds --config $(DEMO)

test: install
	$(BIN)/python -m pytest

faults: install
	$(BIN)/python -m pytest -m faults

lint: install
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/ty check --python $(VENV) --error-on-warning sead_ray
	$(BIN)/lint-imports

docs: install
	$(BIN)/python -m sead_ray.config.reference > docs/configuration.md

clean:
	rm -rf $(VENV) data/demo runs/demo *.egg-info .pytest_cache .ruff_cache .import_linter_cache
	find . -name __pycache__ -type d -not -path './$(VENV)/*' -prune -exec rm -rf {} +
