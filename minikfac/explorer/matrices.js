// First tab: the block of a layer, its steps, and how good each approximation is.

const study = JSON.parse(document.getElementById("data").textContent).study;
const byId = (id) => document.getElementById(id);
const LABELS = { "no curvature": "gradient (no curvature)", "K-FAC (factored damping)": "K-FAC, factored damping" };
const label = (name) => LABELS[name] ?? name;
const names = study.approximations;
const DRAWN = ["K-FAC", "K-FAC (factored damping)", "EKFAC", "nearest Kronecker", "diagonal"];

// The stop of the damping slider that is nearest to a value.
function stopNear(value) {
  const distances = study.dampings.map((damping) => Math.abs(Math.log(damping / value)));
  return distances.indexOf(Math.min(...distances));
}

const view = {
  layer: Math.min(1, study.layers.length - 1),
  moment: Math.floor(study.moments.length / 2),
  damping: stopNear(0.01),
  approximation: "K-FAC",
  cursor: { row: 0, column: 0 },
  unit: 0,
  measure: "share",
  shown: new Set(names),
};


// The numbers of the page ------------------------------------------------------------------------------------

const array = remembered((...path) => unpack(path.reduce((entry, key) => entry[key], study)), 400);
const inputs = (layer) => study.layers[layer].part[0], units = (layer) => study.layers[layer].part[1];
const lambda = () => study.dampings[view.damping];

// A measure of an approximation: of all layers (part 0) or of one (part l + 1); NaN where there is none.
function measure(name, what, { moment = view.moment, damping = view.damping, part = 0 } = {}) {
  const entry = study.moments[moment].table, [, count, parts, kinds] = entry.shape;
  const place = ((damping * count + names.indexOf(name)) * parts + part) * kinds + study.measures.indexOf(what);
  return array("moments", moment, "table")[place];
}

// The step of an approximation, or the exact one, on the weights of a layer: rows are inputs, columns units.
function step(name, layer) {
  const entry = study.moments[view.moment].steps, [, count, size] = entry.shape, [I, O] = study.layers[layer].shape;
  const before = sum(study.layers.slice(0, layer).map(({ shape }) => shape[0] * shape[1]));
  const start = (view.damping * count + 1 + names.indexOf(name)) * size + before; // names.indexOf("exact") is -1
  return array("moments", view.moment, "steps").subarray(start, start + I * O);
}

// A square matrix as rows.
function rowsOf(values, columns) {
  return range(values.length / columns).map((i) => Array.from(values.subarray(i * columns, (i + 1) * columns)));
}


// Blocks -----------------------------------------------------------------------------------------------------

// abar and the covariance of g, by example and dense layer.
const allSignals = remembered((moment) => {
  const theta = array("moments", moment, "theta");
  return rowsOf(array("x"), study.x.shape[1]).map((x) => signalsOf(study.chain, theta, x));
}, 3);

// The exact block of the drawn part of a layer, flat: computed here from theta and x, or as it came with the page.
const exactBlock = remembered((layer, moment) => {
  const entry = study.moments[moment].layers[layer], size = inputs(layer).length * units(layer).length;
  const block = new Float64Array(size * size);
  if (!study.chain) {
    const stored = array("moments", moment, "layers", layer, "block");
    for (let i = 0, k = 0; i < size; i++) {
      for (let j = 0; j <= i; j++, k++) block[i * size + j] = block[j * size + i] = stored[k];
    }
    return block;
  }
  const signals = allSignals(moment).map((layers) => layers[study.layers[layer].index]);
  const abar = signals.map((one) => inputs(layer).map((i) => one.abar[i]));
  const squares = signals.map((one) => units(layer).map((o) => units(layer).map((p) => one.S[o][p])));
  return sumOfProducts(abar, squares, 1 / signals.length);
}, 6);

// The factors that an approximation multiplies, as rows; factored damping adds to their diagonals.
function factorsOf(layer, moment, damping, name) {
  const path = ["moments", moment, "layers", layer], nearest = name === "nearest Kronecker" ? "nearest_" : "";
  const A = rowsOf(array(...path, `${nearest}A`), inputs(layer).length);
  const G = rowsOf(array(...path, `${nearest}G`), units(layer).length);
  if (name === "K-FAC (factored damping)") {
    const { pi } = study.moments[moment].layers[layer], root = Math.sqrt(study.dampings[damping]);
    A.forEach((row, i) => { row[i] += pi * root; });
    G.forEach((row, o) => { row[o] += root / pi; });
  }
  return { A, G };
}

