// Panel of labels and maps: classes and tools, files of labels, the map that is made from labels, and its scores.

const POLL_MS = 700;
const MAP_KEY = "thalweg-map:";
const TOOL_HINTS = {
  pixel: "A click chooses a pixel.",
  point: "A click labels a pixel with the chosen class.",
  polygon: "Each click is a corner; close the polygon by a double click or at its first corner. Escape drops it.",
  delete: "A click deletes the label under it.",
};

class MapPanel {
  // callbacks: mapped(isNew), which is called where a map appears or goes
  constructor(viewer, callbacks) {
    Object.assign(this, { viewer, callbacks, store: null, making: null, map: null, result: null, upload: null });
    this.part = (name) => viewer.part(name);
    this.set = new LabelSet(() => this.show());
    this.tools = new LabelTools(this.set, viewer.maps, () => this.show());
    this.listen();
  }

  listen() {
    const on = (name, event, act) => this.part(name).addEventListener(event, act);
    on("panel-button", "click", () => this.open(this.part("panel").hidden));
    on("new-class", "submit", (event) => {
      event.preventDefault();
      this.addClass();
    });
    for (const button of this.viewer.root.querySelectorAll("[data-tool]")) {
      button.addEventListener("click", () => this.tools.choose(button.dataset.tool));
    }
    on("undo", "click", () => this.tools.undo());
    on("close-polygon", "click", () => this.tools.close());
    on("show-labels", "change", () => {
      this.tools.isShown = this.part("show-labels").checked;
      this.viewer.maps.redraw();
    });
    on("clear-labels", "click", () => this.set.change(() => Object.assign(this.set, { classes: [], labels: [] })));
    on("load", "change", () => this.attempt(() => this.sendFile()));
    on("load-again", "submit", (event) => {
      event.preventDefault();
      this.attempt(() => this.readFile());
    });
    on("layer", "change", () => {
      this.part("column").replaceChildren();
      this.attempt(() => this.readFile());
    });
    on("load-cancel", "click", () => this.closeFile());
    on("save", "click", () => this.attempt(() => this.saveLabels()));
    on("make", "click", () => this.attempt(() => this.make()));
    on("stop", "click", () => {
      this.part("stop").disabled = true;
      this.attempt(() => postJson("map/stop", { map: this.making }));
    });
    for (const button of this.viewer.root.querySelectorAll("[data-file]")) {
      button.addEventListener("click", () => this.attempt(
        () => saveAnswer("map/file", { map: this.map, kind: button.dataset.file })));
    }
  }

  tell(text, isError = false) {
    const status = this.part("map-status");
    status.textContent = text;
    status.classList.toggle("error", isError);
  }

  async attempt(requests) {
    const { store } = this;
    this.tell("");
    try {
      await requests();
    } catch (error) {
      if (store === this.store) this.tell(error.message, true);
    }
  }

  open(isOpen) {
    this.part("panel").hidden = !isOpen;
    this.part("panel-button").setAttribute("aria-expanded", String(isOpen));
    this.viewer.root.querySelector(".sheets").classList.toggle("with-panel", isOpen);
    if (!isOpen) this.tools.choose("pixel");
    this.viewer.maps.redraw();
  }

  openStore(store) {
    this.store = store;
    this.closeFile();
    this.tell("");
    this.tools.chosen = 0;
    this.tools.choose("pixel");
    this.setMap(null, null);
    this.showMaking(null);
    this.set.open(store);
    if (this.set.labels.length) this.open(true);
    const kept = sessionStorage.getItem(MAP_KEY + store.name);
    if (kept) this.watch(kept, true);
  }

  close() {
    this.store = this.making = null;
    this.setMap(null, null);
    this.set.clear();
  }

  // Use a click in the maps for a label, and return whether it was used.
  click(point) {
    if (this.tools.tool === "pixel") return false;
    let isUsed = true;
    this.attempt(async () => { isUsed = this.tools.click(point); });
    return isUsed;
  }

  addClass() {
    const field = this.part("class-name");
    const name = field.value.trim().split(/\s+/).join(" ");
    if (!name || !this.store) return;
    this.set.change(() => { this.tools.chosen = this.set.indexOf(name); });
    field.value = "";
    if (this.tools.tool === "pixel" || this.tools.tool === "delete") this.tools.choose("point");
  }

