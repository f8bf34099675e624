#!/usr/bin/env python3
"""Every key of a scrape configuration that shows on the wire or in the events, with the real binary.

usage: tests/e2e/scrape_config.py PROMWATCH [TEST ...]
"""

import base64
import gzip
import http.server
import json
import os
import pathlib
import shutil
import signal
import socketserver
import ssl
import subprocess
import sys
import tempfile
import threading
import time
import traceback

from hostile import certificates, tls  # the same folder

BINARY = os.path.abspath(sys.argv[1])
PAGE = "# TYPE g gauge\ng 1\n# TYPE c_total counter\nc_total 5\n"
TEXT = "text/plain; version=0.0.4"


class Server:
    """An HTTP server. `answer(request)` gives (status, headers, body); requests are kept."""

    def __init__(self, answer=None, context=None, unix=None):
        self.requests = []
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self):
                self.body = self.rfile.read(int(self.headers.get("Content-Length") or 0)).decode()
                outer.requests.append(self)
                status, headers, body = (answer or (lambda _: (200, {"Content-Type": TEXT}, PAGE)))(self)
                body = body.encode() if isinstance(body, str) else body
                self.send_response(status)
                for name, value in headers.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            do_POST = do_GET

            def do_CONNECT(self):
                outer.requests.append(self)
                self.send_response(502)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def address_string(self):
                return "peer"

            def log_message(self, *_):
                pass

        if unix:
            class UnixServer(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
                daemon_threads = True
            self.server = UnixServer(str(unix), Handler)
        else:
            self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
            self.server.handle_error = lambda *_: None
            self.port = self.server.server_address[1]
        self.server.daemon_threads = True
        if context:
            self.server.socket = context.wrap_socket(self.server.socket, server_side=True)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    @property
    def last(self):
        return self.requests[-1]


class Bench:
    """A folder with the two files, and what `check`, `once`, `run` and `status` say about them."""

    def __init__(self):
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="promwatch-keys-"))
        self.env = {k: v for k, v in os.environ.items() if not k.startswith("AWS_") and "PROXY" not in k.upper()}
        self.env.update(HOME=str(self.folder), RUNTIME_DIRECTORY=str(self.folder / "run"), AWS_ACCESS_KEY_ID="A", AWS_SECRET_ACCESS_KEY="B")
        self.agent = None

    def write(self, name, text):
        path = self.folder / name
        path.write_text(text)
        return path

    def configure(self, yaml, own=None, emf=None):
        self.write("prometheus.yaml", yaml)
        prometheus = {"log_group_name": "/keys", "prometheus_config_path": str(self.folder / "prometheus.yaml")}
        if emf:
            prometheus["emf_processor"] = emf
        self.write("agent.json", json.dumps({
            "agent": {"region": "eu-central-1"},
            "logs": {"endpoint_override": "http://127.0.0.1:9", "metrics_collected": {"prometheus": prometheus}},
            **({"promwatch": own} if own else {}),
        }))

    def promwatch(self, *words):
        return subprocess.run([BINARY, *map(str, words)], capture_output=True, text=True, env=self.env, timeout=90)

    def check(self):
        return self.promwatch("check", "--config", self.folder / "agent.json", "--state-dir", self.folder / "state")

    def once(self, scrapes=1, up=True, interval="200ms"):
        done = self.promwatch("once", "--scrapes", scrapes, "--interval", interval, "--config", self.folder / "agent.json")
        assert done.returncode == 0, (done.returncode, done.stderr)
        if up is not None:
            assert ("target down" not in done.stderr) == up, done.stderr
        self.stderr = done.stderr
        return [json.loads(json.loads(line)["message"]) for line in done.stdout.splitlines()]

    def run(self):
        log = open(self.folder / "promwatch.log", "wb")
        self.agent = subprocess.Popen([BINARY, "run", "--config", self.folder / "agent.json", "--state-dir", self.folder / "state"],
                                      stdout=log, stderr=log, env=self.env)

    def status(self, json_=True):
        done = self.promwatch("status", *(["--json"] if json_ else []), "--state-dir", self.folder / "state")
        return (json.loads(done.stdout) if json_ else done.stdout) if done.returncode == 0 else None

    def wait(self, what, condition, seconds=30):
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            got = condition()
            if got:
                return got
            time.sleep(0.3)
        raise AssertionError(f"{what}: {self.status()} {(self.folder / 'promwatch.log').read_text()}")

    def events(self):
        """What the stopped agent left in its buffer."""
        done = self.promwatch("buffer", "cat", "--state-dir", self.folder / "state")
        assert done.returncode == 0, done.stderr
        return [json.loads(json.loads(line)["message"]) for line in done.stdout.splitlines()]

    def stop(self):
        if self.agent:
            self.agent.send_signal(signal.SIGTERM)
            assert self.agent.wait(20) == 0
            self.agent = None

    def close(self):
        if self.agent:
            self.agent.kill()
        shutil.rmtree(self.folder, ignore_errors=True)


