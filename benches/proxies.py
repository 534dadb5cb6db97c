#!/usr/bin/env python3
"""Side-by-side cost of TCP and HTTP proxies on one machine, in one run.

Every proxy gets one worker, pinned to CPU 1; the load generator and the backend share CPU 0. The figure to
trust is the proxy's own CPU time per unit of work (user and system of its whole process group); rates depend
on the noise of the machine. Rounds go A B C A B C, and each figure is printed as the median over the rounds.

Needs wrk, iperf3, nginx with its stream module, haproxy and taskset, and two processors; ports 18000 and up.

  benches/proxies.py l4 --l4-bin target/release/l4-proxy   # the director beside haproxy and nginx's stream
  benches/proxies.py l7 --l7-bin target/release/l7-proxy   # the HTTP proxy beside haproxy and nginx
  benches/proxies.py l4 --extra 'NAME=CMD {listen} {up}'   # any other proxy; also {port} {upport} {w}

The director is started as `l4-proxy --workers 1 --rules FILE`, the HTTP proxy as `l7-proxy -c FILE` with the
very nginx.conf that nginx gets.
"""
import argparse, json, os, re, resource, shlex, shutil, signal, socket, statistics, subprocess, sys, tempfile, time

TICK = os.sysconf("SC_CLK_TCK")
W = tempfile.mkdtemp(prefix="proxybench.")
BACK, IPERF = 18000, 18001


# What a browser says with a request, and an application with an answer.
BROWSER = [
    ("User-Agent", "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/126.0.0.0 Safari/537.36"),
    ("Accept", "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,*/*;q=0.8"),
    ("Accept-Language", "en-US,en;q=0.9,de;q=0.8"),
    ("Accept-Encoding", "gzip, deflate, br, zstd"),
    ("Referer", "http://www.example.com/some/page?x=1"),
    ("Cookie", "session=0123456789abcdef0123456789abcdef; theme=dark; consent=1234567890.1234567890"),
    ("Connection", "keep-alive"),
    ("Upgrade-Insecure-Requests", "1"),
    ("Sec-Fetch-Dest", "document"),
    ("Sec-Fetch-Mode", "navigate"),
    ("Sec-Fetch-Site", "same-origin"),
    ("Cache-Control", "max-age=0"),
]
APPLICATION = [
    ("Cache-Control", "private, max-age=0"),
    ("ETag", '"0123456789abcdef"'),
    ("Vary", "Accept-Encoding"),
    ("Set-Cookie", "a=1; Path=/; HttpOnly"),
    ("Set-Cookie", "session=0123456789abcdef; Path=/; Secure; HttpOnly; SameSite=Lax"),
    ("Strict-Transport-Security", "max-age=31536000; includeSubDomains"),
    ("X-Frame-Options", "SAMEORIGIN"),
    ("X-Content-Type-Options", "nosniff"),
    ("Referrer-Policy", "strict-origin-when-cross-origin"),
    ("X-Trace", "0123456789abcdef0123456789abcdef"),
]


def write(name, text):
    p = os.path.join(W, name)
    with open(p, "w") as f:
        f.write(text)
    return p


def wait_port(port, timeout=15):
    end = time.time() + timeout
    while time.time() < end:
        try:
            socket.create_connection(("127.0.0.1", port), 0.3).close()
            return True
        except OSError:
            time.sleep(0.05)
    return False


def group_cpu(pgid):
    """user, sys seconds of every live process in the group (reaped children included)."""
    u = s = 0
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{pid}/stat") as f:
                rest = f.read().rsplit(")", 1)[1].split()
            if int(rest[2]) == pgid:
                u += int(rest[11]) + int(rest[13])
                s += int(rest[12]) + int(rest[14])
        except (OSError, IndexError):
            pass
    return u / TICK, s / TICK


def group_rss(pgid):
    kb = 0
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{pid}/stat") as f:
                rest = f.read().rsplit(")", 1)[1].split()
            if int(rest[2]) == pgid:
                with open(f"/proc/{pid}/smaps_rollup") as f:
                    kb += int(re.search(r"Pss:\s+(\d+)", f.read()).group(1))
        except (OSError, IndexError, AttributeError):
            pass
    return kb


