"""Every relative link and anchor of the repository's pages leads somewhere, and every page of docs/ is in its index."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections import Counter
from pathlib import Path
from urllib.parse import unquote

import pytest

ROOT = Path(__file__).parents[1]
LINK = re.compile(r"\]\(\s*<?([^)\s>]+)>?[^)]*\)|^\[[^\]]+\]:\s*(\S+)", re.MULTILINE)
ELSEWHERE = re.compile(r"[a-z][a-z0-9+.-]*:|//", re.IGNORECASE)


def pages() -> list[Path]:
    """Return the pages that git knows, or every page where there is no checkout."""
    if (ROOT / ".git").exists() and shutil.which("git"):
        listed = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "*.md"]
        names = subprocess.run(listed, cwd=ROOT, check=True, capture_output=True, text=True).stdout.splitlines()
        return [ROOT / name for name in names if (ROOT / name).exists()]
    return [path for path in ROOT.rglob("*.md") if not any(part.startswith(".") for part in path.parts)]


def prose(page: Path) -> str:
    """Return the text of a page without its code, where brackets mean something else."""
    fenced = re.sub(
        r"^( *)(```+|~~~+).*?^ *\2 *$", "", page.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE
    )
    return re.sub(r"(`+)(?!`).+?(?<!`)\1(?!`)", lambda code: re.sub(r"[\[\]()]", "", code[0]), fenced)


def anchors(page: Path) -> set[str]:
    """Return the anchors of a page as GitHub makes them of its headings, and those that it names itself."""
    text, seen, found = prose(page), Counter[str](), set[str]()
    for heading in re.findall(r"^#{1,6}\s+(.*?)\s*#*$", text, re.MULTILINE):
        plain = re.sub(r"!?\[([^\]]*)\]\([^)]*\)", r"\1", heading)
        slug = re.sub(r"[^\w\- ]", "", plain.lower()).replace(" ", "-")
        found.add(f"{slug}-{seen[slug]}" if seen[slug] else slug)
        seen[slug] += 1
    return found | set(re.findall(r"""<a\s+(?:id|name)=["']([^"']+)""", text))


def broken(page: Path) -> list[str]:
    """Return the links of a page that lead nowhere."""
    wrong = []
    for inline, referred in LINK.findall(prose(page)):
        link = inline or referred
        if ELSEWHERE.match(link):
            continue
        path, _, anchor = unquote(link).partition("#")
        target = page.parent / path if path else page
        if not target.exists() or (anchor and target.suffix == ".md" and anchor not in anchors(target)):
            wrong.append(link)
    return wrong


@pytest.mark.parametrize("page", pages(), ids=lambda page: page.relative_to(ROOT).as_posix())
def test_links_of_a_page(page: Path) -> None:
    assert broken(page) == []


def test_every_page_is_in_an_index() -> None:
    for folder in (ROOT / "docs", ROOT / "docs/decisions"):
        listed = set(re.findall(r"\]\(([^)#]+\.md)", prose(folder / "README.md")))
        assert {page.name for page in folder.glob("*.md")} - {"README.md"} <= listed, folder
    assert "](docs/README.md)" in prose(ROOT / "README.md")
    assert "](docs/README.zh-CN.md)" in prose(ROOT / "README.zh-CN.md")


def test_the_chinese_index_has_every_page_in_chinese_or_says_that_it_is_english() -> None:
    english, chinese = (
        re.findall(r"^\| \[[^\]]+\]\(([^)]+)\)(.*?) \|", prose(ROOT / "docs" / name), re.MULTILINE)
        for name in ("README.md", "README.zh-CN.md")
    )
    twins = [link.replace(".md", ".zh-CN.md") for link, _ in english]
    twins = [twin if (ROOT / "docs" / twin).exists() else link for twin, (link, _) in zip(twins, english, strict=True)]
    assert [link for link, _ in chinese] == twins


def unsaid(page: Path) -> list[str]:
    """Return the links of a Chinese page that lead to an English one, though it has a twin or without saying so."""
    found = []
    for label, link, after in re.findall(r"(?<!!)\[([^\]]*)\]\(([^)#\s]*\.md)(?:#[^)]*)?\)(?=(.{0,4}))", prose(page)):
        target = page.parent / link
        if ELSEWHERE.match(link) or link.endswith(".zh-CN.md") or label in ("English", "英文"):
            continue
        if target.with_name(target.name.replace(".md", ".zh-CN.md")).exists() or "英文" not in after:
            found.append(link)
    return found


CHINESE = [page for page in pages() if page.name.endswith(".zh-CN.md")]


@pytest.mark.parametrize("page", CHINESE, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_a_chinese_page_leads_to_chinese_pages_or_says_that_one_is_english(page: Path) -> None:
    if page.name == "catalogue.zh-CN.md":
        assert "保留英文原文" in prose(page), "its records are in English, and so is what they link"
    else:
        assert unsaid(page) == []


def test_a_chinese_page_that_leads_to_english_is_seen(tmp_path: Path) -> None:
    for name in ("a.md", "a.zh-CN.md", "b.md"):
        (tmp_path / name).write_text("")
    page = tmp_path / "page.zh-CN.md"
    page.write_text("[甲](a.zh-CN.md) [乙](b.md)（英文） [English](page.md) [甲](a.md)（英文）。[乙](b.md#c)。\n")
    assert unsaid(page) == ["a.md", "b.md"]


def test_a_page_and_its_chinese_twin_link_to_each_other() -> None:
    twins = [page for page in pages() if page.name.endswith(".zh-CN.md")]
    assert ROOT / "docs/quickstart.zh-CN.md" in twins
    for twin in twins:
        page = twin.with_name(twin.name.replace(".zh-CN.md", ".md"))
        assert f"]({twin.name})" in prose(page), f"{page.name} does not link {twin.name}"
        assert f"]({page.name})" in prose(twin), f"{twin.name} does not link {page.name}"


def test_a_link_that_leads_nowhere_is_seen(tmp_path: Path) -> None:
    """Were the search blind, the tests above would always pass."""
    (tmp_path / "other.md").write_text("# Two words, `a` b\n\n## Again\n\n## Again\n\n### 我的 数据？\n")
    page = tmp_path / "page.md"
    page.write_text(
        "# Here\n[a](other.md) [b](other.md#two-words-a-b) [c](#here) [d](other.md#again-1) [e](other.md#我的-数据) "
        "[f](https://example.org/x) [`code`](other.md)\n\n```\n[no](link.md)\n```\n`[nor](this.md)`\n"
    )
    assert broken(page) == []
    page.write_text(
        '# Here\n[a](missing.md) ![b](missing.png) [c](#there) [d](other.md#again-2) [`e` f](gone.md "title") '
        "[![g](away.png)](other.md)\n\n"
        "[ref]: lost.md\n"
    )
    assert broken(page) == ["missing.md", "missing.png", "#there", "other.md#again-2", "gone.md", "away.png", "lost.md"]
