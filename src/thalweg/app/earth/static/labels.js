// Labels of a store: points and polygons of classes in pixels, the tools that draw them, and their list.

const MAX_UNDO = 100;
const NEAR = 8; // distance on the screen within which a click hits a point, or the first corner of a polygon
const LABELS_KEY = "thalweg-labels:";

// Classes and labels of one store, kept for the browser tab, so that a reload loses none.
class LabelSet {
  constructor(changed) {
    this.changed = changed;
    this.clear();
  }

  clear() {
    Object.assign(this, { store: null, classes: [], labels: [], past: [] });
  }

  open(store) {
    this.clear();
    this.store = store;
    try {
      const kept = JSON.parse(sessionStorage.getItem(LABELS_KEY + store.name)) || {};
      this.classes = kept.classes || [];
      this.labels = kept.labels || [];
    } catch {
      this.classes = this.labels = [];
    }
    this.changed();
  }

  // Change classes and labels by a function, which may be undone.
  change(act) {
    this.past.push({ classes: this.classes, labels: this.labels });
    if (this.past.length > MAX_UNDO) this.past.shift();
    this.classes = [...this.classes];
    this.labels = [...this.labels];
    act();
    this.keep();
  }

  undo() {
    if (!this.past.length) return;
    Object.assign(this, this.past.pop());
    this.keep();
  }

  keep() {
    try {
      const { classes, labels } = this;
      sessionStorage.setItem(LABELS_KEY + this.store.name, JSON.stringify({ classes, labels }));
    } catch {
      // more than the browser keeps: a reload would lose them, the page still has them
    }
    this.changed();
  }

  // Return the index of a class, which is added if there is none of that name.
  indexOf(name) {
    const index = this.classes.findIndex((each) => each.name === name);
    if (index >= 0) return index;
    const colour = this.store.class_colours.find((each) => !this.classes.some((other) => other.colour === each)) || "#888888";
    this.classes.push({ name, colour });
    return this.classes.length - 1;
  }

  add(name, geometries) {
    this.change(() => this.labels.push(...geometries.map((geometry) => ({ class: this.indexOf(name), geometry }))));
  }

  load({ classes, labels }) {
    this.change(() => {
      const codes = classes.map((name) => this.indexOf(name));
      this.labels.push(...labels.map((label) => ({ ...label, class: codes[label.class] })));
    });
  }

  removeLabel(label) {
    this.change(() => { this.labels = this.labels.filter((each) => each !== label); });
  }

  removeClass(index) {
    this.change(() => {
      this.classes.splice(index, 1);
      this.labels = this.labels.filter((label) => label.class !== index)
        .map((label) => (label.class > index ? { ...label, class: label.class - 1 } : label));
    });
  }

  // What the server reads: the classes that have labels, and the labels.
  request() {
    const used = [...new Set(this.labels.map((label) => label.class))].sort((one, other) => one - other);
    return {
      store: this.store.name,
      classes: used.map((index) => this.classes[index].name),
      colours: used.map((index) => this.classes[index].colour),
      labels: this.labels.map((label) => ({ ...label, class: used.indexOf(label.class) })),
    };
  }

  counts(index) {
    const own = this.labels.filter((label) => label.class === index);
    const points = own.filter((label) => label.geometry.type === "Point").length;
    const named = (count, name) => (count ? [`${count} ${name}${count > 1 ? "s" : ""}`] : []);
    return [...named(points, "point"), ...named(own.length - points, "polygon")].join(", ") || "no labels";
  }
}

function ringsOf(geometry) {
  return geometry.type === "Polygon" ? geometry.coordinates : geometry.coordinates.flat();
}

function isInside(rings, { x, y }) {
  let inside = false;
  for (const ring of rings) {
    ring.forEach(([x1, y1], index) => {
      const [x2, y2] = ring[(index + 1) % ring.length];
      if ((y1 > y) !== (y2 > y) && x < x1 + ((y - y1) / (y2 - y1)) * (x2 - x1)) inside = !inside;
    });
  }
  return inside;
}

