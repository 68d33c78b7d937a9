// Two drawings of a score as inline SVG: a scale with its interval, a curve over the video.

import { draw, make } from "./dom.js";

const MOST = 63; // BDI-II
const BANDS = [
  [0, "minimal"],
  [14, "mild"],
  [20, "moderate"],
  [29, "severe"],
];
const TABLE_ROWS = 20;
const WIDEST = 640; // [px]; text keeps its size on a narrow page

/** The estimate on the scale from 0 to 63 with its bands and 90 % interval; room: width [px]. */
export function scale(estimate, room) {
  const width = Math.min(room, WIDEST);
  const [left, right] = [12, width - 12];
  const twoRows = width < 480; // of band names, which would touch
  const x = (score) => left + ((right - left) * score) / MOST;
  const svg = picture(width, 80, inWords(estimate));
  svg.append(line(left, 44, right, 44, "axis"));
  BANDS.forEach(([from, name], i) => {
    const to = BANDS[i + 1]?.[0] ?? MOST;
    const row = twoRows && i % 2 ? 12 : 28;
    svg.append(line(x(from), 36, x(from), 52, "axis"));
    svg.append(text(x(from), 68, from, "middle"));
    svg.append(text((x(from) + x(to)) / 2, row, name, "middle", name === estimate.band));
  });
  svg.append(line(x(MOST), 36, x(MOST), 52, "axis"), text(x(MOST), 68, MOST, "middle"));
  if (estimate.ci90) {
    const [low, high] = estimate.ci90.map(x);
    const bar = { x: low, y: 38, width: high - low, height: 12, rx: 3, class: "range" };
    svg.append(draw("rect", bar));
  }
  svg.append(draw("circle", { cx: x(estimate.score), cy: 44, r: 7, class: "dot" }));
  return make("div", { class: "drawing" }, svg);
}

/** The score of every frame against time, with axes, mean and a table; room: width [px]. */
export function curve(estimate, room) {
  const { frame_times: times, frame_scores: scores, score } = estimate;
  const [width, height] = [Math.min(room, WIDEST), 250];
  const [left, top, right, bottom] = [46, 12, width - 12, 206];
  const start = times[0];
  const end = Math.max(times.at(-1), start + 1e-3);
  const x = (time) => left + ((right - left) * (time - start)) / (end - start);
  const [lowest, highest] = [Math.min(...scores), Math.max(...scores)];
  const [least, most] = [Math.min(0, lowest), Math.max(MOST, highest)]; // a frame may lie outside
  const y = (value) => bottom - ((bottom - top) * (value - least)) / (most - least);
  const svg = picture(
    width,
    height,
    `Estimate of each frame against time: from ${lowest.toFixed(1)} to ${highest.toFixed(1)}, ` +
      `mean ${score.toFixed(1)}. The table below has the numbers.`,
  );
  svg.append(line(left, bottom, right, bottom, "axis"));
  for (const value of [...BANDS.map(([from]) => from), MOST]) {
    svg.append(line(left, y(value), right, y(value), "grid"));
    svg.append(text(left - 8, y(value) + 4, value, "end"));
  }
  for (const time of ticks(start, end)) {
    svg.append(line(x(time), bottom, x(time), bottom + 5, "axis"));
    svg.append(text(x(time), bottom + 20, Number(time.toFixed(2)), "middle"));
  }
  svg.append(text((left + right) / 2, height - 4, "time in the video [s]", "middle"));
  const across = text(0, 0, "BDI-II estimate", "middle");
  across.setAttribute("transform", `translate(12 ${(top + bottom) / 2}) rotate(-90)`);
  const points = times.map((time, i) => `${x(time).toFixed(1)},${y(scores[i]).toFixed(1)}`);
  svg.append(across, draw("polyline", { points: points.join(" "), class: "curve" }));
  svg.append(line(left, y(score), right, y(score), "mean"));
  const words = "Line: estimate of each frame. Dashed: their mean, which is the score.";
  return make(
    "figure",
    {},
    make("div", { class: "drawing" }, svg),
    make("figcaption", {}, words),
    make("details", {}, make("summary", {}, "The same as a table"), table(times, scores)),
  );
}

/** The estimate as a sentence. */
export function inWords({ score, ci90, band }) {
  const interval = ci90
    ? `90 % interval ${ci90[0].toFixed(1)} to ${ci90[1].toFixed(1)}`
    : "interval unknown: the run has no calibration";
  return `BDI-II estimate ${score.toFixed(1)} of ${MOST}, ${band}; ${interval}`;
}

function table(times, scores) {
  const each = Math.ceil(times.length / TABLE_ROWS);
  const rows = [];
  for (let i = 0; i < times.length; i += each) {
    const some = scores.slice(i, i + each);
    const last = times[Math.min(i + each, times.length) - 1];
    const span = each > 1 ? `${times[i].toFixed(2)} to ${last.toFixed(2)}` : times[i].toFixed(2);
    const mean = some.reduce((sum, value) => sum + value, 0) / some.length;
    const cells = [make("th", { scope: "row" }, span), cell(mean), cell(Math.min(...some))];
    rows.push(make("tr", {}, ...cells, cell(Math.max(...some))));
  }
  const head = ["Time [s]", "Mean", "Lowest", "Highest"].map((name, i) =>
    make("th", { scope: "col", class: i ? "num" : "" }, name),
  );
  return make(
    "div",
    { class: "scroll" },
    make(
      "table",
      {},
      make("caption", {}, "BDI-II estimate of the frames"),
      make("thead", {}, make("tr", {}, ...head)),
      make("tbody", {}, ...rows),
    ),
  );
}

const cell = (value) => make("td", { class: "num" }, value.toFixed(1));

function ticks(start, end) {
  const rough = (end - start) / 5;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = power * [1, 2, 5, 10].find((factor) => factor * power >= rough);
  const first = Math.ceil(start / step - 1e-9);
  const count = Math.floor(end / step + 1e-9) - first + 1;
  return Array.from({ length: count }, (_, i) => (first + i) * step);
}

function picture(width, height, label) {
  const box = `0 0 ${width} ${height}`;
  return draw("svg", { viewBox: box, role: "img", "aria-label": label });
}

function line(x1, y1, x2, y2, kind) {
  return draw("line", { x1, y1, x2, y2, class: kind });
}

function text(x, y, words, anchor, strong = false) {
  const place = { x, y, "text-anchor": anchor, class: strong ? "strong" : "" };
  return draw("text", place, String(words));
}
