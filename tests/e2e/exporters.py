"""`promwatch once` against real exporters in both formats; scripts/exporters-test.sh installs what this needs.

For each exporter and each format two rounds are scraped. What must hold: no target is down, every event is of the agent's
form, every family that a plain reading of the page finds is in an event, and counters begin with the second round. The pages
are kept in target/exporter-pages, for scripts/differential/exposition.sh.

usage: tests/e2e/exporters.py PROMWATCH [EXPORTER ...]
"""

import json
import os
import pathlib
import pwd
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import traceback
import urllib.request

BINARY = os.path.abspath(sys.argv[1])
FORMATS = {
    "OpenMetrics": ["OpenMetricsText1.0.0", "OpenMetricsText0.0.1", "PrometheusText0.0.4"],
    "text": ["PrometheusText0.0.4"],
}
PAGES = pathlib.Path("target/exporter-pages")
ACCEPT = {"OpenMetrics": "application/openmetrics-text;version=1.0.0,text/plain;q=0.1", "text": "text/plain;version=0.0.4"}
PYTHON_CLIENT = """
import sys, time
from prometheus_client import Counter, Gauge, Histogram, Summary, Info, Enum, start_http_server
requests = Counter('requests', 'Requests with "quotes", \\\\ and\\nline ends.', ['path'])
Gauge('temperature_celsius', 'Heat.').set(-3.5)
latency = Histogram('latency_seconds', 'Latency.')
size = Summary('size_bytes', 'Sizes.')
Info('build', 'Build.').info({'version': '1.0', 'note': 'a "quoted" \\\\ text'})
Enum('state', 'State.', states=['up', 'down']).state('up')
start_http_server(int(sys.argv[1]), addr='127.0.0.1')
while True:
    requests.labels('/a b').inc(exemplar={'trace_id': 'abc'})
    latency.observe(0.3, exemplar={'trace_id': 'def'})
    size.observe(10)
    time.sleep(0.1)
"""
NGINX = """
daemon off; pid {folder}/nginx.pid; error_log {folder}/error.log;
events {{ worker_connections 64; }}
http {{ access_log off; client_body_temp_path {folder}/b; proxy_temp_path {folder}/p; fastcgi_temp_path {folder}/f;
  uwsgi_temp_path {folder}/u; scgi_temp_path {folder}/s;
  server {{ listen 127.0.0.1:{port}; location / {{ return 200 'hello'; }} location /status {{ stub_status; }} }} }}
"""
APACHE = """
ServerName localhost
Listen 127.0.0.1:{port}
PidFile {folder}/apache.pid
ErrorLog {folder}/error.log
DefaultRuntimeDir {folder}
LoadModule mpm_event_module /usr/lib/apache2/modules/mod_mpm_event.so
LoadModule authz_core_module /usr/lib/apache2/modules/mod_authz_core.so
LoadModule status_module /usr/lib/apache2/modules/mod_status.so
User www-data
Group www-data
ExtendedStatus On
<Location "/server-status">
  SetHandler server-status
</Location>
"""


class Stage:
    """What runs for one exporter: processes on spare ports, and a folder."""

    def __init__(self):
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="promwatch-exporter-"))
        self.folder.chmod(0o755)
        self.processes = []

    def port(self):
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            return probe.getsockname()[1]

    def start(self, port, *words, user=None, env=None):
        log = open(self.folder / f"{len(self.processes)}.log", "wb")
        self.processes.append(subprocess.Popen([str(word) for word in words], stdout=log, stderr=log, user=user,
                                               env={**os.environ, **(env or {})}, cwd=self.folder))
        deadline = time.monotonic() + 30
        while port:
            try:
                socket.create_connection(("127.0.0.1", port), 1).close()
                return
            except OSError:
                if time.monotonic() > deadline or self.processes[-1].poll() is not None:
                    raise AssertionError(f"{words} does not listen: {(pathlib.Path(log.name)).read_text()[-2000:]}")
                time.sleep(0.1)

    def close(self):
        for process in reversed(self.processes):
            process.terminate()
        for process in self.processes:
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
        shutil.rmtree(self.folder, ignore_errors=True)


