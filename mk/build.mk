# Compiling: folder libraries, then the programs over them.

PACKAGES := libevent libevent_pthreads jansson libutf8proc inih libsystemd lmdb sqlite3 zlib \
            $(shell pkg-config --exists msgpack 2>/dev/null && echo msgpack || echo msgpack-c)
ifneq ($(filter-out $(NO_DEPS_GOALS),$(GOALS)),)
PKG_CFLAGS := $(shell pkg-config --cflags $(PACKAGES) openblas)
PKG_LIBS := $(shell pkg-config --libs $(PACKAGES))
CHECK_CFLAGS := $(shell pkg-config --cflags check 2>/dev/null)
CHECK_LIBS := $(shell pkg-config --libs check 2>/dev/null)
endif

# Debian lets the machine's owner choose which OpenBLAS "libopenblas" is. semd's
# workers call it from many threads at once, which only the pthread build allows
# without oversubscribing (the OpenMP one) or at all (the serial one).
MULTIARCH := $(shell $(CC) -print-multiarch 2>/dev/null)
OPENBLAS_PTHREAD := $(wildcard /usr/lib/$(MULTIARCH)/openblas-pthread)
ifneq ($(OPENBLAS_PTHREAD),)
OPENBLAS_LIBS := -L$(OPENBLAS_PTHREAD) -Wl,-rpath,$(OPENBLAS_PTHREAD) -lopenblas
else
OPENBLAS_LIBS := $(shell pkg-config --libs openblas 2>/dev/null)
endif

WERROR ?= -Werror
OPTIMISE ?= -O2 -g
HARDEN ?= -fstack-protector-strong -fPIE -D_FORTIFY_SOURCE=2
SANITIZE ?=
WARNINGS := -Wall -Wextra $(WERROR) -Wshadow -Wvla -Wpointer-arith -Wundef -Wformat=2
C_WARNINGS := $(WARNINGS) -Wstrict-prototypes -Wmissing-prototypes -Wold-style-definition
CPPFLAGS := -I. -D_GNU_SOURCE -DSEMD_VERSION='"$(VERSION)"' $(PKG_CFLAGS) $(CHECK_CFLAGS)
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

# What a program links beside the folders; the lower ones need less.
SMALL_LIBS := $(PKG_LIBS) -lm
# Debian's libroaring-dev has no pkg-config file.
LIBS := $(FAISS_LIBS) $(PKG_LIBS) -lroaring $(OPENBLAS_LIBS) -lgomp -lstdc++ -lm

FOLDERS := base model index finetune proto daemon
PROGRAMS := $(BUILD)/semd $(BUILD)/semctl $(BUILD)/semtrain

