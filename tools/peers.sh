#!/usr/bin/env bash
# Make sure that a program which pip cannot bring is here: peers.sh NAME...
#
# Installs it with apt when we are root on a machine that has apt. What is merely compared with or
# tested with (redis-server, memcached, chromium, spin, valgrind) is named as missing and left out; without a C
# compiler or Python's headers nothing can be built, so those are errors.
set -euo pipefail

apt_install() {
    if [ "$(id -u)" -ne 0 ] || ! command -v apt-get >/dev/null; then
        return 1
    fi
    echo "  installing $* with apt-get (a minute or two)"
    export DEBIAN_FRONTEND=noninteractive
    local options=(--yes --quiet --no-install-recommends -o DPkg::Lock::Timeout=300)
    # One at a time: apt waits for another's installation, but not for its list of packages.
    {
        flock 9
        apt-get install "${options[@]}" "$@" >/dev/null 2>&1 ||
            { apt-get update --quiet >/dev/null && apt-get install "${options[@]}" "$@" >/dev/null; }
    } 9>"${TMPDIR:-/tmp}/pmemcache-apt.lock"
}

# A program of the comparison or of a test: nothing breaks without it.
want() {
    local program=$1
    if command -v "$program" >/dev/null || { apt_install "$program" && command -v "$program" >/dev/null; }; then
        echo "  $program: $(command -v "$program")"
    else
        echo "  $program is missing and cannot be installed here (that takes root and apt):" \
            "what needs it is left out, and the report says so"
    fi
}

need_compiler() {
    if command -v cc >/dev/null || { apt_install gcc libc6-dev && command -v cc >/dev/null; }; then
        echo "  C compiler: $(cc --version | head -n 1)"
    else
        echo "  no C compiler (cc): install gcc or clang" >&2
        exit 1
    fi
}

need_python_headers() {
    local python=${PYTHON:-python3} header
    header="$("$python" -c 'import sysconfig; print(sysconfig.get_path("include"))')/Python.h"
    if [ -e "$header" ] || { apt_install python3-dev && [ -e "$header" ]; }; then
        echo "  Python: $("$python" --version) with headers"
    else
        echo "  $header is missing: install the development files of $python (python3-dev)" >&2
        exit 1
    fi
}

# Can clang link a fuzzer? Its runtime is a package of its own in some systems.
clang_fuzzes() {
    local program status=0
    command -v clang >/dev/null || return 1
    program=$(mktemp)
    echo 'int LLVMFuzzerTestOneInput(const char *d, unsigned long s) { return d && s > 9; }' |
        clang -fsanitize=fuzzer,address -x c - -o "$program" 2>/dev/null || status=1
    rm -f "$program"
    return "$status"
}

# clang with what its fuzzer links, which carries clang's number.
need_clang() {
    local version
    if ! clang_fuzzes && apt_install clang; then
        version=$(clang -dumpversion | cut -d. -f1)
        clang_fuzzes || apt_install "libclang-rt-$version-dev" || true
    fi
    if clang_fuzzes; then
        echo "  clang: $(clang --version | head -n 1)"
    else
        echo "  no clang that can fuzz: install it with its compiler-rt" >&2
        exit 1
    fi
}

# The headers that pylibmc is built with.
want_libmemcached() {
    apt_install libmemcached-dev zlib1g-dev || echo "  libmemcached-dev cannot be installed here"
}

for name in "$@"; do
    case $name in
    libmemcached) want_libmemcached ;;
    clang) need_clang ;;
    compiler) need_compiler ;;
    python-headers) need_python_headers ;;
    *) want "$name" ;;
    esac
done
