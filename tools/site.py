"""A hook of mkdocs: takes the tables that benchmarks have written into the site, and bends links to them.

In the repository they lie beside the code that writes them, outside ``docs``, where mkdocs follows no link.
"""

import re
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

_ROOT = Path(__file__).resolve().parent.parent
_PAGES = ("benchmarks/**/results/**/*.md", "benchmarks/**/results/**/*.svg", "benchmarks/search/README.md")
_LINK = re.compile(r"(\]\((?:\.\./)*)\.\./(?=benchmarks/)")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add every table as a page, and its figures, under their paths in the repository."""
    for table in sorted(path for pattern in _PAGES for path in _ROOT.glob(pattern)):
        files.append(File.generated(config, table.relative_to(_ROOT).as_posix(), abs_src_path=str(table)))
    return files


def on_page_markdown(markdown: str, **_others: Any) -> str:
    """Let links that leave ``docs`` for the tables lead to these pages."""
    return _LINK.sub(r"\1", markdown)