// Tools of the maps: what a click does, and the polygon that is being drawn.
class LabelTools {
  constructor(set, maps, changed) {
    Object.assign(this, { set, maps, changed, tool: "pixel", chosen: 0, isShown: true, corners: [] });
  }

  choose(tool) {
    this.tool = tool;
    this.corners = [];
    this.changed();
  }

  // Use a click, and return whether it was one of these tools'; a message says what is missing.
  click(point) {
    if (this.tool === "pixel") return false;
    const { set } = this;
    if (this.tool === "delete") {
      const hit = [...set.labels].reverse().find((label) => this.isHit(label.geometry, point));
      if (hit) set.removeLabel(hit);
      return true;
    }
    if (!set.classes[this.chosen]) throw new Error("add a class first, such as wheat");
    const rounded = [point.x, point.y].map((value) => Number(value.toFixed(3)));
    if (this.tool === "point") {
      set.add(set.classes[this.chosen].name, [{ type: "Point", coordinates: rounded }]);
      return true;
    }
    const [first] = this.corners;
    if (first && this.corners.length > 2 && this.isNear(first, point)) this.close();
    else this.corners.push(rounded);
    this.changed();
    return true;
  }

  // Close the polygon; the last corner of a double click is there twice.
  close() {
    const corners = this.corners.filter(([x, y], index, all) => !index || !this.isNear(all[index - 1], { x, y }, 3));
    this.corners = [];
    if (corners.length > 2) this.set.add(this.set.classes[this.chosen].name, [{ type: "Polygon", coordinates: [corners] }]);
    else this.changed();
  }

  undo() {
    if (this.corners.length) {
      this.corners.pop();
      this.changed();
    } else {
      this.set.undo();
    }
  }

  isNear([x, y], point, distance = NEAR) {
    return Math.hypot(x - point.x, y - point.y) * this.maps.view.zoom <= distance;
  }

  isHit(geometry, point) {
    if (geometry.type === "Point") return this.isNear(geometry.coordinates, point);
    return isInside(ringsOf(geometry), point);
  }

  draw(context, toScreen) {
    if (!this.isShown) return;
    const trace = (corners) => corners.forEach(([x, y], index) => {
      const [left, top] = toScreen({ x, y });
      if (index) context.lineTo(left, top);
      else context.moveTo(left, top);
    });
    const outline = (colour) => {
      for (const [stroke, thickness] of [["rgba(0, 0, 0, 0.75)", 3.5], [colour, 2]]) {
        context.strokeStyle = stroke;
        context.lineWidth = thickness;
        context.stroke();
      }
    };
    const dot = ([x, y], colour) => {
      const [left, top] = toScreen({ x, y });
      context.beginPath();
      context.arc(left, top, 4.5, 0, 2 * Math.PI);
      context.fillStyle = colour;
      context.fill();
      for (const [stroke, thickness] of [["#000", 2.5], ["#fff", 1.2]]) {
        context.strokeStyle = stroke;
        context.lineWidth = thickness;
        context.stroke();
      }
    };
    const polygons = this.set.labels.filter((label) => label.geometry.type !== "Point");
    const points = this.set.labels.filter((label) => label.geometry.type === "Point");
    for (const label of polygons) {
      const { colour } = this.set.classes[label.class];
      context.beginPath();
      for (const ring of ringsOf(label.geometry)) {
        trace(ring);
        context.closePath();
      }
      context.fillStyle = `${colour}40`;
      context.fill("evenodd");
      outline(colour);
    }
    for (const label of points) dot(label.geometry.coordinates, this.set.classes[label.class].colour);
    if (!this.corners.length) return;
    const { colour } = this.set.classes[this.chosen];
    const { hover } = this.maps;
    context.beginPath();
    trace(hover ? [...this.corners, [hover.x, hover.y]] : this.corners);
    outline(colour);
    this.corners.forEach((corner) => dot(corner, colour));
  }
}
