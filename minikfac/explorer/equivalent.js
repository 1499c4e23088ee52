// Second tab: two equivalent nets, one step of each method on both, and how far their curves part.
//
// Both nets are followed in the parameters theta of the first. If theta = J theta' + const, the second net has
// gradient J^T grad and Fisher matrix J^T F J, and its step d' moves theta by J d'. The natural step undoes J:
// J (J^T F J)^-1 J^T grad = F^-1 grad. Damping does not: J (J^T F J + lambda I)^-1 J^T grad.

const CHAIN = [
  { kind: "dense", n_in: 1, n_out: 3, bias: true }, { kind: "tanh" },
  { kind: "dense", n_in: 3, n_out: 1, bias: true }, { kind: "gaussian" },
];
const pair = JSON.parse(byId("data").textContent).equivalent;
const METHODS = Object.keys(pair.rates);

const identity = (n) => range(n).map((i) => range(n).map((j) => Number(i === j)));
const plus = (M, amount) => M.map((row, i) => row.map((value, j) => value + (i === j ? amount : 0)));

// Matrices side by side on the diagonal of a larger one.
function blockDiagonal(blocks) {
  const size = sum(blocks.map((block) => block.length)), M = range(size).map(() => new Array(size).fill(0));
  let start = 0;
  for (const block of blocks) {
    block.forEach((row, i) => row.forEach((value, j) => { M[start + i][start + j] = value; }));
    start += block.length;
  }
  return M;
}

// J at strength kappa: W = B W' U + const with B = [[V, 0], [d, 1]], so a block of J is B (x) U^T.
function jacobian(kappa) {
  const power = (Q, u) => matMul(Q.map((row) => row.map((q, k) => q * kappa ** u[k])), transposed(Q));
  return blockDiagonal(pair.maps.map(({ Q, u, delta, R, v }) => {
    const B = [...power(Q, u).map((row) => [...row, 0]), [...delta.map((value) => value * Math.log10(kappa)), 1]];
    return kron(B, transposed(power(R, v)));
  }));
}

// The mean gradient, the exact Fisher matrix and the K-FAC matrix A (x) G of each layer, at theta.
function curvature(theta) {
  const N = pair.x.length, zeros = (n) => range(n).map(() => new Array(n).fill(0));
  const grad = theta.map(() => 0), F = zeros(theta.length), As = [zeros(2), zeros(4)], Gs = [zeros(3), zeros(1)];
  const add = (M, a, b) => a.forEach((value, i) => b.forEach((other, j) => { M[i][j] += value * other / N; }));
  pair.x.forEach((x, n) => {
    const { z, tape } = forward(CHAIN, theta, [x]), gs = backward(CHAIN, theta, tape, [1]);
    const abars = tape.filter((entry) => entry.abar).map((entry) => entry.abar);
    const dz = gs.flatMap((g, l) => abars[l].flatMap((a) => g.map((value) => a * value))); // dz / dtheta
    dz.forEach((value, k) => { grad[k] += (z[0] - pair.y[n]) * value / N; });
    add(F, dz, dz);
    gs.forEach((g, l) => { add(As[l], abars[l], abars[l]); add(Gs[l], g, g); });
  });
  return { grad, exact: F, kfac: blockDiagonal(As.map((A, l) => kron(A, Gs[l]))) };
}

// Take steps of a method in the parameters theta' = J^-1 theta; returns theta, or null where F' is singular.
function follow(method, J, lambda, count) {
  const JT = transposed(J), lr = pair.rates[method];
  let theta = pair.theta, m = theta.map(() => 0), v = theta.map(() => 0);
  for (let k = 1; k <= count; k++) {
    const { grad, exact, kfac } = curvature(theta), gradient = matVec(JT, grad);
    let d = gradient;
    if (method === "Adam") {
      m = m.map((value, i) => 0.9 * value + 0.1 * gradient[i]);
      v = v.map((value, i) => 0.999 * value + 0.001 * gradient[i] ** 2);
      d = m.map((value, i) => value / (1 - 0.9 ** k) / (Math.sqrt(v[i] / (1 - 0.999 ** k)) + 1e-8));
    } else if (method !== "SGD") {
      d = solve(plus(matMul(JT, matMul(method === "K-FAC" ? kfac : exact, J)), lambda), gradient);
      if (d === null) return null;
    }
    const moved = matVec(J, d);
    theta = theta.map((value, i) => value - lr * moved[i]);
  }
  return theta;
}

