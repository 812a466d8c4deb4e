// The picture: one image, or two under a divider, with zoom and pan.
//
// A source is {key, label, width, height, overview, crop, isExact, run}. `overview` is the address of
// the whole picture, perhaps made smaller. `crop(x, y, width, height)` is the address of a part at full
// size, or null where `overview` is all there is. `isExact` says that `overview` has every pixel. `run`
// is the run whose server has the picture, or null.
//
// Lengths are in pixels of the larger source ("picture pixels"). 100 % shows one of them as one
// pixel of the screen, not as one CSS pixel.

import { element } from "./dom.js";

const TILE = 1024; // side of a crop, in pixels of its source
const MOST_TILES = 48; // kept per side, visible or not
const LARGEST_ZOOM = 8;
const GRAB = 24; // half the width of the handle, in CSS pixels
const SHARP_FROM = 2; // from this zoom on pixels are shown as squares

/** One picture: an overview with the visible crops above it. */
class Pane {
  constructor(root, onMissing) {
    this.root = root;
    this.onMissing = onMissing;
    this.world = element("div", { className: "world" });
    this.root.append(this.world);
    this.tiles = new Map();
    this.source = null;
  }

  show(source) {
    if (this.source?.key === source?.key && this.source?.overview === source?.overview) return;
    this.source = source;
    this.tiles.clear();
    this.world.replaceChildren();
    if (source === null) return;
    const overview = element("img", {
      className: "overview", alt: source.label, draggable: false, src: source.overview,
    });
    if (source.run !== null) {
      overview.addEventListener("error", () => this.onMissing(source.run));
    }
    overview.addEventListener("load", () => { // its size decides whether crops are needed
      if (this.source === source && this.view) this.loadTiles(this.view);
    });
    this.world.append(overview);
  }

  /** Places the picture; `view` is {width, height, scale, x, y, box, zoom}. */
  place(view) {
    this.view = view;
    if (this.source === null) return;
    const { style } = this.world;
    style.width = `${view.width}px`;
    style.height = `${view.height}px`;
    style.transform = `translate(${view.x}px, ${view.y}px) scale(${view.scale})`;
    const isSameSize = this.source.width === view.width;
    this.world.classList.toggle("sharp", isSameSize && view.zoom >= SHARP_FROM);
    this.loadTiles(view);
  }

  loadTiles(view) {
    const { source } = this;
    if (source.crop === null || source.isExact) return;
    const ratio = source.width / view.width;
    const overview = this.world.firstChild;
    const enlargement = (view.zoom * view.width) / (overview.naturalWidth || source.width);
    if (enlargement <= 1) return; // the overview has as many pixels as the screen
    const from = { x: (-view.x / view.scale) * ratio, y: (-view.y / view.scale) * ratio };
    const to = {
      x: Math.min(source.width, from.x + (view.box.width / view.scale) * ratio),
      y: Math.min(source.height, from.y + (view.box.height / view.scale) * ratio),
    };
    for (let y = Math.floor(from.y / TILE) * TILE; y < to.y; y += TILE) {
      for (let x = Math.floor(from.x / TILE) * TILE; x < to.x; x += TILE) this.addTile(x, y, ratio);
    }
    while (this.tiles.size > MOST_TILES) {
      const [oldest, tile] = this.tiles.entries().next().value;
      tile.remove();
      this.tiles.delete(oldest);
    }
  }

  addTile(x, y, ratio) {
    const key = `${x},${y}`;
    const known = this.tiles.get(key);
    if (known !== undefined) { // again the youngest
      this.tiles.delete(key);
      this.tiles.set(key, known);
      return;
    }
    const width = Math.min(TILE, this.source.width - x);
    const height = Math.min(TILE, this.source.height - y);
    const tile = element("img", { className: "tile", alt: "", draggable: false });
    tile.style.left = `${x / ratio}px`;
    tile.style.top = `${y / ratio}px`;
    tile.style.width = `${width / ratio}px`;
    tile.style.height = `${height / ratio}px`;
    tile.addEventListener("error", () => this.onMissing(this.source.run));
    tile.src = this.source.crop(x, y, width, height);
    this.tiles.set(key, tile);
    this.world.append(tile);
  }
}

