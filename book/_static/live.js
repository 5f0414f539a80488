/* The attack of the library once more, in plain JavaScript and double precision, so that a page can run it without a
   kernel, a network or a server. It knows one net, the ConvNet of the book, and one explainer, its gradient. Functions
   are named as in `atexlib`, and tests/test_live.py holds them against it. Arrays are flat: channels, rows, columns. */
window.atexLive = (() => {
  "use strict";

  const SIDE = 28, PIXELS = SIDE * SIDE, HALF = SIDE / 2, WIDTH = 32;
  const SHAPES = {
    "conv1.weight": [WIDTH, 1, 3, 3], "conv1.bias": [WIDTH],
    "conv2.weight": [WIDTH, WIDTH, 3, 3], "conv2.bias": [WIDTH],
    "fc1.weight": [120, WIDTH * (SIDE / 4) ** 2], "fc1.bias": [120],
    "fc2.weight": [10, 120], "fc2.bias": [10],
  };
  const THRESHOLD = 20; // of beta times a value: above it torch takes softplus to be the value itself
  const MOMENTUM = 0.5, FLAT = 8, SLACK = 64; // as in attack/ascent.py
  const K = 50; // entries of a map that count as its top
  const SQUARE = 5; // side of a target square, in pixels

  // nets: the weights come as base64 of the half-precision numbers that are committed

  function bytesOf(text) {
    return Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
  }

  function half(bits) {
    const exponent = (bits >> 10) & 31, fraction = bits & 1023;
    const size = exponent ? 2 ** (exponent - 25) * (1024 + fraction) : 2 ** -24 * fraction;
    return bits & 32768 ? -size : size;
  }

  /** A net from its shapes and weights, ready for `forward`; one that is not the ConvNet of the book is refused. */
  function readNet({ shapes, weights, beta }) {
    const wrong = Object.keys({ ...SHAPES, ...shapes }).find((name) => `${shapes[name]}` !== `${SHAPES[name]}`);
    if (wrong) throw Error(`${wrong} has the shape ${shapes[wrong]}; this page computes ${SHAPES[wrong]} alone.`);
    if (!(beta > 0)) throw Error(`beta is ${beta}; this page computes nets with softplus units alone.`);
    const sizes = Object.values(SHAPES).map((shape) => shape.reduce((a, b) => a * b)), bytes = bytesOf(weights);
    if (bytes.length !== 2 * sum(sizes)) throw Error(`the weights are ${bytes.length} bytes, not ${2 * sum(sizes)}.`);
    const view = new DataView(bytes.buffer), net = { beta };
    let at = 0;
    Object.keys(SHAPES).forEach((name, part) => {
      net[name] = Float64Array.from({ length: sizes[part] }, () => half(view.getUint16(2 * at++, true)));
    });
    net.back1 = turned(net["conv1.weight"], WIDTH, 1);
    net.back2 = turned(net["conv2.weight"], WIDTH, WIDTH);
    return net;
  }

  /** The kernels that lead a slope back through a convolution: channels exchanged, each kernel turned upside down. */
  function turned(weights, to, from) {
    const out = new Float64Array(weights.length);
    for (let o = 0; o < to; o++)
      for (let i = 0; i < from; i++)
        for (let tap = 0; tap < 9; tap++) out[(i * to + o) * 9 + tap] = weights[(o * from + i) * 9 + 8 - tap];
    return out;
  }

  // layers

  /** Convolution 3x3 with padding 1. The padding is laid around the maps once, so that the inner loop asks nothing. */
  function convolve(maps, side, weights, to, bias) {
    const size = side * side, from = maps.length / size, wide = side + 2, area = wide * wide;
    const padded = new Float64Array(from * area), out = new Float64Array(to * size);
    for (let line = 0; line < from * side; line++) {
      const at = Math.floor(line / side) * area + ((line % side) + 1) * wide + 1;
      padded.set(maps.subarray(line * side, (line + 1) * side), at);
    }
    for (let o = 0; o < to; o++) {
      const sum = out.subarray(o * size, (o + 1) * size);
      if (bias) sum.fill(bias[o]);
      for (let i = 0; i < from; i++) {
        const w = (o * from + i) * 9;
        const a = weights[w], b = weights[w + 1], c = weights[w + 2], d = weights[w + 3], e = weights[w + 4];
        const f = weights[w + 5], g = weights[w + 6], h = weights[w + 7], k = weights[w + 8];
        for (let row = 0, at = 0; row < side; row++) {
          let p = i * area + row * wide, q = p + wide, r = q + wide;
          for (let column = 0; column < side; column++, p++, q++, r++)
            sum[at++] += a * padded[p] + b * padded[p + 1] + c * padded[p + 2] + d * padded[q] + e * padded[q + 1]
              + f * padded[q + 2] + g * padded[r] + h * padded[r + 1] + k * padded[r + 2];
        }
      }
    }
    return out;
  }

  /** The places of the largest entry of each 2x2 window; of equal ones the first in reading order, as in torch. */
  function poolPlaces(maps, side) {
    const places = new Int32Array(maps.length / 4);
    for (let at = 0, row = 0; row < maps.length / side; row += 2)
      for (let column = 0; column < side; column += 2) {
        const first = row * side + column;
        let best = maps[first + 1] > maps[first] ? first + 1 : first;
        if (maps[first + side] > maps[best]) best = first + side;
        if (maps[first + side + 1] > maps[best]) best = first + side + 1;
        places[at++] = best;
      }
    return places;
  }

  function gather(maps, places) {
    const out = new Float64Array(places.length);
    for (let at = 0; at < out.length; at++) out[at] = maps[places[at]];
    return out;
  }

  function scatter(values, places) {
    const out = new Float64Array(values.length * 4);
    places.forEach((place, at) => (out[place] = values[at]));
    return out;
  }

  /** Softplus units: their values, and their first and second derivatives. */
  function softplus(values, beta) {
    const value = Float64Array.from(values), first = new Float64Array(values.length).fill(1);
    const second = new Float64Array(values.length);
    values.forEach((z, at) => {
      if (beta * z > THRESHOLD) return;
      const chance = 1 / (1 + Math.exp(-beta * z));
      value[at] = Math.log1p(Math.exp(beta * z)) / beta;
      first[at] = chance;
      second[at] = beta * chance * (1 - chance);
    });
    return { value, first, second };
  }

  function linear(weights, values, bias) {
    const wide = values.length, out = new Float64Array(weights.length / wide);
    for (let o = 0; o < out.length; o++) {
      let sum = bias ? bias[o] : 0;
      for (let i = 0, at = o * wide; i < wide; i++) sum += weights[at++] * values[i];
      out[o] = sum;
    }
    return out;
  }

  function linearBack(weights, slopes) {
    const wide = weights.length / slopes.length, out = new Float64Array(wide);
    slopes.forEach((slope, o) => {
      for (let i = 0, at = o * wide; i < wide; i++) out[i] += weights[at++] * slope;
    });
    return out;
  }

  const times = (a, b) => a.map((value, at) => value * b[at]);

  // the net: its logits, their gradient by the image, and how that gradient turns when the image moves

  /** Logits of an image, with what derivatives need. Pooling comes before the unit, which rises: a quarter of the work. */
  function forward(net, x) {
    const conv1 = convolve(x, SIDE, net["conv1.weight"], WIDTH, net["conv1.bias"]);
    const places1 = poolPlaces(conv1, SIDE), unit1 = softplus(gather(conv1, places1), net.beta);
    const conv2 = convolve(unit1.value, HALF, net["conv2.weight"], WIDTH, net["conv2.bias"]);
    const places2 = poolPlaces(conv2, HALF), unit2 = softplus(gather(conv2, places2), net.beta);
    const unit3 = softplus(linear(net["fc1.weight"], unit2.value, net["fc1.bias"]), net.beta);
    return { places1, places2, unit1, unit2, unit3, logits: linear(net["fc2.weight"], unit3.value, net["fc2.bias"]) };
  }

  /** The gradient by the image of a weighted sum of the logits; of one logit it is the map of that class. */
  function gradient(net, seen, weights) {
    const by3 = linearBack(net["fc2.weight"], weights);
    const by2 = linearBack(net["fc1.weight"], times(by3, seen.unit3.first));
    const by1 = convolve(scatter(times(by2, seen.unit2.first), seen.places2), HALF, net.back2, WIDTH);
    const map = convolve(scatter(times(by1, seen.unit1.first), seen.places1), SIDE, net.back1, 1);
    return { by1, by2, by3, map };
  }

  /** How fast the map of `back` changes along a direction of the image: the Hessian of the logit times that direction.
      The Hessian is symmetric, so for the slope of a score by the map it is the slope of the score by the image. */
  function turn(net, seen, back, direction) {
    const { unit1, unit2, unit3, places1, places2 } = seen;
    const move1 = gather(convolve(direction, SIDE, net["conv1.weight"], WIDTH), places1);
    const move2 = gather(convolve(times(unit1.first, move1), HALF, net["conv2.weight"], WIDTH), places2);
    const move3 = linear(net["fc1.weight"], times(unit2.first, move2));
    const turned2 = linearBack(net["fc1.weight"], times(times(back.by3, unit3.second), move3));
    const through = (unit, turned, by, move) =>
      unit.first.map((first, at) => first * turned[at] + unit.second[at] * by[at] * move[at]);
    const turned1 = convolve(scatter(through(unit2, turned2, back.by2, move2), places2), HALF, net.back2, WIDTH);
    return convolve(scatter(through(unit1, turned1, back.by1, move1), places1), SIDE, net.back1, 1);
  }

  const argmax = (values) => values.reduce((best, value, at) => (value > values[best] ? at : best), 0);
  const oneHot = (at) => Float64Array.from({ length: 10 }, (_, place) => Number(place === at));

  function softmax(logits) {
    const largest = Math.max(...logits), sizes = logits.map((logit) => Math.exp(logit - largest));
    const total = sum(sizes);
    return sizes.map((size) => size / total);
  }

  // maps: how alike two are, of absolute values

  const sum = (values) => values.reduce((total, value) => total + value, 0);
  const absolute = (map) => map.map(Math.abs);

  function averageRanks(values) {
    const order = Array.from(values.keys()).sort((a, b) => values[a] - values[b]);
    const ranks = new Float64Array(values.length);
    for (let start = 0, stop; start < order.length; start = stop) {
      for (stop = start + 1; stop < order.length && values[order[stop]] === values[order[start]]; ) stop++;
      for (let at = start; at < stop; at++) ranks[order[at]] = (start + 1 + stop) / 2;
    }
    return ranks;
  }

  function correlation(a, b) {
    const meanA = sum(a) / a.length, meanB = sum(b) / b.length;
    const centredA = a.map((value) => value - meanA), centredB = b.map((value) => value - meanB);
    const lengths = Math.sqrt(sum(times(centredA, centredA))) * Math.sqrt(sum(times(centredB, centredB)));
    return { value: sum(times(centredA, centredB)) / lengths, centredA, centredB, lengths };
  }

  function spearman(a, b) {
    return Math.max(-1, Math.min(1, correlation(averageRanks(a), averageRanks(b)).value));
  }

  function topkMask(values, k) {
    const mask = new Float64Array(values.length);
    for (const place of Array.from(values.keys()).sort((a, b) => values[b] - values[a]).slice(0, k)) mask[place] = 1;
    return mask;
  }

  const topkIntersection = (a, b, k = K) => sum(times(topkMask(a, k), topkMask(b, k))) / k;

  // objectives: for a clean map, the score of another one and the slope of that score by it

  function mass(map, mask) {
    const size = absolute(map), total = sum(size), share = sum(times(size, mask)) / total;
    return { score: share, slope: map.map((value, at) => (Math.sign(value) * (mask[at] - share)) / total) };
  }

  const minus = ({ score, slope }) => ({ score: -score, slope: slope.map((value) => -value) });

  const OBJECTIVES = {
    untargeted(cleanMap) {
      const top = topkMask(absolute(cleanMap), K);
      return (map) => minus(mass(map, top));
    },
    targeted(_, { top, left }) {
      const inside = (at, first) => at >= first && at < first + SQUARE;
      const mask = Float64Array.from({ length: PIXELS }, (_, at) =>
        Number(inside(Math.floor(at / SIDE), top) && inside(at % SIDE, left)));
      return (map) => mass(map, mask);
    },
    distance(cleanMap) {
      return (map) => {
        const { value, centredA, centredB, lengths } = correlation(absolute(map), absolute(cleanMap));
        const square = sum(times(centredA, centredA));
        const slope = map.map((entry, at) =>
          -Math.sign(entry) * (centredB[at] / lengths - (value * centredA[at]) / square));
        return { score: 1 - value, slope };
      };
    },
  };

  // the attack

  const clamp = (value, low, high) => Math.min(high, Math.max(low, value));

  /** Each pixel moved into the ball. Its radius is a few rounding steps short, so that x + shift stays inside eps. */
  function project(z, center, eps) {
    const radius = Math.max(0, eps - 4 * Number.EPSILON * (1 + eps));
    return z.map((value, at) => clamp(center[at] + clamp(value - center[at], -radius, radius), 0, 1));
  }

  /** Normal numbers from a seed, always the same: for a step where the slope of the score is zero up to rounding. */
  function gaussian(size, seed = 1) {
    let state = seed;
    const uniform = () => (state = (state * 48271) % 2147483647) / 2147483647;
    const one = () => Math.sqrt(-2 * Math.log(uniform())) * Math.cos(2 * Math.PI * uniform());
    return Float64Array.from({ length: size }, one);
  }

  function check({ x, objective, eps, steps }) {
    const names = Object.keys(OBJECTIVES);
    if (!names.includes(objective)) throw Error(`objective is ${objective}; pass one of ${names}.`);
    if (x.length !== PIXELS || !x.every((pixel) => pixel >= 0 && pixel <= 1))
      throw Error(`x must have ${PIXELS} pixels in [0, 1].`);
    if (!(eps >= 0 && steps >= 1)) throw Error(`eps is ${eps} and steps is ${steps}; pass eps >= 0 and steps >= 1.`);
  }

  /** An attack that has not taken a step yet; each `advance` adds the next frame. `square` is {top, left}. */
  function begin({ net, x, objective, square, eps, steps }) {
    check({ x, objective, eps, steps });
    const center = Float64Array.from(x), seen = forward(net, center), target = argmax(seen.logits);
    const cleanMap = gradient(net, seen, oneHot(target)).map, score = OBJECTIVES[objective](cleanMap, square);
    const [velocity, push] = [new Float64Array(PIXELS), new Float64Array(PIXELS)];
    return { net, center, target, cleanMap, score, eps, steps, z: center, velocity, push, best: -1, frames: [] };
  }

  /** The map at z, its score, whether the label holds there, and what to follow: up the score, or back to the label. */
  function look(run, z) {
    const { net, target } = run, seen = forward(net, z), back = gradient(net, seen, oneHot(target)), { logits } = seen;
    const { score, slope: byMap } = run.score(back.map);
    const rival = argmax(logits.map((logit, at) => (at === target ? -Infinity : logit)));
    const slack = SLACK * Number.EPSILON * (1 + Math.max(...absolute(logits)));
    const feasible = logits[rival] - logits[target] < -slack;
    const home = oneHot(target).map((one, at) => one - Number(at === rival));
    const slope = () => (feasible ? turn(net, seen, back, byMap) : gradient(net, seen, home).map);
    return { map: back.map, logits, score, feasible, slope };
  }

  /** Look at the next iterate, keep it as a frame, and take the step that leads from it. */
  function advance(run) {
    const { center, eps, steps, frames } = run, step = frames.length, { slope: slopeOf, ...seen } = look(run, run.z);
    const size = absolute(seen.map), cleanSize = absolute(run.cleanMap);
    const alike = { spearman: spearman(cleanSize, size), topk: topkIntersection(cleanSize, size) };
    const frame = { step, x: run.z, ...seen, ...alike };
    frames.push(frame);
    if (seen.feasible && (run.best < 0 || seen.score > frames[run.best].score)) run.best = step;
    if (step === steps) return frame;
    let slope = slopeOf();
    const flat = eps * sum(absolute(slope)) <= FLAT * Number.EPSILON * Math.max(1, Math.abs(seen.score));
    if (flat && step === 0) run.push = gaussian(PIXELS);
    if (flat) slope = run.push;
    const total = Math.max(sum(absolute(slope)), Number.MIN_VALUE), kept = seen.feasible ? MOMENTUM : 0;
    run.velocity = run.velocity.map((value, at) => kept * value + slope[at] / total);
    const length = (eps * (1 + Math.cos((Math.PI * step) / steps))) / 2;
    run.z = project(run.z.map((value, at) => value + length * Math.sign(run.velocity[at])), center, eps);
    return frame;
  }

  const done = (run) => run.frames.length > run.steps;

  /** What the attack found: the best iterate that keeps the label, or the clean image if none scores higher. */
  function found(run) {
    const clean = run.frames[0], frame = run.frames[Math.max(run.best, 0)];
    return {
      score: frame.score, clean_score: clean.score, spearman: frame.spearman, topk: frame.topk,
      label_kept: argmax(frame.logits) === run.target, step: frame.step, x: frame.x, map: frame.map,
      distance: Math.max(...frame.x.map((value, at) => Math.abs(value - run.center[at]))),
    };
  }

  // nets and images of the page: a small index is there from the start, a net's weights come when they are asked for

  const here = document.currentScript.src, nets = {}, images = {}, loading = {};

  /** Called by live/index.js. */
  function list(index) {
    Object.assign(nets, index.nets);
    for (const [name, image] of Object.entries(index.images)) {
      const x = Float64Array.from(new Float32Array(bytesOf(image.x).buffer));
      images[name] = { ...image, x };
    }
    atexLive.colours = bytesOf(index.colours);
  }

  /** Called by the script that holds a net's weights; what is wrong with them is told to whoever asked for the net. */
  function keep(name, data) {
    try {
      nets[name].weights = readNet({ ...nets[name], ...data });
    } catch (error) {
      nets[name].refused = error;
    }
  }

  /** A net of the list with its weights: loaded by a script tag, which a page on disk may do, once. */
  async function load(name) {
    if (!Object.hasOwn(nets, name)) throw Error(`no net is called ${name}; there are ${Object.keys(nets)}.`);
    loading[name] ??= new Promise((resolve, reject) => {
      const script = document.createElement("script");
      const fail = (why) => {
        delete loading[name];
        reject(Error(`the net ${name} could not be loaded: ${why}`));
      };
      script.onload = () => {
        const { weights, refused } = nets[name];
        if (weights) resolve(weights);
        else fail(refused?.message ?? "its file is damaged.");
      };
      script.onerror = () => fail("its file is not there.");
      script.src = new URL(`live/${name}.js`, here).href;
      document.head.append(script);
    });
    return loading[name];
  }

  /** The whole attack, as `atexlib.attack.manipulate` on one image from one start. Net and image by name, or as such. */
  async function attack({ net, image, objective = "untargeted", square, eps = 0.1, steps = 50 }) {
    const x = typeof image === "string" ? images[image]?.x : image;
    if (!x) throw Error(`no image is called ${image}; there are ${Object.keys(images)}.`);
    const run = begin({ net: typeof net === "string" ? await load(net) : net, x, objective, square, eps, steps });
    while (!done(run)) {
      advance(run);
      if (run.frames.length % 5 === 0) await new Promise((resolve) => setTimeout(resolve)); // the page stays alive
    }
    return found(run);
  }

  const maths = {
    poolPlaces, softplus, forward, project, look, softmax, argmax, absolute, correlation, spearman, topkMask,
    topkIntersection,
  };
  return { attack, nets, images, bytesOf, list, keep, load, begin, advance, done, found, maths, SIDE, SQUARE, K };
})();