const GRID = range(101).map((k) => -2.5 + k / 20);
const curveOf = (theta) => GRID.map((x) => forward(CHAIN, theta, [x]).z[0]);

// ||f1 - f2|| / ||f1 - f0||: how far two curves part, over how far the first has moved.
function gapOf(before, first, second) {
  const minus = (a, b) => a.map((value, k) => value - b[k]);
  return norm(minus(first, second)) / norm(minus(first, before));
}

const kappaOf = () => 10 ** (Number(byId("strength").value) / 20);
const lambdaOf = () => (byId("lambda").value === "0" ? 0 : 10 ** ((Number(byId("lambda").value) - 17) / 2));

function drawEquivalent() {
  const kappa = kappaOf(), lambda = lambdaOf(), count = Number(byId("count").value);
  byId("strength-text").textContent = kappa === 1 ? "not at all" : `condition number ${short(kappa, 2)}`;
  byId("lambda-text").textContent = lambda ? short(lambda, 2) : "0, none";
  byId("count-text").textContent = String(count);
  const before = curveOf(pair.theta), J = jacobian(kappa), gaps = {};
  for (const method of METHODS) {
    const both = [identity(pair.theta.length), J].map((map) => follow(method, map, lambda, count));
    const [first, second] = both.map((theta) => theta && curveOf(theta));
    gaps[method] = first && second ? gapOf(before, first, second) : NaN;
    const line = (values) => values.map((value, k) => [GRID[k], value]);
    const curves = [{ name: "both nets before", points: line(before), color: cssColor("soft"), width: 1.5, dash: [5, 4] }];
    if (first) curves.push({ name: "first net after", points: line(first), color: cssColor("first"), width: 3.5 });
    if (second) curves.push({ name: "second net after", points: line(second), color: cssColor("second"), width: 2.5, dash: [8, 5] });
    const marks = pair.x.map((x, n) => ({ name: "data", x, y: pair.y[n], color: cssColor("soft"), size: 2.5 }));
    const figure = byId(`net-${METHODS.indexOf(method)}`), canvas = figure.querySelector("canvas");
    chart(canvas, { x: { low: -2.5, high: 2.5, label: "x" }, y: { low: -3, high: 3, label: "f(x)" }, curves, marks });
    const text = Number.isNaN(gaps[method]) ? "its matrix is singular: choose more damping"
      : `gap <b data-gap="${method}">${short(gaps[method], 2)}</b>`;
    figure.querySelector("figcaption").innerHTML = `<b>${method}</b>, step size ${pair.rates[method]}: ${text}`;
    canvas.setAttribute("aria-label", `Curves of both nets. ${figure.querySelector("figcaption").textContent}. Move along them with the arrow keys.`);
  }
  byId("equivalent-about").textContent = `SGD and Adam have no damping. For the other two \u03bb I is added to the matrix of
    each net, in that net's own parameters, so the more damping, the more their steps depend on these parameters.
    ${lambda === 0 && kappa > 1 ? "Without damping their gap is rounding." : ""}`;
}

function startEquivalent() {
  byId("nets").append(...METHODS.map((_, k) => {
    const figure = Object.assign(document.createElement("figure"), { id: `net-${k}` });
    figure.innerHTML = `<figcaption></figcaption><canvas class="wide" role="application"></canvas>`;
    makeReadable(figure.querySelector("canvas"));
    return figure;
  }));
  for (const [id, value] of [["strength", 20], ["lambda", 7], ["count", 1]]) {
    byId(id).value = value;
    byId(id).addEventListener("input", drawEquivalent);
  }
}
