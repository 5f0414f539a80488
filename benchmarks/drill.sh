#!/bin/sh
# The book from a clone in awkward surroundings: a folder with a space and a letter beyond ASCII, a home that cannot be
# written, no network once the packages are there, two processes at once. Run: `benchmarks/drill.sh [PYTHON ...]`.
#
# PYTHON are interpreters with the packages of requirements.txt; `.venv/bin/python` if none is named. Each runs a part of
# what `make test` runs: a net, a card by two processes at once, some unit tests, a chapter under nbval. Where `unshare`
# may not take the network away, the drill says so and goes on with it. Nothing is written outside a temporary folder.
set -eu

here=$(cd "$(dirname "$0")/.." && pwd)
[ $# -gt 0 ] || set -- "$here/.venv/bin/python"
work=$(mktemp -d)
trap 'chmod -R u+w "$work"; rm -rf "$work"' EXIT
clone="$work/a book, schön"
git clone --quiet "$here" "$clone"
mkdir "$work/home" "$work/tmp"
chmod a-w "$work/home"

# A new network has no connection to itself until it is switched on, and a notebook's kernel is spoken to through it.
offline="unshare --net sh -c 'ip link set lo up && exec \"\$@\"' sh"
eval "$offline true" 2>/dev/null || { offline=""; echo "unshare is not allowed here: the network stays"; }
# Root may write where nobody may: then the home is one that does not exist and cannot be made.
[ "$(id -u)" != 0 ] || home=/proc/nobody
home=${home:-$work/home}

# In the clone, offline, without a home: what is run, and the end of its output if it fails.
drill() {
    echo "  $*"
    (
        cd "$clone"
        unset ATEXLIB_RESULTS
        export HOME="$home" XDG_CACHE_HOME="$home/.cache" XDG_DATA_HOME="$home/.data" MPLCONFIGDIR="$work/tmp"
        export TMPDIR="$work/tmp" PYTHONPATH="$clone/src" PYTHONDONTWRITEBYTECODE=1 OMP_NUM_THREADS=1
        export ATEXLIB_PRESET=smoke ATEXLIB_DATASET=digits ATEXLIB_DATA="$home/data"
        eval "$offline \"\$@\""
    ) >"$work/log" 2>&1 || { tail -n 25 "$work/log"; echo "the drill failed"; exit 1; }
}

for python in "$@"; do
    echo "$("$python" --version), $python"
    command="run table --dataset digits --attack untargeted --defense none --eps 0.05 --seed 0 --preset smoke"
    drill "$python" -m atexlib run undefended --dataset digits --preset smoke --seed 0
    drill sh -c "'$python' -m atexlib $command & '$python' -m atexlib $command && wait \$!"
    drill "$python" -m atexlib status
    drill "$python" -m pytest -q -p no:cacheprovider tests/test_alike.py tests/test_shape.py tests/test_house.py
    drill "$python" -m pytest -q -p no:cacheprovider --nbval-lax notebooks/00_start.ipynb
    left=$(git -C "$clone" status --porcelain -- . ':!src/atexlib/results')
    [ -z "$left" ] || { echo "left in the clone: $left"; exit 1; }
    git -C "$clone" clean -fdqx src
done
echo "the drill is done"
