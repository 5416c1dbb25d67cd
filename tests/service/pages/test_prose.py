"""The glossary and the playbooks, as the service shows them."""

import re
from html.parser import HTMLParser
from pathlib import Path

import pytest

from service.pages import prose

DOCS = Path(__file__).resolve().parents[3] / "docs"


class Anchors(HTMLParser):
    def __init__(self, html):
        super().__init__()
        self.ids, self.links = set(), []
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        found = dict(attrs)
        if "id" in found:
            self.ids.add(found["id"])
        if tag == "a" and found.get("href", "").startswith(("#", "/glossary", "/playbooks")):
            self.links.append(found["href"])


def test_they_need_no_key_and_their_links_lead_somewhere(serve):
    served = serve(require_keys=True)
    pages = {path: served.http.get(path) for path in ("/glossary", "/playbooks")}
    read = {}
    for path, answer in pages.items():
        assert answer.status_code == 200
        assert "default-src 'none'" in answer.headers["content-security-policy"]
        assert "<!--" not in answer.text.replace("<!doctype", "")
        assert ".md" not in re.sub(r"<code>.*?</code>", "", answer.text)
        read[path] = Anchors(answer.text)
    for path, anchors in read.items():
        assert anchors.links
        for href in anchors.links:
            target, _, fragment = href.partition("#")
            if (target or path) in read and fragment not in ("main", ""):
                assert fragment in read[target or path].ids, href


@pytest.mark.parametrize("verdict", ["flagged", "review", "no_evidence", "invalid"])
def test_a_report_links_to_the_playbook_of_its_verdict_and_to_the_glossary(served, verdict):
    audit_id = served.file()
    served.succeed(audit_id, verdict=verdict)
    playbooks = Anchors(served.http.get("/playbooks").text)
    assert verdict in playbooks.ids
    for page in (
        served.http.get(f"/ui/audits/{audit_id}").text,
        served.http.get(f"/audits/{audit_id}/report", params={"format": "html"}).text,
    ):
        links = Anchors(page).links
        assert f"/playbooks#{verdict}" in links
        assert any(link.startswith("/glossary") for link in links)


def test_what_is_served_is_the_documentation():
    assert "carrier" in prose.rendered(DOCS / "glossary.md")[1]
    for name in ("glossary", "playbooks"):
        assert (Path(prose.__file__).parent / "content" / f"{name}.md").resolve().parent == DOCS


def test_markup_in_the_documentation_stays_text(tmp_path):
    path = tmp_path / "page.md"
    path.write_text("# A `b` & c\n\n<script>x</script> [here](other.md) [there](glossary.md#pair)\n")
    title, html = prose.rendered(path)
    assert title == "A `b` & c"
    assert 'id="a-b--c"' in html
    assert "<script>" not in html
    assert "other.md" not in html
    assert "/glossary#pair" in html
