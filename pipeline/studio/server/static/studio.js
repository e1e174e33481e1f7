// The studio's page: asks the server, shows what it answers. All text is put in as text.
import {Boxes} from "./boxes.js";

const find = id => document.getElementById(id);
const KEPT = "kept";
const UNDECIDED = ["not judged", "not seen"];
const LARGEST = 640;  // pixels of the longer side on the screen

let about = null;
let state = null;
let verdicts = new Map();

// ---- the server: one request at a time; of waiting ones with one key only the last is sent ----

const waiting = [];
let isAsking = false;

function ask(name, body = {}, key = null) {
  return new Promise((resolve, reject) => {
    const last = waiting.at(-1);
    if (key !== null && last?.key === key) {
      last.resolve(null);  // overtaken by this one
      waiting.pop();
    }
    waiting.push({name, body, key, resolve, reject});
    work();
  });
}

async function work() {
  if (isAsking || !waiting.length) return;
  isAsking = true;
  const {name, body, resolve, reject} = waiting.shift();
  const slow = setTimeout(() => find("stage").classList.add("busy"), 250);
  try {
    const answer = await fetch(`api/${name}`, {
      method: "POST", headers: {"content-type": "application/json"}, body: JSON.stringify(body),
    });
    const content = await answer.json();
    if (answer.ok) resolve(content);
    else reject(new Error(content.error));
  } catch {
    reject(new Error("the studio does not answer; is `synthaug studio` still running?"));
  } finally {
    clearTimeout(slow);
    find("stage").classList.remove("busy");
    isAsking = false;
    work();
  }
}

function complain(error) {
  find("error").textContent = error.message;
  find("error").hidden = false;
}

let unfinished = 0;  // changes that are not shown yet

// ask for something whose answer is the new state
async function change(name, body = {}, key = null) {
  const began = performance.now();
  unfinished += 1;
  document.body.dataset.changing = "yes";
  try {
    const answer = await ask(name, body, key);
    if (answer === null) return false;
    find("error").hidden = true;
    await show(answer);
    const took = performance.now() - began;
    performance.measure("answer", {start: began, duration: took});
    find("status").textContent = `${wordsOfOrigin()} · ${Math.round(took)} ms`;
    return true;
  } catch (error) {
    complain(error);
    if (state) boxes.show(state.size, state.items);
    return false;
  } finally {
    unfinished -= 1;
    if (!unfinished) delete document.body.dataset.changing;
  }
}

const edit = (record, options = {}, key = null) => change("edit", {edit: record, ...options}, key);

function wordsOfOrigin() {
  const words = [state.origin];
  if (state.saved_as) words.push(`saved as ${state.saved_as}`);
  words.push(`${state.size[1]} × ${state.size[0]}`);
  return words.join(" · ");
}

// ---- what is shown ----

async function decoded(element, address) {
  if (element.src === address) return;
  element.src = address;
  try { await element.decode(); } catch { /* replaced meanwhile */ }
}

async function show(answer) {
  const isNew = state === null || String(state.size) !== String(answer.size);
  if (state && state.image !== answer.image) verdicts = new Map();  // they were of another image
  state = answer;
  if (isNew) fit();
  const pictures = [decoded(find("image"), state.image), decoded(find("masks"), state.masks)];
  boxes.show(state.size, state.items);
  list();
  find("undo").disabled = !state.undo;
  find("redo").disabled = !state.redo;
  await Promise.all(pictures);
}

function fit() {
  if (!state) return;
  const [height, width] = state.size;
  const frame = find("frame");
  const style = getComputedStyle(frame);
  const across = frame.clientWidth - parseFloat(style.paddingLeft) - parseFloat(style.paddingRight);
  const along = Math.max(260, innerHeight - 210);
  const scale = Math.min(across / width, along / height, LARGEST / Math.max(height, width));
  find("stage").style.width = `${Math.floor(width * scale)}px`;
  find("stage").style.height = `${Math.floor(height * scale)}px`;
  find("sheet").width = Math.floor(width * scale);
  find("sheet").height = Math.floor(height * scale);
}

function button(words, press, hint = "") {
  const element = document.createElement("button");
  element.type = "button";
  element.textContent = words;
  if (hint) element.title = hint;
  element.addEventListener("click", event => { event.stopPropagation(); press(); });
  return element;
}

function options(select, names, chosen) {
  select.replaceChildren(...names.map(name => {
    const option = document.createElement("option");
    option.textContent = name;
    option.value = name;
    return option;
  }));
  if (names.includes(chosen)) select.value = chosen;
}

const things = () => about.classes.filter(kind => kind.thing).map(kind => kind.name);
const classes = () => about.kind === "layout" ? about.classes.map(kind => kind.name) : things();

