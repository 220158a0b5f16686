// What a score is worth, by the calibration that model.json may have under `predict`.

const LEAST = 1e-6; // a score is taken as no nearer to 0 and 1 than this: its odds have to be finite

/** The answer of `decode` with calibrated scores; as it is without a `fit`. Objects and their order stay. */
export function calibrated(answer, fit) {
  if (!fit) return answer;
  const objects = answer.objects.map((one) => ({ ...one, score: worth(one.score, fit) }));
  return answer.scores ? { ...answer, scores: shared(answer, fit), objects } : { ...answer, objects };
}

function worth(score, fit) {
  if (fit.by === "platt") {
    const near = Math.min(Math.max(score, LEAST), 1 - LEAST);
    return 1 / (1 + Math.exp(-(fit.slope * Math.log(near / (1 - near)) + fit.offset)));
  }
  const { scores, right } = fit;
  const above = scores.findIndex((knot) => knot > score);
  if (above === 0) return right[0];
  if (above < 0) return right[right.length - 1];
  const share = (score - scores[above - 1]) / (scores[above] - scores[above - 1]);
  return right[above - 1] + share * (right[above] - right[above - 1]);
}

/** The label that is answered gets what its score is worth; the others share the rest as they did, each up to that. */
function shared({ label, scores }, fit) {
  const sure = worth(scores[label], fit);
  const others = Object.keys(scores).filter((name) => name !== label);
  const sum = others.reduce((all, name) => all + scores[name], 0);
  const part = (name) => (1 - sure) * (sum > 0 ? scores[name] / sum : 1 / others.length);
  const rest = others.map((name) => [name, Math.min(sure, part(name))]);
  const told = new Map([[label, sure], ...rest]);
  return Object.fromEntries(Object.keys(scores).map((name) => [name, told.get(name)]));
}
