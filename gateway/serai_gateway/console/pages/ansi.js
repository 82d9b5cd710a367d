// Colours of terminals as text with classes (ECMA-48: SGR). What else a terminal would obey is left out: this is a log, not a screen.

const NOTHING = Object.freeze({ fg: null, bg: null, bold: false, faint: false, italic: false, underline: false, inverse: false });
const LONGEST_ESCAPE = 256;
// ESC [ parameters and an end; ESC ] … by BEL or ESC \; ESC and one or two characters.
const ESCAPE = /^\x1b(?:\[([0-?]*)[ -/]*([@-~])|\][^\x07\x1b]*(?:\x07|\x1b\\)|[PX^_][^\x1b]*\x1b\\|[ -/]*[0-OQ-WYZ\\`-~])/;

/** Reads one stream of text, whatever pieces it comes in. */
export class Ansi {
  #style = NOTHING;
  #rest = "";

  /** The text's runs: {text, style}; text holds no control characters but \n, \r and \t. */
  read(text) {
    text = this.#rest + text;
    this.#rest = "";
    const runs = [];
    let from = 0;
    while (from < text.length) {
      const at = text.indexOf("\x1b", from);
      this.#add(runs, text.slice(from, at < 0 ? text.length : at));
      if (at < 0) break;
      const found = ESCAPE.exec(text.slice(at, at + LONGEST_ESCAPE));
      if (found) {
        if (found[2] === "m") this.#style = restyled(this.#style, found[1]);
        from = at + found[0].length;
      } else if (text.length - at < LONGEST_ESCAPE) {
        this.#rest = text.slice(at); // the rest of it is still to come
        break;
      } else {
        from = at + 1;
      }
    }
    return runs;
  }

  #add(runs, text) {
    const shown = text.replace(/[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f]/g, "");
    if (shown) runs.push({ text: shown, style: this.#style });
  }
}

function restyled(style, parameters) {
  const numbers = parameters.split(/[;:]/).map((part) => Number(part) || 0);
  let now = style;
  for (let i = 0; i < numbers.length; i += 1) {
    const number = numbers[i];
    if (number === 38 || number === 48) {
      const [colour, used] = extended(numbers.slice(i + 1));
      now = { ...now, [number === 38 ? "fg" : "bg"]: colour };
      i += used;
    } else {
      now = one(now, number);
    }
  }
  return now;
}

function one(style, number) {
  switch (number) {
    case 0: return NOTHING;
    case 1: return { ...style, bold: true };
    case 2: return { ...style, faint: true };
    case 3: return { ...style, italic: true };
    case 4: return { ...style, underline: true };
    case 7: return { ...style, inverse: true };
    case 22: return { ...style, bold: false, faint: false };
    case 23: return { ...style, italic: false };
    case 24: return { ...style, underline: false };
    case 27: return { ...style, inverse: false };
    case 39: return { ...style, fg: null };
    case 49: return { ...style, bg: null };
  }
  if (number >= 30 && number <= 37) return { ...style, fg: number - 30 };
  if (number >= 40 && number <= 47) return { ...style, bg: number - 40 };
  if (number >= 90 && number <= 97) return { ...style, fg: number - 82 };
  if (number >= 100 && number <= 107) return { ...style, bg: number - 92 };
  return style;
}

/** 5;n of 256 colours, 2;r;g;b of all: a number below 16, or a CSS colour; and how many numbers that took. */
function extended([kind, a = 0, b = 0, c = 0]) {
  if (kind === 2) return [`rgb(${byte(a)} ${byte(b)} ${byte(c)})`, 4];
  if (kind !== 5) return [null, 1];
  if (a < 16) return [a, 2];
  if (a >= 232) return [`rgb(${8 + (byte(a) - 232) * 10} ${8 + (byte(a) - 232) * 10} ${8 + (byte(a) - 232) * 10})`, 2];
  const level = (part) => (part ? 55 + part * 40 : 0);
  const cube = a - 16;
  return [`rgb(${level(Math.floor(cube / 36))} ${level(Math.floor(cube / 6) % 6)} ${level(cube % 6)})`, 2];
}

const byte = (number) => Math.min(number, 255);

/** An element with the run's text in its style. */
export function styled({ text, style }) {
  if (style === NOTHING) return document.createTextNode(text);
  const element = document.createElement("span");
  element.textContent = text;
  const [fg, bg] = style.inverse ? [style.bg ?? "page", style.fg ?? "ink"] : [style.fg, style.bg];
  colour(element, fg, "fg", "color");
  colour(element, bg, "bg", "backgroundColor");
  for (const name of ["bold", "faint", "italic", "underline"]) if (style[name]) element.classList.add(name);
  return element;
}

function colour(element, value, prefix, property) {
  if (value === null) return;
  if (typeof value === "number" || value === "page" || value === "ink") element.classList.add(`${prefix}-${value}`);
  else element.style[property] = value;
}
