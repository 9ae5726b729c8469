# The model, the demonstration and its benchmark.

MODEL := build/models/all-MiniLM-L6-v2

.PHONY: model demo demo-texts bench-demo bench-socket bench-start bench-flip
# make check goes on without the model where it cannot be fetched: the tests that
# need it say that they were skipped.
model:
	@PYTHON='$(PYTHON)' sh tools/fetch_model.sh $(if $(filter model demo bench-demo bench-socket bench-start bench-flip bench-encode bench-encode-quick bench-ann bench-ann-quick bench-server bench-server-quick bench-train bench-quality bench-ingredients bench-clicksim bench-online,$(GOALS)),,--optional) $(MODEL)

demo-texts: $(BUILD)/semd-demo
	@sh tools/demo/fetch_texts.sh build/demo $(BUILD)/semd-demo

# The order on the screen: compile, fetch the model, fetch the texts, run.
demo: $(PROGRAMS) $(BUILD)/semd-demo
	@$(MAKE) --no-print-directory BUILD=$(BUILD) model-required
	@$(MAKE) --no-print-directory BUILD=$(BUILD) demo-texts
	@KEEP='$(KEEP)' sh tools/demo/run.sh $(BUILD) $(MODEL) build/demo

.PHONY: model-required
model-required:
	@PYTHON='$(PYTHON)' sh tools/fetch_model.sh $(MODEL)

bench-demo: $(PROGRAMS) $(BUILD)/semd-demo $(patsubst bench/%.c,$(BUILD)/%,$(bench_SRC))
	@$(MAKE) --no-print-directory BUILD=$(BUILD) model-required
	@$(MAKE) --no-print-directory BUILD=$(BUILD) demo-texts
	@PYTHON='$(PYTHON)' sh bench/demo/run.sh $(BUILD) $(MODEL) build/demo

# What the daemon costs beside its encoder. QUERIES: JSON Lines with a "text" each.
QUERIES ?= $(firstword $(wildcard ../shared/data/banking77/test.jsonl build/demo/packages.jsonl))
bench-socket: $(BUILD)/semd $(BUILD)/bench_socket
	@$(MAKE) --no-print-directory BUILD=$(BUILD) model-required
	@test -n '$(QUERIES)' || { echo "make bench-socket needs QUERIES=file.jsonl (make demo-texts makes some)"; exit 1; }
	@for precision in float32 bfloat16 int8; do \
	    $(BUILD)/bench_socket precision=$$precision $(BUILD)/semd $(MODEL) $(QUERIES) || exit 1; done

# How soon a daemon with a million documents answers. OPTIONS: see the head of bench/bench_start.c.
bench-start: $(BUILD)/semd $(BUILD)/bench_start
	@$(MAKE) --no-print-directory BUILD=$(BUILD) model-required
	@$(BUILD)/bench_start $(OPTIONS) $(BUILD)/semd $(MODEL)

# How long a flip within a space takes. OPTIONS: see the head of bench/bench_flip.c.
bench-flip: $(BUILD)/semd $(BUILD)/bench_flip
	@$(MAKE) --no-print-directory BUILD=$(BUILD) model-required
	@$(BUILD)/bench_flip $(OPTIONS) $(BUILD)/semd $(MODEL)

# The encoder against other software. OPTIONS: see bench/encode/driver.py --help.
.PHONY: bench-encode bench-encode-quick
bench-encode bench-encode-quick: $(BUILD)/bench_encode $(BUILD)/bench_peak
	@$(MAKE) --no-print-directory BUILD=$(BUILD) model-required
	@PYTHON='$(PYTHON)' sh bench/encode/run.sh $(BUILD) $(MODEL) $(if $(filter %-quick,$@),--quick) $(OPTIONS)

# The vector index against other software. OPTIONS: see bench/ann/driver.py --help.
.PHONY: bench-ann bench-ann-quick
bench-ann bench-ann-quick: $(BUILD)/bench_ann $(BUILD)/bench_sentences
	@$(MAKE) --no-print-directory BUILD=$(BUILD) model-required
	@PYTHON='$(PYTHON)' sh bench/ann/run.sh $(BUILD) $(MODEL) $(if $(filter %-quick,$@),--quick) $(OPTIONS)

# The daemon against other servers, through the socket. OPTIONS: see bench/server/driver.py --help.
.PHONY: bench-server bench-server-quick
bench-server bench-server-quick: $(BUILD)/semd $(BUILD)/bench_server $(BUILD)/bench_sentences
	@$(MAKE) --no-print-directory BUILD=$(BUILD) model-required
	@PYTHON='$(PYTHON)' sh bench/server/run.sh $(BUILD) $(MODEL) $(if $(filter %-quick,$@),--quick) $(OPTIONS)

# The trainer against sentence-transformers. OPTIONS: see bench/train/driver.py --help.
.PHONY: bench-train
bench-train: $(BUILD)/bench_train
	@$(MAKE) --no-print-directory BUILD=$(BUILD) model-required
	@PYTHON='$(PYTHON)' sh bench/train/run.sh driver.py $(BUILD) $(MODEL) $(OPTIONS)

# What its models are worth, beside sentence-transformers' over several seeds. OPTIONS: see
# bench/train/quality.py --help.
.PHONY: bench-quality
bench-quality: $(BUILD)/semtrain
	@$(MAKE) --no-print-directory BUILD=$(BUILD) model-required
	@PYTHON='$(PYTHON)' sh bench/train/run.sh quality.py $(BUILD) $(MODEL) $(OPTIONS)

# What each ingredient of a recipe gains. OPTIONS: see bench/train/ingredients.py --help.
.PHONY: bench-ingredients
bench-ingredients: $(BUILD)/semtrain $(BUILD)/semd-demo
	@$(MAKE) --no-print-directory BUILD=$(BUILD) model-required
	@$(MAKE) --no-print-directory BUILD=$(BUILD) demo-texts
	@PYTHONDONTWRITEBYTECODE=1 $(PYTHON) bench/train/ingredients.py --build $(BUILD) --model $(MODEL) $(OPTIONS)
