#!/usr/bin/env python3
"""Compares promwatch's reading of Prometheus configurations with Prometheus' own.

usage: run.py [seconds] [seed]     (in the repository; needs Go with the module proxy, and cargo)

First Prometheus' published cases (config/testdata of its module), then random configurations: built from the tables below
and mutated as text. Both readers must take or refuse each, and come to the same jobs. Differences that are wanted are
listed in WANTED, with the words that promwatch must then use; all others are printed and make the exit code 1.
"""
import glob, json, os, random, re, subprocess, sys, time

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.abspath(os.path.join(HERE, "../../.."))

# Refused by promwatch though Prometheus' reader takes it, each for a reason that its text must give.
WANTED = [
    "service discovery is out of promwatch's scope",
    "promwatch speaks text formats only",
    "promwatch does not speak protobuf",
    "only proxies that speak HTTP are served",
    "the proxy's URL has no host",
    "there is no secret manager",
    "versions before TLS 1.2 are broken",
    "a port is a number from 1 to 65535",
    "is not of the type !!binary",
    # Prometheus looks at the global scheme only when there is a job.
    "global.metric_name_validation_scheme: there is no such scheme",
]
# Prometheus meets a bad pattern only when it looks for the files.
WANTED.append("is not a file name pattern")
# A label without a name can have no use.
WANTED.append("a label name must not be empty")
# The scanners differ: go-yaml is of YAML 1.1, saphyr-parser of 1.2. What one of them alone cannot read is only counted.
scanner = {}


class Reader:
    def __init__(self, command):
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)

    def read(self, text):
        """`text` may be bytes, text, or ("file", path)."""
        if isinstance(text, tuple):
            self.process.stdin.write(f"file {text[1]}\n".encode())
        else:
            data = text if isinstance(text, bytes) else text.encode()
            self.process.stdin.write(b"%d\n" % len(data) + data)
        self.process.stdin.flush()
        answer = self.process.stdout.readline().decode(errors="replace")
        if not answer:
            raise SystemExit(f"a reader died of this configuration:\n{text}")
        verdict, _, rest = answer.rstrip("\n").partition("\t")
        return verdict, rest


def build():
    judge = os.path.join(ROOT, "target", "differential-config-judge")
    subprocess.run(["go", "build", "-o", judge, "."], cwd=HERE, check=True)
    subprocess.run(["cargo", "build", "-q", "--example", "differential_config"], cwd=ROOT, check=True)
    return Reader([judge]), Reader([os.path.join(ROOT, "target/debug/examples/differential_config")])


def difference(text, judge, ours):
    """What the two disagree on, or nothing."""
    theirs, why = judge.read(text)
    verdict, said = ours.read(text)
    if theirs == "panic":
        return None
    if theirs != verdict:
        words = None
        if theirs == "bad" and why.startswith("yaml: ") and "unmarshal errors" not in why:
            words = "only Prometheus refuses: " + re.sub(r"line \d+: ", "", why)
        elif verdict == "bad" and re.match(r"error: prometheus.yaml:\d+:\d+: (?!\S+: )", said):
            words = "only promwatch refuses: " + re.sub(r"^error: prometheus.yaml:\d+:\d+: ", "", said)
        if words:
            scanner.setdefault(words, []).append(text)
            return None
    if verdict == "bad" and theirs == "ok":
        # Every error must be a wanted one.
        parts = said.split(" | error: ")
        if all(any(wanted in part for wanted in WANTED) for part in parts):
            return None
        return f"promwatch refuses: {said}"
    if verdict == "ok" and theirs == "bad":
        return f"promwatch accepts what Prometheus refuses: {why}"
    if verdict == "ok":
        a, b = json.loads(why), json.loads(said)
        fix(a)
        if a != b:
            return f"they come to different jobs:\n  Prometheus {json.dumps(a, sort_keys=True)}\n  promwatch  {json.dumps(b, sort_keys=True)}"
    return None


def fix(jobs):
    """Prometheus accepts a refresh interval of 0 and panics when it starts; promwatch takes the default."""
    defaults = {"file": 300000, "http": 60000, "dns": 30000}
    for job in jobs:
        job["params"] = {name: values or [] for name, values in job["params"].items()}
        for source in job["sources"]:
            for at, value in enumerate(source):
                if value == 0 and source[0] in defaults and (source[0], at) in (("file", 2), ("http", 2), ("dns", 4)):
                    source[at] = defaults[source[0]]


# --- random configurations ---------------------------------------------------------------------------------------------