// The block that an approximation puts in the place of the exact one, flat; without damping, or less lambda I.
const approximateBlock = remembered((layer, moment, damping, name) => {
  const O = units(layer).length, size = inputs(layer).length * O;
  if (name === "EKFAC") {
    const path = ["moments", moment, "layers", layer], [I, outputs] = study.layers[layer].shape;
    const U_A = transposed(rowsOf(array(...path, "U_A"), I)), U_G = rowsOf(array(...path, "U_G"), outputs);
    const scaled = (s) => U_G.map((row) => row.map((u, b) => u * s[b])); // U_G diag(s)
    return sumOfProducts(U_A, rowsOf(array(...path, "s"), outputs).map((s) => matMul(scaled(s), transposed(U_G))), 1);
  }
  const block = new Float64Array(size * size);
  if (name === "diagonal") {
    const exact = exactBlock(layer, moment);
    for (let k = 0; k < size; k++) block[k * size + k] = exact[k * size + k];
    return block;
  }
  const { A, G } = factorsOf(layer, moment, damping, name);
  const less = name === "K-FAC (factored damping)" ? study.dampings[damping] : 0;
  for (let row = 0; row < size; row++) {
    const a = A[Math.floor(row / O)], g = G[row % O];
    for (let column = 0; column < size; column++) block[row * size + column] = a[Math.floor(column / O)] * g[column % O];
    block[row * size + row] -= less;
  }
  return block;
}, 6);

// ||F - F~|| / ||F||, the relative error of a block in the Frobenius norm.
function relativeError(exact, approximate) {
  let wrong = 0, all = 0;
  for (let k = 0; k < exact.length; k++) {
    wrong += (exact[k] - approximate[k]) ** 2;
    all += exact[k] ** 2;
  }
  return Math.sqrt(wrong / all);
}


// Names ------------------------------------------------------------------------------------------------------

const layerName = (layer) => `Layer ${study.layers[layer].index + 1}`;
const unitName = (layer, o) => `unit ${units(layer)[o] + 1}`;

function inputName(layer, i) {
  const { index, shape } = study.layers[layer], input = inputs(layer)[i];
  if (study.chain && input === shape[0] - 1 && hasBias(index)) return "the bias";
  if (index === 0 && study.image) return `pixel (${Math.floor(input / study.image[1]) + 1}, ${(input % study.image[1]) + 1})`;
  return index === 0 || !study.chain ? `input ${input + 1}` : `unit ${input + 1} of layer ${index}`;
}

const hasBias = (index) => study.chain.filter((layer) => layer.kind === "dense")[index].bias;

function weightName(layer, k) {
  const O = units(layer).length;
  return `from ${inputName(layer, Math.floor(k / O))} to ${unitName(layer, k % O)}`;
}


// What is drawn ----------------------------------------------------------------------------------------------

// The pictures of the blocks, drawn anew only when what they show has changed.
const pictures = remembered((layer, moment, damping, name, isDark) => {
  const exact = exactBlock(layer, moment), approximate = approximateBlock(layer, moment, damping, name);
  const { A, G } = factorsOf(layer, moment, damping, name), size = Math.sqrt(exact.length), limit = usual(exact);
  const square = (M) => picture(M.length, M.length, (i, j) => M[i][j], largest(M.flat()));
  return {
    size, limit, error: relativeError(exact, approximate), dark: isDark,
    exact: picture(size, size, (i, j) => exact[i * size + j], limit),
    product: picture(size, size, (i, j) => approximate[i * size + j], limit),
    difference: picture(size, size, (i, j) => exact[i * size + j] - approximate[i * size + j], limit),
    A: square(A), G: square(G),
  };
}, 3);

// The size that one in 200 entries exceeds: with the largest one as full colour, blocks would be pale.
function usual(block) {
  const stride = Math.ceil(block.length / 50021); // a sample of them is enough
  const sizes = block.filter((_, k) => k % stride === 0).map(Math.abs).sort();
  return sizes[Math.floor(0.995 * sizes.length)] || largest(block) || 1;
}

