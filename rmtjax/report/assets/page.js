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
for (const link of document.querySelectorAll('a[href^="#matrix-"]')) link.addEventListener("click", () => {
  let part = document.getElementById(link.getAttribute("href").slice(1));
  for (; part; part = part.parentElement) if (part.tagName === "DETAILS") part.open = true;
});
addEventListener("beforeprint", () => document.querySelectorAll("details").forEach(part => { part.open = true; }));
