// Places as text: the state of the page in its address after the #, which a reload or a copied address restores, and the
// coordinates under the cursor.

const LAYERS = ["components", "similarity", "quality", "map"];
const MAX_SHOWN = 60;

// Return the state in an address after its #, null for what it lacks, with one line on each value that is none.
function readAddress(hash) {
  const saved = new URLSearchParams(hash.slice(1));
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

// Longitude and latitude at a point, between the points of a grid (`degree_grid` of the server); null where it has none.
function degreesAt({ rows, columns, longitude, latitude }, { x, y }) {
  const cell = (places, value) => {
    const share = (value / places[places.length - 1]) * (places.length - 1);
    const index = Math.min(places.length - 2, Math.max(0, Math.floor(share)));
    return [index, share - index];
  };
  const [[row, down], [column, across]] = [cell(rows, y), cell(columns, x)];
  const [east, north] = [longitude, latitude].map((grid) => {
    const corners = [grid[row][column], grid[row][column + 1], grid[row + 1][column], grid[row + 1][column + 1]];
    if (corners.includes(null)) return null;
    const [upper, lower] = [0, 2].map((first) => corners[first] + across * (corners[first + 1] - corners[first]));
    return upper + down * (lower - upper);
  });
  if (east === null || north === null) return null;
  return { longitude: ((((east + 180) % 360) + 360) % 360) - 180, latitude: north };
}

// Coordinates of a point: its pixel, and its position on the map and in degrees.
function coordinatesText(store, point) {
  const [a, b, c, d, e, f] = store.transform;
  const digits = store.resolution < 1 ? 2 : 0;
  const position = [a * point.x + b * point.y + c, d * point.x + e * point.y + f].map((value) => value.toFixed(digits));
  const degrees = degreesAt(store.degrees, point);
  return [
    `Row ${Math.floor(point.y)}, column ${Math.floor(point.x)}`,
    `x ${position[0]}, y ${position[1]} (${store.reference_system || "map coordinates"})`,
    ...(degrees ? [`longitude ${degrees.longitude.toFixed(5)}°, latitude ${degrees.latitude.toFixed(5)}°`] : []),
  ].join("  ·  ");
}