def job(port, more="", targets=None):
    return f"scrape_configs:\n- job_name: j\n  scrape_timeout: 2s\n  static_configs: [{{targets: ['{targets or f'127.0.0.1:{port}'}']}}]\n{more}"


def basic(user, password):
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()


def test_authentication(b):
    user, secret = b.write("user", "filed user\n"), b.write("secret", "filed secret\n")
    cases = [
        ("  basic_auth: {username: u, password: 'p:w'}\n", basic("u", "p:w")),
        (f"  basic_auth: {{username: u, password_file: {secret}}}\n", basic("u", "filed secret")),
        (f"  basic_auth: {{username_file: {user}, password_file: secret}}\n", basic("filed user", "filed secret")),
        ("  basic_auth: {username: u}\n", basic("u", "")),
        ("  authorization: {credentials: abc}\n", "Bearer abc"),
        (f"  authorization: {{type: Token, credentials_file: {secret}}}\n", "Token filed secret"),
        ("  bearer_token: abc\n", "Bearer abc"),
        (f"  bearer_token_file: {secret}\n", "Bearer filed secret"),
    ]
    for yaml, want in cases:
        server = Server(lambda r: (200 if r.headers["Authorization"] == want else 401, {"Content-Type": TEXT}, PAGE))
        b.configure(job(server.port, yaml))
        assert b.check().returncode == 0
        assert b.once(), (yaml, server.last.headers["Authorization"])
    b.configure(job(server.port, "  bearer_token_file: missing\n"))
    done = b.check()
    assert done.returncode == 0 and "warning" in done.stdout and "missing" in done.stdout, done
    b.once(up=False)


def test_oauth2_tokens_are_kept(b):
    def token(r):
        return 200, {"Content-Type": "application/json"}, json.dumps({"access_token": "tok", "token_type": "Bearer", "expires_in": 3600})
    tokens = Server(token)
    server = Server(lambda r: (200 if r.headers["Authorization"] == "Bearer tok" else 401, {"Content-Type": TEXT}, PAGE))
    b.configure(job(server.port, f"  oauth2: {{client_id: me, client_secret: 's3cr&t', scopes: [a, b], token_url: 'http://127.0.0.1:{tokens.port}/t?x=1', endpoint_params: {{audience: every one}}}}\n"))
    assert b.once(scrapes=3)
    assert len(server.requests) == 3 and len(tokens.requests) == 1, (len(server.requests), len(tokens.requests))
    form = tokens.last.body
    assert tokens.last.command == "POST" and tokens.last.path == "/t?x=1", tokens.last.path
    assert "grant_type=client_credentials" in form and "scope=a+b" in form and "audience=every+one" in form, form
    assert tokens.last.headers["Authorization"] == basic("me", "s3cr%26t"), tokens.last.headers["Authorization"]
    refusing = Server(lambda r: (401, {"Content-Type": "application/json"}, '{"error":"invalid_client"}'))
    b.configure(job(server.port, f"  oauth2: {{client_id: me, client_secret: s3cret, token_url: 'http://127.0.0.1:{refusing.port}/'}}\n"))
    b.once(up=False)
    assert "invalid_client" in b.stderr and "s3cret" not in b.stderr, b.stderr


