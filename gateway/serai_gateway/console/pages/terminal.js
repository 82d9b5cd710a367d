// A terminal (xterm.js) at a shell.

import { FitAddon } from "/console/vendor/xterm-fit/lib/addon-fit.mjs";
import { Terminal } from "/console/vendor/xterm/lib/xterm.mjs";

import { make, say } from "./page.js";
import { Shell } from "./shell.js";

const LONGEST_REPLAY = 300_000; // characters; the server keeps 256 KiB
const REPLAY_PAUSE_MS = 300;
const QUESTIONS = [
  { final: "n" },
  { prefix: "?", final: "n" },
  { final: "c" },
  { prefix: ">", final: "c" },
  { prefix: "=", final: "c" },
  { prefix: ">", final: "q" },
  { intermediates: "$", final: "p" },
  { prefix: "?", intermediates: "$", final: "p" },
];
const DARK = { background: "#12181b", foreground: "#dfe6e4", cursor: "#f4d9a0", selectionBackground: "#3a5a66" };
const LIGHT = {
  background: "#fbfaf7",
  foreground: "#1d2427",
  cursor: "#8a5a00",
  selectionBackground: "#c9dde2",
  black: "#1d2427",
  yellow: "#7a5c00",
  brightYellow: "#8f6c00",
  green: "#1b6e36",
  brightGreen: "#23883f",
  cyan: "#0b6a75",
  brightCyan: "#0f7f8c",
  white: "#5f686b",
  brightWhite: "#3c4548",
};
const FONT = 'ui-monospace, "DejaVu Sans Mono", "Liberation Mono", Menlo, Consolas, monospace';

/**
 * What comes first after a cut was shown before: programs' questions in it (where is the cursor, which terminal is this, which colours)
 * were answered then. Answered again, the answers would be typed into the program that runs now, and vi would take them for keys.
 */
class Replay {
  #muted = false;
  #left = 0;
  #timer = 0;
  #terminal;

  constructor(terminal) {
    this.#terminal = terminal;
    const unanswered = () => this.#muted;
    for (const id of QUESTIONS) terminal.parser.registerCsiHandler(id, unanswered);
    terminal.parser.registerDcsHandler({ intermediates: "$", final: "q" }, unanswered);
    for (const number of [4, 10, 11, 12]) terminal.parser.registerOscHandler(number, (data) => this.#muted && data.includes("?"));
  }

  begin() {
    this.#muted = true;
    this.#left = LONGEST_REPLAY;
    this.#pause();
  }

  /** Each message that comes: it belongs to what was shown before until there is a pause, or too much for that. */
  add(text) {
    if (!this.#muted) return;
    this.#left -= text.length;
    if (this.#left > 0) this.#pause();
  }

  #pause() {
    clearTimeout(this.#timer);
    // By a write, so that all that came before is read by then.
    this.#timer = setTimeout(() => this.#terminal.write("", () => (this.#muted = false)), REPLAY_PAUSE_MS);
  }
}

/** Shows the shell of this secret in `box`; `state(words)` says how the connection is. */
export function showTerminal({ box, tools, state, provider }, secret) {
  const dark = window.matchMedia("(prefers-color-scheme: dark)");
  const colours = () => (dark.matches ? DARK : LIGHT);
  const terminal = new Terminal({ fontFamily: FONT, fontSize: 15, scrollback: 5_000, cursorBlink: true, theme: colours() });
  const fit = new FitAddon();
  terminal.loadAddon(fit);
  terminal.open(box);
  fit.fit();
  dark.addEventListener("change", () => (terminal.options.theme = colours()));

  const replay = new Replay(terminal);
  const again = make("button", { type: "button", hidden: true, onclick: () => shell.again() }, "Try again");
  tools.replaceChildren(again);
  const shell = new Shell(provider, secret, sizeOf(terminal), history.state?.opened === true, {
    data(text) {
      replay.add(text);
      terminal.write(text);
    },
    opened(resumed) {
      if (resumed) {
        replay.begin();
        terminal.reset();
      }
      history.replaceState({ opened: true }, ""); // is still there when the page is loaded again
      say(null);
      state(resumed ? "Connected again" : "Connected");
      terminal.options.cursorBlink = true;
      again.hidden = true;
      terminal.focus();
    },
    cut() {
      state("Cut off");
      say("The connection was cut. The shell is kept for a minute; trying to come back to it…", "wait");
      again.hidden = false;
    },
    ended(why, refused) {
      state(refused ? "Not connected" : "Ended");
      say(why, "wait");
      terminal.options.cursorBlink = false;
      again.hidden = !refused;
    },
  });
  terminal.onData((text) => shell.input(text));
  terminal.onResize(({ cols, rows }) => shell.resize({ cols, rows }));
  terminal.onTitleChange((title) => (document.title = title || document.title));
  new ResizeObserver(() => fit.fit()).observe(box);
  window.addEventListener("online", () => shell.again());
  // For whoever looks at what is on the screen: tests, and people in the browser's console.
  window.terminal = terminal;
}

const sizeOf = ({ cols, rows }) => ({ cols, rows });
