"use strict";
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
for (const table of document.querySelectorAll("table.sortable")) {
  const rows = [...table.tBodies[0].rows];
  if (rows.length < 12) continue;
  const bar = document.createElement("p"), box = document.createElement("input");
  const save = document.createElement("button");
  bar.className = "tools";
  box.type = "search";
  box.placeholder = "filter rows";
  box.setAttribute("aria-label", "Show the rows that contain this text");
  box.addEventListener("input", () => {
    const wanted = box.value.toLowerCase();
    rows.forEach(row => { row.hidden = !row.textContent.toLowerCase().includes(wanted); });
  });
  save.type = "button";
  save.textContent = "save as CSV";
  save.addEventListener("click", () => {
    const quoted = text => `"${text.trim().replaceAll('"', '""')}"`;
    const heads = [...table.tHead.rows[0].cells].map(head => quoted(head.textContent));
    // Numbers in full, not as they are shown; of text what is shown.
    const value = cell => cell.dataset.key !== "" && !Number.isNaN(Number(cell.dataset.key)) && cell.tagName === "TD"
      ? cell.dataset.key : quoted(cell.dataset.key === "" ? "" : cell.firstChild.textContent);
    const lines = [...table.tBodies[0].rows].filter(row => !row.hidden).map(row => [...row.cells].map(value).join(","));
    const link = document.createElement("a");
    link.href = URL.createObjectURL(new Blob([[heads.join(","), ...lines].join("\n") + "\n"], {type: "text/csv"}));
    link.download = `${document.title}.csv`;
    link.click();
    URL.revokeObjectURL(link.href);
  });
  bar.append(box, " ", save);
  table.parentElement.before(bar);
}
for (const link of document.querySelectorAll('a[href^="#matrix-"]')) link.addEventListener("click", () => {
  let part = document.getElementById(link.getAttribute("href").slice(1));
  for (; part; part = part.parentElement) if (part.tagName === "DETAILS") part.open = true;
});
addEventListener("beforeprint", () => document.querySelectorAll("details").forEach(part => { part.open = true; }));