def test_oauth2_token_that_was_revoked_is_asked_for_again(b):
    count = []

    def token(_):
        count.append(1)
        return 200, {"Content-Type": "application/json"}, json.dumps({"access_token": f"tok{len(count)}", "expires_in": 3600})
    tokens = Server(token)
    server = Server(lambda r: (200 if r.headers["Authorization"] == f"Bearer tok{2 if len(server.requests) > 1 else 1}" else 401, {"Content-Type": TEXT}, PAGE))
    b.configure(job(server.port, f"  oauth2: {{client_id: me, client_secret: s, token_url: 'http://127.0.0.1:{tokens.port}/'}}\n"))
    b.once(scrapes=4, up=None)
    assert len(count) == 2 and b.stderr.count("target down") == 1, (len(count), b.stderr)


def test_tls(b):
    certificates(b.folder)
    f = b.folder
    good, other, ended = (Server(context=tls(f, name)) for name in ("good", "other", "ended"))
    inline = (f / "ca.pem").read_text().replace("\n", "\n      ")
    for server, keys, up in [
        (good, f"ca_file: {f}/ca.pem", True),
        (good, "ca_file: ca.pem", True),
        (good, "", False),
        (good, "insecure_skip_verify: true", True),
        (good, "ca_file: ca.pem, server_name: other.example", False),
        (other, "ca_file: ca.pem, server_name: other.example", True),
        (other, "ca_file: ca.pem", False),
        (ended, "ca_file: ca.pem", False),
        (ended, "insecure_skip_verify: yes", True),
        (good, "ca_file: ca.pem, min_version: TLS13", True),
        (good, "ca_file: ca.pem, max_version: TLS12", True),
        (good, "ca_file: ca.pem, min_version: TLS10", True),
        (good, "ca_file: gone.pem", False),
    ]:
        b.configure(job(server.port, f"  scheme: https\n  tls_config: {{{keys}}}\n"))
        assert b.check().returncode == 0, keys
        b.once(up=up)
    b.configure(job(good.port, f"  scheme: https\n  tls_config:\n    ca: |\n      {inline}\n"))
    b.once()
    only12, only13 = tls(f, "good"), tls(f, "good")
    only12.maximum_version = ssl.TLSVersion.TLSv1_2
    only13.minimum_version = ssl.TLSVersion.TLSv1_3
    for context, keys, up in [(only12, "min_version: TLS13", False), (only12, "min_version: TLS12", True), (only13, "max_version: TLS12", False), (only13, "", True)]:
        b.configure(job(Server(context=context).port, f"  scheme: https\n  tls_config: {{ca_file: ca.pem, {keys}}}\n"))
        b.once(up=up)
    asking = tls(f, "good")
    asking.verify_mode = ssl.CERT_REQUIRED
    asking.load_verify_locations(f / "ca.pem")
    server = Server(context=asking)
    b.configure(job(server.port, "  scheme: https\n  tls_config: {ca_file: ca.pem, cert_file: good.pem, key_file: good.key}\n"))
    b.once()
    b.configure(job(server.port, "  scheme: https\n  tls_config: {ca_file: ca.pem}\n"))
    b.once(up=False)
    block = lambda name: (f / name).read_text().replace("\n", "\n      ")
    b.configure(job(server.port, f"  scheme: https\n  tls_config:\n    ca: |\n      {block('ca.pem')}\n    cert: |\n      {block('good.pem')}\n    key: |\n      {block('good.key')}\n"))
    b.once()
    assert "BEGIN" not in b.stderr
    b.configure(job(server.port, "  scheme: https\n  tls_config: {cert_file: good.pem}\n"))
    assert b.check().returncode == 78


def test_proxy(b):
    proxy = Server()
    b.configure(job(1, f"  proxy_url: 'http://me:p%40ss@127.0.0.1:{proxy.port}'\n  proxy_connect_header: {{X-A: [b]}}\n", targets="exporter.example:80"))
    b.once()
    assert proxy.last.path == "http://exporter.example:80/metrics" or proxy.last.path == "http://exporter.example/metrics", proxy.last.path
    assert proxy.last.headers["Proxy-Authorization"] == basic("me", "p@ss"), proxy.last.headers
    direct, unused = Server(), Server()
    b.configure(job(direct.port, f"  proxy_url: 'http://127.0.0.1:{unused.port}'\n  no_proxy: 127.0.0.0/8\n"))
    b.once()
    assert direct.requests and not unused.requests
    b.env["HTTP_PROXY"] = f"http://127.0.0.1:{proxy.port}"
    b.configure(job(1, "  proxy_from_environment: true\n", targets="exporter.example:81"))
    b.once()
    assert "exporter.example:81" in proxy.last.path
    b.configure(job(direct.port))
    before = len(proxy.requests)
    b.once()
    assert len(proxy.requests) == before, "the environment's proxy is not for exporters unless asked"
    b.configure(job(1, f"  scheme: https\n  proxy_url: 'http://127.0.0.1:{proxy.port}'\n  proxy_connect_header: {{X-A: [b]}}\n", targets="exporter.example:443"))
    b.once(up=False)
    assert proxy.last.command == "CONNECT" and proxy.last.headers["X-A"] == "b", proxy.last.headers


