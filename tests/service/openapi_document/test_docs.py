import re
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


def test_markup_in_the_document_stays_text():
    operation = {"operationId": "x", "summary": "<b>", "responses": {"200": {"description": "<script>"}}}
    document = {
        "info": {"title": "<i>", "version": "1", "description": "d"},
        "paths": {"/x": {"get": operation}},
        "components": {"schemas": {}},
    }
    assert "<script>" not in page(document)
    assert "&lt;script&gt;" in page(document)
