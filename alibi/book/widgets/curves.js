/** The curves: perplexity against evaluation length, the paper's and ours, each in multiples of its training length. */
"use strict";

const Curves = (() => {
  /**
   * @typedef {{length: number, value: number, low: number, high: number}} Measured at an evaluation length in tokens,
   *   the mean of the seeds and the least and greatest of them
   * @typedef {{method: string, title: string, points: Measured[]}} Curve
   * @typedef {{title: string, told: string, length: number, curves: Curve[]}} Side trained at `length` tokens
   */

  /** Windows so near a multiple of L, by their logarithm, are shown for it: the paper's 16 L are 15.6 and 16.6. */
  const NEAR = 0.05;
  /** The ends of the windows' axis, in multiples of L. */
  const [LEAST, MOST] = [0.47, 17];

  /** A curve over its value at L: x in multiples of L. @param {Curve} curve @param {number} length */
  function relative(curve, length) {
    const own = curve.points.find((point) => point.length === length)?.value || NaN;
    return curve.points.map(({ length: at, value }) => /** @type {Point} */ ([at / length, value / own]));
  }

  /**
   * The point of a curve whose multiple of L is nearest, if it is near.
   * @param {Curve} curve @param {number} length @param {number} multiple
   */
  function nearest(curve, length, multiple) {
    const apart = (/** @type {Measured} */ point) => Math.abs(Math.log(point.length / length / multiple));
    const best = [...curve.points].sort((one, other) => apart(one) - apart(other))[0];
    return best && apart(best) < NEAR ? best : undefined;
  }

  Widgets.add("curves", "The curves", (root, data) => {
    const { element, plain } = Widgets;
    /** @type {{title: string, sides: Side[]}[]} */
    const pairs = data.pairs;
    if (!pairs.length) {
      root.append(element("p", { class: "widget-note" }, "No curves are recorded yet."));
      return () => {};
    }
    const multiples = [0.5, 1, 1.25, 2, 4, 8, 16];
    const state = { pair: 0, absolute: false, at: 3, shown: ["sinusoidal", "rotary", "t5", "alibi"] };
    const pair = Widgets.choice({
      label: "models", options: pairs.map(({ title }, place) => [String(place), title]), value: ["0"],
      change: ([value]) => update({ pair: Number(value) }),
    });
    const methods = Widgets.choice({
      label: "methods", several: true, value: state.shown,
      options: pairs[0].sides[0].curves.map(({ method, title }) => [method, title, `var(--method-${method})`]),
      change: (value) => update({ shown: value }),
    });
    const form = Widgets.choice({
      label: "perplexity", options: [["relative", "over that at L"], ["absolute", "itself"]], value: ["relative"],
      change: ([value]) => update({ absolute: value === "absolute" }),
    });
    const cursor = Widgets.slider({
      label: "read at L_valid =", min: 0, max: multiples.length - 1, value: state.at,
      show: (place) => `${multiples[place]} L`, change: (value) => update({ at: value }),
    });
    cursor.row.classList.add("widget-long");
    const boxes = [element("div"), element("div")];
    const charts = element("div", { class: "widget-pair" }, ...boxes);
    const head = element("tr");
    const body = element("tbody");
    const table = element("table", { class: "widget-table" }, element("thead", {}, head), body);
    const notes = element("ul", { class: "widget-notes" });
    root.append(pair, methods, form, cursor.row, charts, table, notes);

    /** @param {Partial<typeof state>} change */
    function update(change) {
      Object.assign(state, change);
      draw();
    }

    /** What is shown of a curve: x in multiples of L. @param {Side} side @param {Curve} curve @returns {Point[]} */
    const points = (side, curve) =>
      state.absolute ? curve.points.map((point) => [point.length / side.length, point.value]) : relative(curve, side.length);

    /** One chart of a side. @param {Side} side @param {HTMLElement} box @param {number[]} range */
    function panel(side, box, range) {
      const curves = side.curves.filter(({ method }) => state.shown.includes(method));
      const shown = (/** @type {Curve} */ curve) => points(side, curve);
      const sheet = Widgets.chart(box, {
        x: { low: LEAST, high: MOST, log: true, ticks: [0.5, 1, 2, 4, 8, 16], label: "L_valid / L" },
        y: { low: range[0], high: range[1], log: true, label: state.absolute ? "perplexity" : "perplexity / that at L" },
        height: 300, title: side.title, told: `${side.title}: ${side.told}`,
      });
      sheet.mark(1, `L = ${side.length}`);
      sheet.mark(multiples[state.at], "", { width: 1 });
      for (const curve of curves) {
        const look = { colour: `var(--method-${curve.method})`, width: 2 };
        if (!state.absolute) sheet.line(shown(curve), look);
        else {
          sheet.line(shown(curve), look);
          for (const { length, low, high } of curve.points) {
            if (high > low) sheet.line([[length / side.length, low], [length / side.length, high]], { ...look, width: 4, opacity: 0.4 });
          }
        }
        for (const multiple of multiples) {
          const near = nearest(curve, side.length, multiple);
          if (near) sheet.dot(shown(curve)[curve.points.indexOf(near)], look);
        }
      }
    }

    function draw() {
      const { sides } = pairs[state.pair];
      const values = sides.map((side) =>
        side.curves
          .filter(({ method }) => state.shown.includes(method))
          .flatMap((curve) => points(side, curve))
          .filter(([multiple, value]) => multiple >= LEAST && multiple <= MOST && Number.isFinite(value))
          .map(([, value]) => value),
      );
      const whole = values.flat();
      sides.forEach((side, place) => {
        const own = state.absolute ? values[place] : whole;
        panel(side, boxes[place], own.length ? [0.94 * Math.min(...own), 1.08 * Math.max(...own)] : [0.5, 2]);
      });
      const multiple = multiples[state.at];
      head.replaceChildren(...["", ...sides.map(({ title }) => title)].map((text) => element("th", { scope: "col" }, text)));
      body.replaceChildren(
        ...sides[0].curves.map(({ method, title }) =>
          element(
            "tr", { style: `--swatch: var(--method-${method})` }, element("th", { scope: "row" }, title),
            ...sides.map((side) => element("td", {}, told(side, method, multiple))),
          ),
        ),
      );
      notes.replaceChildren(...sides.map((side) => element("li", {}, `${side.title}: ${side.told}`)));
    }

    /** What the table says of a method. @param {Side} side @param {string} method @param {number} multiple */
    function told(side, method, multiple) {
      const curve = side.curves.find((one) => one.method === method);
      const point = curve && nearest(curve, side.length, multiple);
      const own = curve && curve.points.find(({ length }) => length === side.length);
      if (!point || !own) return "–";
      const spread = point.high > point.low ? ` (${plain(point.low, 4)} to ${plain(point.high, 4)})` : "";
      return `${plain(point.value, 4)}${spread} at ${plain(point.length)}, ${plain(point.value / own.value)} of that at L`;
    }
    return draw;
  });

  return { relative, nearest };
})();