# Each starts its exporter and gives the targets: (port, further keys of the job).


def node(stage):
    port = stage.port()
    stage.start(port, "prometheus-node-exporter", f"--web.listen-address=127.0.0.1:{port}")
    return [(port, "")]


def blackbox(stage):
    port = stage.port()
    (stage.folder / "blackbox.yml").write_text("modules: {http_2xx: {prober: http}, tcp: {prober: tcp}}\n")
    stage.start(port, "prometheus-blackbox-exporter", f"--web.listen-address=127.0.0.1:{port}",
                f"--config.file={stage.folder}/blackbox.yml")
    probe = f", metrics_path: /probe, params: {{module: [http_2xx], target: ['http://127.0.0.1:{port}/']}}"
    return [(port, ""), (port, probe)]


def process(stage):
    port = stage.port()
    (stage.folder / "process.yml").write_text("process_names:\n  - name: '{{.Comm}}'\n    cmdline: ['.+']\n")
    stage.start(port, "prometheus-process-exporter", f"-web.listen-address=127.0.0.1:{port}", "-config.path",
                stage.folder / "process.yml")
    return [(port, "")]


def pushgateway(stage):
    port = stage.port()
    stage.start(port, "prometheus-pushgateway", f"--web.listen-address=127.0.0.1:{port}")
    pushed = b"# TYPE backup_seconds gauge\nbackup_seconds{disk=\"a \\\"b\\\"\"} 12.5\n# TYPE runs_total counter\nruns_total 3\n"
    urllib.request.urlopen(urllib.request.Request(f"http://127.0.0.1:{port}/metrics/job/backup/instance/nas", pushed, method="PUT"))
    return [(port, ", honor_labels: true")]


def redis(stage):
    server, port = stage.port(), stage.port()
    stage.start(server, "redis-server", "--port", server, "--bind", "127.0.0.1", "--save", "", "--dir", stage.folder)
    stage.start(port, "prometheus-redis-exporter", f"-web.listen-address=127.0.0.1:{port}", f"-redis.addr=redis://127.0.0.1:{server}")
    return [(port, "")]


def nginx(stage):
    server, port = stage.port(), stage.port()
    (stage.folder / "nginx.conf").write_text(NGINX.format(folder=stage.folder, port=server))
    stage.start(server, "/usr/sbin/nginx", "-c", stage.folder / "nginx.conf")
    stage.start(port, "prometheus-nginx-exporter", f"-web.listen-address=127.0.0.1:{port}",
                f"-nginx.scrape-uri=http://127.0.0.1:{server}/status")
    return [(port, "")]


def apache(stage):
    server, port = stage.port(), stage.port()
    (stage.folder / "apache.conf").write_text(APACHE.format(folder=stage.folder, port=server))
    stage.start(server, "/usr/sbin/apache2", "-f", stage.folder / "apache.conf", "-DFOREGROUND")
    stage.start(port, "prometheus-apache-exporter", f"--telemetry.address=127.0.0.1:{port}", f"--scrape_uri=http://127.0.0.1:{server}/server-status?auto")
    return [(port, "")]


