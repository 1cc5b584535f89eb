// Map of one date with a slider over the dates; a click on a pixel draws its series. No network is used.
const COLOURS = ["#1f77b4", "#ff7f0e", "#2ca02c", "#d62728", "#9467bd", "#8c564b", "#e377c2"];
const WIDTH = 460, HEIGHT = 260, MARGIN = 30;

function element(tag, parent, properties = {}, namespace = null) {
  const made = namespace ? document.createElementNS(namespace, tag) : document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (namespace) made.setAttribute(name, value); else made[name] = value;
  }
  parent.appendChild(made);
  return made;
}

function drawSeries(model, svg) {
  svg.replaceChildren();
  const { indices = [], lines = [] } = model.get("series");
  const make = (tag, properties) => element(tag, svg, properties, "http://www.w3.org/2000/svg");
  const days = model.get("days"), times = days.map((day) => Date.parse(day));
  if (!indices.length) {
    const text = make("text", { x: 10, y: 20, "font-size": 12, fill: "currentColor" });
    text.textContent = model.get("pixel").length ? "no embedding at this pixel" : "click a pixel to see its series";
    return;
  }
  const values = lines.flat(), low = Math.min(...values), high = Math.max(...values);
  const span = times[times.length - 1] - times[0] || 1;
  const x = (index) => MARGIN + ((WIDTH - 2 * MARGIN) * (times[index] - times[0])) / span;
  const y = (value) => HEIGHT - MARGIN - ((HEIGHT - 2 * MARGIN) * (value - low)) / (high - low || 1);
  const now = x(model.get("index"));
  make("line", { x1: now, x2: now, y1: MARGIN, y2: HEIGHT - MARGIN, stroke: "#999" });
  lines.forEach((line, number) => {
    const points = line.map((value, at) => `${x(indices[at])},${y(value)}`).join(" ");
    make("polyline", { points, fill: "none", stroke: COLOURS[number], "stroke-width": 1.3 });
  });
  const label = (text, at, down) => {
    make("text", { x: at, y: down, "font-size": 11, fill: "currentColor" }).textContent = text;
  };
  label(high.toFixed(2), 0, MARGIN);
  label(low.toFixed(2), 0, HEIGHT - MARGIN);
  label(days[0], MARGIN, HEIGHT - 8);
  label(days[days.length - 1], WIDTH - 90, HEIGHT - 8);
  const [row, column] = model.get("pixel");
  label(`row ${row}, column ${column}: dimensions 1 to ${lines.length}`, MARGIN, 16);
}

function render({ model, el }) {
  element("div", el, { textContent: model.get("title") });
  const bar = element("div", el);
  const kind = element("select", bar, { ariaLabel: "map" });
  for (const name of ["preview", "components"]) element("option", kind, { value: name, textContent: name });
  const slider = element("input", bar, { type: "range", min: 0, max: model.get("days").length - 1, ariaLabel: "date" });
  const day = element("span", bar);
  const row = element("div", el);
  row.style.cssText = "display:flex;gap:12px;flex-wrap:wrap";
  const image = element("img", row, { alt: "map of the date" });
  image.style.cssText = "width:420px;image-rendering:pixelated;cursor:crosshair";
  const svg = element("svg", row, { width: WIDTH, height: HEIGHT }, "http://www.w3.org/2000/svg");

  let address = "";
  const showImage = () => {
    URL.revokeObjectURL(address);
    address = URL.createObjectURL(new Blob([model.get("image")], { type: "image/png" }));
    image.src = address;
  };
  const showState = () => {
    kind.value = model.get("kind");
    slider.value = model.get("index");
    day.textContent = ` ${model.get("days")[model.get("index")]}`;
    drawSeries(model, svg);
  };
  const set = (name, value) => { model.set(name, value); model.save_changes(); };
  kind.addEventListener("change", () => set("kind", kind.value));
  slider.addEventListener("change", () => set("index", Number(slider.value)));
  image.addEventListener("click", (event) => {
    const step = model.get("step");
    const across = Math.floor((event.offsetX / image.clientWidth) * image.naturalWidth);
    const down = Math.floor((event.offsetY / image.clientHeight) * image.naturalHeight);
    set("pixel", [down * step, across * step]);
  });
  model.on("change:image", showImage);
  for (const name of ["index", "kind", "series"]) model.on(`change:${name}`, showState);
  showImage();
  showState();
  return () => URL.revokeObjectURL(address);
}

export default { render };
