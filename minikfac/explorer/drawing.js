// Drawing on canvases: colours, heat maps with a cursor, charts with axes.

// Colour and dash of each method, as in minikfac.plots; methods without an entry have the colour of the text.
const BLUE = "#0072B2", VERMILLION = "#D55E00", GREEN = "#009E73", PURPLE = "#CC79A7", ORANGE = "#E69F00", SKY = "#56B4E9";
const DASHED = [6, 3], DOTTED = [2, 3], MIXED = [8, 3, 2, 3];
const LOOKS = {
  "K-FAC": [BLUE, []], "K-FAC (factored damping)": [BLUE, DASHED], "EKFAC": [SKY, MIXED], "nearest Kronecker": [SKY, DOTTED],
  "block-diagonal": [GREEN, DASHED], "block-tridiagonal": [GREEN, MIXED], "low rank": [ORANGE, DASHED],
  "diagonal": [PURPLE, DASHED], "no curvature": [VERMILLION, DOTTED],
};

const dark = matchMedia("(prefers-color-scheme: dark)");
const cssColor = (name) => getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();
const colorOf = (name) => LOOKS[name]?.[0] ?? cssColor("ink");

// A canvas as sharp as the screen, of its size on the page; returns its pen and that size.
function sharp(canvas) {
  const ratio = devicePixelRatio || 1, { clientWidth: width, clientHeight: height } = canvas;
  canvas.width = Math.round(width * ratio);
  canvas.height = Math.round(height * ratio);
  const pen = canvas.getContext("2d");
  pen.setTransform(ratio, 0, 0, ratio, 0, 0);
  pen.font = "12px system-ui, sans-serif";
  return { pen, width, height };
}

// Signed values in purple (below 0) to orange (above 0); 0 is the page's own ground. Strength from -1 to 1.
const ENDS = {
  light: { zero: [255, 255, 255], plus: [127, 59, 8], half: [241, 163, 64], minus: [45, 0, 75], minusHalf: [153, 142, 195] },
  dark: { zero: [21, 24, 30], plus: [255, 220, 160], half: [205, 115, 25], minus: [222, 210, 255], minusHalf: [118, 98, 190] },
};

function heat(strength) {
  const ends = ENDS[dark.matches ? "dark" : "light"], t = 2 * Math.abs(strength);
  const [middle, end] = strength < 0 ? [ends.minusHalf, ends.minus] : [ends.half, ends.plus];
  const [a, b, share] = t < 1 ? [ends.zero, middle, t] : [middle, end, t - 1];
  return a.map((value, k) => Math.round(value + share * (b[k] - value)));
}

// A picture, one pixel per entry of value(row, column). The strength of a colour is the square root of the
// entry's size over `limit`: without the root small entries would vanish.
function picture(rows, columns, value, limit) {
  const image = new ImageData(columns, rows), pixels = new Uint32Array(image.data.buffer);
  const table = Uint32Array.from(range(513), (k) => { // as alpha, blue, green, red
    const [r, g, b] = heat((k - 256) / 256);
    return ((255 << 24) | (b << 16) | (g << 8) | r) >>> 0;
  });
  for (let i = 0, k = 0; i < rows; i++) {
    for (let j = 0; j < columns; j++, k++) {
      const share = value(i, j) / limit, strength = 256 * Math.sqrt(Math.min(1, Math.abs(share)));
      pixels[k] = table[Math.round(share < 0 ? 256 - strength : 256 + strength)];
    }
  }
  const canvas = document.createElement("canvas");
  canvas.width = columns;
  canvas.height = rows;
  canvas.getContext("2d").putImageData(image, 0, 0);
  return canvas;
}

// Show a picture in a canvas, with the grid of its blocks and a cursor {row, column}.
function showPicture(canvas, image, cursor = null, grid = 0) {
  const { pen, width, height } = sharp(canvas), step = width / image.width;
  pen.imageSmoothingEnabled = step < 1;
  pen.drawImage(image, 0, 0, width, height);
  pen.strokeStyle = cssColor("faint");
  if (grid && grid * step >= 9) {
    pen.lineWidth = 0.5;
    for (let k = grid; k < image.width; k += grid) {
      strokeLine(pen, [[k * step, 0], [k * step, height]]);
      strokeLine(pen, [[0, k * step], [width, k * step]]);
    }
  }
  if (!cursor) return;
  const x = (cursor.column + 0.5) * step, y = (cursor.row + 0.5) * height / image.height;
  pen.strokeStyle = cssColor("accent");
  pen.lineWidth = 1;
  strokeLine(pen, [[x, 0], [x, height]]);
  strokeLine(pen, [[0, y], [width, y]]);
}

function strokeLine(pen, points, dash = []) {
  pen.setLineDash(dash);
  pen.beginPath();
  points.forEach(([x, y], k) => (k ? pen.lineTo(x, y) : pen.moveTo(x, y)));
  pen.stroke();
  pen.setLineDash([]);
}

