// Charts in SVG: the series of a pixel, the decoded bands of a sensor, the clear fractions of the dates.

const LINE_COLOURS = ["#2583c4", "#d55e00", "#0e9a74", "#c0609a", "#a07a10", "#6f8fd8", "#8a6fd6"];
const DAY = 24 * 3600 * 1000;

function ticksBetween(low, high, count) {
  const rough = (high - low) / count;
  const unit = 10 ** Math.floor(Math.log10(rough));
  const step = unit * [1, 2, 5, 10].find((factor) => factor * unit >= rough);
  const ticks = [];
  for (let tick = Math.ceil(low / step) * step; tick <= high + step * 1e-9; tick += step) ticks.push(tick);
  return { ticks, digits: Math.max(0, -Math.floor(Math.log10(step) + 1e-9)) };
}

function axisOfValues(svg, low, high, box) {
  const toY = (value) => box.bottom - ((value - low) / (high - low)) * (box.bottom - box.top);
  const { ticks, digits } = ticksBetween(low, high, 4);
  for (const tick of ticks) {
    svg.append(
      makeSvg("line", { x1: box.left, x2: box.right, y1: toY(tick), y2: toY(tick), class: "axis", "stroke-width": 0.6 }),
      makeSvg("text", { x: box.left - 6, y: toY(tick) + 4, "text-anchor": "end" }, tick.toFixed(digits)),
    );
  }
  return toY;
}

function yearTicks(times) {
  const [first, last] = [new Date(times[0]), new Date(times[times.length - 1])];
  const months = (last - first) / DAY / 30.4;
  const step = [1, 2, 3, 6, 12, 24, 60].find((count) => months / count <= 9) || 120;
  const ticks = [];
  for (let month = first.getUTCMonth() - (first.getUTCMonth() % Math.min(step, 12)); ; month += step) {
    const tick = Date.UTC(first.getUTCFullYear(), month, 1);
    if (tick > last) return ticks;
    if (tick >= first) ticks.push(tick);
  }
}

// times: in ms; values, halfWidth, quality: by date; shown: indices of the dimensions that are drawn; date: index of the
// marked date; chosen: callback with the index of the clicked date.
function seriesChart({ times, values, halfWidth, quality, colours, shown, date, label, chosen }) {
  const box = { left: 44, right: 752, top: 8, bottom: 232 };
  const usable = times.map((_, index) => index).filter((index) => values[index][0] !== null);
  const svg = makeSvg("svg", { viewBox: "0 0 760 278", width: "100%", role: "img", "aria-label": label });
  const span = Math.max(times[times.length - 1] - times[0], DAY);
  const toX = (time) => box.left + ((time - times[0]) / span) * (box.right - box.left);
  const extremes = usable.flatMap((index) => shown.flatMap((value) => [
    values[index][value] - (halfWidth[index][value] || 0), values[index][value] + (halfWidth[index][value] || 0)]));
  const [minimum, maximum] = extremes.length ? [Math.min(...extremes), Math.max(...extremes)] : [-1, 1];
  const margin = (maximum - minimum || 1) * 0.05;
  const toY = axisOfValues(svg, minimum - margin, maximum + margin, box);
  for (const tick of yearTicks(times)) {
    svg.append(
      makeSvg("line", { x1: toX(tick), x2: toX(tick), y1: box.bottom, y2: box.bottom + 4, class: "axis" }),
      makeSvg("text", { x: toX(tick), y: 272, "text-anchor": "middle" }, new Date(tick).toISOString().slice(0, 7)),
    );
  }
  for (const value of shown) {
    const colour = LINE_COLOURS[value % LINE_COLOURS.length];
    const point = (index, offset) => `${toX(times[index])},${toY(values[index][value] + offset)}`;
    const upper = usable.map((index) => point(index, halfWidth[index][value] || 0));
    const lower = usable.map((index) => point(index, -(halfWidth[index][value] || 0))).reverse();
    svg.append(
      makeSvg("polygon", { points: [...upper, ...lower].join(" "), fill: colour, "fill-opacity": 0.28, class: "interval" }),
      makeSvg("polyline", { points: usable.map((index) => point(index, 0)).join(" "), fill: "none", stroke: colour,
        "stroke-width": 1.8, class: "value" }),
      ...usable.map((index) => makeSvg("circle", { cx: toX(times[index]), cy: toY(values[index][value]), r: 2, fill: colour })),
    );
  }
  times.forEach((time, index) => svg.append(makeSvg("rect", {
    x: toX(time) - 2, y: box.bottom + 8, width: 4, height: 12, fill: colours[quality[index]] || "#888" })));
  svg.append(makeSvg("line", { x1: toX(times[date]), x2: toX(times[date]), y1: box.top, y2: box.bottom + 24, class: "now" }));
  svg.addEventListener("click", (event) => {
    const bounds = svg.getBoundingClientRect();
    const time = times[0] + ((((event.clientX - bounds.left) / bounds.width) * 760 - box.left) / (box.right - box.left)) * span;
    chosen(times.reduce((best, each, index) => (Math.abs(each - time) < Math.abs(times[best] - time) ? index : best), 0));
  });
  return svg;
}

