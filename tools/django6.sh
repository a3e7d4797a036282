#!/usr/bin/env bash
# Run the Django tests under the newest Django 6: django6.sh VENV WHEEL TESTS...
#
# Django 6 needs Python >= 3.12; the newest one on the path or under ~/.pyenv is taken. Without one
# the tests are left out, and this says so. REPORT names the JUnit file to write.
set -euo pipefail

venv=$1 wheel=$2
shift 2

find_python() {
    local candidate
    for candidate in python3.14 python3.13 python3.12 \
        ~/.pyenv/versions/3.14*/bin/python3 ~/.pyenv/versions/3.13*/bin/python3 ~/.pyenv/versions/3.12*/bin/python3 python3; do
        if command -v "$candidate" >/dev/null &&
            "$candidate" -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 12))' 2>/dev/null; then
            command -v "$candidate"
            return
        fi
    done
    return 1
}

if ! python=$(find_python); then
    echo "  no Python >= 3.12 here: Django 6 is left out"
    exit 0
fi
if [ ! -e "$venv/.ready" ]; then
    echo "  making $venv with $("$python" --version)"
    "$python" -m venv --clear "$venv"
    "$venv/bin/python" -m pip install --quiet --disable-pip-version-check --upgrade pip
    touch "$venv/.ready"
fi
"$venv/bin/python" -m pip install --quiet --disable-pip-version-check 'django>=6,<7' \
    django-debug-toolbar msgpack prometheus-client pytest pytest-django pytest-timeout pytest-xdist "$wheel"
"$venv/bin/python" -m pip install --quiet --disable-pip-version-check --force-reinstall --no-deps "$wheel"
echo "  Django $("$venv/bin/python" -m django --version) on $("$venv/bin/python" --version)"
"$venv/bin/pytest" --junitxml="$REPORT" "$@"
