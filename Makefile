# Thin: everything is meson's. `make demo` and `make check` are all that a fresh machine needs.
BUILD ?= build
DEPS = meson ninja-build pkg-config gcc libc6-dev libuv1-dev libraft-dev libssl-dev libjansson-dev libfuse3-dev libseccomp-dev \
	libxxhash-dev uthash-dev scdoc mandoc iproute2 nftables procps psmisc python3-minimal openssl

# What only "make deb" needs.
DEB_DEPS = debhelper dpkg-dev fakeroot

all: $(BUILD)/build.ninja
	ninja -C $(BUILD)

$(BUILD)/build.ninja:
	meson setup $(BUILD)

# Installs what is missing of Debian's packages (as root; else says what to install).
deps:
	@missing=""; for p in $(DEPS) $(MORE_DEPS); do dpkg-query -W -f='$${Status}' $$p 2>/dev/null | grep -q 'ok installed' || missing="$$missing $$p"; done; \
	if [ -n "$$missing" ]; then \
		if [ "$$(id -u)" != 0 ]; then echo "install as root: apt-get install$$missing"; exit 1; fi; \
		apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $$missing >/dev/null; \
	fi

check: deps
	@$(MAKE) --no-print-directory all
	@tests/run-all $(BUILD)

# DESTDIR=... installs below another root. PREFIX counts at the first build only: meson setup --prefix.
# Three trial nodes on this machine build a real tree; needs root.
demo: deps
	@$(MAKE) --no-print-directory all
	@tools/demo $(BUILD)

install: all
	meson install -C $(BUILD) --no-rebuild

# The Debian package: $(BUILD)/pando_VERSION_ARCH.deb.
deb:
	@$(MAKE) --no-print-directory deps MORE_DEPS="$(DEB_DEPS)"
	@tools/make-deb $(BUILD)

clean:
	rm -rf $(BUILD)

.PHONY: all deps demo check install deb clean
