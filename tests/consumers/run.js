// Like run.py, with onnxruntime-node: node run.js GRAPH IN.npy OUT.npy [IN.npy OUT.npy ...]
const fs = require("fs");
const ort = require("onnxruntime-node");

// An .npy file has 8 bytes, the length of the header in 2 bytes, the header, and the data.
function read(path) {
  const bytes = fs.readFileSync(path);
  const start = 10 + bytes.readUInt16LE(8);
  const shape = /\((.*)\)/.exec(bytes.toString("latin1", 10, start))[1];
  return new ort.Tensor("uint8", new Uint8Array(bytes.subarray(start)), shape.split(",").map(Number));
}

function write(path, { dims, data }) {
  const shape = `(${dims.join(", ")})`;
  const header = `{'descr': '|u1', 'fortran_order': False, 'shape': ${shape}, }`.padEnd(117) + "\n";
  fs.writeFileSync(path, Buffer.concat([Buffer.from(`\x93NUMPY\x01\0v\0${header}`, "latin1"), data]));
}

async function main([graph, ...files]) {
  const session = await ort.InferenceSession.create(graph);
  console.log("loaded");
  for (let i = 0; i < files.length; i += 2) {
    write(files[i + 1], (await session.run({ image: read(files[i]) })).upscaled);
  }
}

main(process.argv.slice(2)).catch((error) => {
  console.error(error.message);
  process.exit(1);
});
