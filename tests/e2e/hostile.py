#!/usr/bin/env python3
"""Hostile and broken exporters against the real binary.

Each exporter here does one thing wrong. The agent runs against all of them and a healthy one at once. What must hold: each
failure is counted in `status --json` under the right kind, memory stays bounded, and the healthy exporter keeps its schedule.

usage: tests/e2e/hostile.py PROMWATCH
"""

import gzip
import http.server
import json
import os
import pathlib
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import tempfile
import threading
import time
import traceback

BINARY = os.path.abspath(sys.argv[1])
PAGE = b"# TYPE up_time gauge\nup_time 1\n# TYPE c_total counter\nc_total 5\n"
#: Peak resident memory that no exporter here may push the agent over, in KiB: samples take at most 64 MiB.
MEMORY_KIB = 88 * 1024


def answer(connection, body, status="200 OK", headers="Content-Type: text/plain\r\n", length=True):
    length = f"Content-Length: {len(body)}\r\n" if length else ""
    connection.sendall(f"HTTP/1.1 {status}\r\n{headers}{length}Connection: close\r\n\r\n".encode() + body)


class Exporter:
    """A server that reads one request and hands the connection to `behave`."""

    def __init__(self, behave, tls=None):
        self.behave, self.tls, self.requests = behave, tls, 0
        self.listener = socket.create_server(("127.0.0.1", 0), backlog=64)
        self.port = self.listener.getsockname()[1]
        threading.Thread(target=self.serve, daemon=True).start()

    def serve(self):
        while True:
            connection, _ = self.listener.accept()
            threading.Thread(target=self.talk, args=(connection,), daemon=True).start()

    def talk(self, connection):
        try:
            connection.settimeout(60)
            if self.tls:
                connection = self.tls.wrap_socket(connection, server_side=True)
            request = b""
            while b"\r\n\r\n" not in request:
                piece = connection.recv(65536)
                if not piece:
                    return
                request += piece
                if request.startswith(b"\x16\x03"):  # TLS, to a server that speaks none
                    return connection.sendall(b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n")
            self.requests += 1
            self.behave(connection)
        except OSError:
            pass
        finally:
            connection.close()


def endless(piece, headers="Content-Type: text/plain\r\n"):
    def behave(connection):
        connection.sendall(f"HTTP/1.1 200 OK\r\n{headers}\r\n".encode())
        while True:
            connection.sendall(piece)
    return behave


def endless_series(connection):
    connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n\r\n")
    n = 0
    while True:
        connection.sendall(b"".join(b'a_series{number="%d"} 1\n' % i for i in range(n, n + 1000)))
        n += 1000


def dripping(connection):
    connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n\r\n")
    for byte in PAGE * 100:
        connection.sendall(bytes([byte]))
        time.sleep(1)


def never_closing(connection):
    connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n\r\n" + PAGE)
    time.sleep(60)


def header_flood(connection):
    connection.sendall(b"HTTP/1.1 200 OK\r\n")
    while True:
        connection.sendall(b"X-Flood: " + b"a" * 1000 + b"\r\n")


def one_endless_header(connection):
    connection.sendall(b"HTTP/1.1 200 OK\r\nX-Flood: ")
    while True:
        connection.sendall(b"a" * 65536)


def bomb():
    packed = gzip.compress(b"# " + b"a" * 1000 + b"\n", 9, mtime=0)
    block = gzip.compress((b"# " + b"a" * 1021 + b"\n") * (1 << 17), 9, mtime=0)  # 128 MiB in 128 KiB
    return packed + block


def moved(to):
    return lambda connection: answer(connection, b"", "302 Found", f"Location: {to}\r\n")


def chunked(raw):
    return lambda connection: connection.sendall(
        b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nTransfer-Encoding: chunked\r\n\r\n" + raw)


def chunked_endless(start, more):
    def behave(connection):
        chunked(start)(connection)
        while True:
            connection.sendall(more)
    return behave


def endless_100(connection):
    while True:
        connection.sendall(b"HTTP/1.1 100 Continue\r\n\r\n" * 100)


def endless_401(connection):
    connection.sendall(b"HTTP/1.1 401 Unauthorized\r\n\r\n")
    while True:
        connection.sendall(b"a" * 65536)


def endless_gzip_name(connection):
    connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\n\r\n\x1f\x8b\x08\x08\0\0\0\0\0\x03")
    while True:
        connection.sendall(b"a" * 65536)


def redirect_with_endless_body(connection):
    connection.sendall(b"HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:1/\r\n\r\n")
    while True:
        connection.sendall(b"a" * 65536)


def raw(text):
    return lambda connection: connection.sendall(text)


def page(body, headers="Content-Type: text/plain\r\n"):
    return lambda connection: answer(connection, body, headers=headers)


def certificates(folder):
    """A CA and three certificates of it: a good one, one for another name, one that has ended."""
    def openssl(*words, **more):
        subprocess.run(["openssl", *words], cwd=folder, check=True, capture_output=True, **more)

    key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    openssl("req", "-x509", *key, "-keyout", "ca.key", "-out", "ca.pem", "-days", "30", "-subj", "/CN=test CA",
            "-addext", "keyUsage=critical,keyCertSign")
    for name, san, days in (("good", "IP:127.0.0.1", "30"), ("other", "DNS:other.example", "30"), ("ended", "IP:127.0.0.1", "-1")):
        openssl("req", "-new", *key, "-keyout", f"{name}.key", "-out", f"{name}.csr", "-subj", f"/CN={name}")
        (folder / f"{name}.ext").write_text(f"subjectAltName={san}\n")
        openssl("x509", "-req", "-in", f"{name}.csr", "-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial", "-out",
                f"{name}.pem", "-extfile", f"{name}.ext", "-days", days)


def tls(folder, name):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / f"{name}.pem", folder / f"{name}.key")
    return context


class Agent:
    """`promwatch run` against some exporters; nothing listens where CloudWatch Logs should be."""

    def __init__(self, folder, jobs, interval, timeout, own=None):
        self.folder = folder
        shutil.rmtree(folder / "state", ignore_errors=True)
        lines = [f"global: {{scrape_interval: {interval}, scrape_timeout: {timeout}}}", "scrape_configs:"]
        for name, port, more in jobs:
            lines.append(f"  - {{job_name: {name}, static_configs: [{{targets: ['127.0.0.1:{port}']}}]{more}}}")
        (folder / "prometheus.yaml").write_text("\n".join(lines) + "\n")
        (folder / "agent.json").write_text(json.dumps({
            "agent": {"region": "eu-central-1"},
            "logs": {"endpoint_override": "http://127.0.0.1:9", "metrics_collected": {"prometheus": {
                "log_group_name": "/hostile", "prometheus_config_path": str(folder / "prometheus.yaml")}}},
            **({"promwatch": own} if own else {}),
        }))
        self.env = {k: v for k, v in os.environ.items() if not k.startswith("AWS_") and "PROXY" not in k.upper()}
        self.env.update(HOME=str(folder), RUNTIME_DIRECTORY=str(folder / "run"), AWS_ACCESS_KEY_ID="A", AWS_SECRET_ACCESS_KEY="B")
        self.log = open(folder / "promwatch.log", "wb")
        self.popen = subprocess.Popen(
            [BINARY, "run", "--config", folder / "agent.json", "--state-dir", folder / "state"],
            stderr=self.log, stdout=self.log, env=self.env)

    def status(self):
        done = subprocess.run([BINARY, "status", "--json", "--state-dir", self.folder / "state"],
                              capture_output=True, text=True, env=self.env, timeout=20)
        return json.loads(done.stdout) if done.returncode == 0 else None

    def peak_kib(self):
        for line in pathlib.Path(f"/proc/{self.popen.pid}/status").read_text().splitlines():
            if line.startswith("VmHWM"):
                return int(line.split()[1])

    def stop(self):
        """Ends it and gives the time that took, in seconds."""
        begun = time.monotonic()
        self.popen.send_signal(signal.SIGTERM)
        code = self.popen.wait(20)
        assert code == 0, f"exit {code}"
        return time.monotonic() - begun


def targets(status):
    return {target["job"]: target for target in status["targets"]}


def test_each_failure_has_its_kind(folder):
    """One exporter for each way to be wrong that does not hang."""
    circle = Exporter(lambda connection: moved(f"http://127.0.0.1:{circle.port}/metrics")(connection))
    slow_circle = Exporter(lambda c: (time.sleep(0.7), moved(f"http://127.0.0.1:{slow_circle.port}/{time.monotonic()}")(c)))
    cases = {
        # name: exporter, further keys of the job, the kind that is counted, a word of the error
        "endless_comments": (Exporter(endless(b"# " + b"a" * 65533 + b"\n")), "", "limit timeout", ""),
        "endless_series": (Exporter(endless_series), "", "limit timeout", ""),
        "endless_line": (Exporter(endless(b"a" * 65536)), "", "parse", "line 1"),
        "limited_body": (Exporter(endless(PAGE)), ", body_size_limit: 64KB", "limit", "body_size_limit"),
        "gzip_bomb": (Exporter(page(bomb(), "Content-Encoding: gzip\r\nContent-Type: text/plain\r\n")), "", "limit timeout", ""),
        "gzip_damaged": (Exporter(page(gzip.compress(PAGE * 99)[:-20] + b"x" * 20, "Content-Encoding: gzip\r\n")), "", "encoding parse", ""),
        "gzip_cut": (Exporter(page(gzip.compress(PAGE * 99)[:-30], "Content-Encoding: gzip\r\n")), "", "encoding", ""),
        "line_of_10_mb": (Exporter(page(b'm{l="' + b"a" * 10_000_000 + b'"} 1\n')), "", "parse", "line 1"),
        "million_labels": (Exporter(page(b"m{" + b",".join(b'l%d="x"' % i for i in range(1_000_000)) + b"} 1\n")), "", "parse limit", ""),
        "million_label_series": (Exporter(page(b"".join(b'm{l="%d"} 1\n' % i for i in range(20_000)))), ", sample_limit: 1000", "limit", "sample_limit"),
        "label_limit": (Exporter(page(b'm{a="1",b="2",c="3"} 1\n')), ", label_limit: 3", "limit", "label_limit"),
        "bad_utf8": (Exporter(page(b'ok 1\nm{l="\xff\xfe"} 1\n')), "", "parse", "line 2"),
        "bad_utf8_name": (Exporter(page(b"m\xc3\x28 1\n")), "", "parse", "line 1"),
        "zero_bytes_in_line": (Exporter(page(b"ok\0 1\n")), "", "parse", "line 1"),
        "circle": (circle, "", "broken", "redirect"),
        "redirect_off": (Exporter(moved("/other")), ", follow_redirects: false", "status", "302"),
        "redirect_nowhere": (Exporter(moved("ftp://127.0.0.1/")), "", "broken", ""),
        "header_flood": (Exporter(header_flood), "", "broken", ""),
        "one_endless_header": (Exporter(one_endless_header), "", "broken", ""),
        "many_headers": (Exporter(raw(b"HTTP/1.1 200 OK\r\n" + b"a: b\r\n" * 5000 + b"\r\n" + PAGE)), "", "broken", ""),
        "endless_100": (Exporter(endless_100), ", scrape_timeout: 2s", "broken timeout", ""),
        "endless_chunk_extension": (Exporter(chunked_endless(b"5;", b"a" * 65536)), ", scrape_timeout: 2s", "broken timeout", ""),
        "endless_trailer": (Exporter(chunked_endless(b"4\r\na 1\n\r\n0\r\n", b"A: b\r\n" * 1000)), ", scrape_timeout: 2s", "broken timeout", ""),
        "chunks_of_one_byte": (Exporter(chunked_endless(b"", b"1\r\n#\r\n" * 1000)), ", scrape_timeout: 2s", "parse limit timeout", ""),
        "empty_gzip_members": (Exporter(endless(gzip.compress(b"", mtime=0) * 1000, "Content-Encoding: gzip\r\n")), ", scrape_timeout: 2s", "timeout limit encoding", ""),
        "endless_gzip_name": (Exporter(endless_gzip_name), ", scrape_timeout: 2s", "encoding timeout", ""),
        "redirect_with_endless_body": (Exporter(redirect_with_endless_body), ", scrape_timeout: 2s", "broken timeout connect", ""),
        "slow_circle": (slow_circle, ", scrape_timeout: 2s", "timeout broken", ""),
        "endless_401": (Exporter(endless_401), ", scrape_timeout: 2s", "status", "401"),
        "too_long_length": (Exporter(raw(b"HTTP/1.1 200 OK\r\nContent-Length: 9999\r\n\r\n" + PAGE)), "", "broken", ""),
        "absurd_length": (Exporter(raw(b"HTTP/1.1 200 OK\r\nContent-Length: 99999999999999999999999\r\n\r\n" + PAGE)), "", "broken", ""),
        "two_lengths": (Exporter(raw(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 64\r\n\r\n" + PAGE)), "", "broken parse", ""),
        "chunk_garbage": (Exporter(chunked(b"zz\r\nabc\r\n")), "", "broken", ""),
        "chunk_huge": (Exporter(chunked(b"ffffffffffffffffffffff\r\nabc")), "", "broken", ""),
        "chunk_cut": (Exporter(chunked(b"40\r\nabc 1\n")), "", "broken", ""),
        "not_http": (Exporter(raw(b"SSH-2.0-OpenSSH_9.2\r\n")), "", "broken", ""),
        "empty_answer": (Exporter(raw(b"")), "", "broken", ""),
        "server_error": (Exporter(lambda c: answer(c, b"e" * 200_000, "500 Oops")), "", "status", "500"),
        "other_name": (Exporter(page(PAGE), tls(folder, "other")), f", scheme: https, tls_config: {{ca_file: {folder}/ca.pem}}", "tls", ""),
        "ended": (Exporter(page(PAGE), tls(folder, "ended")), f", scheme: https, tls_config: {{ca_file: {folder}/ca.pem}}", "tls", ""),
        "unknown_ca": (Exporter(page(PAGE), tls(folder, "good")), ", scheme: https", "tls", ""),
        "plain_for_tls": (Exporter(page(PAGE)), ", scheme: https", "tls broken", ""),
        "protobuf": (Exporter(page(b"\x0a\x05hello", "Content-Type: application/vnd.google.protobuf; proto=io.prometheus.client.MetricFamily; encoding=delimited\r\n")), "", "encoding parse", ""),
        # What looks odd and is right.
        "shorter_length": (Exporter(raw(b"HTTP/1.1 200 OK\r\nContent-Length: 31\r\n\r\n" + PAGE)), "", None, ""),
        "http_1_0": (Exporter(raw(b"HTTP/1.0 200 OK\r\nContent-Type: text/plain\r\n\r\n" + PAGE)), "", None, ""),
        "good_tls": (Exporter(page(PAGE), tls(folder, "good")), f", scheme: https, tls_config: {{ca_file: {folder}/ca.pem}}", None, ""),
        "unchecked_tls": (Exporter(page(PAGE), tls(folder, "ended")), ", scheme: https, tls_config: {insecure_skip_verify: true}", None, ""),
        "healthy": (Exporter(page(PAGE)), "", None, ""),
    }
    dead = socket.create_server(("127.0.0.1", 0))
    closed = dead.getsockname()[1]
    dead.close()
    jobs = [(name, exporter.port, more) for name, (exporter, more, _, _) in cases.items()]
    jobs.append(("nobody", closed, ""))
    agent = Agent(folder, jobs, "30s", "5s")
    try:
        deadline = time.monotonic() + 150
        while True:
            status = agent.status()
            if status and all(target["scrapes"] >= 1 for target in status["targets"]):
                break
            assert time.monotonic() < deadline, [t["job"] for t in (status or {"targets": []})["targets"] if t["scrapes"] == 0]
            time.sleep(1)
        peak, got = agent.peak_kib(), targets(status)
        wrong = []
        for name, kinds, word in [(n, c[2], c[3]) for n, c in cases.items()] + [("nobody", "connect", "")]:
            target = got[name]
            if os.environ.get("VERBOSE"):
                print(f"{name:22}{target['last_duration_ms']:6} ms {target['failures_by_kind']} {target['last_error'] and target['last_error'][:200]}")
            if kinds is None:
                if target["failures"] or not target["up"]:
                    wrong.append(f"{name}: {target}")
            elif not set(target["failures_by_kind"]) <= set(kinds.split()) or target["failures"] == 0 or word not in target["last_error"]:
                wrong.append(f"{name}: expected {kinds}: {target}")
            elif len(target["last_error"]) > 1000:
                wrong.append(f"{name}: an error of {len(target['last_error'])} bytes")
        assert not wrong, "\n".join(wrong)
        print(f"    peak memory {peak} KiB")
        assert peak < MEMORY_KIB, f"peak memory {peak} KiB"
    finally:
        took = agent.stop()
    assert took < 5, took


def test_series_that_are_new_in_every_scrape_cost_bounded_memory(folder):
    """20,000 counters with names and labels that never return, every second, with nowhere to send the increases."""
    count = [0]

    def churn(connection):
        count[0] += 1
        n = count[0]
        answer(connection, b"".join(
            b'# TYPE c%d_%d_total counter\n' % (n, i // 100) * (i % 100 == 0) + b'c%d_%d_total{l="%d"} 1\n' % (n, i // 100, i) for i in range(20_000)))

    agent = Agent(folder, [("churn", Exporter(churn).port, "")], "1s", "1s")
    try:
        time.sleep(15)
        early = agent.peak_kib()
        time.sleep(25)
        status, late = agent.status(), agent.peak_kib()
        print(f"    peak memory after 15 s {early} KiB, after 40 s {late} KiB; {status['samples_left_out']}")
        assert targets(status)["churn"]["failures"] == 0, status["targets"]
        assert late < MEMORY_KIB and late < early + 8 * 1024, (early, late)
    finally:
        agent.stop()


def test_hung_exporters_leave_the_others_their_schedule(folder):
    """Four exporters that hang, each in its own way; the healthy one is scraped every two seconds all the same."""
    times = []

    def healthy(connection):
        times.append(time.monotonic())
        answer(connection, PAGE)

    hung = {
        "silent": Exporter(lambda connection: time.sleep(60)),
        "dripping": Exporter(dripping),
        "never_closing": Exporter(never_closing),
        "slow_head": Exporter(lambda c: [c.sendall(b"HTTP/1.1 200 OK\r\n")] + [(c.sendall(b"A: b\r\n"), time.sleep(0.3)) for _ in range(300)]),
    }
    jobs = [(name, exporter.port, ", scrape_interval: 8s, scrape_timeout: 2s") for name, exporter in hung.items()]
    agent = Agent(folder, [("healthy", Exporter(healthy).port, ""), *jobs], "2s", "1s")
    try:
        time.sleep(58)
        got = targets(agent.status())
        for name in hung:
            assert set(got[name]["failures_by_kind"]) == {"timeout"} and got[name]["failures"] >= 4, got[name]
        assert got["healthy"]["failures"] == 0 and got["healthy"]["up"], got["healthy"]
        # The first two rounds of a hung target take their whole time-out; after those the healthy one is on time.
        late = [round(b - a, 2) for a, b in zip(times, times[1:]) if a > times[0] + 28]
        print(f"    gaps between healthy scrapes: {min(late)} to {max(late)} s, {len(late) + 1} scrapes")
        assert len(late) > 12 and max(late) < 2.8, late
    finally:
        took = agent.stop()
    assert took < 5, took


def main():
    only = sys.argv[2:]
    failed = 0
    for name, test in [(n, t) for n, t in globals().items() if n.startswith("test_")]:
        if only and not any(word in name for word in only):
            continue
        folder = pathlib.Path(tempfile.mkdtemp(prefix="promwatch-hostile-"))
        begun = time.monotonic()
        try:
            certificates(folder)
            test(folder)
            print(f"  {name} ok ({time.monotonic() - begun:.0f} s)", flush=True)
            shutil.rmtree(folder)
        except BaseException:
            failed += 1
            traceback.print_exc()
            print(f"  {name} FAILED; see {folder}", flush=True)
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
