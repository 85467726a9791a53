#!/usr/bin/env bash
# Everything that needs an NVIDIA GPU, in one call of less than nine minutes: tests, checks of exported files, speed as a
# share of the matrix rate. Writes docs/gpu.md and docs/gpu.json; without a GPU it says so, exits 2 and writes nothing.
#
#     scripts/gpu_check.sh [--wheels FOLDER] [--dry-run] [--only vitpose-b] [--output docs]
#
# The python of $PYTHON (default python3) must have torch. What else is missing comes from the wheels in FOLDER, or from
# the package index when no folder is given, into a folder of its own that is removed afterwards.
set -euo pipefail
cd "$(dirname "$0")/.."
python=${PYTHON:-python3}
wheels=()
if [[ ${1:-} == --wheels ]]; then
    wheels=(--no-index --find-links "${2:?--wheels needs a folder}")
    shift 2
fi
if [[ " $* " != *" --dry-run "* ]]; then
    missing=$("$python" scripts/gpu_check.py --missing)
    if [[ -n $missing ]]; then
        site=$(mktemp -d)
        trap 'rm -rf "$site"' EXIT
        # shellcheck disable=SC2086  # several names
        "$python" -m pip install --quiet --no-deps --target "$site" "${wheels[@]}" $missing || {
            echo "gpu_check: expected $missing, found none of it to install; pass --wheels FOLDER" >&2
            exit 2
        }
        export PYTHONPATH=$site${PYTHONPATH:+:$PYTHONPATH}
    fi
fi
"$python" scripts/gpu_check.py "$@"