export class Viewer {
  /**
   * `onZoom(zoom, isFit)` is called with pixels of the screen for one pixel of the picture, and
   * `onMissing(run)` when the server has no picture of a run.
   */
  constructor({ stage, slider, single, leftPane, rightPane, onZoom, onMissing }) {
    this.stage = stage;
    this.slider = slider;
    this.single = single;
    this.left = new Pane(leftPane, onMissing);
    this.right = new Pane(rightPane, onMissing);
    this.alone = new Pane(single, onMissing);
    this.onZoom = onZoom;
    this.isFit = true;
    this.zoom = 1;
    this.center = { x: 0.5, y: 0.5 }; // as parts of the picture
    this.picture = null; // {width, height}
    this.pointers = new Map();
    new ResizeObserver(() => this.draw()).observe(stage);
    slider.addEventListener("slide", () => this.describeDivider());
    slider.addEventListener("keydown", (event) => this.useKey(event));
    single.addEventListener("keydown", (event) => this.useKey(event));
    stage.addEventListener("pointerdown", (event) => this.startPan(event));
    stage.addEventListener("pointermove", (event) => this.pan(event));
    for (const name of ["pointerup", "pointercancel"]) {
      stage.addEventListener(name, (event) => this.endPan(event));
    }
    stage.addEventListener("wheel", (event) => this.useWheel(event), { passive: false });
    stage.addEventListener("dblclick", (event) => {
      if (this.isFit) this.setZoom(1, event);
      else this.fit();
    });
  }

  /** Shows one source (`right` null) or two under the divider. */
  show(left, right = null) {
    const isPair = right !== null;
    this.slider.hidden = !isPair;
    this.single.hidden = isPair;
    this.left.show(isPair ? left : null);
    this.right.show(right);
    this.alone.show(isPair ? null : left);
    const largest = isPair && right.width > left.width ? right : left;
    this.picture = { width: largest.width, height: largest.height };
    this.labels = { left: left.label, right: right?.label };
    if (!isPair) this.single.setAttribute("aria-label", left.label);
    this.describeDivider();
    this.draw();
  }

  /** Shows nothing. */
  clear() {
    for (const pane of [this.left, this.right, this.alone]) pane.show(null);
    this.slider.hidden = true;
    this.single.hidden = true;
    this.picture = null;
  }

  fit() {
    this.isFit = true;
    this.center = { x: 0.5, y: 0.5 };
    this.draw();
  }

  /** Sets the zoom; `point` (with clientX and clientY) stays where it is on the screen. */
  setZoom(zoom, point = null) {
    const before = this.view;
    const next = Math.min(LARGEST_ZOOM, Math.max(this.smallestZoom(), zoom));
    if (point !== null && before) {
      const box = this.boxRect();
      const at = { x: point.clientX - box.left, y: point.clientY - box.top };
      const scale = next / devicePixelRatio;
      const fixed = { x: (at.x - before.x) / before.scale, y: (at.y - before.y) / before.scale };
      const stage = this.stage.getBoundingClientRect();
      // The box grows with the zoom up to the stage and stays centered in it.
      const middle = {
        x: stage.left + stage.width / 2 - point.clientX,
        y: stage.top + stage.height / 2 - point.clientY,
      };
      this.center = {
        x: (fixed.x + middle.x / scale) / this.picture.width,
        y: (fixed.y + middle.y / scale) / this.picture.height,
      };
    }
    this.zoom = next;
    this.isFit = false;
    this.draw();
  }

  fitZoom() {
    const { width, height } = this.picture;
    const room = { width: this.stage.clientWidth, height: this.stage.clientHeight };
    return Math.min(room.width / width, room.height / height) * devicePixelRatio;
  }

  /** Small pictures can be shown at 100 %, although they then do not fill the stage. */
  smallestZoom() {
    return Math.min(1, this.fitZoom());
  }

  boxRect() {
    return (this.slider.hidden ? this.single : this.slider).getBoundingClientRect();
  }

  draw() {
    if (this.picture === null || this.stage.clientWidth === 0) return;
    if (this.isFit) this.zoom = this.fitZoom();
    const { width, height } = this.picture;
    const scale = this.zoom / devicePixelRatio;
    const room = { width: this.stage.clientWidth, height: this.stage.clientHeight };
    const box = {
      width: Math.min(room.width, Math.round(width * scale)),
      height: Math.min(room.height, Math.round(height * scale)),
    };
    const place = (part, total, inside) => {
      const start = Math.min(0, Math.max(inside - total * scale, inside / 2 - part * total * scale));
      return Math.round(start * devicePixelRatio) / devicePixelRatio; // whole pixels stay sharp
    };
    const x = place(this.center.x, width, box.width);
    const y = place(this.center.y, height, box.height);
    const middle = (start, total, inside) =>
      total * scale <= inside + 1 ? 0.5 : (inside / 2 - start) / scale / total;
    this.center = { x: middle(x, width, box.width), y: middle(y, height, box.height) };
    this.view = { width, height, scale, x, y, box, zoom: this.zoom };
    // The stage may begin between two pixels of the screen.
    const stage = this.stage.getBoundingClientRect();
    const center = (from, outer, inner) => {
      const start = Math.round((from + (outer - inner) / 2) * devicePixelRatio) / devicePixelRatio;
      return `${start - from}px`;
    };
    const canPan = width * scale > box.width + 1 || height * scale > box.height + 1;
    for (const shown of [this.slider, this.single]) {
      shown.style.setProperty("--box-width", `${box.width}px`);
      shown.style.setProperty("--box-height", `${box.height}px`);
      shown.style.left = center(stage.left, room.width, box.width);
      shown.style.top = center(stage.top, room.height, box.height);
    }
    // Whole picture: drag anywhere. Enlarged: the handle moves the divider, the rest the picture.
    this.slider.handle = String(canPan);
    this.stage.classList.toggle("can-pan", canPan);
    for (const pane of [this.left, this.right, this.alone]) pane.place(this.view);
    this.onZoom(this.zoom, this.isFit);
  }

