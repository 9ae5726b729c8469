# Learning from clicks, shown on simulated people.

clicksim_SRC := $(wildcard bench/clicksim/*.c)
online_SRC := $(wildcard bench/online/*.c) bench/numbers.c bench/texts.c
# Both speak to a daemon as the demonstration does.
loop_shared_SRC := $(filter-out tools/demo/main.c,$(demo_SRC))
LOOP_OBJECTS := $(call objects,$(clicksim_SRC) $(online_SRC) $(loop_shared_SRC))
DATA ?= ../shared/data

$(BUILD)/bench_clicksim: $(call objects,$(clicksim_SRC) $(loop_shared_SRC)) $(call lib,proto finetune index model base)
	$(call say,LINK,$@)
	$(Q)$(CC) $(LDFLAGS) $^ $(LIBS) -o $@

$(BUILD)/bench_online: $(call objects,$(online_SRC) $(loop_shared_SRC)) $(call lib,proto base)
	$(call say,LINK,$@)
	$(Q)$(CC) $(LDFLAGS) $^ $(SMALL_LIBS) -o $@

# OPTIONS: see build/bench_clicksim --help.
.PHONY: bench-clicksim
bench-clicksim: $(BUILD)/semd $(BUILD)/bench_clicksim $(BUILD)/semd-demo
	@$(MAKE) --no-print-directory BUILD=$(BUILD) model-required
	@$(MAKE) --no-print-directory BUILD=$(BUILD) demo-texts
	@$(BUILD)/bench_clicksim $(OPTIONS) $(BUILD)/semd $(MODEL) build/demo/packages.jsonl $(DATA) $(BUILD)/clicksim

# Searching while the daemon learns. OPTIONS: see build/bench_online --help.
.PHONY: bench-online
bench-online: $(BUILD)/semd $(BUILD)/bench_online $(BUILD)/semd-demo
	@$(MAKE) --no-print-directory BUILD=$(BUILD) model-required
	@$(MAKE) --no-print-directory BUILD=$(BUILD) demo-texts
	@$(BUILD)/bench_online $(OPTIONS) $(BUILD)/semd $(MODEL) build/demo/packages.jsonl $(BUILD)/online

# Tests of the benchmarks' own parts link what these are made of, save their mains.
$(BUILD)/tests/bench/%: $(BUILD)/obj/tests/bench/%.c.o $(call objects,$(TEST_COMMON)) \
                        $(filter-out %/main.c.o,$(LOOP_OBJECTS)) $(call lib,proto finetune index model base)
	@mkdir -p $(@D)
	$(call say,LINK,$@)
	$(Q)$(CC) $(LDFLAGS) $^ $(LIBS) $(CHECK_LIBS) -o $@

-include $(wildcard $(LOOP_OBJECTS:.o=.d))