def test_request(b):
    packed = lambda r: (200, {"Content-Type": TEXT, "Content-Encoding": "gzip"}, gzip.compress(PAGE.encode())) if "gzip" in (r.headers["Accept-Encoding"] or "") else (200, {"Content-Type": TEXT}, PAGE)
    secret = b.write("secret", "from a file\n")
    server = Server(packed)
    b.configure(job(server.port, f"""  metrics_path: /a/b
  params: {{module: [one, 'two & three'], "x[]": ['ü']}}
  http_headers: {{X-One: {{values: [1, 'b c']}}, X-Two: {{secrets: [hidden]}}, X-Three: {{files: [{secret}]}}}}
"""))
    done = b.check()
    assert done.returncode == 0 and "hidden" not in done.stdout, done.stdout
    b.once()
    r = server.last
    assert r.path == "/a/b?module=one&module=two+%26+three&x%5B%5D=%C3%BC", r.path
    assert r.headers.get_all("X-One") == ["1", "b c"] and r.headers["X-Two"] == "hidden" and r.headers["X-Three"] == "from a file", r.headers
    assert r.headers["X-Prometheus-Scrape-Timeout-Seconds"] == "2" and r.headers["Accept-Encoding"] == "gzip", r.headers
    assert r.headers["Accept"].startswith("application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,"), r.headers["Accept"]
    b.configure(job(server.port, "  enable_compression: false\n  scrape_protocols: [PrometheusText0.0.4]\n"))
    b.once()
    assert server.last.headers["Accept-Encoding"] in (None, "identity"), server.last.headers
    assert server.last.headers["Accept"].startswith("text/plain;version=0.0.4"), server.last.headers["Accept"]
    moving = Server(lambda r: (302, {"Location": "/new"}, "") if r.path == "/metrics" else (200, {"Content-Type": TEXT}, PAGE))
    b.configure(job(moving.port))
    b.once()
    assert moving.last.path == "/new"
    b.configure(job(moving.port, "  follow_redirects: false\n"))
    b.once(up=False)
    elsewhere = Server()
    leaking = Server(lambda r: (302, {"Location": f"http://localhost:{elsewhere.port}/new"}, ""))
    b.configure(job(leaking.port, "  basic_auth: {username: u, password: p}\n  http_headers: {X-Key: {secrets: [k]}}\n"))
    b.once()
    headers = elsewhere.last.headers
    assert headers["Accept"] and not headers["Authorization"] and not headers["X-Key"], f"credentials at another host: {headers}"


def test_formats(b):
    om = "# TYPE c counter\n# UNIT c_x x\nc_total 5 # {a=\"b\"} 1\nc_created 1.5e9\n# EOF\n".replace("# UNIT c_x x\n", "")
    server = Server(lambda r: (200, {"Content-Type": "application/openmetrics-text; version=1.0.0; charset=utf-8"}, om))
    b.configure(job(server.port))
    b.once()
    cut = Server(lambda r: (200, {"Content-Type": "application/openmetrics-text; version=1.0.0"}, "# TYPE g gauge\ng 1\n"))
    b.configure(job(cut.port))
    b.once(up=False)
    assert "EOF" in b.stderr, b.stderr
    for fallback, content, page, up in [("OpenMetricsText1.0.0", None, om, True), ("OpenMetricsText1.0.0", "x/y", "g 1\n", False), (None, None, PAGE, True), (None, "text/html", PAGE, True)]:
        server = Server(lambda r: (200, {"Content-Type": content} if content else {}, page))
        b.configure(job(server.port, f"  fallback_scrape_protocol: {fallback}\n" if fallback else ""))
        b.once(up=up)


