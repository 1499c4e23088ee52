// Third tab: gradient and natural gradient in several charts of one curved space, computed as you point.
//
// A chart has coordinates xi of points q, push(q) and pull(xi) (null where there is no point), and at xi the
// gradient of a height by xi and the natural gradient, metric^-1 times it. Two families: maps of the globe with
// q = (longitude, latitude) in radians, and Gaussians q = (mu, sigma) with the Fisher matrix for a metric.


// Maps of the globe ------------------------------------------------------------------------------------------

const radians = (degrees) => (degrees * Math.PI) / 180;
const onSphere = ([lon, lat]) => [Math.cos(lat) * Math.cos(lon), Math.cos(lat) * Math.sin(lon), Math.sin(lat)];

const HILLS = [
  { top: onSphere([radians(35), radians(10)]), height: 1, sharpness: 3 },
  { top: onSphere([radians(-50), radians(0)]), height: 0.9, sharpness: 3 },
];
const hillHeights = (point) => HILLS.map(({ top, height, sharpness }) => height * Math.exp(sharpness * (dot(point, top) - 1)));
const globeHeight = (p) => sum(hillHeights(onSphere(p)));

// The derivative of the height by longitude and latitude.
function globeSlope([lon, lat]) {
  const heights = hillHeights(onSphere([lon, lat]));
  const steep = [0, 1, 2].map((axis) => sum(HILLS.map(({ top, sharpness }, k) => heights[k] * sharpness * top[axis])));
  const east = [-Math.sin(lon), Math.cos(lon), 0];
  const north = [-Math.sin(lat) * Math.cos(lon), -Math.sin(lat) * Math.sin(lon), Math.cos(lat)];
  return [Math.cos(lat) * dot(steep, east), dot(steep, north)];
}

// A map on a cylinder: x = longitude, y = y(latitude). J = diag(1, slope), and the metric of (lon, lat) is
// diag(cos^2 lat, 1), so the gradient is J^-T slope and the natural gradient J metric^-1 slope.
function cylinder(name, keeps, y, latitudeOf, slope, most) {
  return {
    name, keeps, axes: ["", ""],
    box: { x: [radians(-95), radians(80)], y: [y(radians(-30)), y(radians(75))] },
    push: ([lon, lat]) => [lon, y(lat)],
    pull: ([u, v]) => (Math.abs(v) <= most ? [u, latitudeOf(v)] : null),
    gradient(xi) {
      const p = this.pull(xi), [byLon, byLat] = globeSlope(p);
      return [byLon, byLat / slope(p[1])];
    },
    natural(xi) {
      const p = this.pull(xi), [byLon, byLat] = globeSlope(p);
      return [byLon / Math.cos(p[1]) ** 2, byLat * slope(p[1])];
    },
  };
}

const GLOBE = {
  id: "globe", unit: "radii of the globe", start: [radians(-20), radians(60)], duration: 6,
  steps: [0.00625, 0.0125, 0.025, 0.05, 0.1],
  height: globeHeight,
  distance: (p, q) => 2 * Math.asin(Math.min(1, norm(onSphere(p).map((value, k) => value - onSphere(q)[k])) / 2)),
  charts: [
    cylinder("equirectangular", "keeps distances along meridians", (lat) => lat, (y) => y, () => 1, Math.PI / 2),
    cylinder("Mercator", "keeps angles: the same path, at another pace",
      (lat) => Math.atanh(Math.sin(lat)), (y) => Math.atan(Math.sinh(y)), (lat) => 1 / Math.cos(lat), Infinity),
    cylinder("Lambert", "keeps areas", Math.sin, Math.asin, Math.cos, 1),
  ],
  // The globe as seen from above longitude -8, latitude 22 degrees.
  common: (() => {
    const lon = radians(-8), lat = radians(22), centre = onSphere([lon, lat]), east = [-Math.sin(lon), Math.cos(lon), 0];
    const north = [-Math.sin(lat) * Math.cos(lon), -Math.sin(lat) * Math.sin(lon), Math.cos(lat)];
    return {
      name: "the globe", keeps: "the paths of all three maps", axes: ["", ""], box: { x: [-1.05, 1.05], y: [-1.05, 1.05] },
      push(p) {
        const point = onSphere(p);
        return dot(point, centre) > 0 ? [dot(point, east), dot(point, north)] : [NaN, NaN]; // NaN: behind the globe
      },
      pull([u, v]) {
        if (u * u + v * v > 1) return null;
        const depth = Math.sqrt(1 - u * u - v * v);
        const point = [0, 1, 2].map((k) => u * east[k] + v * north[k] + depth * centre[k]);
        return [Math.atan2(point[1], point[0]), Math.asin(point[2])];
      },
    };
  })(),
};


// Charts of the Gaussians ------------------------------------------------------------------------------------

const DATA = { mean: 1, variance: 1 };
const { mean: m, variance: v } = DATA;

// The mean log-likelihood of the data in nats.
const likelihood = ([mu, sigma]) => -Math.log(sigma) - (v + (m - mu) ** 2) / (2 * sigma ** 2) - Math.log(2 * Math.PI) / 2;

