// From the graph's outputs to labels and objects in the picture's frame.

import { nms, softNms, vote } from "./boxes.js";
import { calibrated } from "./calibrate.js";

const BEFORE_NMS = 1000; // the best cells that go into NMS
const VISIBLE = 2;
const HIDDEN = 1;
const OFFSET_WEIGHTS = [10, 10, 5, 5]; // of SSD's x, y, width, height
const MOST_OFFSET = Math.log(1000 / 16);

/**
 * What the model says of one picture.
 * @param {Object<string, {data: Float32Array, dims: number[]}>} outputs by name, with the batch axis of 1
 * @param {object} spec model.json
 * @param {object} frame where the picture lies on the canvas
 * @param {number} score the least that an object must have, before scores are calibrated
 * @returns {{label?: string, scores?: Object<string, number>, objects: object[]}} objects best first: label, score, box
 *   [x, y, w, h] and landmarks [x, y, visibility] as shares of the picture; boxes are clipped to it
 */
export function decode(outputs, spec, frame, score) {
  return calibrated(said(outputs, spec, frame, score), spec.predict.calibration);
}

function said(outputs, spec, frame, score) {
  if (spec.task === "classify") {
    const shares = softmax(outputs.logits.data);
    const scores = Object.fromEntries(spec.labels.map((label, i) => [label, shares[i]]));
    return { label: spec.labels[largest(shares)], scores, objects: [] };
  }
  const found = spec.task === "localize" ? oneObject(outputs, spec, score) : manyObjects(outputs, spec, score);
  return { objects: found.map((one) => inPicture(one, frame)) };
}

function oneObject(outputs, spec, score) {
  const presence = sigmoid(outputs.presence.data[0]);
  if (presence < score) return [];
  const flat = spec.landmarks.length ? outputs.landmarks.data : [];
  const landmarks = spec.landmarks.map((_, i) => [flat[2 * i], flat[2 * i + 1], VISIBLE]);
  return [{ label: spec.labels[largest(outputs.classes.data)], score: presence, box: [...outputs.box.data], landmarks }];
}

function manyObjects(outputs, spec, score) {
  const cellsOf = { distances: fromDistances, anchors: fromAnchors, offsets: fromOffsets }[spec.boxes];
  const candidates = spec.strides
    .flatMap((stride, level) => cellsOf(outputs, stride, level, spec, score))
    .sort((a, b) => b.score - a.score)
    .slice(0, BEFORE_NMS);
  const rule = spec.predict.nms;
  let kept = rule === "soft" ? softNms(candidates, score) : nms(candidates, spec.predict.nms_iou);
  kept = kept.slice(0, spec.predict.max_objects);
  if (rule === "vote") kept = vote(kept, candidates);
  return kept.map(({ label, score: own, box: [left, top, right, bottom], points }) => ({
    label: spec.labels[label],
    score: own,
    box: [left, top, right - left, bottom - top].map((side) => side / spec.size),
    landmarks: points.map(([x, y, seen]) => [x / spec.size, y / spec.size, seen > 0 ? VISIBLE : HIDDEN]),
  }));
}

/** The cells of one stride at `score` or above, in pixels of the canvas. */
function fromDistances(outputs, stride, _level, spec, score) {
  const scores = outputs[`scores_${stride}`];
  const boxes = outputs[`boxes_${stride}`].data;
  const [, , rows, columns] = scores.dims;
  const cells = rows * columns;
  return above(scores.data, (i) => sigmoid(scores.data[i]), score).map(([i, own]) => {
    const cell = i % cells;
    const x = ((cell % columns) + 0.5) * stride;
    const y = (Math.floor(cell / columns) + 0.5) * stride;
    const [left, top, right, bottom] = [0, 1, 2, 3].map((side) => boxes[side * cells + cell] * stride);
    const points = spec.landmarks.map((_, p) => {
      const [dx, dy, seen] = triple(outputs[`landmarks_${stride}`].data, p * 3 * cells + cell, cells);
      return [x + dx * stride, y + dy * stride, seen];
    });
    return { label: Math.floor(i / cells), score: own, box: [x - left, y - top, x + right, y + bottom], points };
  });
}

