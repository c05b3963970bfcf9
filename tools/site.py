"""Build the documentation site from the pages of the repository, in English and in Chinese, with Zensical.

The pages stay where they are and keep their links: the repository's layout is the site's. docs/README.md is the one
list of pages, and the navigation is read from its tables. Where a page has a twin `X.zh-CN.md`, the Chinese site shows
it; where it has none, the English page, which says so. Formulas become MathML here, so that nothing is fetched by a
reader's browser. With --check the built pages are searched for links, anchors and resources that are not there, too.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass, field
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import latex2mathml.converter
import yaml

ROOT = Path(__file__).resolve().parents[1]
SETTINGS = Path(__file__).with_suffix(".yml")
WORKER = Path(__file__).with_name("site_worker.js")
FETCHED = "https://unpkg.com/iframe-worker/shim"
"""What the generator would have a reader's browser fetch; ours stands in."""
CHINESE = ".zh-CN.md"
HOME = {"en": "Home", "zh": "首页"}
SECTIONS = {"Start": "入门", "Guides": "指南", "Reference": "参考", "Why": "原理与取舍"}
UNTRANSLATED = "!!! note\n    这一页还没有中文版，下面是英文原文。\n\n"
LINK = re.compile(r"(\]\(\s*<?)([^)\s>#]*)(#[^)\s>]*)?(>?[^)]*\))")
FENCED = re.compile(r"^( *)(```+|~~~+).*?^ *\2 *$", re.DOTALL | re.MULTILINE)
HEADING = re.compile(r"^#{1,6} +(.+?)$", re.MULTILINE)
WIDE = r"\u3000-\u303f\uff01-\uff65"  # full-width punctuation
BROKEN_LINE = re.compile(rf"(?<=[一-鿿{WIDE}”…])\n *(?=[一-鿿\uff08“])|(?<=[{WIDE}])\n *(?=[A-Za-z])")
"""Where a source line of Chinese ends inside a paragraph: a browser would draw the line break as a blank."""
FORMULA = re.compile(r"(?<![\\$\w])\$\$(.+?)\$\$|(?<![\\$\w`])\$(?!\s)([^$\n`]+?)(?<!\s)\$(?![\w$])", re.DOTALL)
ELSEWHERE = re.compile(r"[a-z][a-z0-9+.-]*:|//", re.IGNORECASE)


@dataclass(frozen=True)
class Entry:
    """A page of the navigation: its file, from the root of the repository, and its name in both languages."""

    file: str
    names: dict[str, str]


def listed(index: Path) -> dict[str, list[Entry]]:
    """Return the pages that an index lists in its tables, by section."""
    sections: dict[str, list[Entry]] = {}
    for part in re.split(r"^## ", index.read_text(encoding="utf-8"), flags=re.MULTILINE)[1:]:
        title, _, body = part.partition("\n")
        rows = re.findall(r"^\| \[([^\]]+)\]\(([^)]+)\)[^|]*\| ([^|]+?) \|", body, re.MULTILINE)
        for name, link, chinese in rows:
            file = os.path.relpath((index.parent / link).resolve(), ROOT)
            sections.setdefault(title.strip(), []).append(Entry(file, {"en": name, "zh": chinese}))
    return sections


def navigation(language: str) -> list[dict[str, Any]]:
    """Return the navigation of a language, as the site generator takes it."""
    sections = listed(ROOT / "docs/README.md")
    nav: list[dict[str, Any]] = [{HOME[language]: "README.md"}]
    for title, entries in sections.items():
        pages = [{entry.names[language]: entry.file} for entry in entries]
        nav.append({title if language == "en" else SECTIONS[title]: pages})
    return nav


