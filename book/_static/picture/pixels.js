// Pixels: a picture from a file, its square at the size that is worked on, noise, and the distance of two pictures.
ownPicture.define("pixels", () => {
  "use strict";

  const LARGEST = 1024; // pixels: what is larger is first reduced by the browser

  // Weights of antialiased bilinear resizing along one axis, as torch's interpolate(antialias=True): for each output the
  // first input and the weights from there on.
  function triangles(from, to) {
    const ratio = from / to;
    const reach = Math.max(ratio, 1);
    return Array.from({ length: to }, (_, n) => {
      const centre = ratio * (n + 0.5);
      const first = Math.max(Math.trunc(centre - reach + 0.5), 0);
      const last = Math.min(Math.trunc(centre + reach + 0.5), from);
      const weights = [];
      for (let i = first; i < last; i++) weights.push(Math.max(0, 1 - Math.abs((i + 0.5 - centre) / reach)));
      const sum = weights.reduce((total, weight) => total + weight, 0);
      return [first, weights.map((weight) => weight / sum)];
    });
  }

  // {c, h, w, data} at another size.
  function resize(x, height, width) {
    const across = new Float64Array(x.c * x.h * width);
    triangles(x.w, width).forEach(([first, weights], n) => {
      for (let row = 0; row < x.c * x.h; row++) {
        across[row * width + n] = weights.reduce((sum, weight, i) => sum + weight * x.data[row * x.w + first + i], 0);
      }
    });
    const data = new Float64Array(x.c * height * width);
    triangles(x.h, height).forEach(([first, weights], n) => {
      for (let c = 0; c < x.c; c++) {
        for (let column = 0; column < width; column++) {
          let sum = 0;
          weights.forEach((weight, i) => (sum += weight * across[(c * x.h + first + i) * width + column]));
          data[(c * height + n) * width + column] = sum;
        }
      }
    });
    return { c: x.c, h: height, w: width, data };
  }

  // The middle square of a picture, a Blob, as {c: 3, h, w, data} in [-1, 1]; what is transparent becomes white.
  async function read(blob, side) {
    const picture = await createImageBitmap(blob);
    const square = Math.min(picture.width, picture.height);
    const size = Math.min(square, LARGEST);
    const canvas = Object.assign(document.createElement("canvas"), { width: size, height: size });
    const context = canvas.getContext("2d", { willReadFrequently: true });
    context.imageSmoothingQuality = "high";
    context.fillStyle = "white";
    context.fillRect(0, 0, size, size);
    const [left, top] = [(picture.width - square) >> 1, (picture.height - square) >> 1];
    context.drawImage(picture, left, top, square, square, 0, 0, size, size);
    picture.close();
    const { data: bytes } = context.getImageData(0, 0, size, size);
    const data = new Float64Array(3 * size * size);
    for (let n = 0; n < size * size; n++) {
      for (let c = 0; c < 3; c++) data[c * size * size + n] = bytes[4 * n + c] / 127.5 - 1;
    }
    const whole = { c: 3, h: size, w: size, data };
    return size === side ? whole : resize(whole, side, side);
  }

  // Draws {c: 3 or 1, h, w, data} in [-1, 1] into a canvas of its own size.
  function show(canvas, x) {
    Object.assign(canvas, { width: x.w, height: x.h });
    const image = new ImageData(x.w, x.h);
    const size = x.h * x.w;
    for (let n = 0; n < size; n++) {
      for (let c = 0; c < 3; c++) image.data[4 * n + c] = Math.round((x.data[(x.c === 1 ? 0 : c) * size + n] + 1) * 127.5);
      image.data[4 * n + 3] = 255;
    }
    canvas.getContext("2d").putImageData(image, 0, 0);
  }

  // Peak signal-to-noise ratio in dB of pictures in [-1, 1], which are clamped to that.
  function psnr(x, y) {
    const clamp = (value) => Math.min(1, Math.max(-1, value));
    const error = x.data.reduce((sum, value, n) => sum + ((clamp(value) - clamp(y.data[n])) / 2) ** 2, 0);
    return -10 * Math.log10(error / x.data.length);
  }

  // Gaussian noise of the shape of x, always the same for a seed: mulberry32 and the Box-Muller transform.
  function drawNoise(x, seed) {
    let state = seed >>> 0;
    const uniform = () => {
      state = (state + 0x6d2b79f5) >>> 0;
      let mixed = Math.imul(state ^ (state >>> 15), state | 1);
      mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
      return (((mixed ^ (mixed >>> 14)) >>> 0) + 0.5) / 4294967296;
    };
    const gaussian = () => Math.sqrt(-2 * Math.log(uniform())) * Math.cos(2 * Math.PI * uniform());
    return { ...x, data: Float64Array.from(x.data, gaussian) };
  }

  return { read, resize, show, psnr, drawNoise };
});
