/** The scorecard: every claim with its rules and what decides them, for other numbers and with two names exchanged. */
"use strict";

const Scorecard = (() => {
  /**
   * @typedef {{outcome: string, effect: string}} Found of one part of a claim
   * @typedef {{verdict: string, parts: Found[]}} Judged
   * @typedef {{number: string, title: string, place: string, parts: {statistic: string, rule: string, paper: string}[],
   *   judged: Record<string, Judged>}} Claim
   */

  /**
   * Those claims whose verdict the exchange of two names turns into another one.
   * @param {Claim[]} claims @param {string} numbers
   */
  const flipped = (claims, numbers) =>
    claims.filter(({ judged }) => judged[numbers].verdict !== judged[`${numbers}, exchanged`].verdict);

  /** How often each verdict is given. @param {Claim[]} claims @param {string} world */
  function count(claims, world) {
    /** @type {Record<string, number>} */
    const found = {};
    for (const { judged } of claims) found[judged[world].verdict] = (found[judged[world].verdict] || 0) + 1;
    return found;
  }

  Widgets.add("scorecard", "The scorecard", (root, data) => {
    const { element } = Widgets;
    /** @type {Claim[]} */
    const claims = data.claims;
    const state = { numbers: data.numbers[0], exchanged: false, verdict: "" };
    const numbers = Widgets.choice({
      label: "numbers", options: data.numbers.map((/** @type {string} */ name) => [name, name]), value: [state.numbers],
      change: ([value]) => update({ numbers: value, verdict: "" }),
    });
    const exchange = Widgets.choice({
      label: "a world where the paper is wrong", several: true, value: [],
      options: [["exchanged", "exchange ALiBi and sinusoidal", "var(--method-sinusoidal)"]],
      change: (value) => update({ exchanged: value.length > 0, verdict: "" }),
    });
    const filters = element("div", { class: "widget-steps" });
    const told = element("p", { class: "widget-told", "aria-live": "polite" });
    const list = element("div", { class: "widget-claims" });
    root.append(numbers, exchange, filters, told, list);

    /** @param {Partial<typeof state>} change */
    function update(change) {
      Object.assign(state, change);
      draw();
    }

    function draw() {
      const world = state.exchanged ? `${state.numbers}, exchanged` : state.numbers;
      const counted = count(claims, world);
      const turned = flipped(claims, state.numbers);
      const focused = document.activeElement?.getAttribute("data-verdict");
      filters.replaceChildren(
        ...[["", "all", claims.length], ...data.verdicts.map((/** @type {string} */ name) => [name, name, counted[name]])]
          .filter(([, , many]) => many)
          .map(([name, text, many]) => {
            const pressed = name === state.verdict;
            const button = element("button", { type: "button", "aria-pressed": String(pressed), "data-verdict": name });
            button.append(`${text} `, element("b", {}, String(many)));
            button.addEventListener("click", () => update({ verdict: name }));
            return button;
          }),
      );
      if (focused !== null && focused !== undefined) {
        /** @type {HTMLElement | null} */ (filters.querySelector(`[data-verdict="${focused}"]`))?.focus();
      }
      told.textContent = state.exchanged
        ? `With the two names exchanged ${turned.length} of ${claims.length} claims get another verdict.`
        : "Open a claim to see its rules. Exchange two names to see which rules notice it.";
      const open = new Set([...list.querySelectorAll("details[open]")].map((one) => one.getAttribute("data-number")));
      const chosen = claims.filter(({ judged }) => !state.verdict || judged[world].verdict === state.verdict);
      list.replaceChildren(...chosen.map((claim) => unfolded(claim, world, open.has(claim.number))));
    }

    /** A claim to unfold. @param {Claim} claim @param {string} world @param {boolean} open */
    function unfolded(claim, world, open) {
      const { verdict, parts } = claim.judged[world];
      const before = claim.judged[state.numbers].verdict;
      const word = element("span", { class: `widget-verdict ${kind(verdict)}` }, verdict);
      const summary = element("summary", {}, element("b", {}, `${claim.number} `), claim.title, " ", word);
      if (verdict !== before) summary.append(element("s", { class: "widget-was" }, before));
      const names = ["statistic", "rule", "the paper", "these numbers", "outcome"];
      const rows = claim.parts.map(({ statistic, rule, paper }, place) => {
        const { outcome, effect } = parts[place];
        const texts = [rule, paper, effect, outcome || "not measured"];
        const cells = texts.map((text, at) => element("td", { "data-label": names[at + 1] }, text || "–"));
        return element("tr", {}, element("th", { scope: "row" }, statistic), ...cells);
      });
      const head = element("thead", {}, element("tr", {}, ...names.map((name) => element("th", { scope: "col" }, name))));
      const table = element("table", { class: "widget-table stacked" }, head, element("tbody", {}, ...rows));
      const scroll = element("div", { class: "widget-scroll", tabindex: 0, role: "region", "aria-label": "rules" }, table);
      return element("details", { open, "data-number": claim.number }, summary, element("p", {}, claim.place), scroll);
    }
    return draw;
  });

  /** Whether a verdict is for the claim, against it or neither. @param {string} verdict */
  function kind(verdict) {
    if (/^(reproduced|seen|true)/.test(verdict)) return "for";
    return /^(contradicted|not reproduced)/.test(verdict) ? "against" : "neither";
  }

  return { flipped, count, kind };
})();
