# make demo   the shipped policy on ten episodes, with video and report under outputs/demo
# make test   checks and the whole test suite
# make check  ruff and mypy
# make lock   resolve requirements.lock again

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := demo
.PHONY: demo test check lock venv libegl rendering

BIN := .venv/bin
INSTALLED := .venv/.installed
EGL_PACKAGES := libegl1 libegl-mesa0 libgl1-mesa-dri

demo: rendering
	$(BIN)/vla demo --out outputs/demo

test: check rendering
	$(BIN)/pytest -n auto --dist loadfile

check: $(INSTALLED)
	$(BIN)/ruff check .
	$(BIN)/mypy

venv: $(INSTALLED)

# The hashes are those of the package registry in use; the file itself names none.
lock: $(INSTALLED)
	$(BIN)/uv pip compile --quiet pyproject.toml --all-extras --python-version 3.12 --generate-hashes \
	  --custom-compile-command "make lock" --output-file requirements.lock

# uv comes from the lock like everything else, by pip, which checks its hash; then it installs the rest.
$(INSTALLED): requirements.lock pyproject.toml policies/pyproject.toml hatch_build.py
	@if ! { [ -x $(BIN)/uv ] && $(BIN)/python -c 'import sys; sys.exit(sys.version_info < (3, 12))'; } 2>/dev/null; then \
	  for python in python3.12 python3 python3.13; do \
	    $$python -c 'import sys; sys.exit(sys.version_info < (3, 12))' 2>/dev/null && found=$$python && break; \
	  done; \
	  [ -n "$${found:-}" ] || { echo "make: needs Python 3.12: install it (apt install python3.12 python3.12-venv, or pyenv install 3.12)" >&2; exit 1; }; \
	  $$found -c 'import ensurepip, venv' 2>/dev/null || { echo "make: $$found cannot create environments: apt install $$($$found -c 'import sys; print("python%d.%d-venv" % sys.version_info[:2])')" >&2; exit 1; }; \
	  $$found -m venv --clear .venv; \
	  sed -n '/^uv==/,/[^\\]$$/p' requirements.lock > .venv/uv.txt; \
	  $(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --require-hashes -r .venv/uv.txt; \
	fi
	$(BIN)/uv pip sync --quiet --compile-bytecode --python $(BIN)/python --require-hashes requirements.lock
	$(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps --no-build-isolation \
	  --editable . --editable policies
	@touch $@

# Before the long install: is there an EGL at all?
libegl:
	@ldconfig=$$(PATH=$$PATH:/sbin:/usr/sbin command -v ldconfig || true); \
	if [ -n "$$ldconfig" ] && ! $$ldconfig -p | grep 'libEGL\.so\.1' >/dev/null; then \
	  echo "make: MuJoCo needs EGL to render: apt install $(EGL_PACKAGES)" >&2; exit 1; fi

rendering: libegl $(INSTALLED)
	@MUJOCO_GL=egl $(BIN)/python -c 'import mujoco; mujoco.GLContext(8, 8).free()' >/dev/null 2>&1 || \
	  { echo "make: EGL is there but cannot render: apt install $(EGL_PACKAGES)" >&2; exit 1; }
