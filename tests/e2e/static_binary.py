#!/usr/bin/env python3
"""One static binary, natively or under qemu-user: does it start, judge a configuration, do the main job over HTTPS, survive
an outage, and read the golden spools?

usage: static_binary.py BINARY [WRAPPER…]      such as static_binary.py …/promwatch qemu-arm-static -cpu arm1176

Needs prometheus-node-exporter and openssl. The upstream is cloudwatch_logs.py, which checks every signature.
"""
import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from cloudwatch_logs import ACCESS_KEY, SECRET_KEY, CloudWatchLogs
from processes import Process, free_port, listening, stop_all, wait_for

ROOT = Path(__file__).resolve().parents[2]
BINARY = os.path.abspath(sys.argv[1])
WRAPPER = sys.argv[2:]


def environment(folder, **more):
    env = {k: v for k, v in os.environ.items() if not k.startswith("AWS_") and "PROXY" not in k.upper()}
    return dict(env, AWS_ACCESS_KEY_ID=ACCESS_KEY, AWS_SECRET_ACCESS_KEY=SECRET_KEY, HOME=str(folder),
                RUNTIME_DIRECTORY=str(folder / "run"), **more)


def promwatch(folder, *words, exits=0):
    done = subprocess.run([*WRAPPER, BINARY, *map(str, words)], capture_output=True, text=True, timeout=120,
                          env=environment(folder))
    assert done.returncode == exits, f"{words}: exit {done.returncode}\n{done.stdout[-2000:]}\n{done.stderr[-2000:]}"
    return done.stdout


def events_of(text):
    return [(e["log_group"], e["log_stream"], e["timestamp"], e["message"]) for e in map(json.loads, text.splitlines())]


def version(folder):
    assert promwatch(folder, "--version").startswith("promwatch "), "--version"


def example(folder):
    """The example of the repository, and a wrong one."""
    promwatch(folder, "check", "--config", ROOT / "etc/example/amazon-cloudwatch-agent.json")
    (folder / "wrong.json").write_text('{"logs": {"metrics_collected": {"prometheus": {}}}, "promwatch": {"bufer": {}}}')
    promwatch(folder, "check", "--config", folder / "wrong.json", exits=78)


def golden_spools(folder):
    """What an earlier version wrote on any machine is read on this one, event by event."""
    damaged = {"damaged", "torn", "newer"}
    folders = sorted((ROOT / "tests/spool_golden/v1").iterdir())
    assert folders
    for golden in folders:
        state = folder / golden.name
        shutil.copytree(golden, state)
        text = promwatch(folder, "buffer", "cat", "--state-dir", state, exits=1 if golden.name in damaged else 0)
        expected = (golden / "cat.txt").read_text()
        got = events_of(text)
        if expected.startswith("{"):
            assert got == events_of(expected), f"{golden.name}: the events differ"
        else:  # too long to keep as text
            digest = hashlib.sha256(json.dumps(got).encode()).hexdigest()
            assert digest == (golden / "events.sha256").read_text().strip(), f"{golden.name}: the events differ ({digest})"


def configure(folder, exporter_port, url):
    folder.mkdir(exist_ok=True)
    (folder / "prometheus.yaml").write_text(
        "global:\n  scrape_interval: 1s\nscrape_configs:\n  - job_name: node\n    static_configs:\n"
        f"      - targets: ['127.0.0.1:{exporter_port}']\n")
    (folder / "agent.json").write_text(json.dumps({
        "agent": {"region": "eu-central-1"},
        "logs": {"endpoint_override": url, "force_flush_interval": 1, "metrics_collected": {"prometheus": {
            "log_group_name": "/edge/prom", "prometheus_config_path": str(folder / "prometheus.yaml"),
            "emf_processor": {"metric_namespace": "Edge", "metric_declaration": [
                {"source_labels": ["job"], "label_matcher": "^node$", "dimensions": [["job", "host"]],
                 "metric_selectors": ["^node_load1$"]}]}}}},
        "promwatch": {"upload": {"jitter": 0, "backlog_requests_per_second": 50, "backlog_bytes_per_second": "10MiB"}},
    }))


