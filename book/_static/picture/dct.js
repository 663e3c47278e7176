// The blockwise orthonormal DCT-II, the zigzag order, and cutting: as diffusab_core/spectrum/dct.py, in float64.
//
// An image or latent is {c, h, w, data}: data is a Float64Array in the order (channel, row, column).
ownPicture.define("dct", () => {
  "use strict";

  const bases = new Map();

  // The matrix (B, B), row = frequency: cos(π (2 i + 1) u / 2B), scaled to unit rows.
  function basis(b) {
    if (!bases.has(b)) {
      const matrix = new Float64Array(b * b);
      for (let u = 0; u < b; u++) {
        for (let i = 0; i < b; i++) {
          matrix[u * b + i] = Math.sqrt((u ? 2 : 1) / b) * Math.cos((Math.PI * (2 * i + 1) * u) / (2 * b));
        }
      }
      bases.set(b, matrix);
    }
    return bases.get(b);
  }

  // Each block of B x B, times the matrix from both sides: forward M X Mᵀ, backward Mᵀ X M. Coefficients lie where the
  // block's pixels lay, so that both directions have the layout of the image.
  function transform(x, b, forward) {
    if (x.h % b || x.w % b) throw new Error(`${x.h} x ${x.w} cannot be cut into blocks of ${b}`);
    const m = basis(b);
    const at = forward ? (k, i) => m[k * b + i] : (k, i) => m[i * b + k];
    const square = Float64Array.from({ length: b * b }, (_, n) => at(Math.floor(n / b), n % b));
    const half = new Float64Array(b * b);
    const data = new Float64Array(x.data.length);
    for (let top = 0; top < x.c * x.h; top += b) {
      for (let left = 0; left < x.w; left += b) {
        const first = top * x.w + left;
        half.fill(0);
        for (let k = 0; k < b; k++) {
          for (let i = 0; i < b; i++) {
            const factor = square[k * b + i];
            for (let j = 0; j < b; j++) half[k * b + j] += factor * x.data[first + i * x.w + j];
          }
        }
        for (let k = 0; k < b; k++) {
          for (let l = 0; l < b; l++) {
            let sum = 0;
            for (let j = 0; j < b; j++) sum += half[k * b + j] * square[l * b + j];
            data[first + k * x.w + l] = sum;
          }
        }
      }
    }
    return { ...x, data };
  }

  const blockDct = (x, b) => transform(x, b, true);
  const blockIdct = (d, b) => transform(d, b, false);

  // Row-major indices (B²) in ascending frequency, T.81's order: 0, 1, 8, 16, 9, 2, ...
  function zigzag(b) {
    const all = Array.from({ length: b * b }, (_, n) => [Math.floor(n / b), n % b]);
    const along = ([u, v]) => ((u + v) % 2 ? u : v);
    all.sort((p, q) => p[0] + p[1] - q[0] - q[1] || along(p) - along(q));
    return all.map(([u, v]) => u * b + v);
  }

  // How many coefficients of B² are left when a share is kept.
  const countKept = (share, b) => Math.max(1, b * b - Math.round((1 - share) * b * b));

  // Multiplies the coefficients of each block by one factor a frequency, row-major (B²).
  function scale(d, b, factors) {
    const data = new Float64Array(d.data.length);
    for (let row = 0; row < d.c * d.h; row++) {
      for (let x = 0, n = row * d.w; x < d.w; x++, n++) data[n] = d.data[n] * factors[(row % b) * b + (x % b)];
    }
    return { ...d, data };
  }

  // From coefficients to what is left with the share of lowest frequencies of each block, in zigzag order.
  function lowPass(d, share, b) {
    const factors = new Float64Array(b * b);
    for (const n of zigzag(b).slice(0, countKept(share, b))) factors[n] = 1;
    return blockIdct(scale(d, b, factors), b);
  }

  return { blockDct, blockIdct, zigzag, countKept, scale, lowPass };
});
