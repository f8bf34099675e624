"""promwatch and its peers, each started on one exporter and one TLS upstream, and what the kernel says of a process."""
import json
import os
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "tests/e2e"))
from cloudwatch_logs import ACCESS_KEY, SECRET_KEY  # noqa: E402

GROUP = "/edge/prom"


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


class Agent:
    """A started process. `folder` is its own; `state` below it is where it may keep things."""

    def __init__(self, words, folder, env=None):
        self.folder, self.state = folder, folder / "state"
        self.began = time.monotonic()
        with open(folder / "log", "ab") as log:
            self.popen = subprocess.Popen(list(map(str, words)), stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                                          env=env, cwd=folder)
        self.pid = self.popen.pid

    def cpu_seconds(self):
        """Nanoseconds on a processor of every thread; /proc/PID/stat counts in hundredths of a second only."""
        total = 0
        for task in os.listdir(f"/proc/{self.pid}/task"):
            try:
                total += int(Path(f"/proc/{self.pid}/task/{task}/schedstat").read_text().split()[0])
            except FileNotFoundError:
                pass
        return total / 1e9

    def memory(self):
        """(VmRSS, VmHWM) in kB."""
        lines = dict(line.split(":", 1) for line in Path(f"/proc/{self.pid}/status").read_text().splitlines())
        return int(lines["VmRSS"].split()[0]), int(lines["VmHWM"].split()[0])

    def threads(self):
        return len(os.listdir(f"/proc/{self.pid}/task"))

    def written_bytes(self):
        """What this process made the kernel write to a block device."""
        lines = dict(line.split(": ") for line in Path(f"/proc/{self.pid}/io").read_text().splitlines())
        return int(lines["write_bytes"])

    def state_bytes(self):
        return sum(f.stat().st_size for f in self.state.rglob("*") if f.is_file())

    def stop(self):
        if self.popen.poll() is None:
            self.popen.terminate()
        try:
            self.popen.wait(20)
        except subprocess.TimeoutExpired:
            self.popen.kill()
            self.popen.wait()


def prometheus_file(folder, exporter, interval_s):
    path = folder / "prometheus.yaml"
    path.write_text(f"global:\n  scrape_interval: {interval_s}s\n  scrape_timeout: {interval_s}s\nscrape_configs:\n"
                    f"  - job_name: node\n    static_configs:\n      - targets: ['127.0.0.1:{exporter.port}']\n")
    return path


def promwatch_words(binary, folder, exporter, upstream, interval_s):
    """A CloudWatch agent user's two files, with the defaults."""
    config = {
        "agent": {"region": "eu-central-1"},
        "logs": {
            "endpoint_override": upstream.url,
            "metrics_collected": {"prometheus": {
                "log_group_name": GROUP,
                "prometheus_config_path": str(prometheus_file(folder, exporter, interval_s)),
                "emf_processor": {"metric_namespace": "Edge", "metric_declaration": [
                    {"source_labels": ["job"], "label_matcher": "^node$", "dimensions": [["job", "host"]],
                     "metric_selectors": ["^node_load1$", "^app_queue_depth_000$"]}]},
            }},
        },
        "promwatch": {"runtime_dir": f"/dev/shm/promwatch-bench-{os.getpid()}"},
    }
    (folder / "agent.json").write_text(json.dumps(config))
    return [binary, "run", "--config", folder / "agent.json", "--state-dir", folder / "state"]


def promwatch_environment(upstream):
    env = {k: v for k, v in os.environ.items() if not k.startswith("AWS_") and "PROXY" not in k.upper()}
    return dict(env, AWS_ACCESS_KEY_ID=ACCESS_KEY, AWS_SECRET_ACCESS_KEY=SECRET_KEY, AWS_CA_BUNDLE=str(upstream.ca))


def promwatch(binary, folder, exporter, upstream, interval_s, wrapper=()):
    words = promwatch_words(binary, folder, exporter, upstream, interval_s)
    return Agent([*wrapper, *words], folder, promwatch_environment(upstream))


def prometheus(folder, exporter, upstream, interval_s):
    path = prometheus_file(folder, exporter, interval_s)
    path.write_text(path.read_text() + f"remote_write:\n  - url: {upstream.url}/write\n    tls_config:\n      ca_file: {upstream.ca}\n")
    return Agent(["prometheus", "--enable-feature=agent", f"--config.file={path}", f"--storage.agent.path={folder / 'state'}",
                  f"--web.listen-address=127.0.0.1:{free_port()}"], folder)


def vmagent(folder, exporter, upstream, interval_s):
    path = prometheus_file(folder, exporter, interval_s)
    return Agent(["vmagent", f"-promscrape.config={path}", f"-remoteWrite.url={upstream.url}/write",
                  f"-remoteWrite.tlsCAFile={upstream.ca}", f"-remoteWrite.tmpDataPath={folder / 'state'}",
                  "-promscrape.maxScrapeSize=64MB", f"-httpListenAddr=127.0.0.1:{free_port()}"], folder)


def fluent_bit(folder, exporter, upstream, interval_s):
    config = folder / "fluent-bit.conf"
    config.write_text(
        f"[SERVICE]\n    Flush 1\n    Log_Level warn\n    storage.path {folder / 'state'}\n"
        f"[INPUT]\n    Name prometheus_scrape\n    Host 127.0.0.1\n    Port {exporter.port}\n    Metrics_Path /metrics\n"
        f"    Scrape_Interval {interval_s}s\n    Buffer_Max_Size 64M\n    storage.type filesystem\n    Tag node\n"
        f"[OUTPUT]\n    Name cloudwatch_logs\n    Match *\n    region eu-central-1\n    log_group_name {GROUP}\n"
        f"    log_stream_name node\n    auto_create_group On\n    endpoint 127.0.0.1\n    port {upstream.port}\n"
        f"    tls.ca_file {upstream.ca}\n    tls.verify On\n")
    return Agent([shutil.which("fluent-bit"), "-c", config], folder, promwatch_environment(upstream))


PEERS = {"vmagent": vmagent, "prometheus": prometheus, "fluent-bit": fluent_bit}
