/**
 * What the moving figures share: elements, controls, scales and charts. A classic script without modules, so that a
 * page works from file://. Scales and axes are ours because d3's packages are on npm alone, and pip installs this book.
 */
"use strict";

/**
 * @typedef {{low: number, high: number, log?: boolean, label?: string, ticks?: number[],
 *   show?: (value: number) => string}} Axis
 * @typedef {{colour?: string, width?: number, dash?: string, opacity?: number, kind?: string}} Look
 * @typedef {[number, number]} Point
 * @typedef {(root: HTMLElement, data: any) => (() => void)} Maker
 */

const Widgets = (() => {
  const SVG = "http://www.w3.org/2000/svg";
  let ids = 0;

  /**
   * @template {Element} E
   * @param {E} made
   * @param {Record<string, string | number | boolean>} attributes
   * @param {(Node | string)[]} children
   */
  function filled(made, attributes, children) {
    for (const [name, value] of Object.entries(attributes)) {
      if (value === true) made.setAttribute(name, "");
      else if (value !== false) made.setAttribute(name, String(value));
    }
    made.append(...children);
    return made;
  }

  /**
   * An HTML element.
   * @template {keyof HTMLElementTagNameMap} K
   * @param {K} tag
   * @param {Record<string, string | number | boolean>} [attributes]
   * @param {(Node | string)[]} children
   */
  function element(tag, attributes = {}, ...children) {
    return filled(document.createElement(tag), attributes, children);
  }

  /**
   * An SVG element.
   * @param {string} tag
   * @param {Record<string, string | number | boolean>} [attributes]
   * @param {(Node | string)[]} children
   */
  function shape(tag, attributes = {}, ...children) {
    return filled(document.createElementNS(SVG, tag), attributes, children);
  }

  /**
   * A labelled slider, which arrow keys move too; `set` moves it without calling `change`.
   * @param {{label: string, min: number, max: number, value: number, step?: number,
   *   show?: (value: number) => string, change: (value: number) => void}} options
   */
  function slider({ label, min, max, value, step = 1, show = String, change }) {
    const id = `widget-${++ids}`;
    const input = element("input", { type: "range", id, min, max, step, value });
    const told = element("output", { for: id });
    const row = element("div", { class: "widget-slider" }, element("label", { for: id }, label), input, told);
    const tell = () => {
      told.textContent = show(Number(input.value));
      input.setAttribute("aria-valuetext", told.textContent);
    };
    input.addEventListener("input", () => {
      tell();
      change(Number(input.value));
    });
    tell();
    return {
      row,
      input,
      /** @param {number} next @param {number} [largest] */
      set(next, largest) {
        if (largest !== undefined) input.max = String(largest);
        input.value = String(next);
        tell();
      },
    };
  }

  /**
   * A row of buttons of which one is chosen (or any number, with `several`).
   * @param {{label: string, options: [string, string, string?][], value: string[], several?: boolean,
   *   change: (value: string[]) => void}} options value, text and colour of each button.
   */
  function choice({ label, options, value, several = false, change }) {
    const group = `widget-${++ids}`;
    const inputs = options.map(([name]) =>
      element("input", { type: several ? "checkbox" : "radio", name: group, value: name, checked: value.includes(name) }),
    );
    const buttons = options.map(([, text, colour], place) =>
      element("label", colour ? { style: `--method: ${colour}` } : {}, inputs[place], element("span", {}, text)),
    );
    const row = element("fieldset", { class: "widget-choice" }, element("legend", {}, label), ...buttons);
    row.addEventListener("change", () => change(inputs.filter((input) => input.checked).map((input) => input.value)));
    return row;
  }

  /**
   * A list of names and numbers that is read out when it changes.
   * @param {string[]} names
   */
  function numbers(names) {
    const values = names.map(() => element("dd"));
    const rows = names.map((name, place) => element("div", {}, element("dt", {}, name), values[place]));
    const list = element("dl", { class: "widget-numbers simple", "aria-live": "polite" }, ...rows);
    /** @param {string[]} texts */
    const tell = (texts) => texts.forEach((text, place) => (values[place].textContent = text));
    return { list, tell };
  }

  /**
   * Maps numbers of an axis to pixels; logarithmic where the axis says so.
   * @param {Axis} axis @param {number} from @param {number} to
   * @returns {(value: number) => number}
   */
  function scale(axis, from, to) {
    const at = axis.log ? Math.log : (/** @type {number} */ value) => value;
    const low = at(axis.low);
    const span = at(axis.high) - low || 1;
    return (value) => from + ((at(value) - low) / span) * (to - from);
  }

  /**
   * Round numbers within an axis, about `most` of them: 1, 2 and 5 times powers of ten, or powers of ten alone, where it
   * is logarithmic and long, else even steps.
   * @param {Axis} axis @param {number} most
   */
  function ticks({ low, high, log }, most) {
    /** @type {number[]} */
    const found = [];
    if (log && high / low >= 5) {
      for (const factors of [[1, 2, 5], [1]]) {
        found.length = 0;
        for (let power = Math.floor(Math.log10(low)); 10 ** power <= high; power++) {
          found.push(...factors.map((factor) => factor * 10 ** power).filter((at) => at >= low * 0.999 && at <= high * 1.001));
        }
        if (found.length <= most) break;
      }
      return found;
    }
    const rough = (high - low) / most;
    const power = 10 ** Math.floor(Math.log10(rough));
    const step = /** @type {number} */ ([1, 2, 5, 10].find((factor) => factor * power >= rough * 0.999)) * power;
    for (let place = Math.ceil(low / step - 1e-9); place * step <= high * (1 + 1e-9); place++) {
      found.push(Number((place * step).toPrecision(12)));
    }
    return found;
  }

  /**
   * A number as a reader expects it: thousands with commas, small ones with this many digits that count.
   * @param {number} value @param {number} [digits]
   */
  function plain(value, digits = 3) {
    if (!Number.isFinite(value)) return "–";
    if (Math.abs(value) >= 1000) return Math.round(value).toLocaleString("en-US");
    return String(Number(value.toPrecision(digits))).replace("-", "−");
  }

  /** A share in per cent. @param {number} share */
  function percent(share) {
    const value = 100 * share;
    if (value > 0 && value < 0.01) return "< 0.01 %";
    return `${value >= 99.95 && value < 100 ? "> 99.9" : plain(value, value < 1 ? 2 : 3)} %`;
  }

  /**
   * An empty chart with axes. `box` is the element it fills; its width decides the chart's.
   * @param {HTMLElement} box @param {{x: Axis, y: Axis, height: number, title?: string, told: string}} options
   */
  function chart(box, { x, y, height, title = "", told }) {
    const width = Math.max(240, box.clientWidth);
    const show = { x: x.show || plain, y: y.show || plain };
    const yTicks = y.ticks || ticks(y, Math.max(2, Math.floor(height / 45)));
    const left = 16 + 7.5 * Math.max(...yTicks.map((tick) => show.y(tick).length)) + (y.label ? 14 : 0);
    const [top, bottom] = [title ? 26 : 10, height - (x.label ? 42 : 24)];
    const toX = scale(x, left, width - 14);
    const toY = scale(y, bottom, top);
    const drawing = shape("svg", { viewBox: `0 0 ${width} ${height}`, width, height, role: "img", "aria-label": told });
    const clip = `widget-${++ids}`;
    const inside = { x: left, y: top, width: width - 14 - left, height: bottom - top };
    drawing.append(shape("clipPath", { id: clip }, shape("rect", inside)));
    for (const tick of x.ticks || ticks(x, Math.max(2, Math.floor(width / 62)))) {
      drawing.append(
        shape("line", { class: "grid", x1: toX(tick), x2: toX(tick), y1: top, y2: bottom }),
        shape("text", { x: toX(tick), y: bottom + 16, "text-anchor": "middle" }, show.x(tick)),
      );
    }
    for (const tick of yTicks) {
      drawing.append(
        shape("line", { class: "grid", x1: left, x2: width - 14, y1: toY(tick), y2: toY(tick) }),
        shape("text", { x: left - 6, y: toY(tick) + 4, "text-anchor": "end" }, show.y(tick)),
      );
    }
    const middle = (top + bottom) / 2;
    if (x.label) {
      drawing.append(shape("text", { x: (left + width) / 2, y: height - 6, "text-anchor": "middle" }, x.label));
    }
    if (y.label) {
      const turned = { x: 0, y: 0, transform: `translate(12 ${middle}) rotate(-90)`, "text-anchor": "middle" };
      drawing.append(shape("text", turned, y.label));
    }
    if (title) drawing.append(shape("text", { class: "title", x: left, y: 15 }, title));
    const body = shape("g", { "clip-path": `url(#${clip})` });
    drawing.append(body);
    box.replaceChildren(drawing);

    /** @param {Point[]} points */
    const path = (points) => points.map(([px, py]) => `${toX(px).toFixed(1)},${toY(py).toFixed(1)}`).join(" ");
    /** @param {Look} look */
    const stroke = ({ colour = "var(--widget-text)", width: line = 2, dash = "", opacity = 1 }) =>
      `fill: none; stroke: ${colour}; stroke-width: ${line}; stroke-dasharray: ${dash || "none"}; opacity: ${opacity}`;
    return {
      drawing,
      toX,
      toY,
      inside,
      /** @param {Point[]} points @param {Look} look */
      line(points, look) {
        body.append(shape("polyline", { points: path(points), style: stroke(look) }));
      },
      /** The area between two lines. @param {Point[]} upper @param {Point[]} lower @param {Look} look */
      area(upper, lower, { colour = "var(--widget-text)", opacity = 0.2 }) {
        const around = path([...upper, ...[...lower].reverse()]);
        body.append(shape("polygon", { points: around, style: `fill: ${colour}; opacity: ${opacity}` }));
      },
      /** A bar from y = `from` to `to`, with sides at `start` and `end`. @param {number} start @param {number} end
       * @param {number} from @param {number} to @param {Look} look */
      bar(start, end, from, to, { colour = "var(--widget-text)", opacity = 1 }) {
        const [x1, x2] = [toX(start), toX(end)];
        const [y1, y2] = [toY(Math.max(from, to)), toY(Math.min(from, to))];
        const place = { x: x1.toFixed(1), y: y1.toFixed(1), width: (x2 - x1).toFixed(1), height: (y2 - y1).toFixed(1) };
        body.append(shape("rect", { ...place, style: `fill: ${colour}; opacity: ${opacity}` }));
      },
      /** A vertical line with a name. @param {number} at @param {string} name @param {Look} [look] */
      mark(at, name, look = { dash: "3 3", width: 1.2 }) {
        const [px, end] = [toX(at), toX(at) > inside.x + 0.7 * inside.width];
        if (!(px >= inside.x - 1 && px <= inside.x + inside.width + 1)) return;
        body.append(shape("line", { x1: px, x2: px, y1: top, y2: bottom, style: stroke(look) }));
        const where = { x: px + (end ? -4 : 4), y: top + 13, "text-anchor": end ? "end" : "start" };
        drawing.append(shape("text", where, name));
      },
      /** A dot. @param {Point} point @param {Look} look */
      dot([px, py], { colour = "var(--widget-text)" }) {
        drawing.append(shape("circle", { cx: toX(px), cy: toY(py), r: 4, style: `fill: ${colour}` }));
      },
    };
  }

  /**
   * Makes every figure of this name on the page, and again each time that its width changes. It takes the place of the
   * still picture of the cell before, which goes only once that has worked.
   * @param {string} name @param {string} label what the figure is called for those who do not see it @param {Maker} make
   */
  function add(name, label, make) {
    if (typeof document === "undefined") return;
    for (const root of document.querySelectorAll(`[data-widget="${name}"]`)) {
      if (!(root instanceof HTMLElement)) continue;
      const data = JSON.parse(root.querySelector("script")?.textContent || "null");
      root.setAttribute("role", "group");
      root.setAttribute("aria-label", label);
      root.hidden = false;
      const still = root.closest(".cell")?.previousElementSibling?.querySelector("figure :is(a:has(> img), img)");
      if (still) {
        // Into the figure, so that its caption stands below what moves.
        root.closest(".output")?.setAttribute("hidden", "");
        still.before(root);
      }
      let drawn = 0;
      try {
        const draw = make(root, data);
        draw();
        drawn = root.clientWidth;
        new ResizeObserver(() => {
          if (root.clientWidth && root.clientWidth !== drawn) draw();
          drawn = root.clientWidth;
        }).observe(root);
      } catch (wrong) {
        root.hidden = true;
        throw wrong;
      }
      still?.classList.add("widget-still");
    }
  }

  return { element, shape, slider, choice, numbers, scale, ticks, plain, percent, chart, add };
})();
