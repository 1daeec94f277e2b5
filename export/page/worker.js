// Upscales images in tiles, exactly: what the network pools over the whole image is gathered in a
// first pass, and given to each tile in a second.

import { cut } from "./tiles.js";

// Of a result: browsers make no larger canvas everywhere, and it takes four bytes a pixel.
const MOST_PIXELS = 2 ** 26;
const LONGEST = 16384;
// With larger tiles WebAssembly runs out of memory, and smaller ones are little but halo.
const [LEAST_TILE, MOST_TILE] = [16, 256];

let opened = null; // what `open` promises, for the images that follow

// The backend that is asked for, or WebGPU if there is a real one, else WebAssembly.
async function choose(asked, { backends, precision }) {
  if (asked !== undefined) {
    if (!backends.includes(asked)) throw new Error(`The backend is ${asked} in the address; choose ${backends.join(" or ")}.`);
    return asked;
  }
  if (!backends.includes("webgpu")) return "wasm";
  const adapter = await navigator.gpu?.requestAdapter().catch(() => null);
  // WebGPU that a CPU emulates is slower than WebAssembly.
  if (!adapter || adapter.info?.isFallbackAdapter) return "wasm";
  return precision === "fp16" && !adapter.features.has("shader-f16") ? "wasm" : "webgpu";
}

async function fetched(name) {
  const answer = await fetch(name).catch(() => ({ status: "no answer" }));
  if (!answer.ok) throw new Error(`${name} cannot be loaded (${answer.status}); is the whole folder on the server?`);
  return answer;
}

// What a backend promises, or a sentence that says what to do where it fails.
async function tried(backend, promise) {
  try {
    return await promise;
  } catch (error) {
    const failed = backend === "webgpu" ? "WebGPU failed; put ?backend=wasm behind the address" : "WebAssembly failed; choose a smaller image";
    throw new Error(`${failed} (${error.message ?? error}).`);
  }
}

async function open(asked) {
  const facts = await (await fetched("model.json")).json();
  const backend = await choose(asked, facts);
  const ort = await import(`./onnxruntime/ort.${backend}.bundle.min.js`);
  const load = async (name) => {
    const model = new Uint8Array(await (await fetched(name)).arrayBuffer());
    const session = await tried(backend, ort.InferenceSession.create(model, { executionProviders: [backend], logSeverityLevel: 3 }));
    return (feeds) => tried(backend, session.run(feeds));
  };
  const statistics = facts.pools ? await load("statistics.onnx") : null;
  return { ...facts, backend, Tensor: ort.Tensor, statistics, network: await load("tile.onnx") };
}

// The image as the browser shows it: upright, in sRGB, 8 bits.
function decode(image) {
  const options = { premultiplyAlpha: "none", imageOrientation: "from-image" };
  return createImageBitmap(image, options).catch(() => {
    throw new Error(`${image.name} is not an image that this browser reads; choose a PNG, JPEG or WebP.`);
  });
}

// In memory that is read and written; some browsers give a canvas that is too large for them, and
// keep nothing in it.
function canvas(width, height) {
  const context = new OffscreenCanvas(width, height).getContext("2d", { colorSpace: "srgb", willReadFrequently: true });
  context?.fillRect(0, 0, 1, 1);
  if (!context?.getImageData(0, 0, 1, 1).data[3]) throw new Error(`This browser has no canvas of ${width}×${height}; choose a smaller image.`);
  context.clearRect(0, 0, 1, 1);
  return context;
}

async function upscale({ image, tile, backend: asked }) {
  const bitmap = await decode(image);
  const { width, height } = bitmap;
  opened ??= open(asked);
  const { scale, precision, backend, halo, tile: usual, Tensor, statistics, network } = await opened;
  const large = [scale * width, scale * height];
  if (large[0] * large[1] > MOST_PIXELS || Math.max(...large) > LONGEST) {
    throw new Error(`The result would have ${large.join("×")} pixels; this page makes up to ${MOST_PIXELS / 1e6 | 0} megapixels, at most ${LONGEST} on a side.`);
  }
  const result = canvas(...large);
  const source = canvas(width, height);
  source.drawImage(bitmap, 0, 0);
  bitmap.close();
  const begin = performance.now();
  let transparent = false;

  // Planes (3, h, w) of what a tile reads, on white.
  function read({ rows, across }) {
    const { data } = source.getImageData(across.start, rows.start, across.size, rows.size);
    const pixels = across.size * rows.size;
    const planes = new Uint8Array(3 * pixels);
    for (let i = 0; i < pixels; i++) {
      const alpha = data[4 * i + 3];
      transparent ||= alpha < 255;
      for (let c = 0; c < 3; c++) planes[c * pixels + i] = Math.round(255 + ((data[4 * i + c] - 255) * alpha) / 255);
    }
    return new Tensor("uint8", planes, [1, 3, rows.size, across.size]);
  }

  // 1 where a tile's pixels count, 0 where they are another tile's.
  function inside({ rows, across }) {
    const mask = new Float32Array(rows.size * across.size);
    for (let y = rows.first - rows.start; y < rows.last - rows.start; y++) {
      mask.fill(1, y * across.size + across.first - across.start, y * across.size + across.last - across.start);
    }
    return new Tensor("float32", mask, [1, 1, rows.size, across.size]);
  }

  // Pixels that a tile keeps, for a canvas.
  function kept({ rows, across }, planes) {
    const patch = new ImageData(scale * (across.last - across.first), scale * (rows.last - rows.first));
    const [stride, pixels] = [scale * across.size, scale * scale * across.size * rows.size];
    for (let y = 0, to = 0; y < patch.height; y++) {
      let from = (scale * (rows.first - rows.start) + y) * stride + scale * (across.first - across.start);
      for (let x = 0; x < patch.width; x++, from++, to += 4) {
        for (let c = 0; c < 3; c++) patch.data[to + c] = planes[c * pixels + from];
        patch.data[to + 3] = 255;
      }
    }
    return patch;
  }

  const side = Math.min(Math.max(Number(tile) || usual, LEAST_TILE), MOST_TILE);
  const tiles = cut(height, width, side, halo);
  let done = 0;
  const count = () => postMessage({ share: ++done / tiles.length / (statistics ? 2 : 1) });
  postMessage({ share: 0 });
  const given = {};
  if (statistics) {
    let means; // summed up in doubles
    for (const each of tiles) {
      const { sums } = await statistics({ image: read(each), inside: inside(each) });
      means ??= new Float64Array(sums.data.length);
      sums.data.forEach((sum, i) => { means[i] += sum / (width * height); });
      count();
    }
    given.pooled = new Tensor("float32", Float32Array.from(means), [1, means.length, 1, 1]);
  }
  for (const each of tiles) {
    const { upscaled } = await network({ image: read(each), ...given });
    result.putImageData(kept(each, upscaled.data), scale * each.across.first, scale * each.rows.first);
    count();
  }
  const milliseconds = performance.now() - begin;
  const blob = await result.canvas.convertToBlob({ type: "image/png" });
  const note = transparent ? "Transparency is not kept; it has become white. " : "";
  return { blob, milliseconds, scale, precision, backend, note };
}

onmessage = async ({ data }) => {
  try {
    postMessage(await upscale(data));
  } catch (error) {
    postMessage({ error: error.message });
  }
};
