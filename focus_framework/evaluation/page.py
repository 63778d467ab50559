"""The frame of the report: its style, and the script that sorts tables."""

from __future__ import annotations

from string import Template

PAGE = Template("""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Evaluation: $title</title>
<style>
:root { color-scheme: light dark; --line: #8884; --soft: #8881; }
body { font: 15px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 1180px; padding: 0 1rem; }
h1 { font-size: 1.6rem; } h2 { font-size: 1.2rem; margin-top: 2.2rem; } h3 { font-size: 1rem; margin: 1rem 0 .4rem; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
th, td { padding: .25rem .55rem; text-align: right; border-bottom: 1px solid var(--line); white-space: nowrap; }
th:first-child, td:first-child, .wide th:nth-child(2), .wide td:nth-child(2) { text-align: left; }
tbody tr:hover { background: var(--soft); }
svg { max-width: 100%; height: auto; }
.cards { display: grid; grid-template-columns: repeat(auto-fill, minmax(440px, 1fr)); gap: .8rem; }
.card { border: 1px solid var(--line); border-radius: 6px; padding: .5rem .7rem; overflow: hidden; }
.tiles { display: flex; gap: .4rem; margin-top: .3rem; }
figure { margin: 0; flex: 1 1 0; min-width: 0; }
figure img { width: 100%; height: 150px; object-fit: contain; object-position: left; display: block; }
figcaption { font-size: .75rem; opacity: .7; }
.wide { overflow-x: auto; }
.every { max-height: 34rem; overflow: auto; border: 1px solid var(--line); border-radius: 6px; }
.every thead th { position: sticky; top: 0; background: Canvas; }
.every button { all: unset; cursor: pointer; font-weight: 600; }
.every button:focus-visible { outline: 2px solid Highlight; }
th[aria-sort=ascending] button::after { content: " ↑"; } th[aria-sort=descending] button::after { content: " ↓"; }
footer { margin: 3rem 0 1rem; font-size: .8rem; opacity: .7; }
</style>
</head>
<body>
<h1>Evaluation: $title</h1>
$body
<footer>focus-framework $version</footer>
<script>
for (const table of document.querySelectorAll("table.sortable")) {
  const body = table.tBodies[0];
  table.querySelectorAll("th").forEach((head, column) => head.firstChild.addEventListener("click", () => {
    const ascending = head.getAttribute("aria-sort") !== "ascending";
    for (const other of table.querySelectorAll("th")) other.removeAttribute("aria-sort");
    head.setAttribute("aria-sort", ascending ? "ascending" : "descending");
    const text = row => row.cells[column].textContent;
    const missing = row => text(row) === "-";
    const compare = (a, b) => column === 0 ? text(a).localeCompare(text(b), undefined, {numeric: true}) : text(a) - text(b);
    const rows = [...body.rows].sort((a, b) => missing(a) - missing(b) || (ascending ? 1 : -1) * compare(a, b));
    body.append(...rows);
  }));
}
</script>
</body>
</html>
""")
