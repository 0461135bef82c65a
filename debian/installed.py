"""The targets to build for an installation: from "meson introspect --installed" on standard input, those that lie in the build tree."""
import json, os, sys

build = [d for d in os.listdir(".") if d.startswith("obj-")][0]
build = os.path.abspath(build) + "/"
print(" ".join(sorted(f[len(build):] for f in json.load(sys.stdin) if f.startswith(build) and not f.endswith(".service"))))
