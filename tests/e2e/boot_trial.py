#!/usr/bin/env python3
"""Runs inside a machine that systemd has booted (scripts/boot-test.sh): the unit as a user would install it, started,
reloaded, killed, stuck, given new credentials and stopped.
"""
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

from cloudwatch_logs import CloudWatchLogs
from processes import wait_for

REPOSITORY = Path(sys.argv[1])
AGENT = Path("/opt/aws/amazon-cloudwatch-agent/etc")


def systemctl(*words):
    return subprocess.run(["systemctl", *words], capture_output=True, text=True, timeout=60).stdout.strip()


def show(name):
    return systemctl("show", "--value", "--property", name, "promwatch")


def journal():
    return subprocess.run(["journalctl", "--no-pager", "-o", "cat", "-u", "promwatch"], capture_output=True, text=True).stdout


def write_credentials(access_key, secret):
    """As the SSM agent does: a new file of root's, mode 0600, put in the old one's place."""
    fresh = Path("/root/.aws/credentials.new")
    fresh.write_text(f"[default]\naws_access_key_id = {access_key}\naws_secret_access_key = {secret}\n")
    fresh.chmod(0o600)
    fresh.rename("/root/.aws/credentials")


def install(upstream):
    shutil.rmtree(AGENT.parent, ignore_errors=True)
    AGENT.mkdir(parents=True)
    config = json.loads((REPOSITORY / "etc/example/amazon-cloudwatch-agent.json").read_text())
    config["logs"].update(endpoint_override=upstream.url, force_flush_interval=1)
    config["promwatch"] = {"host_metrics": {"interval": "1s"}}
    (AGENT / "amazon-cloudwatch-agent.json").write_text(json.dumps(config))
    shutil.copy(REPOSITORY / "etc/example/prometheus.yaml", AGENT)
    (AGENT / "common-config.toml").write_text(f'[ssl]\n  ca_bundle_path = "{upstream.ca}"\n')
    shutil.rmtree("/root/.aws", ignore_errors=True)
    Path("/root/.aws").mkdir(mode=0o700)
    write_credentials(*next(iter(upstream.keys.items())))
    shutil.copy(REPOSITORY / "systemd/promwatch.service", "/etc/systemd/system/")
    # Only so that the trial of a stuck loop does not take a minute and a half.
    Path("/etc/systemd/system/promwatch.service.d").mkdir(exist_ok=True)
    Path("/etc/systemd/system/promwatch.service.d/trial.conf").write_text("[Service]\nWatchdogSec=6\n")
    systemctl("daemon-reload")


def delivers(upstream, what):
    before = upstream.event_count
    wait_for(f"events {what}", lambda: upstream.event_count > before, 30)


def main():
    folder = Path("/etc/promwatch-trial")
    folder.mkdir()
    upstream = CloudWatchLogs(folder)
    install(upstream)

    systemctl("start", "promwatch")
    assert show("ActiveState") == "active", journal()
    wait_for("a status line", lambda: "of 1 targets up" in show("StatusText"))
    delivers(upstream, "after the start")
    print("ok      start: active after READY, status line, events delivered over HTTPS as root without a capability")
    status = Path(f"/proc/{show('MainPID')}/status").read_text()
    assert re.search(r"CapEff:\s+0+\n", status) and re.search(r"Seccomp:\s+2", status) and "NoNewPrivs:\t1" in status, status
    print("ok      no capability, no new privileges, seccomp")

    for n in range(5):
        upstream.keys[f"AKIDROTATED{n}"] = f"secret{n}"
        write_credentials(f"AKIDROTATED{n}", f"secret{n}")
        wait_for(f"key {n}", lambda: f"AKIDROTATED{n}" in upstream.keys_seen, 40)
    print("ok      five rotations of /root/.aws/credentials, seen through BindReadOnlyPaths")

    good = (AGENT / "amazon-cloudwatch-agent.json").read_text()
    (AGENT / "amazon-cloudwatch-agent.json").write_text("{")
    pid = show("MainPID")
    systemctl("reload", "promwatch")
    wait_for("the refusal", lambda: "the old one stays in force" in journal())
    (AGENT / "amazon-cloudwatch-agent.json").write_text(good)
    systemctl("reload", "promwatch")
    wait_for("the reload", lambda: "was read anew" in journal())
    assert show("ActiveState") == "active" and show("MainPID") == pid
    delivers(upstream, "after the reload")
    print("ok      reload: a bad configuration keeps the old one and says why, a good one is taken")

    os.kill(int(pid), signal.SIGKILL)
    wait_for("the restart", lambda: show("ActiveState") == "active" and show("MainPID") not in ("0", pid))
    delivers(upstream, "after the kill")
    print("ok      kill -9: started again")

    pid = show("MainPID")
    os.kill(int(pid), signal.SIGSTOP)
    wait_for("the watchdog", lambda: show("ActiveState") == "active" and show("MainPID") not in ("0", pid), 40)
    assert "watchdog" in subprocess.run(["journalctl", "--no-pager", "-u", "promwatch"], capture_output=True, text=True).stdout.lower()
    delivers(upstream, "after the watchdog")
    print("ok      a stuck loop: the watchdog starts it again")

    began = time.time()
    systemctl("stop", "promwatch")
    assert show("ActiveState") == "inactive" and show("Result") == "success" and time.time() - began < 5, show("Result")
    print(f"ok      stop: clean, {time.time() - began:.1f} s")

    (AGENT / "amazon-cloudwatch-agent.json").write_text("{")
    systemctl("start", "promwatch")
    time.sleep(5)
    assert show("ActiveState") == "failed" and show("ExecMainStatus") == "78", (show("ActiveState"), show("ExecMainStatus"))
    print("ok      a wrong configuration: failed with 78, not tried again")

    (AGENT / "amazon-cloudwatch-agent.json").write_text(good)
    shutil.copy(REPOSITORY / "systemd/promwatch.service.d/unprivileged.conf.example",
                "/etc/systemd/system/promwatch.service.d/unprivileged.conf")
    systemctl("daemon-reload")
    systemctl("start", "promwatch")
    wait_for("the unprivileged service", lambda: show("ActiveState") == "active", 15)
    uid = re.search(r"Uid:\s+(\d+)", Path(f"/proc/{show('MainPID')}/status").read_text())[1]
    assert uid != "0", uid
    delivers(upstream, "without root")
    systemctl("stop", "promwatch")
    print(f"ok      the drop-in example: user {uid}, credentials handed over by systemd")
    assert upstream.violations == [], upstream.violations[:3]


try:
    main()
    print("passed")
except Exception as error:  # the outer script reads the words
    print(f"FAILED  {error!r}\n{journal()[-4000:]}")
sys.stdout.flush()
subprocess.run(["systemctl", "poweroff", "--force"])
