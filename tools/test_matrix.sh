#!/usr/bin/env bash
# Run `make test` in a fresh clone for each supported version of Python, and on the upstream stack.
#
#   tools/test_matrix.sh [FOLDER] ["PYTHON STACK" ...]
#
# FOLDER gets a clone, its environment and a log for each row (about 2 GB each, 7 GB with a CUDA build of torch) and the
# table, results.md; a row that is in the table already is left out. A Python that is not installed gets its own row.
set -uo pipefail
ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
FOLDER=${1:-$ROOT/work_dirs/matrix}
shift $(($# > 0))
ROWS=("$@")
[ ${#ROWS[@]} -gt 0 ] || ROWS=('3.10 openmmlab' '3.11 openmmlab' '3.12 openmmlab' '3.13 openmmlab' '3.11 upstream')

mkdir -p "$FOLDER"
TABLE=$FOLDER/results.md
[ -f "$TABLE" ] || printf '| Python | stack | commit | date | result |\n| --- | --- | --- | --- | --- |\n' >"$TABLE"
commit=$(git -C "$ROOT" rev-parse --short HEAD)
failed=0
for row in "${ROWS[@]}"; do
    read -r python stack <<<"$row"
    grep -q "^| $python | $stack | $commit " "$TABLE" && continue
    name=py$python-$stack
    if ! "python$python" --version >/dev/null 2>&1; then
        result='not run: this Python is not installed'
        failed=1
    else
        rm -rf "${FOLDER:?}/$name"
        git clone --quiet "$ROOT" "$FOLDER/$name"
        echo "[matrix] Python $python, $stack: log in $FOLDER/$name.log"
        PYTHON=python$python STACK=$stack make -C "$FOLDER/$name" test >"$FOLDER/$name.log" 2>&1 || failed=1
        result=$(grep -E '^=+ .*(passed|failed|error).* =+$|^[0-9]+ (passed|failed).* in ' "$FOLDER/$name.log" | tail -n 1 | tr -d '=')
        [ -n "$result" ] || result="no test was run: $(tail -n 1 "$FOLDER/$name.log")"
    fi
    echo "| $python | $stack | $commit | $(date +%F) | ${result# } |" >>"$TABLE"
done
cat "$TABLE"
exit $failed