def test_labels_and_limits(b):
    page = '# TYPE g gauge\ng{job="theirs",instance="their",a="1"} 1 1000\n# TYPE "g.dot" gauge\n{"g.dot"} 2\n'
    server = Server(lambda r: (200, {"Content-Type": TEXT}, page))
    b.configure(job(server.port, "  metric_relabel_configs: [{source_labels: [__name__], regex: g, action: keep}]\n"))
    g = b.once()[0]
    assert (g["job"], g["exported_job"], g["exported_instance"], g["Timestamp"]) == ("j", "theirs", "their", "1000"), g
    b.configure(job(server.port, "  honor_labels: true\n  honor_timestamps: false\n"))
    events = b.once()
    g = next(e for e in events if "g" in e)
    assert (g["job"], g["instance"]) == ("theirs", "their") and "exported_job" not in g and g["Timestamp"] != "1000", g
    assert any("g.dot" in e for e in events), events
    b.configure(job(server.port, "  metric_name_validation_scheme: legacy\n"))
    b.once(up=False)
    for keys, up in [("sample_limit: 2", True), ("sample_limit: 1", False), ("label_limit: 4", True), ("label_limit: 3", False), ("label_name_length_limit: 8", True),
                     ("label_name_length_limit: 7", False), ("label_value_length_limit: 15", True), ("label_value_length_limit: 3", False),
                     ("body_size_limit: 1KB", True), ("body_size_limit: 20B", False), ("target_limit: 1", True)]:
        b.configure(job(server.port, f"  {keys}\n  honor_labels: true\n"))
        b.once(up=up)
        assert up or keys.split(":")[0] in b.stderr, b.stderr
    b.configure(job(0, "  target_limit: 1\n", targets=f"127.0.0.1:{server.port}', '127.0.0.1:1"))
    b.once(up=False)
    assert b.stderr.count("target down: ") == 2 and "target_limit exceeded" in b.stderr, b.stderr


def test_relabelling(b):
    server = Server()
    b.configure(f"""scrape_configs:
- job_name: j
  static_configs: [{{targets: ['one', 'two'], labels: {{x: Y}}}}]
  relabel_configs:
  - {{source_labels: [__address__], regex: two, action: drop}}
  - {{source_labels: [__address__], target_label: __param_target}}
  - {{source_labels: [__param_target], target_label: instance}}
  - {{target_label: __address__, replacement: '127.0.0.1:{server.port}'}}
  - {{target_label: __metrics_path__, replacement: /probe}}
  - {{target_label: __scrape_timeout__, replacement: 3s}}
  - {{source_labels: [x], target_label: low, action: lowercase}}
  - {{source_labels: [x], target_label: up, action: uppercase}}
  - {{source_labels: [x], target_label: h, modulus: 1000, action: hashmod}}
  - {{regex: 'lo(.)', replacement: 'map_$1', action: labelmap}}
  - {{regex: x, action: labeldrop}}
  metric_relabel_configs:
  - {{source_labels: [__name__], regex: '(.)_total', target_label: which, replacement: '${{1}}x'}}
""")
    g = b.once()[0]
    assert server.last.path == "/probe?target=one" and server.last.headers["X-Prometheus-Scrape-Timeout-Seconds"] == "3", server.last.path
    import hashlib
    h = str(int.from_bytes(hashlib.md5(b"Y").digest()[8:], "big") % 1000)
    assert (g["instance"], g["low"], g["up"], g["map_w"], g["h"]) == ("one", "y", "Y", "y", h) and "x" not in g, g
    # What the job looks like must not stop `check`; a bad rule must.
    b.configure(job(1, "  relabel_configs: [{action: keep, regex: '(', source_labels: [a]}]\n"))
    done = b.check()
    assert done.returncode == 78 and "prometheus.yaml:5" in done.stdout + done.stderr, done


def test_scrape_config_files(b):
    server = Server()
    (b.folder / "more").mkdir()
    b.write("more/one.yml", f"scrape_configs: [{{job_name: extra, static_configs: [{{targets: ['127.0.0.1:{server.port}']}}]}}]\n")
    b.configure("scrape_config_files: ['more/*.yml']\n")
    assert b.once()[0]["job"] == "extra"
    b.write("more/two.yml", "scrape_configs: [{job_name: extra}]\n")
    assert b.check().returncode == 78
    b.write("more/two.yml", "scrape_configs: [{job_nam: other}]\n")
    done = b.check()
    assert done.returncode == 78 and "two.yml:1" in done.stdout + done.stderr, done