// Ticks between two ends: powers of ten on a log axis, else some five round numbers.
function ticks(low, high, log) {
  if (log) {
    const first = Math.ceil(Math.log10(low) - 1e-9), last = Math.floor(Math.log10(high) + 1e-9);
    const stride = Math.max(1, Math.ceil((last - first + 1) / 6));
    return range(last - first + 1).filter((k) => k % stride === 0).map((k) => Number(`1e${first + k}`));
  }
  const rough = (high - low) / 5, power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map((k) => k * power).find((k) => k >= rough);
  const first = Math.ceil(low / step - 1e-9);
  return range(Math.floor(high / step + 1e-9) - first + 1).map((k) => (first + k) * step);
}

const tickText = (value, log) => (log ? short(value, 1) : String(Math.round(value * 1e6) / 1e6).replace("-", "\u2212"));

// Text with a rim in the colour of the page, so that lines behind it do not strike it through.
function write(pen, text, x, y) {
  pen.lineWidth = 4;
  pen.strokeStyle = cssColor("ground");
  pen.strokeText(text, x, y);
  pen.fillText(text, x, y);
}

// A chart: axes {x, y: {low, high, label, log}}, curves [{name, points, color, dash, width}],
// marks [{name, x, y, color, text, at}], rules [{x, text}].
function chart(canvas, options) {
  const { x, y, curves = [], marks = [], rules = [] } = options;
  const { pen, width, height } = sharp(canvas);
  const left = 52, right = width - 22, top = 12, bottom = height - 40;
  const scale = (axis, from, to) => {
    const f = axis.log ? Math.log : (value) => value, a = f(axis.low), b = f(axis.high);
    return (value) => from + ((to - from) * (f(value) - a)) / (b - a);
  };
  const toX = scale(x, left, right), toY = scale(y, bottom, top);
  pen.fillStyle = cssColor("ink");
  pen.strokeStyle = cssColor("faint");
  pen.lineWidth = 1;
  pen.textAlign = "center";
  for (const tick of x.ticks ?? ticks(x.low, x.high, x.log)) {
    strokeLine(pen, [[toX(tick), top], [toX(tick), bottom]]);
    pen.fillText(x.names ? x.names(tick) : tickText(tick, x.log), toX(tick), bottom + 16);
  }
  pen.fillText(x.label, (left + right) / 2, height - 6);
  pen.textAlign = "right";
  for (const tick of ticks(y.low, y.high, y.log)) {
    strokeLine(pen, [[left, toY(tick)], [right, toY(tick)]]);
    pen.fillText(tickText(tick, y.log), left - 6, toY(tick) + 4);
  }
  pen.save();
  pen.translate(11, (top + bottom) / 2);
  pen.rotate(-Math.PI / 2);
  pen.textAlign = "center";
  pen.fillText(y.label, 0, 0);
  pen.restore();
  pen.save();
  pen.beginPath();
  pen.rect(left, top - 6, right - left + 6, bottom - top + 12);
  pen.clip();
  for (const rule of rules) {
    pen.strokeStyle = cssColor("accent");
    pen.lineWidth = 1.5;
    const level = rule.x === undefined;
    const line = level ? [[left, toY(rule.y)], [right, toY(rule.y)]] : [[toX(rule.x), top], [toX(rule.x), bottom]];
    strokeLine(pen, line, [4, 3]);
    pen.fillStyle = cssColor("accent");
    const [a, b] = level ? line[1] : line[0]; // the text is at the right end, or at the top
    pen.textAlign = a > (left + right) / 2 ? "right" : "left";
    write(pen, rule.text, a + (pen.textAlign === "right" ? -4 : 4), level ? b - 4 : b + 10);
  }
  const xText = (value) => (x.names ? x.names(value) : Number.isInteger(value) ? whole(value) : short(value));
  const point = (name, a, b, at = xText(a)) =>
    ({ name, x: toX(a), y: toY(b), text: `${name}: ${y.label} ${short(b)}, ${x.label} ${at}` });
  const points = [];
  for (const curve of curves) {
    pen.strokeStyle = curve.color;
    pen.lineWidth = curve.width ?? 2;
    const drawable = (value, axis) => Number.isFinite(value) && (!axis.log || value > 0);
    const seen = curve.points.filter(([a, b]) => drawable(a, x) && drawable(b, y));
    strokeLine(pen, seen.map(([a, b]) => [toX(a), toY(b)]), curve.dash);
    points.push(...seen.filter(([, b]) => b >= y.low && b <= y.high).map(([a, b]) => point(curve.name, a, b)));
  }
  pen.restore();
  drawMarks(pen, marks, toX, toY, { left, right, top, bottom });
  points.push(...marks.map((mark) => point(mark.name, mark.x, mark.y, mark.at)));
  canvas.reading = { options, points, chosen: null };
}

