// State of the page in its address after the #: a reload restores it, and a copied address opens the same place.

const LAYERS = ["components", "similarity", "quality", "map"];
const MAX_SHOWN = 60;

// Return the state in the address, null for what it lacks, with one line on each value that is none.
function readAddress() {
  const saved = new URLSearchParams(location.hash.slice(1));
  const problems = [];
  const refuse = (name, expected) => {
    problems.push(`${name} ${shownText(saved.get(name))} in the address: expected ${expected}`);
    return null;
  };
  const numbers = (name, count, isValid, expected) => {
    if (!saved.has(name)) return null;
    const found = saved.get(name).split(",").map((part) => (part.trim() ? Number(part) : NaN));
    return found.length === count && found.every(Number.isFinite) && isValid(found) ? found : refuse(name, expected);
  };
  const view = numbers("view", 3, ([, , zoom]) => zoom > 0, "x,y,zoom");
  const isIndex = (value) => Number.isInteger(value) && value >= 0;
  const pixel = numbers("pixel", 2, (both) => both.every(isIndex), "row,column");
  const layer = saved.get("layer");
  return {
    store: saved.get("store"),
    date: saved.get("date"),
    layer: layer === null || LAYERS.includes(layer) ? layer : refuse("layer", LAYERS.join(", ")),
    view: view && { x: view[0], y: view[1], zoom: view[2] },
    pixel: pixel && { row: pixel[0], column: pixel[1] },
    problems,
  };
}

// Check a state against an open store: what it lacks becomes null, with a line in `problems`.
function checkedState(state, store) {
  const problems = [...state.problems];
  let date = store.dates.indexOf(state.date);
  if (date < 0) date = store.dates.findIndex((each) => each.slice(0, 10) === state.date);
  if (state.date !== null && date < 0) {
    problems.push(`date ${shownText(state.date)} in the address: the store has ${store.dates.length} dates from ` +
      `${store.dates[0].slice(0, 10)} to ${store.dates[store.dates.length - 1].slice(0, 10)}`);
  }
  let { pixel } = state;
  if (pixel && (pixel.row >= store.rows || pixel.column >= store.columns)) {
    problems.push(`pixel ${pixel.row},${pixel.column} in the address: expected a row of 0 to ${store.rows - 1} and a ` +
      `column of 0 to ${store.columns - 1}`);
    pixel = null;
  }
  return { ...state, date: date < 0 ? null : date, pixel, problems };
}

function writeAddress(store, { date, layer, pixel }, view) {
  const saved = new URLSearchParams(location.hash.slice(1));
  saved.set("store", store.name);
  saved.set("date", store.dates[date]);
  saved.set("layer", layer);
  saved.set("view", [view.x, view.y, view.zoom].map((value) => value.toFixed(3)).join(","));
  if (pixel) saved.set("pixel", `${pixel.row},${pixel.column}`);
  else saved.delete("pixel");
  history.replaceState(history.state, "", `#${saved}`);
}

function shownText(text) {
  return JSON.stringify(text.length > MAX_SHOWN ? `${text.slice(0, MAX_SHOWN)}...` : text);
}