  show() {
    const { set, tools } = this;
    if (!set.store) return;
    tools.chosen = Math.max(0, Math.min(tools.chosen, set.classes.length - 1));
    this.part("classes").replaceChildren(...set.classes.map((each, index) => this.classRow(each, index)));
    for (const button of this.viewer.root.querySelectorAll("[data-tool]")) {
      button.setAttribute("aria-pressed", String(button.dataset.tool === tools.tool));
    }
    this.part("tool-hint").textContent = TOOL_HINTS[tools.tool];
    this.part("close-polygon").hidden = tools.corners.length < 3;
    this.part("undo").disabled = !set.past.length && !tools.corners.length;
    this.part("clear-labels").disabled = !set.classes.length;
    this.part("save").disabled = this.part("make").disabled = !set.labels.length;
    this.part("total").textContent = `${set.labels.length} label${set.labels.length === 1 ? "" : "s"}`;
    this.viewer.maps.redraw();
  }

  classRow({ name, colour }, index) {
    const radio = make("input", { type: "radio", name: "thalweg-earth-class", value: name });
    radio.checked = index === this.tools.chosen;
    radio.addEventListener("change", () => {
      this.tools.chosen = index;
      if (this.tools.tool === "pixel" || this.tools.tool === "delete") this.tools.choose("point");
    });
    const remove = make("button", { type: "button", class: "quiet", "aria-label": `Delete class ${name} with its labels`,
      title: "Delete the class with its labels" }, "×");
    remove.addEventListener("click", () => this.set.removeClass(index));
    return make("li", {}, make("label", {}, radio, make("i", { class: "swatch", style: `background:${colour}` }),
      make("span", { class: "class-name" }, name)), make("span", { class: "count" }, this.set.counts(index)), remove);
  }

  async saveLabels() {
    await saveAnswer("labels/geopackage", {}, {
      method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(this.set.request()) });
  }

  async sendFile() {
    const field = this.part("load");
    const [file] = field.files;
    if (!file || !this.store) return;
    this.closeFile();
    this.tell(`reading ${file.name} …`);
    const form = new FormData();
    form.append("files", file, file.name);
    field.value = "";
    const [name] = await fetchJson("upload", {}, { method: "POST", body: form });
    this.upload = { name, file: file.name };
    this.part("load-name").textContent = file.name;
    this.part("load-again").hidden = false;
    await this.readFile();
  }

  closeFile() {
    this.upload = null;
    for (const name of ["load-again", "layer-field", "column-field", "crs-field"]) this.part(name).hidden = true;
    this.part("layer").replaceChildren();
    this.part("column").replaceChildren();
    this.part("crs").value = "";
  }

  // Read the uploaded file: first its layers and columns to choose from, then its labels.
  async readFile() {
    const { upload, store } = this;
    const ask = (column) => postJson("labels/file", { store: store.name, upload: upload.name, column,
      layer: this.part("layer").value || null, crs: this.part("crs").value.trim() || null });
    const options = (name, values) => {
      this.part(`${name}-field`).hidden = false;
      this.part(name).replaceChildren(...values);
    };
    let found;
    try {
      found = await ask(this.part("column").value || null);
      if (found.layers) {
        options("layer", found.layers.map((name) => make("option", { value: name }, name)));
        found = await ask(null);
      }
      if (found.columns && found.columns.length === 1) found = await ask(found.columns[0].name);
    } catch (error) {
      this.part("crs-field").hidden = !error.message.includes("reference system");
      throw error;
    }
    if (this.upload !== upload) return;
    if (found.columns) {
      options("column", found.columns.map(({ name, values, examples }) => make("option", { value: name },
        `${name}: ${values} value${values === 1 ? "" : "s"}${values ? ` (${examples.join(", ").slice(0, 40)})` : ""}`)));
      const [likely] = [...found.columns].sort((one, other) => (one.values < 2) - (other.values < 2) || one.values - other.values);
      this.part("column").value = likely.name;
      this.tell(`${found.features} features: choose the column of the classes`);
      return;
    }
    this.closeFile();
    this.set.load(found);
    const count = found.labels.length;
    this.tell([`${count} label${count === 1 ? "" : "s"} loaded`, ...found.notes].join("; "));
  }

  async make() {
    const features = this.part("features").value;
    const { map } = await postJson("map", { ...this.set.request(), features, date: this.viewer.state.date });
    await this.watch(map, false);
  }

