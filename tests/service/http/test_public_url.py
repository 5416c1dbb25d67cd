"""Behind a proxy that speaks TLS: the documented settings, with the real servers."""

import re
import shutil
import socket
import ssl
import subprocess
import time
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from service.errors import StartupError
from service.http.public_url import PublicUrl
from service.settings import Settings
from tests.certificates import LOCALHOST, Authority
from tests.processes import mortal
from tests.service.conftest import SPEC

MANUAL = Path(__file__).resolve().parents[3] / "docs" / "how-to" / "proxy.md"
FOREIGN = "https://evil.example"


@pytest.mark.parametrize(
    ("url", "parsed"),
    [
        ("https://audits.example", PublicUrl(True, "https://audits.example", "")),
        ("https://Audits.example:443/", PublicUrl(True, "https://audits.example", "")),
        ("http://localhost:8321/a/b/", PublicUrl(False, "http://localhost:8321", "/a/b")),
        ("https://[::1]:8443/x", PublicUrl(True, "https://[::1]:8443", "/x")),
    ],
)
def test_what_a_public_url_says(url, parsed):
    assert PublicUrl.of(url) == parsed


@pytest.mark.parametrize("url", ["https://h:99999", "https://me@h", "ftp://h", "https://h/?a=b"])
def test_a_public_url_that_is_none_is_refused_at_the_start(tmp_path, url):
    with pytest.raises(StartupError, match="PUBLIC_URL"):
        Settings.load(data_dir=tmp_path, models_root=tmp_path, public_url=url)


def program(name):
    found = shutil.which(name) or shutil.which(name, path="/usr/sbin:/usr/local/sbin")
    if found is None:
        pytest.skip(f"{name} is not installed")
    return found


def settings_of(language):
    """The example of the manual."""
    return re.search(rf"```{language}\n(.*?)```", MANUAL.read_text(), re.DOTALL)[1]


class Proxies:
    """Starts servers with the manual's settings; what differs is ports, certificates and the path."""

    def __init__(self, folder):
        self.folder = folder
        self.authority = Authority(folder, "ours")
        self.certificate = self.authority.issue("localhost.pem", LOCALHOST)

    def _here(self, text, port, service):
        changes = {
            "listen 443 ssl": f"listen 127.0.0.1:{port} ssl",
            "server_name audits.example": "server_name localhost",
            "https://audits.example {": f"https://localhost:{port} {{",
            "/etc/ssl/audits.example.pem": str(self.certificate),
            "127.0.0.1:8000": f"127.0.0.1:{service}",
        }
        for old, new in changes.items():
            text = text.replace(old, new)
        return text

    def nginx(self, port, service, prefix):
        text = self._here(settings_of("nginx"), port, service).replace("location / {", f"location {prefix}/ {{")
        file = self.folder / "nginx.conf"
        paths = "".join(
            f"{name}_temp_path {self.folder}/{name};" for name in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
        )
        file.write_text(
            f"daemon off; pid {self.folder}/pid; error_log stderr; worker_processes 1;"
            f" events {{}} http {{ access_log off; {paths} {text} }}"
        )
        return [program("nginx"), "-p", str(self.folder), "-e", "stderr", "-c", str(file)]

    def caddy(self, port, service, prefix):
        text = self._here(settings_of("caddy"), port, service)
        if prefix:
            inner = re.search(r"    reverse_proxy .*?\n    \}\n", text, re.DOTALL)[0]
            text = text.replace(inner, f"    handle {prefix}/* {{\n{inner}    }}\n")
        file = self.folder / "Caddyfile"
        file.write_text(f"{{\n    admin off\n    auto_https disable_redirects\n    skip_install_trust\n}}\n{text}")
        return [program("caddy"), "run", "--config", str(file), "--adapter", "caddyfile"]

    @contextmanager
    def running(self, name, port, service, prefix):
        command = getattr(self, name)(port, service, prefix)
        log = self.folder / f"{name}.log"
        environment = {"HOME": str(self.folder), "XDG_DATA_HOME": str(self.folder), "PATH": "/usr/bin:/bin"}
        with log.open("wb") as output:
            process = subprocess.Popen(mortal(command), stdout=output, stderr=output, env=environment)
        try:
            give_up_at = time.monotonic() + 30
            while True:
                assert process.poll() is None, log.read_text()
                try:
                    socket.create_connection(("127.0.0.1", port), timeout=1).close()
                    break
                except OSError:
                    assert time.monotonic() < give_up_at, log.read_text()
                    time.sleep(0.05)
            yield ssl.create_default_context(cafile=self.authority.file)
        finally:
            process.terminate()
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