// Per chart: minus the gradient of the loss, and the Fisher matrix, as in the derivations.
function gaussian(name, axes, box, push, pull, gradient, fisher) {
  return { name, keeps: "", axes, box, push, pull, gradient, natural: (xi) => solve(fisher(xi), gradient(xi)) ?? [NaN, NaN] };
}

const MEAN_DEVIATION = gaussian("(\u03bc, \u03c3)", ["\u03bc", "\u03c3"], { x: [-2.2, 4.2], y: [0.25, 2.8] },
  (q) => q, (xi) => (xi[1] > 0 ? xi : null),
  ([mu, sigma]) => [(m - mu) / sigma ** 2, (v + (m - mu) ** 2) / sigma ** 3 - 1 / sigma],
  ([, sigma]) => [[1 / sigma ** 2, 0], [0, 2 / sigma ** 2]]);

const GAUSSIANS = {
  id: "gaussian", start: [-1, 0.7], steps: [0.003125, 0.00625, 0.0125, 0.025, 0.05], duration: 6, unit: "of Fisher length",
  height: likelihood,
  distance: ([a, s], [b, t]) => Math.sqrt(8) * Math.asinh(Math.sqrt(((a - b) ** 2 / 2 + (s - t) ** 2) / (4 * s * t))),
  charts: [
    MEAN_DEVIATION,
    gaussian("(\u03bc, log \u03c3)", ["\u03bc", "log \u03c3"], { x: [-2.2, 4.2], y: [-1.3, 1.1] },
      ([mu, sigma]) => [mu, Math.log(sigma)], ([mu, log]) => [mu, Math.exp(log)],
      ([mu, log]) => [(m - mu) * Math.exp(-2 * log), (v + (m - mu) ** 2) * Math.exp(-2 * log) - 1],
      ([, log]) => [[Math.exp(-2 * log), 0], [0, 2]]),
    gaussian("natural parameters", ["a = \u03bc/\u03c3\u00b2", "b = 1/\u03c3\u00b2"], { x: [-3.5, 4.5], y: [0.08, 3] },
      ([mu, sigma]) => [mu / sigma ** 2, 1 / sigma ** 2], ([a, b]) => (b > 0 ? [a / b, 1 / Math.sqrt(b)] : null),
      ([a, b]) => [m - a / b, (1 / b + a ** 2 / b ** 2 - v - m ** 2) / 2],
      ([a, b]) => [[1 / b, -a / b ** 2], [-a / b ** 2, a ** 2 / b ** 3 + 1 / (2 * b ** 2)]]),
  ],
  common: { ...MEAN_DEVIATION, name: "all in (\u03bc, \u03c3)", keeps: "the paths of all three charts" },
};


// Walking and drawing ----------------------------------------------------------------------------------------

// Steps xi <- xi + h field(xi) from a point q; the path as points q. It ends early where it leaves the chart.
function walk(chart, field, q, h, count) {
  const path = [q];
  let xi = chart.push(q);
  for (let k = 0; k < count; k++) {
    const velocity = chart[field](xi);
    xi = xi.map((value, axis) => value + h * velocity[axis]);
    const next = xi.every(Number.isFinite) ? chart.pull(xi) : null;
    if (next === null) break;
    path.push(next);
  }
  return path;
}

// The largest distance between two of the paths at the same time; Infinity where one left its chart.
function apart(family, paths) {
  if (new Set(paths.map((path) => path.length)).size > 1) return Infinity;
  let most = 0;
  for (const [k, path] of paths.entries()) {
    for (const other of paths.slice(0, k)) most = Math.max(most, ...path.map((q, time) => family.distance(q, other[time])));
  }
  return most;
}

// Heights in a chart as shades, in steps, so that their edges are contour lines.
const shades = remembered((familyId, place, size, isDark) => {
  const family = FAMILIES[familyId], chart = [...family.charts, family.common][place], { x, y } = chart.box;
  const heights = range(size * size).map((k) => {
    const q = chart.pull([x[0] + ((x[1] - x[0]) * (k % size)) / size, y[1] - ((y[1] - y[0]) * Math.floor(k / size)) / size]);
    return q ? family.height(q) : NaN;
  });
  const inside = heights.filter(Number.isFinite).sort((a, b) => a - b);
  const low = inside[Math.floor(inside.length / 5)], high = inside[inside.length - 1];
  const canvas = Object.assign(document.createElement("canvas"), { width: size, height: size });
  const image = new ImageData(size, size);
  heights.forEach((height, k) => {
    const share = Math.max(0, Math.floor((12 * (height - low)) / (high - low)) / 12);
    const [from, to] = isDark ? [[30, 38, 50], [90, 106, 128]] : [[176, 190, 204], [250, 252, 254]];
    image.data.set([...from.map((value, c) => value + share * (to[c] - value)), Number.isFinite(height) ? 255 : 0], 4 * k);
  });
  canvas.getContext("2d").putImageData(image, 0, 0);
  return canvas;
}, 16);

