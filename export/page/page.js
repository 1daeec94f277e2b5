// The static page: what the service would do is done by a worker of this browser.

import { $, named, say, start } from "./common.js";

const names = { wasm: "WebAssembly", webgpu: "WebGPU" };
const query = Object.fromEntries(new URLSearchParams(location.search));
let worker = null; // kept for the next image, with the network that it has loaded

function upscale(image, signal, progress) {
  return new Promise((resolve, reject) => {
    // What the image left behind goes with the worker.
    const end = (error) => {
      worker?.terminate();
      worker = null;
      reject(error);
    };
    if (signal.aborted) return reject(signal.reason);
    signal.addEventListener("abort", () => end(signal.reason), { once: true });
    if (!worker) say("Loading the network…", "busy");
    worker ??= new Worker("worker.js", { type: "module" });
    worker.onerror = (event) => end(new Error(`The worker failed: ${event.message || "a newer browser may run it"}.`));
    worker.onmessage = ({ data }) => {
      if (data.error) return end(new Error(data.error));
      if (data.share === 0) say("Upscaling…", "busy");
      if (data.share !== undefined) return progress(data.share);
      const { blob, milliseconds, scale, precision, backend, note } = data;
      resolve({ blob, milliseconds, note, name: named(image, scale, "png"), model: `×${scale} ${precision}, ${names[backend]}` });
    };
    worker.postMessage({ ...query, image });
  });
}

$("file").accept = "image/*";
$("limits").textContent = "Nothing is uploaded: this browser upscales it.";
start(upscale);