// Factored damping changes with lambda, the others do not: so that their pictures are kept.
const dampingOf = (name) => (name === "K-FAC (factored damping)" ? view.damping : 0);

const PRODUCT = {
  "K-FAC": "A \u2297 G",
  "K-FAC (factored damping)": "(A + \u03c0\u221a\u03bb I) \u2297 (G + \u221a\u03bb/\u03c0 I) \u2212 \u03bb I",
  "EKFAC": "K-FAC's eigenvectors, best eigenvalues",
  "nearest Kronecker": "the nearest A \u2297 G",
  "diagonal": "the diagonal alone",
};

function drawBlocks() {
  const { layer, moment, approximation: name, cursor } = view, O = units(layer).length;
  const drawn = pictures(layer, moment, dampingOf(name), name, dark.matches);
  const i = Math.floor(cursor.row / O), j = Math.floor(cursor.column / O), o = cursor.row % O, p = cursor.column % O;
  showPicture(byId("block-exact"), drawn.exact, cursor, O);
  showPicture(byId("block-product"), drawn.product, cursor, O);
  showPicture(byId("block-difference"), drawn.difference, cursor, O);
  showPicture(byId("block-A"), drawn.A, { row: i, column: j });
  showPicture(byId("block-G"), drawn.G, { row: o, column: p });
  const { size } = drawn;
  const factors = { "nearest Kronecker": " of the nearest product", "EKFAC": " of K-FAC", "diagonal": " of K-FAC" }[name] ?? "";
  const stored = { "EKFAC": (size / O) ** 2 + O * O + size, "diagonal": size }[name] ?? (size / O) ** 2 + O * O;
  caption("exact", `<b>Exact block</b>, ${whole(size)} \u00d7 ${whole(size)}: ${whole(size * size)} numbers`);
  caption("A", `<b>A</b>${factors}, ${size / O} \u00d7 ${size / O}: mean of \u0101\u0101\u1d40, a row for each input`);
  caption("G", `<b>G</b>${factors}, ${O} \u00d7 ${O}: mean of gg\u1d40, a row for each unit`);
  caption("product", `<b>${label(name)}</b>: ${PRODUCT[name]}, from ${whole(stored)} numbers`);
  caption("difference", `<b>Difference</b>: relative error <b id="block-error">${short(drawn.error)}</b> (Frobenius norm)`);
  drawScale(drawn.limit);
  writeEntry();
}

function caption(which, html) {
  const text = byId(`caption-${which}`);
  text.innerHTML = html;
  byId(`block-${which}`).setAttribute("aria-label", `Heat map. ${text.textContent}. Move with the arrow keys.`);
}

function drawScale(limit) {
  const scale = byId("block-scale");
  scale.innerHTML = `<span>\u2212${short(limit, 2)}</span><canvas></canvas><span>${short(limit, 2)}</span>
    <span>nats per squared weight and beyond, in all three blocks; A and G have their own scales. Strength is the square root of an entry, so
    that small ones are seen.</span>`;
  showPicture(scale.querySelector("canvas"), picture(1, 200, (_, k) => k / 99.5 - 1, 1));
}

// The entry under the cursor in words.
function writeEntry() {
  const { layer, moment, approximation: name, cursor } = view, O = units(layer).length, size = inputs(layer).length * O;
  const place = cursor.row * size + cursor.column;
  const exact = exactBlock(layer, moment)[place], approximate = approximateBlock(layer, moment, dampingOf(name), name)[place];
  const { A, G } = factorsOf(layer, moment, view.damping, name);
  const a = A[Math.floor(cursor.row / O)][Math.floor(cursor.column / O)], g = G[cursor.row % O][cursor.column % O];
  const product = /Kronecker|K-FAC$/.test(name) ? ` (${short(a)} of A times ${short(g)} of G)` : "";
  byId("readout").innerHTML = `Row: weight ${weightName(layer, cursor.row)}. Column: weight ${weightName(layer, cursor.column)}.
    Exact <b id="entry-exact">${short(exact)}</b>, ${label(name)} <b id="entry-product">${short(approximate)}</b>${product},
    difference <b id="entry-difference">${short(exact - approximate)}</b>.`;
}

