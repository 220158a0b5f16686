// Non-maximum suppression of boxes [left, top, right, bottom]. Candidates are {label, score, box, points}.

const SOFT_SIGMA = 0.5; // of the Gaussian decay (Bodla et al., Soft-NMS, ICCV 2017)
const VOTES_OVER = 0.7; // IoU

/** Greedy, per label: the candidates that stay, best first. They come sorted by score. */
export function nms(candidates, limit) {
  const kept = [];
  let rest = candidates;
  while (rest.length) {
    const [first, ...others] = rest;
    kept.push(first);
    rest = others.filter((one) => one.label !== first.label || iou(one.box, first.box) <= limit);
  }
  return kept;
}

/** Instead of taking an overlapping box away, its score falls by exp(-IoU^2 / 0.5); those below `floor` go. */
export function softNms(candidates, floor) {
  const kept = [];
  let rest = candidates;
  while (rest.length) {
    const best = rest.reduce((high, one) => (one.score > high.score ? one : high));
    if (best.score < floor) break;
    kept.push(best);
    rest = rest
      .filter((one) => one !== best)
      .map((one) => {
        const overlap = one.label === best.label ? iou(one.box, best.box) : 0;
        return { ...one, score: one.score * Math.exp(-(overlap ** 2) / SOFT_SIGMA) };
      });
  }
  return kept;
}

/**
 * Box voting (Gidaris and Komodakis, ICCV 2015): what stayed becomes the mean, by score, of the candidates of its label
 * that overlap it; its landmarks too.
 */
export function vote(kept, candidates) {
  return kept.map((one) => {
    const near = candidates.filter((c) => c === one || (c.label === one.label && iou(c.box, one.box) >= VOTES_OVER));
    const shares = near.map((c) => Math.max(c.score, 1e-9));
    const whole = shares.reduce((sum, share) => sum + share);
    const mean = (value) => near.reduce((sum, c, i) => sum + value(c) * shares[i], 0) / whole;
    return {
      ...one,
      box: one.box.map((_, side) => mean((c) => c.box[side])),
      points: one.points.map((point, p) => point.map((_, axis) => mean((c) => c.points[p][axis]))),
    };
  });
}

/** Intersection over union; a box of no area overlaps nothing. */
function iou(a, b) {
  const shared = area([Math.max(a[0], b[0]), Math.max(a[1], b[1]), Math.min(a[2], b[2]), Math.min(a[3], b[3])]);
  return shared > 0 ? shared / (area(a) + area(b) - shared) : 0;
}

function area([left, top, right, bottom]) {
  return Math.max(0, right - left) * Math.max(0, bottom - top);
}
