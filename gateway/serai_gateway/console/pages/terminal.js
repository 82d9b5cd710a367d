// A terminal (xterm.js) at a shell.

import { FitAddon } from "/console/vendor/xterm-fit/lib/addon-fit.mjs";
import { Terminal } from "/console/vendor/xterm/lib/xterm.mjs";

import { make, say } from "./page.js";
import { Shell } from "./shell.js";

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

  const again = make("button", { type: "button", hidden: true, onclick: () => shell.again() }, "Try again");
  tools.replaceChildren(again);
  const shell = new Shell(provider, secret, sizeOf(terminal), {
    data: (text) => terminal.write(text),
    opened(resumed) {
      // What comes next is the last of the output, from before the cut on.
      if (resumed) terminal.reset();
      say(null);
      state(resumed ? "Connected again" : "Connected");
      again.hidden = true;
      terminal.focus();
    },
    cut() {
      state("Cut off");
      say("The connection was cut. The shell is kept for a minute; trying to come back to it…", "wait");
      again.hidden = false;
    },
    ended(why) {
      state("Ended");
      say(why, "wait");
      terminal.options.disableStdin = true;
      terminal.options.cursorBlink = false;
      again.hidden = true;
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
