#!/usr/bin/env bash
# Sets everything up, then runs `hpe-lite infer`; flags are handed on. Without --input it takes the bundled pictures,
# without --output it writes to results/.
#
#   scripts/infer.sh --input photos/ --output results/
set -euo pipefail
root="$(cd "$(dirname "$0")/.." && pwd)"
"$root/scripts/setup.sh"
venv="${HPE_LITE_VENV:-.venv}"
case "$venv" in /*) ;; *) venv="$root/$venv" ;; esac
defaults=()
case " $* " in *" --input "* | *" --input="* | *" --config "* | *" --help "* | *" -h "*) ;; *) defaults+=(--input "$root/lite/pictures") ;; esac
case " $* " in *" --output "* | *" --output="* | *" --config "* | *" --help "* | *" -h "*) ;; *) defaults+=(--output results) ;; esac
exec "$venv/bin/hpe-lite" infer ${defaults[@]+"${defaults[@]}"} "$@"
