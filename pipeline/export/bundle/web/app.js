// The page: a picture comes in by drop, chooser, example or camera; boxes, classes and milliseconds go out.

import { allowed, watch } from "./camera.js";
import { drawObjects, inWords, listAnswer } from "./draw.js";
import { decodePicture, fetched, openModel } from "./model.js";

const SHOWN_SIDE = 1600; // pixels of the longer side that are kept to show; the model always sees them all
const at = (id) => document.getElementById(id);

let model = null;
let last = null; // what the model said of the picture that is shown
let stopCamera = null;
let queue = Promise.resolve(); // the runtime answers one picture at a time

start().catch(fail);

async function start() {
  model = await openModel(say);
  describe(model);
  if (new URLSearchParams(location.search).has("selftest")) {
    const { selfTest } = await import("./selftest.js");
    say("Testing");
    document.body.dataset.state = "test";
    await selfTest(model, at("selftest"));
    return say("");
  }
  connect();
  await offerExamples();
  document.body.dataset.state = "ready";
  say("Ready");
}

function describe({ spec, bytes, contract }) {
  const kinds = { classify: "tells apart", localize: "finds one of", detect: "finds" };
  const some = spec.labels.slice(0, 6).join(", ") + (spec.labels.length > 6 ? ` and ${spec.labels.length - 6} more` : "");
  document.title = `${spec.run} · Pocketlens`;
  at("run").textContent = spec.run;
  at("about").textContent = `${kinds[spec.task]} ${some}`;
  at("facts").textContent =
    `${spec.backbone}, int8, ${(bytes / 1e6).toFixed(2)} MB, ${contract.input.shape[1]} × ${contract.input.shape[2]} pixels`;
  at("score").value = spec.predict.score;
  at("threshold").hidden = spec.task === "classify";
  if (spec.predict.calibration) at("which-score").textContent = "a score before calibration";
}

function connect() {
  at("file").addEventListener("change", () => take(at("file").files));
  at("photo").addEventListener("change", () => take(at("photo").files));
  at("choose").addEventListener("click", () => at("file").click());
  at("camera").addEventListener("click", () => toggleCamera().catch(fail));
  at("score").addEventListener("input", show);
  for (const type of ["dragover", "dragenter"]) {
    addEventListener(type, (event) => {
      event.preventDefault();
      document.body.classList.add("dragging");
    });
  }
  addEventListener("dragleave", (event) => {
    if (!event.relatedTarget) document.body.classList.remove("dragging");
  });
  addEventListener("drop", (event) => {
    event.preventDefault();
    document.body.classList.remove("dragging");
    take(event.dataTransfer.files);
  });
  for (const list of [at("answers"), at("layer")]) {
    list.addEventListener("pointerover", (event) => point(event.target.closest("[data-object]")?.dataset.object));
    list.addEventListener("pointerleave", () => point());
  }
  for (const id of ["choose", "camera"]) at(id).disabled = false;
  if (!allowed()) at("camera").querySelector("span").textContent = "Take a photo";
}

async function offerExamples() {
  const golden = await fetched("golden/golden.json").then((r) => r.json()).catch(() => ({ images: [] }));
  const buttons = golden.images.map((name, i) => {
    const button = document.createElement("button");
    const picture = Object.assign(new Image(), { src: `golden/${name}`, alt: `Example ${i + 1}` });
    button.type = "button";
    button.append(picture);
    button.addEventListener("click", () => fetched(picture.src).then((r) => r.blob()).then((blob) => open(blob, name)));
    return button;
  });
  at("examples").replaceChildren(...buttons);
  at("examples-title").hidden = !buttons.length;
}

function take(files) {
  if (!files.length) return fail(new Error("That was no file. Save the image first, then drop the file here."));
  open(files[0], files[0].name);
  at("file").value = at("photo").value = ""; // so that the same picture can be chosen again
}

function open(blob, name) {
  endCamera();
  queue = queue.then(async () => {
    say("Looking");
    const bitmap = await decodePicture(blob).catch(() => {
      throw new Error(`${name} is not an image that this browser can read. JPEG, PNG and WebP it can.`);
    });
    await look(bitmap);
  }).catch(fail);
}

async function toggleCamera() {
  if (!allowed()) return at("photo").click();
  if (stopCamera) return endCamera();
  stopCamera = await watch((bitmap) => (queue = queue.then(() => look(bitmap)).catch(fail)));
  at("camera").querySelector("span").textContent = "Stop";
  at("camera").setAttribute("aria-pressed", "true");
}

function endCamera() {
  if (!stopCamera) return;
  stopCamera();
  stopCamera = null;
  at("camera").querySelector("span").textContent = "Camera";
  at("camera").setAttribute("aria-pressed", "false");
}

async function look(bitmap) {
  last = await model.answer(bitmap);
  const shrink = Math.min(1, SHOWN_SIDE / Math.max(bitmap.width, bitmap.height));
  const picture = at("picture");
  picture.width = Math.max(1, Math.round(bitmap.width * shrink));
  picture.height = Math.max(1, Math.round(bitmap.height * shrink));
  picture.getContext("2d").drawImage(bitmap, 0, 0, picture.width, picture.height);
  at("stage").style.setProperty("--aspect", bitmap.width / bitmap.height);
  bitmap.close();
  document.body.dataset.state = "answered";
  show();
}

function show() {
  const score = Number(at("score").value);
  at("score-value").textContent = `${Math.round(score * 100)} %`;
  if (!last) return;
  const start = performance.now();
  const answer = last.at(score);
  const decoded = performance.now() - start;
  drawObjects(at("layer"), answer.objects, model.spec);
  listAnswer(at("answers"), answer, model.spec);
  const { resize, net } = last.ms;
  const whole = resize + net + decoded;
  at("ms").textContent = `${whole.toFixed(whole < 10 ? 1 : 0)} ms`;
  at("parts").textContent = [["resize", resize], ["net", net], ["decode", decoded]]
    .map(([part, ms]) => `${part} ${ms.toFixed(1)}`)
    .join(" · ");
  const { width, height } = last;
  at("json").textContent = JSON.stringify({ width, height, ...answer }, null, 1);
  at("picture").setAttribute("aria-label", inWords(answer, model.spec));
  say(inWords(answer, model.spec));
}

/** Let the object of this number stand out, in the picture and in the list. */
function point(number) {
  at("result").classList.toggle("pointing", number !== undefined);
  for (const part of document.querySelectorAll("[data-object]")) {
    part.classList.toggle("pointed", part.dataset.object === number);
  }
}

function say(words) {
  at("status").className = "";
  if (at("status").textContent !== words) at("status").textContent = words;
}

function fail(error) {
  at("status").className = "error";
  at("status").textContent = error.message;
}
