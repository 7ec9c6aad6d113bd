#!/usr/bin/env bash
# Runs the fuzz targets one after the other and prints what each did. Logs, inputs found and crashes stay in the folder.
#   fuzz/run.sh BUILD_FOLDER OUTPUT_FOLDER [SECONDS [TARGET...]]     (600 seconds a target, all targets)
set -uo pipefail

if (($# < 2)); then
    sed -n '2,3s/^# *//p' "$0" >&2
    exit 2
fi
bin=$(readlink -f -- "$1")/bin out=$2 seconds=${3:-600}
shift $(($# < 3 ? $# : 3))
targets=("$@")
((${#targets[@]})) || targets=(idx cifar mat hdf5 checkpoint flagfile config strings quantizers schemes search bsq)
mkdir -p -- "$out" && out=$(readlink -f -- "$out") || exit 1
"$bin/fuzz_seeds" "$out/seeds" || exit 1

# A leak is a finding of the bound on memory. Symbols and a long quarantine would slow the targets that fork by much: a
# finding shows its symbols when fuzz_TARGET runs alone on the file that it left.
export ASAN_OPTIONS=${ASAN_OPTIONS:-detect_leaks=0:allocator_may_return_null=1:handle_abort=1:symbolize=0:quarantine_size_mb=16}
export UBSAN_OPTIONS=${UBSAN_OPTIONS:-halt_on_error=1:print_stacktrace=1}

status=0
printf '%-12s %8s %12s %10s %8s\n' target seconds executions peak_MB result
for target in "${targets[@]}"; do
    mkdir -p -- "$out/$target"
    log=$out/$target.log
    # A child may ask for what it likes: the bound on memory is ours, not its.
    (cd -- "$out" && "$bin/fuzz_$target" -max_total_time="$seconds" -timeout=30 -rss_limit_mb=1024 \
        -malloc_limit_mb=16384 -artifact_prefix="$out/$target-" -print_final_stats=1 \
        "$out/$target" "$out/seeds/$target") >"$log" 2>&1
    result=$?
    ((result == 0)) || status=1
    word=$( ((result == 0)) && echo clean || echo "FOUND ($result)")
    stat() { sed -n "s/^stat::$1: *//p" "$log" | tail -n 1; }
    printf '%-12s %8s %12s %10s %s\n' "$target" "$seconds" "$(stat number_of_executed_units)" "$(stat peak_rss_mb)" "$word"
done
exit "$status"
