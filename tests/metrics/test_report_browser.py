"""The report in a real headless Chromium: three widths, both themes, 0, 1, 40 and 500 guests, a first day; on paper.

Not part of `make test`: Chromium is large. `make report-pictures` runs it and leaves the pictures in .lab/report.
What can be measured is measured here (nothing sticks out, text is large enough, colours differ from the page); the
pictures are there to be looked at.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

from tests.lab.packages import cache_dir
from tests.metrics import story

pytestmark = pytest.mark.slow

WIDTHS = (360, 800, 1400)
THEMES = ("light", "dark")

# Runs in the page after it was laid out, and looks behind every click; what it finds is left in the document for
# --dump-dom.
_PROBE = """<script>
const found = {tall: document.body.offsetHeight, cut: [], thin: [], small: [], faint: []};
for (const e of document.querySelectorAll('details')) e.open = true;
found.wide = document.documentElement.scrollWidth; found.inner = innerWidth;
const shade = c => { const [r,g,b] = c.match(/[\\d.]+/g).map(v => { v = v/255;
  return v <= .03928 ? v/12.92 : Math.pow((v+.055)/1.055, 2.4); }); return .2126*r+.7152*g+.0722*b; };
const page = shade(getComputedStyle(document.body).backgroundColor);
const contrast = c => { const s = shade(c); return (Math.max(s,page)+.05)/(Math.min(s,page)+.05); };
for (const e of document.querySelectorAll('body *')) {
  const style = getComputedStyle(e), box = e.getBoundingClientRect();
  if (!box.width || e.closest('.unseen')) continue;
  const text = [...e.childNodes].some(n => n.nodeType === 3 && n.data.trim());
  if (text && !e.closest('svg')) {
    if (parseFloat(style.fontSize) < 12) found.small.push(e.textContent.trim().slice(0, 40));
    if (!e.closest('.alarm') && contrast(style.color) < 4.5) found.faint.push(e.textContent.trim().slice(0, 40));
    const words = e.textContent.trim().length > 20;
    if (words && e.closest('td') && box.height > 2 * box.width) found.thin.push(e.textContent.trim().slice(0, 40));
    if (box.right > innerWidth + 1) found.cut.push(e.textContent.trim().slice(0, 40));
  }
  if (e.matches('td svg') && box.right > innerWidth + 1) found.cut.push('picture');
  if (e.matches('rect') && contrast(style.fill) < 3) found.faint.push('rect ' + e.getAttribute('class'));
}
found.dark = page < .2; found.titles = document.querySelectorAll('svg title').length;
const named = svg => svg.getAttribute('aria-hidden') || svg.getAttribute('aria-label');
found.named = [...document.querySelectorAll('svg')].every(named);
found.requests = performance.getEntriesByType('resource').length;
document.documentElement.setAttribute('data-found', JSON.stringify(found));
</script>"""


def _chromium(*arguments: str | Path) -> str:
    path = shutil.which("chromium")
    if path is None:
        pytest.skip("no Chromium here; as root run: apt-get install --no-install-recommends chromium fonts-dejavu-core")
    done = subprocess.run(
        [path, "--headless=new", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("report")
    now, found = time.time(), {}
    for name in story.STORIES:
        found[name] = folder / f"{name}.html"
        found[name].write_text(story.page(folder, name, now))
    return found


def _theme(theme: str) -> list[str]:
    return ["--blink-settings=preferredColorScheme=0"] if theme == "dark" else []


@pytest.mark.parametrize("theme", THEMES)
@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("guests", story.STORIES)
def test_the_page_fits_and_can_be_read(
    pages: dict[str, Path], tmp_path: Path, guests: str, width: int, theme: str
) -> None:
    pictures = cache_dir() / "report"
    pictures.mkdir(exist_ok=True)
    common = [f"--user-data-dir={tmp_path}/profile", *_theme(theme)]
    picture = pictures / f"{guests}{'-guests' if guests.isdigit() else ''}-{width}-{theme}.png"
    found = _probe(pages[guests].read_text(), width, tmp_path, common)
    _chromium(*common, f"--window-size={width},{found['tall']}", f"--screenshot={picture}", pages[guests].as_uri())
    assert picture.stat().st_size > 3000
    assert found["dark"] is (theme == "dark")
    assert found["wide"] <= found["inner"], "the page scrolls sideways"
    assert found["cut"] == []
    assert found["thin"] == [], "a column of single words"
    assert found["small"] == []
    assert found["faint"] == []
    assert found["named"]
    assert found["requests"] == 0
    assert (found["titles"] > 0) is (guests in ("40", "500"))


def _probe(text: str, width: int, folder: Path, common: list[str]) -> dict[str, Any]:
    """Lay the page out in a frame of ``width`` (a window has a least width, a frame has not) and measure it."""
    inner = text.replace("</body>", _PROBE + "</body>").replace("style-src 'unsafe-inline'", "* 'unsafe-inline'")
    (folder / "inner.html").write_text(re.sub(r"<meta http-equiv=.*?>", "", inner))
    frame = folder / "frame.html"
    frame.write_text(
        f'<!doctype html><html><body><iframe src="inner.html" style="width:{width}px;height:900px;border:0"></iframe>'
        "<script>onload=()=>setTimeout(()=>{document.title=frames[0].document.documentElement.dataset.found;"
        "document.body.textContent=frames[0].document.documentElement.dataset.found},300)</script></body></html>"
    )
    dom = _chromium(
        *common, "--allow-file-access-from-files", "--virtual-time-budget=3000", "--dump-dom", frame.as_uri()
    )
    body = re.search(r"<title>(.*?)</title>", dom, re.DOTALL)
    assert body, dom[-2000:]
    text = body[1].replace("&quot;", '"').replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&")
    found: dict[str, Any] = json.loads(text)
    return found


def test_the_page_can_be_printed(pages: dict[str, Path], tmp_path: Path) -> None:
    target = cache_dir() / "report" / "500-guests.pdf"
    target.parent.mkdir(exist_ok=True)
    _chromium(
        f"--user-data-dir={tmp_path}/profile",
        "--no-pdf-header-footer",
        f"--print-to-pdf={target}",
        pages["500"].as_uri(),
    )
    data = target.read_bytes()
    assert data.startswith(b"%PDF")
    assert 1 < len(re.findall(rb"/Type\s*/Page\b", data)) < 15