// The exact step, then the others: of the first layer as pictures where its inputs are an image, else of the
// layer that is shown, as matrices.
function drawSteps() {
  const layer = study.image ? 0 : view.layer, [I, O] = study.layers[layer].shape, box = byId("steps");
  const [rows, columns] = study.image ?? [I, O];
  byId("unit-text").textContent = `${view.unit + 1} of ${O}`;
  box.replaceChildren(...["exact", ...names].map((name) => {
    const values = step(name, layer), figure = document.createElement("figure"), canvas = document.createElement("canvas");
    const value = (i, j) => values[study.image ? (i * columns + j) * O + view.unit : i * O + j];
    const cosine = measure(name, "step_cosine", { part: layer + 1 });
    const text = `${label(name)}: <b data-cosine="${name}">${short(cosine)}</b>`;
    figure.innerHTML = `<figcaption>${name === "exact" ? "<b>natural gradient</b> (exact)" : text}</figcaption>`;
    figure.classList.toggle("chosen", name === view.approximation);
    canvas.setAttribute("role", "img");
    canvas.setAttribute("aria-label", `Step: ${figure.textContent}`);
    canvas.style.aspectRatio = Math.max(0.6, columns / rows); // a tall matrix is squeezed
    figure.prepend(canvas);
    const limit = largest(range(rows).flatMap((i) => range(columns).map((j) => value(i, j)))) || 1;
    canvas.image = picture(rows, columns, value, limit);
    return figure;
  }));
  box.querySelectorAll("canvas").forEach((canvas) => showPicture(canvas, canvas.image)); // now that they have a size
}

const MEASURE_LABELS = { share: "share of progress", step_cosine: "cosine", error: "relative error" };

function penOf(name) {
  const bold = name === "K-FAC" || name === view.approximation;
  return { color: colorOf(name), width: bold ? 3.5 : 1.8, dash: LOOKS[name]?.[1] ?? DOTTED };
}

function drawGoodness() {
  const shown = names.filter((name) => view.shown.has(name)), what = view.measure, { floats } = study.moments[view.moment];
  const places = range(study.moments.length), stops = range(study.dampings.length);
  const alongDamping = (name) => stops.map((damping) => measure(name, what, { damping }));
  const alongTraining = (name) => places.map((moment) => measure(name, what, { moment }));
  const all = names.flatMap((name) => [...alongDamping(name), ...alongTraining(name)]).filter(Number.isFinite);
  const high = Math.min(2, Math.max(1, ...all)) * 1.03; // errors can be larger: what matters is below
  const y = { low: Math.min(0, ...all), high, label: MEASURE_LABELS[what] };

  const total = study.parameters ** 2, fewest = study.parameters / 8;
  const marks = shown.filter((name) => Number.isFinite(measure(name, what))).map((name) => ({
    x: Math.max(floats[name], fewest * 1.3), y: measure(name, what), color: colorOf(name),
    size: name === view.approximation ? 7 : 5, text: floats[name] ? label(name) : "gradient: none",
    name: label(name), at: whole(floats[name]),
  }));
  marks.push({ x: total, y: what === "error" ? 0 : 1, color: cssColor("ink"), text: "exact", name: "exact" });
  chart(byId("chart-storage"), { x: { low: fewest, high: total * 3, log: true, label: "numbers stored" }, y, marks });

  const { dampings } = study;
  chart(byId("chart-damping"), {
    x: { low: dampings[0], high: dampings[dampings.length - 1] * 1.0001, log: true, label: "damping \u03bb" },
    y, rules: [{ x: lambda(), text: "\u03bb" }],
    curves: shown.map((name) => ({ name: label(name), ...penOf(name), points: alongDamping(name).map((value, k) => [dampings[k], value]) })),
  });
  const shortName = (k) => study.moments[k].name.replace(/^after | steps$/g, "").replace("before training", "0");
  chart(byId("chart-training"), {
    x: { low: 0, high: Math.max(1, places.length - 1), label: "steps of training", ticks: places, names: shortName },
    y, rules: [{ x: view.moment, text: "this moment" }],
    curves: shown.map((name) => ({ name: label(name), ...penOf(name), points: alongTraining(name).map((value, k) => [k, value]) })),
  });
  for (const id of ["chart-storage", "chart-damping", "chart-training"]) {
    describeChart(id, `${MEASURE_LABELS[what]}, ${byId(id).nextElementSibling.textContent} The table below has the numbers.`);
  }
  writeGoodness();
}

