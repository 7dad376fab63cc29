/** Text to tokens and back in the page: the byte pairs of `alibi.corpora.vocabulary.BytePairVocabulary`. */
"use strict";

/**
 * @typedef {{alphabet: string, merges: number[]}} StoredBytePairs the end of a line is entry 0, a character for each byte
 *   follows, then an entry for each two numbers of `merges`, the entries that it joins
 * @typedef {{entries: string[], bytes: Uint8Array[], ids: Map<string, number>, ranks: Map<number, number>}} BytePairTable
 */

const BytePairs = (() => {
  const END_OF_LINE = 0;
  // GPT-2's: a word with the space before it, digits, other marks, white space but the space before a word.
  const WORDS = new RegExp(
    "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\p{White_Space}\\p{L}\\p{N}]+" +
      "|\\p{White_Space}+(?!\\P{White_Space})|\\p{White_Space}+",
    "gu",
  );

  /** The character that GPT-2 writes for each byte: itself where it can be seen, else one from 256 on. */
  function characters() {
    let next = 256;
    return Array.from({ length: 256 }, (_, byte) => {
      const seen = (byte > 32 && byte < 127) || (byte > 160 && byte !== 173);
      return String.fromCodePoint(seen ? byte : next++);
    });
  }

  /** The table of a vocabulary from its file. @param {StoredBytePairs} stored @returns {BytePairTable} */
  function table({ alphabet, merges }) {
    const entries = ["", ...alphabet];
    const ranks = new Map();
    for (let at = 0; at < merges.length; at += 2) {
      ranks.set(merges[at] * 65536 + merges[at + 1], entries.length);
      entries.push(entries[merges[at]] + entries[merges[at + 1]]);
    }
    const bytes = new Map(characters().map((character, byte) => [character, byte]));
    const written = entries.map((entry) => Uint8Array.from([...entry], (character) => Number(bytes.get(character))));
    written[END_OF_LINE] = Uint8Array.of(10);
    return { entries, bytes: written, ids: new Map(entries.map((entry, id) => [entry, id])), ranks };
  }

  /** The tokens of a piece between two places where no pair may join. @param {BytePairTable} table @param {number[]} parts */
  function merged({ ranks }, parts) {
    for (;;) {
      // An entry's number is its rank: the pair that was found first in training joins first.
      let [best, where] = [Infinity, -1];
      for (let at = 0; at + 1 < parts.length; at++) {
        const rank = ranks.get(parts[at] * 65536 + parts[at + 1]);
        if (rank !== undefined && rank < best) [best, where] = [rank, at];
      }
      if (where < 0) return parts;
      parts.splice(where, 2, best);
    }
  }

  /**
   * The tokens of a text; a newline is the end of a line, and none is added at the end.
   * @param {BytePairTable} table @param {string} text
   */
  function encode(table, text) {
    const written = characters();
    const encoder = new TextEncoder();
    /** @type {number[]} */
    const found = [];
    text.split("\n").forEach((line, number) => {
      if (number) found.push(END_OF_LINE);
      for (const [word] of line.matchAll(WORDS)) {
        const parts = Array.from(encoder.encode(word), (byte) => Number(table.ids.get(written[byte])));
        found.push(...merged(table, parts));
      }
    });
    return found;
  }

  /** The text of tokens; bytes that are no UTF-8 are U+FFFD. @param {BytePairTable} table @param {number[]} tokens */
  function decode({ bytes }, tokens) {
    return new TextDecoder("utf-8", { ignoreBOM: true }).decode(Uint8Array.from(tokens.flatMap((token) => [...bytes[token]])));
  }

  /** The file of the vocabulary sets this, see `alibi.book.page_model`. @type {Record<string, StoredBytePairs>} */
  const files = {};
  return { files, table, encode, decode };
})();