def snmp(stage):
    agent, port = stage.port(), stage.port()
    (stage.folder / "snmpd.conf").write_text(f"agentaddress udp:127.0.0.1:{agent}\nrocommunity public 127.0.0.1\n")
    stage.start(None, "/usr/sbin/snmpd", "-f", "-Lo", "-C", "-c", stage.folder / "snmpd.conf", "-p", stage.folder / "snmpd.pid")
    # The system and interface tables, as the generator would write them.
    (stage.folder / "snmp.yml").write_text("""
if_mib:
  walk: [1.3.6.1.2.1.1.3, 1.3.6.1.2.1.2.2.1.10, 1.3.6.1.2.1.2.2.1.2]
  version: 2
  auth: {community: public}
  metrics:
  - {name: sysUpTime, oid: 1.3.6.1.2.1.1.3, type: gauge, help: Time since start.}
  - name: ifInOctets
    oid: 1.3.6.1.2.1.2.2.1.10
    type: counter
    help: Octets received.
    indexes: [{labelname: ifIndex, type: gauge}]
    lookups: [{labels: [ifIndex], labelname: ifDescr, oid: 1.3.6.1.2.1.2.2.1.2, type: DisplayString}]
""")
    stage.start(port, "prometheus-snmp-exporter", f"--web.listen-address=127.0.0.1:{port}", f"--config.file={stage.folder}/snmp.yml")
    time.sleep(1)
    return [(port, f", metrics_path: /snmp, params: {{module: [if_mib], target: ['127.0.0.1:{agent}']}}"), (port, "")]


def postgres(stage):
    server, port = stage.port(), stage.port()
    bin_dir = max(pathlib.Path("/usr/lib/postgresql").glob("*/bin"))
    user = pwd.getpwnam("postgres") if os.getuid() == 0 else None
    data = stage.folder / "data"
    data.mkdir()
    if user:
        os.chown(data, user.pw_uid, user.pw_gid)
    subprocess.run([bin_dir / "initdb", "-D", data, "-A", "trust", "-U", "postgres"], check=True, capture_output=True,
                   user=user and user.pw_uid, cwd="/")
    stage.start(server, bin_dir / "postgres", "-D", data, "-p", server, "-h", "127.0.0.1", "-k", data, user=user and user.pw_uid)
    stage.start(port, "prometheus-postgres-exporter", f"--web.listen-address=127.0.0.1:{port}",
                env={"DATA_SOURCE_NAME": f"postgresql://postgres@127.0.0.1:{server}/postgres?sslmode=disable"})
    return [(port, "")]


def python_client(stage):
    port = stage.port()
    (stage.folder / "client.py").write_text(PYTHON_CLIENT)
    stage.start(port, "/usr/bin/python3", stage.folder / "client.py", port)
    return [(port, "")]


EXPORTERS = {f.__name__: f for f in (node, blackbox, process, pushgateway, redis, nginx, apache, snmp, postgres, python_client)}


def once(stage, targets, protocols):
    jobs = "".join(
        f"  - {{job_name: job{i}, scrape_protocols: {protocols}, static_configs: [{{targets: ['127.0.0.1:{port}']}}]{more}}}\n"
        for i, (port, more) in enumerate(targets))
    (stage.folder / "prometheus.yaml").write_text(f"scrape_configs:\n{jobs}")
    (stage.folder / "agent.json").write_text(json.dumps({
        "agent": {"region": "eu-central-1"},
        "logs": {"metrics_collected": {"prometheus": {
            "log_group_name": "/exporters", "prometheus_config_path": str(stage.folder / "prometheus.yaml"),
            "emf_processor": {"metric_namespace": "Edge", "metric_declaration": [
                {"source_labels": ["job"], "dimensions": [["job", "host"]], "metric_selectors": [".*"]}]}}}},
        "promwatch": {"types": {"scrape_health": True, "histograms": "sum_count", "untyped": True}},
    }))
    env = {k: v for k, v in os.environ.items() if not k.startswith("AWS_") and "PROXY" not in k.upper()}
    done = subprocess.run([BINARY, "once", "--scrapes", "2", "--interval", "1s", "--config", stage.folder / "agent.json"],
                          capture_output=True, text=True, env=env, timeout=120)
    assert done.returncode == 0, done.stderr
    assert "target down" not in done.stderr, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def page(port, more, accept):
    """The page's content type, the types of its families, its sample lines; by a reading of no subtlety."""
    path = re.search(r"metrics_path: (\S+?),", more + ",")
    query = ""
    if "params" in more:
        module, target = re.search(r"module: \[(.*?)\]", more)[1], re.search(r"target: \['(.*?)'\]", more)[1]
        query = f"?module={module}&target={urllib.request.quote(target, safe='')}"
    url = f"http://127.0.0.1:{port}{path[1] if path else '/metrics'}{query}"
    answer = urllib.request.urlopen(urllib.request.Request(url, headers={"Accept": accept}), timeout=30)
    text = answer.read().decode()
    (PAGES / f"{len(list(PAGES.iterdir()))}").write_text(text)
    types = dict(line.split()[2:4] for line in text.splitlines() if line.startswith("# TYPE "))
    samples = [line for line in text.splitlines() if line and not line.startswith("#")]
    return answer.headers["Content-Type"], types, samples