@dataclass
class Gathering:
    """The pages of one language, copied with everything that they link to.

    Args:
        language: `en` or `zh`.
        target: The folder that they are written to.
    """

    language: str
    target: Path
    waiting: list[str] = field(default_factory=list)
    taken: set[str] = field(default_factory=set)

    def run(self) -> None:
        """Copy the home page, the listed pages, and what they lead to."""
        self.waiting = ["README.md", "docs/README.md"]
        self.waiting += [entry.file for entries in listed(ROOT / "docs/README.md").values() for entry in entries]
        while self.waiting:
            file = self.waiting.pop()
            if file not in self.taken:
                self.taken.add(file)
                self.copy(file)

    def copy(self, file: str) -> None:
        """Copy a file, and note what a page links to."""
        place = self.target / file
        place.parent.mkdir(parents=True, exist_ok=True)
        if Path(file).suffix != ".md":
            shutil.copyfile(ROOT / file, place)
            return
        place.write_text(self.page(file), encoding="utf-8")

    def page(self, file: str) -> str:
        """Return a page in this language, its links and formulas as the site needs them."""
        twin = Path(file.removesuffix(".md") + CHINESE)
        chinese = self.language == "zh" and not file.endswith(CHINESE)
        source = twin if chinese and (ROOT / twin).exists() else Path(file)
        text = (ROOT / source).read_text(encoding="utf-8")
        if source == twin:
            text = with_anchors_of(text, (ROOT / file).read_text(encoding="utf-8"))
            text = outside_code(text, lambda prose: BROKEN_LINE.sub("", prose))
        text = outside_code(text, lambda prose: formulas(LINK.sub(lambda link: self.link(link, source), prose)))
        translated = source == twin or "zh-CN" in source.name or re.search(r"[一-鿿]", text)
        return text if self.language == "en" or translated else UNTRANSLATED + text

    def link(self, found: re.Match[str], page: Path) -> str:
        """Return a link of a page as the site needs it, and note its target."""
        folder = page.parent
        before, path, anchor, after = found[1], unquote(found[2]), found[3] or "", found[4]
        if not path or ELSEWHERE.match(path):
            return found[0]
        file = os.path.relpath((ROOT / folder / path).resolve(), ROOT)
        if (ROOT / file).is_dir():
            raise SystemExit(f"{folder}: the link {path!r} leads to a folder; name a file in it")
        if file.endswith(CHINESE) and self.language == "en":  # the twin stands in the other site
            html = Path("zh", file.removesuffix(CHINESE) + ".md")
            return f"{before}{os.path.relpath(built(html), built(folder / 'x.md').parent)}{anchor}{after}"
        if self.language == "zh" and file.removesuffix(".md") + CHINESE == str(page):  # a twin's own original
            english = Path("..", built(Path(file)))
            return f"{before}{os.path.relpath(english, built(folder / 'x.md').parent)}{anchor}{after}"
        if self.language == "zh" and file.endswith(CHINESE):
            path, file = path.removesuffix(CHINESE) + ".md", file.removesuffix(CHINESE) + ".md"
        if (ROOT / file).exists():
            self.waiting.append(file)
        return f"{before}{path}{anchor}{after}"


def outside_code(text: str, change: Any) -> str:
    """Return a page with its prose changed, and its fenced blocks and code spans as they were."""
    kept: list[str] = []

    def away(code: re.Match[str]) -> str:
        kept.append(code[0])
        return f"\0{len(kept) - 1}\0"

    hidden = re.sub(r"(?<!`)(`+)(?!`).+?(?<!`)\1(?!`)", away, FENCED.sub(away, text), flags=re.DOTALL)
    changed = change(hidden)
    while "\0" in changed:
        changed = re.sub(r"\0(\d+)\0", lambda mark: kept[int(mark[1])], changed)
    return str(changed)


def with_anchors_of(text: str, english: str) -> str:
    """Return a translation whose headings also answer to the English anchors, for links from English pages."""
    names = [slug(heading) for heading in re.findall(HEADING, FENCED.sub("", english))]
    own = re.findall(HEADING, FENCED.sub("", text))
    if len(own) != len(names):
        raise SystemExit(f"{len(own)} headings in Chinese, {len(names)} in English, of which the last is {names[-1]!r}")
    for heading, name in zip(own, names, strict=True):
        line = rf"^(#{{1,6}} +{re.escape(heading)})$"
        text = re.sub(line, rf'\1 <a id="{name}"></a>', text, count=1, flags=re.MULTILINE)
    return text


def slug(heading: str) -> str:
    """Return the anchor that GitHub, and this site, make of a heading."""
    plain = re.sub(r"!?\[([^\]]*)\]\([^)]*\)", r"\1", heading)
    return re.sub(r"[^\w\- ]", "", plain.lower()).replace(" ", "-")


def formulas(text: str) -> str:
    """Return a text with `$...$` and `$$...$$` as MathML, which browsers draw without a script."""

    def drawn(found: re.Match[str]) -> str:
        display = "block" if found[1] else "inline"
        return latex2mathml.converter.convert((found[1] or found[2]).strip(), display=display)

    return FORMULA.sub(drawn, text)


def built(page: Path) -> Path:
    """Return where a page ends up in the site."""
    return page.with_name("index.html") if page.name == "README.md" else page.with_suffix(".html")


