// The three explorers. Each fills a box and returns `show(subject)`, which is called when there is a new picture, and
// again when its latent is there: {image: {c: 3, h, w, data} in [-1, 1], latent: {c: C, h / f, w / f, data} or null}.
ownPicture.define("explorers", (use) => {
  "use strict";

  const { blockDct, lowPass, countKept } = use("dct");
  const { frequencyProfile, standardise, energies, interpolate, frequencySnr, filterGains, filter } = use("spectrum");
  const { resize, psnr, drawNoise } = use("pixels");
  const { makePlot } = use("plot");
  const { makeSlider, makeMenu, makePicture, row } = use("controls");
  const { latest } = use("calls");

  const B = 8; // the block, in the latent and in pixels at latent size
  const SHARES = [1, 0.75, 0.5, 0.4, 0.3, 0.2, 0.15, 0.1, 0.05, 0.03];
  const TIMES = [1, 0.95, 0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2, 0.1, 0];
  const POWERS = [0, 0.25, 0.5, 0.75, 1, 1.25, 1.5];
  const STATISTICS = [
    ["ratio_of_means", "mean |D| / mean |D₀₀|"],
    ["energy", "mean D² / mean D₀₀²"],
    ["median_ratio", "median of |D/D₀₀|"],
    ["mean_ratio", "mean of |D/D₀₀|"],
  ];
  const percent = (share) => `${Number((100 * share).toPrecision(3))}%`;
  const decibels = (x, y) => (x === y ? "uncut" : `PSNR ${psnr(x, y).toFixed(1)} dB`);
  const toUnit = (x) => ({ ...x, data: x.data.map((value) => (value + 1) / 2) });
  // One channel in grey, from three standard deviations below its mean to three above.
  const firstChannel = (x) => ({ ...x, c: 1, data: x.data.slice(0, x.h * x.w).map((value) => value / 3) });
  const countBelow = (values, level) => `${values.filter((value) => value < level).length} of ${values.length}`;

  // Remembers what was made for a subject as long as that subject is shown.
  function remember(make) {
    let of = null;
    let made = null;
    return (subject) => {
      if (of !== subject) [of, made] = [subject, make(subject)];
      return made;
    };
  }

  // Draws a picture that has to be decoded. `current()` is the subject shown now: what belonged to another is left out.
  function makeDecoding(box, picture, decode, current) {
    const work = latest(async (of, z, note) => {
      if (of !== current()) return;
      const y = await decode(z, (share) => of === current() && picture.wait(share));
      if (of === current()) picture.show(y, note(y));
    });
    return async (z, note) => {
      box.dataset.state = "busy";
      picture.wait();
      await work(current(), z, note);
      if (!picture.box.classList.contains("own-waiting")) box.dataset.state = "ready";
    };
  }

  function cut(box, { decode }) {
    let subject = null;
    const share = makeSlider({
      label: "low frequencies kept", values: SHARES, start: 0.3, text: percent, change: update,
    });
    const statistic = makeMenu({
      label: "profile", options: STATISTICS, start: "ratio_of_means", change: drawProfile,
    });
    const titles = ["picture, cut", "picture, same waves", "latent, cut and decoded"];
    const [cutPicture, sameWaves, decoded] = titles.map(makePicture);
    const plot = makePlot();
    box.append(
      row("own-controls", share), row("own-pictures", cutPicture, sameWaves, decoded), row("own-controls", statistic), plot,
    );
    const drawDecoded = makeDecoding(box, decoded, decode, () => subject);
    const coefficients = remember(({ image, latent }) => {
      const wide = (B * image.w) / (latent?.w ?? image.w / 4); // a block that covers the same part of the scene
      return { wide, ofImage: blockDct(image, wide), ofLatent: latent && blockDct(latent, B) };
    });
    const profiles = remember(({ image, latent }) => {
      const signals = [toUnit(resize(image, latent.h, latent.w)), latent];
      const made = new Map();
      return (name) => {
        if (!made.has(name)) made.set(name, signals.map((x) => frequencyProfile(x, B, name)));
        return made.get(name);
      };
    });

    function drawProfile() {
      if (!subject?.latent) return;
      const kept = countKept(share.value(), B);
      const [ofPicture, ofLatent] = profiles(subject)(statistic.value());
      plot.draw({
        series: [
          { name: "picture at latent size", values: ofPicture, look: 0 },
          { name: "its latent", values: ofLatent, look: 1 },
        ],
        ylabel: "relative to D₀₀",
        decades: [-4, 1],
        markX: kept - 0.5,
        alt:
          "Frequency profiles of the picture at latent size and of its latent; " +
          `a dashed line after rank ${kept - 1}, where the latent is cut.`,
      });
    }

    function update() {
      const { image, latent } = subject;
      const { wide, ofImage, ofLatent } = coefficients(subject);
      const kept = share.value() === 1 ? image : lowPass(ofImage, share.value(), wide);
      cutPicture.show(kept, decibels(kept, image));
      const waves = lowPass(ofImage, (share.value() * B * B) / (wide * wide), wide);
      sameWaves.show(waves, decibels(waves, image));
      drawProfile();
      if (latent) drawDecoded(lowPass(ofLatent, share.value(), B), (y) => decibels(y, image));
      else decoded.wait();
    }

    return (next) => {
      subject = next;
      update();
    };
  }

  function noise(box, { decode }) {
    let subject = null;
    const time = makeSlider({ label: "time t", values: TIMES, start: 0.4, text: (t) => `${t}`, change: update });
    const [noisy, decoded] = ["picture at latent size", "noisy latent, decoded"].map(makePicture);
    const plot = makePlot();
    box.append(row("own-controls", time), row("own-pictures", noisy, decoded), plot);
    const drawDecoded = makeDecoding(box, decoded, decode, () => subject);
    const prepare = remember(({ image, latent }) => {
      const scales = [resize(image, latent.h, latent.w), latent].map(standardise);
      return scales.map(({ standard, undo }, i) => ({
        standard, undo, noise: drawNoise(standard, i), energy: energies(standard, B),
      }));
    });

    function update() {
      if (!subject.latent) return decoded.wait();
      const t = time.value();
      const [pixels, latent] = prepare(subject);
      // At the ends of time the ratio is zero or infinite; the axis ends before either.
      const within = Math.min(Math.max(t, 1e-3), 1 - 1e-3);
      const [ofPixels, ofLatent] = [pixels, latent].map(({ energy }) => frequencySnr(energy, within));
      const drowned = (ratios) => `${countBelow(ratios, 1)} ranks below the noise`;
      noisy.show(pixels.undo(interpolate(pixels.standard, pixels.noise, t)), drowned(ofPixels));
      plot.draw({
        series: [
          { name: "picture at latent size", values: ofPixels, look: 0 },
          { name: "its latent", values: ofLatent, look: 1 },
          { name: "white data", values: frequencySnr(ofPixels.map(() => 1), within), look: 2 },
        ],
        ylabel: "signal / noise",
        decades: [-4.2, 4.2],
        markY: 1,
        alt: `Signal-to-noise ratio by rank at t = ${t}; picture: ${drowned(ofPixels)}; latent: ${drowned(ofLatent)}.`,
      });
      drawDecoded(latent.undo(interpolate(latent.standard, latent.noise, t)), () => drowned(ofLatent));
    }

    return (next) => {
      subject = next;
      update();
    };
  }

  function dial(box, { decode }) {
    let subject = null;
    const power = makeSlider({ label: "power a", values: POWERS, start: 1, text: (a) => `${a}`, change: update });
    const times = [...TIMES].reverse();
    const time = makeSlider({ label: "time t", values: times, start: 0.3, text: (t) => `${t}`, change: update });
    const [seen, noisy, decoded] = ["what a network sees", "with noise", "undone and decoded"].map(makePicture);
    const plot = makePlot();
    box.append(row("own-controls", power, time), row("own-pictures", seen, noisy, decoded), plot);
    const drawDecoded = makeDecoding(box, decoded, decode, () => subject);
    const prepare = remember(({ latent }) => {
      const { standard, undo } = standardise(latent);
      return { standard, undo, noise: drawNoise(standard, 1), energy: energies(standard, B) };
    });

    function update() {
      if (!subject.latent) return [seen, noisy, decoded].forEach((picture) => picture.wait());
      const [a, t] = [power.value(), time.value()];
      const { standard, undo, noise: white, energy } = prepare(subject);
      const gains = filterGains(energy, a);
      const inside = filter(standard, gains, B);
      const withNoise = interpolate(inside, white, t);
      const signal = energy.map((value, k) => ((1 - t) * gains[k]) ** 2 * value);
      const drowned = `${countBelow(signal, t * t)} ranks below the noise`;
      seen.show(firstChannel(inside), "first channel");
      noisy.show(firstChannel(withNoise), drowned);
      plot.draw({
        series: [
          { name: "signal as encoded", values: energy.map((value) => (1 - t) ** 2 * value), look: 3 },
          { name: "signal, dialled", values: signal, look: 1 },
          { name: "noise", values: energy.map(() => t * t), look: 0 },
        ],
        ylabel: "energy in xₜ",
        decades: [-4, 2],
        alt: `Energy by rank of signal and noise at a = ${a} and t = ${t}: ${drowned}.`,
      });
      drawDecoded(undo(filter(withNoise, gains, B, -1)), (y) => decibels(y, subject.image));
    }

    return (next) => {
      subject = next;
      update();
    };
  }

  return { cut, noise, dial };
});