function describeChart(id, text) {
  byId(id).setAttribute("role", "application");
  byId(id).setAttribute("aria-label", `Chart: ${text} Move along it with the arrow keys.`);
}

function writeGoodness() {
  if (names.includes("K-FAC")) {
    byId("goodness").innerHTML = `At this moment and damping K-FAC's step makes
      <b>${short(100 * measure("K-FAC", "share"))}%</b> of the progress that the exact step makes on the local quadratic model,
      each with its best length, and has cosine <b>${short(measure("K-FAC", "step_cosine"))}</b> with it.`;
  }
  const columns = { share: "share", step_cosine: "cosine", step_length: "length", error: "error" };
  const { floats } = study.moments[view.moment];
  const row = (name) => [label(name), ...Object.keys(columns).map((what) => short(measure(name, what))), whole(floats[name])];
  const cells = (texts, tag) => `<tr>${texts.map((text) => `<${tag}>${text}</${tag}>`).join("")}</tr>`;
  const head = cells(["matrix", ...Object.values(columns), "stored"], "th");
  byId("table").innerHTML = `<thead>${head}</thead><tbody>${names.map((name) => cells(row(name), "td")).join("")}</tbody>`;
}

function drawSpectrum() {
  const { layer, moment, approximation: name } = view, key = name.startsWith("K-FAC") ? "K-FAC" : name;
  const spectrum = (which) => Array.from(array("moments", moment, "layers", layer, "spectra", which));
  const exact = spectrum("exact"), other = spectrum(key), top = Math.max(exact[0], other[0]);
  const below = exact.filter((value) => value < lambda()).length;
  const points = (values) => values.map((value, k) => [k + 1, value]);
  chart(byId("chart-spectrum"), {
    x: { low: 1, high: exact.length, label: "rank of the eigenvalue" },
    y: { low: Math.min(1e-6, lambda()) / 2, high: top * 3, log: true, label: "eigenvalue" },
    rules: [{ y: lambda(), text: `\u03bb = ${short(lambda(), 2)}` }],
    curves: [
      { name: "exact", points: points(exact), color: cssColor("ink"), width: 2.5 },
      { name: label(key), ...penOf(name), points: points(other) },
    ],
  });
  byId("caption-spectrum").innerHTML = `Eigenvalues of this layer's block: exact (solid, in the colour of the text) and of ${label(key)}.
    <b>${below}</b> of ${whole(exact.length)} exact ones lie below \u03bb: in those directions damping decides the step.`;
  describeChart("chart-spectrum", byId("caption-spectrum").textContent);
}

function drawMatrices() {
  const { layer } = view, size = inputs(layer).length * units(layer).length, [I, O] = study.layers[layer].shape;
  byId("moment-text").textContent = study.moments[view.moment].name;
  byId("damping-text").textContent = short(lambda(), 2);
  byId("block-about").textContent = size < I * O
    ? `Of this layer's ${I} \u00d7 ${O} weights, the picture has those from the ${inputs(layer).length} most active inputs to
       the ${units(layer).length} most active units.`
    : `Point at an entry, or move the cursor with the arrow keys.`;
  drawBlocks();
  drawSteps();
  drawGoodness();
  drawSpectrum();
}


// Controls ---------------------------------------------------------------------------------------------------

function moveCursor(row, column) {
  const last = inputs(view.layer).length * units(view.layer).length - 1;
  const within = (value) => Math.max(0, Math.min(last, value));
  view.cursor = { row: within(row), column: within(column) };
  drawBlocks();
}

function centreCursor() {
  const size = inputs(view.layer).length * units(view.layer).length;
  view.cursor = { row: Math.floor(size / 3), column: Math.floor(size / 2) };
}

