/* The page "The attack, live": what the reader chooses, and what is drawn. The arithmetic is in live.js. */
(() => {
  "use strict";

  const { begin, advance, done, found, load, nets, images, maths, SIDE, SQUARE } = atexLive;
  const find = (id) => document.getElementById(`live-${id}`);
  if (!find("app")) return;
  const calm = matchMedia("(prefers-reduced-motion: reduce)");
  const PIXELS = SIDE * SIDE, LEVELS = 15; // a drawing has 16 shades, so that one hexadecimal digit keeps a pixel
  const HOPES = {
    untargeted: "take importance from the top 50 pixels",
    targeted: "bring importance to the square",
    distance: "make the map unlike the clean one",
  };
  const START = {
    net: "fashion-mnist-none", image: "fashion-9", objective: "untargeted", top: 3, left: 3, eps: 0.1, steps: 50,
  };
  const state = { ...START }, drawing = new Uint8Array(PIXELS), kept = new Map();
  let against = "fashion-mnist-atex", shown = 0, turn = 0;

  // small helpers

  function make(tag, given = {}, ...children) {
    const element = Object.assign(document.createElement(tag), given);
    element.append(...children);
    return element;
  }

  const number = (value, digits = 2) => value.toFixed(digits).replace("-", "−");
  const percent = (chance) => `${number(100 * chance, 1)} %`;
  const pause = () => new Promise((resolve) => setTimeout(resolve, calm.matches ? 0 : 20));
  const isDrawing = () => state.image === "drawing";
  const pixels = () => (isDrawing() ? Float64Array.from(drawing, (shade) => shade / LEVELS) : images[state.image].x);
  const hex = () => Array.from(drawing, (shade) => shade.toString(16)).join("");
  const nameOf = (image) => (image === "drawing" ? "your drawing" : images[image].title);

  // pictures

  function paint(canvas, colour, label) {
    const context = canvas.getContext("2d"), picture = context.createImageData(SIDE, SIDE);
    for (let at = 0; at < PIXELS; at++) picture.data.set([...colour(at), 255], 4 * at);
    canvas.width = canvas.height = SIDE;
    context.putImageData(picture, 0, 0);
    if (label) canvas.setAttribute("aria-label", label);
  }

  const paintGrey = (canvas, x, label) => paint(canvas, (at) => Array(3).fill(Math.round(255 * x[at])), label);

  /** Signed values as in the book's figures: white is zero, red above it, blue below, up to `limit`. */
  function paintSigned(canvas, values, limit, label) {
    paint(canvas, (at) => {
      const place = Math.round(127.5 * (1 + values[at] / (limit || 1)));
      return atexLive.colours.subarray(3 * place, 3 * place + 3);
    }, label);
  }

  const largest = (values) => Math.max(...maths.absolute(values));
  const paintMap = (canvas, map, label) => paintSigned(canvas, map, largest(map), label);

  const WIDE = 320, HIGH = 176, RIM = { left: 34, right: 12, top: 10, bottom: 36 };

  /** Lines of values over the steps as an SVG picture; the step `at` and the steps that lost the label are marked. */
  function chart(svg, lines, { steps, at, lost = [], label }) {
    const low = Math.min(0, ...lines.flat().map((value) => Math.floor(4 * value) / 4));
    const x = (step) => RIM.left + ((WIDE - RIM.left - RIM.right) * step) / steps;
    const y = (value) => RIM.top + ((HIGH - RIM.top - RIM.bottom) * (1 - value)) / (1 - low);
    const parts = [...new Set([low, 0, 0.5, 1])].map((value) =>
      `<line class="live-grid" x1="${RIM.left}" x2="${WIDE - RIM.right}" y1="${y(value)}" y2="${y(value)}"/>`
      + `<text x="${RIM.left - 6}" y="${y(value) + 4}" text-anchor="end">${`${value}`.replace("-", "−")}</text>`);
    for (const step of [0, steps / 2, steps])
      parts.push(`<text x="${x(step)}" y="${HIGH - 20}" text-anchor="middle">${step}</text>`);
    parts.push(`<text x="${x(steps / 2)}" y="${HIGH - 5}" text-anchor="middle">step</text>`);
    const foot = HIGH - RIM.bottom;
    for (const step of lost) parts.push(`<circle class="live-lost" cx="${x(step)}" cy="${foot}" r="2.5"/>`);
    if (at !== undefined)
      parts.push(`<line class="live-now" x1="${x(at)}" x2="${x(at)}" y1="${RIM.top}" y2="${foot}"/>`);
    lines.forEach((values, which) => {
      const points = values.map((value, step) => `${x(step).toFixed(1)},${y(value).toFixed(1)}`);
      parts.push(`<polyline class="live-line live-line-${which}" points="${points.join(" ")}"/>`);
    });
    svg.setAttribute("viewBox", `0 0 ${WIDE} ${HIGH}`);
    svg.setAttribute("aria-label", label);
    svg.innerHTML = parts.join("");
  }

  // attacks: a run stays, with all its frames, so that nothing is computed twice

  async function runOf(choice, x) {
    const { net, image, objective, top, left, eps, steps } = choice, square = { top, left };
    const kind = JSON.stringify([net, objective, objective === "targeted" && square, steps, Array.from(x)]);
    const key = `${eps} ${kind}`, weights = await load(net);
    if (!kept.has(key)) {
      if (kept.size >= 60) kept.delete(kept.keys().next().value);
      const run = begin({ net: weights, x, objective, square, eps, steps });
      kept.set(key, Object.assign(run, { kind, name: net, image }));
      advance(kept.get(key));
    }
    return kept.get(key);
  }

  const now = () => runOf(state, pixels());
  const bestOf = (run) => (done(run) ? Math.max(run.best, 0) : run.frames.length - 1);

  /** What the reader starts takes the next turn, which ends what went before; an error is told where one looks for it. */
  async function attempt(task, place = "said") {
    const mine = ++turn;
    find("attack").textContent = "Attack";
    try {
      await task(() => mine === turn);
    } catch (error) {
      if (mine === turn) find(place).textContent = `This cannot be computed: ${error.message}`;
    }
  }

  /** Take all steps that are left, so that the page stays alive. */
  async function finish(run, valid) {
    while (!done(run) && valid()) {
      advance(run);
      if (run.frames.length % 4 === 0) await pause();
    }
  }

  /** Everything that is shown of one frame of an attack; `aloud`, the sentence too, which a screen reader speaks. */
  function show(run, at, aloud = true) {
    const { classes } = nets[run.name], { frames, steps } = run, clean = frames[0], frame = frames[at];
    const before = maths.softmax(clean.logits), after = maths.softmax(frame.logits);
    const shift = frame.x.map((value, place) => value - clean.x[place]);
    shown = at;
    paintGrey(find("x"), clean.x, `The image: ${nameOf(run.image)}`);
    paintGrey(find("x-after"), frame.x, `The image after ${at} steps`);
    paintSigned(find("shift"), shift, run.eps, `The change of the image, at most ${number(largest(shift), 3)} in a pixel`);
    paintMap(find("map"), clean.map, "The map of the image");
    paintMap(find("map-after"), frame.map, `The map after ${at} steps`);
    find("scale").textContent = `± ${number(largest(clean.map))}`;
    find("scale-after").textContent = `± ${number(largest(frame.map))}`;
    find("scale-shift").textContent = `± ${number(run.eps)}`;
    find("chances").replaceChildren(...classes.map((name, place) => {
      const cells = [make("th", { scope: "row", textContent: name }), bar(before[place]), bar(after[place])];
      return make("tr", { className: place === run.target ? "live-target" : "" }, ...cells);
    }));
    chart(find("curve"), [frames.map((each) => each.spearman), frames.map((each) => each.topk)], {
      steps, at, lost: frames.filter((each) => !each.feasible).map((each) => each.step),
      label: `By step; at step ${at} Spearman is ${number(frame.spearman)}, top 50 shared ${number(frame.topk)}`,
    });
    Object.assign(find("at"), { max: frames.length - 1, value: at });
    find("at").setAttribute("aria-valuetext", `step ${at} of ${steps}`);
    find("count").textContent = `${at} of ${steps}`;
    find("back").disabled = at === 0;
    find("step").disabled = at === steps;
    if (!aloud) return;
    const start = `Before the attack the net says “${classes[run.target]}”, ${percent(before[run.target])}.`;
    find("said").textContent = at === 0 ? start : sentence(run, frame, before, after);
    find("kept").textContent = keptRadii(run);
  }

  function sentence(run, frame, before, after) {
    const { classes } = nets[run.name], other = classes[maths.argmax(frame.logits)];
    const [from, to] = [before, after].map((chances) => percent(chances[run.target]));
    const distance = largest(frame.x.map((value, place) => value - run.center[place]));
    const label = frame.feasible ? `the label stays “${classes[run.target]}” (${from} before, ${to} now)`
      : `the label is lost to “${other}”, so this step does not count, and the next ones climb back`;
    const score = `Objective ${number(run.frames[0].score, 3)} → ${number(frame.score, 3)}`;
    const numbers = `${score}, Spearman ${number(frame.spearman)}, top 50 shared ${number(frame.topk)}, `
      + `largest change of a pixel ${number(distance, 3)}.`;
    const last = done(run) && frame.step === run.best ? " This is the best step: what the attack returns." : "";
    return `Step ${frame.step} of ${run.steps}: ${label}. ${numbers}${last}`;
  }

  /** The radii for which this very attack was run to its end, with what it left. */
  function keptRadii(run) {
    const alike = [...kept.values()].filter((each) => done(each) && each.kind === run.kind);
    const told = alike.sort((a, b) => a.eps - b.eps).map((each) => `${number(each.eps)} → ${number(found(each).spearman)}`);
    return told.length ? `Kept so far, Spearman by eps: ${told.join(" · ")}` : "";
  }

  function bar(chance) {
    const cell = make("td", { textContent: percent(chance) });
    cell.style.setProperty("--chance", `${100 * chance}%`);
    return cell;
  }

  /** Show what is chosen now: a kept attack at its best step, else the clean image, or with `go` the attack at once. */
  function refresh({ go = false } = {}) {
    follow();
    return attempt(async (valid) => {
      if (!nets[state.net].weights) find("said").textContent = "The net is being loaded.";
      const run = await now();
      if (go) await finish(run, valid);
      if (valid()) show(run, bestOf(run));
    });
  }

  /** The attack, frame by frame; a kept one is shown again. The same button stops it. */
  function play() {
    const going = find("attack").textContent === "Stop";
    return attempt(async (valid) => {
      const run = await now();
      if (going) return show(run, shown);
      find("attack").textContent = "Stop";
      if (calm.matches) await finish(run, valid);
      else
        for (let at = 0; at <= run.steps && valid(); at++) {
          if (at >= run.frames.length) advance(run);
          show(run, at, false);
          await pause();
        }
      if (!valid()) return;
      find("attack").textContent = "Attack";
      show(run, bestOf(run));
    });
  }

  function move(by) {
    return attempt(async () => {
      const run = await now(), at = Math.max(0, Math.min(run.steps, shown + by));
      while (run.frames.length <= at) advance(run);
      show(run, at);
    });
  }

  // the controls, and what they set

  const imagesFor = (net) => Object.keys(images).filter((name) => images[name].dataset === nets[net].dataset);

  /** The controls follow the state: the images that go with the net, the square, the link and the lines of Python. */
  function follow() {
    const { dataset } = nets[state.net], own = imagesFor(state.net);
    for (const thumb of document.querySelectorAll(".live-thumb[data-of]")) thumb.hidden = thumb.dataset.of !== dataset;
    if (!isDrawing() && !own.includes(state.image)) state.image = own.find((name) => name.at(-1) === state.image.at(-1));
    document.querySelector(`input[name="live-image"][value="${state.image}"]`).checked = true;
    for (const name of ["net", "objective", "steps"]) find(name).value = state[name];
    find("eps").value = Math.round(100 * state.eps);
    find("eps-value").textContent = state.eps.toFixed(2);
    find("eps").setAttribute("aria-valuetext", state.eps.toFixed(2));
    find("drawing").hidden = !isDrawing();
    paintGrey(find("board"), Array.from(drawing, (shade) => shade / LEVELS));
    followSquare();
    find("square-hint").hidden = state.objective !== "targeted";
    find("python").textContent = python();
    find("link").value = link();
    const rivals = Object.keys(nets).filter((name) => nets[name].dataset === dataset && name !== state.net);
    if (!rivals.includes(against)) against = rivals.at(-1);
    const options = rivals.map((name) => make("option", { value: name, textContent: nets[name].short }));
    find("against").replaceChildren(...options);
    find("against").value = against;
    find("with").textContent = `${nets[state.net].title}, on ${nameOf(state.image)}, to ${HOPES[state.objective]}, `
      + `eps ${number(state.eps)}, ${state.steps} steps`;
  }

  function choose(change, options) {
    Object.assign(state, change);
    return refresh(options);
  }

  function python() {
    const { dataset, defense, preset } = nets[state.net], { source, place } = images[state.image] ?? {};
    const { top, left, eps, steps } = state, rest = SIDE - SQUARE;
    const rims = [left, rest - left, top, rest - top].join(", ");
    const objective = {
      untargeted: "attack.Untargeted(k=50)",
      targeted: `attack.Targeted(torch.nn.functional.pad(torch.ones(1, 1, 5, 5), (${rims})))`,
      distance: "attack.Distance()",
    }[state.objective];
    return ["import torch", "from atexlib import attack, data, experiments, maps", "",
      `net = experiments.trained(dataset="${dataset}", defense="${defense}", preset="${preset}")`,
      isDrawing() ? `x = torch.tensor([int(shade, 16) for shade in "${hex()}"]).view(1, 1, 28, 28) / 15`
        : `x = data.load("${source}", "test").images[${place}:${place + 1}]`,
      `objective = ${objective}`,
      `found = attack.manipulate(net, x, objective, eps=${eps}, steps=${steps})`,
      "print(found, maps.spearman(found.clean_map.abs(), found.map.abs()))"].join("\n");
  }

  // the permanent link

  function link() {
    const { top, left, ...rest } = state, square = state.objective === "targeted" ? { top, left } : {};
    const given = { ...rest, image: isDrawing() ? hex() : state.image, ...square };
    return `${location.href.split("#")[0]}#${new URLSearchParams(given)}`;
  }

  /** Take what a link says, as far as it makes sense, the rest as at the start; false if it is the link of a heading. */
  function restore() {
    const given = Object.fromEntries(new URLSearchParams(location.hash.slice(1)));
    if (!Object.hasOwn(nets, given.net ?? "")) return false;
    const place = (text, other) => (/^\d+$/.test(text) && text <= SIDE - SQUARE ? Number(text) : other);
    const eps = Math.round(100 * given.eps) / 100;
    Object.assign(state, START, { net: given.net, eps: eps >= 0.01 && eps <= 0.2 ? eps : START.eps });
    if (Object.hasOwn(HOPES, given.objective ?? "")) state.objective = given.objective;
    if (/^[0-9a-f]{784}$/.test(given.image)) {
      drawing.set(Array.from(given.image, (shade) => parseInt(shade, 16)));
      state.image = "drawing";
    } else if (Object.hasOwn(images, given.image ?? "")) state.image = given.image;
    for (const side of ["top", "left"]) state[side] = place(given[side], START[side]);
    state.steps = [10, 25, 50, 100].includes(Number(given.steps)) ? Number(given.steps) : START.steps;
    return true;
  }

  // the drawing board: a soft brush that follows a pointer, or a cursor that follows the keys

  const cursor = { row: 6, column: 9 };

  function dab(row, column, erase = false) {
    for (let at = 0; at < PIXELS; at++) {
      const far = Math.hypot(Math.floor(at / SIDE) - row, (at % SIDE) - column);
      if (erase) drawing[at] = far < 1.6 ? 0 : drawing[at];
      else drawing[at] = Math.max(drawing[at], Math.round(LEVELS * Math.max(0, Math.min(1, 1.9 - far))));
    }
  }

  function drawn() {
    paintGrey(find("board"), Array.from(drawing, (shade) => shade / LEVELS));
    find("cursor").style.top = `${(100 * cursor.row) / SIDE}%`;
    find("cursor").style.left = `${(100 * cursor.column) / SIDE}%`;
  }

  function prepareBoard() {
    const board = find("board");
    let last = null;
    const place = (event) => {
      const box = board.getBoundingClientRect();
      const along = (value, low, length) => (SIDE * (value - low)) / length - 0.5;
      return { row: along(event.clientY, box.top, box.height), column: along(event.clientX, box.left, box.width) };
    };
    board.addEventListener("pointerdown", (event) => {
      board.setPointerCapture(event.pointerId);
      board.classList.remove("live-keys");
      last = place(event);
      dab(last.row, last.column);
      drawn();
    });
    board.addEventListener("pointermove", (event) => {
      if (!last) return;
      const to = place(event), count = Math.ceil(2 * Math.hypot(to.row - last.row, to.column - last.column));
      for (let part = 1; part <= count; part++)
        dab(last.row + ((to.row - last.row) * part) / count, last.column + ((to.column - last.column) * part) / count);
      last = to;
      drawn();
    });
    for (const end of ["pointerup", "pointercancel"])
      board.addEventListener(end, () => { if (last) { last = null; refresh(); } });
    board.addEventListener("keydown", (event) => {
      const step = STEPS[event.key];
      if (step) {
        cursor.row = Math.max(0, Math.min(SIDE - 1, cursor.row + step.top));
        cursor.column = Math.max(0, Math.min(SIDE - 1, cursor.column + step.left));
        if (event.shiftKey) dab(cursor.row, cursor.column);
      } else if (event.key === " " || event.key === "Enter") dab(cursor.row, cursor.column);
      else if (event.key === "Backspace" || event.key === "Delete") dab(cursor.row, cursor.column, true);
      else return;
      event.preventDefault();
      board.classList.add("live-keys");
      drawn();
      if (!step || event.shiftKey) refresh();
    });
    find("clear").addEventListener("click", () => { drawing.fill(0); drawn(); refresh(); });
    drawn();
  }

  // the target square: dragged, or moved by the arrow keys

  const STEPS = {
    ArrowUp: { top: -1, left: 0 }, ArrowDown: { top: 1, left: 0 },
    ArrowLeft: { top: 0, left: -1 }, ArrowRight: { top: 0, left: 1 },
  };

  function followSquare() {
    for (const square of document.querySelectorAll(".live-square")) {
      square.hidden = state.objective !== "targeted";
      for (const side of ["top", "left"]) square.style[side] = `${(100 * state[side]) / SIDE}%`;
      square.style.width = square.style.height = `${(100 * SQUARE) / SIDE}%`;
    }
    const place = `row ${state.top}, column ${state.left}`;
    find("square").setAttribute("aria-label", `Target square, ${place}. The arrow keys move it.`);
  }

  function placeSquare(top, left) {
    const inside = (value) => Math.max(0, Math.min(SIDE - SQUARE, Math.round(value)));
    Object.assign(state, { top: inside(top), left: inside(left) });
    followSquare();
  }

  function prepareSquare() {
    const square = find("square");
    square.addEventListener("keydown", (event) => {
      const step = STEPS[event.key];
      if (!step) return;
      event.preventDefault();
      placeSquare(state.top + step.top, state.left + step.left);
      refresh();
    });
    square.addEventListener("pointerdown", (event) => square.setPointerCapture(event.pointerId));
    square.addEventListener("pointermove", (event) => {
      if (!square.hasPointerCapture(event.pointerId)) return;
      const box = find("map").getBoundingClientRect();
      const at = (value, low, length) => (SIDE * (value - low)) / length - SQUARE / 2;
      placeSquare(at(event.clientY, box.top, box.height), at(event.clientX, box.left, box.width));
    });
    square.addEventListener("pointerup", () => refresh());
  }

  // guess first

  const tally = { right: 0, all: 0 };
  let riddle = null;

  function ask() {
    const pick = (list) => list[Math.floor(Math.random() * list.length)], image = pick(imagesFor(state.net));
    const choice = { ...state, image, objective: pick(["untargeted", "distance"]), steps: 25, eps: 0.1 };
    return attempt(async (valid) => {
      for (const side of ["left", "right"]) find(`guess-${side}`).disabled = true;
      find("guess-said").textContent = "The attack runs.";
      const run = await runOf(choice, images[image].x);
      await finish(run, valid);
      if (!valid()) return void (find("guess-said").textContent = "Something else was started. Ask for a new pair.");
      find("guess").hidden = false;
      riddle = { run, answer: pick(["left", "right"]) };
      paintGrey(find("guess-x"), images[image].x, `The image: ${images[image].title}`);
      for (const side of ["left", "right"]) {
        const map = side === riddle.answer ? found(run).map : run.cleanMap;
        paintMap(find(`guess-map-${side}`), map, `The map on the ${side}`);
        find(`guess-${side}`).disabled = false;
        find(`guess-${side}`).closest("figure").classList.remove("live-answer");
      }
      const label = nets[run.name].classes[run.target];
      find("guess-said").textContent = `The net says “${label}” both times. Which map was manipulated?`;
    }, "guess-said");
  }

  function answer(side) {
    const right = side === riddle.answer, { spearman, topk } = found(riddle.run);
    tally.all++;
    tally.right += Number(right);
    for (const each of ["left", "right"]) find(`guess-${each}`).disabled = true;
    find(`guess-${riddle.answer}`).closest("figure").classList.add("live-answer");
    find("guess-said").textContent = `${right ? "Right" : "No"}: the map on the ${riddle.answer} was manipulated. `
      + `The Spearman of the two is ${number(spearman)}, and they share ${Math.round(50 * topk)} of their top 50 pixels.`;
    find("guess-tally").textContent = `${tally.right} of ${tally.all} right`;
    find("guess-new").focus();
  }

  // the race

  function race() {
    const names = [state.net, against], x = pixels(), { steps } = state;
    return attempt(async (valid) => {
      find("race-said").textContent = "The nets are being loaded.";
      const runs = [];
      for (const net of names) runs.push(await runOf({ ...state, net }, x));
      find("race-said").textContent = "";
      find("lanes").hidden = false;
      for (let at = 0; at <= steps && valid(); at++) {
        for (const run of runs) if (run.frames.length <= at) advance(run);
        if (!calm.matches || at === steps) showRace(runs, at);
        if (!calm.matches || at % 4 === 0) await pause();
      }
      if (!valid()) return void (find("race-said").textContent = "The race was ended: something else was started.");
      const ends = runs.map((run) => found(run).spearman), [first, second] = names.map((name) => nets[name].short);
      const said = `What the attack returns has a Spearman of ${number(ends[0])} (${first}) and ${number(ends[1])} (${second}). `;
      const still = `On this image the map of the net “${ends[0] > ends[1] ? first : second}” moved less.`;
      find("race-said").textContent = said + (number(ends[0]) === number(ends[1]) ? "That is a tie." : still);
    }, "race-said");
  }

  function showRace(runs, at) {
    runs.forEach((run, lane) => {
      const { short, classes } = nets[run.name], frame = run.frames[at];
      paintMap(find(`race-clean-${lane}`), run.cleanMap, `The map of the image by the net ${short}`);
      paintMap(find(`race-map-${lane}`), frame.map, `The map after ${at} steps by the net ${short}`);
      find(`race-name-${lane}`).textContent = short;
      find(`race-value-${lane}`).textContent = `says “${classes[run.target]}” · Spearman ${number(frame.spearman)}`;
    });
    const label = `Spearman over ${at} steps, now ${runs.map((run) => number(run.frames[at].spearman)).join(" and ")}`;
    const lines = runs.map((run) => run.frames.slice(0, at + 1).map((each) => each.spearman));
    chart(find("race-curve"), lines, { steps: runs[0].steps, label });
  }

  // the start

  function thumbnail(value, title, of) {
    const radio = make("input", { type: "radio", name: "live-image", value });
    radio.addEventListener("change", () => choose({ image: value }));
    const label = make("label", { className: "live-thumb", title }, radio);
    if (!of) label.append(make("span", { className: "live-draw", textContent: title }));
    else {
      const name = make("span", { className: "live-hidden", textContent: title });
      label.append(make("canvas", { ariaHidden: "true" }), name);
      label.dataset.of = of;
      paintGrey(label.querySelector("canvas"), images[value].x);
    }
    return label;
  }

  function prepare() {
    for (const [name, { title, dataset }] of Object.entries(images)) find("images").append(thumbnail(name, title, dataset));
    find("images").append(thumbnail("drawing", "Draw"));
    for (const [value, { title: textContent }] of Object.entries(nets)) find("net").append(make("option", { value, textContent }));
    find("net").addEventListener("change", () => choose({ net: find("net").value }));
    find("objective").addEventListener("change", () => choose({ objective: find("objective").value }));
    find("steps").addEventListener("change", () => choose({ steps: Number(find("steps").value) }));
    find("eps").addEventListener("input", () => choose({ eps: find("eps").value / 100 }, { go: shown > 0 }));
    find("attack").addEventListener("click", play);
    find("step").addEventListener("click", () => move(1));
    find("back").addEventListener("click", () => move(-1));
    find("again").addEventListener("click", () => move(-Infinity));
    find("at").addEventListener("input", () => move(find("at").value - shown));
    find("against").addEventListener("change", () => (against = find("against").value));
    find("race").addEventListener("click", race);
    find("guess-new").addEventListener("click", ask);
    find("guess-left").addEventListener("click", () => answer("left"));
    find("guess-right").addEventListener("click", () => answer("right"));
    find("show-python").addEventListener("click", () => {
      find("python").hidden = !find("python").hidden;
      find("show-python").setAttribute("aria-expanded", String(!find("python").hidden));
    });
    find("show-link").addEventListener("click", () => {
      const field = find("link");
      field.closest("p").hidden = false;
      field.select();
      location.hash = field.value.split("#")[1];
      navigator.clipboard?.writeText(field.value).catch(() => {}); // a browser may say no: the link stands there
    });
    const bar = find("colours").getContext("2d"), strip = bar.createImageData(256, 1);
    for (let at = 0; at < 256; at++) strip.data.set([...atexLive.colours.subarray(3 * at, 3 * at + 3), 255], 4 * at);
    bar.putImageData(strip, 0, 0);
    prepareBoard();
    prepareSquare();
    addEventListener("hashchange", () => restore() && refresh());
    restore();
    refresh();
  }

  prepare();
})();
