# semd: make, make check, make demo; "make help" lists the rest.
#
# Every folder in FOLDERS is a library, in the order in which they may depend on
# each other. A test in tests/FOLDER links the libraries up to its folder and no
# further, so that the order is checked by the linker as well.

CC ?= gcc
CXX ?= g++
ifeq ($(origin CC),default)
CC := gcc
endif
ifeq ($(origin CXX),default)
CXX := g++
endif
BUILD ?= build
PREFIX ?= /usr/local
DESTDIR ?=
PYTHON ?= python3
V ?= 0
VERSION := 0.1.0

.DEFAULT_GOAL := all
.DELETE_ON_ERROR:
.SECONDARY:

include mk/deps.mk

# While something is missing there is nothing to say about compiling: deps.mk
# installs it and starts make again.
ifeq ($(MISSING),)
include mk/build.mk
include mk/tests.mk
include mk/demo.mk
include mk/loop.mk
include mk/install.mk
include mk/lint.mk
endif

.PHONY: help clean deps
help:
	@sed -n 's/^#: //p' mk/help.txt

clean:
	@echo "  CLEAN $(BUILD) (the model, the demo's texts and bench-ann's vectors stay: rm -r $(BUILD) removes them too)"
	@for f in $(wildcard $(BUILD)/*); do \
	    case $$f in $(BUILD)/models|$(BUILD)/demo|$(BUILD)/venv|$(BUILD)/ann) ;; *) rm -rf "$$f" ;; esac; \
	done