function list() {
  const active = document.activeElement;
  const focused = active?.closest("#objects") ? [active.closest("li").dataset.number, active.dataset.role] : null;
  const rows = [...state.items].reverse().map(row);
  find("objects").replaceChildren(...rows);
  find("no-objects").hidden = rows.length > 0;
  if (focused) document.querySelector(`#objects [data-number="${focused[0]}"] [data-role="${focused[1]}"]`)?.focus();
  mark();
}

function row(item) {
  const line = document.createElement("li");
  line.dataset.number = item.number;
  line.style.setProperty("--of", item.color);
  const swatch = document.createElement("span");
  swatch.className = "swatch";
  const what = document.createElement("span");
  what.className = "what";
  const number = document.createElement("b");
  number.textContent = item.number;
  const kind = document.createElement("select");
  kind.dataset.role = "class";
  kind.setAttribute("aria-label", `class of object ${item.number}`);
  options(kind, classes().includes(item.class) ? classes() : [item.class, ...classes()], item.class);
  kind.disabled = item.locked || (item.real && !about.erases);
  kind.addEventListener("change", () => edit({edit: "relabel", object: item.number, class: kind.value}));
  what.append(number, kind);
  const style = button("Style", () => restyle(item.number), "another style for this object (s)");
  style.hidden = !about.object_styles || (item.real && !about.erases);
  style.disabled = item.locked;
  const lock = button(item.locked ? "Locked" : "Lock", () => toggleLock(item.number), "keep box, class and style (l)");
  lock.setAttribute("aria-pressed", item.locked);
  const remove = button("×", () => removeObject(item.number), "remove (Del)");
  remove.setAttribute("aria-label", `remove object ${item.number}`);
  remove.disabled = item.locked || (item.real && !about.erases);
  style.dataset.role = "style";
  lock.dataset.role = "lock";
  remove.dataset.role = "remove";
  line.append(swatch, what, style, lock, remove);
  const told = verdicts.get(item.number);
  if (told) {
    const verdict = document.createElement("span");
    verdict.className = "verdict";
    if (told.verdict === KEPT) verdict.classList.add("kept");
    else if (!UNDECIDED.includes(told.verdict)) verdict.classList.add("failed");
    const score = told.score === null ? "" : ` (score ${told.score.toFixed(2)})`;
    verdict.textContent = told.verdict.replaceAll("_", " ") + score;
    line.append(verdict);
  }
  line.addEventListener("click", event => {
    if (!event.target.closest("select")) boxes.select(item.number);
  });
  return line;
}

function mark() {
  for (const line of find("objects").children) {
    line.classList.toggle("selected", Number(line.dataset.number) === boxes.selected);
  }
  const item = state.items.find(item => item.number === boxes.selected);
  find("interpolate").textContent = item && about.object_styles ? `Interpolate ${item.number}` : "Interpolate";
}

// ---- edits of objects ----

const restyle = number => edit({edit: "restyle", object: number});
const removeObject = number => edit({edit: "remove", object: number});
const itemOf = number => state.items.find(item => item.number === number);
const toggleLock = number => edit({edit: "lock", object: number, locked: !itemOf(number).locked});

const boxes = new Boxes(find("boxes"), {
  select() { if (state) mark(); },
  move(number, box, gesture, final) {
    return edit({edit: "move", object: number, box}, {gesture, draft: !final}, gesture);
  },
  key(number, key) {
    const works = {
      Delete: () => removeObject(number), Backspace: () => removeObject(number),
      s: () => about.object_styles && restyle(number), l: () => toggleLock(number),
      f: () => edit({edit: "raise", object: number}), Escape: () => boxes.select(null),
    };
    if (!works[key]) return false;
    works[key]();
    return true;
  },
});

// ---- the tools: add a box, paint with the brush ----

const tool = () => document.querySelector("[name=tool]:checked").value;

function choose(name) {
  document.querySelector(`[name=tool][value=${name}]`).checked = true;
  toolChosen();
}

function toolChosen() {
  const name = tool();
  find("stage").dataset.tool = name;
  find("brush-options").hidden = name !== "brush";
  const mode = find("brush-mode").value;
  find("class-label").hidden = name === "select" || (name === "brush" && mode !== "class");
  const every = name === "brush" ? about.classes.map(kind => kind.name) : classes();
  options(find("class"), every, find("class").value);
}

function clearSheet() {
  find("sheet").getContext("2d").clearRect(0, 0, find("sheet").width, find("sheet").height);
}

