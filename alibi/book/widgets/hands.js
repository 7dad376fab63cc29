/** Hands of the clock: the angle of each rotary pair at an offset, and which angles training has shown. */
"use strict";

const Hands = (() => {
  /** @typedef {{title: string, length: number, frequencies: number[]}} Model trained at `length` tokens */
  const TURN = 2 * Math.PI;
  const SECONDS = 10;

  /** Where a hand stands. @param {number} frequency radians per token @param {number} offset in tokens */
  const angle = (frequency, offset) => (frequency * offset) % TURN;

  /**
   * The arc from 0 that offsets below L have shown: all of it, if the hand goes round within L.
   * @param {number} frequency @param {number} length
   */
  const seen = (frequency, length) => (frequency * length >= TURN ? TURN : frequency * (length - 1));

  /**
   * How far a hand stands from the nearest angle that training has shown, in radians; 0 on such an angle.
   * @param {number} frequency @param {number} length @param {number} offset
   */
  function away(frequency, length, offset) {
    const at = angle(frequency, offset);
    return Math.max(0, Math.min(at - seen(frequency, length), TURN - at));
  }

  /**
   * Of all pairs: how many go round within L, how many stand on an angle that training has not shown, and how far the
   * farthest of those is from one that it has, in degrees.
   * @param {number[]} frequencies @param {number} length @param {number} offset
   */
  function count(frequencies, length, offset) {
    const apart = frequencies.map((frequency) => away(frequency, length, offset));
    return {
      round: frequencies.filter((frequency) => seen(frequency, length) === TURN).length,
      strange: apart.filter((distance) => distance > 0).length,
      farthest: (360 * Math.max(...apart)) / TURN,
    };
  }

  Widgets.add("hands", "Hands of the clock", (root, data) => {
    const { element, shape, plain } = Widgets;
    /** @type {Model[]} */
    const models = data.models;
    const state = { model: 0, offset: data.multiple * models[0].length };
    let [began, frame] = [0, 0];
    const model = () => models[state.model];
    const last = () => data.multiple * model().length;
    const still = matchMedia("(prefers-reduced-motion: reduce)").matches;
    const choice = Widgets.choice({
      label: "model", value: ["0"],
      options: models.map(({ title }, place) => [String(place), title, "var(--method-rotary)"]),
      change: ([value]) => {
        stop();
        state.model = Number(value);
        state.offset = last();
        drawAll();
      },
    });
    const offset = Widgets.slider({
      label: "offset (tokens)", min: 0, max: last(), value: state.offset, show: () => plain(state.offset),
      change: (value) => {
        stop();
        move(value);
      },
    });
    const play = element("button", { type: "button" });
    play.addEventListener("click", () => (frame ? stop() : start()));
    const steps = element("div", { class: "widget-steps" }, play);
    for (const [text, by] of /** @type {[string, number][]} */ ([["one token back", -1], ["one token on", 1]])) {
      const button = element("button", { type: "button" }, text);
      button.addEventListener("click", () => {
        stop();
        move(state.offset + by);
      });
      steps.append(button);
    }
    const dials = element("div", { role: "img" });
    const key = element(
      "p", { class: "widget-key" }, element("span", { class: "shown" }, "seen in training, offsets below L"),
      element("span", { class: "strange" }, "new angles; a marked number: its hand is on one"),
    );
    const curve = element("div");
    const told = Widgets.numbers(["pairs round within L", "hands on new angles", "farthest from seen"]);
    root.append(choice, offset.row, steps, key, dials, curve, told.list);
    /** @type {{dial: HTMLElement, hand: Element, trail: Element, strange: Element}[]} */
    let made = [];
    /** @type {Point[]} */
    let farthest = [];

    /** Lets the offset run from 0, or on from where it stopped; without motion it goes on by half of L. */
    function start() {
      const from = state.offset >= last() ? 0 : state.offset;
      if (still) return move(from + model().length / 2);
      told.list.setAttribute("aria-live", "off");
      play.textContent = "pause";
      began = performance.now() - (from / last()) * 1000 * SECONDS;
      frame = requestAnimationFrame(tick);
      move(from);
    }

    function stop() {
      cancelAnimationFrame(frame);
      frame = 0;
      told.list.setAttribute("aria-live", "polite");
      play.textContent = still ? "on by L / 2" : "play";
    }

    /** @param {number} now */
    function tick(now) {
      const reached = Math.floor(((now - began) / 1000 / SECONDS) * last());
      frame = requestAnimationFrame(tick);
      if (reached >= last()) stop();
      move(reached);
    }

    /** @param {number} to */
    function move(to) {
      state.offset = Math.min(last(), Math.max(0, Math.round(to)));
      draw();
    }

    /** The dials of a model; `draw` then moves their hands. */
    function drawAll() {
      const { frequencies, length } = model();
      dials.className = frequencies.length > 32 ? "widget-dials many" : "widget-dials";
      made = frequencies.map((frequency, pair) => {
        const [trail, strange] = [ring("trail"), ring("strange")];
        const hand = shape("line", { class: "hand", x1: 50, y1: 50, x2: 50, y2: 20 });
        const track = [ring("track"), ring("shown")];
        arc(track[1], 0, seen(frequency, length));
        const drawing = shape("svg", { viewBox: "0 0 100 100" }, ...track, trail, strange, hand);
        return { dial: element("div", {}, drawing, element("small", {}, String(pair))), hand, trail, strange };
      });
      dials.replaceChildren(...made.map(({ dial }) => dial));
      farthest = Array.from({ length: last() + 1 }, (_, at) => at)
        .filter((at) => at % Math.ceil(length / 128) === 0)
        .map((at) => [at, count(frequencies, length, at).farthest]);
      draw();
    }

    /** A circle of which `arc` shows a part; 0 is at the top. @param {string} name */
    function ring(name) {
      return shape("circle", { class: name, cx: 50, cy: 50, r: 40, pathLength: 360, transform: "rotate(-90 50 50)" });
    }

    /** @param {Element} circle @param {number} from @param {number} to in radians */
    function arc(circle, from, to) {
      const [first, long] = [from, Math.max(0, to - from)].map((radians) => (360 * radians) / TURN);
      circle.setAttribute("stroke-dasharray", `${long} 720`);
      circle.setAttribute("stroke-dashoffset", String(-first));
    }

    function draw() {
      const { frequencies, length } = model();
      offset.set(state.offset, last());
      frequencies.forEach((frequency, pair) => {
        const [{ dial, hand, trail, strange }, shown] = [made[pair], seen(frequency, length)];
        const turned = Math.min(TURN, frequency * state.offset);
        arc(trail, 0, Math.min(turned, shown));
        arc(strange, shown, turned);
        hand.setAttribute("transform", `rotate(${(360 * angle(frequency, state.offset)) / TURN} 50 50)`);
        dial.classList.toggle("on-new", away(frequency, length, state.offset) > 0);
      });
      const found = count(frequencies, length, state.offset);
      const all = frequencies.length;
      const apart = `${plain(Math.round(found.farthest))}°`;
      told.tell([`${found.round} of ${all}`, `${found.strange} of ${all}`, apart]);
      dials.setAttribute(
        "aria-label",
        `${all} dials, one per pair, fastest first. At offset ${state.offset}, ${found.strange} are on new angles.`,
      );
      const sheet = Widgets.chart(curve, {
        x: { low: 0, high: last(), label: "offset (tokens)", ticks: [0, 1, 2, 3, 4].map((many) => many * length) },
        y: { low: 0, high: 180, ticks: [0, 90, 180], show: (tick) => `${tick}°` }, height: 170,
        title: "Farthest hand from a seen angle",
        told: `The farthest hand is ${apart} from any angle that training has shown, at offset ${state.offset}.`,
      });
      sheet.mark(length, `L = ${plain(length)}`);
      sheet.mark(state.offset, "", { width: 1.5 });
      sheet.line(farthest, { colour: "var(--method-rotary)", width: 2.5 });
      sheet.dot([state.offset, found.farthest], { colour: "var(--method-rotary)" });
    }
    stop();
    drawAll();
    return draw;
  });

  return { angle, seen, away, count };
})();
