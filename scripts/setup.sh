#!/usr/bin/env bash
# Makes the virtual environment .venv with hpe-lite in it, from constraints.txt; does nothing when it is already up to date.
#
#   scripts/setup.sh [EXTRAS]        for example: scripts/setup.sh test
#
# PYTHON names the interpreter to start from (3.11 or newer; default python3), HPE_LITE_VENV another folder.
set -euo pipefail
cd "$(dirname "$0")/.."
extras="${1:-}"
venv="${HPE_LITE_VENV:-.venv}"
python="${PYTHON:-python3}"

"$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || {
    echo "hpe-lite needs Python 3.11 or newer; '$python' is $("$python" --version 2>&1). Set PYTHON to another interpreter." >&2
    exit 2
}
wanted="$(cat pyproject.toml constraints.txt | cksum) $PWD"
stamp="$venv/.hpe-lite-${extras:-base}"
if [ -x "$venv/bin/hpe-lite" ] && [ "$(cat "$stamp" 2>/dev/null)" = "$wanted" ]; then
    exit 0
fi
[ -x "$venv/bin/python" ] || "$python" -m venv "$venv"
echo "installing hpe-lite into $venv (once; a few minutes) ..." >&2
"$venv/bin/python" -m pip install --quiet --disable-pip-version-check -c constraints.txt -e ".${extras:+[$extras]}" >&2
# Written last: an interrupted installation is taken up again by the next run.
printf '%s' "$wanted" >"$stamp"
