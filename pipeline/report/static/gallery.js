"use strict";
// The gallery and its viewer, after report.js in the same script. What is shown is kept in the address, so that a link shows it too.

function gallery(data) {
  const by = new Map(data.images.filter((i) => i.kind === "real").map((i) => [i.id, i]));
  const made = new Map();
  for (const image of data.images) if (image.from && !made.has(image.from)) made.set(image.from, image);
  const texts = new Map();
  const state = { source: "", class: "", verdict: "", q: "", page: 1 };
  const viewer = find("viewer");
  let shown = [];
  let open = null; // the image in the viewer
  let zoom = 0;

  const partner = (image) => (image.kind === "synthetic" ? by.get(image.from) : made.get(image.id));
  const wanted = (found) =>
    (state.class === "" || data.classes[found.c] === state.class) &&
    (state.verdict === "" || (found.verdict ?? "") === state.verdict);

  function text(image) {
    if (!texts.has(image)) {
      const names = image.objects.map((found) => data.classes[found.c]);
      texts.set(image, [image.id, image.from, image.why, ...names].join("\n").toLowerCase());
    }
    return texts.get(image);
  }

  function fits(image) {
    if (state.source && image.kind !== state.source) return false;
    if (state.q && !text(image).includes(state.q.toLowerCase())) return false;
    return !(state.class || state.verdict) || image.objects.some(wanted);
  }

  const tail = (id) => (id.length > 14 ? `…${id.slice(-13)}` : id); // names of a set differ at their ends

  function tile(image) {
    const caption = make("span", { class: "caption" }, make("span", { class: `kind ${image.kind}` }, KINDS[image.kind]), ` ${tail(image.id)}`);
    const button = make("button", { type: "button", class: "thumb", "data-id": image.id, "aria-label": `Open ${said(image, data)}` });
    button.append(picture(image, data, wanted), caption);
    button.addEventListener("click", () => view(image));
    return make("li", {}, button);
  }

  function show() {
    shown = data.images.filter(fits);
    const pages = Math.max(1, Math.ceil(shown.length / PAGE));
    state.page = Math.min(Math.max(1, state.page), pages);
    const first = (state.page - 1) * PAGE;
    const part = shown.slice(first, first + PAGE);
    find("grid").replaceChildren(...part.map(tile));
    const range = part.length ? `, ${first + 1}–${first + part.length} shown` : "";
    find("found").textContent = `${number.format(shown.length)} of ${number.format(data.images.length)} images${range}`;
    for (const pager of document.querySelectorAll(".pager")) {
      pager.hidden = pages < 2;
      pager.querySelector(".where").textContent = `page ${state.page} of ${pages}`;
      pager.querySelector(".back").disabled = state.page === 1;
      pager.querySelector(".on").disabled = state.page === pages;
    }
  }

  function options(id, entries, all) {
    find(id).replaceChildren(make("option", { value: "" }, all), ...entries.map(([value, label]) => make("option", { value }, label)));
  }

  function count(values) {
    const counts = new Map();
    for (const value of values) counts.set(value, (counts.get(value) ?? 0) + 1);
    return counts;
  }

  function fill() {
    const objects = data.images.flatMap((image) => image.objects);
    const classes = count(objects.map((found) => found.c));
    const verdicts = count(objects.flatMap((found) => (found.verdict ? [found.verdict] : [])));
    const kinds = count(data.images.map((image) => image.kind));
    options("g-source", [...kinds].map(([kind, n]) => [kind, `${KINDS[kind]} (${number.format(n)})`]), "all sources");
    const names = [...classes].map(([c, n]) => [data.classes[c], n]).sort((a, b) => a[0].localeCompare(b[0]));
    options("g-class", names.map(([name, n]) => [name, `${name} (${number.format(n)})`]), "all classes");
    options("g-verdict", [...verdicts].sort().map(([v, n]) => [v, `${v} (${number.format(n)})`]), "all verdicts");
    find("g-verdict").parentElement.hidden = verdicts.size === 0;
  }

  // ---- the state in the address: a link to a page shows the same

  function remember() {
    const words = new URLSearchParams();
    for (const name of FILTERS) if (state[name]) words.set(name, state[name]);
    if (state.page > 1) words.set("page", state.page);
    if (open) words.set("image", open.id);
    for (const name of Object.keys(SWITCHES)) {
      const box = find(`show-${name}`);
      if (box.checked !== box.defaultChecked) words.set(name, box.checked ? "1" : "0");
    }
    history.replaceState(null, "", `#${words.toString() || "gallery"}`);
  }

  function recall() {
    const hash = location.hash.slice(1);
    if (!hash.includes("=")) return show();
    const words = new URLSearchParams(hash);
    for (const name of FILTERS) state[name] = words.get(name) ?? "";
    state.page = Number(words.get("page")) || 1;
    for (const name of Object.keys(SWITCHES)) if (words.has(name)) find(`show-${name}`).checked = words.get(name) !== "0";
    for (const name of FILTERS) find(`g-${name}`).value = state[name];
    for (const name of FILTERS) state[name] = find(`g-${name}`).value; // what is no option is no filter
    show();
    find("gallery").scrollIntoView();
    const image = data.images.find((i) => i.id === words.get("image"));
    if (image) view(image);
  }

  function change(name, value) {
    state[name] = value;
    if (name !== "page") state.page = 1;
    show();
    remember();
  }

  // ---- viewer

  function pane(image, title) {
    const stage = make("div", { class: "stage", tabindex: "0", "aria-label": title });
    const frame = picture(image, data, wanted);
    frame.addEventListener("click", (event) => magnify(zoom + 1 < ZOOMS.length ? zoom + 1 : 0, stage, event));
    stage.addEventListener("scroll", () => {
      for (const other of viewer.querySelectorAll(".stage")) {
        if (other !== stage) other.scrollTo(stage.scrollLeft, stage.scrollTop);
      }
    });
    stage.append(frame);
    return make("figure", {}, make("figcaption", {}, title, make("span", { class: "quiet" }, ` ${image.id} · ${image.size}`)), stage);
  }

  function magnify(level, stage = null, event = null) {
    zoom = Math.min(Math.max(0, level), ZOOMS.length - 1);
    const box = stage?.firstChild.getBoundingClientRect();
    viewer.style.setProperty("--zoom", ZOOMS[zoom]);
    find("v-zoom").textContent = `${ZOOMS[zoom]}×`;
    if (!box) return;
    const outer = stage.getBoundingClientRect();
    const [left, top] = [(event.clientX - box.left) / box.width, (event.clientY - box.top) / box.height];
    stage.scrollTo(left * stage.scrollWidth - (event.clientX - outer.left), top * stage.scrollHeight - (event.clientY - outer.top));
  }

  function highlight(place) {
    const svg = viewer.querySelector(".stage svg");
    for (const part of svg.querySelectorAll("[data-place]")) {
      part.classList.toggle("hot", place !== null && part.dataset.place === String(place));
      part.classList.toggle("dim", place !== null && part.dataset.place !== String(place));
    }
  }

  function row(found, place) {
    const [, , width, height] = found.box;
    const state = found.kind === "dropped" ? found.verdict : found.verdict ?? "";
    const line = make("tr", { tabindex: "0", class: wanted(found) ? "" : "quiet" });
    const swatch = make("i", { class: `swatch c${found.c % data.colours}` });
    line.append(make("th", { scope: "row" }, swatch, data.classes[found.c]), make("td", { class: `left v-${state.replace(/\W/g, "-")}` }, state));
    line.append(make("td", {}, found.score === undefined ? "" : found.score.toFixed(2)), make("td", { class: "quiet" }, `${Math.round((100 * width * height) / (open.w * open.h))} %`));
    for (const name of ["mouseenter", "focus"]) line.addEventListener(name, () => highlight(place));
    for (const name of ["mouseleave", "blur"]) line.addEventListener(name, () => highlight(null));
    return line;
  }

  function view(image) {
    open = image;
    const other = partner(image);
    find("v-title").textContent = image.id;
    const at = shown.indexOf(image);
    find("v-where").textContent = at < 0 ? "" : `${number.format(at + 1)} of ${number.format(shown.length)}`;
    const panes = [pane(image, KINDS[image.kind])];
    if (other) panes.push(pane(other, other.kind === "real" ? "real: its layout came from here" : "synthetic, of this layout"));
    find("v-panes").replaceChildren(...panes);
    find("v-why").textContent = image.why;
    const rows = image.objects.map((found, place) => [found, place]);
    rows.sort((a, b) => (a[0].kind === "stuff") - (b[0].kind === "stuff"));
    find("v-table").classList.toggle("unjudged", rows.every(([found]) => found.verdict === undefined));
    find("v-table").classList.toggle("unscored", rows.every(([found]) => found.score === undefined));
    find("v-objects").replaceChildren(...rows.map(([found, place]) => row(found, place)));
    magnify(zoom);
    if (!viewer.open) viewer.showModal();
    remember();
  }

  function step(by) {
    const at = shown.indexOf(open);
    const next = shown[at + by];
    if (!next) return;
    const page = Math.floor((at + by) / PAGE) + 1;
    if (page !== state.page) change("page", page);
    view(next);
  }

  function closed() {
    const id = open?.id;
    open = null;
    remember();
    [...find("grid").querySelectorAll("button")].find((button) => button.dataset.id === id)?.focus();
  }

  // ---- keys

  function move(key) {
    const buttons = [...find("grid").querySelectorAll("button")];
    const at = buttons.indexOf(document.activeElement);
    if (at < 0) return false;
    const columns = buttons.filter((button) => button.offsetTop === buttons[0].offsetTop).length;
    const to = { ArrowLeft: at - 1, ArrowRight: at + 1, ArrowUp: at - columns, ArrowDown: at + columns, Home: 0, End: buttons.length - 1 }[key];
    if (to === undefined) return false;
    if (buttons[to]) buttons[to].focus();
    else if (to < 0 ? state.page > 1 : state.page * PAGE < shown.length) {
      change("page", state.page + (to < 0 ? -1 : 1));
      const fresh = find("grid").querySelectorAll("button");
      fresh[to < 0 ? fresh.length - 1 : 0].focus();
    }
    return true;
  }

  function pressed(event) {
    const typing = event.target.closest("input[type=search], select");
    if (event.ctrlKey || event.metaKey || event.altKey || typing) return;
    const flip = Object.keys(SWITCHES).find((name) => SWITCHES[name] === event.key);
    const inside = { ArrowLeft: () => step(-1), ArrowRight: () => step(1), "+": () => magnify(zoom + 1), "-": () => magnify(zoom - 1), 0: () => magnify(0) };
    if (flip) find(`show-${flip}`).click();
    else if (viewer.open && inside[event.key]) inside[event.key]();
    else if (!viewer.open && event.key === "/") find("g-q").focus();
    else if (viewer.open || !move(event.key)) return;
    event.preventDefault();
  }

  fill();
  for (const name of FILTERS) find(`g-${name}`).addEventListener("input", (event) => change(name, event.target.value));
  for (const name of Object.keys(SWITCHES)) find(`show-${name}`).addEventListener("change", remember);
  for (const pager of document.querySelectorAll(".pager")) {
    pager.querySelector(".back").addEventListener("click", () => change("page", state.page - 1));
    pager.querySelector(".on").addEventListener("click", () => change("page", state.page + 1));
  }
  find("controls").addEventListener("submit", (event) => event.preventDefault());
  find("controls").addEventListener("reset", (event) => {
    event.preventDefault();
    for (const name of FILTERS) find(`g-${name}`).value = state[name] = "";
    change("page", 1);
  });
  find("v-back").addEventListener("click", () => step(-1));
  find("v-on").addEventListener("click", () => step(1));
  find("v-closer").addEventListener("click", () => magnify(zoom + 1));
  find("v-wider").addEventListener("click", () => magnify(zoom - 1));
  find("v-close").addEventListener("click", () => viewer.close());
  viewer.addEventListener("close", closed);
  document.addEventListener("keydown", pressed);
  window.addEventListener("hashchange", recall);
  recall();
}

gallery(JSON.parse(find("gallery-data").textContent));
