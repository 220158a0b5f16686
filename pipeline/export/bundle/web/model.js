// The model of this folder, in this browser: model.json, preprocess.json and model.int8.onnx by onnxruntime-web.

import { decode } from "./decode.js";
import { prepare } from "./preprocess.js";

const RUNTIME = new URL("ort/", import.meta.url).href;
const FILE = "model.int8.onnx";
// The steps that round to int8 stay beside float convolutions. Fused to integer ones ("all"), a detector and a localizer
// took twice as long in WebAssembly (34 ms against 63, 23 against 52), a classifier the same.
const LEVEL = "basic";

/**
 * @param {(words: string) => void} tell says what is being loaded
 * @returns {Promise<object>} `spec` (model.json), `contract` (preprocess.json), `bytes` (the model file's size),
 *   `run(canvas)`, `answer(bitmap)`. Rejects with words for the visitor.
 */
export async function openModel(tell) {
  tell("Loading the model");
  const [spec, contract, file] = await Promise.all([
    fetched("model.json").then((r) => r.json()),
    fetched("preprocess.json").then((r) => r.json()),
    fetched(FILE).then((r) => r.arrayBuffer()),
  ]);
  tell("Loading the runtime, 14 MB the first time");
  const ort = await import(`${RUNTIME}ort.wasm.min.mjs`).catch(() => {
    throw new Error("onnxruntime-web is not in ort/. `pocketlens demo` serves this page with it.");
  });
  ort.env.wasm.wasmPaths = RUNTIME;
  ort.env.wasm.numThreads = 1; // more need headers that a plain static host does not send
  const session = await ort.InferenceSession.create(file, { executionProviders: ["wasm"], graphOptimizationLevel: LEVEL });

  /** The graph's outputs by name for one canvas, uint8 RGB [S, S, 3]. */
  async function run(canvas) {
    return session.run({ [contract.input.name]: new ort.Tensor("uint8", canvas, contract.input.shape) });
  }

  /** What the model says of a picture: `at(score)` objects or classes from that score on; `ms` of each part. */
  async function answer(bitmap) {
    const start = performance.now();
    const { bytes, frame } = prepare(bitmap, contract);
    const resized = performance.now();
    const outputs = await run(bytes);
    const answered = performance.now();
    return {
      width: bitmap.width,
      height: bitmap.height,
      at: (score) => decode(outputs, spec, frame, score),
      ms: { resize: resized - start, net: answered - resized },
    };
  }

  tell("Warming up");
  await run(new Uint8Array(contract.input.shape.reduce((a, b) => a * b)));
  return { spec, contract, bytes: file.byteLength, run, answer };
}

/** A file of this folder. Rejects with its name if it is not there. */
export async function fetched(name) {
  const response = await fetch(name);
  if (!response.ok) throw new Error(`${name} is not there (${response.status})`);
  return response;
}

/** An upright picture in its own size and colours as they are in the file. Rejects if the browser cannot read it. */
export function decodePicture(blob) {
  return createImageBitmap(blob, { imageOrientation: "from-image", colorSpaceConversion: "none" });
}
