// The golden pictures through this browser: is the resize the one of training, does the file answer as it should?

import { decodePicture, fetched } from "./model.js";
import { readNpz } from "./npz.js";
import { prepare } from "./preprocess.js";

const TARGET = "onnx_int8"; // whose file the page runs
const LEVELS = 2; // of 255: how far a resize may be from the golden input
const GOOD = "This browser answers as the file should. How often the model is right is another matter: see report.html";

/** Fill the table `out`: per golden picture and for the outputs the largest difference, the bound, and the verdict. */
export async function selfTest({ spec, contract, run }, out) {
  const golden = await fetched("golden/golden.json").then((r) => r.json());
  const [{ image }, expected] = await Promise.all(
    [golden.arrays, `${TARGET}.npz`].map((name) => fetched(`golden/${name}`).then((r) => r.arrayBuffer()).then(readNpz)),
  );
  const rows = [];
  const worst = Object.fromEntries(spec.outputs.map((name) => [name, 0]));
  for (const [i, name] of golden.images.entries()) {
    const bitmap = await fetched(`golden/${name}`).then((r) => r.blob()).then(decodePicture);
    const canvas = part(image, i);
    rows.push([`resize of ${name}`, difference(prepare(bitmap, contract).bytes, canvas), LEVELS, "of 255"]);
    const found = await run(canvas);
    for (const output of spec.outputs) {
      worst[output] = Math.max(worst[output], difference(found[output].data, part(expected[output], i)));
    }
  }
  for (const output of spec.outputs) {
    const range = expected[output].data.reduce((most, value) => Math.max(most, Math.abs(value)), 1);
    rows.push([`output ${output}`, worst[output] / range, golden.tolerances[TARGET], "of its range"]);
  }
  const good = rows.every(([, found, bound]) => found <= bound);
  out.hidden = false;
  out.dataset.passed = good;
  out.replaceChildren(
    caption(good ? GOOD : "This browser does NOT answer as the file should"),
    line("th", ["what", "largest difference", "bound", ""]),
    ...rows.map(([what, found, bound, unit]) =>
      line("td", [what, `${Number(found.toPrecision(3))} ${unit}`, bound, found <= bound ? "as it should" : "WRONG"]),
    ),
  );
}

/** Picture `i` of an array [n, ...]. */
function part({ data, shape }, i) {
  const one = data.length / shape[0];
  return data.slice(i * one, (i + 1) * one);
}

function difference(found, wanted) {
  if (found.length !== wanted.length) return Infinity;
  return wanted.reduce((most, value, i) => Math.max(most, Math.abs(value - found[i])), 0);
}

function caption(text) {
  return Object.assign(document.createElement("caption"), { textContent: text });
}

function line(tag, cells) {
  const row = document.createElement("tr");
  row.append(...cells.map((text) => Object.assign(document.createElement(tag), { textContent: text })));
  return row;
}
