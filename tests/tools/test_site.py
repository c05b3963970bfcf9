"""The documentation site: no dead link, and a search that works in a real browser, with and without a server."""

from __future__ import annotations

import contextlib
import functools
import http.server
import importlib.util
import queue
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

pytest.importorskip("zensical", reason="the site needs pip install 'attngraft[site]'")

ROOT = Path(__file__).parents[2]
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
needs_browser = pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium: apt-get install chromium")
SEARCH = """
<script>
const wait = (ms) => new Promise((go) => setTimeout(go, ms));
const shadows = (node, found = []) => {
  if (node.shadowRoot) found.push(node.shadowRoot);
  for (const child of (node.shadowRoot ?? node).children ?? []) shadows(child, found);
  return found;
};
addEventListener("load", async () => {
  let input = null, shown = "";
  for (let tries = 0; tries < 200 && !input; tries++) {
    document.querySelector("[data-md-component=search] button, label[for=__search], .md-search__button")?.click();
    await wait(50);
    input = shadows(document.body).map((root) => root.querySelector("input")).find(Boolean);
  }
  input.value = QUERY;
  input.dispatchEvent(new Event("input", { bubbles: true }));
  for (let tries = 0; tries < 200 && !shown.includes(EXPECTED); tries++) {
    await wait(50);
    shown = shadows(document.body).map((root) => [...root.children].filter((c) => c.tagName !== "STYLE")
      .map((c) => c.textContent).join(" ")).join(" ");
  }
  fetch(RECEIVER, { method: "POST", mode: "no-cors", body: shown });
});
</script>
"""


@pytest.fixture(scope="module")
def script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("attngraft_site", ROOT / "tools/site.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def site(script: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    script.build(folder / "built", folder / "pages")
    return folder / "built"


def test_no_link_anchor_or_resource_is_missing(script: ModuleType, site: Path) -> None:
    assert script.faults(site) == []
    assert len(list(site.rglob("*.html"))) > 60


def test_every_page_of_the_index_is_in_the_navigation_of_both_languages(script: ModuleType, site: Path) -> None:
    listed = [entry for entries in script.listed(ROOT / "docs/README.md").values() for entry in entries]
    for language, home in (("en", site), ("zh", site / "zh")):
        side = (home / "index.html").read_text(encoding="utf-8")
        side = side[side.index("<nav") : side.rindex("</nav>")]
        for entry in listed:
            assert f'href="./{script.built(Path(entry.file))}"' in side, entry.file
            assert entry.names[language] in side.replace("&#39;", "'").replace("&#x27;", "'"), entry.names


def test_a_page_with_a_twin_is_chinese_and_another_says_that_it_is_not(site: Path) -> None:
    assert "五步，从零开始得到第一个结论" in (site / "zh/docs/quickstart.html").read_text(encoding="utf-8")
    assert 'href="../../docs/quickstart.html">English' in (site / "zh/docs/quickstart.html").read_text(encoding="utf-8")
    assert 'href="../index.html">English' in (site / "zh/index.html").read_text(encoding="utf-8")
    english = (site / "zh/docs/decisions/0001-graft.html").read_text(encoding="utf-8")
    assert "这一页还没有中文版" in english
    assert "这一页还没有中文版" not in (site / "docs/decisions/0001-graft.html").read_text(encoding="utf-8")


def test_faults_are_seen(script: ModuleType, tmp_path: Path) -> None:
    """Were the search blind, the test above would always pass."""
    (tmp_path / "a.html").write_text(
        '<a href="gone.html">x</a><a href="b.html#no">y</a><a href="b.html#yes">z</a><img src="https://x.org/a.png">'
    )
    (tmp_path / "b.html").write_text('<h1 id="yes">b</h1>')
    assert script.faults(tmp_path) == [
        "a.html loads https://x.org/a.png",
        "a.html -> gone.html: no such file",
        "a.html -> b.html#no: no such anchor",
    ]


def test_formulas_become_mathml_and_prices_do_not(script: ModuleType) -> None:
    text = script.outside_code("$x^2$ costs $5 and $6; `$y$`\n\n```\n$z$\n```\n", script.formulas)
    assert text.count("<math") == 1
    assert "costs $5 and $6; `$y$`" in text
    assert "```\n$z$\n```" in text


def test_headings_of_a_translation_answer_to_the_english_anchors(script: ModuleType) -> None:
    text = script.with_anchors_of("# 甲\n\n## 乙 `x`\n", "# One\n\n```\n# no heading\n```\n\n## Two `y`\n")
    assert text == '# 甲 <a id="one"></a>\n\n## 乙 `x` <a id="two-y"></a>\n'
    with pytest.raises(SystemExit, match="1 headings in Chinese, 2 in English"):
        script.with_anchors_of("# 甲\n", "# One\n\n## Two\n")


@contextlib.contextmanager
def served(folder: Path) -> Iterator[tuple[str, queue.Queue[str]]]:
    """Serve a folder on this machine, and take what its pages send back."""
    sent: queue.Queue[str] = queue.Queue()

    class Handler(http.server.SimpleHTTPRequestHandler):
        def do_POST(self) -> None:
            sent.put(self.rfile.read(int(self.headers["Content-Length"])).decode())
            self.send_response(204)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Handler, directory=str(folder)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/", sent
    finally:
        server.shutdown()
        server.server_close()


def found(url: str, sent: queue.Queue[str], profile: Path) -> str:
    """Return what a page's search found, as a real browser shows it."""
    assert CHROMIUM is not None
    command = [CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"]
    command += ["--disable-background-networking", "--disable-component-update", "--disable-sync"]
    command += [f"--user-data-dir={profile}", "--remote-debugging-port=0", url]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as browser:
        try:
            return sent.get(timeout=120)
        finally:
            browser.terminate()


@needs_browser
@pytest.mark.parametrize("how", ["served", "from a folder"])
@pytest.mark.parametrize(
    ("home", "query", "expected"),
    [("", "KeyError MHSA", "Troubleshooting"), ("zh/", "冻结", "疑难解答")],
)
def test_the_search_finds_an_error_text(
    site: Path, tmp_path: Path, how: str, home: str, query: str, expected: str
) -> None:
    page = site / home / f"search-{how[0]}.html"
    text = (site / home / "index.html").read_text(encoding="utf-8")
    with served(site) as (address, sent):
        driver = SEARCH.replace("QUERY", f'"{query}"').replace("EXPECTED", f'"{expected}"')
        driver = driver.replace("RECEIVER", f'"{address}"')
        page.write_text(text.replace("</body>", f"{driver}</body>"), encoding="utf-8")
        url = f"{address}{home}{page.name}" if how == "served" else page.as_uri()
        assert expected in found(url, sent, tmp_path)


def test_lines_of_chinese_are_joined_without_a_blank(script: ModuleType) -> None:
    text = (
        "# 标题\n\n机制放在瓶颈末端，\n之后（见下）。\n再用 ONNX，\nOpenVINO\n运行。\n\n* 一\n  二\n* 三：\n\n"
        "```\n甲\n乙\n```\n\n| 表 |\n|---|\n| 行 |\n"
    )
    joined = script.outside_code(text, lambda prose: script.BROKEN_LINE.sub("", prose))
    assert joined == (
        "# 标题\n\n机制放在瓶颈末端，之后（见下）。再用 ONNX，OpenVINO\n运行。\n\n* 一二\n* 三：\n\n"
        "```\n甲\n乙\n```\n\n| 表 |\n|---|\n| 行 |\n"
    )
