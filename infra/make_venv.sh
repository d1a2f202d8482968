#!/bin/sh
# Make a virtual environment with the first Python that is new enough: make_venv.sh FOLDER
# One that is there and works is kept. PYTHON=/path/to/python chooses another.
set -eu
venv=$1

usable() { # is this a Python of 3.11 or newer that runs?
    "$1" -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1
}

if usable "$venv/bin/python" && "$venv/bin/python" -m pip --version >/dev/null 2>&1; then
    exit 0
fi
rm -rf "$venv"

python=
for candidate in ${PYTHON:-python3.11 python3 python3.12 python3.13 python3.14}; do
    if usable "$candidate"; then
        python=$candidate
        break
    fi
done
if [ -z "$python" ]; then
    echo "Millrace needs Python 3.11 or newer, and found none as ${PYTHON:-python3.11 or python3}." >&2
    echo "Install one, or name it: make install PYTHON=/path/to/python3" >&2
    exit 1
fi

if ! "$python" -c 'import ensurepip, venv' >/dev/null 2>&1; then # Debian ships these apart
    version=$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])')
    if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null 2>&1; then
        apt-get update -qq
        DEBIAN_FRONTEND=noninteractive apt-get install -y -qq "python$version-venv" >/dev/null
    else
        echo "$python cannot make virtual environments. As root: apt-get install python$version-venv" >&2
        exit 1
    fi
fi
"$python" -m venv "$venv"
