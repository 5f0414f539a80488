/* The page "Four measures, live": what the reader moves, and what is drawn. The arithmetic is in explore.js. */
(() => {
  "use strict";

  const { data, measures, pair, BLOBS, START, SIDE, PIXELS, K, number, clamp, draggable, speaker } = atexExplore;
  const { topkMask } = atexLive.maths;
  const find = (id) => document.getElementById(`measures-${id}`);
  if (!find("app")) return;
  const NAMES = { spearman: "Spearman", topk: "top 50 shared", ssim: "SSIM", lens: "LENS top 50" };
  const FOUR = Object.keys(NAMES);
  const TRIES = {
    pixel: { column: 1 }, smooth: { column: 1, rough: false }, gone: { strength: 0 }, breath: { zeros: 0.8, noise: 1e-6 },
    unrelated: { zeros: 0.9, copy: "shuffled" }, start: {},
  };
  const SHARED = { both: [17, 17, 17], clean: [20, 99, 212], copy: [214, 96, 0], none: [255, 255, 255] };
  const FRAME = 9; // side of the handle, in pixels of the map
  const state = { ...START }, say = speaker(find("said"));

  function paint(canvas, colour, label) {
    const context = canvas.getContext("2d"), picture = context.createImageData(SIDE, SIDE);
    for (let at = 0; at < PIXELS; at++) picture.data.set([...colour(at), 255], 4 * at);
    canvas.width = canvas.height = SIDE;
    context.putImageData(picture, 0, 0);
    canvas.setAttribute("aria-label", label);
  }

  function paintMap(canvas, map, label) {
    paint(canvas, (at) => {
      const place = 3 * Math.round(255 * clamp(map[at], 0, 1));
      return data.colours.size.subarray(place, place + 3);
    }, label);
  }

  /** Where the blob is, in words. */
  function moved() {
    const ways = [[state.column, "to the right", "to the left"], [state.row, "down", "up"]].filter(([far]) => far);
    const pixels = (far) => `${Math.abs(far)} pixel${Math.abs(far) > 1 ? "s" : ""}`;
    return ways.map(([far, more, less]) => `${pixels(far)} ${far > 0 ? more : less}`).join(" and ") || "at its place";
  }

  function sentence(found, zeros) {
    const much = state.strength === 1 ? "" : `, with ${number(state.strength, 1)} times its strength`;
    const what = state.copy === "moved" ? `The blob is ${moved()}${much}.`
      : "The copy has its entries shuffled: it has nothing in common with the clean map.";
    const ties = zeros ? ` ${zeros} of the ${PIXELS} entries of the clean map are zero.` : "";
    const order = FOUR.slice().sort((a, b) => found[a] - found[b]), [low, high] = [order[0], order.at(-1)];
    const apart = found[high] - found[low];
    const alike = (name) => order.filter((other) => number(found[other]) === number(found[name]));
    const together = (names) => names.map((name) => NAMES[name]).join(", ").replace(/, ([^,]*)$/, " and $1");
    const verdict = number(apart) === "0.00" ? ` All four measures say ${number(found[low])}.`
      : ` Lowest: ${together(alike(low))} with ${number(found[low])}. Highest: ${together(alike(high))} with `
        + `${number(found[high])}. The verdicts lie ${number(apart)} apart.`;
    const wrong = Math.abs(found.ordinal - found.spearman) < 0.05 ? ""
      : ` With ordinal ranks Spearman would say ${number(found.ordinal)}, and not ${number(found.spearman)}.`;
    return `${what}${ties}${verdict}${wrong}`;
  }

  function refresh() {
    const { clean, copy } = pair(state), found = measures(clean, copy), [ours, theirs] = [clean, copy].map((map) => topkMask(map, K));
    const kind = (at) => (ours[at] && theirs[at] ? "both" : ours[at] ? "clean" : theirs[at] ? "copy" : "none");
    paintMap(find("clean"), clean, "The clean map");
    paintMap(find("copy"), copy, "The copy");
    const both = Math.round(K * found.topk);
    paint(find("tops"), (at) => SHARED[kind(at)], `The top 50 of each: ${both} shared, ${K - both} in one map alone`);
    for (const [name, value] of Object.entries(found)) {
      find(name).textContent = number(value);
      find(name).style.setProperty("--chance", `${100 * Math.max(0, value)}%`);
    }
    const handle = find("blob"), [top, left] = [BLOBS[0].row + state.row, BLOBS[0].column + state.column];
    handle.hidden = state.copy === "shuffled";
    find("caption").textContent = handle.hidden ? "the copy, shuffled" : "the copy: drag the frame";
    handle.style.top = `${(100 * (top + 0.5)) / SIDE}%`;
    handle.style.left = `${(100 * (left + 0.5)) / SIDE}%`;
    handle.style.width = handle.style.height = `${(100 * FRAME) / SIDE}%`;
    handle.setAttribute("aria-label", `Blob, ${moved()}. The arrow keys move it.`);
    find("strength-value").textContent = number(state.strength, 1);
    find("zeros-value").textContent = `${Math.round(100 * state.zeros)} %`;
    find("zeros").setAttribute("aria-valuetext", `${Math.round(100 * state.zeros)} percent`);
    say(sentence(found, clean.filter((value) => value === 0).length));
  }

  /** The controls follow the state. */
  function follow() {
    find("strength").value = Math.round(10 * state.strength);
    find("zeros").value = Math.round(100 * state.zeros);
    find("noise").value = `${state.noise}`;
    find("texture").value = state.rough ? "rough" : "smooth";
    find("copies").value = state.copy;
  }

  function place(row, column) {
    state.row = clamp(Math.round(row), -BLOBS[0].row, SIDE - 1 - BLOBS[0].row);
    state.column = clamp(Math.round(column), -BLOBS[0].column, SIDE - 1 - BLOBS[0].column);
    refresh();
  }

  /** The state follows the controls. */
  function read() {
    state.strength = find("strength").value / 10;
    state.zeros = find("zeros").value / 100;
    state.noise = Number(find("noise").value);
    state.rough = find("texture").value === "rough";
    state.copy = find("copies").value;
  }

  for (const [name, event] of Object.entries({
    strength: "input", zeros: "input", noise: "change", texture: "change", copies: "change",
  })) find(name).addEventListener(event, () => { read(); refresh(); });
  for (const button of find("tries").querySelectorAll("button"))
    button.addEventListener("click", () => {
      Object.assign(state, START, TRIES[button.value]);
      follow();
      refresh();
    });
  draggable(find("blob"), find("copy"), {
    by: (right, down) => place(state.row + down, state.column + right),
    to: (x, y) => place(SIDE * y - 0.5 - BLOBS[0].row, SIDE * x - 0.5 - BLOBS[0].column),
  });
  read(); // a browser may bring back what the controls held before
  refresh();
})();
