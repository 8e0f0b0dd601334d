#!/bin/sh
# preflight.sh PYTHON: check that this machine has what a build needs, and resolve PYTHON (a command, a path, or a
# version such as 3.12 or 3.14t) for the Makefile. Prints one line: "ok PATH TAG VERSION", or "need WHAT AND HOW".

python=$1
here=$(dirname "$0")
about='import sys, sysconfig
t = "t" if sysconfig.get_config_var("Py_GIL_DISABLED") else ""
print(sys.executable, "%d.%d" % sys.version_info[:2] + t, "%d.%d.%d" % sys.version_info[:3], sys.implementation.name)'

need() {
    printf 'need %s\n' "$*"
    exit 0
}

describe() {
    command -v "$1" >/dev/null 2>&1 && "$1" -I -c "$about" 2>/dev/null
}

# ------------------------------------------------------------------------------------------------ the interpreter
facts=$(describe "$python")
if [ -z "$facts" ]; then
    tag=${python#python}
    case $tag in
    3.*)
        # Not on PATH by that name: it may still be in pyenv, in uv's care, or among those that tools/python.py made.
        if [ -n "$(describe python3)" ]; then
            facts=$(describe "$(python3 "$here/python.py" --find "$tag" 2>/dev/null)")
        fi
        [ -n "$facts" ] || need "CPython $tag, which is not on this machine: install it with 'python3 tools/python.py $tag'"
        ;;
    *) need "$python, which is not on this machine: install CPython 3.11 or newer, or name one: make PYTHON=python3.12" ;;
    esac
fi
# shellcheck disable=SC2086 # the four facts hold no blanks unless the path does, which pip and venv dislike as well
set -- $facts
case $4 in cpython) ;; *) need "CPython; $python is $4" ;; esac
case $2 in
3.[0-9] | 3.10 | 2.*) need "CPython 3.11 or newer, and $python is $3: install one, or name it: make PYTHON=python3.12" ;;
esac
"$1" -I -c 'import venv, ensurepip' 2>/dev/null ||
    need "the venv module of $python: install it (on Debian and Ubuntu: apt-get install python3-venv)"

# ---------------------------------------------------------------------------------------------------- the toolchain
command -v cargo >/dev/null 2>&1 || need "cargo: install Rust from https://rustup.rs"
minimum=$(sed -n 's/^rust-version *= *"\(.*\)"/\1/p' "$here/../Cargo.toml")
rust=$(rustc --version 2>/dev/null | cut -d' ' -f2)
[ -n "$rust" ] || need "rustc: install Rust from https://rustup.rs"
oldest=$(printf '%s\n%s\n' "$minimum" "$rust" | sort -V | head -n 1)
[ "$oldest" = "$minimum" ] || need "Rust $minimum or newer, and rustc is $rust: run 'rustup update stable'"
command -v cc >/dev/null 2>&1 || need "cc, a C compiler that links: install one (on Debian and Ubuntu: apt-get install build-essential)"

printf 'ok %s %s %s\n' "$1" "$2" "$3"