find("sheet").addEventListener("pointerdown", event => {
  if (event.button !== 0 || !state) return;
  event.preventDefault();
  const sheet = find("sheet");
  const drawing = sheet.getContext("2d");
  const scale = sheet.width / state.size[1];
  const points = [boxes.at(event)];
  const isBrush = tool() === "brush";
  const radius = Number(find("radius").value);
  const pointer = event.pointerId;
  sheet.setPointerCapture(pointer);
  const draw = () => {
    clearSheet();
    drawing.strokeStyle = drawing.fillStyle = "rgb(255 159 28 / .75)";
    drawing.lineWidth = isBrush ? 2 * radius * scale : 2;
    drawing.lineCap = drawing.lineJoin = "round";
    drawing.beginPath();
    if (isBrush) {
      drawing.moveTo(points[0][0] * scale, points[0][1] * scale);
      for (const [x, y] of points) drawing.lineTo(x * scale, y * scale);
    } else {
      const [x0, y0, x1, y1] = boxOf(points).map(value => value * scale);
      drawing.rect(x0, y0, x1 - x0, y1 - y0);
    }
    drawing.stroke();
  };
  const move = event => {
    if (event.pointerId !== pointer) return;
    points.push(boxes.at(event));
    draw();
  };
  const end = async event => {
    if (event.pointerId !== pointer) return;
    sheet.removeEventListener("pointermove", move);
    sheet.removeEventListener("pointerup", end);
    sheet.removeEventListener("pointercancel", end);
    if (event.type === "pointerup") await (isBrush ? brush(points, radius) : add(boxOf(points)));
    clearSheet();
  };
  draw();
  sheet.addEventListener("pointermove", move);
  sheet.addEventListener("pointerup", end);
  sheet.addEventListener("pointercancel", end);
});

function boxOf(points) {
  const [height, width] = state.size;
  const [x0, y0] = points[0];
  const [x1, y1] = points.at(-1);
  const inside = (value, most) => Math.round(10 * Math.min(Math.max(value, 0), most)) / 10;
  return [inside(Math.min(x0, x1), width), inside(Math.min(y0, y1), height),
    inside(Math.max(x0, x1), width), inside(Math.max(y0, y1), height)];
}

async function add(box) {
  const done = await edit({edit: "add", class: find("class").value, box});
  if (!done) return;
  choose("select");
  boxes.select(state.items.at(-1).number, true);
}

function brush(points, radius) {
  const most = 1000;
  const step = Math.ceil(points.length / most);
  const some = points.filter((_, k) => k % step === 0 || k === points.length - 1);
  const record = {edit: "brush", points: some, radius};
  const mode = find("brush-mode").value;
  if (mode === "class") record.class = find("class").value;
  else if (boxes.selected === null) {
    complain(new Error("select an object first, in the list"));
    return null;
  } else {
    record.object = boxes.selected;
    record.erase = mode === "erase";
  }
  return edit(record);
}

// ---- rows of pictures ----

async function strip(title, name, body, take) {
  try {
    const pictures = await ask(name, body);
    find("error").hidden = true;
    find("strip-title").textContent = title;
    find("pictures").replaceChildren(...pictures.map(picture => {
      const entry = document.createElement("li");
      const words = picture.t === undefined ? `seed ${picture.seed}` : `t = ${picture.t.toFixed(2)}`;
      entry.append(pictureButton(picture.image, words, () => take(picture)));
      return entry;
    }));
    find("strip").hidden = false;
    find("strip").scrollIntoView({block: "nearest"});
  } catch (error) {
    complain(error);
  }
}

function pictureButton(address, words, press) {
  const element = button("", press);
  const image = document.createElement("img");
  image.src = address;
  image.alt = "";
  const caption = document.createElement("span");
  caption.textContent = words;
  element.append(image, caption);
  return element;
}

function interpolate() {
  const item = itemOf(boxes.selected);
  const body = item ? {object: item.number} : {};
  const title = item ? `From the style of ${item.number} ${item.class} to another` : "From the image's style to another";
  strip(title, "interpolation", body, ({seed, t}) => edit({edit: "interpolate", ...body, seed, t}));
}

// ---- dialogs ----

const PAGE_KEY = {split: "", start: 0};

async function gallery(split, start) {
  Object.assign(PAGE_KEY, {split, start});
  const total = about.splits[split];
  find("earlier").disabled = start === 0;
  find("later").disabled = start + about.page >= total;
  find("range").textContent = `${start + 1} to ${Math.min(start + about.page, total)} of ${total}`;
  try {
    const photos = await ask("thumbnails", {split, start});
    find("photos").replaceChildren(...photos.map(photo => {
      const entry = document.createElement("li");
      entry.append(pictureButton(photo.image, photo.name.split("/").slice(1).join("/"), () => {
        find("gallery").close();
        boxes.select(null);
        change("open", {split, index: photo.index});
      }));
      return entry;
    }));
  } catch (error) {
    find("gallery").close();
    complain(error);
  }
}

