// What the model says, drawn: boxes and landmarks over the picture, and beside it a list of objects or classes.

const COLOURS = ["#ffb703", "#5cc8ff", "#ff7fb0", "#80e27e", "#c9a2ff", "#ff9770", "#f2e94e", "#5eead4"];
const HIDDEN = 1;
const SVG = "http://www.w3.org/2000/svg";
const LISTED = 5; // classes; the others are in the JSON

const colourOf = (spec, label) => COLOURS[spec.labels.indexOf(label) % COLOURS.length];
const percent = (share) => `${(share * 100).toFixed(share < 0.0995 ? 1 : 0)} %`;

/** Fill `layer`, which lies exactly over the picture: a box with its name per object, its landmarks and their lines. */
export function drawObjects(layer, objects, spec) {
  const lines = document.createElementNS(SVG, "svg");
  lines.setAttribute("viewBox", "0 0 1 1");
  lines.setAttribute("preserveAspectRatio", "none");
  const parts = objects.flatMap((one, i) => {
    const colour = colourOf(spec, one.label);
    spec.skeleton.forEach(([a, b]) => {
      if (one.landmarks[a] && one.landmarks[b]) lines.append(line(one.landmarks[a], one.landmarks[b], colour, i));
    });
    return [box(one, colour, i), ...one.landmarks.map((mark, p) => point(mark, spec.landmarks[p], colour, i))];
  });
  layer.classList.toggle("crowd", objects.length > 12);
  layer.replaceChildren(lines, ...parts.reverse()); // the surest on top
}

/** Fill the list `ol`: objects as they are drawn, or the classes with their bars. */
export function listAnswer(ol, { scores, objects }, spec) {
  const rows = scores
    ? Object.entries(scores).sort((a, b) => b[1] - a[1]).slice(0, LISTED)
    : objects.map(({ label, score }) => [label, score]);
  ol.replaceChildren(
    ...rows.map(([label, share], i) => {
      const row = element("li", scores ? "class" : "object");
      row.dataset.object = i;
      row.style.setProperty("--colour", colourOf(spec, label));
      row.style.setProperty("--share", share);
      const name = element("span", "name", label);
      row.append(name, element("span", "share", percent(share)));
      return row;
    }),
  );
}

/** A sentence of what was found: for a title, and for who does not see the picture. */
export function inWords({ label, scores, objects }, spec) {
  if (scores) return `${label}, ${percent(scores[label])}`;
  if (!objects.length) return `No ${spec.labels.length > 4 ? "object" : spec.labels.join(", no ")} found`;
  const count = (of) => objects.filter((one) => one.label === of).length;
  return spec.labels.filter(count).map((of) => `${count(of)} × ${of}`).join(", ");
}

function box({ label, score, box: [x, y, w, h] }, colour, i) {
  const frame = element("div", "box");
  frame.dataset.object = i;
  frame.style.setProperty("--colour", colour);
  Object.assign(frame.style, { left: `${x * 100}%`, top: `${y * 100}%`, width: `${w * 100}%`, height: `${h * 100}%` });
  const name = element("span", "plate", `${label} ${percent(score)}`);
  if (y < 0.08) name.classList.add("within");
  if (x > 0.7) name.classList.add("leftwards");
  frame.append(name);
  return frame;
}

function point([x, y, seen], name, colour, i) {
  const mark = element("i", seen === HIDDEN ? "mark hidden-mark" : "mark");
  mark.dataset.object = i;
  mark.title = name.replaceAll("_", " ");
  mark.style.setProperty("--colour", colour);
  Object.assign(mark.style, { left: `${x * 100}%`, top: `${y * 100}%` });
  return mark;
}

function line([x1, y1], [x2, y2], colour, i) {
  const drawn = document.createElementNS(SVG, "line");
  for (const [name, value] of Object.entries({ x1, y1, x2, y2, stroke: colour })) drawn.setAttribute(name, value);
  drawn.dataset.object = i;
  return drawn;
}

function element(tag, className, text = "") {
  const made = document.createElement(tag);
  made.className = className;
  made.textContent = text;
  return made;
}
