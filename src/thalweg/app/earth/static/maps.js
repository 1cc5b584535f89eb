// Two maps with one view: tiles are fetched for what is seen, kept for a while, and dropped when no longer wanted.

const KEPT_TILES = 300;
const MOST_ZOOM = 48;

class Tiles {
  constructor(changed, failed) {
    this.kept = new Map();
    this.changed = changed;
    this.failed = failed;
  }

  // The image of a tile, or null while it is on its way.
  get(key, address) {
    let tile = this.kept.get(key);
    if (!tile) {
      tile = { image: null, stop: new AbortController(), wanted: true, broken: false };
      this.load(tile, key, address);
    }
    this.kept.delete(key);
    this.kept.set(key, tile);
    tile.wanted = true;
    return tile;
  }

  async load(tile, key, address) {
    try {
      const answer = await answerOf(address, { signal: tile.stop.signal });
      tile.image = await createImageBitmap(await answer.blob());
    } catch (error) {
      if (error.name === "AbortError") return;
      tile.broken = true;
      this.failed(error);
    }
    this.changed();
  }

  // Stop what is on its way and not wanted since the last sweep; forget the oldest beyond the number kept.
  sweep() {
    for (const [key, tile] of this.kept) {
      const stopped = !tile.wanted && !tile.image && !tile.broken;
      if (stopped) tile.stop.abort();
      if (stopped || (!tile.wanted && this.kept.size > KEPT_TILES)) this.kept.delete(key);
      tile.wanted = false;
    }
  }

  forget() {
    this.sweep();
    this.sweep();
    this.kept.clear();
  }
}

class LinkedMaps {
  // panes: [{canvas, layer: () => ({name, query, strides}) or null}]; told of picks, moves and failures.
  constructor(panes, told) {
    this.panes = panes;
    this.told = told;
    this.scene = null;
    this.view = { x: 0, y: 0, zoom: 1 };
    this.pixel = null;
    this.hover = null;
    this.tiles = new Tiles(() => this.redraw(), told.failed);
    for (const pane of panes) this.listen(pane.canvas);
    this.watcher = new ResizeObserver(() => this.redraw());
    for (const pane of panes) this.watcher.observe(pane.canvas);
  }

  open(scene, view) {
    this.tiles.forget();
    this.scene = scene;
    this.pixel = null;
    if (view) this.view = view;
    else this.fit();
    this.redraw();
  }

  size() {
    const { clientWidth, clientHeight } = this.panes[0].canvas;
    return { width: clientWidth || 600, height: clientHeight || 400 };
  }

  fitting() {
    const { width, height } = this.size();
    return Math.min(width / this.scene.columns, height / this.scene.rows);
  }

  fit() {
    this.view = { x: this.scene.columns / 2, y: this.scene.rows / 2, zoom: Math.min(MOST_ZOOM, this.fitting()) };
    this.moved();
  }

  zoomBy(factor, at = null) {
    const { width, height } = this.size();
    const point = at || { left: width / 2, top: height / 2 };
    const before = this.placeAt(point);
    const least = Math.min(1, this.fitting() / 2);
    this.view.zoom = Math.min(MOST_ZOOM, Math.max(least, this.view.zoom * factor));
    const after = this.placeAt(point);
    this.panBy(before.x - after.x, before.y - after.y);
  }

  // By so many pixels of the store; the middle of the maps stays inside it.
  panBy(x, y) {
    this.view.x = Math.min(this.scene.columns, Math.max(0, this.view.x + x));
    this.view.y = Math.min(this.scene.rows, Math.max(0, this.view.y + y));
    this.moved();
  }

  moved() {
    this.told.moved(this.view);
    this.redraw();
  }

  placeAt({ left, top }) {
    const { width, height } = this.size();
    return {
      x: this.view.x + (left - width / 2) / this.view.zoom,
      y: this.view.y + (top - height / 2) / this.view.zoom,
    };
  }

  pick({ x, y }) {
    const [row, column] = [Math.floor(y), Math.floor(x)];
    if (row < 0 || column < 0 || row >= this.scene.rows || column >= this.scene.columns) return;
    this.told.picked({ row, column });
  }

  listen(canvas) {
    let drag = null;
    canvas.addEventListener("pointerdown", (event) => {
      if (event.button) return;
      canvas.setPointerCapture(event.pointerId);
      drag = { left: event.offsetX, top: event.offsetY, far: false };
    });
    canvas.addEventListener("pointermove", (event) => {
      if (!this.scene) return;
      const [left, top] = [event.offsetX, event.offsetY];
      if (drag && (drag.far || Math.hypot(left - drag.left, top - drag.top) > 3)) {
        this.panBy((drag.left - left) / this.view.zoom, (drag.top - top) / this.view.zoom);
        drag = { left, top, far: true };
        canvas.classList.add("dragging");
      }
      this.hover = { canvas, ...this.placeAt({ left, top }) };
      this.redraw();
    });
    canvas.addEventListener("pointerup", (event) => {
      if (this.scene && drag && !drag.far) this.pick(this.placeAt({ left: event.offsetX, top: event.offsetY }));
      drag = null;
      canvas.classList.remove("dragging");
    });
    canvas.addEventListener("pointercancel", () => { drag = null; });
    canvas.addEventListener("pointerleave", () => { this.hover = null; this.redraw(); });
    canvas.addEventListener("wheel", (event) => {
      event.preventDefault();
      if (!this.scene) return;
      this.zoomBy(Math.exp(-event.deltaY / 400), { left: event.offsetX, top: event.offsetY });
    }, { passive: false });
    canvas.addEventListener("keydown", (event) => this.key(event));
    for (const name of ["focus", "blur"]) canvas.addEventListener(name, () => this.redraw());
  }

