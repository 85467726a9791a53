#!/usr/bin/env bash
# Sets everything up, then checks the style and runs all tests; arguments are handed to pytest.
#
#   scripts/test.sh
set -euo pipefail
cd "$(dirname "$0")/.."
scripts/setup.sh test
venv="${HPE_LITE_VENV:-.venv}"
"$venv/bin/ruff" check .
"$venv/bin/ruff" format --check .
# One thread a worker: two processes share the cores better than one process with many small parallel regions.
export OMP_NUM_THREADS="${OMP_NUM_THREADS:-1}"
exec "$venv/bin/python" -m pytest -n "${HPE_LITE_TEST_WORKERS:-auto}" "$@"
