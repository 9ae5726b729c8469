# Tests: every tests/FOLDER/test_*.c is a program of its own.

J ?= 2
comma := ,
TEST_SRC := $(wildcard tests/*/test_*.c)
TESTS := $(patsubst tests/%.c,$(BUILD)/tests/%,$(TEST_SRC))
TEST_COMMON := $(wildcard tests/common/*.c)
# These start build/semd.
DAEMON_TESTS := $(filter $(BUILD)/tests/daemon/test_blackbox_% $(BUILD)/tests/daemon/test_aio_% \
                         $(BUILD)/tests/bench/test_blackbox_%,$(TESTS))

define test_program
$(BUILD)/tests/$(1)/%: $(BUILD)/obj/tests/$(1)/%.c.o $(call objects,$(TEST_COMMON)) $(call lib,$(up_to_$(1)))
	@mkdir -p $$(@D)
	$$(call say,LINK,$$@)
	$$(Q)$(CC) $(LDFLAGS) $$(TEST_LDFLAGS) $$^ $(LIBS) $(CHECK_LIBS) -o $$@
endef
$(foreach f,$(FOLDERS) project,$(eval $(call test_program,$(f))))

# Counts what the project's own code allocates; the system's libraries go by.
ALLOCATORS := malloc calloc realloc aligned_alloc strdup mmap
$(BUILD)/tests/model/test_no_allocation: TEST_LDFLAGS = $(ALLOCATORS:%=-Wl,--wrap=%)
$(BUILD)/tests/daemon/test_request_memory: TEST_LDFLAGS = $(patsubst %,-Wl$(comma)--wrap=%,$(ALLOCATORS) space_acquire_all jobs_tick \
    lexical_index_open meta_columns_merge dispatch_task writer_create pool_trim event_upkeep_create)

# Where an answer is about to be sent, the test waits.
$(BUILD)/tests/daemon/test_deleted: TEST_LDFLAGS = -Wl,--wrap=deletes_enter
# Where a search looks into an index.
$(BUILD)/tests/daemon/test_meanwhile: TEST_LDFLAGS = -Wl,--wrap=vector_index_search,--wrap=lexical_gather
# Where k-means begins.
$(BUILD)/tests/index/test_vector_threads: TEST_LDFLAGS = -Wl,--wrap=kmeans_train
# Where LMDB commits or writes, the test has it fail.
$(BUILD)/tests/index/test_store_faults: TEST_LDFLAGS = -Wl,--wrap=mdb_txn_commit,--wrap=mdb_put
$(BUILD)/tests/daemon/test_writer: TEST_LDFLAGS = -Wl,--wrap=mdb_txn_commit
# Where a folder is removed.
$(BUILD)/tests/index/test_events_upkeep: TEST_LDFLAGS = -Wl,--wrap=files_remove_folder
# And where a write is handed over.
$(BUILD)/tests/daemon/test_same_text: TEST_LDFLAGS = -Wl,--wrap=writer_create,--wrap=writer_submit

# Tests of the command line tools link what the tools are made of, save their mains.
$(BUILD)/tests/tools/%: $(BUILD)/obj/tests/tools/%.c.o $(call objects,$(TEST_COMMON)) \
                        $(call objects,$(filter-out tools/demo/main.c tools/semctl.c,$(demo_SRC) $(semctl_SRC))) $(call lib,$(up_to_tools))
	@mkdir -p $(@D)
	$(call say,LINK,$@)
	$(Q)$(CC) $(LDFLAGS) $^ $(LIBS) $(CHECK_LIBS) -o $@

# These run build/semtrain, and open what it made.
SEMTRAIN_TESTS := $(patsubst %.c,$(BUILD)/%,$(wildcard tests/tools/test_semtrain*.c))
$(SEMTRAIN_TESTS): $(BUILD)/%: $(BUILD)/obj/%.c.o $(call objects,$(TEST_COMMON)) $(call lib,$(up_to_finetune)) | $(BUILD)/semtrain
	@mkdir -p $(@D)
	$(call say,LINK,$@)
	$(Q)$(CC) $(LDFLAGS) $^ $(LIBS) $(CHECK_LIBS) -o $@

# The replay of the fuzz targets' seeds links the targets.
$(BUILD)/tests/fuzz/test_%: $(BUILD)/obj/tests/fuzz/test_%.c.o $(call objects,$(TEST_COMMON) tests/fuzz/targets.c) \
                            $(call lib,proto model base)
	@mkdir -p $(@D)
	$(call say,LINK,$@)
	$(Q)$(CC) $(LDFLAGS) $^ $(LIBS) $(CHECK_LIBS) -o $@

# What tokenizes is compiled once more with a call in every basic block, so that a
# test counts the steps of a text, and with the C library's work on bytes and memory
# going through that test.
COUNTED := $(addprefix model/,added_tokens.c bert_chars.c bert_text.c bpe.c bpe_long.c char_pattern.c characters.c charsmap.c \
             marks.c normalizer.c passages.c sentences.c splitter.c template.c text_form.c text_pipeline.c text_scratch.c tokenizer.c trie.c unigram.c \
             word_pattern.c wordpiece.c) base/buffer.c base/utf8.c
COUNTED_CALLS := malloc calloc realloc free memcpy memmove memset memcmp memchr memmem
COUNTED_FLAGS := -U_FORTIFY_SOURCE -fsanitize-coverage=trace-pc
counted_objects := $(patsubst %,$(BUILD)/obj/counted/%.o,$(COUNTED))

$(BUILD)/obj/counted/%.c.o: %.c $(BUILD)/flags
	@mkdir -p $(@D)
	$(call say,COUNT,$<)
	$(Q)$(CC) $(CPPFLAGS) $(CFLAGS) $(COUNTED_FLAGS) -MMD -MP -c $< -o $@

$(BUILD)/tests/model/test_hostile_texts: $(BUILD)/obj/tests/model/test_hostile_texts.c.o $(call objects,$(TEST_COMMON)) \
                                         $(counted_objects) $(call lib,$(up_to_model))
	@mkdir -p $(@D)
	$(call say,LINK,$@)
	$(Q)$(CC) $(LDFLAGS) $(addprefix -Wl$(comma)--wrap=,$(COUNTED_CALLS)) $^ $(LIBS) $(CHECK_LIBS) -o $@

.PHONY: check check-quick run-tests run-tests-quick test asan tsan
# Compiles J files at a time, unless make was told otherwise by -j.
check check-quick:
	@$(MAKE) --no-print-directory $(if $(findstring jobserver,$(MAKEFLAGS)),,-j$(J)) $(@:check%=run-tests%)

run-tests: $(TESTS) $(PROGRAMS) | model
	@SEMD_BUILD=$(BUILD) J=$(J) bash tools/run_tests.sh $(BUILD) $(TESTS)

run-tests-quick: $(filter-out $(DAEMON_TESTS),$(TESTS)) | model
	@SEMD_BUILD=$(BUILD) J=$(J) bash tools/run_tests.sh $(BUILD) $(filter-out $(DAEMON_TESTS),$(TESTS))

# Ten times the random operations of a check, and more rounds of killing.
.PHONY: torture
torture: $(BUILD)/tests/daemon/test_blackbox_model $(BUILD)/tests/daemon/test_blackbox_random $(PROGRAMS)
	@SEMD_BUILD=$(BUILD) SEMD_TEST_OPERATIONS=$${SEMD_TEST_OPERATIONS:-100000} $(BUILD)/tests/daemon/test_blackbox_model
	@SEMD_BUILD=$(BUILD) SEMD_TEST_ROUNDS=$${SEMD_TEST_ROUNDS:-40} $(BUILD)/tests/daemon/test_blackbox_random

# One test program: make test T=model/test_tokenizer
ifeq ($(T),)
test:
	@echo "make test runs one program and is told which: make test T=model/test_tokenizer" >&2; exit 2
else
test: $(BUILD)/tests/$(T) $(if $(filter $(BUILD)/tests/$(T),$(DAEMON_TESTS)),$(PROGRAMS))
	@SEMD_BUILD=$(BUILD) $(BUILD)/tests/$(T)
endif

asan: export ASAN_OPTIONS = detect_leaks=1:strict_string_checks=1:detect_stack_use_after_return=1
asan: export UBSAN_OPTIONS = print_stacktrace=1
asan: export LSAN_OPTIONS = suppressions=tests/lsan.supp:print_suppressions=0
asan: model
	@$(MAKE) --no-print-directory BUILD=build/asan HARDEN= OPTIMISE="-O1 -g" \
	    SANITIZE="-fsanitize=address,undefined -fno-sanitize-recover=undefined -fno-omit-frame-pointer" run-tests

tsan: export TSAN_OPTIONS = suppressions=tests/tsan.supp:history_size=7
tsan: model
	@$(MAKE) --no-print-directory BUILD=build/tsan HARDEN= OPTIMISE="-O1 -g" \
	    SANITIZE="-fsanitize=thread -fno-omit-frame-pointer" run-tests

-include $(wildcard $(patsubst %,$(BUILD)/obj/%.d,$(TEST_SRC) $(TEST_COMMON)) $(counted_objects:.o=.d))

# libFuzzer on everything that reads bytes nobody vouches for, FUZZ_SECONDS each. A
# finding ends it and stays in build/fuzz/TARGET; what was learnt stays in its corpus.
FUZZ_CC ?= $(shell { command -v clang || command -v clang-14 || echo clang; } 2>/dev/null)
FUZZ_SECONDS ?= 60
FUZZ_TARGETS ?= tokenizer text config safetensors request
FUZZ_PROGRAM := build/fuzz/build/fuzz

.PHONY: fuzz
fuzz:
	@$(MAKE) --no-print-directory CC='$(FUZZ_CC)' BUILD=build/fuzz/build HARDEN= WERROR= OPTIMISE="-O1 -g" \
	    SANITIZE="-fsanitize=fuzzer-no-link,address,undefined -fno-sanitize-recover=undefined" $(FUZZ_PROGRAM)
	@for t in $(FUZZ_TARGETS); do \
	    mkdir -p build/fuzz/$$t/corpus && echo "  FUZZ  $$t, $(FUZZ_SECONDS) s" && \
	    SEMD_FUZZ=$$t FUZZ_SEEDS=build/fuzz/$$t/corpus ./$(FUZZ_PROGRAM) -max_total_time=$(FUZZ_SECONDS) -max_len=8192 \
	        -timeout=20 -rss_limit_mb=3000 -verbosity=0 -print_final_stats=1 -artifact_prefix=build/fuzz/$$t/ \
	        build/fuzz/$$t/corpus >build/fuzz/$$t/log 2>&1 || \
	        { tail -n 40 build/fuzz/$$t/log; echo "found something: see build/fuzz/$$t"; exit 1; }; \
	    sed -n 's/^stat::number_of_executed_units: */        runs: /p' build/fuzz/$$t/log; \
	done

# No target gets as far as the kernels, and instrumenting their unrolled loops takes
# clang half a minute a file.
ifneq ($(findstring fuzzer-no-link,$(SANITIZE)),)
$(call objects,$(wildcard model/attention_*.c model/kernels_*.c model/packed_*.c)): CFLAGS := $(filter-out -fsanitize=% -fno-sanitize-recover=%,$(CFLAGS))
endif

$(FUZZ_PROGRAM): $(call objects,tests/fuzz/fuzz_main.c tests/fuzz/targets.c) $(call lib,proto model base)
	$(call say,LINK,$@)
	$(Q)$(CC) $(LDFLAGS) -fsanitize=fuzzer $^ $(LIBS) -o $@
