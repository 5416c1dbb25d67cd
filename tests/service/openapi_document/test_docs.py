import html
import os
import re
import subprocess
from html.parser import HTMLParser

from service.openapi_document.routes import page


class Links(HTMLParser):
    """Collects what a page loads or links to, and the ids that it has."""

    def __init__(self):
        super().__init__()
        self.targets, self.ids, self.tags = [], set(), set()

    def handle_starttag(self, tag, attrs):
        self.tags.add(tag)
        for name, value in attrs:
            if name in ("href", "src", "action", "srcset"):
                self.targets.append(value)
            if name == "id":
                self.ids.add(value)


def test_the_page_loads_nothing_from_elsewhere(shared):
    answer = shared.http.get("/docs")
    assert answer.headers["content-type"].startswith("text/html")
    assert "default-src 'none'" in answer.headers["content-security-policy"]
    links = Links()
    links.feed(answer.text)
    assert not links.tags & {"script", "img", "link", "iframe"}
    assert set(links.targets) - {"/", "/openapi.json"} <= {f"#{name}" for name in links.ids}
    assert not re.search(r"url\(|@import", answer.text)


def test_the_page_shows_every_call_and_schema(shared):
    text = shared.http.get("/docs").text
    document = shared.http.get("/openapi.json").json()
    for path, methods in document["paths"].items():
        assert path in text
        for operation in methods.values():
            assert f'id="{operation["operationId"]}"' in text
    for name in document["components"]["schemas"]:
        assert f'id="{name}"' in text


def test_every_call_is_in_the_contents_and_has_a_command_line(shared):
    text = shared.http.get("/docs").text
    contents = text[text.index("<nav") : text.index("</nav>")]
    lines = [html.unescape(line) for line in re.findall(r'<pre tabindex="0">(curl .*?)</pre>', text)]
    operations = [one for path in shared.http.get("/openapi.json").json()["paths"].values() for one in path.values()]
    assert len(lines) == len(operations)
    for operation in operations:
        assert f'href="#{operation["operationId"]}"' in contents
    given = {name: value for name, value in os.environ.items() if "proxy" not in name.lower()}
    given["BACKDOOR_AUDIT_URL"] = str(shared.http.base_url).rstrip("/")

    def run(path):
        (line,) = [one for one in lines if one.endswith(f'{path}"')]
        # No key is needed here, and an empty one is refused.
        line = line.replace('-H "Authorization: Bearer $BACKDOOR_AUDIT_API_KEY" ', "")
        command = ["sh", "-c", f"{line} -o /dev/null -w '%{{http_code}}'"]
        return subprocess.run(command, env=given, capture_output=True, text=True, check=True).stdout

    assert run("/audits/batch") == "202"
    assert run("/livez") == "200"
    assert run("/comparison?left=" + re.search(r"comparison\?left=([^\"]*)", "\n".join(lines))[1]) == "404"


def test_markup_in_the_document_stays_text():
    operation = {"operationId": "x", "summary": "<b>", "responses": {"200": {"description": "<script>"}}}
    document = {
        "info": {"title": "<i>", "version": "1", "description": "d"},
        "paths": {"/x": {"get": operation}},
        "components": {"schemas": {}},
    }
    assert "<script>" not in page(document)
    assert "&lt;script&gt;" in page(document)