function bandsChart(sensor) {
  const box = { left: 48, right: 432, top: 8, bottom: 130 };
  const description = sensor.bands
    .map((band) => `${band.name} ${band.value.toFixed(3)}, ${band.low.toFixed(3)} to ${band.high.toFixed(3)}`).join("; ");
  const svg = makeSvg("svg", { viewBox: "0 0 440 152", width: "100%", role: "img",
    "aria-label": `${sensor.title}, ${sensor.units}: ${description}` });
  const extremes = sensor.bands.flatMap((band) => [band.low, band.high, band.value]);
  const minimum = sensor.units === "reflectance" ? Math.min(0, ...extremes) : Math.min(...extremes);
  const margin = (Math.max(...extremes) - minimum || 1) * 0.08;
  const toY = axisOfValues(svg, minimum - (minimum < 0 ? margin : 0), Math.max(...extremes) + margin, box);
  const slot = (box.right - box.left) / sensor.bands.length;
  sensor.bands.forEach((band, index) => {
    const middle = box.left + (index + 0.5) * slot;
    const colour = LINE_COLOURS[0];
    svg.append(
      makeSvg("line", { x1: middle, x2: middle, y1: toY(band.low), y2: toY(band.high), stroke: colour, "stroke-width": 12,
        "stroke-opacity": 0.5, class: "interval" }),
      makeSvg("rect", { x: middle - 10, width: 20, y: toY(band.value) - 1, height: 2, fill: colour },
        makeSvg("title", {}, `${band.name}: ${band.value.toFixed(3)} (${band.low.toFixed(3)} to ${band.high.toFixed(3)})`)),
      makeSvg("text", { x: middle, y: 147, "text-anchor": "middle" }, band.name),
    );
  });
  return svg;
}

function clearBars(fractions, date) {
  const width = 1000 / fractions.length;
  const svg = makeSvg("svg", { viewBox: "0 0 1000 30", preserveAspectRatio: "none" });
  fractions.forEach((fraction, index) => svg.append(makeSvg("rect", {
    x: index * width + width * 0.15, width: width * 0.7, y: 30 - 29 * fraction, height: 1 + 29 * fraction,
    fill: index === date ? "#d55e00" : "#4a9156" })));
  return svg;
}

// curve: share of the training blocks, mean number of training pixels, and score of each step.
function curveChart(curve) {
  const known = curve.filter((step) => step.score !== null);
  const box = { left: 44, right: 424, top: 12, bottom: 168 };
  const text = known.map((step) => `${step.pixels.toFixed(0)} pixels ${step.score.toFixed(2)}`).join(", ");
  const svg = makeSvg("svg", { viewBox: "0 0 440 212", width: "100%", role: "img", "aria-label": `Macro F1 by training pixels: ${text}` });
  const low = Math.max(0, Math.min(...known.map((step) => step.score)) - 0.1);
  const toY = axisOfValues(svg, low, Math.max(low + 0.1, Math.min(1, Math.max(...known.map((step) => step.score)) + 0.1)), box);
  const most = Math.max(...known.map((step) => step.pixels));
  const toX = (pixels) => box.left + 14 + (pixels / most) * (box.right - box.left - 28);
  const colour = LINE_COLOURS[2];
  const points = known.map((step) => `${toX(step.pixels)},${toY(step.score)}`).join(" ");
  svg.append(makeSvg("polyline", { points, fill: "none", stroke: colour, "stroke-width": 2, class: "value" }));
  for (const step of known) {
    const x = toX(step.pixels);
    svg.append(
      makeSvg("circle", { cx: x, cy: toY(step.score), r: 4, fill: colour }),
      makeSvg("text", { x, y: toY(step.score) - 9, "text-anchor": "middle" }, step.score.toFixed(2)),
      makeSvg("line", { x1: x, x2: x, y1: box.bottom, y2: box.bottom + 4, class: "axis" }),
      makeSvg("text", { x, y: box.bottom + 18, "text-anchor": "middle" }, step.pixels.toFixed(0)),
    );
  }
  svg.append(makeSvg("text", { x: (box.left + box.right) / 2, y: 206, "text-anchor": "middle" }, "training pixels"));
  return svg;
}