LIVE = []


class Proc:
    def __init__(self, cmd, cpu, port=None, log="/dev/null"):
        out = open(log, "ab")
        self.p = subprocess.Popen(["taskset", "-c", str(cpu)] + cmd, stdout=out, stderr=out, start_new_session=True)
        self.pgid = self.p.pid
        LIVE.append(self)
        if port and not wait_port(port):
            self.stop()
            raise RuntimeError(f"{cmd[0]} did not listen on {port}")

    def stop(self):
        LIVE.remove(self)
        try:
            os.killpg(self.pgid, signal.SIGTERM)
            self.p.wait(3)
        except Exception:
            try:
                os.killpg(self.pgid, signal.SIGKILL)
            except ProcessLookupError:
                pass
            self.p.wait()


def backend():
    os.makedirs(f"{W}/html", exist_ok=True)
    os.chmod(W, 0o755)
    for n, size in (("1k", 1024), ("16k", 16384), ("64k", 65536), ("1m", 1 << 20)):
        with open(f"{W}/html/{n}", "wb") as f:
            f.write(os.urandom(size))
    conf = write("backend.conf", f"""
daemon off; worker_processes 1; error_log /dev/null crit; pid {W}/b.pid;
events {{ worker_connections 9000; }}
http {{ access_log off; keepalive_requests 100000000; keepalive_timeout 300s; sendfile on; tcp_nopush on; tcp_nodelay on;
 open_file_cache max=100;
 server {{ listen 127.0.0.1:{BACK} backlog=65535 reuseport; root {W}/html;
  location = /t {{ return 200 "hello world, hello world, hello world, hello world, hello world\\n"; }}
  location = /page {{ {" ".join(f"add_header {name} '{value}';" for name, value in APPLICATION)} return 200 "hello world, hello world, hello world, hello world, hello world\\n"; }} }} }}
""")
    return Proc(["nginx", "-c", conf], 0, BACK)


def l4_proxies(up):
    d = {}
    def haproxy(port):
        c = write("haproxy4.cfg", f"""
global
  nbthread 1
  maxconn 4500
defaults
  mode tcp
  timeout connect 5s
  timeout client 300s
  timeout server 300s
  option splice-auto
frontend f
  bind 127.0.0.1:{port} backlog 65535
  default_backend b
backend b
  server s1 127.0.0.1:{up}
""")
        return ["haproxy", "-db", "-f", c]
    d["haproxy"] = haproxy
    def nginx(port):
        c = write("nginx4.conf", f"""
load_module /usr/lib/nginx/modules/ngx_stream_module.so;
daemon off; worker_processes 1; error_log /dev/null crit; pid {W}/n4.pid;
events {{ worker_connections 9000; multi_accept on; }}
stream {{ upstream u {{ server 127.0.0.1:{up}; }} server {{ listen 127.0.0.1:{port} backlog=65535; proxy_pass u; proxy_buffer_size 16k; }} }}
""")
        return ["nginx", "-c", c]
    d["nginx"] = nginx
    return d


def l7_proxies(up):
    d = {}
    def haproxy(port):
        c = write("haproxy7.cfg", f"""
global
  nbthread 1
  maxconn 4500
defaults
  mode http
  timeout connect 5s
  timeout client 300s
  timeout server 300s
  http-reuse always
frontend f
  bind 127.0.0.1:{port} backlog 65535
  default_backend b
backend b
  option forwardfor
  server s1 127.0.0.1:{up}
""")
        return ["haproxy", "-db", "-f", c]
    d["haproxy"] = haproxy
    def nginx(port):
        c = write("nginx7.conf", f"""
daemon off; worker_processes 1; error_log /dev/null crit; pid {W}/n7.pid;
events {{ worker_connections 9000; multi_accept on; }}
http {{ access_log off; keepalive_requests 100000000; keepalive_timeout 300s;
 upstream u {{ server 127.0.0.1:{up}; keepalive 256; keepalive_requests 100000000; }}
 server {{ listen 127.0.0.1:{port} backlog=65535;
  location / {{ proxy_pass http://u; proxy_http_version 1.1; proxy_set_header Connection ""; proxy_set_header Host $host;
    proxy_set_header X-Real-IP $remote_addr; proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for; }} }} }}
""")
        return ["nginx", "-c", c]
    d["nginx"] = nginx
    return d


