// Numbers: arrays that came with the page, linear algebra for small matrices, and numbers as text.

// An array of the page (base64 of little-endian numbers) as a typed array; 8-bit integers are scaled back.
function unpack(entry) {
  const bytes = Uint8Array.from(atob(entry.data), (letter) => letter.charCodeAt(0));
  if (entry.kind === "float32") return Float64Array.from(new Float32Array(bytes.buffer));
  return Float64Array.from(new Int8Array(bytes.buffer), (value) => value * entry.scale);
}

// A function of some keys that remembers its last results, as many as `most`.
function remembered(compute, most = 12) {
  const results = new Map();
  return (...keys) => {
    const key = keys.join("|");
    if (!results.has(key)) {
      if (results.size >= most) results.delete(results.keys().next().value);
      results.set(key, compute(...keys));
    }
    return results.get(key);
  };
}

const range = (n) => Array.from({ length: n }, (_, k) => k);
const sum = (values) => values.reduce((total, value) => total + value, 0);
const dot = (a, b) => a.reduce((total, value, k) => total + value * b[k], 0);
const norm = (a) => Math.sqrt(dot(a, a));
const largest = (values) => values.reduce((most, value) => Math.max(most, Math.abs(value)), 0);

// Small matrices are arrays of rows.
const matVec = (M, v) => M.map((row) => dot(row, v));
const transposed = (M) => M[0].map((_, j) => M.map((row) => row[j]));
const matMul = (A, B) => {
  const columns = transposed(B);
  return A.map((row) => columns.map((column) => dot(row, column)));
};
const kron = (A, B) => A.flatMap((a) => B.map((b) => a.flatMap((x) => b.map((y) => x * y))));

// Solve M x = b for a symmetric positive definite M by M = L L^T; null where M is not.
function solve(M, b) {
  const n = b.length, L = M.map((row) => row.slice()), x = b.slice();
  for (let i = 0; i < n; i++) {
    for (let j = 0; j <= i; j++) {
      let s = L[i][j];
      for (let k = 0; k < j; k++) s -= L[i][k] * L[j][k];
      if (i === j && !(s > 0)) return null;
      L[i][j] = i === j ? Math.sqrt(s) : s / L[j][j];
    }
  }
  for (let i = 0; i < n; i++) {
    for (let k = 0; k < i; k++) x[i] -= L[i][k] * x[k];
    x[i] /= L[i][i];
  }
  for (let i = n - 1; i >= 0; i--) {
    for (let k = i + 1; k < n; k++) x[i] -= L[k][i] * x[k];
    x[i] /= L[i][i];
  }
  return x;
}

// Numbers as text: three digits, very large and small ones with a power of ten; with \u2212 for minus.
const RAISED = { "-": "\u207b" };
[..."\u2070\u00b9\u00b2\u00b3\u2074\u2075\u2076\u2077\u2078\u2079"].forEach((letter, digit) => { RAISED[digit] = letter; });

function short(value, digits = 3) {
  if (value === 0) return "0";
  if (!Number.isFinite(value)) return "\u2013";
  const [mantissa, exponent] = value.toExponential(digits - 1).split("e");
  const power = Number(exponent);
  if (power >= -3 && power < 5) {
    const decimals = Math.max(0, digits - 1 - power);
    const fixed = { minimumFractionDigits: decimals, maximumFractionDigits: decimals };
    return Number(`${mantissa}e${power}`).toLocaleString("en-US", fixed).replace("-", "\u2212");
  }
  const raised = [...String(power)].map((letter) => RAISED[letter]).join("");
  const factor = Number(mantissa) === 1 ? "" : Number(mantissa) === -1 ? "-" : `${mantissa} \u00d7 `;
  return `${factor}10${raised}`.replace("-", "\u2212");
}

const whole = (count) => count.toLocaleString("en-US");
