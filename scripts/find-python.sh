#!/usr/bin/env bash
# Print the Python that .venv is made with, or say in one line what is missing.
# PYTHON overrides; else the first that fits of python3, python3.13, python3.12, python3.11.
set -euo pipefail

probe='
import sys
if not (3, 11) <= sys.version_info[:2] < (3, 14):
    sys.exit("is Python %d.%d" % sys.version_info[:2])
try:
    import ensurepip, venv
except ImportError:
    sys.exit("has no venv and pip (Debian, Ubuntu: apt-get install python%d.%d-venv)" % sys.version_info[:2])
print(sys.executable)
'

found=""
for candidate in ${PYTHON:-python3 python3.13 python3.12 python3.11}; do
    command -v "$candidate" >/dev/null || continue
    if answer=$("$candidate" -c "$probe" 2>&1); then
        echo "$answer"
        exit 0
    fi
    # A pyenv shim without its version answers in several lines: the first says enough.
    found+="; $candidate ${answer%%$'\n'*}"
done

echo "Python 3.11, 3.12 or 3.13 with venv is needed${found:-; ${PYTHON:-python3} was not found}." \
    "Choose one with: make PYTHON=/path/to/python3.11" >&2
exit 1