const FAMILIES = { globe: GLOBE, gaussian: GAUSSIANS };
const GRATICULE = range(12).map((k) => range(61).map((j) => [radians(30 * k - 180), radians(-90 + 3 * j)]))
  .concat(range(5).map((k) => range(121).map((j) => [radians(-180 + 3 * j), radians(30 * k - 60)])));

function drawFamily(family) {
  const h = family.steps[Number(byId(`${family.id}-step`).value)], count = Math.round(family.duration / h);
  byId(`${family.id}-step-text`).textContent = String(h);
  const walks = (field) => family.charts.map((chart) => walk(chart, field, family.start, h, count));
  const paths = { gradient: walks("gradient"), natural: walks("natural") };
  [...family.charts, family.common].forEach((chart, place) => {
    const canvas = byId(`${family.id}-${place}`), { pen, width, height } = sharp(canvas), { x, y } = chart.box;
    const toPixel = (q) => {
      const [a, b] = chart.push(q);
      return [((a - x[0]) / (x[1] - x[0])) * width, ((y[1] - b) / (y[1] - y[0])) * height];
    };
    const inFront = (points) => points.map(toPixel).filter((point) => point.every(Number.isFinite));
    pen.drawImage(shades(family.id, place, chart === GLOBE.common ? 480 : 160, dark.matches), 0, 0, width, height);
    pen.lineWidth = 0.5;
    pen.strokeStyle = cssColor("soft");
    for (const line of family === GLOBE ? GRATICULE : []) {
      for (let k = 1; k < line.length; k++) { // piece by piece, as it may pass behind the globe
        const ends = inFront([line[k - 1], line[k]]);
        if (ends.length === 2) strokeLine(pen, ends);
      }
    }
    const lines = chart === family.common ? family.charts.map((_, k) => k) : [place];
    for (const [field, color, lineWidth, dash] of [["natural", "ink", 3.5, []], ["gradient", "gradient", 2.5, [6, 4]]]) {
      pen.strokeStyle = cssColor(color);
      pen.lineWidth = lineWidth;
      for (const k of lines) strokeLine(pen, inFront(paths[field][k]), dash);
    }
    const [cx, cy] = toPixel(family.start);
    pen.fillStyle = cssColor("accent");
    pen.beginPath();
    pen.arc(cx, cy, 5, 0, 2 * Math.PI);
    pen.fill();
    pen.fillStyle = cssColor("ink");
    pen.textAlign = "center";
    if (chart.axes[0]) pen.fillText(chart.axes[0], width / 2, height - 6);
    pen.textAlign = "left";
    if (chart.axes[1]) pen.fillText(chart.axes[1], 6, 16);
  });
  const [plain, natural] = ["gradient", "natural"].map((field) => apart(family, paths[field]));
  const words = (value, field) => value === Infinity ? "not comparable, as one of them left its chart"
    : `up to <b data-apart="${family.id}-${field}">${short(value)}</b> ${family.unit} apart`;
  byId(`${family.id}-apart`).innerHTML = `From here, ${count} steps of h = ${h}. Paths of the gradient on the three
    ${family === GLOBE ? "maps" : "charts"} are ${words(plain, "gradient")}; those of the natural gradient are
    ${words(natural, "natural")}. With steps half as long the second number about halves; the first one stays.`;
}

function startFamily(family) {
  byId(`${family.id}-maps`).append(...[...family.charts, family.common].map((chart, place) => {
    const figure = document.createElement("figure"), canvas = document.createElement("canvas");
    Object.assign(canvas, { id: `${family.id}-${place}`, tabIndex: 0 });
    canvas.style.aspectRatio = "1";
    canvas.setAttribute("role", "application");
    canvas.setAttribute("aria-label", `${chart.name}: tap, click or use the arrow keys to choose the start.`);
    const setStart = (a, b) => {
      const { x, y } = chart.box, q = chart.pull([x[0] + a * (x[1] - x[0]), y[1] - b * (y[1] - y[0])]);
      if (q) { family.start = q; drawFamily(family); }
    };
    canvas.addEventListener("pointerdown", (event) => {
      const box = canvas.getBoundingClientRect();
      setStart((event.clientX - box.left) / box.width, (event.clientY - box.top) / box.height);
    });
    whenArrowed(canvas, (dx, dy) => {
      const [u, w] = chart.push(family.start), { x, y } = chart.box;
      setStart((u - x[0]) / (x[1] - x[0]) + dx / 50, (y[1] - w) / (y[1] - y[0]) + dy / 50);
    });
    figure.innerHTML = `<figcaption><b>${chart.name}</b>${chart.keeps ? `, ${chart.keeps}` : ""}</figcaption>`;
    figure.prepend(canvas);
    return figure;
  }));
  byId(`${family.id}-step`).value = family.steps.length - 1;
  byId(`${family.id}-step`).addEventListener("input", () => drawFamily(family));
}

const drawCharts = () => Object.values(FAMILIES).forEach(drawFamily);
const startCharts = () => Object.values(FAMILIES).forEach(startFamily);
