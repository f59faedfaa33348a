#!/bin/sh
# Make the virtual environment $1, with a recent pip in it, from the first Python >= 3.11 that is found.
set -eu
venv=$1

for python in ${PYTHON:-python3 python3.14 python3.13 python3.12 python3.11}; do
    if "$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then break; fi
    python=
done
if [ -z "$python" ]; then
    echo "etcdleader needs Python 3.11 or newer, and found none. Name one: make PYTHON=/path/to/python3" >&2
    exit 1
fi
echo "Making $venv with $("$python" --version) ..."

rm -rf "$venv"
if "$python" -c 'import ensurepip' 2>/dev/null; then
    "$python" -m venv "$venv"
else
    # Debian and Ubuntu keep ensurepip out of python3. Their pip wheel can be had without being root.
    "$python" -m venv --without-pip "$venv"
    if ! (
        mkdir "$venv/deb" && cd "$venv/deb" &&
        apt-get -qq download python3-pip-whl && dpkg-deb -x python3-pip-whl_*.deb .
    ) 2>/dev/null; then
        rm -rf "$venv"
        echo "This Python cannot make a virtual environment. Mend it, then try again:" >&2
        echo "    sudo apt-get update && sudo apt-get install python3-venv" >&2
        exit 1
    fi
    for wheel in "$venv"/deb/usr/share/python-wheels/pip-*.whl; do :; done
    PYTHONPATH=$wheel "$venv/bin/python" -m pip install -qq --disable-pip-version-check pip
    rm -rf "$venv/deb"
fi
# 25.1 is the first that knows dependency groups.
"$venv/bin/python" -m pip install -qq --disable-pip-version-check --upgrade 'pip>=25.1'
