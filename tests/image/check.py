"""What somebody who runs the image relies on. Run by `run` as root in namespaces of its own: no network, no other process.

The binary is started as Kubernetes would with the manifests: as the image's user, without capabilities, on a root file system
that is read-only.
"""

import contextlib
import ctypes
import fcntl
import http.client
import http.server
import json
import os
import pathlib
import re
import shutil
import signal
import socket
import ssl
import stat
import struct
import subprocess
import sys
import tempfile
import threading
import time
import tomllib

import bill

REPOSITORY = pathlib.Path(__file__).parents[2]
BINARY = "/usr/local/bin/dynamodb-streams-adapter"
ROOT, CONTEXT = (pathlib.Path(os.environ[name]) for name in ("IMAGE_ROOT", "IMAGE_CONTEXT"))
REVISION = os.environ["IMAGE_REVISION"]
CONFIG = json.loads(pathlib.Path(os.environ["IMAGE_INSPECT"]).read_text())["OCIv1"]["config"]
MANIFEST = tomllib.loads((REPOSITORY / "Cargo.toml").read_text())
# What the workspace says holds where the package does not say it itself.
PACKAGE = MANIFEST["package"] | MANIFEST["workspace"]["package"]
INSIDE = pathlib.Path("/mnt")
# How long anything may take on a busy machine.
PATIENCE = 60
# Nothing is there: every connection is refused.
AWAY = {"TABLE": "Orders", "K_SINK": "http://127.0.0.1:9", "AWS_REGION": "eu-west-1", "AWS_ENDPOINT_URL": "http://127.0.0.1:9",
        "AWS_ACCESS_KEY_ID": "stand-in", "AWS_SECRET_ACCESS_KEY": "stand-in", "AWS_EC2_METADATA_DISABLED": "true"}
LIBC = ctypes.CDLL(None, use_errno=True)
NO_NEW_PRIVILEGES, DROP_FROM_BOUNDING_SET = 38, 24


def mount(*arguments):
    subprocess.run(["mount", *arguments], check=True)


def enter_namespaces():
    mount("--make-rprivate", "/")
    mount("--bind", ROOT, INSIDE)
    mount("-o", "remount,bind,ro", INSIDE)
    mount("-t", "proc", "proc", INSIDE / "proc")
    mount("--bind", "/dev", INSIDE / "dev")
    with socket.socket() as any_socket:  # the loopback interface of a new namespace is down
        fcntl.ioctl(any_socket, 0x8914, struct.pack("16sh14x", b"lo", 0x1 | 0x40))


def become_the_user():
    """Runs in the child, in place of the container runtime."""
    user, group = (int(number) for number in CONFIG["User"].split(":"))
    for capability in range(64):
        LIBC.prctl(DROP_FROM_BOUNDING_SET, capability, 0, 0, 0)
    os.chroot(INSIDE)
    os.chdir(CONFIG.get("WorkingDir") or "/")
    os.setgroups([group])  # as fsGroup does
    os.setresgid(group, group, group)
    os.setresuid(user, user, user)
    LIBC.prctl(NO_NEW_PRIVILEGES, 1, 0, 0, 0)


def environment(variables):
    return dict(entry.split("=", 1) for entry in CONFIG["Env"]) | variables


