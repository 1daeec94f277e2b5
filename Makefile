PYTHON ?= python3
CUDA_HOME ?= /usr/local/cuda
VENV := .venv
BIN := $(VENV)/bin
EXTRAS := cpu,torch,rtx,openvino,video,serve,ray,loadgen,dev
CHECKPOINT := checkpoints/hfdn_x4.safetensors

# Keep compiled modules and rewritten pytest plugins for the next process.
export PYTHONDONTWRITEBYTECODE :=

.PHONY: demo docs test test-fast test-lowest fuzz suites consumers pycuda lint bench clean

demo: $(VENV)/ready
	$(BIN)/python -m export $(CHECKPOINT) -o build/demo/x4
	$(BIN)/python -m benchmarks demo --bundle build/demo/x4 --picture build/demo/demo.png

# Two processes: with one, half of two cores is idle; each further one takes 3 GiB.
# tests/conftest.py puts the longest files first.
test: $(VENV)/ready
	$(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder

# The fast tests of code that may behave differently on another Python: threads, tiles, images.
test-fast: $(VENV)/ready
	$(BIN)/python -m pytest -n 2 --dist worksteal -m 'not slow' \
		tests/backends tests/images tests/tiling tests/upscaler tests/test_options.py

# The fast tests with the lowest versions that setup.cfg declares, on a Python that these have
# wheels for: 3.11 or 3.12. Each folder has a process of its own, because the oldest ONNX Runtime and
# OpenVINO crash after hundreds of tests in one.
LOWEST := backends bundle cli files graph images service upscaler
test-lowest: .venv-lowest/ready
	set -e; for folder in $(LOWEST); do \
		.venv-lowest/bin/python -m pytest -m 'not slow' tests/$$folder; done

# Runs the cases of every target, for at most an hour.
fuzz: $(VENV)/ready
	FUZZ_PROFILE=long timeout 3600 $(BIN)/python -m pytest -n 2 tests/fuzz \
		--hypothesis-show-statistics --show-capture=no

# Fetches and checks the image files of other packages; needs apt-get, exiftool and ImageMagick.
suites: $(VENV)/ready
	$(BIN)/python -m pip install --quiet -c constraints.txt -e '.[suites]'
	$(BIN)/python -m tests.suites.fetch build/suites
	$(BIN)/python -m tests.suites build/suites/packages --json build/suites/results.json

# Runs the image graph in other packages, each in its own environment; needs node and npm.
consumers: $(VENV)/ready
	$(BIN)/python -m tests.consumers build/consumers

# Builds PyCUDA without a GPU and runs its tests on a simulated one; needs g++ and CUDA's headers. It
# is linked against an empty driver library, and without cuRAND, which only a file in HOME can
# disable.
pycuda: $(VENV)/ready
	mkdir -p build/pycuda
	ar rc build/pycuda/libcuda.a
	echo 'CUDA_ENABLE_CURAND = False' > build/pycuda/.aksetup-defaults.py
	HOME=$(CURDIR)/build/pycuda LIBRARY_PATH=$(CURDIR)/build/pycuda CPATH=$(CUDA_HOME)/include \
		$(BIN)/python -m pip install --quiet -c constraints.txt -e '.[pycuda]'
	$(BIN)/python -m pytest tests/gpu/test_pycuda.py

lint: $(VENV)/ready
	$(BIN)/ruff check .
	$(BIN)/codespell
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# The site, into build/site.
docs: $(VENV)/ready
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs --quiet build --strict

bench: $(VENV)/ready
	$(BIN)/python -m benchmarks report

$(VENV)/ready: setup.cfg constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed")'
	$(PYTHON) -m venv $(VENV)
	# Modules are compiled when they are imported, which is a small part of them.
	$(BIN)/python -m pip install --quiet --no-compile -c constraints.txt -e '.[$(EXTRAS)]'
	touch $@

.venv-lowest/ready: setup.cfg
	$(PYTHON) -m venv --clear .venv-lowest
	.venv-lowest/bin/python -m pip install --quiet uv
	.venv-lowest/bin/uv pip install --quiet --python .venv-lowest/bin/python \
		--resolution lowest-direct -e '.[cpu,openvino,video,heif,codecs,serve,test]'
	touch $@

clean:
	rm -rf $(VENV) .venv-lowest build