DURATIONS = ["15s", "1m", "5s", "1h30m", "0s", "0", "500ms", "1d", "10", "abc", "", "-5s", "1m1h", "1.5s", "~", "10S", "[1s]", "2w", "'15s'", "null", "Null"]
BOOLS = ["true", "false", "yes", "no", "on", "off", "y", "n", "'true'", "1", "", "~", "True", "TRUE", "tRUE", '"no"', "null"]
COUNTS = ["0", "10", "1000", "-1", "1.5", "1e3", "0x10", "010", "1_000", "'10'", "ten", "~", "", "18446744073709551615", "0o17", "0b11", ".5", "+7", "[1]", "yes"]
SIZES = ["0", "10MB", "1KB", "1.5MiB", "100", "1kB", "abc", "10 MB", "1GB1MB", "1KB1KiB", "~", "", "'0'", "5B", "9EB"]
TEXTS = ["a", "/metrics", "x y", "''", "~", "", "8080", "true", "[a]", "{a: b}", "é", '"\\u0041"', "'it''s'", "a: b", "foo # c", "2001-01-01", "!!str 5", "!x y", "*", "&a b", "|\n  x", "0x1F", "-", "@a", "`a", "%a", "null", "NULL"]
LABELS = ["job", "instance", "__name__", "__address__", "a-b", "42", "''", "~", "é", "a b", "__meta_x", "le", "yes"]
TARGETS = ["localhost:9090", "http://x", "a/b", "1.2.3.4:80", "[::1]:80", "''", "~", "host", "'${x}:80'", "unix"]
REGEXES = ["(.*)", "a.*", "foo|bar", "(", "[a-z]+", "'(a)(b)'", "a{2}", "'a{2,1}'", "1", "", "~", "'(?i)x'", "'(?P<n>.)'", "\\d+", "'*'", "'['", "x(y", "'(?=a)'", "\\w+:(\\d+)", "'a**'", "'\\Q.\\E'", "'\\pN'", "'(?P<a>x)(?P<a>y)'", "'(?<n>a)'", "'a{1001}'", "'\\z'", "'[[:alpha:]]'", "'\\x{10FFFF}'", "')('"]
REPLACEMENTS = ["$1", "${1}", "foo", "l-$1", "'$'", "''", "~", "'${n}_x'", "a$1b", "'$$'"]
ACTIONS = ["replace", "keep", "drop", "keepequal", "dropequal", "hashmod", "labelmap", "labeldrop", "labelkeep", "lowercase", "uppercase", "Replace", "KEEP", "foo", "''", "~", "[keep]", "Null"]
URLS = ["http://localhost:80/x", "https://a/b?c=d", "ftp://x", "http://", "x", "''", "~", "'http://a b'", "'http://a:b'", "http://[::1]:80", "'%zz'", "http://u:p@h/", "'http://h/%zz'", "':80'", "1.2.3.4:80", "//h", "http:x", "mailto:a", "'http://a#%z'", "'http://a/?%z'", "http://h:", "'http://u@:80'", "'http://[::1'", "'http://a%41'", "HTTP://a"]
PROTOCOLS = ["OpenMetricsText1.0.0", "OpenMetricsText0.0.1", "PrometheusText1.0.0", "PrometheusText0.0.4", "PrometheusProto", "prometheustext0.0.4", "x", "''", "~"]
FILES = ["a.json", "dir/*.yml", "*/x.json", "a.txt", "''", "~", "/abs/*.yaml", "x*.JSON", "a*b*.yml", "json", ".json"]
HEADERS = ["X-A", "Authorization", "host", "foo", "X-Prometheus-Scrape-Timeout-Seconds", "user-agent", "'a b'"]


def pick(*choices):
    return random.choice(choices)


def flow(values, most=3):
    comma = random.choice([", "] * 20 + [",\n", ",\n      ", " ,\n ", ", # c\n"])
    return pick("[", "[", "[", "[\n" if "\n" in comma else "[ ") + comma.join(random.choice(values) or "~" for _ in range(random.randint(0, most))) + "]"


def mapping(depth, table, chance, always=()):
    """Lines of a mapping with a random choice of the table's keys."""
    lines = []
    for key, make in table.items():
        if key in always or random.random() < chance:
            value = make(depth) if callable(make) else random.choice(make)
            if isinstance(value, list):
                lines.append("  " * depth + key + ":")
                lines += value
            else:
                lines.append("  " * depth + f"{key}: {value}".rstrip())
    if not lines:
        lines.append("  " * depth + "{}")
    random.shuffle(lines) if all(":" in line and line.startswith("  " * depth) and not line.startswith("  " * (depth + 1)) for line in lines) else None
    return lines