/** The same of a head with anchors; a score is that of the label times the objectness. */
function fromAnchors(outputs, stride, level, spec, score) {
  const anchors = spec.head.anchors[level];
  const labels = spec.labels.length;
  const scores = outputs[`scores_${stride}`];
  const boxes = outputs[`boxes_${stride}`].data;
  const objectness = outputs[`objectness_${stride}`].data;
  const [, , rows, columns] = scores.dims;
  const cells = rows * columns;
  const place = (i) => ({ cell: i % cells, anchor: Math.floor(i / (cells * labels)) });
  const product = (i) => {
    const { cell, anchor } = place(i);
    return Math.fround(sigmoid(scores.data[i]) * sigmoid(objectness[anchor * cells + cell]));
  };
  return above(scores.data, product, score).map(([i, own]) => {
    const { cell, anchor } = place(i);
    const [width, height] = anchors[anchor];
    const column = cell % columns;
    const row = Math.floor(cell / columns);
    const raw = [0, 1, 2, 3].map((side) => sigmoid(boxes[(anchor * 4 + side) * cells + cell]));
    const x = (raw[0] * 2 - 0.5 + column) * stride;
    const y = (raw[1] * 2 - 0.5 + row) * stride;
    const across = ((raw[2] * 2) ** 2 * width) / 2;
    const down = ((raw[3] * 2) ** 2 * height) / 2;
    const points = bySides(outputs, spec, stride, anchor, cell, columns, cells, [width, height]);
    const box = [x - across, y - down, x + across, y + down];
    return { label: Math.floor(i / cells) % labels, score: own, box, points };
  });
}

/** The same of a head with SSD's default boxes; a score is the label's share of a softmax with the background. */
function fromOffsets(outputs, stride, level, spec, score) {
  const anchors = spec.head.anchors[level];
  const labels = spec.labels.length;
  const scores = outputs[`scores_${stride}`];
  const boxes = outputs[`boxes_${stride}`].data;
  const [, , rows, columns] = scores.dims;
  const cells = rows * columns;
  const shares = sharesOf(scores.data, outputs[`background_${stride}`].data, labels, cells);
  return above(shares, (i) => shares[i], score).map(([i, own]) => {
    const cell = i % cells;
    const anchor = Math.floor(i / (cells * labels));
    const [width, height] = anchors[anchor];
    const offsets = OFFSET_WEIGHTS.map((weight, side) => boxes[(anchor * 4 + side) * cells + cell] / weight);
    const x = ((cell % columns) + 0.5) * stride + offsets[0] * width;
    const y = (Math.floor(cell / columns) + 0.5) * stride + offsets[1] * height;
    const across = (Math.exp(Math.min(offsets[2], MOST_OFFSET)) * width) / 2;
    const down = (Math.exp(Math.min(offsets[3], MOST_OFFSET)) * height) / 2;
    const points = bySides(outputs, spec, stride, anchor, cell, columns, cells, [width, height]);
    const box = [x - across, y - down, x + across, y + down];
    return { label: Math.floor(i / cells) % labels, score: own, box, points };
  });
}

/** The softmax over the background and the labels of each anchor and cell: what is the labels', laid out as `scores`. */
function sharesOf(scores, background, labels, cells) {
  const shares = new Float32Array(scores.length);
  background.forEach((empty, i) => {
    const first = Math.floor(i / cells) * labels * cells + (i % cells);
    const all = Array.from({ length: labels }, (_, label) => scores[first + label * cells]);
    softmax([empty, ...all]).forEach((share, k) => {
      if (k > 0) shares[first + (k - 1) * cells] = share;
    });
  });
  return shares;
}

/** The landmarks of one anchor of a cell, which are in its sides from the cell's centre. */
function bySides(outputs, spec, stride, anchor, cell, columns, cells, [width, height]) {
  return spec.landmarks.map((_, p) => {
    const first = (anchor * spec.landmarks.length + p) * 3 * cells + cell;
    const [dx, dy, seen] = triple(outputs[`landmarks_${stride}`].data, first, cells);
    const row = Math.floor(cell / columns);
    return [((cell % columns) + 0.5) * stride + dx * width, (row + 0.5) * stride + dy * height, seen];
  });
}

/** [index, score] of those values whose score is at `least` or above. */
function above(values, scoreOf, least) {
  const found = [];
  for (let i = 0; i < values.length; i++) {
    const score = scoreOf(i);
    if (score >= least) found.push([i, score]);
  }
  return found;
}

function triple(values, first, step) {
  return [values[first], values[first + step], values[first + 2 * step]];
}

function inPicture({ label, score, box: [x, y, w, h], landmarks }, { scaleX, scaleY, offsetX, offsetY }) {
  const clip = (value) => Math.min(Math.max(value, 0), 1);
  const [left, top] = [clip((x - offsetX) / scaleX), clip((y - offsetY) / scaleY)];
  const [right, bottom] = [clip((x + w - offsetX) / scaleX), clip((y + h - offsetY) / scaleY)];
  const points = landmarks.map(([px, py, seen]) => [(px - offsetX) / scaleX, (py - offsetY) / scaleY, seen]);
  return { label, score, box: [left, top, right - left, bottom - top], landmarks: points };
}

function largest(values) {
  return values.indexOf(Math.max(...values));
}

/** In float32, as everywhere else: scores that are equal there have to be equal here, for their order. */
function sigmoid(x) {
  return Math.fround(1 / (1 + Math.exp(-Math.min(Math.max(x, -60), 60))));
}

function softmax(logits) {
  const most = Math.max(...logits);
  const powers = Array.from(logits, (x) => Math.exp(x - most));
  const sum = powers.reduce((a, b) => a + b);
  return powers.map((power) => power / sum);
}
