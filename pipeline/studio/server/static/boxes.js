// The boxes over the image: drawn, dragged, resized, and moved by keys. Knows nothing of the server.

const HANDLES = [[0, 0], [.5, 0], [1, 0], [0, .5], [1, .5], [0, 1], [.5, 1], [1, 1]];
const CURSORS = ["nwse", "ns", "nesw", "ew", "ew", "nesw", "ns", "nwse"];
const SMALLEST = 2;  // pixels of the image
const FAR = 8;  // pixels that Shift moves by
const ARROWS = {ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1]};

const clamp = (value, low, high) => Math.min(Math.max(value, low), high);

export class Boxes {
  // `on` has what is called: select(number), key(number, key), and move(number, box, gesture, final),
  // which returns a promise of the answer
  constructor(layer, on) {
    this.layer = layer;
    this.on = on;
    this.size = [1, 1];  // H, W of the image
    this.selected = null;
    this.elements = new Map();  // number -> element
    this.items = new Map();
    this.held = new Map();  // number -> box that is being changed, until its last change is answered
    this.gestures = 0;
    this.keyGesture = null;
  }

  show(size, items) {
    this.size = size;
    this.items = new Map(items.map(item => [item.number, item]));
    for (const [number, element] of this.elements) {
      if (this.items.has(number)) continue;
      element.remove();
      this.elements.delete(number);
    }
    // what is small lies on top, else it could not be touched; the order of Tab is that of the list
    const area = ({box}) => (box[2] - box[0]) * (box[3] - box[1]);
    const ranks = new Map([...items].sort((a, b) => area(b) - area(a)).map((item, k) => [item.number, k]));
    items.forEach(item => {
      const element = this.elements.get(item.number) ?? this.#create(item.number);
      element.style.setProperty("--of", item.color);
      element.style.zIndex = 1 + ranks.get(item.number);
      element.classList.toggle("locked", item.locked);
      element.classList.toggle("real", item.real);
      element.querySelector(".tag").textContent = `${item.number} ${item.class}`;
      const words = [`object ${item.number}`, item.class];
      if (item.locked) words.push("locked");
      if (item.real) words.push("of the photo");
      element.setAttribute("aria-label", words.join(", "));
      this.#place(element, this.held.get(item.number) ?? item.box);
    });
    items.forEach((item, place) => {  // what is new, or comes back, takes its place in the order of Tab
      const element = this.elements.get(item.number);
      const there = this.layer.children[place];
      if (there !== element) this.layer.insertBefore(element, there);
    });
    if (this.selected !== null && !this.items.has(this.selected)) this.selected = null;
    this.#mark();
  }

  select(number, focus = false) {
    this.selected = number;
    this.#mark();
    if (focus) this.elements.get(number)?.focus({preventScroll: true});
    this.on.select(number);
  }

  // x, y of a pointer in pixels of the image
  at(event) {
    const area = this.layer.getBoundingClientRect();
    const [height, width] = this.size;
    return [(event.clientX - area.left) / area.width * width, (event.clientY - area.top) / area.height * height];
  }

