"""Starts the binary with the environment that a manifest gives it, asks it what its probes ask, and ends it."""

import json
import os
import pathlib
import queue
import signal
import socket
import subprocess
import tempfile
import threading
import time
import urllib.error
import urllib.request

import environment

# How long anything may take on a busy machine.
PATIENCE = 60


class Refused(Exception):
    """The binary ended instead of starting; what it said."""


class Nowhere:
    """An address on loopback that refuses every connection, for as long as this is open."""

    def __enter__(self):
        self.socket = socket.socket()
        self.socket.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{self.socket.getsockname()[1]}"

    def __exit__(self, *_):
        self.socket.close()


def problems(variables, paths, arguments=()):
    """What is wrong after a start with these variables and arguments; `paths` are asked over HTTP."""
    with Nowhere() as nowhere, tempfile.TemporaryDirectory() as directory:
        made = substituted(variables, nowhere, directory)
        process = subprocess.Popen([os.environ["ADAPTER"], *arguments], env=made, text=True, stdin=subprocess.DEVNULL,
                                   stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        try:
            return list(watch(process, paths))
        finally:
            if process.poll() is None:
                process.kill()
            process.wait()
            process.stdout.close()


def substituted(variables, nowhere, directory):
    """Values that this machine can do: no AWS, any port, a file of its own."""
    made = {name: value if value is not None else stand_in(name) for name, value in variables.items()}
    for name in list(made):
        if name.startswith("AWS_CONTAINER_") or name == "AWS_WEB_IDENTITY_TOKEN_FILE":
            del made[name]
    made.setdefault("AWS_ACCESS_KEY_ID", "stand-in")
    made.setdefault("AWS_SECRET_ACCESS_KEY", "stand-in")
    made.update(AWS_ENDPOINT_URL=nowhere, AWS_EC2_METADATA_DISABLED="true", HTTP_ADDRESS="127.0.0.1:0", LOG_FORMAT="json")
    if "METRICS_ADDRESS" in environment.KNOWN:
        # It wins over the fixed port that a foreign variable names.
        made["METRICS_ADDRESS"] = "127.0.0.1:0"
    store = made.get("CHECKPOINT_STORE", "")
    if store.startswith("file:"):
        made["CHECKPOINT_STORE"] = f"file:{directory}/{pathlib.PurePosixPath(store).name}"
    return made


def stand_in(name):
    """What the reader or the cluster would have put there."""
    return (pathlib.Path(__file__).parent / "authority.pem").read_text() if name == "K_CA_CERTS" else "stand-in"


def watch(process, paths):
    lines = queue.Queue()
    threading.Thread(target=lambda: [lines.put(line) for line in process.stdout] + [lines.put(None)], daemon=True).start()
    address, warnings = wait_until_listening(lines, process)
    yield from warnings
    for path in sorted(paths):
        status = ask(address, path)
        if status == 404:
            yield f"a probe or a monitor asks {path}, which is not served"
        elif status != 200 and path in ("/livez", "/metrics"):
            yield f"{path} answers {status}"
    process.send_signal(signal.SIGTERM)
    code = process.wait(PATIENCE)
    if code != 0:
        yield f"it ended with {code} after SIGTERM"


def wait_until_listening(lines, process):
    said, warnings = [], []
    deadline = time.monotonic() + PATIENCE
    while True:
        line = lines.get(timeout=max(0.1, deadline - time.monotonic()))
        if line is None:
            raise Refused(f"exit code {process.wait(PATIENCE)}: {' '.join(''.join(said).split())}")
        said.append(line)
        entry = entry_of(line)
        text = entry.get("message", "")
        if entry.get("code") == "DSA-CONFIG" and "CHECKPOINT_STORE" not in text:
            warnings.append(f"it warns: {text}")
        if text == "listening":
            return entry["address"], warnings


def entry_of(line):
    """One log line, its fields and its message in one mapping."""
    try:
        entry = json.loads(line)
    except ValueError:
        return {}
    return {**entry, **entry.get("fields", {})}


def ask(address, path):
    try:
        with urllib.request.urlopen(f"http://{address}{path}", timeout=PATIENCE) as answer:
            return answer.status
    except urllib.error.HTTPError as error:
        return error.code