def test_file_discovery_while_it_runs(b):
    one, two = Server(), Server()
    b.write("t.json", json.dumps([{"targets": [f"127.0.0.1:{one.port}"], "labels": {"l": "1"}}]))
    b.write("u.yml", "[]")
    b.configure("global: {scrape_interval: 1s}\nscrape_configs: [{job_name: j, file_sd_configs: [{files: ['*.json', u.yml], refresh_interval: 10s}]}]\n")
    b.run()
    count = lambda n: (lambda s: s and len(s["targets"]) == n and all(t["up"] for t in s["targets"]) and s)(b.status())
    b.wait("one target", lambda: count(1))
    b.write("new", f"- targets: ['127.0.0.1:{two.port}']\n").rename(b.folder / "u.yml")
    b.wait("two targets", lambda: count(2))
    b.write("t.json", "[{broken")
    b.wait("a told mistake", lambda: (b.status() or {}).get("discovery_errors"))
    status = b.wait("old targets stay", lambda: count(2))
    assert "t.json" in status["discovery_errors"][0], status["discovery_errors"]
    (b.folder / "t.json").unlink()
    b.wait("one target again", lambda: count(1))
    b.write("u.yml", "[]")
    b.wait("no target", lambda: (lambda s: s and s["targets"] == [] and s)(b.status()))
    b.stop()


def test_http_discovery(b):
    server = Server()
    state = {"body": None, "type": "application/json"}
    lists = Server(lambda r: (200, {"Content-Type": state["type"]}, state["body"]) if state["body"] else (500, {}, ""))
    state["body"] = json.dumps([{"targets": [f"127.0.0.1:{server.port}"], "labels": {"__meta_zone": "z"}}])
    b.configure(f"""global: {{scrape_interval: 1s}}
scrape_configs:
- job_name: j
  http_sd_configs: [{{url: 'http://127.0.0.1:{lists.port}/list', refresh_interval: 1s, basic_auth: {{username: u, password: p}}}}]
  relabel_configs: [{{source_labels: [__meta_zone], target_label: zone}}]
""")
    assert b.once()[0]["zone"] == "z"
    assert lists.last.headers["Authorization"] == basic("u", "p") and lists.last.headers["X-Prometheus-Refresh-Interval-Seconds"] == "1", lists.last.headers
    b.run()
    b.wait("a target", lambda: (lambda s: s and len(s["targets"]) == 1)(b.status()))
    state["body"] = None
    status = b.wait("a told failure", lambda: (lambda s: s and s["discovery_errors"] and s)(b.status()))
    assert len(status["targets"]) == 1 and "500" in status["discovery_errors"][0], status
    b.stop()


def test_own_targets(b):
    Server(unix=b.folder / "app.sock")
    texts = b.folder / "texts"
    texts.mkdir()
    (texts / "good.prom").write_text("# TYPE backup_ok gauge\nbackup_ok 1\n")
    (texts / "bad.prom").write_text("this is { not right\n")
    os.utime(texts / "good.prom", (time.time() - 7200,) * 2)
    b.configure(f"scrape_configs: [{{job_name: j, static_configs: [{{targets: ['unix:{b.folder}/app.sock']}}]}}]\n",
                {"textfile": {"directory": str(texts), "interval": "1s"}, "host_metrics": {"interval": "1s"}})
    events = b.once(scrapes=2)
    assert any(e.get("instance") == f"unix:{b.folder}/app.sock" and "g" in e for e in events), events
    text = [e for e in events if e["job"] == "textfile"]
    assert any("backup_ok" in e for e in text), text
    ages = {e["file"]: e for e in text if "file" in e}
    print("   ", [{k: v for k, v in e.items() if k not in ("host", "Version", "prom_metric_type")} for e in text][:6])
    assert any("node_load1" in e for e in events)
    assert any("node_cpu_seconds_total" in e for e in events)
    b.run()
    status = b.wait("three targets", lambda: (lambda s: s and len(s["targets"]) == 3 and all(t["up"] for t in s["targets"]) and s)(b.status()))
    told = next(t for t in status["targets"] if t["job"] == "textfile")
    assert "bad.prom" in told["problems"][0], told
    b.write("t", "# TYPE backup_ok gauge\nbackup_ok 2\n").rename(texts / "good.prom")
    (texts / "bad.prom").unlink()
    b.wait("no problem left", lambda: (lambda s: s and not any(t["problems"] for t in s["targets"]))(b.status()))
    b.stop()
    values = [e["backup_ok"] for e in b.events() if "backup_ok" in e]
    assert values[0] == 1 and values[-1] == 2, values


