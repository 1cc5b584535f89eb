// The page's state, kept in its address after the #: a reload loses nothing and nobody sees another's.

const QUIET_MS = 90;

class Viewer {
  constructor(root, folder) {
    this.root = root;
    this.folder = folder;
    this.state = { layer: "components", date: 0, pixel: null };
    this.shown = new Set([0, 1, 2]);
    this.turn = 0;
    this.maps = new LinkedMaps([
      { canvas: this.part("left"), layer: () => this.layer("picture") },
      { canvas: this.part("right"), layer: () => this.layer(this.state.layer) },
    ], {
      picked: (pixel) => this.choosePixel(pixel),
      moved: () => this.remember(),
      drawn: (pane, complete) => this.drawn(pane, complete),
      failed: (error) => this.say(error.message, true),
    });
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
      this.askWhatIf();
    });
    for (const radio of this.root.querySelectorAll('input[type="radio"]')) {
      radio.addEventListener("change", () => this.chooseLayer(radio.value));
    }
  }

  say(words, wrong = false) {
    const status = this.part("status");
    status.textContent = words;
    status.classList.toggle("wrong", wrong);
  }

  // Run something that asks the server; what goes wrong is said in one line, unless the person has moved on.
  async attempt(act) {
    const turn = this.turn;
    try {
      await act(() => turn === this.turn);
    } catch (error) {
      if (turn === this.turn) this.say(error.message, true);
    }
  }

  async start() {
    await this.attempt(async () => {
      const names = await ask("stores");
      const asked = this.remembered().store;
      const select = this.part("store");
      select.replaceChildren(...names.map((name) => make("option", { value: name }, name)));
      if (!names.length && !asked) {
        this.say(`no embedding store in ${this.folder} yet: write one there with thalweg earth embed, then reload`);
        return;
      }
      const name = asked || names[0];
      if (names.includes(name)) select.value = name;
      else select.prepend(make("option", { value: name, selected: "" }, name));
      await this.open(name, this.remembered());
    });
  }

  async open(name, before = {}) {
    this.turn += 1;
    this.scene = null;
    this.clear = null;
    this.maps.outdate();
    for (const part of ["maps", "dates", "hint", "pixel"]) this.part(part).hidden = true;
    this.part("legend").replaceChildren();
    this.say(`opening ${name} …`);
    await this.attempt(async (current) => {
      const scene = await ask("store", { store: name });
      if (!current()) return;
      const day = scene.dates.indexOf(before.date);
      const clear = ask("clear", { store: name });
      const shares = day < 0 ? await clear : null;
      if (!current()) return;
      this.scene = scene;
      this.clear = shares;
      this.state.date = day < 0 ? shares.indexOf(Math.max(...shares)) : day;
      this.state.pixel = null;
      this.part("maps").hidden = this.part("dates").hidden = this.part("hint").hidden = false;
      this.part("date").max = scene.dates.length - 1;
      this.maps.open(scene, before.view);
      this.say(`${scene.title}: ${scene.rows} x ${scene.columns} pixels of ${scene.resolution} m, ` +
        `${scene.dates.length} dates, ${scene.values} values, ${scene.reference_system}`);
      this.chooseLayer(before.layer || this.state.layer);
      this.chooseDate(this.state.date);
      if (before.pixel) await this.choosePixel(before.pixel);
      this.clear = await clear;
      if (current()) this.showDate();
    });
  }

  layer(name) {
    const { scene, state } = this;
    if (!scene) return null;
    const query = { store: scene.name, date: state.date, version: scene.version };
    if (name !== "similarity") return { name, query, key: `${scene.version}/${name}/${state.date}`, strides: scene.strides };
    if (!state.pixel) return null;
    const { row, column } = state.pixel;
    Object.assign(query, { date: 0, pixel_row: row, pixel_column: column });
    return { name, query, key: `${scene.version}/${name}/${row}/${column}`, strides: scene.similarity_strides };
  }

  chooseLayer(layer) {
    const known = [...this.root.querySelectorAll('input[type="radio"]')].find((radio) => radio.value === layer);
    if (!known) return;
    known.checked = true;
    this.state.layer = layer;
    this.showLegend();
    this.remember();
    this.maps.redraw();
  }

  chooseDate(date) {
    if (!this.scene) return;
    this.state.date = Math.min(this.scene.dates.length - 1, Math.max(0, date));
    this.showDate();
    this.remember();
    this.maps.outdate();
    clearTimeout(this.quiet);
    this.quiet = setTimeout(() => {
      this.maps.redraw();
      this.showSeries();
      this.showDecoded();
    }, QUIET_MS);
  }

  async choosePixel(pixel) {
    this.state.pixel = pixel;
    this.maps.pixel = pixel;
    this.part("answer").replaceChildren();
    this.showLegend();
    this.remember();
    this.maps.redraw();
    await this.attempt(async (current) => {
      const season = await ask("pixel", { store: this.scene.name, ...pixel });
      if (!current() || this.state.pixel !== pixel) return;
      this.season = season;
      this.part("pixel").hidden = false;
      this.part("place").textContent = `Row ${pixel.row}, column ${pixel.column} ` +
        `(${season.latitude.toFixed(5)}°, ${season.longitude.toFixed(5)}°)`;
      this.showChips();
      this.showSeries();
      await this.showDecoded();
    });
  }

  words(name) {
    const known = this.scene.quality.find((flag) => flag.name === name);
    return known ? known.words : name;
  }

  day(date) {
    return this.scene.dates[date].slice(0, 10);
  }

  showDate() {
    const { date } = this.state;
    const share = this.clear ? `, ${this.scene.sampled ? "about " : ""}${Math.round(100 * this.clear[date])} % clear` : "";
    const slider = this.part("date");
    slider.value = date;
    slider.setAttribute("aria-valuetext", this.day(date) + share);
    this.part("date-label").textContent = this.day(date) + share;
    this.part("earlier").disabled = date === 0;
    this.part("later").disabled = date === this.scene.dates.length - 1;
    if (this.clear) this.part("clear").replaceChildren(clearBars(this.clear, date));
    this.part("left").setAttribute("aria-label", `Map in true colour on ${this.day(date)}${share}`);
    this.part("right").setAttribute("aria-label", `Map of ${this.state.layer} on ${this.day(date)}`);
  }

  showLegend() {
    const { scene, state } = this;
    if (!scene) return;
    const captions = {
      components: `Embedding: first three principal components of ${scene.values} values`,
      similarity: state.pixel
        ? `Similarity of the season to row ${state.pixel.row}, column ${state.pixel.column}`
        : "Similarity: click the pixel to compare with",
      quality: "Quality flags",
    };
    this.part("left-caption").textContent = `True colour (${scene.picture_bands.join(", ")})`;
    this.part("right-caption").textContent = captions[state.layer];
    const entry = (swatch, words) => make("span", {}, swatch, words);
    const unseen = entry(make("i", { class: "swatch unseen" }), "not seen on this date");
    const legends = {
      components: () => [entry("", "Alike colours mean alike embeddings, on all dates."), unseen],
      similarity: () => ["0: as unlike as two pixels drawn by chance, or more", make("i", { class: "swatch ramp" }), "1: the same season"],
      quality: () => scene.quality.map((flag) =>
        entry(make("i", { class: "swatch", style: `background:${flag.colour}` }), flag.words)),
    };
    this.part("legend").replaceChildren(...legends[state.layer](), make("span", { "data-part": "budget" }));
  }

  // Say what is left out where a tile shows fewer pixels than the screen could, or fewer dates than there are.
  drawn(pane, complete) {
    const budget = this.part("budget");
    if (!budget || pane.canvas !== this.part("right")) return;
    const { scene, state } = this;
    const strides = state.layer === "similarity" ? scene.similarity_strides : scene.strides;
    const level = strides.indexOf(pane.stride);
    const notes = [];
    if (pane.stride > 1) notes.push(`one pixel in ${pane.stride} each way is shown: zoom in for all`);
    if (state.layer === "similarity" && scene.similarity_dates[level] < scene.dates.length) {
      notes.push(`over ${scene.similarity_dates[level]} dates at most`);
    }
    const words = (complete ? "" : "reading … ") + notes.join("; ");
    if (budget.textContent !== words) budget.textContent = words;
  }

  showChips() {
    const count = Math.min(LINE_COLOURS.length, this.scene.values);
    this.part("chips").replaceChildren(...LINE_COLOURS.slice(0, count).map((colour, value) => {
      const chip = make("button", { type: "button", "aria-pressed": String(this.shown.has(value)) },
        make("i", { class: "swatch", style: `background:${colour}` }), `value ${value + 1}`);
      chip.addEventListener("click", () => {
        if (!this.shown.delete(value)) this.shown.add(value);
        chip.setAttribute("aria-pressed", String(this.shown.has(value)));
        this.showSeries();
      });
      return chip;
    }));
  }

  showSeries() {
    if (!this.season || !this.state.pixel) return;
    const { scene, season, state } = this;
    const shown = [...this.shown].filter((value) => value < scene.values).sort((one, other) => one - other);
    const seen = season.values.filter((vector) => vector[0] !== null).length;
    this.part("series").replaceChildren(seriesChart({
      times: scene.dates.map((date) => Date.parse(`${date}Z`)),
      values: season.values,
      halfWidth: season.half_width,
      quality: season.quality,
      colours: Object.fromEntries(scene.quality.map((flag) => [flag.name, flag.colour])),
      shown,
      date: state.date,
      label: `Embedding of the pixel over time with its 68 % interval: seen on ${seen} of ${scene.dates.length} dates. ` +
        "The table below holds the numbers.",
      chosen: (date) => this.chooseDate(date),
    }));
    this.part("numbers").replaceChildren(this.seriesTable(shown));
  }

  seriesTable(shown) {
    const { scene, season } = this;
    const heads = (names) => names.map((name) => make("th", { scope: "col" }, name));
    const value = (number, width) => (number === null ? "" : `${number.toFixed(3)} ± ${(width || 0).toFixed(3)}`);
    const gaps = Object.keys(season.gaps);
    const cells = (index) => [
      this.words(season.quality[index]),
      ...shown.map((each) => value(season.values[index][each], season.half_width[index][each])),
      String(season.context_dates[index]),
      ...gaps.map((name) => (season.gaps[name][index] === null ? "" : season.gaps[name][index].toFixed(1))),
    ];
    return make("table", {},
      make("thead", {}, make("tr", {}, ...heads(["date", "seen", ...shown.map((each) => `value ${each + 1}`),
        "context dates", ...gaps.map((name) => `days to ${name}`)]))),
      make("tbody", {}, ...scene.dates.map((date, index) => make("tr", {},
        make("th", { scope: "row" }, date.slice(0, 10)), ...cells(index).map((cell) => make("td", {}, cell))))));
  }

  async showDecoded() {
    const { pixel, date } = this.state;
    if (!pixel || !this.season) return;
    this.part("decoded-title").textContent = `Decoded from the embedding, ${this.day(date)}`;
    const still = () => this.state.pixel === pixel && this.state.date === date;
    const place = this.part("decoded");
    try {
      const found = await ask("decode", { store: this.scene.name, ...pixel, date });
      if (!still()) return;
      place.replaceChildren(
        ...found.sensors.map((sensor) => make("div", { class: "decoded" }, `${sensor.title}, ${sensor.units}`, bandsChart(sensor))),
        make("p", { class: "note" }, "Bars: 90 % intervals from the embedding's own uncertainty. The decoder's " +
          "own error is not in them."));
    } catch (error) {
      if (still()) place.replaceChildren(make("p", { class: "note" }, error.message));
    }
  }

  async askWhatIf() {
    const { pixel, date } = this.state;
    const answer = this.part("answer");
    answer.replaceChildren("looking for the change …");
    try {
      const found = await ask("whatif", {}, {
        method: "POST",
        headers: { "Content-Type": "application/json" },
        body: JSON.stringify({ store: this.scene.name, ...pixel, date, target: this.part("target").value }),
      });
      if (this.state.pixel !== pixel) return;
      const picture = make("img", { src: found.figure, alt: `Before and after: ${found.text}` });
      answer.replaceChildren(make("p", {}, found.text), picture);
    } catch (error) {
      if (this.state.pixel === pixel) answer.replaceChildren(make("p", { class: "note" }, error.message));
    }
  }

  remember() {
    if (!this.scene) return;
    clearTimeout(this.writing);
    this.writing = setTimeout(() => {
      const { scene, state, maps } = this;
      if (!scene) return;
      const kept = new URLSearchParams(location.hash.slice(1));
      kept.set("store", scene.name);
      kept.set("date", scene.dates[state.date]);
      kept.set("layer", state.layer);
      kept.set("view", [maps.view.x, maps.view.y, maps.view.zoom].map((value) => value.toFixed(3)).join(","));
      if (state.pixel) kept.set("pixel", `${state.pixel.row},${state.pixel.column}`);
      else kept.delete("pixel");
      history.replaceState(history.state, "", `#${kept}`);
    }, QUIET_MS);
  }

  remembered() {
    const kept = new URLSearchParams(location.hash.slice(1));
    const numbers = (name) => (kept.get(name) || "").split(",").map(Number);
    const [x, y, zoom] = numbers("view");
    const [row, column] = numbers("pixel");
    return {
      store: kept.get("store"),
      date: kept.get("date"),
      layer: kept.get("layer"),
      view: zoom > 0 && Number.isFinite(x) && Number.isFinite(y) ? { x, y, zoom } : null,
      pixel: Number.isInteger(row) && Number.isInteger(column) ? { row, column } : null,
    };
  }
}

new Viewer(element, props.value).start();