def finite(samples, family):
    """Whether the family has a value that an event can hold."""
    values = [line.rsplit(" # ")[0].split()[-1] for line in samples if re.match(re.escape(family) + r"(_total)?[{ ]", line)]
    return any(value not in ("NaN", "+Inf", "-Inf") for value in values)


def judge(events, targets, pages):
    for line in events:
        assert list(line) == ["log_group", "log_stream", "timestamp", "message"], line
        assert line["log_group"] == "/exporters" and isinstance(line["timestamp"], int), line
    for i, ((_, more), (content_type, types, samples)) in enumerate(zip(targets, pages)):
        foreign = "honor_labels" in more
        mine = [json.loads(line["message"]) for line in events]
        mine = [message for message in mine if foreign or message["job"] == f"job{i}"]
        for message in mine:
            assert message["Version"] == "0" and message["Timestamp"].isdigit() and message["host"], message
            assert message["prom_metric_type"] in ("gauge", "counter", "summary", "histogram"), message
            for directive in message.get("CloudWatchMetrics", []):
                assert directive["Namespace"] == "Edge" and directive["Dimensions"] == [["host", "job"]], directive
                assert 0 < len(directive["Metrics"]) <= 100, directive
                for metric in directive["Metrics"]:
                    assert isinstance(message[metric["Name"]], (int, float)), metric
        health = [message for message in mine if "up" in message]
        assert [message["up"] for message in health] == [1, 1], health
        scraped = health[-1]["scrape_samples_scraped"]
        assert abs(scraped - len(samples)) <= len(samples) * 0.2 + 30, (scraped, len(samples))
        first = int(health[0]["Timestamp"])
        counters = [message for message in mine if message["prom_metric_type"] == "counter"]
        assert all(int(message["Timestamp"]) > first for message in counters), "an increase in the first round"
        increases = [value for message in counters for value in message.values() if isinstance(value, (int, float))]
        assert all(value >= 0 for value in increases), "an increase below zero"
        present = {name for message in mine for name, value in message.items() if isinstance(value, (int, float))}
        suffix = {"gauge": "", "counter": "_total" if "openmetrics" in content_type else "", "histogram": "_count"}
        lost = [
            family for family, kind in types.items()
            if kind in suffix and family + suffix[kind] not in present and (kind == "histogram" or finite(samples, family))
        ]
        assert not lost, f"on the page and in no event: {lost}"
        yield f"{content_type.split(';')[0]}: {len(samples)} samples, {len(mine)} events, {len(counters)} of them counters"


def main():
    shutil.rmtree(PAGES, ignore_errors=True)
    PAGES.mkdir(parents=True)
    only = sys.argv[2:]
    failed = []
    for name, start in EXPORTERS.items():
        if only and name not in only:
            continue
        stage = Stage()
        try:
            targets = start(stage)
            for wanted, protocols in FORMATS.items():
                accept = ACCEPT[wanted]
                # Once for nothing: what an exporter counts about itself begins with the first request.
                for _ in range(2):
                    pages = [page(port, more, accept) for port, more in targets]
                for line in judge(once(stage, targets, protocols), targets, pages):
                    print(f"  {name}, {wanted} preferred, answered in {line}", flush=True)
        except Exception as error:
            traceback.print_exc()
            failed.append(name)
            print(f"  {name} FAILED: {error}", flush=True)
        finally:
            stage.close()
    print("failed: " + ", ".join(failed) if failed else "all good")
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
