// The page: the open store, its date, its chosen pixel and its layers, which `places.js` keeps in the address.

const DEBOUNCE_MS = 90;

class Viewer {
  constructor(root, folder) {
    this.root = root;
    this.folder = folder;
    this.state = { layer: "components", date: 0, pixel: null };
    this.shown = new Set([0, 1, 2]);
    this.opening = 0;
    this.maps = new LinkedMaps([
      { canvas: this.part("left"), layer: () => this.layer("preview") },
      { canvas: this.part("right"), layer: () => this.layer(this.state.layer) },
    ], {
      picked: (point) => this.click(point),
      closed: () => this.panel.tools.tool === "polygon" && this.panel.tools.close(),
      cancelled: () => this.panel.tools.choose(this.panel.tools.tool),
      hovered: (point) => this.showCursor(point),
      overlay: (context, toScreen) => this.panel.tools.draw(context, toScreen),
      moved: (view) => {
        if (this.root.contains(document.activeElement) && document.activeElement.matches("canvas:focus-visible")) {
          this.showCursor(this.maps.hover || view);
        }
        this.saveState();
      },
      drawn: (pane, complete) => this.drawn(pane, complete),
      failed: (error) => this.showStatus(error.message, true),
    });
    this.panel = new MapPanel(this, { mapped: (isNew) => this.showMapLayer(isNew) });
    this.listen();
  }

  part(name) {
    return this.root.querySelector(`[data-part="${name}"]`);
  }

  listen() {
    const on = (name, event, act) => this.part(name).addEventListener(event, act);
    on("store", "change", () => this.open(this.part("store").value));
    on("out", "click", () => this.maps.zoomBy(1 / 1.5));
    on("in", "click", () => this.maps.zoomBy(1.5));
    on("fit", "click", () => this.maps.fit());
    on("date", "input", () => this.chooseDate(Number(this.part("date").value)));
    on("earlier", "click", () => this.chooseDate(this.state.date - 1));
    on("later", "click", () => this.chooseDate(this.state.date + 1));
    on("whatif", "submit", (event) => {
      event.preventDefault();
      this.requestCounterfactual();
    });
    for (const radio of this.layerRadios()) radio.addEventListener("change", () => this.chooseLayer(radio.value));
    for (const side of ["left", "right"]) on(`${side}-png`, "click", () => this.savePicture(side));
    on("series-csv", "click", () => this.attempt(
      () => saveAnswer("pixel/series", { store: this.store.name, ...this.state.pixel })));
    // The event's own address: a write of the former state that was due may have replaced the page's since.
    window.addEventListener("hashchange", (event) => this.start(new URL(event.newURL).hash));
  }

  layerRadios() {
    return [...this.root.querySelectorAll('input[name="thalweg-earth-layer"]')];
  }

  showStatus(text, isError = false) {
    const status = this.part("status");
    status.textContent = text;
    status.classList.toggle("error", isError);
  }

  // Run requests to the server; an error is shown in one line, unless another store was opened meanwhile.
  async attempt(requests) {
    const opening = this.opening;
    try {
      await requests(() => opening === this.opening);
    } catch (error) {
      if (opening === this.opening) this.showStatus(error.message, true);
    }
  }

  async start(hash = location.hash) {
    const saved = readAddress(hash);
    await this.attempt(async () => {
      const names = await fetchJson("stores");
      const requested = saved.store;
      const select = this.part("store");
      select.replaceChildren(...names.map((name) => make("option", { value: name }, name)));
      if (!names.length && !requested) {
        this.showStatus(`no embedding store in ${this.folder} yet: write one there with thalweg earth embed, then reload`);
        return;
      }
      const name = requested || names[0];
      if (names.includes(name)) select.value = name;
      else select.prepend(make("option", { value: name, selected: "" }, name));
      await this.open(name, saved);
    });
  }