  key(event) {
    if (!this.scene || event.ctrlKey || event.metaKey || event.altKey) return;
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
      " ": () => this.pick(this.view),
    };
    if (!keys[event.key]) return;
    event.preventDefault();
    event.stopPropagation(); // the page has shortcuts of its own
    keys[event.key]();
  }

  // What is drawn is no longer what should be.
  outdate() {
    for (const { canvas } of this.panes) canvas.dataset.ready = "false";
  }

  redraw() {
    this.outdate();
    if (this.waiting || !this.scene) return;
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
    const paper = canvas.getContext("2d");
    paper.scale(ratio, ratio);
    paper.imageSmoothingEnabled = false;
    const { x, y, zoom } = this.view;
    paper.save();
    paper.translate(width / 2 - x * zoom, height / 2 - y * zoom);
    const complete = this.drawTiles(paper, pane, { width, height });
    paper.restore();
    this.drawMarks(paper, canvas, { width, height });
    drawScaleBar(paper, height, this.scene.resolution / zoom);
    canvas.dataset.view = [x, y, zoom].map((value) => value.toFixed(4)).join(" ");
    canvas.dataset.ready = complete;
    canvas.setAttribute("aria-busy", String(!complete));
  }

  // Whether all tiles in view are there; what is not yet is stood in for, faintly, by what the pane showed before.
  drawTiles(paper, pane, { width, height }) {
    const layer = pane.layer();
    if (!layer) return true;
    const { rows, columns, tile } = this.scene;
    const { x, y, zoom } = this.view;
    const level = Math.min(layer.strides.length - 1, Math.max(0, Math.floor(Math.log2(1 / zoom) + 1e-9)));
    const covered = tile * 2 ** level;
    const stride = layer.strides[level];
    const first = { column: Math.max(0, Math.floor((x - width / 2 / zoom) / covered)),
                    row: Math.max(0, Math.floor((y - height / 2 / zoom) / covered)) };
    const last = { column: Math.min(columns - 1, x + width / 2 / zoom) / covered,
                   row: Math.min(rows - 1, y + height / 2 / zoom) / covered };
    let complete = true;
    paper.beginPath();
    paper.rect(0, 0, columns * zoom, rows * zoom);
    paper.clip();
    for (let row = first.row; row <= last.row; row += 1) {
      for (let column = first.column; column <= last.column; column += 1) {
        const place = `${level}/${column}/${row}`;
        const { image, broken } = this.tiles.get(`${layer.key}/${place}`, addressOf(`tile/${layer.name}/${place}`, layer.query));
        const before = !image && pane.before && this.tiles.kept.get(`${pane.before}/${place}`);
        if (image || (before && before.image)) {
          const shown = image || before.image;
          paper.globalAlpha = image ? 1 : 0.35;
          paper.drawImage(shown, column * covered * zoom, row * covered * zoom,
            shown.width * stride * zoom, shown.height * stride * zoom);
        }
        complete = complete && Boolean(image || broken);
      }
    }
    paper.globalAlpha = 1;
    if (complete) pane.before = layer.key;
    pane.stride = stride;
    this.told.drawn(pane, complete);
    return complete;
  }

  drawMarks(paper, canvas, { width, height }) {
    const { x, y, zoom } = this.view;
    const toScreen = (place) => [width / 2 + (place.x - x) * zoom, height / 2 + (place.y - y) * zoom];
    const strokes = (draw) => {
      for (const [colour, thickness] of [["#000", 4], ["#fff", 2]]) {
        paper.strokeStyle = colour;
        paper.lineWidth = thickness;
        paper.beginPath();
        draw();
        paper.stroke();
      }
    };
    if (this.pixel) {
      const [left, top] = toScreen({ x: this.pixel.column, y: this.pixel.row });
      const side = Math.max(zoom, 9);
      strokes(() => paper.rect(left + (zoom - side) / 2, top + (zoom - side) / 2, side, side));
    }
    const cross = (place, arm) => {
      const [left, top] = toScreen(place);
      strokes(() => {
        paper.moveTo(left - arm, top);
        paper.lineTo(left + arm, top);
        paper.moveTo(left, top - arm);
        paper.lineTo(left, top + arm);
      });
    };
    if (this.hover && this.hover.canvas !== canvas) cross(this.hover, 6);
    if (canvas.matches(":focus-visible")) cross(this.view, 11);
  }
}

function drawScaleBar(paper, height, metresAPixel) {
  const longest = 120 * metresAPixel;
  const unit = 10 ** Math.floor(Math.log10(longest));
  const metres = [5, 2, 1].find((count) => count * unit <= longest) * unit;
  const words = metres >= 1000 ? `${metres / 1000} km` : `${metres} m`;
  paper.font = "600 12px system-ui, sans-serif";
  paper.fillStyle = "rgba(0, 0, 0, 0.65)";
  paper.fillRect(8, height - 30, metres / metresAPixel + 16, 24);
  paper.fillStyle = "#fff";
  paper.fillRect(16, height - 12, metres / metresAPixel, 3);
  paper.fillText(words, 16, height - 16);
}
