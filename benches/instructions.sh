#!/bin/sh
# Prints the instructions that one schedule and the drop of its lease take, as a table. Needs valgrind.
set -eu
cd "$(dirname "$0")/.."
program=$(cargo bench -p benches --bench picks --no-run 2>&1 | sed -n 's/.*Executable.*(\(.*\))/\1/p')
count() {
    valgrind --tool=callgrind --callgrind-out-file=/dev/null "$program" "$1" "$2" "$3" 2>&1 |
        sed -n 's/.*Collected : //p'
}
echo "| servers | ${*:-rr wrr swrr lc wlc sh mh twos} |" | sed 's/\([a-z]\) \([a-z]\)/\1 | \2/g'
set -- ${*:-rr wrr swrr lc wlc sh mh twos}
printf '|---|'; for _ in "$@"; do printf -- '---|'; done; echo
for servers in 10 1000; do
    printf '| %s |' "$servers"
    for algorithm in "$@"; do
        # Two lengths of run; what they have in common is the set-up.
        few=$(count "$algorithm" "$servers" 1000)
        many=$(count "$algorithm" "$servers" 3000)
        printf ' %s |' $(((many - few) / 2000))
    done
    echo
done
