// Two maps with one view: tiles in view are fetched and cached, and requests for tiles out of view are aborted.

const MAX_CACHED_TILES = 300;
const MAX_ZOOM = 48;

class Tiles {
  constructor(changed, failed) {
    this.cache = new Map();
    this.changed = changed;
    this.failed = failed;
  }

  // Return a tile and mark it as wanted; its image is null until it has arrived.
  get(key, address) {
    let tile = this.cache.get(key);
    if (!tile) {
      tile = { image: null, stop: new AbortController(), wanted: true, broken: false };
      this.load(tile, key, address);
    }
    this.cache.delete(key);
    this.cache.set(key, tile);
    tile.wanted = true;
    return tile;
  }

  async load(tile, key, address) {
    try {
      const answer = await fetchOk(address, { signal: tile.stop.signal });
      tile.image = await createImageBitmap(await answer.blob());
    } catch (error) {
      if (error.name === "AbortError") return;
      tile.broken = true;
      this.failed(error);
    }
    this.changed();
  }

  // Abort requests for tiles not wanted since the last sweep; evict the oldest tiles beyond the size of the cache.
  sweep() {
    for (const [key, tile] of this.cache) {
      const stopped = !tile.wanted && !tile.image && !tile.broken;
      if (stopped) tile.stop.abort();
      if (stopped || (!tile.wanted && this.cache.size > MAX_CACHED_TILES)) this.cache.delete(key);
      tile.wanted = false;
    }
  }

  forget() {
    this.sweep();
    this.sweep();
    this.cache.clear();
  }
}

class LinkedMaps {
  // panes: [{canvas, layer: () => ({path, query, key, strides}) or null}]
  // callbacks: picked(point), closed(), cancelled(), hovered(point or null), overlay(context, toScreen), moved(view),
  // drawn(pane, complete), failed(error); a point is {x, y} in pixels of the store, fractions included
  constructor(panes, callbacks) {
    this.panes = panes;
    this.callbacks = callbacks;
    this.store = null;
    this.view = { x: 0, y: 0, zoom: 1 };
    this.pixel = null;
    this.hover = null;
    this.tiles = new Tiles(() => this.redraw(), callbacks.failed);
    for (const pane of panes) this.listen(pane.canvas);
    this.watcher = new ResizeObserver(() => this.redraw());
    for (const pane of panes) this.watcher.observe(pane.canvas);
  }

  open(store, view) {
    this.tiles.forget();
    this.store = store;
    this.pixel = null;
    this.fit();
    if (view) this.show(view);
  }

  // Show a view, brought within the limits of the store.
  show({ x, y, zoom }) {
    this.view.zoom = Math.min(MAX_ZOOM, Math.max(this.minZoom(), zoom));
    this.panBy(x - this.view.x, y - this.view.y);
  }

  minZoom() {
    return Math.min(1, this.fitting() / 2);
  }

  size() {
    const { clientWidth, clientHeight } = this.panes[0].canvas;
    return { width: clientWidth || 600, height: clientHeight || 400 };
  }

  fitting() {
    const { width, height } = this.size();
    return Math.min(width / this.store.columns, height / this.store.rows);
  }

  fit() {
    this.view = { x: this.store.columns / 2, y: this.store.rows / 2, zoom: Math.min(MAX_ZOOM, this.fitting()) };
    this.moved();
  }

  zoomBy(factor, at = null) {
    const { width, height } = this.size();
    const point = at || { left: width / 2, top: height / 2 };
    const previous = this.pointAt(point);
    this.view.zoom = Math.min(MAX_ZOOM, Math.max(this.minZoom(), this.view.zoom * factor));
    const after = this.pointAt(point);
    this.panBy(previous.x - after.x, previous.y - after.y);
  }

  // Pan by x columns and y rows; the middle of the maps stays inside the store.
  panBy(x, y) {
    this.view.x = Math.min(this.store.columns, Math.max(0, this.view.x + x));
    this.view.y = Math.min(this.store.rows, Math.max(0, this.view.y + y));
    this.moved();
  }

  moved() {
    this.callbacks.moved(this.view);
    this.redraw();
  }

  pointAt({ left, top }) {
    const { width, height } = this.size();
    return {
      x: this.view.x + (left - width / 2) / this.view.zoom,
      y: this.view.y + (top - height / 2) / this.view.zoom,
    };
  }

  holds({ x, y }) {
    return x >= 0 && y >= 0 && x < this.store.columns && y < this.store.rows;
  }

  pick(point) {
    if (this.holds(point)) this.callbacks.picked({ x: point.x, y: point.y });
  }