def listing(depth, make, most=2, empty=0.05):
    lines = []
    for _ in range(random.randint(0, most)):
        if random.random() < empty:
            lines.append("  " * depth + pick("-", "- ~", "- {}", "- []", "- x"))
            continue
        item = make(depth + 1)
        item[0] = "  " * depth + "- " + item[0].lstrip()
        lines += item
    return lines or [("  " * depth) + "[]"]


def tls(depth):
    table = {"ca": TEXTS, "ca_file": FILES, "cert": TEXTS, "cert_file": FILES, "key": TEXTS, "key_file": FILES, "server_name": TEXTS,
             "insecure_skip_verify": BOOLS, "min_version": ["TLS12", "TLS13", "TLS10", "tls12", "12", "~"], "max_version": ["TLS12", "TLS13", "TLS11", "x"]}
    return mapping(depth + 1, table, 0.12)


def auth(key):
    def make(depth):
        tables = {
            "basic_auth": {"username": TEXTS, "username_file": FILES, "password": TEXTS, "password_file": FILES, "username_ref": ["''"], "x": TEXTS},
            "authorization": {"type": ["Bearer", "basic", "' Basic '", "''", "~", "x"], "credentials": TEXTS, "credentials_file": FILES},
            "oauth2": {"client_id": ["id", "''", "~"], "client_secret": TEXTS, "client_secret_file": FILES, "token_url": URLS, "scopes": lambda d: flow(TEXTS[:3]),
                       "endpoint_params": ["{a: b}", "{a: [b]}", "~"], "tls_config": tls, "no_proxy": ["x", "''"]},
        }
        return mapping(depth + 1, tables[key], 0.35 if key != "oauth2" else 0.5)
    return make


def headers(depth):
    lines = []
    for name in random.sample(HEADERS, random.randint(0, 2)):
        lines.append("  " * (depth + 1) + f"{name}: " + pick("{values: [a]}", "{secrets: [b], files: [c]}", "~", "{}", "a", "{x: y}", "{values: a}"))
    return lines or "{}"


HTTP = {"basic_auth": auth("basic_auth"), "authorization": auth("authorization"), "oauth2": auth("oauth2"), "bearer_token": TEXTS,
        "bearer_token_file": FILES, "tls_config": tls, "follow_redirects": BOOLS, "enable_http2": BOOLS, "proxy_url": URLS, "no_proxy": ["a", "''", "~"],
        "proxy_from_environment": BOOLS, "proxy_connect_header": ["{a: [b]}", "{}", "~", "{a: b}"], "http_headers": headers}


def rule(depth):
    table = {"source_labels": lambda d: pick(flow(LABELS), "a", "~", flow(LABELS)), "separator": [",", "';'", "~", "''"], "regex": REGEXES, "modulus": COUNTS,
             "target_label": LABELS + ["$1", "'${1}'", "x$1", "l-$1"], "replacement": REPLACEMENTS, "action": ACTIONS}
    return mapping(depth, table, 0.4)


def simple_rule(depth):
    action = random.choice(ACTIONS[:11])
    table = {"source_labels": lambda d: flow(LABELS[:4]), "target_label": LABELS[:5], "regex": REGEXES[:3], "modulus": ["8", "1"], "action": [action], "replacement": REPLACEMENTS[:3]}
    keys = {"labeldrop": ["regex"], "labelkeep": ["regex"], "keepequal": ["source_labels", "target_label"], "dropequal": ["source_labels", "target_label"],
            "hashmod": ["source_labels", "modulus", "target_label"], "labelmap": ["regex"]}.get(action, ["source_labels", "target_label"])
    return mapping(depth, {key: table[key] for key in keys + ["action"]}, 0.95)


def group(depth):
    return mapping(depth, {"targets": lambda d: flow(TARGETS[:2] + TARGETS), "labels": lambda d: "{" + ", ".join(f"{n}: {random.choice(TEXTS[:6]) or '~'}" for n in random.sample(LABELS, random.randint(0, 2))) + "}"}, 0.7)


def limits():
    return {"sample_limit": COUNTS, "target_limit": COUNTS, "label_limit": COUNTS, "label_name_length_limit": COUNTS, "label_value_length_limit": COUNTS,
            "body_size_limit": SIZES, "keep_dropped_targets": COUNTS}


def sd(table):
    return lambda depth: listing(depth + 1, lambda d: mapping(d, table, 0.8))


