// A pixel's series and a sensor's decoded bands, as SVG.

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

function axisOfValues(paper, low, high, box) {
  const up = (value) => box.bottom - ((value - low) / (high - low)) * (box.bottom - box.top);
  const { ticks, digits } = ticksBetween(low, high, 4);
  for (const tick of ticks) {
    paper.append(
      trace("line", { x1: box.left, x2: box.right, y1: up(tick), y2: up(tick), class: "axis", "stroke-width": 0.6 }),
      trace("text", { x: box.left - 6, y: up(tick) + 4, "text-anchor": "end" }, tick.toFixed(digits)),
    );
  }
  return up;
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

// times in ms; values, halfWidth and quality by date; shown: indices of the values drawn; chosen: what a click means.
function seriesChart({ times, values, halfWidth, quality, colours, shown, date, label, chosen }) {
  const box = { left: 44, right: 752, top: 8, bottom: 232 };
  const seen = times.map((_, index) => index).filter((index) => values[index][0] !== null);
  const paper = trace("svg", { viewBox: "0 0 760 278", width: "100%", role: "img", "aria-label": label });
  const span = Math.max(times[times.length - 1] - times[0], DAY);
  const across = (time) => box.left + ((time - times[0]) / span) * (box.right - box.left);
  const ends = seen.flatMap((index) => shown.flatMap((value) => [
    values[index][value] - (halfWidth[index][value] || 0), values[index][value] + (halfWidth[index][value] || 0)]));
  const [least, most] = ends.length ? [Math.min(...ends), Math.max(...ends)] : [-1, 1];
  const room = (most - least || 1) * 0.05;
  const up = axisOfValues(paper, least - room, most + room, box);
  for (const tick of yearTicks(times)) {
    paper.append(
      trace("line", { x1: across(tick), x2: across(tick), y1: box.bottom, y2: box.bottom + 4, class: "axis" }),
      trace("text", { x: across(tick), y: 272, "text-anchor": "middle" }, new Date(tick).toISOString().slice(0, 7)),
    );
  }
  for (const value of shown) {
    const colour = LINE_COLOURS[value % LINE_COLOURS.length];
    const point = (index, offset) => `${across(times[index])},${up(values[index][value] + offset)}`;
    const upper = seen.map((index) => point(index, halfWidth[index][value] || 0));
    const lower = seen.map((index) => point(index, -(halfWidth[index][value] || 0))).reverse();
    paper.append(
      trace("polygon", { points: [...upper, ...lower].join(" "), fill: colour, "fill-opacity": 0.28, class: "interval" }),
      trace("polyline", { points: seen.map((index) => point(index, 0)).join(" "), fill: "none", stroke: colour,
        "stroke-width": 1.8, class: "value" }),
      ...seen.map((index) => trace("circle", { cx: across(times[index]), cy: up(values[index][value]), r: 2, fill: colour })),
    );
  }
  times.forEach((time, index) => paper.append(trace("rect", {
    x: across(time) - 2, y: box.bottom + 8, width: 4, height: 12, fill: colours[quality[index]] || "#888" })));
  paper.append(trace("line", { x1: across(times[date]), x2: across(times[date]), y1: box.top, y2: box.bottom + 24, class: "now" }));
  paper.addEventListener("click", (event) => {
    const scale = paper.getBoundingClientRect();
    const time = times[0] + ((((event.clientX - scale.left) / scale.width) * 760 - box.left) / (box.right - box.left)) * span;
    chosen(times.reduce((best, each, index) => (Math.abs(each - time) < Math.abs(times[best] - time) ? index : best), 0));
  });
  return paper;
}

function bandsChart(sensor) {
  const box = { left: 48, right: 432, top: 8, bottom: 130 };
  const spoken = sensor.bands
    .map((band) => `${band.name} ${band.value.toFixed(3)}, ${band.low.toFixed(3)} to ${band.high.toFixed(3)}`).join("; ");
  const paper = trace("svg", { viewBox: "0 0 440 152", width: "100%", role: "img",
    "aria-label": `${sensor.title}, ${sensor.units}: ${spoken}` });
  const ends = sensor.bands.flatMap((band) => [band.low, band.high, band.value]);
  const least = sensor.units === "reflectance" ? Math.min(0, ...ends) : Math.min(...ends);
  const room = (Math.max(...ends) - least || 1) * 0.08;
  const up = axisOfValues(paper, least - (least < 0 ? room : 0), Math.max(...ends) + room, box);
  const slot = (box.right - box.left) / sensor.bands.length;
  sensor.bands.forEach((band, index) => {
    const middle = box.left + (index + 0.5) * slot;
    const colour = LINE_COLOURS[0];
    paper.append(
      trace("line", { x1: middle, x2: middle, y1: up(band.low), y2: up(band.high), stroke: colour, "stroke-width": 12,
        "stroke-opacity": 0.5, class: "interval" }),
      trace("rect", { x: middle - 10, width: 20, y: up(band.value) - 1, height: 2, fill: colour },
        trace("title", {}, `${band.name}: ${band.value.toFixed(3)} (${band.low.toFixed(3)} to ${band.high.toFixed(3)})`)),
      trace("text", { x: middle, y: 147, "text-anchor": "middle" }, band.name),
    );
  });
  return paper;
}

function clearBars(shares, date) {
  const width = 1000 / shares.length;
  const paper = trace("svg", { viewBox: "0 0 1000 30", preserveAspectRatio: "none" });
  shares.forEach((share, index) => paper.append(trace("rect", {
    x: index * width + width * 0.15, width: width * 0.7, y: 30 - 29 * share, height: 1 + 29 * share,
    fill: index === date ? "#d55e00" : "#4a9156" })));
  return paper;
}