  listen(canvas) {
    let drag = null;
    canvas.addEventListener("pointerdown", (event) => {
      if (event.button) return;
      canvas.setPointerCapture(event.pointerId);
      drag = { left: event.offsetX, top: event.offsetY, far: false };
    });
    canvas.addEventListener("pointermove", (event) => {
      if (!this.store) return;
      const [left, top] = [event.offsetX, event.offsetY];
      if (drag && (drag.far || Math.hypot(left - drag.left, top - drag.top) > 3)) {
        this.panBy((drag.left - left) / this.view.zoom, (drag.top - top) / this.view.zoom);
        drag = { left, top, far: true };
        canvas.classList.add("dragging");
      }
      this.hover = { canvas, ...this.pointAt({ left, top }) };
      this.callbacks.hovered(this.holds(this.hover) ? this.hover : null);
      this.redraw();
    });
    canvas.addEventListener("pointerup", (event) => {
      if (this.store && drag && !drag.far) this.pick(this.pointAt({ left: event.offsetX, top: event.offsetY }));
      drag = null;
      canvas.classList.remove("dragging");
    });
    canvas.addEventListener("pointercancel", () => { drag = null; });
    canvas.addEventListener("pointerleave", () => {
      this.hover = null;
      this.callbacks.hovered(null);
      this.redraw();
    });
    canvas.addEventListener("dblclick", () => this.store && this.callbacks.closed());
    canvas.addEventListener("wheel", (event) => {
      event.preventDefault();
      if (!this.store) return;
      this.zoomBy(Math.exp(-event.deltaY / 400), { left: event.offsetX, top: event.offsetY });
    }, { passive: false });
    canvas.addEventListener("keydown", (event) => this.key(event));
    for (const name of ["focus", "blur"]) canvas.addEventListener(name, () => this.redraw());
  }

  key(event) {
    if (!this.store || event.ctrlKey || event.metaKey || event.altKey) return;
    const { width, height } = this.size();
    const step = event.shiftKey ? 1 : Math.max(1, Math.round(Math.min(width, height) / this.view.zoom / 8));
    const keys = {
      ArrowLeft: () => this.panBy(-step, 0),
      ArrowRight: () => this.panBy(step, 0),
      ArrowUp: () => this.panBy(0, -step),
      ArrowDown: () => this.panBy(0, step),
      "+": () => this.zoomBy(1.5),
      "=": () => this.zoomBy(1.5),
      "-": () => this.zoomBy(1 / 1.5),
      0: () => this.fit(),
      Enter: () => this.pick(this.view),
      Escape: () => this.callbacks.cancelled(),
      " ": () => this.pick(this.view),
    };
    if (!keys[event.key]) return;
    event.preventDefault();
    event.stopPropagation(); // the page has its own shortcuts
    keys[event.key]();
  }

  // Mark the maps as out of date.
  invalidate() {
    for (const { canvas } of this.panes) canvas.dataset.ready = "false";
  }

  redraw() {
    this.invalidate();
    if (this.waiting || !this.store) return;
    this.waiting = requestAnimationFrame(() => {
      this.waiting = null;
      for (const pane of this.panes) this.drawPane(pane);
      this.tiles.sweep();
    });
  }

  drawPane(pane) {
    const { canvas } = pane;
    const [width, height] = [canvas.clientWidth, canvas.clientHeight];
    if (!width || !height) return;
    const ratio = window.devicePixelRatio || 1;
    canvas.width = Math.round(width * ratio);
    canvas.height = Math.round(height * ratio);
    const context = canvas.getContext("2d");
    context.scale(ratio, ratio);
    context.imageSmoothingEnabled = false;
    const { x, y, zoom } = this.view;
    context.save();
    context.translate(width / 2 - x * zoom, height / 2 - y * zoom);
    const complete = this.drawTiles(context, pane, { width, height });
    context.restore();
    this.drawMarks(context, canvas, { width, height });
    drawScaleBar(context, height, this.store.resolution / zoom);
    canvas.dataset.view = [x, y, zoom].map((value) => value.toFixed(4)).join(" ");
    canvas.dataset.ready = complete;
    canvas.setAttribute("aria-busy", String(!complete));
  }

  // Draw the tiles in view and return whether all have arrived; a missing one shows the previous layer, faintly.
  drawTiles(context, pane, { width, height }) {
    const layer = pane.layer();
    if (!layer) return true;
    const { rows, columns, tile } = this.store;
    const { x, y, zoom } = this.view;
    const level = Math.min(layer.strides.length - 1, Math.max(0, Math.floor(Math.log2(1 / zoom) + 1e-9)));
    const covered = tile * 2 ** level;
    const stride = layer.strides[level];
    const first = { column: Math.max(0, Math.floor((x - width / 2 / zoom) / covered)),
                    row: Math.max(0, Math.floor((y - height / 2 / zoom) / covered)) };
    const last = { column: Math.min(columns - 1, x + width / 2 / zoom) / covered,
                   row: Math.min(rows - 1, y + height / 2 / zoom) / covered };
    let complete = true;
    context.beginPath();
    context.rect(0, 0, columns * zoom, rows * zoom);
    context.clip();
    for (let row = first.row; row <= last.row; row += 1) {
      for (let column = first.column; column <= last.column; column += 1) {
        const address = `${level}/${row}/${column}`;
        const { image, broken } = this.tiles.get(`${layer.key}/${address}`, addressOf(`${layer.path}/${address}`, layer.query));
        const previous = !image && pane.previous && this.tiles.cache.get(`${pane.previous}/${address}`);
        if (image || (previous && previous.image)) {
          const shown = image || previous.image;
          context.globalAlpha = image ? 1 : 0.35;
          context.drawImage(shown, column * covered * zoom, row * covered * zoom,
            shown.width * stride * zoom, shown.height * stride * zoom);
        }
        complete = complete && Boolean(image || broken);
      }
    }
    context.globalAlpha = 1;
    if (complete) pane.previous = layer.key;
    pane.stride = stride;
    this.callbacks.drawn(pane, complete);
    return complete;
  }