def ours_l4(binary, up):
    def f(port):
        return [binary, "--workers", "1", "--rules", write("ours4.rules", f"""-A -t 127.0.0.1:{port} -s rr
-a -t 127.0.0.1:{port} -r 127.0.0.1:{up} -m -w 1
""")]
    return f


def wrk(port, path, conns, secs, close=False, lat=False, fields=()):
    cmd = ["taskset", "-c", "0", "wrk", "-t1", f"-c{conns}", f"-d{secs}s", "--latency", f"http://127.0.0.1:{port}{path}"]
    if close:
        cmd += ["-H", "Connection: close"]
    for name, value in fields:
        cmd += ["-H", f"{name}: {value}"]
    out = subprocess.run(cmd, capture_output=True, text=True, start_new_session=True).stdout
    n = int(re.search(r"(\d+) requests in", out).group(1))
    rps = float(re.search(r"Requests/sec:\s+([\d.]+)", out).group(1))
    p99 = re.search(r"99%\s+(\S+)", out)
    bad = sum(map(int, re.findall(r"(?:connect|read|write|timeout) (\d+)", out)))
    m = re.search(r"Non-2xx or 3xx responses: (\d+)", out)
    return n, rps, p99.group(1) if p99 else "?", bad + (int(m.group(1)) if m else 0)


def iperf(port, secs, reverse):
    cmd = ["taskset", "-c", "0", "iperf3", "-c", "127.0.0.1", "-p", str(port), "-t", str(secs), "-J"] + (["-R"] if reverse else [])
    out = json.loads(subprocess.run(cmd, capture_output=True, text=True, start_new_session=True).stdout)
    return out["end"]["sum_received"]["bytes"]


def pingpong(port, path, n):
    """n sequential keep-alive requests on one connection; returns microseconds per round trip."""
    s = socket.create_connection(("127.0.0.1", port))
    s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    req = f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n".encode()
    s.sendall(req); s.recv(65536)
    t = time.perf_counter()
    for _ in range(n):
        s.sendall(req)
        s.recv(65536)
    t = time.perf_counter() - t
    s.close()
    return t / n * 1e6


def idle(port, n, pgid):
    """Pss growth of the proxy, bytes per idle connection that has carried one request."""
    req = b"GET /t HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"
    before = group_rss(pgid)
    socks = []
    for _ in range(n):
        s = socket.create_connection(("127.0.0.1", port))
        s.sendall(req); s.recv(4096)
        socks.append(s)
    time.sleep(0.5)
    after = group_rss(pgid)
    for s in socks:
        s.close()
    return (after - before) * 1024 / n