def test_bad_lines_are_shown(b):
    server = Server(lambda r: (200, {"Content-Type": TEXT}, "# TYPE g gauge\ng 1\ng{ 2\ng{a=\"b\"} 0x1p3\ng{a=\"c\"} 3\n"))
    yaml = "global: {scrape_interval: 1s}\n" + job(server.port).replace("  scrape_timeout: 2s\n", "")
    b.configure(yaml)
    b.once(up=False)
    assert "line 3, column" in b.stderr, b.stderr
    yaml = yaml.replace("']}]", "', '127.0.0.1:1']}]")
    b.configure(yaml, {"scrape": {"bad_lines": "skip"}})
    assert len([e for e in b.once(up=False) if "g" in e]) == 2
    b.run()
    b.wait("a scrape", lambda: (lambda s: s and s["targets"][0]["lines_skipped"] >= 2)(b.status()))
    text = b.status(False)
    assert "line 3" in text and "line 4" in text and "bad lines skipped" in text and "failed for: " in text, text
    b.stop()


def test_types(b):
    n = [0]

    def page(_):
        n[0] += 1
        k = n[0]
        return 200, {"Content-Type": TEXT}, f"""# TYPE h histogram
h_bucket{{le="0.1"}} {2 * k}
h_bucket{{le="1"}} {5 * k}
h_bucket{{le="+Inf"}} {6 * k}
h_sum {4.5 * k}
h_count {6 * k}
u {k}
# TYPE s summary
s{{quantile="0.5"}} 1
s_sum {k}
s_count {k}
"""
    server = Server(page)
    dead = job(1).split("static_configs:")[1].replace("127.0.0.1:1", "127.0.0.1:1")
    yaml = job(server.port)
    names = lambda events: sorted({k for e in events for k, v in e.items() if isinstance(v, (int, float, dict))})
    for own, want in [
        ({}, ["s", "s_count", "s_sum"]),
        ({"types": {"histograms": "sum_count"}}, ["h_count", "h_sum", "s", "s_count", "s_sum"]),
        ({"types": {"histograms": "buckets"}}, ["h_bucket", "h_count", "h_sum", "s", "s_count", "s_sum"]),
        ({"types": {"histograms": "values"}}, ["h", "s", "s_count", "s_sum"]),
        ({"types": {"untyped": True}}, ["s", "s_count", "s_sum", "u"]),
    ]:
        b.configure(yaml, own)
        events = b.once(scrapes=2)
        assert names(events) == want, (own, names(events))
        if want[0] == "h":
            assert next(e["h"] for e in events if "h" in e) == {"Values": [0.05, 0.55, 1], "Counts": [2, 3, 1], "Max": 1, "Min": 0, "Count": 6, "Sum": 4.5}, events
    b.configure(job(1), {"types": {"scrape_health": True}})
    events = b.once(scrapes=2, up=False)
    assert [e["up"] for e in events if "up" in e] == [0, 0] and all(e["scrape_samples_scraped"] == 0 for e in events), events
    emf = {"metric_namespace": "N", "metric_declaration": [{"source_labels": ["job"], "dimensions": [["job", "instance"]], "metric_selectors": ["^up$"]}]}
    b.configure(job(1), {"types": {"scrape_health": True}}, emf)
    event = b.once(up=False)[0]
    assert event["CloudWatchMetrics"][0]["Metrics"] == [{"Name": "up", "Unit": "", "StorageResolution": 60}], event


