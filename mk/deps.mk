# What is missing is found before anything else is evaluated: pkg-config's answers
# would be empty on a machine that has nothing yet. Then every goal becomes "install,
# and start make again".

GOALS := $(or $(MAKECMDGOALS),all)
NO_DEPS_GOALS := help clean format lint install-files
BUILD_ONLY_GOALS := all install $(BUILD)/semd $(BUILD)/semctl $(BUILD)/semtrain
MISSING :=
ifneq ($(filter-out $(NO_DEPS_GOALS),$(GOALS)),)
ifeq ($(filter-out $(BUILD_ONLY_GOALS) $(NO_DEPS_GOALS),$(GOALS)),)
DEPS_SET := build
else
DEPS_SET := all
endif
ifneq ($(filter fuzz,$(GOALS)),)
DEPS_SET := fuzz
endif
ifneq ($(filter bench-server bench-server-quick,$(GOALS)),)
DEPS_SET := server
endif
ifneq ($(filter bench-train bench-quality,$(GOALS)),)
DEPS_SET := train
endif
MISSING := $(shell PYTHON='$(PYTHON)' sh tools/deps.sh --missing $(DEPS_SET))
endif

ifneq ($(MISSING),)
.PHONY: $(GOALS) install-and-go-on
$(GOALS): install-and-go-on ;
install-and-go-on:
	@PYTHON='$(PYTHON)' sh tools/deps.sh --install $(DEPS_SET)
# A dry run installs nothing, and would start itself for ever.
ifeq ($(findstring n,$(firstword -$(MAKEFLAGS))),)
	@$(MAKE) --no-print-directory $(GOALS)
endif
else
deps: ; @:
endif