def start(folder, *words, **env):
    words = ["run", "--config", folder / "agent.json", "--state-dir", folder / "state", *words]
    return Process([*WRAPPER, BINARY, *map(str, words)], folder / "promwatch.log", environment(folder, **env))


def scrapes(upstream):
    return [time for time, message in upstream.events() if '"node_load1"' in message]


def main_job(folder):
    """node_exporter to HTTPS; an outage of the link; every scrape arrives once."""
    exporter_port = free_port()
    Process(["prometheus-node-exporter", f"--web.listen-address=127.0.0.1:{exporter_port}"], folder / "exporter.log")
    wait_for("node_exporter", lambda: listening(exporter_port))
    upstream = CloudWatchLogs(folder)
    configure(folder, exporter_port, upstream.url)
    (folder / "common-config.toml").write_text(f'[ssl]\n  ca_bundle_path = "{upstream.ca}"\n')
    agent = start(folder, "--common-config", folder / "common-config.toml")
    wait_for("three scrapes", lambda: len(scrapes(upstream)) >= 3, 60)
    upstream.stop()
    spooled = lambda: promwatch(folder, "buffer", "cat", "--state-dir", folder / "state")
    wait_for("events on disk", lambda: "node_load1" in spooled(), 60)
    code, took = agent.stop(signal.SIGTERM, 20)
    assert code == 0 and took < (5 if not WRAPPER else 15), (code, took)
    upstream.start()
    # The other way to name the authority.
    agent = start(folder, AWS_CA_BUNDLE=str(upstream.ca))
    before = len(scrapes(upstream))
    wait_for("the backlog and fresh scrapes", lambda: len(scrapes(upstream)) >= before + 5 and not spooled(), 60)
    assert agent.stop(signal.SIGTERM, 20)[0] == 0
    times = sorted(scrapes(upstream))
    assert upstream.violations == [], upstream.violations[:3]
    assert len(times) == len(set(times)), "a scrape arrived twice"
    message = json.loads(next(message for _, message in upstream.events() if '"node_load1"' in message))
    assert message["CloudWatchMetrics"][0]["Namespace"] == "Edge", message
    upstream.stop()


def unknown_authority(folder):
    """Without the authority nothing is delivered: the certificate is checked, and the log names the likely fix."""
    exporter_port = free_port()
    Process(["prometheus-node-exporter", f"--web.listen-address=127.0.0.1:{exporter_port}"], folder / "exporter.log")
    wait_for("node_exporter", lambda: listening(exporter_port))
    upstream = CloudWatchLogs(folder)
    configure(folder, exporter_port, upstream.url)
    agent = start(folder)
    wait_for("the complaint", lambda: "AWS_CA_BUNDLE" in (folder / "promwatch.log").read_text(), 60)
    agent.stop(signal.SIGTERM, 20)
    assert upstream.requests == 0, "something was sent to a server that is not trusted"
    upstream.stop()


def main():
    root = Path(tempfile.mkdtemp(prefix="promwatch-static-"))
    failed = 0
    for check in (version, example, golden_spools, main_job, unknown_authority):
        folder = root / check.__name__
        folder.mkdir()
        began = time.time()
        try:
            check(folder)
            print(f"ok      {check.__name__} ({time.time() - began:.1f} s)", flush=True)
        except Exception as error:  # the others are of interest too
            failed += 1
            print(f"FAILED  {check.__name__}: {error!r}", flush=True)
            log = folder / "promwatch.log"
            if log.exists():
                print(log.read_text()[-3000:])
        finally:
            stop_all()
    if not failed:
        shutil.rmtree(root)
    sys.exit(1 if failed else 0)


main()