  describeDivider() {
    const part = Math.round(this.slider.value);
    this.slider.setAttribute("aria-valuenow", part);
    this.slider.setAttribute(
      "aria-valuetext",
      `${part} % ${this.labels?.left ?? "left"}, ${100 - part} % ${this.labels?.right ?? "right"}`,
    );
    this.stage.classList.toggle("hide-left-label", part < 25);
    this.stage.classList.toggle("hide-right-label", part > 75);
  }

  /** Moves the divider to a part of the width, 0 to 100. */
  slideTo(part) {
    this.slider.value = Math.min(100, Math.max(0, part));
    this.describeDivider();
  }

  moveBy(x, y) {
    const { width, height, scale } = this.view;
    this.center.x -= x / scale / width;
    this.center.y -= y / scale / height;
    this.draw();
  }

  useKey(event) {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const isPair = !this.slider.hidden;
    const steps = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
    const step = steps[event.key];
    const part = this.slider.value;
    if (step && (event.shiftKey || !isPair)) this.moveBy(-60 * step[0], -60 * step[1]);
    else if (step) this.slideTo(part + 2 * (step[0] - step[1]));
    else if (isPair && event.key === "PageUp") this.slideTo(part + 10);
    else if (isPair && event.key === "PageDown") this.slideTo(part - 10);
    else if (isPair && event.key === "Home") this.slideTo(0);
    else if (isPair && event.key === "End") this.slideTo(100);
    else if (event.key === "+" || event.key === "=") this.setZoom(this.zoom * 1.25);
    else if (event.key === "-") this.zoomOut(1.25);
    else if (event.key === "0") this.fit();
    else if (event.key === "1" || event.key === "2") this.setZoom(Number(event.key));
    else return;
    event.preventDefault();
  }

  zoomOut(factor, point = null) {
    const next = this.zoom / factor;
    const fit = this.fitZoom();
    if (this.zoom > fit && next <= fit) this.fit();
    else this.setZoom(next, point);
  }

  useWheel(event) {
    if (!event.ctrlKey && !event.metaKey) return; // the page scrolls; pinching sets ctrlKey
    event.preventDefault();
    const factor = Math.exp(-event.deltaY / 300);
    if (factor >= 1) this.setZoom(this.zoom * factor, event);
    else this.zoomOut(1 / factor, event);
  }

  startPan(event) {
    if (event.button !== 0 || !this.stage.classList.contains("can-pan")) {
      if (event.pointerType === "touch") this.pointers.set(event.pointerId, event);
      return;
    }
    if (!this.slider.hidden) {
      const box = this.boxRect();
      const divider = box.left + (box.width * this.slider.value) / 100;
      if (Math.abs(event.clientX - divider) <= GRAB) return; // the component moves the divider
    }
    this.pointers.set(event.pointerId, event);
    this.stage.setPointerCapture(event.pointerId);
    this.stage.classList.add("panning");
  }

  pan(event) {
    const last = this.pointers.get(event.pointerId);
    if (last === undefined) return;
    const others = [...this.pointers].filter(([id]) => id !== event.pointerId);
    this.pointers.set(event.pointerId, event);
    if (others.length === 0) {
      if (this.stage.classList.contains("panning")) {
        this.moveBy(event.clientX - last.clientX, event.clientY - last.clientY);
      }
      return;
    }
    const other = others[0][1];
    const distance = (a) => Math.hypot(a.clientX - other.clientX, a.clientY - other.clientY);
    const middle = {
      clientX: (event.clientX + other.clientX) / 2, clientY: (event.clientY + other.clientY) / 2,
    };
    const factor = distance(event) / Math.max(1, distance(last));
    if (factor >= 1) this.setZoom(this.zoom * factor, middle);
    else this.zoomOut(1 / factor, middle);
  }

  endPan(event) {
    this.pointers.delete(event.pointerId);
    if (this.pointers.size === 0) this.stage.classList.remove("panning");
  }
}
