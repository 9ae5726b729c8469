#!/bin/bash
# Runs test programs, J at a time, each with a time limit, and prints Check's
# closing line of each as it ends; the whole output of those that failed.
#
#   run_tests.sh BUILD PROGRAM...
set -u

LIMIT_S=${SEMD_TEST_LIMIT:-300}

run_one() {
    local program=$1 name=${1#"$2"/tests/} log=$2/logs/${1#"$2"/tests/}.log line status
    mkdir -p "$(dirname "$log")"
    # A program that hangs is asked for its stacks' end by TERM, then killed.
    timeout --kill-after=10 "$LIMIT_S" "$program" >"$log" 2>&1 </dev/null
    status=$?
    line=$(grep -a '^[0-9]*%: Checks: ' "$log" | tail -n 1)
    if [ $status -eq 0 ] && [ -n "$line" ]; then
        printf '%s  %s\n' "$line" "$name"
        grep -a '^skipped: ' "$log" | sort -u | sed 's/^/    /'
    else
        [ $status -eq 124 ] || [ $status -eq 137 ] && line="no end after $LIMIT_S s"
        printf '%s  %s: FAILED, status %d\n%s\n' "${line:-no closing line}" "$name" "$status" "$(sed 's/^/    /' "$log")"
    fi
    printf '%d %s\n' "$status" "${line:-none}" >"$log.result"
}

if [ "${1:-}" = --one ]; then
    # One write for a program, so that two that end together do not mix.
    text=$(run_one "$3" "$2")
    printf '%s\n' "$text"
    exit 0
fi

build=$1
shift
rm -rf "$build/logs"
printf '%s\0' "$@" | xargs -0 -r -n 1 -P "${J:-2}" bash "$0" --one "$build"

passed=0
failed=0
for program in "$@"; do
    result=$build/logs/${program#"$build"/tests/}.log.result
    read -r status line <"$result" || { status=1 line=none; }
    if [[ $line =~ Checks:\ ([0-9]+),\ Failures:\ ([0-9]+),\ Errors:\ ([0-9]+) ]]; then
        bad=$((BASH_REMATCH[2] + BASH_REMATCH[3]))
        passed=$((passed + BASH_REMATCH[1] - bad))
        failed=$((failed + bad))
        # A program that fails after all its checks passed (a leak, a crash at exit).
        [ "$status" -ne 0 ] && [ "$bad" -eq 0 ] && failed=$((failed + 1))
    else
        failed=$((failed + 1))
    fi
done
echo "$passed passed, $failed failed"
[ "$failed" -eq 0 ] && [ "$passed" -gt 0 ]
