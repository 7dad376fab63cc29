/** Cut the text: windows over a sentence, and how many tokens each word is predicted from. */
"use strict";

const Cut = (() => {
  /** @typedef {{start: number, scored: number, end: number}} Window */

  /**
   * Windows that score each token once, as `alibi.windows.evaluation_windows`.
   * @param {number} tokens @param {number} length @param {number} stride
   * @returns {Window[]}
   */
  function windows(tokens, length, stride) {
    const found = [];
    for (let scored = 0; scored < tokens; scored += stride) {
      found.push({ start: Math.max(0, scored - (length - stride)), scored, end: Math.min(scored + stride, tokens) });
    }
    return found;
  }

  /**
   * How many tokens the model has read when it predicts each token.
   * @param {Window[]} grid
   */
  const context = (grid) =>
    grid.flatMap(({ start, scored, end }) => Array.from({ length: end - scored }, (_, k) => scored + k - start + 1));

  /**
   * What the windows cost and what they give: windows, tokens run, tokens run for each scored one, the least context
   * after the first full window, and the share of tokens with at most `few` tokens of context.
   * @param {number} tokens @param {number} length @param {number} stride @param {number} few
   */
  function cost(tokens, length, stride, few) {
    const grid = windows(tokens, length, stride);
    const run = grid.reduce((sum, { start, end }) => sum + end - start, 0);
    const seen = context(grid);
    const later = seen.slice(length);
    return {
      windows: grid.length,
      passes: new Set(grid.map(({ start }) => start)).size,
      run,
      work: run / tokens,
      least: Math.min(...(later.length ? later : seen)),
      starved: seen.filter((count) => count <= few).length / tokens,
    };
  }

  Widgets.add("cut", "Cut the text into windows", (root, data) => {
    const { element, plain, percent } = Widgets;
    /** @type {string[]} */
    const words = data.words;
    const state = { length: data.length, stride: data.stride, chosen: data.chosen };
    const length = Widgets.slider({
      label: "window L_valid", min: 2, max: 16, value: state.length,
      change: (value) => update({ length: value, stride: Math.min(state.stride, value), chosen: 0 }),
    });
    const stride = Widgets.slider({
      label: "stride S", min: 1, max: state.length, value: state.stride,
      change: (value) => update({ stride: value, chosen: 0 }),
    });
    const chosen = Widgets.slider({
      label: "show window", min: 1, max: 2, value: state.chosen + 1,
      change: (value) => update({ chosen: value - 1 }),
    });
    const preset = Widgets.choice({
      label: "protocol",
      options: [["whole", "nonoverlapping"], ["half", "stride of half a window"], ["one", "stride 1"]],
      value: [],
      change: ([name]) =>
        update({ stride: name === "whole" ? state.length : name === "half" ? Math.ceil(state.length / 2) : 1, chosen: 0 }),
    });
    const told = Widgets.numbers([
      "windows", "different starts", "tokens run per word", "least context",
      `at most ${data.few} of context`,
    ]);
    const counts = words.map(() => element("small"));
    const chips = words.map((word, place) => element("li", {}, element("span", {}, word), counts[place]));
    const text = element("ol", { class: "widget-words", "aria-label": "words, and how many tokens each is predicted from" });
    text.append(...chips);
    const key = element("p", { class: "widget-key" });
    key.append(
      element("span", { class: "scored" }, "scored in this window"), element("span", { class: "read" }, "only read"),
      element("span", { class: "starved" }, `predicted from at most ${data.few}`),
    );
    const map = element("div");
    root.append(preset, element("div", { class: "widget-sliders" }, length.row, stride.row, chosen.row));
    root.append(text, key, map, told.list);

    /** @param {Partial<typeof state>} change */
    function update(change) {
      Object.assign(state, change);
      draw();
    }

    function draw() {
      const grid = windows(words.length, state.length, state.stride);
      const seen = context(grid);
      const found = cost(words.length, state.length, state.stride, data.few);
      state.chosen = Math.min(state.chosen, grid.length - 1);
      length.set(state.length);
      stride.set(state.stride, state.length);
      chosen.set(state.chosen + 1, grid.length);
      const half = state.stride === Math.ceil(state.length / 2) && "half";
      const now = state.stride === state.length ? "whole" : state.stride === 1 ? "one" : half;
      for (const input of preset.querySelectorAll("input")) input.checked = input.value === now;
      const { start, scored, end } = grid[state.chosen];
      chips.forEach((chip, place) => {
        counts[place].textContent = String(seen[place]);
        chip.classList.toggle("scored", place >= scored && place < end);
        chip.classList.toggle("read", place >= start && place < scored);
        chip.classList.toggle("starved", seen[place] <= data.few);
      });
      told.tell([
        plain(found.windows), plain(found.passes), plain(found.work), `${found.least} token${found.least === 1 ? "" : "s"}`, percent(found.starved),
      ]);
      const [width, pitch] = [Math.max(240, map.clientWidth) / words.length, 9];
      const drawing = Widgets.shape("svg", {
        viewBox: `0 0 ${width * words.length} ${pitch * grid.length}`, height: pitch * grid.length, width: "100%", role: "img",
        "aria-label": `${grid.length} windows, one below the other: each shifts by ${state.stride} words.`,
      });
      grid.forEach((window, row) => {
        for (const [from, to, part] of /** @type {[number, number, string][]} */ ([
          [window.start, window.scored, "read"],
          [window.scored, window.end, "scored"],
        ])) {
          const look = { class: `${part}${row === state.chosen ? " chosen" : ""}`, height: pitch - 2, y: row * pitch };
          if (to > from) drawing.append(Widgets.shape("rect", { ...look, x: from * width, width: (to - from) * width - 1 }));
        }
      });
      map.className = "widget-map";
      map.replaceChildren(drawing);
    }
    return draw;
  });

  return { windows, context, cost };
})();