def job(depth):
    table = {"job_name": TEXTS[:4] + ["j%d" % random.randint(0, 9) for _ in range(20)], "scrape_interval": DURATIONS[:4] + DURATIONS, "scrape_timeout": DURATIONS[:3] + DURATIONS,
             "scheme": ["http", "https", "''", "~"], "metrics_path": TEXTS, "params": ["{a: [b, c]}", "{a: b}", "~", "{a: [1, ~]}", "{a: }", "[]", "{a: [[b]]}"],
             "honor_labels": BOOLS, "honor_timestamps": BOOLS, "track_timestamps_staleness": BOOLS, "enable_compression": BOOLS,
             "scrape_protocols": lambda d: flow(PROTOCOLS), "fallback_scrape_protocol": PROTOCOLS, "metric_name_validation_scheme": ["utf8", "legacy", "x", "~"],
             "scrape_failure_log_file": FILES, "always_scrape_classic_histograms": BOOLS, "convert_classic_histograms_to_nhcb": BOOLS,
             "native_histogram_bucket_limit": COUNTS, "native_histogram_min_bucket_factor": COUNTS, **limits(),
             "relabel_configs": lambda d: listing(d + 1, pick(rule, simple_rule, simple_rule)), "metric_relabel_configs": lambda d: listing(d + 1, pick(rule, simple_rule, simple_rule)),
             "static_configs": lambda d: listing(d + 1, group),
             "file_sd_configs": sd({"files": lambda d: flow(FILES[:2] + FILES), "refresh_interval": DURATIONS}),
             "http_sd_configs": sd({"url": URLS, "refresh_interval": DURATIONS[:3]}),
             "dns_sd_configs": sd({"names": lambda d: flow(TEXTS[:1] + TEXTS[:4]), "type": ["A", "aaaa", "SRV", "mx", "ns", "TXT", "~"], "port": COUNTS, "refresh_interval": DURATIONS[:3]}),
             **HTTP}
    return mapping(depth, table, random.choice([0.02, 0.05, 0.1]), ("job_name",))


def configuration():
    lines = []
    if random.random() < 0.4:
        table = {"scrape_interval": DURATIONS, "scrape_timeout": DURATIONS, "evaluation_interval": DURATIONS, "rule_query_offset": DURATIONS, "query_log_file": FILES,
                 "scrape_failure_log_file": FILES, "external_labels": ["{a: b}", "{a: $X}", "~", "{'': b}", "{a: [b]}", "{a: ~}", "{a: b, a: c}"],
                 "scrape_protocols": lambda d: flow(PROTOCOLS), "metric_name_validation_scheme": ["utf8", "legacy", "~", "utf8"], **limits()}
        lines += ["global:"] + mapping(1, table, random.choice([0.05, 0.15]))
    server = {
        "runtime": ["{gogc: 5}", "{gogc: x}", "~", "{}"], "rule_files": ["[a, 'b/*.yml']", "['a/*/b']", "~", "a"],
        "storage": ["{tsdb: {out_of_order_time_window: 5m}}", "{exemplars: {max_exemplars: 5}}", "{tsdb: {x: 1}}", "~", "{tsdb: }"],
        "tracing": ["{endpoint: a}", "{endpoint: a, client_type: http}", "{}", "{endpoint: a, headers: {host: x}}", "{endpoint: a, compression: x}", "~", "{endpoint: a, client_type: ''}", "{endpoint: a, sampling_fraction: 0.5, timeout: 5s}"],
        "otlp": ["{promote_resource_attributes: [a, b]}", "{promote_resource_attributes: [a, ' a']}", "{translation_strategy: x}", "~", "{translation_strategy: NoUTF8EscapingWithSuffixes}", "{translation_strategy: }"],
        "remote_write": ["[{url: http://a}]", "[{url: }]", "[{url: a, name: x}, {url: b, name: x}]", "[{url: a, headers: {Host: b}}]", "[~]", "[{url: a, protobuf_message: x}]", "[{url: a, protobuf_message: }]",
                         "[{url: a, queue_config: {capacity: 5, max_backoff: 1s}}]", "[{url: a, basic_auth: {}, sigv4: {}}]", "[{url: a, metadata_config: {send: yes}}]", "[{url: a, write_relabel_configs: [~]}]",
                         "[{url: a, proxy_url: http://x}]", "[{url: ':a'}]", "[{url: a, remote_timeout: 5}]"],
        "remote_read": ["[{url: http://a, read_recent: on}]", "[{url: ''}]", "[~]", "[{url: a, required_matchers: {a: b}}]", "[{url: a, headers: {authorization: x}}]", "[{url: a, chunked_read_limit: -1}]"],
        "alerting": ["{alertmanagers: [{static_configs: [{targets: [a]}]}]}", "{alertmanagers: [{static_configs: [{targets: [a/b]}]}]}", "{alert_relabel_configs: [~]}", "{alertmanagers: [{api_version: v1}]}", "{alertmanagers: [{api_version: v2, scheme: x, timeout: 3s}]}", "{alertmanagers: [~]}", "{alertmanagers: [{relabel_configs: [~]}]}", "~", "{x: y}"],
        "scrape_config_files": ["['x/*.yml']", "['x/*/y']", "~", "x", "[]", "[a]"],
    }
    for key, values in server.items():
        if random.random() < 0.05:
            lines.append(f"{key}: {random.choice(values)}")
    lines.append("scrape_configs:")
    lines += listing(pick(0, 1), job, 3, 0.02)
    return "\n".join(lines) + "\n"