  async open(name, requested = { date: null, layer: null, view: null, pixel: null, problems: [] }) {
    this.opening += 1;
    clearTimeout(this.writing);
    this.store = null;
    this.clear = null;
    this.panel.close();
    this.maps.invalidate();
    for (const part of ["maps", "dates", "hint", "pixel", "cursor"]) this.part(part).hidden = true;
    this.part("legend").replaceChildren();
    this.showStatus(`opening ${name} …`);
    await this.attempt(async (current) => {
      const store = await fetchJson("store", { store: name });
      if (!current()) return;
      const saved = checkedState(requested, store);
      const clear = fetchJson("clear", { store: name });
      const shares = saved.date === null ? await clear : null;
      if (!current()) return;
      this.store = store;
      this.clear = shares;
      this.state.date = saved.date === null ? shares.indexOf(Math.max(...shares)) : saved.date;
      this.state.pixel = null;
      for (const part of ["maps", "dates", "hint", "cursor"]) this.part(part).hidden = false;
      this.part("date").max = store.dates.length - 1;
      this.maps.open(store, saved.view);
      this.showCursor(null);
      this.showStatus(`${store.title}: ${store.rows} x ${store.columns} pixels of ${store.resolution} m, ` +
        `${store.dates.length} dates, ${store.dimensions} dimensions, ${store.reference_system}`);
      const layer = saved.layer || this.state.layer;
      this.wantsMap = layer === "map";
      this.chooseLayer(this.wantsMap ? "components" : layer);
      this.chooseDate(this.state.date);
      this.panel.openStore(store);
      if (saved.pixel) await this.choosePixel(saved.pixel);
      this.clear = await clear;
      if (!current()) return;
      this.showDate();
      if (saved.problems.length) this.showStatus(saved.problems[0], true);
    });
  }

  layer(name) {
    const { store, state } = this;
    if (!store) return null;
    const query = { store: store.name, date: state.date, version: store.version };
    const path = `tile/${name}`;
    if (name === "map") {
      const { map, result } = this.panel;
      if (!result) return null;
      return { path: "map/tile", query: { store: store.name, map }, key: `${store.version}/map/${map}`, strides: store.strides };
    }
    if (name !== "similarity") return { path, query, key: `${store.version}/${name}/${state.date}`, strides: store.strides };
    if (!state.pixel) return null;
    const { row, column } = state.pixel;
    Object.assign(query, { date: 0, pixel_row: row, pixel_column: column });
    return { path, query, key: `${store.version}/${name}/${row}/${column}`, strides: store.similarity_strides };
  }

  chooseLayer(layer) {
    const known = this.layerRadios().find((radio) => radio.value === layer);
    if (!known || known.disabled) return;
    known.checked = true;
    this.state.layer = layer;
    this.showLegend();
    this.saveState();
    this.maps.redraw();
  }

  chooseDate(date) {
    if (!this.store) return;
    this.state.date = Math.min(this.store.dates.length - 1, Math.max(0, date));
    this.showDate();
    this.saveState();
    this.maps.invalidate();
    clearTimeout(this.quiet);
    this.quiet = setTimeout(() => {
      this.maps.redraw();
      this.showSeries();
      this.showDecoded();
    }, DEBOUNCE_MS);
  }

  async choosePixel(pixel) {
    this.state.pixel = pixel;
    this.maps.pixel = pixel;
    this.part("answer").replaceChildren();
    this.showLegend();
    this.saveState();
    this.maps.redraw();
    await this.attempt(async (current) => {
      const series = await fetchJson("pixel", { store: this.store.name, ...pixel });
      if (!current() || this.state.pixel !== pixel) return;
      this.series = series;
      this.part("pixel").hidden = false;
      this.part("place").textContent = `Row ${pixel.row}, column ${pixel.column} ` +
        `(longitude ${series.longitude.toFixed(5)}°, latitude ${series.latitude.toFixed(5)}°)`;
      this.showChips();
      this.showSeries();
      await this.showDecoded();
    });
  }

  qualityLabel(name) {
    const known = this.store.quality.find((flag) => flag.name === name);
    return known ? known.label : name;
  }

  day(date) {
    return this.store.dates[date].slice(0, 10);
  }

  showDate() {
    const { date } = this.state;
    const clear = this.clear ? `, ${this.store.sampled ? "about " : ""}${Math.round(100 * this.clear[date])} % clear` : "";
    const slider = this.part("date");
    slider.value = date;
    slider.setAttribute("aria-valuetext", this.day(date) + clear);
    this.part("date-label").textContent = this.day(date) + clear;
    this.part("earlier").disabled = date === 0;
    this.part("later").disabled = date === this.store.dates.length - 1;
    if (this.clear) this.part("clear").replaceChildren(clearBars(this.clear, date));
    this.part("left").setAttribute("aria-label", `RGB preview on ${this.day(date)}${clear}`);
    this.part("right").setAttribute("aria-label", `Map of ${this.state.layer} on ${this.day(date)}`);
  }

