# The house style, by machine: .clang-format and .clang-tidy hold the rules.

OUR_C := $(wildcard base/*.[ch] model/*.[ch] index/*.[ch] finetune/*.[ch] proto/*.[ch] daemon/*.[ch] \
           tools/*.[ch] tools/demo/*.[ch] bench/*.[ch] bench/server/*.[ch] bench/clicksim/*.[ch] bench/online/*.[ch] tests/*/*.[ch])
OUR_CPP := $(wildcard index/*.cpp)
LINTED_C := $(filter %.c,$(filter-out tests/%,$(OUR_C)))
CLANG_FORMAT ?= clang-format
CLANG_TIDY ?= clang-tidy

.PHONY: format lint
format:
	@command -v $(CLANG_FORMAT) >/dev/null || { echo "make format needs clang-format (apt-get install clang-format)"; exit 1; }
	$(CLANG_FORMAT) -i $(OUR_C) $(OUR_CPP)

lint:
	@command -v $(CLANG_FORMAT) >/dev/null && command -v $(CLANG_TIDY) >/dev/null || \
	    { echo "make lint needs clang-format and clang-tidy (apt-get install clang-format clang-tidy)"; exit 1; }
	@echo "  LINT  clang-format on $(words $(OUR_C) $(OUR_CPP)) files"
	@$(CLANG_FORMAT) --dry-run --Werror $(OUR_C) $(OUR_CPP)
	@echo "  LINT  clang-tidy on $(words $(LINTED_C)) files"
	@$(CLANG_TIDY) --quiet --warnings-as-errors='*' $(LINTED_C) -- -std=c17 -I. -D_GNU_SOURCE \
	    -DSEMD_VERSION='"$(VERSION)"' $$(pkg-config --cflags $(PACKAGES) openblas check)