TOKENS = TEXTS + BOOLS + ["<<: *a", "&a ", "*a", "!!int", "!!str", "---", "...", "? a", ": b", "\t", "#", "  ", "- ", "{", "}", "[", "]", ",", "'", '"', ">", "|", "\r\n", "\\", "!!null ''", "%YAML 1.1", "!!float 1", "!!bool yes", "<<: {a: b}"]


def mutate(text):
    lines = text.split("\n")
    for _ in range(random.choice([0, 0, 1, 1, 2, 3])):
        at = random.randrange(len(lines))
        kind = random.randrange(9)
        if kind == 0:
            del lines[at]
            lines = lines or [""]
        elif kind == 1:
            lines.insert(at, lines[random.randrange(len(lines))])
        elif kind == 2:
            lines[at] = " " * random.randint(1, 2) + lines[at]
        elif kind == 3:
            lines[at] = lines[at][random.randint(1, 2):]
        elif kind == 4:
            where = random.randint(0, len(lines[at]))
            lines[at] = lines[at][:where] + random.choice(TOKENS) + lines[at][where:]
        elif kind == 5 and ":" in lines[at]:
            lines[at] = lines[at].split(":", 1)[0] + ": " + random.choice(TOKENS)
        elif kind == 6 and lines[at]:
            where = random.randrange(len(lines[at]))
            lines[at] = lines[at][:where] + lines[at][where + 1:]
        elif kind == 7 and lines[at]:
            where = random.randrange(len(lines[at]))
            lines[at] = lines[at][:where] + chr(random.choice([9, 32, 33, 34, 35, 39, 42, 44, 45, 58, 64, 91, 93, 96, 123, 124, 125, 126, 0xA0, 0xE9])) + lines[at][where:]
        elif kind == 8:
            other = random.randrange(len(lines))
            lines[at], lines[other] = lines[other], lines[at]
    return "\n".join(lines)


def main():
    seconds = float(sys.argv[1]) if len(sys.argv) > 1 else 60
    seed = int(sys.argv[2]) if len(sys.argv) > 2 else int(time.time())
    random.seed(seed)
    judge, ours = build()
    failures = 0
    module = subprocess.run(["go", "list", "-m", "-f", "{{.Dir}}", "github.com/prometheus/prometheus"], cwd=HERE, check=True, capture_output=True, text=True).stdout.strip()
    published = sorted(glob.glob(module + "/config/testdata/*.yml"))
    seeds = []
    for path in published:
        text = open(path, "rb").read()
        name = os.path.basename(path)
        found = None
        if not re.search(rb"(?!file|http|dns)\b\w+_sd_configs", text):
            found = difference(("file", path), judge, ours)
            seeds.append(text.decode())
        elif name.endswith(".good.yml"):
            verdict, said = ours.read(("file", path))
            others = [part for part in said.split(" | error: ") if "service discovery is out of" not in part]
            found = f"refused for more than its service discovery: {others}" if verdict == "bad" and others else None
        elif ours.read(("file", path))[0] != "bad":
            found = "accepted"
        if found:
            failures += 1
            print(f"--- {name}: {found}")
    print(f"{len(published)} published cases, {failures} differences; seed {seed}")
    end, count, accepted = time.time() + seconds, 0, 0
    while time.time() < end and failures < 20:
        text = mutate(random.choice(seeds) if random.random() < 0.15 else configuration())
        count += 1
        found = difference(text, judge, ours)
        if found:
            failures += 1
            print(f"--- {found}\n{text}")
        elif ours.read(text)[0] == "ok":
            accepted += 1
    for words, texts in sorted(scanner.items(), key=lambda item: -len(item[1])):
        print(f"scanner: {len(texts):5} {words}")
        if os.environ.get("EXAMPLES"):
            print(min(texts, key=len))
    print(f"{count} random configurations ({accepted} accepted by both), {failures} differences; seed {seed}")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
