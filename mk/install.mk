# make install PREFIX=/usr DESTDIR=/tmp/package

BINDIR := $(DESTDIR)$(PREFIX)/bin
SYSCONFDIR ?= $(if $(filter /usr,$(PREFIX)),/etc,$(PREFIX)/etc)
UNITDIR ?= $(PREFIX)/lib/systemd/system
MANDIR := $(DESTDIR)$(PREFIX)/share/man
CONF := $(wildcard conf/*.conf)
UNITS := $(wildcard systemd/*.service systemd/*.socket systemd/*.timer)
MANUAL := $(wildcard docs/man/*.[158])

# The units in the tree name the places of this prefix; they are rewritten for others.
UNIT_PREFIX := /usr/local
UNIT_SYSCONFDIR := /usr/local/etc

.PHONY: install install-files
install: all install-files

# Without asking whether the programs are up to date. A configuration that the
# machine's owner has changed stays; the new one is put beside it.
install-files: $(if $(filter install,$(GOALS)),| all)
	$(call say,INST,$(BINDIR))
	$(Q)install -d $(BINDIR) && install -m 755 $(PROGRAMS) $(BINDIR)
	$(Q)install -d $(DESTDIR)$(SYSCONFDIR)/semd $(DESTDIR)$(UNITDIR)
	$(Q)for f in $(CONF); do \
	    to=$(DESTDIR)$(SYSCONFDIR)/semd/$$(basename $$f); \
	    if [ -e "$$to" ] && ! cmp -s "$$f" "$$to"; then \
	        echo "  KEPT  $$to (the new one is $$to.new)"; to=$$to.new; \
	    fi; \
	    install -m 644 "$$f" "$$to"; \
	done
	$(Q)for f in $(UNITS); do \
	    sed -e 's|$(UNIT_PREFIX)/bin/|$(PREFIX)/bin/|g' -e 's|$(UNIT_SYSCONFDIR)/semd/|$(SYSCONFDIR)/semd/|g' "$$f" \
	        >$(DESTDIR)$(UNITDIR)/$$(basename $$f) && chmod 644 $(DESTDIR)$(UNITDIR)/$$(basename $$f); \
	done
	$(Q)for f in $(MANUAL); do \
	    install -d $(MANDIR)/man$${f##*.} && install -m 644 "$$f" $(MANDIR)/man$${f##*.}; \
	done
