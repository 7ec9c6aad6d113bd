#!/usr/bin/env bash
# Runs the GPU tests, then again under each tool of compute-sanitizer. Called by ./bitloom gpu-check with the test program.
# Where there is no GPU it says so, as do the tests, which are then skipped, and ends with status 0.
set -euo pipefail

program=$1
"$program"
if [[ $("$program" --gtest_filter='Gpu.*') == *SKIPPED* ]]; then
    echo 'gpu-check: no GPU can be used here (the tests above say why): nothing was run on one'
    exit 0
fi
sanitizer=$(command -v compute-sanitizer || true)
[[ $sanitizer ]] || sanitizer=$(dirname -- "$(command -v nvcc || echo /usr/local/cuda/bin/nvcc)")/compute-sanitizer
[[ -x $sanitizer ]] || { echo 'gpu-check: compute-sanitizer is not installed' >&2 && exit 1; }
for tool in memcheck racecheck initcheck; do
    echo "gpu-check: $tool"
    "$sanitizer" --tool "$tool" --error-exitcode 1 "$program" --gtest_filter='Gpu.*-*TooLarge*'
done
