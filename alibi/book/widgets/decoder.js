/**
 * A small trained decoder in the page: the forward pass of `alibi.model.Decoder` with ALiBi or sinusoidal positions, a
 * few tokens at a time, so that the page answers in between. `alibi.book.page_model` gives the format of its weights.
 */
"use strict";

/**
 * @typedef {{method: string, vocabulary_size: number, layers: number, width: number, heads: number, feedforward: number,
 *   slopes: number[], names: string[], sizes: number[], weights: string}} StoredModel
 * @typedef {Record<string, Float32Array>} Tensors
 * @typedef {Omit<StoredModel, "names" | "sizes" | "weights"> & {tensors: Tensors}} PageModel
 * @typedef {{queries: Float32Array, keys: Float32Array, values: Float32Array}} LayerState rows of `width`, one a token
 * @typedef {{model: PageModel, tokens: number[], window: number, done: number, layers: LayerState[],
 *   hidden: Float32Array, losses: Float64Array}} Reading a text of source tokens, of which `done` have been read in
 *   consecutive windows; the loss (nats) at a place is that of the token after it, NaN where there is none
 */

const Decoder = (() => {
  /** Tokens of one pass: the loops below take four at once. */
  const BLOCK = 8;
  const EPSILON = 1e-5;
  // fairseq numbers positions from here, see alibi.positions.sinusoidal.
  const FIRST_ROW = 2;
  /** What each 16 bits stand for, once asked. @type {Float32Array | undefined} */
  let known;

  /** The number that 16 bits stand for (IEEE 754 binary16). @param {number} bits */
  function half(bits) {
    const [sign, power, part] = [bits & 0x8000 ? -1 : 1, (bits >> 10) & 31, bits & 1023];
    if (power === 31) return part ? NaN : sign * Infinity;
    return sign * (power ? 2 ** (power - 15) * (1 + part / 1024) : (2 ** -14 * part) / 1024);
  }

  /** The numbers of a base64 text of little-endian float16. @param {string} text */
  function halves(text) {
    const bytes = atob(text);
    known ||= Float32Array.from({ length: 65536 }, (_, bits) => half(bits));
    const found = new Float32Array(bytes.length / 2);
    for (let at = 0; at < found.length; at++) {
      found[at] = known[bytes.charCodeAt(2 * at) | (bytes.charCodeAt(2 * at + 1) << 8)];
    }
    return found;
  }

  /** A model from its file. @param {StoredModel} stored @returns {PageModel} */
  function model({ names, sizes, weights, ...shape }) {
    const all = halves(weights);
    /** @type {Tensors} */
    const tensors = {};
    let start = 0;
    names.forEach((name, place) => {
      tensors[name] = all.subarray(start, start + sizes[place]);
      start += sizes[place];
    });
    return { ...shape, tensors };
  }

  /**
   * A text that waits to be read in consecutive windows, as `alibi.windows.evaluation_windows` cuts it.
   * @param {PageModel} model @param {number[]} tokens the sources: end of line, then the text
   * @param {number} window tokens in a window
   * @param {Reading} [before] read by the same model: where tokens and their windows agree, it is not read again
   * @returns {Reading}
   */
  function reading(model, tokens, window, before) {
    const [count, { width }] = [tokens.length, model];
    const room = () => new Float32Array(count * width);
    const layers = Array.from({ length: model.layers }, () => ({ queries: room(), keys: room(), values: room() }));
    /** @type {Reading} */
    const made = { model, tokens, window, done: 0, layers, hidden: room(), losses: new Float64Array(count).fill(NaN) };
    if (!before) return made;
    const shared = before.window === window ? Infinity : Math.min(window, before.window);
    while (made.done < Math.min(shared, count, before.done) && before.tokens[made.done] === tokens[made.done]) made.done++;
    const end = made.done * width;
    made.hidden.set(before.hidden.subarray(0, end));
    layers.forEach((layer, place) => {
      const { queries, keys, values } = before.layers[place];
      layer.queries.set(queries.subarray(0, end));
      layer.keys.set(keys.subarray(0, end));
      layer.values.set(values.subarray(0, end));
    });
    made.losses.set(before.losses.subarray(0, Math.max(0, made.done - 1)));
    // The token after the last shared one may be another.
    if (made.done) score(made, made.done - 1, made.done);
    return made;
  }

  /**
   * out = relu?(in W^T + bias) for `BLOCK` rows; the number of columns of `out` is even.
   * @param {Float32Array} input @param {number} from columns of `input` @param {Float32Array} weights
   * @param {Float32Array | null} bias @param {Float32Array} out @param {number} to columns of `out`
   * @param {boolean} [relu]
   */
  function linear(input, from, weights, bias, out, to, relu = false) {
    for (let row = 0; row < BLOCK; row += 4) {
      const x0 = row * from, x1 = x0 + from, x2 = x1 + from, x3 = x2 + from;
      for (let column = 0; column < to; column += 2) {
        const first = column * from, second = first + from;
        let p0 = bias ? bias[column] : 0, q0 = bias ? bias[column + 1] : 0;
        let p1 = p0, p2 = p0, p3 = p0, q1 = q0, q2 = q0, q3 = q0;
        for (let k = 0; k < from; k++) {
          const p = weights[first + k], q = weights[second + k];
          const i0 = input[x0 + k], i1 = input[x1 + k], i2 = input[x2 + k], i3 = input[x3 + k];
          p0 += p * i0; p1 += p * i1; p2 += p * i2; p3 += p * i3;
          q0 += q * i0; q1 += q * i1; q2 += q * i2; q3 += q * i3;
        }
        const y0 = row * to + column, y1 = y0 + to, y2 = y1 + to, y3 = y2 + to;
        out[y0] = p0; out[y1] = p1; out[y2] = p2; out[y3] = p3;
        out[y0 + 1] = q0; out[y1 + 1] = q1; out[y2 + 1] = q2; out[y3 + 1] = q3;
      }
    }
    if (relu) for (let at = 0; at < BLOCK * to; at++) if (out[at] < 0) out[at] = 0;
  }

  /** Layer norm of each row. @param {Float32Array} input @param {number} width @param {Float32Array} gain
   * @param {Float32Array} bias @param {Float32Array} out */
  function norm(input, width, gain, bias, out) {
    for (let start = 0; start < input.length; start += width) {
      let [mean, square] = [0, 0];
      for (let k = start; k < start + width; k++) mean += input[k] / width;
      for (let k = start; k < start + width; k++) square += (input[k] - mean) ** 2 / width;
      const scale = 1 / Math.sqrt(square + EPSILON);
      for (let k = 0; k < width; k++) out[start + k] = (input[start + k] - mean) * scale * gain[k] + bias[k];
    }
  }

  /** Column `k` of the sinusoid at a position. @param {number} position @param {number} k @param {number} width */
  function sinusoid(position, k, width) {
    const count = width / 2;
    const angle = (position + FIRST_ROW) * Math.exp((-Math.log(10000) / (count - 1)) * (k % count));
    return k < count ? Math.sin(angle) : Math.cos(angle);
  }

  /**
   * The attention weights of a head for the query at `place`, over the keys of its window up to itself.
   * @param {Reading} reading @param {number} layer @param {number} head @param {number} place
   */
  function attention({ model, window, layers }, layer, head, place) {
    const { width, heads, slopes } = model;
    const [{ queries, keys }, narrow, start] = [layers[layer], width / heads, place - (place % window)];
    const [query, count, slope] = [place * width + head * narrow, place - start + 1, slopes.length ? slopes[head] : 0];
    const weights = new Float64Array(count);
    for (let k = 0; k < narrow; k += 4) {
      const q0 = queries[query + k], q1 = queries[query + k + 1], q2 = queries[query + k + 2], q3 = queries[query + k + 3];
      for (let key = 0, at = start * width + head * narrow + k; key < count; key++, at += width) {
        weights[key] += q0 * keys[at] + q1 * keys[at + 1] + q2 * keys[at + 2] + q3 * keys[at + 3];
      }
    }
    const root = Math.sqrt(narrow);
    let highest = -Infinity, sum = 0;
    for (let key = 0; key < count; key++) {
      const score = weights[key] / root - slope * (count - 1 - key);
      weights[key] = score;
      if (score > highest) highest = score;
    }
    for (let key = 0; key < count; key++) sum += weights[key] = Math.exp(weights[key] - highest);
    for (let key = 0; key < count; key++) weights[key] /= sum;
    return weights;
  }

  /** The values that a head attends to, into its columns of the row of `out` that begins at `row`.
   * @param {Reading} reading @param {number} layer @param {number} head @param {number} place @param {Float32Array} out
   * @param {number} row */
  function attend(reading, layer, head, place, out, row) {
    const { width, heads } = reading.model;
    const { values } = reading.layers[layer];
    const weights = attention(reading, layer, head, place);
    const first = (place - (place % reading.window)) * width;
    for (let k = (head * width) / heads; k < ((head + 1) * width) / heads; k += 4) {
      let a0 = 0, a1 = 0, a2 = 0, a3 = 0;
      for (let key = 0, at = first + k; key < weights.length; key++, at += width) {
        const weight = weights[key];
        a0 += weight * values[at]; a1 += weight * values[at + 1]; a2 += weight * values[at + 2]; a3 += weight * values[at + 3];
      }
      out[row + k] = a0; out[row + k + 1] = a1; out[row + k + 2] = a2; out[row + k + 3] = a3;
    }
  }

  /**
   * Reads the next tokens, at most `BLOCK` and within one window, and scores them.
   * @param {Reading} reading
   */
  function step(reading) {
    const { model, tokens, window, done } = reading;
    const { width, heads, tensors } = model;
    const end = Math.min(done + BLOCK, done - (done % window) + window, tokens.length);
    const [x, inner, sum] = [0, 0, 0].map(() => new Float32Array(BLOCK * width));
    const [joined, wide] = [new Float32Array(3 * BLOCK * width), new Float32Array(BLOCK * model.feedforward)];
    for (let place = done; place < end; place++) {
      for (let k = 0; k < width; k++) {
        const embedded = Math.sqrt(width) * tensors["embedding.weight_VC"][tokens[place] * width + k];
        x[(place - done) * width + k] = embedded + (model.method === "sinusoidal" ? sinusoid(place % window, k, width) : 0);
      }
    }
    reading.layers.forEach((layer, number) => {
      const of = (/** @type {string} */ name) => tensors[`layers.${number}.${name}`];
      norm(x, width, of("attention_norm.weight"), of("attention_norm.bias"), inner);
      linear(inner, width, of("queries_keys_values.weight"), of("queries_keys_values.bias"), joined, 3 * width);
      for (let place = done; place < end; place++) {
        [layer.queries, layer.keys, layer.values].forEach((kept, part) => {
          const start = (3 * (place - done) + part) * width;
          kept.set(joined.subarray(start, start + width), place * width);
        });
      }
      inner.fill(0);
      for (let place = done; place < end; place++) {
        for (let head = 0; head < heads; head++) attend(reading, number, head, place, inner, (place - done) * width);
      }
      linear(inner, width, of("attention_output.weight"), of("attention_output.bias"), sum, width);
      for (let k = 0; k < x.length; k++) x[k] += sum[k];
      norm(x, width, of("feedforward_norm.weight"), of("feedforward_norm.bias"), inner);
      linear(inner, width, of("feedforward_in.weight"), of("feedforward_in.bias"), wide, model.feedforward, true);
      linear(wide, model.feedforward, of("feedforward_out.weight"), of("feedforward_out.bias"), sum, width);
      for (let k = 0; k < x.length; k++) x[k] += sum[k];
    });
    reading.hidden.set(x.subarray(0, (end - done) * width), done * width);
    reading.done = end;
    score(reading, done, end);
  }

  /** Logits of `BLOCK` places from `start` on. @param {Reading} reading @param {number} start @param {number} end */
  function logits({ model, hidden }, start, end) {
    const { width, vocabulary_size: size, tensors } = model;
    const rows = new Float32Array(BLOCK * width);
    rows.set(hidden.subarray(start * width, end * width));
    const out = new Float32Array(BLOCK * size);
    linear(rows, width, tensors["embedding.weight_VC"], null, out, size);
    return Array.from({ length: end - start }, (_, row) => out.subarray(row * size, (row + 1) * size));
  }

  /** ln sum exp. @param {Float32Array} row */
  function logSum(row) {
    let [highest, sum] = [-Infinity, 0];
    for (let at = 0; at < row.length; at++) if (row[at] > highest) highest = row[at];
    for (let at = 0; at < row.length; at++) sum += Math.exp(row[at] - highest);
    return highest + Math.log(sum);
  }

  /** Losses of the tokens after these places. @param {Reading} reading @param {number} start @param {number} end */
  function score(reading, start, end) {
    logits(reading, start, end).forEach((row, at) => {
      const target = reading.tokens[start + at + 1];
      reading.losses[start + at] = target === undefined ? NaN : logSum(row) - row[target];
    });
  }

  /** ln p of each entry of the vocabulary after a place that has been read. @param {Reading} reading
   * @param {number} place */
  function logProbabilities(reading, place) {
    const [row] = logits(reading, place, place + 1);
    const sum = logSum(row);
    return row.map((value) => value - sum);
  }

  /** The models' files set these, see `alibi.book.page_model`. @type {Record<string, StoredModel>} */
  const files = {};
  return { files, half, model, reading, step, attention, logProbabilities };
})();
