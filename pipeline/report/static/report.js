"use strict";
// The only script of the report's pages: sorting of tables, and the gallery with its viewer. It loads nothing, and what the
// data says reaches the page as text nodes and attribute values, never as markup. Without it the page is a document to read.
const PAGE = 48; // images drawn at a time
const ZOOMS = [1, 1.5, 2, 3, 4, 6, 8];
const KINDS = { synthetic: "synthetic", real: "real", pseudo: "pseudo-labelled" };
const SWITCHES = { masks: "m", boxes: "b", names: "n", layout: "l", stuff: "u" };
const FILTERS = ["source", "class", "verdict", "q"];

const find = (id) => document.getElementById(id);
const number = new Intl.NumberFormat("en");

function make(tag, attributes = {}, ...inside) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.append(...inside);
  return element;
}

function draw(tag, attributes, text = "") {
  const element = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  if (text) element.textContent = text;
  return element;
}

// ---- tables -----------------------------------------------------------------------------------------------------

function worth(cell) {
  const text = (cell.dataset.v ?? cell.textContent).trim();
  const plain = Number(text.replace(/[,×%\s]/g, ""));
  return text === "" || Number.isNaN(plain) ? text : plain;
}

function before(a, b) {
  if (typeof a === "number" && typeof b === "number") return a - b;
  if (typeof a === "number" || typeof b === "number") return typeof a === "number" ? 1 : -1; // n/a below every number
  return a.localeCompare(b);
}

function sortable(table) {
  const body = table.tBodies[0];
  [...table.tHead.rows[0].cells].forEach((head, column) => {
    if (head.classList.contains("bars")) return;
    const button = make("button", { type: "button", class: "sort" }, ...head.childNodes);
    head.append(button);
    button.addEventListener("click", () => {
      const falling = head.getAttribute("aria-sort") !== "descending";
      for (const other of table.tHead.rows[0].cells) other.removeAttribute("aria-sort");
      head.setAttribute("aria-sort", falling ? "descending" : "ascending");
      const rows = [...body.rows].map((row) => ({ row, key: worth(row.cells[column]) }));
      rows.sort((a, b) => (falling ? -1 : 1) * before(a.key, b.key));
      body.append(...rows.map(({ row }) => row));
    });
  });
}

// ---- pictures ---------------------------------------------------------------------------------------------------

function shapes(image, data, wanted) {
  const svg = draw("svg", { viewBox: `0 0 ${image.w} ${image.h}`, "aria-hidden": "true" });
  const labels = [];
  image.objects.forEach((found, place) => {
    const [x, y, width, height] = found.box;
    const off = wanted(found) ? "" : " off";
    const group = draw("g", { class: `${found.kind} c${found.c % data.colours}${off}`, "data-place": place });
    if (found.path) group.append(draw("path", { d: found.path }));
    if (found.kind !== "stuff") {
      group.append(draw("rect", { class: "halo", x, y, width, height }), draw("rect", { x, y, width, height }));
    }
    svg.append(group);
    if (found.asked) {
      const [left, top, across, down] = found.asked;
      const planned = draw("g", { class: `asked c${found.c % data.colours}${off}`, "data-place": place });
      planned.append(draw("rect", { x: left, y: top, width: across, height: down }));
      svg.append(planned);
    }
    const middle = found.kind === "stuff";
    const name = data.classes[found.c];
    const text = (name.length > 26 ? `${name.slice(0, 25)}…` : name) + (found.kind === "dropped" ? " (dropped)" : "");
    const at = { x: middle ? x + width / 2 : x + 4, y: middle ? y + height / 2 : y < 24 ? y + 20 : y - 5 };
    labels.push(draw("text", { class: found.kind + off, "data-place": place, ...at }, text));
  });
  svg.append(...labels);
  return svg;
}

function said(image, data) {
  const counts = new Map();
  for (const { kind, c } of image.objects) if (kind !== "dropped") counts.set(c, (counts.get(c) ?? 0) + 1);
  const list = [...counts].map(([c, n]) => `${n} ${data.classes[c]}`).join(", ");
  return `${KINDS[image.kind]} image ${image.id}: ${list || "no objects"}`;
}

function picture(image, data, wanted) {
  const frame = make("div", { class: "pic" });
  frame.style.aspectRatio = `${image.w} / ${image.h}`;
  frame.append(make("img", { src: image.src, alt: said(image, data), decoding: "async", draggable: "false" }));
  frame.append(shapes(image, data, wanted));
  return frame;
}

for (const element of document.querySelectorAll("[data-script]")) element.hidden = false;
for (const table of document.querySelectorAll("table.sortable")) sortable(table);