  showLegend() {
    const { store, state } = this;
    if (!store) return;
    const captions = {
      components: `Embedding: first three principal components of ${store.dimensions} dimensions`,
      similarity: state.pixel
        ? `Similarity to row ${state.pixel.row}, column ${state.pixel.column} over all dates`
        : "Similarity: click a pixel to compare with",
      quality: "Quality flags",
      map: "Map of labels",
    };
    this.part("left-caption").textContent = `RGB preview (${store.preview_bands.join(", ")})`;
    this.part("right-caption").textContent = captions[state.layer];
    const entry = (swatch, label) => make("span", {}, swatch, label);
    const missing = entry(make("i", { class: "swatch missing" }), "missing on this date");
    const legends = {
      components: () => [entry("", "Similar colours mean similar embeddings, on all dates."), missing],
      similarity: () => ["0: as different as two random pixels, or more", make("i", { class: "swatch ramp" }), "1: the same on all dates"],
      quality: () => store.quality.map((flag) =>
        entry(make("i", { class: "swatch", style: `background:${flag.colour}` }), flag.label)),
      map: () => [...(this.panel.result ? this.panel.result.classes : []).map(({ name, colour }) =>
        entry(make("i", { class: "swatch", style: `background:${colour}` }), name)),
      entry(make("i", { class: "swatch missing" }), "no embedding")],
    };
    this.part("legend").replaceChildren(...legends[state.layer](), make("span", { "data-part": "budget" }));
  }

  // Show which pixels and dates the tiles leave out.
  drawn(pane, complete) {
    const budget = this.part("budget");
    if (!budget || pane.canvas !== this.part("right")) return;
    const { store, state } = this;
    const strides = state.layer === "similarity" ? store.similarity_strides : store.strides;
    const level = strides.indexOf(pane.stride);
    const notes = [];
    if (pane.stride > 1) notes.push(`every ${pane.stride}th row and column is shown: zoom in for all`);
    if (state.layer === "similarity" && store.similarity_dates[level] < store.dates.length) {
      notes.push(`over ${store.similarity_dates[level]} dates at most`);
    }
    const text = (complete ? "" : "reading … ") + notes.join("; ");
    if (budget.textContent !== text) budget.textContent = text;
  }

  showChips() {
    const count = Math.min(LINE_COLOURS.length, this.store.dimensions);
    this.part("chips").replaceChildren(...LINE_COLOURS.slice(0, count).map((colour, dimension) => {
      const chip = make("button", { type: "button", "aria-pressed": String(this.shown.has(dimension)) },
        make("i", { class: "swatch", style: `background:${colour}` }), `dimension ${dimension + 1}`);
      chip.addEventListener("click", () => {
        if (!this.shown.delete(dimension)) this.shown.add(dimension);
        chip.setAttribute("aria-pressed", String(this.shown.has(dimension)));
        this.showSeries();
      });
      return chip;
    }));
  }

  showSeries() {
    if (!this.series || !this.state.pixel) return;
    const { store, series, state } = this;
    const shown = [...this.shown].filter((dimension) => dimension < store.dimensions).sort((one, other) => one - other);
    const usable = series.values.filter((vector) => vector[0] !== null).length;
    this.part("series").replaceChildren(seriesChart({
      times: store.dates.map((date) => Date.parse(`${date}Z`)),
      values: series.values,
      halfWidth: series.half_width,
      quality: series.quality,
      colours: Object.fromEntries(store.quality.map((flag) => [flag.name, flag.colour])),
      shown,
      date: state.date,
      label: `Embedding of the pixel over time with its 68 % interval, on ${usable} of ${store.dates.length} dates. ` +
        "The table below holds the numbers.",
      chosen: (date) => this.chooseDate(date),
    }));
    this.part("numbers").replaceChildren(this.seriesTable(shown));
  }