def configure(language: str, work: Path) -> Path:
    """Write the settings of a language beside its pages, and return their path."""
    settings = yaml.safe_load(SETTINGS.read_text(encoding="utf-8"))
    settings |= {"docs_dir": "pages", "site_dir": "site", "nav": navigation(language)}
    settings["theme"]["language"] = language
    settings["markdown_extensions"]["toc"]["slugify"] = "SLUGS"
    settings["plugins"]["mkdocstrings"]["handlers"]["python"]["paths"] = [str(source_for_docs(work))]
    other = "zh" if language == "en" else "en"
    root = "./" if language == "en" else "../"
    settings["extra"] = {
        "alternate": [
            {"name": "English", "lang": "en", "link": f"{root}index.html"},
            {"name": "中文", "lang": "zh", "link": f"{root}zh/index.html" if other == "zh" else "./index.html"},
        ]
    }
    text = yaml.safe_dump(settings, allow_unicode=True, sort_keys=False)
    slugs = "!!python/object/apply:pymdownx.slugs.slugify {kwds: {case: lower}}"
    path = work / "mkdocs.yml"
    path.write_text(text.replace("slugify: SLUGS", f"slugify: {slugs}"), encoding="utf-8")
    return path


def source_for_docs(work: Path) -> Path:
    """Copy the source with its `Example:` sections under the name that the reader of docstrings knows."""
    copy = work / "src"
    shutil.copytree(ROOT / "src", copy, ignore=shutil.ignore_patterns("__pycache__"))
    for file in copy.rglob("*.py"):
        text = file.read_text(encoding="utf-8")
        file.write_text(re.sub(r"^( +)Example:$", r"\1Examples:", text, flags=re.MULTILINE), encoding="utf-8")
    return copy


def build(output: Path, work: Path) -> None:
    """Build the site of both languages, the Chinese one in the folder zh of the English one."""
    shutil.rmtree(work, ignore_errors=True)
    for language in ("en", "zh"):
        Gathering(language, work / language / "pages").run()
        settings = configure(language, work / language)
        command = [sys.executable, "-m", "zensical", "build", "--strict", "--config-file", str(settings)]
        if subprocess.run(command, check=False).returncode:
            raise SystemExit(f"the site ({language}) has the faults that are named above")
    shutil.rmtree(output, ignore_errors=True)
    shutil.copytree(work / "en/site", output)
    shutil.copytree(work / "zh/site", output / "zh")
    for scripts in output.rglob("assets/javascripts"):
        shutil.copyfile(WORKER, scripts / WORKER.name)
    for page in output.rglob("*.html"):
        text = page.read_text(encoding="utf-8")
        root = re.search(r'<script src="([^"]*assets/javascripts/)bundle', text)
        page.write_text(text.replace(FETCHED, (root[1] if root else "") + WORKER.name), encoding="utf-8")


class Page(HTMLParser):
    """What one built page links to, loads, and can be linked at."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.links: list[str] = []
        self.loaded: list[str] = []
        self.anchors: set[str] = set()
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Take what a tag links to, loads, or names."""
        given = {name: value or "" for name, value in attrs}
        self.anchors.update(given[name] for name in ("id", "name") if name in given)
        if tag == "a" and "href" in given:
            self.links.append(given["href"])
        elif "src" in given:
            self.loaded.append(given["src"])
        elif tag == "link" and "href" in given and given.get("rel") not in ("canonical", "alternate"):
            self.loaded.append(given["href"])


def faults(site: Path) -> list[str]:
    """Return what is not there: targets of links, their anchors, and resources; or comes from another host."""
    pages = {path.resolve(): Page(path) for path in sorted(site.rglob("*.html"))}
    wrong = []
    for path, page in pages.items():
        here = path.relative_to(site.resolve())
        wrong += [f"{here} loads {url}" for url in page.loaded if ELSEWHERE.match(url) and not url.startswith("data:")]
        inside = [url for url in page.links + page.loaded if not ELSEWHERE.match(url)]
        for url in inside:
            parts = urlsplit(url)
            target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            if path.name == "404.html" or parts.path.startswith("/"):
                continue
            target = target / "index.html" if target.is_dir() else target
            if not target.exists():
                wrong.append(f"{here} -> {url}: no such file")
            elif parts.fragment and target in pages and unquote(parts.fragment) not in pages[target].anchors:
                wrong.append(f"{here} -> {url}: no such anchor")
    return wrong


def main() -> None:
    """Build the site, and with --check search it for what is not there."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=Path, default=ROOT / "build/site")
    parser.add_argument("--check", action="store_true", help="also search the built pages for dead links")
    asked = parser.parse_args()
    if sys.version_info < (3, 11):
        message = "the site was not built: Zensical needs Python 3.11 or newer"
        if not asked.check:
            raise SystemExit(message)
        print(message)  # `make check` goes on, as CI's job with the oldest Python has to
        return
    output = asked.output.resolve()
    build(output, output.with_name(output.name + "-pages"))
    wrong = faults(output) if asked.check else []
    if wrong:
        raise SystemExit("\n".join([*wrong, f"{len(wrong)} links or resources are not there"]))
    print(f"open {output / 'index.html'}")


if __name__ == "__main__":
    main()
