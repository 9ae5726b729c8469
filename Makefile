# semd: make, make check, make demo; "make help" lists the rest.
#
# Every folder below is a library, in the order in which they may depend on each
# other. A test in tests/FOLDER links the libraries up to its folder and no
# further, so that the order is checked by the linker as well.

CC ?= gcc
CXX ?= g++
BUILD ?= build
PREFIX ?= /usr/local
DESTDIR ?=
PYTHON ?= python3
VERSION := 0.1.0

ifeq ($(origin CC),default)
CC := gcc
endif

PACKAGES := libevent libevent_pthreads jansson libutf8proc inih libsystemd lmdb openblas $(shell pkg-config --exists msgpack && echo msgpack || echo msgpack-c)
ifneq ($(filter-out deps help clean format lint distclean,$(or $(MAKECMDGOALS),all)),)
PKG_CFLAGS := $(shell pkg-config --cflags $(PACKAGES) 2>/dev/null)
PKG_LIBS := $(shell pkg-config --libs $(PACKAGES) 2>/dev/null)
endif

WARNINGS := -Wall -Wextra -Werror -Wshadow -Wvla -Wpointer-arith -Wundef -Wformat=2
C_WARNINGS := $(WARNINGS) -Wstrict-prototypes -Wmissing-prototypes -Wold-style-definition
OPTIMISE ?= -O2 -g
HARDEN := -fstack-protector-strong -fPIE -D_FORTIFY_SOURCE=2
SANITIZE ?=
CPPFLAGS := -I. -D_GNU_SOURCE -DSEMD_VERSION='"$(VERSION)"' $(PKG_CFLAGS)
CFLAGS := -std=c17 $(OPTIMISE) $(HARDEN) $(C_WARNINGS) $(SANITIZE) -pthread
CXXFLAGS := -std=c++17 $(OPTIMISE) $(HARDEN) $(WARNINGS) $(SANITIZE) -pthread
LDFLAGS := -pie -Wl,-z,relro,-z,now $(SANITIZE) -pthread

# Debian's libfaiss has no C interface: index/faiss_c_shim.cpp supplies it.
# FAISS_C=system links an upstream libfaiss_c instead.
FAISS_C ?= shim
ifeq ($(FAISS_C),system)
FAISS_LIBS := -lfaiss_c -lfaiss
SHIM :=
else
FAISS_LIBS := -lfaiss
SHIM := index/faiss_c_shim.cpp
endif
LIBS := $(FAISS_LIBS) $(PKG_LIBS) -lgomp -lstdc++ -lm

FOLDERS := base model index finetune proto daemon
PROGRAMS := $(BUILD)/semd $(BUILD)/semctl

objects = $(patsubst %,$(BUILD)/obj/%.o,$(1))
base_SRC := $(wildcard base/*.c)
model_SRC := $(wildcard model/*.c)
index_SRC := $(wildcard index/*.c) $(SHIM)
finetune_SRC := $(wildcard finetune/*.c)
proto_SRC := $(wildcard proto/*.c)
daemon_SRC := $(filter-out daemon/main.c,$(wildcard daemon/*.c))
semctl_SRC := $(wildcard tools/semctl*.c)
lib = $(patsubst %,$(BUILD)/lib%.a,$(1))

# What a test of each folder, and each program, may link.
up_to_base := base
up_to_model := model base
up_to_index := index model base
up_to_finetune := finetune index model base
up_to_proto := proto base
up_to_daemon := daemon finetune index model proto base
up_to_tools := proto base

.PHONY: all help deps model check check-quick test demo bench-demo install clean distclean asan format lint
all: $(PROGRAMS)

$(BUILD)/obj/%.c.o: %.c
	@mkdir -p $(@D)
	$(CC) $(CPPFLAGS) $(CFLAGS) -MMD -MP -c $< -o $@

$(BUILD)/obj/%.cpp.o: %.cpp
	@mkdir -p $(@D)
	$(CXX) $(CPPFLAGS) $(CXXFLAGS) -MMD -MP -c $< -o $@

define folder_library
$(call lib,$(1)): $(call objects,$($(1)_SRC))
	@rm -f $$@
	ar rcs $$@ $$^
endef
$(foreach f,$(FOLDERS),$(eval $(call folder_library,$(f))))

$(BUILD)/semd: $(call objects,daemon/main.c) $(call lib,$(up_to_daemon))
	$(CC) $(LDFLAGS) $^ $(LIBS) -o $@

$(BUILD)/semctl: $(call objects,$(semctl_SRC)) $(call lib,$(up_to_tools))
	$(CC) $(LDFLAGS) $^ $(LIBS) -o $@

# --- tests: every tests/FOLDER/test_*.c is a program of its own
TEST_SRC := $(wildcard tests/*/test_*.c)
TESTS := $(patsubst tests/%.c,$(BUILD)/tests/%,$(TEST_SRC))
TEST_COMMON := $(wildcard tests/common/*.c)
CHECK_LIBS = $(shell pkg-config --libs check)

define test_program
$(BUILD)/tests/$(1)/%: $(BUILD)/obj/tests/$(1)/%.c.o $(call objects,$(TEST_COMMON)) $(call lib,$(up_to_$(1)))
	@mkdir -p $$(@D)
	$(CC) $(LDFLAGS) $$^ $(LIBS) $$(CHECK_LIBS) -o $$@
endef
$(foreach f,$(FOLDERS) tools,$(eval $(call test_program,$(f))))
.PRECIOUS: $(BUILD)/obj/%.c.o

# One test program: make test T=model/test_tokenizer
test: $(BUILD)/tests/$(T)
	$(BUILD)/tests/$(T)

-include $(shell find $(BUILD)/obj -name '*.d' 2>/dev/null)