  seriesTable(shown) {
    const { store, series } = this;
    const heads = (names) => names.map((name) => make("th", { scope: "col" }, name));
    const value = (number, width) => (number === null ? "" : `${number.toFixed(3)} ± ${(width || 0).toFixed(3)}`);
    const gaps = Object.keys(series.gaps);
    const cells = (index) => [
      this.qualityLabel(series.quality[index]),
      ...shown.map((each) => value(series.values[index][each], series.half_width[index][each])),
      String(series.context_dates[index]),
      ...gaps.map((name) => (series.gaps[name][index] === null ? "" : series.gaps[name][index].toFixed(1))),
    ];
    return make("table", {},
      make("thead", {}, make("tr", {}, ...heads(["date", "quality", ...shown.map((each) => `dimension ${each + 1}`),
        "context dates", ...gaps.map((name) => `days to ${name}`)]))),
      make("tbody", {}, ...store.dates.map((date, index) => make("tr", {},
        make("th", { scope: "row" }, date.slice(0, 10)), ...cells(index).map((cell) => make("td", {}, cell))))));
  }

  async showDecoded() {
    const { pixel, date } = this.state;
    if (!pixel || !this.series) return;
    this.part("decoded-title").textContent = `Decoded from the embedding, ${this.day(date)}`;
    const isCurrent = () => this.state.pixel === pixel && this.state.date === date;
    const output = this.part("decoded");
    try {
      const found = await fetchJson("decode", { store: this.store.name, ...pixel, date });
      if (!isCurrent()) return;
      output.replaceChildren(
        ...found.sensors.map((sensor) => make("div", { class: "decoded" }, `${sensor.title}, ${sensor.units}`, bandsChart(sensor))),
        make("p", { class: "note" }, "Bars: 90 % intervals from the uncertainty of the embedding. They do not " +
          "hold the error of the decoder."));
    } catch (error) {
      if (isCurrent()) output.replaceChildren(make("p", { class: "note" }, error.message));
    }
  }

  async requestCounterfactual() {
    const { pixel, date } = this.state;
    const answer = this.part("answer");
    answer.replaceChildren("searching the minimal perturbation …");
    try {
      const found = await fetchJson("whatif", {}, {
        method: "POST",
        headers: { "Content-Type": "application/json" },
        body: JSON.stringify({ store: this.store.name, ...pixel, date, target: this.part("target").value }),
      });
      if (this.state.pixel !== pixel) return;
      const figure = make("img", { src: found.figure, alt: `Before and after: ${found.text}` });
      answer.replaceChildren(make("p", {}, found.text), figure);
    } catch (error) {
      if (this.state.pixel === pixel) answer.replaceChildren(make("p", { class: "note" }, error.message));
    }
  }

  // Show the coordinates of a point under the cursor, or of the middle of a map that keys move.
  showCursor(point) {
    if (!this.store) return;
    this.part("cursor").textContent = point ? coordinatesText(this.store, point) : "Coordinates are shown under the cursor.";
  }

  click(point) {
    if (!this.panel.click(point)) this.choosePixel({ row: Math.floor(point.y), column: Math.floor(point.x) });
  }

  // Enable the layer of a map that was made, or leave it where the map is gone.
  showMapLayer(isNew) {
    const { result } = this.panel;
    this.part("map-layer").disabled = !result;
    if (!this.store) return;
    if (result && (isNew || this.wantsMap)) this.chooseLayer("map");
    else if (!result && this.state.layer === "map") this.chooseLayer("components");
    if (result) this.wantsMap = false;
  }

  async savePicture(side) {
    const { store, state } = this;
    const isLeft = side === "left";
    const layer = isLeft ? "preview" : state.layer;
    const legends = {
      similarity: [{ label: "0" }, { label: "1 (similar)", colours: ["#440154", "#3b528b", "#21918c", "#5ec962", "#fde725"] }],
      quality: store.quality.map(({ label, colour }) => ({ label, colours: [colour] })),
      map: this.panel.result ? this.panel.result.classes.map(({ name, colour }) => ({ label: name, colours: [colour] })) : [],
    };
    const dated = layer === "similarity" || layer === "map" ? [] : [this.day(state.date)];
    const title = [this.part(`${side}-caption`).textContent, ...dated].join(", ");
    const source = `${store.title}, ${store.reference_system}`;
    await this.attempt(async () => saveFile(await mapPicture(this.part(side), title, legends[layer] || [], source),
      [fileStem(store.name), layer, ...dated].join("-") + ".png"));
  }

  saveState() {
    if (!this.store) return;
    clearTimeout(this.writing);
    this.writing = setTimeout(() => {
      if (this.store) writeAddress(this.store, this.state, this.maps.view);
    }, DEBOUNCE_MS);
  }
}

new Viewer(element, props.value).start();