base_SRC := $(wildcard base/*.c)
model_SRC := $(wildcard model/*.c)
index_SRC := $(wildcard index/*.c) $(SHIM)
finetune_SRC := $(wildcard finetune/*.c)
proto_SRC := $(wildcard proto/*.c)
daemon_SRC := $(filter-out daemon/main.c,$(wildcard daemon/*.c))
semctl_SRC := $(wildcard tools/semctl*.c)
# Tables and progress look the same in both.
semtrain_SRC := $(wildcard tools/semtrain*.c) tools/semctl_text.c
demo_SRC := $(wildcard tools/demo/*.c)
bench_SRC := $(wildcard bench/bench_*.c)
bench_shared_SRC := $(filter-out $(bench_SRC),$(wildcard bench/*.c))
server_SRC := $(wildcard bench/server/*.c)

# What each program, and a test of each folder, may link.
up_to_base := base
up_to_model := model base
up_to_index := index model base
up_to_finetune := finetune index model base
up_to_proto := proto base
up_to_daemon := daemon finetune index model proto base
up_to_tools := proto index model base
up_to_project := base

objects = $(patsubst %,$(BUILD)/obj/%.o,$(1))
lib = $(patsubst %,$(BUILD)/lib%.a,$(1))

ifeq ($(V),1)
Q :=
say = @:
else
Q := @
say = @printf '  %-5s %s\n' $(1) $(2)
endif

# Everything depends on the flags it was built with, and a library on the list of
# its files: the two stamps are rewritten only when their content changes. (They are read
# by cat: make 4.3's $(file <) at times reads another end than the file has.)
ifneq ($(filter-out $(NO_DEPS_GOALS),$(GOALS)),)
stamp = $(shell mkdir -p $(BUILD))$(if $(call same,$(strip $(shell cat $(1) 2>/dev/null)),$(strip $(2))),,$(file >$(1),$(strip $(2))))
same = $(and $(findstring x$(1)x,x$(2)x),$(findstring x$(2)x,x$(1)x))
FLAGS := $(CC) $(CXX) $(CPPFLAGS) $(CFLAGS) $(CXXFLAGS) $(LDFLAGS) $(LIBS)
$(call stamp,$(BUILD)/flags,$(FLAGS))
$(foreach f,$(FOLDERS),$(call stamp,$(BUILD)/$(f).files,$($(f)_SRC)))
endif

.PHONY: all
all: $(PROGRAMS)

$(BUILD)/obj/%.c.o: %.c $(BUILD)/flags
	@mkdir -p $(@D)
	$(call say,CC,$<)
	$(Q)$(CC) $(CPPFLAGS) $(CFLAGS) -MMD -MP -c $< -o $@

$(BUILD)/obj/%.cpp.o: %.cpp $(BUILD)/flags
	@mkdir -p $(@D)
	$(call say,CXX,$<)
	$(Q)$(CXX) $(CPPFLAGS) $(CXXFLAGS) -MMD -MP -c $< -o $@

define folder_library
$(call lib,$(1)): $(call objects,$($(1)_SRC)) $(BUILD)/$(1).files
	$$(call say,AR,$$@)
	@rm -f $$@
	$$(Q)ar rcs $$@ $$(filter %.o,$$^)
endef
$(foreach f,$(FOLDERS),$(eval $(call folder_library,$(f))))

$(BUILD)/semd: $(call objects,daemon/main.c) $(call lib,$(up_to_daemon))
	$(call say,LINK,$@)
	$(Q)$(CC) $(LDFLAGS) $^ $(LIBS) -o $@

$(BUILD)/semctl: $(call objects,$(semctl_SRC)) $(call lib,$(up_to_tools))
	$(call say,LINK,$@)
	$(Q)$(CC) $(LDFLAGS) $^ $(SMALL_LIBS) -o $@

$(BUILD)/semtrain: $(call objects,$(semtrain_SRC)) $(call lib,$(up_to_daemon))
	$(call say,LINK,$@)
	$(Q)$(CC) $(LDFLAGS) $^ $(LIBS) -o $@

$(BUILD)/semd-demo: $(call objects,$(demo_SRC)) $(call lib,$(up_to_tools))
	$(call say,LINK,$@)
	$(Q)$(CC) $(LDFLAGS) $^ $(SMALL_LIBS) -o $@

# The load generator speaks to other servers through their own clients.
$(BUILD)/bench_server: $(call objects,$(server_SRC) bench/numbers.c) $(call lib,proto base)
	$(call say,LINK,$@)
	$(Q)$(CC) $(LDFLAGS) $^ $(SMALL_LIBS) $$(pkg-config --libs hiredis libpq) -o $@

# Benchmarks stand beside the daemon's libraries: bench/bench_x.c -> build/bench_x.
$(BUILD)/bench_%: $(BUILD)/obj/bench/bench_%.c.o $(call objects,$(bench_shared_SRC)) $(call lib,$(up_to_daemon))
	$(call say,LINK,$@)
	$(Q)$(CC) $(LDFLAGS) $(filter %.o,$^) $(filter %.a,$^) $(LIBS) -o $@

# These call the daemon as the load generator does.
$(BUILD)/bench_start $(BUILD)/bench_flip: $(call objects,bench/server/caller.c bench/server/bench_daemon.c)

OBJECTS := $(call objects,$(foreach f,$(FOLDERS),$($(f)_SRC)) daemon/main.c $(semctl_SRC) $(semtrain_SRC) $(demo_SRC) $(bench_SRC) $(bench_shared_SRC) $(server_SRC))
-include $(wildcard $(OBJECTS:.o=.d))
