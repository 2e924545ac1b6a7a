"""The frame of a page: style sheet, script, sections. Whole pages stand alone and ask nothing of a network."""

import base64
import pathlib
from collections.abc import Sequence
from string import Template
from typing import NamedTuple

from matplotlib.figure import Figure

from rmtjax.report import style
from rmtjax.report.tables import escape


class Section(NamedTuple):
    """A part of a page: anchor, heading (plain text), body (HTML)."""

    anchor: str
    title: str
    body: str


def page(title: str, header: str, sections: Sequence[Section]) -> str:
    """The whole document. `title` is plain text, `header` HTML below it."""
    contents = " ".join(f'<a href="#{s.anchor}">{escape(s.title)}</a>' for s in sections)
    body = "\n".join(
        f'<section id="{s.anchor}"><h2>{escape(s.title)}</h2>\n{s.body}\n</section>' for s in sections
    )
    colours = {
        scheme: "; ".join(f"--{name}: {colour}" for name, colour in palette.items())
        for scheme, palette in (
            ("light", style.LIGHT | style.PAGE_LIGHT),
            ("dark", style.DARK | style.PAGE_DARK),
        )
    }
    css = Template(_CSS).substitute(colours)
    return Template(_PAGE).substitute(
        title=escape(title), header=header, contents=contents, body=body, css=css, script=_SCRIPT
    )


def absent(text: str) -> str:
    """A sentence in the place of a section whose file is missing. Plain text."""
    return f'<p class="absent">{escape(text)}</p>'


def picture(drawn: Figure | None, alt: str, prefix: str, caption: str = "") -> str:
    """A drawn figure inside a page; nothing for None."""
    if drawn is None:
        return ""
    below = f"<figcaption>{escape(caption)}</figcaption>" if caption else ""
    return (
        f'<figure class="wide"><div class="scroll">{style.to_svg(drawn, alt, prefix)}</div>{below}</figure>'
    )


def image(path: pathlib.Path, alt: str, caption: str) -> str:
    """A PNG file inside a page."""
    data = path.read_bytes()
    width = int.from_bytes(data[16:20], "big")  # of the header every PNG begins with
    code = base64.b64encode(data).decode("ascii")
    shown = (
        f'<img class="pixels" width="{width // 2}" alt="{escape(alt)}" src="data:image/png;base64,{code}">'
    )
    return f'<figure class="wide"><div class="scroll">{shown}</div><figcaption>{escape(caption)}</figcaption></figure>'


