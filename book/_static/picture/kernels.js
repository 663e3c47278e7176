// The inner loop of a convolution, as WebAssembly of vectors of four, and in plain JavaScript where that is not to be had.
//
// `row3` and `row1` add to one row of one channel of the output what kernels of 3 x 3 or 1 x 1 make of all channels of the
// input. All lies in one memory of float32; places are in bytes. A row is a number of groups of 16 values.
//
//     row(out, input, weights, channels, groups, toNextRow, toNextChannel)
//
// `input` is the value over which the kernel's first weight stands for the first output; the input is padded already.
// `toNextChannel` leads from the kernel's last row in one channel to its first row in the next.
ownPicture.define("kernels", () => {
  "use strict";

  const GROUP = 16;
  const PAGE = 65536; // bytes

  // -------------------------------------------------------------------------------------------------------------------
  // WebAssembly, put together byte by byte: numbers are in LEB128, lists begin with their length.

  const unsigned = (n) => (n < 128 ? [n] : [(n & 127) | 128, ...unsigned(n >>> 7)]);
  const signed = (n) => (n >= -64 && n < 64 ? [n & 127] : [(n & 127) | 128, ...signed(n >> 7)]);
  const list = (items) => [...unsigned(items.length), ...items.flat()];
  const text = (word) => list([...word].map((letter) => letter.charCodeAt(0)));
  const section = (id, content) => [id, ...unsigned(content.length), ...content];

  const [I32, V128] = [0x7f, 0x7b];
  const get = (local) => [0x20, local];
  const set = (local) => [0x21, local];
  const advance = (local, by) => [...get(local), ...by, 0x6a, ...set(local)]; // i32.add
  const constant = (n) => [0x41, ...signed(n)];
  const load = (offset) => [0xfd, 0x00, 2, ...unsigned(offset)];
  const loadSplat = (offset) => [0xfd, 0x09, 2, ...unsigned(offset)];
  const store = (offset) => [0xfd, 0x0b, 2, ...unsigned(offset)];
  const [ADD, MULTIPLY] = [[0xfd, 0xe4, 0x01], [0xfd, 0xe6, 0x01]]; // f32x4
  const repeat = (counter, body) => [0x03, 0x40, ...body, ...advance(counter, constant(-1)), ...get(counter), 0x0d, 0, 0x0b];

  // The body of `row` for kernels of side x side: a loop over groups, in it one over channels, in it all weights in turn.
  function rowCode(side) {
    const [out, input, weights, channels, groups, toNextRow, toNextChannel, place, kernel, left] = Array(10).keys();
    const [weight, ...sums] = [10, 11, 12, 13, 14];
    const vectors = sums.map((sum, j) => [sum, 16 * j]);
    const taps = [];
    for (let i = 0; i < side; i++) {
      for (let j = 0; j < side; j++) {
        taps.push(...get(kernel), ...loadSplat(4 * (side * i + j)), ...set(weight));
        for (const [sum, at] of vectors) {
          taps.push(...get(sum), ...get(place), ...load(at + 4 * j), ...get(weight), ...MULTIPLY, ...ADD, ...set(sum));
        }
      }
      taps.push(...advance(place, get(i < side - 1 ? toNextRow : toNextChannel)));
    }
    const body = [
      ...get(input), ...set(place), ...get(weights), ...set(kernel), ...get(channels), ...set(left),
      ...vectors.flatMap(([sum, at]) => [...get(out), ...load(at), ...set(sum)]),
      ...repeat(left, [...taps, ...advance(kernel, constant(4 * side * side))]),
      ...vectors.flatMap(([sum, at]) => [...get(out), ...get(sum), ...store(at)]),
      ...advance(out, constant(4 * GROUP)), ...advance(input, constant(4 * GROUP)),
    ];
    const locals = list([[...unsigned(3), I32], [...unsigned(5), V128]]);
    const code = [...locals, ...repeat(groups, body), 0x0b];
    return [...unsigned(code.length), ...code];
  }

  function moduleBytes() {
    return Uint8Array.from([
      0x00, 0x61, 0x73, 0x6d, 1, 0, 0, 0,
      ...section(1, list([[0x60, ...list(Array(7).fill([I32])), ...list([])]])),
      ...section(2, list([[...text("page"), ...text("memory"), 0x02, 0x00, 1]])),
      ...section(3, list([[0], [0]])),
      ...section(7, list([[...text("row3"), 0x00, 0], [...text("row1"), 0x00, 1]])),
      ...section(10, list([rowCode(3), rowCode(1)])),
    ]);
  }

  // -------------------------------------------------------------------------------------------------------------------

  // The same in JavaScript, on the same memory.
  const plainRow = (memory, side) => (out, input, weights, channels, groups, toNextRow, toNextChannel) => {
    const values = new Float32Array(memory.buffer);
    for (let x = 0; x < GROUP * groups; x++) {
      let place = input / 4 + x;
      let kernel = weights / 4;
      let sum = values[out / 4 + x];
      for (let c = 0; c < channels; c++) {
        for (let i = 0; i < side; i++) {
          for (let j = 0; j < side; j++) sum += values[kernel++] * values[place + j];
          place += (i < side - 1 ? toNextRow : toNextChannel) / 4;
        }
      }
      values[out / 4 + x] = sum;
    }
  };

  function plainMemory() {
    const memory = { buffer: new ArrayBuffer(PAGE) };
    memory.grow = (pages) => (memory.buffer = new ArrayBuffer(memory.buffer.byteLength + pages * PAGE));
    return memory;
  }

  // {memory, row3, row1, fast}
  function makeKernels(allowed = true) {
    const bytes = moduleBytes();
    if (allowed && typeof WebAssembly === "object" && WebAssembly.validate(bytes)) {
      const memory = new WebAssembly.Memory({ initial: 1 });
      const { exports } = new WebAssembly.Instance(new WebAssembly.Module(bytes), { page: { memory } });
      return { memory, row3: exports.row3, row1: exports.row1, fast: true };
    }
    const memory = plainMemory();
    return { memory, row3: plainRow(memory, 3), row1: plainRow(memory, 1), fast: false };
  }

  // Makes room for so many bytes; what was in the memory may be lost.
  function reserve(memory, bytes) {
    const missing = Math.ceil(bytes / PAGE) - memory.buffer.byteLength / PAGE;
    if (missing > 0) memory.grow(missing);
  }

  return { GROUP, makeKernels, reserve };
});