  drawMarks(context, canvas, { width, height }) {
    const { x, y, zoom } = this.view;
    const toScreen = (point) => [width / 2 + (point.x - x) * zoom, height / 2 + (point.y - y) * zoom];
    const strokes = (draw) => {
      for (const [colour, thickness] of [["#000", 4], ["#fff", 2]]) {
        context.strokeStyle = colour;
        context.lineWidth = thickness;
        context.beginPath();
        draw();
        context.stroke();
      }
    };
    this.callbacks.overlay(context, toScreen);
    if (this.pixel) {
      const [left, top] = toScreen({ x: this.pixel.column, y: this.pixel.row });
      const side = Math.max(zoom, 9);
      strokes(() => context.rect(left + (zoom - side) / 2, top + (zoom - side) / 2, side, side));
    }
    const cross = (point, arm) => {
      const [left, top] = toScreen(point);
      strokes(() => {
        context.moveTo(left - arm, top);
        context.lineTo(left + arm, top);
        context.moveTo(left, top - arm);
        context.lineTo(left, top + arm);
      });
    };
    if (this.hover && this.hover.canvas !== canvas) cross(this.hover, 6);
    if (canvas.matches(":focus-visible")) cross(this.view, 11);
  }
}

function drawScaleBar(context, height, metresPerPixel) {
  const maxLength = 120 * metresPerPixel;
  const unit = 10 ** Math.floor(Math.log10(maxLength));
  const metres = [5, 2, 1].find((count) => count * unit <= maxLength) * unit;
  const label = metres >= 1000 ? `${metres / 1000} km` : `${metres} m`;
  context.font = "600 12px system-ui, sans-serif";
  context.fillStyle = "rgba(0, 0, 0, 0.65)";
  context.fillRect(8, height - 30, metres / metresPerPixel + 16, 24);
  context.fillStyle = "#fff";
  context.fillRect(16, height - 12, metres / metresPerPixel, 3);
  context.fillText(label, 16, height - 16);
}

// A map as a PNG file: what its canvas shows, with a title above, and its legend and a line on its source below.
function mapPicture(canvas, title, legend, source) {
  const ratio = canvas.width / canvas.clientWidth;
  const width = canvas.clientWidth;
  const picture = document.createElement("canvas");
  const context = picture.getContext("2d");
  const font = (bold) => { context.font = `${bold ? 600 : 400} 13px system-ui, sans-serif`; };
  font(false);
  const rows = [[]];
  let used = 0;
  for (const entry of legend) {
    const needed = context.measureText(entry.label).width + (entry.colours ? 12 + 14 * entry.colours.length : 18);
    if (used && used + needed > width - 20) {
      rows.push([]);
      used = 0;
    }
    rows[rows.length - 1].push({ ...entry, left: 10 + used });
    used += needed;
  }
  const [top, bottom] = [30, 22 * rows.length + 30];
  picture.width = canvas.width;
  picture.height = canvas.height + Math.round((top + bottom) * ratio);
  context.scale(ratio, ratio);
  context.fillStyle = "#fff";
  context.fillRect(0, 0, width, picture.height / ratio);
  context.fillStyle = "#e4e4e8";
  context.fillRect(0, top, width, canvas.height / ratio);
  context.drawImage(canvas, 0, top, width, canvas.height / ratio);
  const write = (text, left, y, bold = false) => {
    font(bold);
    context.fillStyle = "#1b1b1f";
    context.fillText(text, left, y, width - left - 6);
  };
  write(title, 10, 20, true);
  rows.forEach((row, index) => row.forEach(({ left, label, colours }) => {
    const y = top + canvas.height / ratio + 20 + 22 * index;
    (colours || []).forEach((colour, place) => {
      context.fillStyle = colour;
      context.fillRect(left + 14 * place, y - 11, 14, 13);
    });
    write(label, left + (colours ? 14 * colours.length + 5 : 0), y);
  }));
  write(source, 10, picture.height / ratio - 10);
  return new Promise((done) => picture.toBlob(done, "image/png"));
}