_PAGE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<link rel="icon" href="data:,">
<title>$title</title>
<style>
$css
</style>
</head>
<body>
<header><h1>$title</h1>
$header
<nav aria-label="Contents">$contents</nav>
</header>
<main>
$body
</main>
<script>
$script
</script>
</body>
</html>
"""

_CSS = """:root { $light; --wash: #f3f5f8; --warn: #8a4b00; --washwarn: #fff3df; }
@media screen and (prefers-color-scheme: dark) {
  :root { $dark; --wash: #1c222b; --warn: #ffc777; --washwarn: #33270f; }
}
* { box-sizing: border-box; }
html { color-scheme: light dark; scroll-behavior: smooth; }
body { margin: 0 auto; padding: 2.2rem 1.4rem 5rem; max-width: 70rem; background: var(--paper); color: var(--ink);
  font: 16px/1.55 system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", "Noto Sans", "Liberation Sans",
  Arial, sans-serif; }
h1 { font-size: 1.75rem; line-height: 1.25; margin: 0 0 .5rem; letter-spacing: -.01em; overflow-wrap: anywhere; }
h2 { font-size: 1.25rem; margin: 3.2rem 0 .7rem; padding-top: .9rem; border-top: 1px solid var(--rule); }
h3 { font-size: 1rem; margin: 1.9rem 0 .5rem; }
p { max-width: 46rem; margin: .5rem 0 .9rem; }
a { color: var(--before); text-underline-offset: .15em; }
nav { display: flex; flex-wrap: wrap; gap: .2rem 1.1rem; margin: 1.2rem 0 0; font-size: .92rem; }
.lead { font-size: 1.06rem; }
.absent, .note, figcaption, dt { color: var(--muted); }
.absent { font-style: italic; }
.note, figcaption { font-size: .88rem; line-height: 1.45; }
.warn { color: var(--warn); background: var(--washwarn); padding: .5rem .8rem; border-radius: .3rem; }
.cards { display: flex; flex-wrap: wrap; gap: .7rem; margin: 1.3rem 0;
  padding: 0; list-style: none; }
.cards li { background: var(--wash); border-radius: .45rem; padding: .7rem .8rem; line-height: 1.35; display: flex;
  flex: 1 1 10rem; max-width: 17rem;  flex-direction: column; }
.cards b { display: block; white-space: nowrap; font-size: 1.35rem; font-weight: 600; font-variant-numeric: tabular-nums; }
.cards span { font-size: .88rem; flex: 1; }
.cards small { color: var(--muted); font-size: .8rem; min-height: 2.7em; white-space: pre-line; }
.scroll { overflow-x: auto; max-width: 100%; }
table { border-collapse: collapse; font-size: .9rem; line-height: 1.35; font-variant-numeric: tabular-nums;
  margin: .4rem 0 1.4rem; }
caption { text-align: left; color: var(--muted); font-size: .88rem; padding: 0 0 .45rem; }
th, td { padding: .34rem .8rem .34rem 0; text-align: right; vertical-align: top; border-bottom: 1px solid var(--rule);
  font-weight: 400; white-space: nowrap; }
th:first-child, .left3 :is(th, td) { text-align: left; }
tbody th { white-space: normal; overflow-wrap: anywhere; min-width: 9rem; max-width: 18rem; }
#spectra tbody th { min-width: 14.5rem; }
#spectra :is(th, td) { padding-right: .65rem; }
thead th { border-bottom: 1px solid var(--null); vertical-align: bottom; white-space: normal; }
thead button { all: unset; cursor: pointer; color: var(--muted); font-size: .85rem; }
thead button:focus-visible, a:focus-visible, summary:focus-visible { outline: 2px solid var(--before); outline-offset: 2px; }
thead button::after { content: "\\2195"; opacity: .35; padding-left: .25em; }
th[aria-sort=ascending] button::after { content: "\\2191"; opacity: 1; }
th[aria-sort=descending] button::after { content: "\\2193"; opacity: 1; }
td small, th small { display: block; color: var(--muted); font-size: .87em; }
td i { font-style: normal; color: var(--muted); }
td small i { display: block; }
figure { margin: .8rem 0 1.4rem; }
figure svg { display: block; height: auto; }
svg text { font-family: inherit !important; }
.pixels { max-width: none; display: block; border-radius: .3rem; border: 1px solid var(--rule); }
.panels { display: grid; grid-template-columns: repeat(auto-fill, minmax(20.6rem, 1fr)); gap: 1.1rem 1rem; margin: 1rem 0; }
.panels figure { margin: 0; break-inside: avoid; scroll-margin-top: 1rem; }
.panels figure:target { outline: 2px solid var(--before); outline-offset: .4rem; border-radius: .2rem; }
.panels svg { max-width: 100%; }
.panels.single { grid-template-columns: repeat(auto-fill, minmax(11rem, 1fr)); }
.panels figcaption { color: var(--ink); font-size: .84rem; overflow-wrap: anywhere; padding-bottom: .15rem; }
.panels figcaption small { white-space: nowrap; margin-right: .9em; font-size: .8rem; }
summary { cursor: pointer; color: var(--before); margin: .6rem 0; }
dl { display: grid; grid-template-columns: max-content minmax(0, 1fr); gap: .22rem 1.4rem; font-size: .92rem; margin: .6rem 0; }
dd { margin: 0; overflow-wrap: anywhere; }
.swatch { display: inline-block; width: 1.3em; height: 0; border-top: 3px solid; vertical-align: middle; margin-right: .3em; }
.chart { display: block; width: 100%; height: auto; }
.chart text { font-size: 10.5px; fill: var(--muted); font-variant-numeric: tabular-nums; }
.chart .title { font-size: 12px; fill: var(--ink); }
.chart .note { fill: var(--ink); paint-order: stroke; stroke: var(--paper); stroke-width: 3px; }
.chart .grid { stroke: var(--rule); stroke-width: .7; fill: none; }
.chart .axis { stroke: var(--null); stroke-width: .8; fill: none; }
.chart .line { fill: none; stroke-width: 1.3; stroke-linejoin: round; }
.chart .thin { stroke-width: 1; opacity: .75; }
.chart .strong { stroke-width: 2; }
.chart .dash { stroke-dasharray: 4 3; }
.chart .dot.line, .chart .line.dot { stroke-dasharray: 1.2 2.4; }
.chart .band { opacity: .18; }
.chart .bars { opacity: .45; }
.charts { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(26rem, 100%), 1fr)); gap: .8rem 1.2rem; margin: 1rem 0; }
.charts figure { margin: 0; break-inside: avoid; }
.charts a { cursor: pointer; }
.key { display: inline-block; width: .8em; height: .8em; margin-right: .35em; }
.mark { margin-right: 1.2em; white-space: nowrap; }
.three { display: grid; grid-template-columns: repeat(3, minmax(0, 1fr)); gap: .2rem .8rem; margin: .3rem 0 1rem; break-inside: avoid; }
.three figcaption { grid-column: 1 / -1; }
.matrix { scroll-margin-top: 1rem; border-top: 1px solid var(--rule); }
.matrix:target { outline: 2px solid var(--before); outline-offset: .3rem; border-radius: .2rem; }
.matrix summary small { color: var(--muted); margin-left: .5em; }
.warn ul { margin: .3rem 0 0; padding-left: 1.2rem; }
@media (max-width: 46rem) { .three { grid-template-columns: 1fr; } }
@media (max-width: 40rem) { dl { grid-template-columns: 1fr; } dd { margin-bottom: .4rem; } .panels { grid-template-columns: 1fr; } }
@media print {
  body { max-width: none; padding: 0; font-size: 10.5pt; }
  nav, thead button::after { display: none; }
  h2 { break-after: avoid; margin-top: 1.6rem; } figure, .cards, tr { break-inside: avoid; }
  .scroll { overflow: visible; } svg { max-width: 100%; } .pixels { max-width: 100%; }
  .panels { grid-template-columns: 1fr 1fr; } a { color: inherit; text-decoration: none; }
  table { font-size: 7.5pt; } th, td { padding-right: .4rem; white-space: normal; }
}
"""

_SCRIPT = """"use strict";
for (const table of document.querySelectorAll("table.sortable")) {
  const body = table.tBodies[0], heads = [...table.tHead.rows[0].cells];
  const original = [...body.rows];
  heads.forEach((head, column) => head.firstElementChild.addEventListener("click", () => {
    // Up, down, then the order of the file again.
    const next = {ascending: "descending", descending: ""}[head.getAttribute("aria-sort")] ?? "ascending";
    heads.forEach(other => other.removeAttribute("aria-sort"));
    if (next) head.setAttribute("aria-sort", next);
    const key = row => row.cells[column].dataset.key;
    const order = (a, b) => {
      const [x, y] = [key(a), key(b)];
      if (x === "" || y === "") return (x === "") - (y === "");  // what is missing comes last, both ways
      const numbers = x - y;
      const way = Number.isNaN(numbers) ? x.localeCompare(y, undefined, {numeric: true}) : numbers;
      return next === "descending" ? -way : way;
    };
    body.append(...(next ? [...original].sort(order) : original));
  }));
}
for (const link of document.querySelectorAll('a[href^="#matrix-"]')) link.addEventListener("click", () => {
  const goal = document.getElementById(link.getAttribute("href").slice(1));
  if (goal && goal.closest("details")) goal.closest("details").open = true;
});
addEventListener("beforeprint", () => document.querySelectorAll("details").forEach(part => { part.open = true; }));
"""
