// Profiles, energies, signal and noise, and the dial: as diffusab_core/spectrum/profile.py, flow/gaussian.py and
// methods/reshaping.py have them, of one picture.
ownPicture.define("spectrum", (use) => {
  "use strict";

  const { blockDct, blockIdct, scale, zigzag } = use("dct");

  // Coefficients by zigzag rank: for each of B² ranks all values, over blocks and channels.
  function ranked(x, b) {
    const d = blockDct(x, b);
    const rank = new Int32Array(b * b);
    zigzag(b).forEach((n, k) => (rank[n] = k));
    const values = Array.from({ length: b * b }, () => new Float64Array(d.data.length / (b * b)));
    for (let n = 0; n < d.data.length; n++) {
      const [row, column] = [Math.floor(n / d.w), n % d.w];
      const block = Math.floor(row / b) * (d.w / b) + Math.floor(column / b);
      values[rank[(row % b) * b + (column % b)]][block] = d.data[n];
    }
    return values;
  }

  const mean = (values) => values.reduce((sum, value) => sum + value, 0) / values.length;
  const lowerMedian = (values) => Float64Array.from(values).sort()[Math.floor((values.length - 1) / 2)];

  // How strong each frequency is beside D₀₀, in zigzag order; blocks with D₀₀ = 0 have no ratio and are left out of those.
  function frequencyProfile(x, b, statistic) {
    const d = ranked(x, b);
    const ratios = (k) => d[k].map((value, block) => Math.abs(value / d[0][block])).filter((_, block) => d[0][block]);
    if (statistic === "mean_ratio") return d.map((_, k) => mean(ratios(k)));
    if (statistic === "median_ratio") return d.map((_, k) => lowerMedian(ratios(k)));
    const strength = statistic === "energy" ? (value) => value * value : Math.abs;
    const means = d.map((values) => mean(values.map(strength)));
    return means.map((value) => value / means[0]);
  }

  // Each channel at mean 0 and variance 1, and what undoes it. A channel without any variance stays at 0.
  function standardise(x) {
    const size = x.h * x.w;
    const data = new Float64Array(x.data.length);
    const statistics = [];
    for (let c = 0; c < x.c; c++) {
      const channel = x.data.subarray(c * size, (c + 1) * size);
      const centre = mean(channel);
      const spread = Math.sqrt(channel.reduce((sum, value) => sum + (value - centre) ** 2, 0) / (size - 1));
      statistics.push([centre, spread]);
      data.set(channel.map((value) => (spread ? (value - centre) / spread : 0)), c * size);
    }
    const undo = (y) => ({
      ...y,
      data: y.data.map((value, n) => {
        const [centre, spread] = statistics[Math.floor(n / size)];
        return value * spread + centre;
      }),
    });
    return { standard: { ...x, data }, undo };
  }

  // Mean energy of each frequency in zigzag order.
  const energies = (x, b) => ranked(x, b).map((values) => mean(values.map((value) => value * value)));

  // x_t = (1 - t) x + t ε
  const interpolate = (x, noise, t) => ({ ...x, data: x.data.map((value, n) => (1 - t) * value + t * noise.data[n]) });

  const frequencySnr = (energy, t) => energy.map((value) => ((1 - t) / t) ** 2 * value);

  // The dial's g_k: energies λ to the power a, at the same sum. Frequencies without energy stay as they are.
  function filterGains(energy, power) {
    const there = energy.filter((value) => value > 0);
    const sum = there.reduce((total, value) => total + value, 0);
    const sumOfPowers = there.reduce((total, value) => total + value ** power, 0);
    return energy.map((value) => (value > 0 ? Math.sqrt((value ** (power - 1) * sum) / sumOfPowers) : 1));
  }

  // Multiplies each frequency of every block by its gain, or divides by it; gains are in zigzag order.
  function filter(x, gains, b, exponent = 1) {
    const factors = new Float64Array(b * b);
    zigzag(b).forEach((n, k) => (factors[n] = gains[k] ** exponent));
    return blockIdct(scale(blockDct(x, b), b, factors), b);
  }

  return { frequencyProfile, standardise, energies, interpolate, frequencySnr, filterGains, filter };
});
