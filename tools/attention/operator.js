// @ts-check
"use strict";
/** The arithmetic of the page, as the equations read; `attention` may be called from the console, too. */
const attention = (() => {
  /** @typedef {{channels: number, heads: number, side: number, qkv: Float32Array, height: Float32Array, width: Float32Array}} Weights */
  /** @typedef {{q: Float64Array, k: Float64Array, v: Float64Array, d: number, N: number}} Vectors q, k and v of one head, (d, N) each. */
  /** @typedef {"relative" | "absolute" | "copied" | "none"} Form */

  /** Return q, k and v of one head. @param {Weights} weights @param {Float32Array} x (C, N) @param {number} head @returns {Vectors} */
  function vectors(weights, x, head) {
    const { channels: C, heads, side } = weights, N = side * side, d = C / heads;
    const [q, k, v] = [0, 1, 2].map((part) => {
      const found = new Float64Array(d * N);
      for (let c = 0; c < d; c++) {
        const line = ((head * 3 + part) * d + c) * C;
        for (let from = 0; from < C; from++) {
          const w = weights.qkv[line + from];
          for (let n = 0; n < N; n++) found[c * N + n] += w * x[from * N + n];
        }
      }
      return found;
    });
    return { q, k, v, d, N };
  }

  /** Return one vector of a (d, N) table of vectors. @param {Float64Array} of @param {number} n @param {number} N */
  const column = (of, n, N) => Float64Array.from({ length: of.length / N }, (_, c) => of[c * N + n]);

  /** Return q_i . k_j for every j. @param {Vectors} vectors @param {number} i */
  function content({ q, k, d, N }, i) {
    const found = new Float64Array(N);
    for (let c = 0; c < d; c++) for (let j = 0; j < N; j++) found[j] += q[c * N + i] * k[c * N + j];
    return found;
  }

  /** Return q_i . table[offset] for every row of a table. @param {Float64Array} q The vector of i. @param {Float32Array} table */
  const reach = (q, table) => Float64Array.from({ length: table.length / q.length }, (_, o) => q.reduce((sum, value, c) => sum + value * table[o * q.length + c], 0));

  /**
   * Return the position term of every j, not scaled.
   * - relative: q_i . (height[y_j - y_i] + width[x_j - x_i])
   * - absolute: q_i . r_j, where r_j is the vector of the offset from the middle of the map
   * - copied: r_i . q_j
   * @param {Weights} weights @param {Vectors} vectors @param {number} i @param {Form} form
   * @param {number} shift What is added to every number of the height table.
   */
  function position(weights, { q, d, N }, i, form, shift = 0) {
    const { side, height, width } = weights, middle = side / 2, y = Math.floor(i / side), x = i % side;
    const found = new Float64Array(N);
    if (form === "none") return found;
    for (let j = 0; j < N; j++) {
      const other = form === "copied" ? i : j, row = Math.floor(other / side), line = other % side;
      const down = (form === "relative" ? row - y : row - middle) + side - 1, right = (form === "relative" ? line - x : line - middle) + side - 1;
      const asks = form === "copied" ? j : i;
      for (let c = 0; c < d; c++) found[j] += q[c * N + asks] * (height[down * d + c] + shift + width[right * d + c]);
    }
    return found;
  }

  /** @param {Float64Array} logits */
  function softmax(logits) {
    const most = Math.max(...logits), powers = logits.map((l) => Math.exp(l - most)), total = powers.reduce((a, b) => a + b, 0);
    return powers.map((p) => p / total);
  }

  /** Return the row of one query, and what it is made of. @param {Weights} weights @param {Vectors} vectors @param {number} i @param {Form} form @param {number} [scale] @param {number} [shift] */
  function row(weights, vectors, i, form, scale = vectors.d ** -0.5, shift = 0) {
    const near = content(vectors, i), place = position(weights, vectors, i, form, shift);
    const logits = near.map((value, j) => scale * (value + place[j]));
    return { content: near, position: place, logits, weights: softmax(logits) };
  }

  /** Return sum_j a_j v_j. @param {Float64Array} weights @param {Vectors} vectors */
  const mix = (weights, { v, d, N }) => Float64Array.from({ length: d }, (_, c) => weights.reduce((sum, a, j) => sum + a * v[c * N + j], 0));

  /**
   * Read the keys part by part, as kernels do that keep no row: the largest logit so far, the sum and the mixture.
   * @param {Float64Array} logits @param {Vectors} vectors @param {number} parts How many parts are read. @param {number} size Keys of a part.
   */
  function online(logits, { v, d, N }, parts, size) {
    let most = -Infinity, total = 0;
    const out = new Float64Array(d);
    for (let part = 0; part < parts; part++) {
      const read = logits.slice(part * size, (part + 1) * size), higher = Math.max(most, ...read), keep = Math.exp(most - higher);
      const powers = read.map((l) => Math.exp(l - higher));
      total = total * keep + powers.reduce((a, b) => a + b, 0);
      for (let c = 0; c < d; c++) out[c] = out[c] * keep + powers.reduce((sum, p, n) => sum + p * v[c * N + part * size + n], 0);
      most = higher;
    }
    return { most, total, out };
  }

  /** Return the number of cells that would share equally with the same entropy. @param {Float64Array} weights */
  const spread = (weights) => Math.exp(-weights.reduce((sum, a) => sum + (a > 0 ? a * Math.log(a) : 0), 0));

  /** Return a source of normal random numbers that is the same everywhere. @param {number} seed */
  function normal(seed) {
    let state = seed;
    const uniform = () => {
      state = (state + 0x6d2b79f5) | 0;
      let t = Math.imul(state ^ (state >>> 15), 1 | state);
      t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
      return ((t ^ (t >>> 14)) >>> 0) / 4294967296;
    };
    return () => Math.sqrt(-2 * Math.log(1 - uniform())) * Math.cos(2 * Math.PI * uniform());
  }

  return { vectors, column, content, reach, position, softmax, row, mix, online, spread, normal };
})();