function startMatrices() {
  centreCursor();
  const layerText = ([I, O], l) => `${layerName(l)}: ${I} \u2192 ${O}`;
  byId("layer").append(...study.layers.map(({ shape }, l) => new Option(layerText(shape, l), l)));
  byId("approximation").append(...DRAWN.map((name) => new Option(label(name), name)));
  byId("layer").value = view.layer;
  for (const id of ["chart-storage", "chart-damping", "chart-training", "chart-spectrum"]) makeReadable(byId(id));
  for (const [id, count] of [["moment", study.moments.length], ["damping", study.dampings.length]]) byId(id).max = count - 1;
  for (const id of ["moment", "damping", "unit"]) {
    byId(id).value = view[id];
    byId(id).addEventListener("input", () => { view[id] = Number(byId(id).value); drawMatrices(); });
  }
  byId("steps-title").textContent = study.image ? "The first layer's steps" : "The steps of this layer";
  byId("steps-about").textContent = `${study.image
    ? `Each picture shows how a step changes the weights from the ${study.image.join(" \u00d7 ")} pixels into one unit
       of the first layer.`
    : "Each picture shows how a step changes this layer's weights: a row for each input, a column for each unit."}
    A step is (matrix + \u03bb I)\u207b\u00b9 times the gradient of the loss; with the exact matrix it is the natural gradient.
    The number is the cosine with that, over the layer's weights. Orange is above 0, purple below; each picture has a scale of its own.`;
  byId("unit-label").hidden = !study.image;
  byId("unit").max = study.layers[0].shape[1] - 1;
  byId("moment").parentElement.hidden = study.moments.length < 2;
  byId("chart-training").parentElement.hidden = study.moments.length < 2;
  byId("layer").addEventListener("input", () => { view.layer = Number(byId("layer").value); centreCursor(); drawMatrices(); });
  byId("approximation").addEventListener("input", () => { view.approximation = byId("approximation").value; drawMatrices(); });
  byId("measure").addEventListener("input", () => { view.measure = byId("measure").value; drawGoodness(); });
  for (const name of names) {
    const button = Object.assign(document.createElement("button"), { type: "button" });
    const [color, dash] = LOOKS[name] ?? ["currentColor", DOTTED];
    const line = `<path d="M0 3h26" stroke="${color}" stroke-width="3" stroke-dasharray="${dash}"/>`;
    button.innerHTML = `<svg width="26" height="6" aria-hidden="true">${line}</svg> ${label(name)}`;
    button.setAttribute("aria-pressed", "true");
    button.addEventListener("click", () => {
      view.shown.has(name) ? view.shown.delete(name) : view.shown.add(name);
      button.setAttribute("aria-pressed", view.shown.has(name));
      drawGoodness();
    });
    byId("shown").append(button);
  }
  for (const which of ["exact", "product", "difference"]) {
    const canvas = byId(`block-${which}`), size = () => inputs(view.layer).length * units(view.layer).length;
    whenPointed(canvas, (x, y) => moveCursor(Math.floor(y * size()), Math.floor(x * size())));
    whenArrowed(canvas, (dx, dy) => moveCursor(view.cursor.row + dy, view.cursor.column + dx));
  }
  // An entry of A is a whole block of the product, an entry of G the same entry of each block.
  const ofA = { count: () => inputs(view.layer).length, at: (k, O) => Math.floor(k / O), to: (k, O, i) => i * O + (k % O) };
  const ofG = { count: () => units(view.layer).length, at: (k, O) => k % O, to: (k, O, o) => k - (k % O) + o };
  for (const [id, { count, at, to }] of [["block-A", ofA], ["block-G", ofG]]) {
    const move = (i, j) => {
      const O = units(view.layer).length, within = (k) => Math.max(0, Math.min(count() - 1, k));
      moveCursor(to(view.cursor.row, O, within(i)), to(view.cursor.column, O, within(j)));
    };
    whenPointed(byId(id), (x, y) => move(Math.floor(y * count()), Math.floor(x * count())));
    whenArrowed(byId(id), (dx, dy) => {
      const O = units(view.layer).length;
      move(at(view.cursor.row, O) + dy, at(view.cursor.column, O) + dx);
    });
  }
  byId("about").textContent = `Means over ${study.n} examples; ${whole(study.parameters)} parameters.`;
  writeFirstSuggestion();
}

// What to try, with the numbers of this net.
function writeFirstSuggestion() {
  const low = stopNear(1e-4), cosine = (damping) => short(measure("K-FAC", "step_cosine", { damping }), 2);
  byId("try-matrices").innerHTML =
    low < view.damping && names.includes("K-FAC")
      ? `Drag <b>damping \u03bb</b> to ${short(study.dampings[low], 2)}: the cosine between K-FAC's step and the exact one
         goes from ${cosine(view.damping)} to ${cosine(low)}. Drag it to the right, and every step comes closer to the gradient.`
      : "Point at an entry of a matrix: it says which two weights meet there, and what each matrix has in this place.";
}
