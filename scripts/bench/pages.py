"""The pages that the benchmark serves, and the exporter that serves them. Each page has four variants, served in turn."""
import gzip
import http.server
import threading
import time
from pathlib import Path

NODE = Path(__file__).resolve().parents[2] / "tests/golden/pages/node-text"
BUCKETS = ["0.005", "0.01", "0.025", "0.05", "0.1", "0.5", "1", "2.5", "10", "+Inf"]


def labels(n):
    """Five labels, as an instrumented service has them."""
    return (f'method="{("GET", "POST", "PUT", "DELETE")[n % 4]}",path="/api/v1/resource/{n // 40:04d}",'
            f'status="{(200, 201, 404, 500)[n // 4 % 4]}",zone="eu-west-{n % 3}",tenant="customer-{n % 40:05d}"')


def made(samples, variant):
    """`samples` samples: 40 % counters, 30 % gauges, 30 % series of histograms."""
    out = []
    counters, gauges, histograms = samples * 4 // 10, samples * 3 // 10, samples * 3 // 10 // (len(BUCKETS) + 2)
    for n in range(counters):
        if n % 200 == 0:
            family = f"app_requests_{n // 200:03d}_total"
            out.append(f"# HELP {family} Requests that were answered.\n# TYPE {family} counter\n")
        out.append(f"{family}{{{labels(n)}}} {1000 + n * 7 + variant * (n % 13)}\n")
    for n in range(gauges):
        if n % 200 == 0:
            family = f"app_queue_depth_{n // 200:03d}"
            out.append(f"# HELP {family} What waits.\n# TYPE {family} gauge\n")
        out.append(f"{family}{{{labels(n)}}} {(n * 37 + variant * (n % 5) * 11) % 9973 / 8}\n")
    for n in range(histograms):
        if n % 50 == 0:
            family = f"app_latency_{n // 50:03d}_seconds"
            out.append(f"# HELP {family} How long it took.\n# TYPE {family} histogram\n")
        count = 100 + n + variant * (n % 7)
        for k, le in enumerate(BUCKETS, 1):
            out.append(f'{family}_bucket{{{labels(n)},le="{le}"}} {count * k // len(BUCKETS)}\n')
        out.append(f"{family}_sum{{{labels(n)}}} {count * 0.25}\n{family}_count{{{labels(n)}}} {count}\n")
    return "".join(out).encode()


class Page:
    def __init__(self, name, variants):
        self.name = name
        self.variants = variants
        self.zipped = [gzip.compress(text, 1) for text in variants]
        self.samples = sum(1 for line in variants[0].splitlines() if line and not line.startswith(b"#"))


def page(name):
    if name == "node":
        return Page(name, [(NODE / f"{n}.txt").read_bytes() for n in (1, 2, 3, 4)])
    return Page(name, [made(int(name), variant) for variant in range(4)])


class Exporter:
    """Serves one page; remembers when each scrape came."""

    def __init__(self, page):
        self.page = page
        self.times = []
        exporter = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self):
                n = len(exporter.times) % 4
                exporter.times.append(time.monotonic())
                zipped = "gzip" in self.headers.get("accept-encoding", "")
                body = (exporter.page.zipped if zipped else exporter.page.variants)[n]
                self.send_response(200)
                self.send_header("content-type", "text/plain; version=0.0.4; charset=utf-8")
                if zipped:
                    self.send_header("content-encoding", "gzip")
                self.send_header("content-length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_):
                pass

        class Server(http.server.ThreadingHTTPServer):
            daemon_threads = True

            def handle_error(self, *_):
                pass  # a scraper that was stopped

        self.server = Server(("127.0.0.1", 0), Handler)
        self.port = self.server.server_port
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    @property
    def scrapes(self):
        return len(self.times)

    def close(self):
        self.server.shutdown()
        self.server.server_close()