@pytest.fixture
def proxies(tmp_path):
    folder = tmp_path / "proxy"
    folder.mkdir()
    return Proxies(folder)


@pytest.mark.parametrize("prefix", ["", "/tools/audits"])
@pytest.mark.parametrize("name", ["nginx", "caddy"])
def test_the_documented_settings_work(serve, proxies, name, prefix):
    program(name)
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    origin = f"https://localhost:{port}"
    served = serve(public_url=origin + prefix, require_keys=True)
    _, key = served.dependencies.ledger.keys.create(owner="ann", name="test", scopes=["admin"])
    service = served.http.base_url.port
    with (
        proxies.running(name, port, service, prefix) as context,
        httpx.Client(base_url=origin, verify=context, trust_env=False, timeout=20) as browser,
    ):
        path = lambda rest: prefix + rest  # noqa: E731
        form = {"Origin": origin, "Sec-Fetch-Site": "same-origin"}
        assert browser.get(path("/")).status_code == 401
        answer = browser.post(path("/ui/sign-in"), data={"key": key}, headers=form)
        assert (answer.status_code, answer.headers["location"]) == (303, path("/"))
        cookie = answer.headers["set-cookie"]
        assert cookie.startswith("__Secure-" if prefix else "__Host-")
        assert {"secure", "httponly", "samesite=strict", f"path={prefix or '/'}"} <= set(cookie.lower().split("; "))
        page = browser.get(path("/"))
        assert page.status_code == 200
        links = re.findall(r'(?:href|src|action)="(/[^"]*)"', page.text)
        assert links
        assert all(link.startswith(f"{prefix}/") for link in links)
        assert all(browser.get(link).status_code < 400 for link in set(links) if "sign-out" not in link)
        refused = browser.post(path("/ui/libraries"), data={"name": "x"}, headers={"Origin": FOREIGN})
        assert refused.status_code == 403
        made = browser.post(path("/ui/libraries"), data={"name": "benign"}, headers=form)
        assert (made.status_code, made.headers["location"]) == (303, path("/ui/libraries?name=benign"))

        bearer = {"Authorization": f"Bearer {key}"}
        filed = browser.post(path("/audits"), json=SPEC, headers=bearer)
        assert filed.status_code == 202
        assert filed.headers["location"] == filed.json()["links"]["self"] == path(f"/audits/{filed.json()['id']}")
        assert browser.get(filed.headers["location"], headers=bearer).json()["id"] == filed.json()["id"]
        weights = bytes(3 * 2**20)
        put = browser.put(path("/models/big/files/model.safetensors"), content=weights, headers=bearer)
        assert (put.status_code, put.json()["offset"]) == (201, len(weights))
        with browser.stream("GET", filed.json()["links"]["events"], headers=bearer) as events:
            assert "queued" in next(line for line in events.iter_lines() if line.startswith("data:")), "unbuffered"
        out = browser.post(path("/ui/sign-out"), headers=form)
        assert out.headers["set-cookie"].startswith(cookie.split("=")[0])
        assert browser.get(path("/")).status_code == 401


def test_without_a_public_url_the_host_that_was_asked_decides(serve):
    served = serve(require_keys=True)
    _, key = served.dependencies.ledger.keys.create(owner="ann", name="test", scopes=["admin"])
    answer = served.http.post("/ui/sign-in", data={"key": key}, headers={"Origin": str(served.http.base_url)})
    assert answer.headers["set-cookie"].startswith("backdoor_audit_key=")
    assert "secure" not in answer.headers["set-cookie"].lower()
