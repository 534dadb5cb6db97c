#!/usr/bin/env bash
# Prints what a request for a file costs l7-proxy beside nginx, with the same configuration, as a table:
# CPU time per request on kept connections, median of rounds taken in turns. Needs nginx and wrk.
#
#   files.sh [PROGRAM]      PROGRAM is target/release/l7-proxy unless said
#   ROUNDS=5 LENGTH=2       how many rounds, of how many seconds
#   HTTP='...'              directives in place of those below
set -euo pipefail
cd "$(dirname "$0")/.."
program=$(realpath "${1:-target/release/l7-proxy}")
rounds=${ROUNDS:-5} length=${LENGTH:-2}
http=${HTTP:-sendfile on; open_file_cache max=1000;}

folder=$(mktemp -d)
pids=()
finish() {
    [ ${#pids[@]} -eq 0 ] || kill "${pids[@]}" 2>/dev/null || true
    wait
    rm -rf "$folder"
}
trap finish EXIT
mkdir "$folder/html"
chmod 755 "$folder" "$folder/html"
head -c 1024 /dev/urandom >"$folder/html/1k.html"
head -c 65536 /dev/urandom >"$folder/html/64k.html"

# One worker of each, on the second processor; the load is on the first.
start() { # NAME PORT COMMAND...
    local name=$1 port=$2
    shift 2
    cat >"$folder/$name.conf" <<CONF
daemon off; master_process off; worker_processes 1; pid $folder/$name.pid; error_log stderr crit;
events { worker_connections 1024; }
http {
    access_log off; keepalive_requests 1000000000; keepalive_timeout 300s; $http
    types { text/html html; }
    server { listen 127.0.0.1:$port; root $folder/html; }
}
CONF
    taskset -c 1 "$@" -c "$folder/$name.conf" &
    pids+=($!)
    local tries=0
    until curl -fso /dev/null "http://127.0.0.1:$port/1k.html"; do
        tries=$((tries + 1))
        [ "$tries" -lt 50 ] || { echo "$name does not answer" >&2; exit 1; }
        sleep 0.1
    done
}

# Nanoseconds that the threads of a process have run.
cpu() { cat /proc/"$1"/task/*/schedstat | awk '{ sum += $1 } END { printf "%.0f", sum }'; }

# Nanoseconds for each request while wrk asks for a path.
cost() { # PID PORT PATH CONNECTIONS
    local before after said
    before=$(cpu "$1")
    said=$(taskset -c 0 wrk -t1 -c"$4" -d"${length}s" "http://127.0.0.1:$2$3")
    after=$(cpu "$1")
    if grep -q 'Non-2xx\|Socket errors' <<<"$said"; then
        echo "$said" >&2
        exit 1
    fi
    awk -v spent=$((after - before)) '/requests in/ { print spent / $1 }' <<<"$said"
}

median() { sort -g | awk '{ all[NR] = $1 } END { print all[int((NR + 1) / 2)] }'; }

start nginx 18301 nginx
start l7-proxy 18302 "$program"
# What was changed a moment ago may change again, and is not kept.
sleep 3
cases=("1k.html 64" "64k.html 64" "1k.html 1" "64k.html 1")
for _ in $(seq "$rounds"); do
    for case in "${cases[@]}"; do
        read -r path connections <<<"$case"
        cost "${pids[0]}" 18301 "/$path" "$connections" >>"$folder/nginx.$path.$connections"
        cost "${pids[1]}" 18302 "/$path" "$connections" >>"$folder/l7-proxy.$path.$connections"
    done
done
echo "| file, connections | nginx: cpu us/req | l7-proxy: cpu us/req | ratio |"
echo "|---|---|---|---|"
for case in "${cases[@]}"; do
    read -r path connections <<<"$case"
    theirs=$(median <"$folder/nginx.$path.$connections")
    ours=$(median <"$folder/l7-proxy.$path.$connections")
    awk -v name="$path, $connections" -v a="$theirs" -v b="$ours" \
        'BEGIN { printf "| %s | %.2f | %.2f | %.2f |\n", name, a / 1000, b / 1000, b / a }'
done