  #mark() {
    for (const [number, element] of this.elements) {
      element.classList.toggle("selected", number === this.selected);
      element.setAttribute("aria-pressed", number === this.selected);
    }
  }

  #create(number) {
    const element = document.createElement("div");
    element.className = "box";
    element.tabIndex = 0;
    element.setAttribute("role", "button");
    element.dataset.number = number;
    const tag = document.createElement("span");
    tag.className = "tag";
    element.append(tag);
    HANDLES.forEach(([x, y], k) => {
      const handle = document.createElement("span");
      handle.className = "handle";
      handle.dataset.handle = k;
      handle.style.left = `${100 * x}%`;
      handle.style.top = `${100 * y}%`;
      handle.style.cursor = `${CURSORS[k]}-resize`;
      element.append(handle);
    });
    element.addEventListener("pointerdown", event => this.#grab(number, event));
    element.addEventListener("focus", () => { if (this.selected !== number) this.select(number); });
    element.addEventListener("keydown", event => this.#press(number, event));
    element.addEventListener("keyup", event => this.#release(number, event));
    this.layer.append(element);
    this.elements.set(number, element);
    return element;
  }

  #place(element, [x0, y0, x1, y1]) {
    const [height, width] = this.size;
    element.style.left = `${100 * x0 / width}%`;
    element.style.top = `${100 * y0 / height}%`;
    element.style.width = `${100 * (x1 - x0) / width}%`;
    element.style.height = `${100 * (y1 - y0) / height}%`;
  }

  #grab(number, event) {
    if (event.button !== 0) return;
    event.preventDefault();
    event.stopPropagation();
    this.select(number, true);
    const item = this.items.get(number);
    if (item.locked) return;
    const element = this.elements.get(number);
    const handle = event.target.dataset.handle;
    const start = this.at(event);
    const old = this.#boxOf(number);
    const gesture = `pointer ${++this.gestures}`;
    let box = old;
    element.setPointerCapture(event.pointerId);
    const move = event => {
      if (event.pointerId !== pointer) return;
      const [x, y] = this.at(event);
      box = this.#changed(old, x - start[0], y - start[1], handle);
      this.#move(number, box, gesture);
    };
    const end = event => {
      if (event.pointerId !== pointer) return;
      element.removeEventListener("pointermove", move);
      element.removeEventListener("pointerup", end);
      element.removeEventListener("pointercancel", end);
      if (box !== old) this.#finish(number, box, gesture);
    };
    const pointer = event.pointerId;
    element.addEventListener("pointermove", move);
    element.addEventListener("pointerup", end);
    element.addEventListener("pointercancel", end);
  }

  // a box moved, or with the sides moved that a handle has hold of; it stays in the image
  #changed([x0, y0, x1, y1], dx, dy, handle) {
    const [height, width] = this.size;
    const round = box => box.map(value => Math.round(10 * value) / 10);
    if (handle === undefined) {
      const right = clamp(dx, -x0, width - x1);
      const down = clamp(dy, -y0, height - y1);
      return round([x0 + right, y0 + down, x1 + right, y1 + down]);
    }
    const [across, along] = HANDLES[handle];
    if (across === 0) x0 = clamp(x0 + dx, 0, x1 - SMALLEST);
    if (across === 1) x1 = clamp(x1 + dx, x0 + SMALLEST, width);
    if (along === 0) y0 = clamp(y0 + dy, 0, y1 - SMALLEST);
    if (along === 1) y1 = clamp(y1 + dy, y0 + SMALLEST, height);
    return round([x0, y0, x1, y1]);
  }

  #press(number, event) {
    const arrow = ARROWS[event.key];
    if (arrow && !event.ctrlKey && !event.metaKey) {
      event.preventDefault();
      const item = this.items.get(number);
      if (item.locked) return;
      const far = event.shiftKey ? FAR : 1;
      const old = this.#boxOf(number);
      const box = this.#changed(old, arrow[0] * far, arrow[1] * far, event.altKey ? 7 : undefined);
      if (box.every((value, k) => value === old[k])) return;
      this.keyGesture ??= `keys ${++this.gestures}`;
      this.#move(number, box, this.keyGesture);
    } else if (!event.ctrlKey && !event.metaKey && !event.altKey) {
      if (this.on.key(number, event.key)) event.preventDefault();
    }
  }

  #release(number, event) {
    if (!ARROWS[event.key] || this.keyGesture === null) return;
    if (this.items.has(number)) this.#finish(number, this.#boxOf(number), this.keyGesture);
    this.keyGesture = null;
  }

  // the box as it is shown, which the server may not know yet
  #boxOf(number) {
    return this.held.get(number) ?? this.items.get(number).box;
  }

  #move(number, box, gesture) {
    this.held.set(number, box);
    this.#place(this.elements.get(number), box);
    this.on.move(number, box, gesture, false);
  }

  async #finish(number, box, gesture) {
    this.held.set(number, box);
    await this.on.move(number, box, gesture, true);
    if (this.held.get(number) !== box) return;  // held again meanwhile
    this.held.delete(number);
    if (this.items.has(number)) this.#place(this.elements.get(number), this.items.get(number).box);
  }
}