async function files() {
  find("file").value = "";
  find("files").showModal();
  const names = await ask("saved");
  find("saved").replaceChildren(...names.map(name => {
    const entry = document.createElement("li");
    entry.append(button(name, () => { find("files").close(); change("load_saved", {name}); }));
    return entry;
  }));
  if (names.length) return;
  const entry = document.createElement("li");
  entry.className = "quiet";
  entry.textContent = "none yet";
  find("saved").append(entry);
}

async function loadFile() {
  const [file] = find("file").files;
  if (!file) return;
  find("files").close();
  try {
    const layout = JSON.parse(await file.text());
    await change("load", {layout, name: file.name});
  } catch {
    complain(new Error(`${file.name} is no JSON file`));
  }
}

async function save() {
  try {
    await show(await ask("save", {name: find("name").value.trim()}));
    find("status").textContent = wordsOfOrigin();
    find("naming").close();
  } catch (error) {
    find("naming-error").textContent = error.message;
    find("naming-error").hidden = false;
  }
}

async function judge() {
  find("judge").disabled = true;
  try {
    const told = await ask("verdicts");
    verdicts = new Map(told.map(entry => [entry.number, entry]));
    list();
  } catch (error) {
    complain(error);
  }
  find("judge").disabled = !about.judge;
}

async function plan() {
  try {
    const {file, layouts, images, key} = await ask("plan", {copies: Number(find("copies").value)});
    find("planned").textContent = `${file} has ${layouts} layouts for ${images} images; a job makes them with ${key}`;
    find("planned").hidden = false;
  } catch (error) {
    complain(error);
  }
}

// ---- what is pressed ----

const presses = {
  undo: () => change("undo"), redo: () => change("redo"),
  clear: () => { boxes.select(null); change("clear"); },
  "restyle-image": () => edit({edit: "restyle_image"}),
  samples: () => strip("Eight samples of this layout", "samples", {}, ({seed}) => edit({edit: "resample", seed})),
  interpolate, judge, plan,
  open: () => { find("gallery").showModal(); gallery(PAGE_KEY.split || Object.keys(about.splits)[0], PAGE_KEY.start); },
  earlier: () => gallery(PAGE_KEY.split, Math.max(0, PAGE_KEY.start - about.page)),
  later: () => gallery(PAGE_KEY.split, PAGE_KEY.start + about.page),
  load: files,
  save: () => { find("naming-error").hidden = true; find("naming").showModal(); find("name").focus(); },
  "save-now": save,
  "strip-close": () => { find("strip").hidden = true; },
};

for (const [id, press] of Object.entries(presses)) find(id).addEventListener("click", press);
for (const close of document.querySelectorAll("dialog .close")) {
  close.addEventListener("click", () => close.closest("dialog").close());
}
for (const choice of document.querySelectorAll("[name=tool]")) choice.addEventListener("change", toolChosen);
find("brush-mode").addEventListener("change", toolChosen);
find("split").addEventListener("change", () => gallery(find("split").value, 0));
find("file").addEventListener("change", loadFile);
find("class").addEventListener("keydown", event => {
  if (event.key !== "Enter" || tool() !== "add") return;
  event.preventDefault();
  const [height, width] = state.size;
  add([width / 4, height / 4, 3 * width / 4, 3 * height / 4]);
});
find("name").addEventListener("keydown", event => { if (event.key === "Enter") save(); });
find("show-boxes").addEventListener("change", event => { find("boxes").hidden = !event.target.checked; });
find("show-masks").addEventListener("change", event => { find("masks").hidden = !event.target.checked; });
find("boxes").addEventListener("pointerdown", event => { if (event.target === find("boxes")) boxes.select(null); });
addEventListener("resize", fit);
addEventListener("keydown", event => {
  const isTyping = event.target.matches?.("input[type=text], input[type=number], select");
  if (!(event.ctrlKey || event.metaKey) || isTyping || document.querySelector("dialog[open]")) return;
  const key = event.key.toLowerCase();
  if (key === "z") change(event.shiftKey ? "redo" : "undo");
  else if (key === "y") change("redo");
  else return;
  event.preventDefault();
});

async function start() {
  find("masks").hidden = true;
  try {
    about = await ask("about");
  } catch (error) {
    complain(error);
    return;
  }
  find("run").textContent = `${about.run} · ${about.system}`;
  document.title = `${about.run} · synthaug studio`;
  options(find("split"), Object.keys(about.splits));
  find("brush-tool").hidden = about.kind !== "map";
  find("restyle-image").hidden = !about.image_style;
  find("interpolate").hidden = !about.interpolates;
  find("judge").disabled = !about.judge;
  find("judge").title = about.no_judge;
  toolChosen();
  await change("state");
  document.body.dataset.ready = "yes";
}

start();
