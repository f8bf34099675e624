"""Programs that a test starts, and waiting for them. Whatever is left is stopped by its process id."""
import signal
import socket
import subprocess
import time

STARTED = []


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def listening(port):
    with socket.socket() as s:
        return s.connect_ex(("127.0.0.1", port)) == 0


def wait_for(what, condition, seconds=30):
    end = time.time() + seconds
    while time.time() < end:
        value = condition()
        if value:
            return value
        time.sleep(0.1)
    raise AssertionError(f"not within {seconds} s: {what}")


class Process:
    def __init__(self, words, log, env=None):
        self.log = open(log, "ab")
        self.popen = subprocess.Popen(words, stdout=self.log, stderr=self.log, env=env, stdin=subprocess.DEVNULL)
        STARTED.append(self)

    def stop(self, sig=signal.SIGTERM, seconds=10):
        """(exit code, seconds it took)"""
        if self.popen.poll() is None:
            self.popen.send_signal(sig)
        began = time.time()
        code = self.popen.wait(timeout=seconds)
        self.log.close()
        if self in STARTED:
            STARTED.remove(self)
        return code, time.time() - began


def stop_all():
    """Nothing of a check outlives it, whether it passed or not."""
    for process in STARTED[:]:
        process.stop(signal.SIGKILL)
