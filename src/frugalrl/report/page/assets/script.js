"use strict";
(function () {
  const root = document.documentElement;
  const theme = document.getElementById("theme");
  const themes = ["as the system", "light", "dark"];
  let chosen = 0;
  function show() {
    theme.textContent = ["◐", "☀", "☾"][chosen] + " " + ["auto", "light", "dark"][chosen];
    theme.setAttribute("aria-label", "Theme: " + themes[chosen]);
    if (chosen) root.dataset.theme = themes[chosen];
    else delete root.dataset.theme;
  }
  theme.addEventListener("click", function () {
    chosen = (chosen + 1) % 3;
    show();
  });
  show();

  function headOf(cell) {
    return cell.closest("table").tHead.rows[0].cells[cell.cellIndex];
  }
  function keyOf(row, column) {
    const cell = row.cells[column];
    if (headOf(cell).classList.contains("w")) return cell.textContent;
    if (cell.dataset.v !== undefined) {
      const infinite = { inf: Infinity, "-inf": -Infinity }[cell.dataset.v];
      return infinite === undefined ? Number(cell.dataset.v) : infinite;
    }
    const first = cell.firstChild;
    if (!first || first.nodeType !== 3) return null;
    const number = parseFloat(first.nodeValue.replace(/,/g, ""));
    return isNaN(number) ? null : number;
  }
  function compare(a, b) {
    if (typeof a === "string") return a.localeCompare(b, undefined, { numeric: true });
    return a < b ? -1 : a > b ? 1 : 0;
  }
  document.addEventListener("click", function (event) {
    const button = event.target.closest("thead button");
    if (!button) return;
    const head = button.parentNode;
    const table = head.closest("table");
    const up = head.getAttribute("aria-sort") !== "ascending";
    for (const other of table.tHead.rows[0].cells) other.removeAttribute("aria-sort");
    head.setAttribute("aria-sort", up ? "ascending" : "descending");
    const rows = Array.from(table.tBodies[0].rows, function (row) {
      return { row: row, key: keyOf(row, head.cellIndex) };
    });
    const known = rows.filter(function (r) { return r.key !== null; });
    const unknown = rows.filter(function (r) { return r.key === null; });
    known.sort(function (a, b) { return up ? compare(a.key, b.key) : compare(b.key, a.key); });
    for (const r of known.concat(unknown)) table.tBodies[0].append(r.row);
  });

  const tip = document.getElementById("tip");
  const origins = document.getElementById("how").children;
  let shown = null;
  function said(cell, name) {
    return cell.dataset[name] || headOf(cell).dataset[name];
  }
  function open(cell) {
    if (cell === shown) return;
    shown = cell;
    const origin = cell && origins[Number(said(cell, "r"))];
    tip.hidden = !origin;
    if (!origin) return;
    const n = said(cell, "n");
    tip.textContent = origin.firstElementChild.textContent + (n ? ", " + n + (n === "1" ? " run" : " runs") : "") +
      ": " + origin.childNodes[1].textContent.trim();
    const box = cell.getBoundingClientRect();
    const left = Math.min(box.left, root.clientWidth - tip.offsetWidth - 12);
    const above = box.bottom + tip.offsetHeight + 12 > root.clientHeight && box.top > tip.offsetHeight + 8;
    tip.style.left = Math.max(left, 12) + window.scrollX + "px";
    tip.style.top = window.scrollY + (above ? box.top - tip.offsetHeight - 6 : box.bottom + 6) + "px";
  }
  document.addEventListener("mouseover", function (event) { open(event.target.closest("tbody td")); });
  document.addEventListener("click", function (event) { open(event.target.closest("tbody td")); });
  document.addEventListener("keydown", function (event) { if (event.key === "Escape") open(null); });
  document.addEventListener("scroll", function () { open(null); }, true);

  let closed = [];
  window.addEventListener("beforeprint", function () {
    closed = Array.from(document.querySelectorAll("details:not([open])"));
    for (const box of closed) box.open = true;
  });
  window.addEventListener("afterprint", function () {
    for (const box of closed) box.open = false;
  });
})();