  // Follow a map until it is done; until then an earlier one stays. One from before a reload may be gone, which is no error.
  async watch(map, isKept) {
    const { store } = this;
    const isCurrent = () => this.store === store && this.making === map;
    this.showMaking(map);
    try {
      const result = await this.resultOf(map, isCurrent);
      if (!isCurrent()) return;
      this.tell("");
      this.setMap(map, result, !isKept);
      if (!isKept) this.part("results").scrollIntoView({ block: "nearest" });
    } catch (error) {
      if (isCurrent() && !isKept) this.tell(error.message, true);
    } finally {
      if (isCurrent()) this.showMaking(null);
    }
  }

  async resultOf(map, isCurrent) {
    const began = performance.now();
    while (isCurrent()) {
      const found = await fetchJson("map", { map });
      if (found.result) return found.result;
      if (found.status === "failed") throw new Error(found.reason);
      if (found.status === "stopped") throw new Error("stopped");
      const seconds = Math.round((performance.now() - began) / 1000);
      const stopping = this.part("stop").disabled ? "stopping after this step: " : "";
      const doing = found.progress ? `mapping, ${Math.round(100 * found.progress)} %` : "learning and testing on unseen blocks";
      const state = found.status === "waiting" ? `waiting for ${found.ahead} map(s) of others` : `${doing}, ${seconds} s`;
      if (isCurrent()) this.tell(stopping + state);
      await new Promise((done) => setTimeout(done, POLL_MS));
    }
    return null;
  }

  // Show whether a map is being made; the browser tab keeps its name, or that of the map that is shown.
  showMaking(map) {
    this.making = map;
    this.part("make").hidden = Boolean(map);
    this.part("stop").hidden = !map;
    this.part("stop").disabled = false;
    if (map || this.map) sessionStorage.setItem(MAP_KEY + this.store.name, map || this.map);
  }

  setMap(map, result, isNew = false) {
    this.map = map;
    this.result = result;
    this.part("results").hidden = !result;
    if (result) this.showResult();
    this.callbacks.mapped(isNew);
  }

  showResult() {
    const { result } = this;
    const percent = (share) => `${(100 * share).toFixed(share > 0.995 || share < 0.005 ? 1 : 0)}\u00a0%`;
    const score = (value) => (value === null ? "" : value.toFixed(2));
    const hectares = (value) => (value === null ? "" : value.toLocaleString("en", { maximumFractionDigits: value < 100 ? 1 : 0 }));
    const single = result.single;
    this.part("map-title").textContent = `Map of ${result.classes.length} classes: macro F1 ${score(result.macro_f1)}`;
    const sentences = [
      `${percent(result.correct)} of ${result.labelled_pixels} labelled pixels are right, each predicted by a model that did ` +
        `not see its block (${result.blocks.count} blocks of ${result.blocks.side} px).`,
      (single > 0.9995 ? "All of the map has one plausible class at 90\u00a0%" :
        `${percent(single)} of the map has one plausible class at 90\u00a0%, the rest several`) +
        `; with the threshold of other blocks the sets hold ${percent(result.coverage)} of the labels.`,
      `${percent(result.beyond[0].share)} of the map lies farther from the labelled pixels than ${percent(result.beyond[0].level)} ` +
        "of these lie from each other's blocks: there the map extrapolates.",
      `Learner: ${result.learner}. Features: ${result.features}.`,
    ];
    this.part("map-summary").replaceChildren(...sentences.map((sentence) => make("p", {}, sentence)));
    const notes = [result.blocks.reason, ...result.notes];
    if (result.polygons === null) notes.push("The map has too many polygons for its GeoPackage, which holds the labels alone.");
    this.part("map-notes").replaceChildren(...notes.map((note) => make("li", {}, note)));
    const heads = ["class", "F1", "recall", "precision", "labelled px", "on the map, ha", "area, ha", "90 % interval"];
    this.part("map-scores").replaceChildren(make("table", {},
      make("thead", {}, make("tr", {}, ...heads.map((head) => make("th", { scope: "col" }, head)))),
      make("tbody", {}, ...result.classes.map((each) => make("tr", {},
        make("th", { scope: "row" }, make("i", { class: "swatch", style: `background:${each.colour}` }), ` ${each.name}`),
        ...[score(each.f1), score(each.recall), score(each.precision), String(each.pixels), hectares(each.mapped),
          hectares(each.area), `${hectares(each.low)} to ${hectares(each.high)}`].map((cell) => make("td", {}, cell)))))));
    this.part("curve").replaceChildren(curveChart(result.curve));
  }
}
