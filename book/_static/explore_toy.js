/* The page "Beta and depth, live": what the reader moves, and what is drawn. The arithmetic is in explore.js. */
(() => {
  "use strict";

  const { data, forward, gradient, aside, angle, turnOf, walk, STEP, number, clamp, draggable, speaker } = atexExplore;
  const find = (id) => document.getElementById(`toy-${id}`);
  if (!find("app")) return;
  const LOW = [-1.6, -1.2], HIGH = [2.6, 1.95]; // the part of the plane that Chapter 3 draws
  const COLUMNS = 84, ROWS = 63; // where the net is asked; between these places the colours are blended
  const WIDE = 840, HIGH_PIXELS = 630, LEVELS = 10; // bands from zero to the largest logit
  const RELU = 25; // the last place of the slider
  const HOME = [0.85, -0.1], PART = 0.02, PARTS = 5; // a walk takes five short steps
  const state = { depth: 2, slider: 12, probe: HOME };
  let way = null; // a walk: its points, and the arrow at its start
  let seen = null; // what is drawn of one net and one beta, computed once
  const say = speaker(find("said"));

  const beta = () => (state.slider >= RELU ? Infinity : Number((2 ** (state.slider / 4)).toPrecision(2)));
  const betaName = () => (beta() === Infinity ? "ReLU" : `beta ${Number(beta())}`);
  const net = () => data.nets[state.depth];
  const chance = ([first, second]) => 1 / (1 + Math.exp(first - second));
  const percent = (value) => `${number(100 * value, 1)} %`;
  const degrees = (turn) => (number(turn, 0) === "1" ? "1 degree" : `${number(turn, 0)} degrees`);
  const inside = ([x, y]) => x >= LOW[0] && x <= HIGH[0] && y >= LOW[1] && y <= HIGH[1];
  const toPixels = ([x, y]) => [
    (WIDE * (x - LOW[0])) / (HIGH[0] - LOW[0]), (HIGH_PIXELS * (HIGH[1] - y)) / (HIGH[1] - LOW[1]),
  ];

  // the ground: bands of the logit, their borders, and the line where the class changes

  function survey() {
    const logits = new Float64Array((COLUMNS + 1) * (ROWS + 1)), leads = logits.slice();
    for (let row = 0, at = 0; row <= ROWS; row++)
      for (let column = 0; column <= COLUMNS; column++, at++) {
        const point = [
          LOW[0] + ((HIGH[0] - LOW[0]) * column) / COLUMNS, HIGH[1] - ((HIGH[1] - LOW[1]) * row) / ROWS,
        ];
        const found = forward(net(), beta(), point).logits;
        logits[at] = found[1];
        leads[at] = found[1] - found[0];
      }
    const turns = data.points.map((point) => turnOf(net(), beta(), point)).filter((turn) => !Number.isNaN(turn));
    turns.sort((a, b) => a - b);
    const right = data.points.filter((point, at) => {
      const [first, second] = forward(net(), beta(), point).logits;
      return Number(second > first) === data.classes[at];
    });
    const half = turns.length / 2, median = (turns[Math.ceil(half) - 1] + turns[Math.floor(half)]) / 2;
    const far = turns.filter((turn) => turn > 30).length / turns.length;
    return { ground: ground(logits, leads), turns, median, far, accuracy: right.length / data.points.length };
  }

  function ground(logits, leads) {
    const canvas = document.createElement("canvas"), scale = 5;
    const [wide, high] = [COLUMNS * scale, ROWS * scale], largest = Math.max(...logits.map(Math.abs)) || 1;
    Object.assign(canvas, { width: wide, height: high });
    const context = canvas.getContext("2d"), picture = context.createImageData(wide, high);
    const blended = (values, row, column) => {
      const [r, c] = [Math.floor(row / scale), Math.floor(column / scale)];
      const [down, right] = [row / scale - r, column / scale - c], at = r * (COLUMNS + 1) + c, under = at + COLUMNS + 1;
      return (1 - down) * ((1 - right) * values[at] + right * values[at + 1])
        + down * ((1 - right) * values[under] + right * values[under + 1]);
    };
    const bands = new Int16Array(wide * high), lead = new Float64Array(wide * high);
    for (let at = 0; at < bands.length; at++) {
      const [row, column] = [Math.floor(at / wide), at % wide];
      bands[at] = Math.round((LEVELS * blended(logits, row, column)) / largest);
      lead[at] = blended(leads, row, column);
    }
    const { signed } = data.colours;
    for (let at = 0; at < bands.length; at++) {
      const place = 3 * Math.round(127.5 * (1 + bands[at] / LEVELS));
      const corner = at % wide < wide - 1 && at + wide < bands.length;
      const line = corner && (bands[at] !== bands[at + 1] || bands[at] !== bands[at + wide]);
      // how far away the class changes, in pixels: by the slope of what class 1 leads by
      const far = corner ? Math.abs(lead[at]) / Math.hypot(lead[at + 1] - lead[at], lead[at + wide] - lead[at]) : 9;
      const black = clamp(1.9 - far, 0, 1);
      for (let part = 0; part < 3; part++) {
        const colour = (0.7 * signed[place + part] + 0.3 * 255) * (line ? 0.78 : 1);
        picture.data[4 * at + part] = (1 - black) * colour + 17 * black;
      }
      picture.data[4 * at + 3] = 255;
    }
    context.putImageData(picture, 0, 0);
    return canvas;
  }

  // what lies on it

  function arrow(context, from, to, { width, colour, head }) {
    const [dx, dy] = [to[0] - from[0], to[1] - from[1]], length = Math.hypot(dx, dy);
    if (!length) return;
    const [ux, uy] = [dx / length, dy / length], size = Math.min(head, 0.6 * length);
    Object.assign(context, { strokeStyle: colour, fillStyle: colour, lineWidth: width });
    context.beginPath();
    context.moveTo(...from);
    context.lineTo(to[0] - 0.8 * size * ux, to[1] - 0.8 * size * uy);
    context.stroke();
    context.beginPath();
    context.moveTo(...to);
    context.lineTo(to[0] - size * ux + 0.5 * size * uy, to[1] - size * uy - 0.5 * size * ux);
    context.lineTo(to[0] - size * ux - 0.5 * size * uy, to[1] - size * uy + 0.5 * size * ux);
    context.fill();
  }

  /** An arrow of the plane at a point, drawn with so many pixels of length. */
  function along(context, point, slope, pixels, style) {
    const from = toPixels(point), size = Math.hypot(...slope);
    if (size) arrow(context, from, [from[0] + (pixels * slope[0]) / size, from[1] - (pixels * slope[1]) / size], style);
  }

  function dot(context, point, { radius, fill, edge }) {
    context.beginPath();
    context.arc(...toPixels(point), radius, 0, 2 * Math.PI);
    Object.assign(context, { fillStyle: fill, strokeStyle: edge, lineWidth: 1.4 });
    context.fill();
    context.stroke();
  }

  function draw() {
    const canvas = find("plane"), context = canvas.getContext("2d");
    Object.assign(canvas, { width: WIDE, height: HIGH_PIXELS });
    context.drawImage(seen.ground, 0, 0, WIDE, HIGH_PIXELS);
    if (find("points").checked)
      data.points.forEach((point, at) =>
        dot(context, point, { radius: 4, fill: data.classes[at] ? "#222" : "#fff", edge: data.classes[at] ? "#fff" : "#222" }));
    const places = [];
    for (let row = 0; row < 9; row++)
      for (let column = 0; column < 12; column++)
        places.push([LOW[0] + 0.35 * (column + 0.5), LOW[1] + 0.35 * (row + 0.5)]);
    const slopes = places.map((point) => gradient(net(), beta(), point));
    const longest = Math.max(...slopes.map((slope) => Math.hypot(...slope)));
    places.forEach((point, at) => {
      const share = Math.hypot(...slopes[at]) / longest;
      along(context, point, slopes[at], share && 8 + 50 * share, { width: 2, colour: "#111", head: 11 });
    });
    const trail = way ? way.points : [];
    if (trail.length > 1) {
      for (const [width, colour] of [[9, "#fff"], [5, "#8a1a6b"]]) {
        context.beginPath();
        trail.forEach((point) => context.lineTo(...toPixels(point)));
        Object.assign(context, { strokeStyle: colour, lineWidth: width, lineJoin: "round" });
        context.stroke();
      }
      strong(context, trail[0], way.arrow, "#5a5a5a");
    }
    const { point, slope, to, other } = look();
    if (to) {
      context.setLineDash([6, 5]);
      context.beginPath();
      context.moveTo(...toPixels(point));
      context.lineTo(...toPixels(to));
      Object.assign(context, { strokeStyle: "#111", lineWidth: 2 });
      context.stroke();
      context.setLineDash([]);
      strong(context, to, other, "#a83c00");
    }
    strong(context, point, slope, "#0b4fb3");
    const [left, top] = toPixels(point);
    find("probe").style.left = `${(100 * left) / WIDE}%`;
    find("probe").style.top = `${(100 * top) / HIGH_PIXELS}%`;
  }

  function strong(context, point, slope, colour) {
    along(context, point, slope, 92, { width: 10, colour: "#fff", head: 27 });
    along(context, point, slope, 90, { width: 5, colour, head: 22 });
  }

  /** The arrow at the probe, and one sideways step on. */
  function look() {
    const point = state.probe, { logits } = forward(net(), beta(), point), slope = gradient(net(), beta(), point);
    const to = aside(point, slope), other = to && gradient(net(), beta(), to);
    const turn = other && Math.hypot(...other) ? angle(slope, other) : NaN;
    return { point, logits, slope, to, other, turn, after: to && forward(net(), beta(), to).logits };
  }

  const WIDTH = 320, TALL = 150, RIM = { left: 34, right: 16, top: 8, bottom: 34 };

  function histogram() {
    const counts = Array(18).fill(0), foot = TALL - RIM.bottom, step = (WIDTH - RIM.left - RIM.right) / 18;
    for (const turn of seen.turns) counts[Math.min(17, Math.floor(turn / 10))]++;
    // the root of the count, or the few points that turn far could not be seen
    const y = (count) => foot - (foot - RIM.top) * Math.sqrt(count / data.points.length);
    const parts = [0, 10, 100, 400].map((count) =>
      `<line class="live-grid" x1="${RIM.left}" x2="${WIDTH - RIM.right}" y1="${y(count)}" y2="${y(count)}"/>`
      + `<text x="${RIM.left - 6}" y="${y(count) + 4}" text-anchor="end">${count}</text>`);
    counts.forEach((count, at) =>
      parts.push(`<rect class="live-column" x="${RIM.left + step * at + 1}" width="${step - 2}" y="${y(count)}" height="${foot - y(count)}"/>`));
    for (const mark of [0, 30, 60, 90, 120, 150, 180])
      parts.push(`<text x="${RIM.left + (step * mark) / 10}" y="${TALL - 19}" text-anchor="middle">${mark}</text>`);
    parts.push(`<text x="${RIM.left + 9 * step}" y="${TALL - 4}" text-anchor="middle">turn of the arrow, degrees</text>`);
    find("turns").setAttribute("viewBox", `0 0 ${WIDTH} ${TALL}`);
    find("turns").setAttribute("aria-label", `Points by the turn of their arrow: ${counts[0]} of ${seen.turns.length} turn by `
      + `less than 10 degrees, ${seen.turns.filter((turn) => turn > 30).length} by more than 30.`);
    find("turns").innerHTML = parts.join("");
  }

  /** Of the net only where it has changed, so that a screen reader need not say it for each move of the probe. */
  function tell(all) {
    const { point, logits, after, turn } = look(), place = `(${number(point[0])}, ${number(point[1])})`;
    const [now, then] = [chance(logits), after && chance(after)], name = betaName();
    const ofNet = `${name[0].toUpperCase()}${name.slice(1)}, ${state.depth} hidden layer${state.depth > 1 ? "s" : ""}: over a `
      + `sideways step of ${STEP} half of the 400 arrows turn by ${number(seen.median, 1)} degrees or more, and `
      + `${percent(seen.far)} by more than 30. The net names ${percent(seen.accuracy)} of the points rightly. `;
    const own = Number.isNaN(turn) ? `At the probe ${place} the net is flat: there is no arrow to turn.`
      : `At the probe ${place} class 1 has a probability of ${percent(now)}. One sideways step on it is ${percent(then)}, `
        + `and the arrow has turned by ${degrees(turn)}.`;
    say(`${all ? ofNet : ""}${own}${way ? walked(logits) : ""}`);
    find("chance").textContent = percent(now);
    find("turn").textContent = Number.isNaN(turn) ? "no arrow" : `${number(turn, 1)}°`;
    find("median").textContent = `${number(seen.median, 1)}°`;
    find("far").textContent = percent(seen.far);
    find("accuracy").textContent = percent(seen.accuracy);
    find("probe").setAttribute("aria-label", `Probe at ${place}. The arrow keys move it.`);
  }

  function walked(logits) {
    const { points, logit } = way, last = points.at(-1), slope = gradient(net(), beta(), last);
    const length = points.slice(1).reduce((sum, point, at) =>
      sum + Math.hypot(point[0] - points[at][0], point[1] - points[at][1]), 0);
    const end = way.ended ? " The level set leads no further here." : "";
    return ` You have walked ${number(length)} along the level set. The logit changed by `
      + `${number(Math.abs(logits[1] - logit), 3)}, and the arrow has turned by ${degrees(angle(way.arrow, slope))}.${end}`;
  }

  /** Everything anew, or only what hangs on the probe. */
  function refresh(all = false) {
    if (all) {
      seen = survey();
      histogram();
      find("beta-value").textContent = beta() === Infinity ? "ReLU" : `${beta()}`;
      find("beta").setAttribute("aria-valuetext", betaName());
    }
    draw();
    tell(all);
  }

  function place(x, y) {
    state.probe = [clamp(x, LOW[0], HIGH[0]), clamp(y, LOW[1], HIGH[1])];
    way = null;
    refresh();
  }

  function go(sign) {
    way ??= {
      points: [state.probe], logit: forward(net(), beta(), state.probe).logits[1], arrow: gradient(net(), beta(), state.probe),
    };
    way.ended = false;
    for (let part = 0; part < PARTS && !way.ended; part++) {
      const to = walk(net(), beta(), way.points.at(-1), sign * PART);
      if (to && inside(to)) way.points.push(to);
      else way.ended = true;
    }
    state.probe = way.points.at(-1);
    refresh();
  }

  find("beta").addEventListener("input", () => {
    state.slider = Number(find("beta").value);
    way = null;
    refresh(true);
  });
  find("depth").addEventListener("change", () => {
    state.depth = Number(find("depth").value);
    way = null;
    refresh(true);
  });
  find("points").addEventListener("change", draw);
  find("left").addEventListener("click", () => go(1));
  find("right").addEventListener("click", () => go(-1));
  find("again").addEventListener("click", () => {
    Object.assign(state, { depth: 2, slider: 12, probe: HOME });
    find("beta").value = state.slider;
    find("depth").value = state.depth;
    way = null;
    refresh(true);
  });
  draggable(find("probe"), find("plane"), {
    by: (right, down, far) => {
      const size = far ? 0.2 : 0.05;
      place(state.probe[0] + size * right, state.probe[1] - size * down);
    },
    to: (x, y) => place(LOW[0] + (HIGH[0] - LOW[0]) * x, HIGH[1] - (HIGH[1] - LOW[1]) * y),
  });
  // a browser may bring back what the controls held before
  state.slider = Number(find("beta").value);
  state.depth = Number(find("depth").value);
  refresh(true);
})();