def start(*arguments, **variables):
    return subprocess.Popen([*CONFIG["Entrypoint"], *arguments], env=environment(variables), preexec_fn=become_the_user,
                            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def run(*arguments, **variables):
    """Exit code, standard output, standard error."""
    with start(*arguments, **variables) as process:
        out, err = process.communicate(timeout=PATIENCE)
        return process.returncode, out, err


def get(path):
    connection = http.client.HTTPConnection("127.0.0.1", 8080, timeout=PATIENCE)
    with contextlib.closing(connection):
        connection.request("GET", path)
        answer = connection.getresponse()
        return answer.status, answer.read().decode()


def wait_for(what, condition):
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        with contextlib.suppress(OSError):
            if condition():
                return
        time.sleep(0.05)
    raise AssertionError(f"{what} within {PATIENCE} s")


@contextlib.contextmanager
def running(**variables):
    with start(**{**AWAY, **variables}) as process:
        # Read all along: a full pipe would stop the process.
        reader = threading.Thread(target=lambda: setattr(process, "said", process.stdout.read()), daemon=True)
        reader.start()
        try:
            wait_for("port 8080 answers", lambda: process.poll() is not None or get("/livez"))
            assert process.poll() is None, f"it ended with {process.returncode}: {process.stderr.read()}"
            yield process
        finally:
            if process.poll() is None:
                process.kill()
            reader.join(PATIENCE)


def files(tree):
    found = {}
    for folder, _, names in os.walk(tree):
        for name in names:
            path = pathlib.Path(folder, name)
            found[f"/{path.relative_to(tree)}"] = path.lstat()
    return found


# The image itself.

def test_holds_nothing_but_what_runs():
    expected = {BINARY, "/licenses/LICENSE", "/etc/ssl/certs/ca-certificates.crt", "/etc/passwd", "/etc/group",
                "/etc/nsswitch.conf", bill.PATH}
    libraries = {path for path in files(ROOT) if re.search(r"/lib(64)?/", path)}
    assert {path.rsplit("/", 1)[1].split("-")[0].split(".")[0] for path in libraries} == {"libc", "libm", "libgcc_s", "ld"}, libraries
    assert set(files(ROOT)) - libraries == expected, set(files(ROOT)) - libraries


def test_has_no_program_but_the_adapter():
    programs = [path for path, facts in files(ROOT).items()
                if facts.st_mode & 0o111 and stat.S_ISREG(facts.st_mode) and re.search(r"/s?bin/", path)]
    assert programs == [BINARY], programs


def test_nothing_but_the_sources_is_sent_to_the_build():
    sent = set(files(CONTEXT))
    tracked = subprocess.run(["git", "-C", REPOSITORY, "ls-files", "--cached", "--others", "--exclude-standard", "src"],
                             check=True, capture_output=True, text=True).stdout.split()
    assert sent == {f"/{path}" for path in ["Cargo.toml", "Cargo.lock", "LICENSE", "examples/demo/Cargo.toml", ".cargo/config.toml", "image/sbom",
                                           "image/sbom.jq", *tracked]}, sorted(sent)


def test_lists_the_crates_and_packages_that_it_holds_and_nothing_else():
    bill.check(ROOT, PACKAGE)


def test_the_list_beside_the_image_is_the_one_in_it():
    alone = pathlib.Path(os.environ["IMAGE_SBOM"])
    assert set(files(alone)) == {f"/{pathlib.PurePath(bill.PATH).name}"}, files(alone)
    assert (alone / pathlib.PurePath(bill.PATH).name).read_bytes() == (ROOT / bill.PATH[1:]).read_bytes()


def test_two_builds_write_the_same_list():
    again = pathlib.Path(os.environ["IMAGE_SBOM_AGAIN"])
    assert again.read_bytes() == (ROOT / bill.PATH[1:]).read_bytes()


def test_a_build_of_the_same_sources_is_taken_from_the_cache():
    assert os.environ["IMAGE_ID"] == os.environ["IMAGE_AGAIN"]


def test_runs_as_a_user_that_kubernetes_sees_is_not_root():
    assert CONFIG["User"] == "65532:65532", CONFIG["User"]


def test_the_binary_cannot_be_changed_by_its_user():
    facts = (ROOT / BINARY[1:]).lstat()
    assert (facts.st_uid, facts.st_gid, stat.S_IMODE(facts.st_mode)) == (0, 0, 0o755), facts


def test_labels_say_what_it_is():
    labels = {name.removeprefix("org.opencontainers.image."): text for name, text in CONFIG["Labels"].items()}
    expected = {"title": PACKAGE["name"], "version": PACKAGE["version"], "licenses": PACKAGE["license"], "revision": REVISION}
    assert {name: labels.get(name) for name in expected} == expected, labels
    assert labels["description"], labels


def test_declares_its_port_and_its_start():
    assert CONFIG["ExposedPorts"] == {"8080/tcp": {}}, CONFIG["ExposedPorts"]
    assert CONFIG["Entrypoint"] == [BINARY] and not CONFIG.get("Cmd"), CONFIG
    assert CONFIG.get("StopSignal", "SIGTERM") == "SIGTERM", CONFIG["StopSignal"]


def test_presets_no_variable_of_the_adapter():
    names = {entry.split("=")[0] for entry in CONFIG["Env"]}
    assert names <= {"PATH", "SSL_CERT_FILE"}, names


def test_needs_only_the_c_library_and_libgcc():
    code, out, err = run(LD_TRACE_LOADED_OBJECTS="1")
    needed = {pathlib.PurePosixPath(line.split()[0]).name for line in out.splitlines()}
    assert code == 0 and "not found" not in out, out + err
    assert needed <= {"linux-vdso.so.1", "libgcc_s.so.1", "libm.so.6", "libc.so.6", "ld-linux-x86-64.so.2",
                      "ld-linux-aarch64.so.1"}, needed
    print(f"   libraries: {' '.join(sorted(needed))}")


def test_is_small():
    binary = (ROOT / BINARY[1:]).lstat().st_size
    whole = sum(facts.st_size for facts in files(ROOT).values())
    print(f"   binary {binary / 1e6:.1f} MB, image {whole / 1e6:.1f} MB")
    assert binary < 25e6 and whole < 80e6, (binary, whole)


# What is started.

def test_says_its_version_and_revision():
    assert run("--version") == (0, f"dynamodb-streams-adapter {PACKAGE['version']} (revision {REVISION})\n", "")


def test_explains_itself():
    code, out, _ = run("--help")
    assert code == 0 and "K_SINK" in out and "TABLE" in out, out


def test_refuses_to_start_or_check_with_nothing_set():
    for arguments in ([], ["check"]):
        code, out, err = run(*arguments)
        assert code == 64 and "TABLE" in err and "K_SINK" in err, (arguments, code, out, err)


def test_lives_without_aws_and_ends_in_order():
    for end in (signal.SIGTERM, signal.SIGINT):
        with running() as process:
            assert get("/livez")[0] == 200
            assert get("/readyz")[0] == 503
            assert get("/startupz")[0] == 503
            build = next(line for line in get("/metrics")[1].splitlines() if "build_info{" in line)
            assert REVISION in build and PACKAGE["version"] in build, build
            begun = time.monotonic()
            process.send_signal(end)
            code = process.wait(PATIENCE)
            assert code == 0, f"{end.name}: {code}"
            assert time.monotonic() - begun < 25, "longer than SHUTDOWN_TIMEOUT"


def test_ends_in_order_as_the_first_process_of_its_container():
    """The kernel keeps signals from such a process for which it has no handler."""
    user, group = CONFIG["User"].split(":")
    begin = [shutil.which("unshare"), "--pid", "--fork", "--kill-child", "--root", str(INSIDE), "--wd", "/", "--setgid", group, "--setuid", user]
    with subprocess.Popen([*begin, *CONFIG["Entrypoint"]], env=environment(AWAY), stdin=subprocess.DEVNULL,
                          stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as outer:
        children = INSIDE / f"proc/{outer.pid}/task/{outer.pid}/children"  # the proc of this namespace
        try:
            wait_for("port 8080 answers", lambda: get("/livez")[0] == 200)
            os.kill(int(children.read_text()), signal.SIGTERM)
            assert outer.wait(PATIENCE) == 0, outer.returncode
        finally:
            if outer.poll() is None:
                outer.kill()


# What it finds in its file system.

def checked(name, **variables):
    """What `check` says of one thing."""
    _, out, err = run("check", "--output", "json", "--timeout", "5s", **{**AWAY, **variables})
    assert out, err
    return next(check for check in json.loads(out)["checks"] if check["name"] == name)


def test_keeps_positions_on_a_volume_of_its_group_and_nowhere_else():
    store = {"CHECKPOINT_STORE": "file:/tmp/positions.json"}
    found = checked("checkpoint-store", **store)
    assert found["result"] == "fail", f"the root file system should be read-only: {found}"
    mount("-t", "tmpfs", "-o", "uid=0,gid=65532,mode=2770", "volume", INSIDE / "tmp")  # as fsGroup: 65532 leaves it
    try:
        found = checked("checkpoint-store", **store)
        assert found["result"] == "ok", found
        with running(**store):
            assert get("/livez")[0] == 200
    finally:
        subprocess.run(["umount", INSIDE / "tmp"], check=True)


def test_trusts_the_roots_of_the_image():
    roots = INSIDE / "etc/ssl/certs/ca-certificates.crt"
    assert roots.read_text().count("BEGIN CERTIFICATE") > 100
    with tempfile.TemporaryDirectory() as folder:
        authority = make_certificates(pathlib.Path(folder))
        with https_server(pathlib.Path(folder)) as sink:
            found = checked("sink-tls", K_SINK=sink)
            assert found["result"] == "fail" and "UnknownIssuer" in found["detail"], found
            more = pathlib.Path(folder, "roots.pem")
            more.write_text(roots.read_text() + authority)
            more.chmod(0o644)
            mount("--bind", more, roots)
            try:
                found = checked("sink-tls", K_SINK=sink)
            finally:
                subprocess.run(["umount", roots], check=True)
            assert found["result"] == "ok", found


def make_certificates(folder):
    """An authority, whose PEM is returned, and a server's certificate from it."""
    def openssl(*arguments):
        subprocess.run(["openssl", *arguments], cwd=folder, check=True, capture_output=True)
    key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]
    openssl("req", "-x509", *key, "-keyout", "ca.key", "-out", "ca.pem", "-subj", "/CN=authority", "-days", "2")
    openssl("req", *key, "-keyout", "server.key", "-out", "server.csr", "-subj", "/CN=sink")
    (folder / "names").write_text("subjectAltName=IP:127.0.0.1\n")
    openssl("x509", "-req", "-in", "server.csr", "-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial", "-days", "2",
            "-extfile", "names", "-out", "server.pem")
    return (folder / "ca.pem").read_text()


class Silent(http.server.BaseHTTPRequestHandler):
    def log_message(self, *_):
        """Whatever it answers is no news."""


@contextlib.contextmanager
def https_server(folder):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "server.pem", folder / "server.key")
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Silent)
    server.handle_error = lambda *_: None  # a refused certificate is one of the cases
    server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"https://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()


def main():
    enter_namespaces()
    failed = 0
    tests = [(name, test) for name, test in globals().items() if name.startswith("test_")]
    for name, test in tests:
        try:
            test()
            print(f"ok     {name[5:].replace('_', ' ')}")
        except Exception as error:  # a mistake in a test is a failed test
            failed += 1
            print(f"FAILED {name[5:].replace('_', ' ')}: {type(error).__name__} {error}")
    print(f"test result: {'FAILED' if failed else 'ok'}. {len(tests) - failed} passed; {failed} failed")
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
