// The small autoencoder in the browser: diffusers' AutoencoderKL without attention, which is what is shipped.
//
// Weights are stored in half precision; everything is computed in float32, as torch does, so that both agree to its
// rounding. Tensors are {c, h, w, data}, data in the order (channel, row, column).
ownPicture.define("network", (use) => {
  "use strict";

  const { GROUP, makeKernels, reserve } = use("kernels");
  const EPSILON = 1e-6;

  // Half-precision bits to numbers.
  function fromHalf(bits) {
    return Float32Array.from(bits, (half) => {
      const [exponent, fraction] = [(half >> 10) & 31, half & 1023];
      const size = exponent ? (1 + fraction / 1024) * 2 ** (exponent - 15) : fraction * 2 ** -24;
      return half & 0x8000 ? -size : size;
    });
  }

  // {config, tensors: {name: shape}, bits: Uint16Array} to {config, weights: {name: {shape, data}}}.
  function unpack({ config, tensors, bits }) {
    const weights = {};
    let start = 0;
    for (const [name, shape] of Object.entries(tensors)) {
      const size = shape.reduce((product, side) => product * side, 1);
      weights[name] = { shape, data: fromHalf(bits.subarray(start, start + size)) };
      start += size;
    }
    return { config, weights };
  }

  // Convolution at stride 1 with `before` rows and columns of zeros before the input and as many after it as it takes to
  // keep its size; at stride 2 every second row and column of the same.
  function convolve(kernels, x, { shape: [c, , side], data: weights }, bias, before, stride) {
    const groups = Math.ceil(x.w / GROUP);
    const [wide, tall, long] = [GROUP * groups + side - 1, x.h + side - 1, GROUP * groups];
    const [input, kernel, out] = [0, x.c * tall * wide, x.c * tall * wide + weights.length];
    reserve(kernels.memory, 4 * (out + long));
    const values = new Float32Array(kernels.memory.buffer);
    values.fill(0, input, kernel);
    for (let row = 0; row < x.c * x.h; row++) {
      const [channel, y] = [Math.floor(row / x.h), row % x.h];
      values.set(x.data.subarray(row * x.w, (row + 1) * x.w), input + (channel * tall + y + before) * wide + before);
    }
    values.set(weights, kernel);
    const add = side === 3 ? kernels.row3 : kernels.row1;
    const toNextChannel = (tall - (side - 1)) * wide;
    const [h, w] = [x.h / stride, x.w / stride];
    const data = new Float32Array(c * h * w);
    for (let y = 0; y < h; y++) {
      const from = input + y * stride * wide;
      for (let o = 0; o < c; o++) { // all channels of the output while three rows of the input are at hand
        values.fill(bias.data[o], out, out + long);
        add(4 * out, 4 * from, 4 * (kernel + o * x.c * side * side), x.c, groups, 4 * wide, 4 * toNextChannel);
        const to = (o * h + y) * w;
        if (stride === 1) data.set(values.subarray(out, out + w), to);
        else for (let column = 0; column < w; column++) data[to + column] = values[out + stride * column];
      }
    }
    return { c, h, w, data };
  }

  // Group norm and, behind every one of this network's, SiLU.
  function normalise(x, groups, weight, bias) {
    const data = new Float32Array(x.data.length);
    const [size, plane] = [x.data.length / groups, x.h * x.w];
    for (let start = 0; start < x.data.length; start += size) {
      let sum = 0;
      let squares = 0;
      for (let n = start; n < start + size; n++) sum += x.data[n];
      const mean = sum / size;
      for (let n = start; n < start + size; n++) squares += (x.data[n] - mean) ** 2;
      for (let first = start; first < start + size; first += plane) {
        const scale = weight.data[first / plane] / Math.sqrt(squares / size + EPSILON);
        const shift = bias.data[first / plane] - mean * scale;
        for (let n = first; n < first + plane; n++) {
          const value = x.data[n] * scale + shift;
          data[n] = value / (1 + Math.exp(-value));
        }
      }
    }
    return { ...x, data };
  }

  function add(x, y) {
    const data = new Float32Array(x.data.length);
    for (let n = 0; n < data.length; n++) data[n] = x.data[n] + y.data[n];
    return { ...x, data };
  }

  // Twice as large, each value four times.
  function double(x) {
    const data = new Float32Array(4 * x.data.length);
    for (let n = 0; n < data.length; n++) {
      const row = Math.floor(n / (2 * x.w));
      data[n] = x.data[(row >> 1) * x.w + ((n - row * 2 * x.w) >> 1)];
    }
    return { c: x.c, h: 2 * x.h, w: 2 * x.w, data };
  }

  // Encoder and decoder of an unpacked model. `tell(share)` is called after each convolution with how much is done.
  function build({ config, weights }, tell = () => {}, kernels = makeKernels()) {
    const blocks = config.block_out_channels.length;
    let done = 0;
    let all = 1;

    const conv = (name, x, stride = 1) => {
      const weight = weights[`${name}.weight`];
      const before = weight.shape[2] === 3 && stride === 1 ? 1 : 0; // at stride 2 zeros stand behind the input only
      const y = convolve(kernels, x, weight, weights[`${name}.bias`], before, stride);
      tell(++done / all);
      return y;
    };
    const norm = (name, x) => normalise(x, config.norm_num_groups, weights[`${name}.weight`], weights[`${name}.bias`]);
    const resnet = (name, x) => {
      const y = conv(`${name}.conv2`, norm(`${name}.norm2`, conv(`${name}.conv1`, norm(`${name}.norm1`, x))));
      return add(weights[`${name}.conv_shortcut.weight`] ? conv(`${name}.conv_shortcut`, x) : x, y);
    };
    const middle = (half, x) => [0, 1].reduce((y, i) => resnet(`${half}.mid_block.resnets.${i}`, y), x);
    const finish = (half, x) => conv(`${half}.conv_out`, norm(`${half}.conv_norm_out`, x));
    const begin = (half) => {
      done = 0;
      all = Object.keys(weights).filter((name) => name.startsWith(half) && weights[name].shape.length === 4).length;
    };
    const single = (x) => ({ ...x, data: Float32Array.from(x.data) });

    // {c: 3, h, w} in [-1, 1] to the mean of the posterior, {c: C, h / f, w / f}.
    function encode(image) {
      begin("encoder");
      let x = conv("encoder.conv_in", single(image));
      for (let i = 0; i < blocks; i++) {
        const name = `encoder.down_blocks.${i}`;
        for (let j = 0; j < config.layers_per_block; j++) x = resnet(`${name}.resnets.${j}`, x);
        if (i < blocks - 1) x = conv(`${name}.downsamplers.0.conv`, x, 2);
      }
      const { h, w, data } = finish("encoder", middle("encoder", x));
      const c = config.latent_channels;
      return { c, h, w, data: Float64Array.from(data.subarray(0, c * h * w)) };
    }

    // A latent {c: C, h, w} to a picture {c: 3, h * f, w * f}.
    function decode(z) {
      begin("decoder");
      let x = middle("decoder", conv("decoder.conv_in", single(z)));
      for (let i = 0; i < blocks; i++) {
        const name = `decoder.up_blocks.${i}`;
        for (let j = 0; j <= config.layers_per_block; j++) x = resnet(`${name}.resnets.${j}`, x);
        if (i < blocks - 1) x = conv(`${name}.upsamplers.0.conv`, double(x));
      }
      const image = finish("decoder", x);
      return { ...image, data: Float64Array.from(image.data) };
    }

    return { encode, decode, fast: kernels.fast };
  }

  return { unpack, build };
});