// Name the value under the pointer, the finger, or the arrow keys: a ring around it, and a line below the chart.
function makeReadable(canvas) {
  const line = Object.assign(document.createElement("p"), { className: "reading" });
  line.setAttribute("aria-live", "polite");
  canvas.parentElement.append(line);
  canvas.tabIndex = 0;
  const choose = (point) => {
    if (!canvas.reading || point === canvas.reading.chosen) return;
    chart(canvas, canvas.reading.options);
    const same = (one) => point && one.name === point.name && one.text === point.text;
    canvas.reading.chosen = canvas.reading.points.find(same) ?? null;
    line.textContent = point?.text ?? "";
    if (!point) return;
    const pen = canvas.getContext("2d");
    pen.strokeStyle = cssColor("accent");
    pen.lineWidth = 2;
    pen.beginPath();
    pen.arc(point.x, point.y, 8, 0, 2 * Math.PI);
    pen.stroke();
  };
  const nearest = (points, distance) => points.reduce((best, one) => (distance(one) < distance(best) ? one : best), points[0]);
  whenPointed(canvas, (a, b) => {
    const [x, y] = [a * canvas.clientWidth, b * canvas.clientHeight];
    choose(nearest(canvas.reading.points, (one) => Math.hypot(one.x - x, one.y - y)));
  });
  canvas.addEventListener("pointerleave", (event) => event.pointerType === "mouse" && choose(null));
  canvas.addEventListener("focus", () => choose(canvas.reading.chosen ?? canvas.reading.points[0]));
  canvas.addEventListener("blur", () => choose(null));
  // Left and right: along a curve. Up and down: to the curve before or after, where it is nearest.
  whenArrowed(canvas, (dx, dy) => {
    const { points, chosen } = canvas.reading, curves = [...new Set(points.map((one) => one.name))];
    const from = chosen ?? points[0], next = curves[curves.indexOf(from.name) + Math.sign(dy)] ?? from.name;
    const along = points.filter((one) => one.name === next), place = along.indexOf(from) + dx;
    choose(next === from.name ? along[Math.max(0, Math.min(along.length - 1, place))]
      : nearest(along, (one) => Math.abs(one.x - from.x)));
  });
}

// Points with names: each name goes beside its point, where no other name is yet.
function drawMarks(pen, marks, toX, toY, frame) {
  const taken = [];
  for (const mark of marks) {
    const cx = toX(mark.x), cy = toY(mark.y);
    pen.fillStyle = mark.color;
    pen.beginPath();
    pen.arc(cx, cy, mark.size ?? 4, 0, 2 * Math.PI);
    pen.fill();
  }
  for (const mark of marks.filter((one) => one.text)) {
    const cx = toX(mark.x), cy = toY(mark.y), w = pen.measureText(mark.text).width;
    const places = [-4, 10, -18, 24, -32, 38, -46, 52].flatMap((dy) => [[cx + 8, cy + dy], [cx - 8 - w, cy + dy]]);
    const free = ([a, b]) => a >= frame.left && a + w <= frame.right + 8 && b > frame.top && b < frame.bottom &&
      taken.every(([c, d, v]) => a + w < c || c + v < a || Math.abs(b - d) > 12) &&
      marks.every((one) => toX(one.x) < a - 4 || toX(one.x) > a + w + 4 || toY(one.y) > b + 5 || toY(one.y) < b - 13);
    const [a, b] = places.find(free) ?? places[0];
    taken.push([a, b, w]);
    pen.fillStyle = cssColor("ink");
    pen.textAlign = "left";
    write(pen, mark.text, a, b);
    if (Math.abs(b - cy) > 14) {
      pen.strokeStyle = cssColor("faint");
      pen.lineWidth = 1;
      strokeLine(pen, [[cx, cy], [a > cx ? a - 2 : a + w + 2, b - 4]]);
    }
  }
}

// Where a canvas was touched or clicked, as shares of its width and height.
function whenPointed(canvas, act) {
  const point = (event) => {
    const box = canvas.getBoundingClientRect();
    const inside = (value) => Math.max(0, Math.min(1 - 1e-9, value));
    act(inside((event.clientX - box.left) / box.width), inside((event.clientY - box.top) / box.height), event.type);
  };
  canvas.addEventListener("pointerdown", point);
  canvas.addEventListener("pointermove", point);
}

// Arrow keys on a canvas that has the focus: act(dx, dy), ten times as far with Shift.
function whenArrowed(canvas, act) {
  const moves = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
  canvas.addEventListener("keydown", (event) => {
    const move = moves[event.key];
    if (!move) return;
    event.preventDefault();
    act(...move.map((value) => value * (event.shiftKey ? 10 : 1)));
  });
}