def test_counters_over_gaps_restarts_and_vanishing(b):
    pages = []
    server = Server(lambda r: pages.pop(0) if pages else (200, {"Content-Type": TEXT}, ""))
    ok = lambda value, stamp="": (200, {"Content-Type": TEXT}, f"# TYPE c_total counter\nc_total {value}{stamp}\n")
    empty, failing = (200, {"Content-Type": TEXT}, "# TYPE g gauge\ng 1\n"), (500, {}, "")
    bad = (200, {"Content-Type": TEXT}, "c_total\n")
    now = int(time.time() * 1000)
    increases = lambda events: [e["c_total"] for e in events if "c_total" in e]
    for given, want in [
        ([ok(100), failing, ok(140)], [40]),
        ([ok(100), bad, ok(140)], [40]),
        ([ok(100), empty, ok(140)], [40]),
        ([ok(100), ok("NaN"), ok(140)], []),
        ([ok(100), ok(20), ok(25)], [20, 5]),
        ([ok(100, f" {now}"), ok(150, f" {now}"), ok(170, f" {now + 5000}")], [70]),
        ([ok(100, f" {now}"), ok(90, f" {now - 5000}"), ok(170, f" {now + 5000}")], [70]),
        ([ok(100), (200, {"Content-Type": TEXT}, "# TYPE c_total counter\nc_total 110\nc_total 115\n"), ok(120)], [115, 5]),
        ([ok(100), (200, {"Content-Type": TEXT}, "c_total 110\n"), ok(120)], [10, 10]),
    ]:
        pages[:] = list(given)
        b.configure(job(server.port))
        got = increases(b.once(scrapes=len(given), up=None, interval="100ms"))
        assert got == want, (given, got, want)
    # A gap over max_gap: logged with its span, no metric.
    emf = {"metric_namespace": "N", "metric_declaration": [{"source_labels": ["job"], "dimensions": [["job"]], "metric_selectors": [".*"]}]}
    pages[:] = [ok(100), ok(110), failing, failing, failing, ok(150), ok(160)]
    b.configure(job(server.port), {"counters": {"max_gap": "2s"}}, emf)
    events = [e for e in b.once(scrapes=7, up=None, interval="1s") if "c_total" in e]
    assert [e["c_total"] for e in events] == [10, 40, 10], events
    assert ["CloudWatchMetrics" in e for e in events] == [True, False, True], events
    assert events[1]["DeltaSpanSeconds"] in (4, 5) and "DeltaSpanSeconds" not in events[0], events[1]
    # A clean stop and start of the agent.
    pages[:] = []
    total = [100]
    server = Server(lambda r: (200, {"Content-Type": TEXT}, f"# TYPE c_total counter\nc_total {total[0]}\n"))
    b.configure("global: {scrape_interval: 1s}\n" + job(server.port).replace("  scrape_timeout: 2s\n", ""))
    b.run()
    b.wait("a scrape", lambda: len(server.requests) >= 2)
    b.stop()
    total[0] = 140
    seen = len(server.requests)
    b.run()
    b.wait("a scrape", lambda: len(server.requests) >= seen + 2)
    b.stop()
    assert sum(increases(b.events())) == 40, increases(b.events())


def test_check_names_what_has_no_effect_and_what_is_refused(b):
    b.configure("""global: {external_labels: {a: b}}
alerting: {alertmanagers: []}
rule_files: [x.yml]
remote_write: [{url: 'http://x/'}]
storage: {tsdb: {}}
scrape_configs:
- {job_name: j, enable_http2: true, track_timestamps_staleness: true, keep_dropped_targets: 5, static_configs: [{targets: ['x:1']}]}
""")
    done = b.check()
    assert done.returncode == 0, done
    for word in ("external_labels", "alerting", "rule_files", "remote_write", "storage", "track_timestamps_staleness", "keep_dropped_targets"):
        assert word in done.stdout, (word, done.stdout)
    b.configure("scrape_configs: [{job_name: j, kubernetes_sd_configs: [{role: node}], honor_labels: 'true'}]\n")
    done = b.check()
    assert done.returncode == 78 and "kubernetes_sd_configs" in done.stdout and "honor_labels" in done.stdout, done


def main():
    only = sys.argv[2:]
    failed = []
    for name, test in [(n, t) for n, t in globals().items() if n.startswith("test_")]:
        if only and not any(word in name for word in only):
            continue
        bench, begun = Bench(), time.monotonic()
        try:
            test(bench)
            print(f"  {name} ok ({time.monotonic() - begun:.1f} s)", flush=True)
        except BaseException:
            failed.append(name)
            traceback.print_exc()
            print(f"  {name} FAILED", flush=True)
        finally:
            bench.close()
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
