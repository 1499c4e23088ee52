// The net itself: forward, backward, and the exact Fisher block of a layer from the two signals abar and g.
//
// Examples are rows: s = [x, 1] W with W (I, O) and the bias in its last row, so entry i O + o of a layer's
// parameters is the weight from input i to unit o, as everywhere in minikfac.

const PHI = {
  identity: (s) => [s, 1],
  tanh: (s) => { const y = Math.tanh(s); return [y, 1 - y * y]; },
  logistic: (s) => { const y = 1 / (1 + Math.exp(-s)); return [y, y * (1 - y)]; },
  relu: (s) => [Math.max(s, 0), s > 0 ? 1 : 0],
  softplus: (s) => [Math.max(s, 0) + Math.log1p(Math.exp(-Math.abs(s))), 1 / (1 + Math.exp(-s))],
}; // phi(s) and its derivative

// The Fisher matrix of the outputs z, (C, C): what the distribution of targets contributes.
const OUTPUT_FISHER = {
  gaussian: (z) => z.map((_, c) => z.map((_, d) => Number(c === d))),
  bernoulli: (z) => {
    const p = z.map((value) => 1 / (1 + Math.exp(-value)));
    return p.map((a, c) => p.map((_, d) => (c === d ? a * (1 - a) : 0)));
  },
  categorical: (z) => {
    const top = Math.max(...z), e = z.map((value) => Math.exp(value - top)), total = sum(e);
    const p = e.map((value) => value / total);
    return p.map((a, c) => p.map((b, d) => (c === d ? a : 0) - a * b));
  },
};

// Run one example x through a chain [{kind, n_in, n_out, bias}, {kind: "tanh"}, ..., {kind: "categorical"}].
// Returns the outputs z and a tape: abar of each dense layer, the derivatives of each pointwise one.
function forward(chain, theta, x) {
  const tape = [];
  let values = Array.from(x), place = 0;
  for (const layer of chain.slice(0, -1)) {
    if (layer.kind === "dense") {
      const abar = layer.bias ? [...values, 1] : values, s = new Array(layer.n_out).fill(0);
      for (const a of abar) for (let o = 0; o < layer.n_out; o++) s[o] += a * theta[place++];
      tape.push({ abar, place: place - abar.length * layer.n_out });
      values = s;
    } else {
      const pairs = values.map(PHI[layer.kind]);
      tape.push({ slopes: pairs.map((pair) => pair[1]) });
      values = pairs.map((pair) => pair[0]);
    }
  }
  return { z: values, tape };
}

// Backward from dz (C): g, the derivative with respect to what comes out of the weights, by dense layer.
function backward(chain, theta, tape, dz) {
  const gs = [];
  let d = Array.from(dz);
  for (let l = chain.length - 2; l >= 0; l--) {
    const layer = chain[l];
    if (layer.kind === "dense") {
      gs.unshift(d);
      const { place } = tape[l];
      d = range(layer.n_in).map((i) => {
        let total = 0;
        for (let o = 0; o < layer.n_out; o++) total += theta[place + i * layer.n_out + o] * gs[0][o];
        return total;
      });
    } else d = d.map((value, k) => value * tape[l].slopes[k]);
  }
  return gs;
}

// Of one example, for each dense layer: abar (I), and the covariance S = J^T M J (O, O) of its g under the
// model's own targets, where M is the Fisher matrix of the outputs and row c of J is backward(e_c).
function signalsOf(chain, theta, x) {
  const { z, tape } = forward(chain, theta, x), M = OUTPUT_FISHER[chain[chain.length - 1].kind](z);
  const gs = z.map((_, c) => backward(chain, theta, tape, z.map((_, d) => Number(c === d))));
  return tape.filter((entry) => entry.abar).map(({ abar }, layer) => {
    const J = gs.map((g) => g[layer]);
    return { abar, S: matMul(transposed(J), matMul(M, J)) };
  });
}

// sum_n a_n a_n^T (x) S_n from rows a_n (I) and symmetric matrices S_n (O, O): a block (I O, I O), flat.
// The exact block is 1/N times this over examples; EKFAC's block is this over the eigenvectors of A.
function sumOfProducts(rows, squares, scale) {
  const I = rows[0].length, O = squares[0].length, size = I * O, block = new Float64Array(size * size);
  const pairs = range(O).flatMap((o) => range(o + 1).map((p) => [o, p]));
  const flat = squares.map((S) => Float64Array.from(pairs, ([o, p]) => S[o][p] * scale));
  const total = new Float64Array(pairs.length);
  for (let i = 0; i < I; i++) {
    for (let j = 0; j <= i; j++) {
      total.fill(0);
      for (let n = 0; n < rows.length; n++) {
        const weight = rows[n][i] * rows[n][j];
        if (weight === 0) continue; // many pixels are
        const S = flat[n];
        for (let k = 0; k < total.length; k++) total[k] += weight * S[k];
      }
      pairs.forEach(([o, p], k) => { // symmetric in (i, j) and in (o, p), each by itself
        for (const [a, b] of [[i, j], [j, i]]) {
          block[(a * O + o) * size + b * O + p] = total[k];
          block[(a * O + p) * size + b * O + o] = total[k];
        }
      });
    }
  }
  return block;
}
