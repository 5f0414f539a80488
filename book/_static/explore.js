/* The arithmetic of the pages "Beta and depth, live" and "Four measures, live", in plain JavaScript and double precision,
   with the few helpers that both pages share. It is loaded after live.js, which has ranks and top entries. Functions are
   named as in `atexlib` and in the chapters, and tests/test_explore.py holds them against Python. */
window.atexExplore = (() => {
  "use strict";

  const { bytesOf, maths } = atexLive;
  const WIDE = 16; // units of a hidden layer of a toy net
  const THRESHOLD = 20; // of beta times a value: above it torch takes softplus to be the value itself
  const STEP = 0.2; // of the sideways step in Chapter 3
  const SIDE = 28, PIXELS = SIDE * SIDE, K = 50, WINDOW = 7;
  const data = { nets: {}, points: [], classes: [], colours: {} };

  // what the script with the data brings

  const singles = (text) => Float64Array.from(new Float32Array(bytesOf(text).buffer));

  /** Called by explore_data.js. */
  function list({ nets, points, classes, colours }) {
    for (const [depth, text] of Object.entries(nets)) data.nets[depth] = readToy(singles(text), Number(depth));
    const flat = singles(points);
    data.points = Array.from(classes, (_, at) => [flat[2 * at], flat[2 * at + 1]]);
    data.classes = Array.from(classes, Number);
    for (const [kind, text] of Object.entries(colours)) data.colours[kind] = bytesOf(text);
  }

  /** The layers of a toy net: of each the matrix, row after row, and the bias. */
  function readToy(numbers, depth) {
    const sizes = [2, ...Array(depth).fill(WIDE), 2], layers = [];
    let at = 0;
    const take = (count) => numbers.slice(at, (at += count));
    for (let part = 0; part <= depth; part++) {
      const [from, to] = [sizes[part], sizes[part + 1]];
      layers.push({ from, to, weight: take(from * to), bias: take(to) });
    }
    if (at !== numbers.length) throw Error(`a toy net of depth ${depth} has ${at} weights, not ${numbers.length}.`);
    return layers;
  }

  // the toy: logits, and the arrow

  /** The two logits at a point, and the slope of each unit of each hidden layer; a beta of Infinity is ReLU. */
  function forward(layers, beta, point) {
    const slopes = [];
    let values = point;
    layers.forEach(({ from, to, weight, bias }, part) => {
      const out = new Float64Array(to), slope = new Float64Array(to).fill(1);
      for (let o = 0; o < to; o++) {
        let z = bias[o];
        for (let i = 0; i < from; i++) z += weight[o * from + i] * values[i];
        out[o] = z;
        if (part === layers.length - 1 || beta * z > THRESHOLD) continue;
        const chance = beta === Infinity ? Number(z > 0) : 1 / (1 + Math.exp(-beta * z));
        out[o] = beta === Infinity ? Math.max(z, 0) : Math.log1p(Math.exp(beta * z)) / beta;
        slope[o] = chance;
      }
      slopes.push(slope);
      values = out;
    });
    return { logits: values, slopes };
  }

  /** The arrow at a point: the gradient of a logit, taken back layer by layer. */
  function gradient(layers, beta, point, target = 1) {
    const { slopes } = forward(layers, beta, point);
    let back = Float64Array.of(Number(target === 0), Number(target === 1));
    for (let part = layers.length - 1; part >= 0; part--) {
      const { from, to, weight } = layers[part], before = new Float64Array(from);
      for (let o = 0; o < to; o++) for (let i = 0; i < from; i++) before[i] += weight[o * from + i] * back[o];
      if (part) before.forEach((value, i) => (before[i] = value * slopes[part - 1][i]));
      back = before;
    }
    return back;
  }

  /** The point one sideways step on, at right angles to the arrow, to its left; null where there is no arrow. */
  function aside(point, arrow, step = STEP) {
    const length = Math.hypot(...arrow);
    return length ? [point[0] - (step * arrow[1]) / length, point[1] + (step * arrow[0]) / length] : null;
  }

  /** The angle between two arrows, in degrees. */
  function angle([a, b], [c, d]) {
    return (Math.abs(Math.atan2(a * d - b * c, a * c + b * d)) * 180) / Math.PI;
  }

  /** By how many degrees the arrow turns over the sideways step; nan where there is no arrow. */
  function turnOf(layers, beta, point, step = STEP) {
    const arrow = gradient(layers, beta, point), to = aside(point, arrow, step);
    const other = to && gradient(layers, beta, to);
    return other && Math.hypot(...other) ? angle(arrow, other) : NaN;
  }

  /** Along the level set through a point: a short step aside, then straight back to the logit that was there. */
  function walk(layers, beta, point, step) {
    const logit = forward(layers, beta, point).logits[1];
    let to = aside(point, gradient(layers, beta, point), step);
    for (let round = 0; to && round < 8; round++) {
      const arrow = gradient(layers, beta, to), square = arrow[0] ** 2 + arrow[1] ** 2;
      const missing = logit - forward(layers, beta, to).logits[1];
      if (!square) return null;
      to = [to[0] + (missing * arrow[0]) / square, to[1] + (missing * arrow[1]) / square];
    }
    const far = to && Math.hypot(to[0] - point[0], to[1] - point[1]);
    return to && far < 2 * Math.abs(step) ? to : null;
  }

  // the measures of two maps, as they are handed in

  /** Spearman as a shortcut computes it: equal entries are numbered in the order in which they stand. */
  function ordinalSpearman(a, b) {
    const ranks = (values) => {
      const out = new Float64Array(values.length);
      Array.from(values.keys()).sort((i, j) => values[i] - values[j]).forEach((at, rank) => (out[at] = rank + 1));
      return out;
    };
    return maths.correlation(ranks(a), ranks(b)).value;
  }

  /** The share of the top entries of `a` that have one of `b` within `window` pixels. */
  function lensTopk(a, b, k = K, window = 1) {
    const [first, second] = [maths.topkMask(a, k), maths.topkMask(b, k)];
    let kept = 0;
    for (let row = 0; row < SIDE; row++)
      for (let column = 0; column < SIDE; column++) {
        if (!first[row * SIDE + column]) continue;
        let near = 0;
        for (let r = Math.max(0, row - window); r <= Math.min(SIDE - 1, row + window); r++)
          for (let c = Math.max(0, column - window); c <= Math.min(SIDE - 1, column + window); c++)
            near = near || second[r * SIDE + c];
        kept += near;
      }
    return kept / k;
  }

  /** Structural similarity with a data range of 1: the mean over all windows that lie inside the map. */
  function ssim(a, b) {
    const size = WINDOW ** 2, last = SIDE - WINDOW, c1 = 0.01 ** 2, c2 = 0.03 ** 2;
    let total = 0;
    for (let top = 0; top <= last; top++)
      for (let left = 0; left <= last; left++) {
        let [meanA, meanB, spread, both] = [0, 0, 0, 0];
        const over = (look) => {
          for (let row = top; row < top + WINDOW; row++)
            for (let column = left; column < left + WINDOW; column++) look(row * SIDE + column);
        };
        over((at) => { meanA += a[at] / size; meanB += b[at] / size; });
        over((at) => {
          spread += (a[at] - meanA) ** 2 + (b[at] - meanB) ** 2;
          both += (a[at] - meanA) * (b[at] - meanB);
        });
        const light = (2 * meanA * meanB + c1) / (meanA ** 2 + meanB ** 2 + c1);
        total += (light * ((2 * both) / (size - 1) + c2)) / (spread / (size - 1) + c2);
      }
    return total / (last + 1) ** 2;
  }

  function measures(a, b) {
    return {
      spearman: maths.spearman(a, b), topk: maths.topkIntersection(a, b, K), ssim: ssim(a, b), lens: lensTopk(a, b),
      ordinal: ordinalSpearman(a, b),
    };
  }

  // the maps: four blobs over a rough ground, always the same

  const BLOBS = [ // the first is the one that moves
    { row: 9, column: 9, width: 3.4, height: 1 }, { row: 20, column: 18, width: 2.2, height: 0.3 },
    { row: 7, column: 21, width: 1.7, height: 0.3 }, { row: 21, column: 6, width: 1.6, height: 0.3 },
  ];
  const REACH = 7, GROUND = 0.12;
  const START = { row: 0, column: 0, strength: 1, zeros: 0, noise: 0, rough: true, copy: "moved" };

  /** Numbers between 0 and 1 from a seed, always the same. */
  function random(seed) {
    let state = seed;
    return () => (state = (state * 48271) % 2147483647) / 2147483647;
  }

  /** A map whose first blob lies `row` and `column` pixels off its place, with its strength. */
  function scene({ row, column, strength, rough }) {
    const uniform = random(20), map = Float64Array.from({ length: PIXELS }, () => GROUND * uniform());
    BLOBS.forEach((blob, which) => {
      for (let down = -REACH; down <= REACH; down++)
        for (let right = -REACH; right <= REACH; right++) {
          const grain = uniform(), hill = Math.exp(-(down ** 2 + right ** 2) / (2 * blob.width ** 2));
          const r = blob.row + down + (which ? 0 : row), c = blob.column + right + (which ? 0 : column);
          if (r < 0 || r >= SIDE || c < 0 || c >= SIDE) continue;
          map[r * SIDE + c] += blob.height * (which ? 1 : strength) * hill * (rough ? grain ** 2 : 0.6);
        }
    });
    return map;
  }

  /** The same entries in another order, which has nothing to do with the old one. */
  function shuffled(map) {
    const uniform = random(77), out = Float64Array.from(map);
    for (let at = out.length - 1; at > 0; at--) {
      const other = Math.floor((at + 1) * uniform());
      [out[at], out[other]] = [out[other], out[at]];
    }
    return out;
  }

  /** The smallest entries, a share of all, set to zero. */
  function thinned(map, share) {
    const out = Float64Array.from(map), order = Array.from(map.keys()).sort((i, j) => map[i] - map[j]);
    for (const at of order.slice(0, Math.round(share * map.length))) out[at] = 0;
    return out;
  }

  function byMax(map) {
    const high = Math.max(...map);
    return map.map((value) => value / high);
  }

  /** The clean map and its copy, each divided by its largest entry. */
  function pair(state) {
    const uniform = random(5), changed = scene(state), { zeros, noise } = state;
    const copy = byMax(thinned(state.copy === "shuffled" ? shuffled(changed) : changed, zeros));
    const clean = byMax(thinned(scene({ ...START, rough: state.rough }), zeros));
    return { clean, copy: noise ? byMax(copy.map((value) => value + noise * uniform())) : copy };
  }

  // what both pages need

  const number = (value, digits = 2) => {
    const text = value.toFixed(digits).replace("-", "−");
    return /^−0\.?0*$/.test(text) ? text.slice(1) : text;
  };
  const clamp = (value, low, high) => Math.min(high, Math.max(low, value));
  const ARROWS = { ArrowUp: [0, -1], ArrowDown: [0, 1], ArrowLeft: [-1, 0], ArrowRight: [1, 0] };

  /** A button over a picture that is dragged, or moved by the arrow keys: `by(right, down, far)` is called for a key,
      `to(x, y)` for a pointer, with its place in the picture from 0 to 1. A press on the picture brings it there. */
  function draggable(button, picture, { by, to }) {
    button.addEventListener("keydown", (event) => {
      const way = ARROWS[event.key];
      if (!way || event.ctrlKey || event.metaKey || event.altKey) return;
      event.preventDefault();
      by(...way, event.shiftKey);
    });
    let held = [0, 0]; // from the pointer to the middle of the button, so that it does not jump when it is taken
    const follow = (event) => {
      const box = picture.getBoundingClientRect(), [x, y] = [event.clientX + held[0], event.clientY + held[1]];
      to(clamp((x - box.left) / box.width, 0, 1), clamp((y - box.top) / box.height, 0, 1));
    };
    button.addEventListener("pointermove", (event) => button.hasPointerCapture(event.pointerId) && follow(event));
    button.addEventListener("pointerdown", (event) => {
      const box = button.getBoundingClientRect();
      held = [box.left + box.width / 2 - event.clientX, box.top + box.height / 2 - event.clientY];
      button.setPointerCapture(event.pointerId);
    });
    picture.addEventListener("pointerdown", (event) => {
      if (button.hidden || event.pointerType === "touch") return;
      event.preventDefault();
      held = [0, 0];
      button.setPointerCapture(event.pointerId);
      button.focus({ preventScroll: true });
      follow(event);
    });
    picture.addEventListener("click", (event) => { // a finger: one that scrolls the page does not click
      if (button.hidden || event.pointerType !== "touch") return;
      held = [0, 0];
      follow(event);
    });
  }

  /** A sentence for a live region. It waits until the reader pauses, so that a screen reader speaks the last one alone. */
  function speaker(region) {
    let timer = 0;
    return (words) => {
      clearTimeout(timer);
      timer = setTimeout(() => (region.textContent = words), 150);
    };
  }

  return {
    list, data, readToy, forward, gradient, aside, angle, turnOf, walk, STEP, measures, ordinalSpearman, lensTopk, ssim,
    scene, pair, BLOBS, START, SIDE, PIXELS, K, number, clamp, draggable, speaker,
  };
})();