def main():
    ap = argparse.ArgumentParser()
    ap.add_argument("layer", choices=["l4", "l7"])
    ap.add_argument("--rounds", type=int, default=5)
    ap.add_argument("--seconds", type=int, default=3)
    ap.add_argument("--only", default="")
    ap.add_argument("--extra", action="append", default=[])
    ap.add_argument("--idle", type=int, default=2000)
    ap.add_argument("--l4-bin")
    ap.add_argument("--l7-bin")
    ap.add_argument("--json", help="also write the medians to this file")
    a = ap.parse_args()
    resource.setrlimit(resource.RLIMIT_NOFILE, (20000, 20000))
    for p in (BACK, IPERF):
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", p)) == 0:
                sys.exit(f"port {p} is taken: another run, or one left behind?")
    backend()
    if a.layer == "l4":
        Proc(["iperf3", "-s", "-p", str(IPERF)], 0, IPERF)
    if a.layer == "l4":
        http, bulk = l4_proxies(BACK), l4_proxies(IPERF)
    else:
        http, bulk = l7_proxies(BACK), None
    if a.layer == "l4" and a.l4_bin:
        http["ours"], bulk["ours"] = ours_l4(a.l4_bin, BACK), ours_l4(a.l4_bin, IPERF)
    if a.layer == "l7" and a.l7_bin:
        http["ours"] = lambda port: [a.l7_bin, "-c", http["nginx"](port)[-1]]
    for e in a.extra:
        name, cmd = e.split("=", 1)
        def mk(up, cmd=cmd, name=name):
            return lambda port: shlex.split(cmd.format(listen=f"127.0.0.1:{port}", port=port, up=f"127.0.0.1:{up}", upport=up, w=W))
        http[name] = mk(BACK)
        if bulk is not None:
            bulk[name] = mk(IPERF)
    names = [n for n in http if not a.only or n in a.only.split(",")]
    res = {}
    def put(n, k, v):
        res.setdefault(k, {}).setdefault(n, []).append(v)
    port = 18100
    for r in range(a.rounds):
        for n in names:
            port += 1
            try:
                p = Proc(http[n](port), 1, port, f"{W}/{n}.log")
            except RuntimeError as err:
                print("skip", n, err, file=sys.stderr)
                continue
            cases = [("keepalive t c64", "/t", 64, False), ("keepalive 16k c64", "/16k", 64, False), ("keepalive 1m c16", "/1m", 16, False), ("new conn t c64", "/t", 64, True)]
            if a.layer == "l7":
                cases.append(("keepalive browser c64", "/page", 64, False))
            wrk(port, "/t", 16, 1)
            for label, path, c, close in cases:
                u0, s0 = group_cpu(p.pgid)
                fields = BROWSER if path == "/page" else []
                cnt, rps, p99, bad = wrk(port, path, c, a.seconds, close, fields)
                u1, s1 = group_cpu(p.pgid)
                if cnt:
                    put(n, label + " | cpu us/req", (u1 - u0 + s1 - s0) / cnt * 1e6)
                    put(n, label + " | user us/req", (u1 - u0) / cnt * 1e6)
                put(n, label + " | req/s", rps)
                if bad:
                    put(n, label + " | errors", bad)
            put(n, "pingpong 1 conn | us/rt", pingpong(port, "/t", 3000))
            try:
                put(n, "idle conns | bytes/conn", idle(port, a.idle, p.pgid))
            except OSError as err:
                print(n, "idle:", err, file=sys.stderr)
            p.stop()
            if bulk:
                for rev in (False, True):
                    port += 1
                    p = Proc(bulk[n](port), 1, port, f"{W}/{n}.log")
                    time.sleep(0.3)  # The look at the port was a client of iperf3's, which takes one at a time.
                    u0, s0 = group_cpu(p.pgid)
                    b = iperf(port, a.seconds, rev)
                    u1, s1 = group_cpu(p.pgid)
                    k = "bulk down" if rev else "bulk up"
                    put(n, k + " | cpu ms/GB", (u1 - u0 + s1 - s0) / (b / 1e9) * 1e3)
                    put(n, k + " | Gbit/s", b * 8 / a.seconds / 1e9)
                    p.stop()
    keys = list(res)
    width = max(map(len, keys)) + 2
    print("".ljust(width) + "".join(n.rjust(15) for n in names))
    for k in keys:
        print(k.ljust(width) + "".join((f"{statistics.median(res[k][n]):.2f}" if n in res[k] else "-").rjust(15) for n in names))
    if a.json:
        with open(a.json, "w") as f:
            json.dump({k: {n: statistics.median(v) for n, v in d.items()} for k, d in res.items()}, f, indent=1)


if __name__ == "__main__":
    try:
        main()
    finally:
        for proc in list(LIVE):
            proc.stop()
        shutil.rmtree(W, ignore_errors=True)
