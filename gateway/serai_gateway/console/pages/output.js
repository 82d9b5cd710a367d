// A job's output as it comes: every rank, both streams, in colours. What is kept is bounded in lines and in the length of a line, so a
// log of any length can run through.

import { Ansi, styled } from "./ansi.js";
import { live, make } from "./page.js";

const MOST_LINES = 5_000;
const LONGEST_LINE = 16_384;
const TAIL_BYTES = 262_144;
const HEAD_BYTES = 13;
const STREAMS = { 1: "stdout", 2: "stderr" };

export class Output {
  #box;
  #job;
  #ranks;
  #said;
  #several = false;
  #streams = new Map();
  #lines = [];
  #changed = new Set();
  #drawing = false;
  #first = true;
  #stop;

  /** `box`: the element that scrolls; `ranks`: numbers, none = all; `said(words)` takes what is to be known of the output as a whole. */
  constructor(box, job, ranks, several, said) {
    this.#box = box;
    this.#job = job;
    this.#ranks = ranks;
    this.#several = several;
    this.#said = said;
    box.replaceChildren();
    said("Waiting for output…");
    this.#stop = live(() => this.#address(), (message) => this.#take(message));
  }

  close() {
    this.#stop();
  }

  #address() {
    const query = new URLSearchParams({ id: this.#job });
    if (this.#ranks.length) query.set("ranks", this.#ranks.join(","));
    const from = [...this.#streams.values()].map(({ rank, number, next }) => `${rank}.${number}.${next}`);
    if (from.length) query.set("from", from.join(","));
    else query.set("tail", String(TAIL_BYTES));
    return `/console/live/output?${query}`;
  }

  #take(message) {
    if (!(message instanceof ArrayBuffer)) {
      this.#end();
      return;
    }
    const view = new DataView(message);
    const rank = view.getUint32(0);
    const number = view.getUint8(4);
    const offset = Number(view.getBigUint64(5));
    const stream = this.#stream(rank, number, offset);
    const again = stream.next - offset; // bytes that came before a cut
    if (again >= message.byteLength - HEAD_BYTES) return;
    stream.next = offset + message.byteLength - HEAD_BYTES;
    this.#add(stream, stream.decoder.decode(new Uint8Array(message, HEAD_BYTES + Math.max(again, 0)), { stream: true }));
    if (this.#first) this.#said("");
    this.#first = false;
  }

  #stream(rank, number, offset) {
    const key = `${rank}.${number}`;
    if (!this.#streams.has(key)) {
      const made = { rank, number, next: offset, decoder: new TextDecoder(), ansi: new Ansi(), line: null };
      this.#streams.set(key, made);
      if (offset > 0) this.#text(made, `… ${offset} bytes before this are not shown\n`, "gap");
    }
    return this.#streams.get(key);
  }

  #add(stream, text) {
    for (const run of stream.ansi.read(text)) {
      for (const part of run.text.split(/(\r?\n|\r)/)) {
        if (part === "\n" || part === "\r\n") this.#close(stream);
        else if (part === "\r") stream.fresh = true;
        else if (part) this.#put(stream, { text: part, style: run.style });
      }
    }
    this.#draw();
  }

  #text(stream, text, kind) {
    stream.kind = kind;
    this.#put(stream, { text: text.trimEnd(), style: new Ansi().read(" ")[0].style });
    this.#close(stream);
    stream.kind = "";
  }

  /** The next text of the stream's line. After a lone carriage return it is written anew, as progress bars do. */
  #put(stream, run) {
    if (stream.line === null || stream.line.length > LONGEST_LINE) this.#open(stream);
    if (stream.fresh) {
      stream.line.runs = [];
      stream.line.length = 0;
      stream.fresh = false;
    }
    stream.line.runs.push(run);
    stream.line.length += run.text.length;
    this.#changed.add(stream.line);
  }

  #close(stream) {
    if (stream.line === null) this.#open(stream);
    stream.line = null;
    stream.fresh = false;
  }

  #open(stream) {
    stream.line = { rank: stream.rank, number: stream.number, kind: stream.kind ?? "", runs: [], length: 0, element: null };
    this.#lines.push(stream.line);
    this.#changed.add(stream.line);
    if (this.#lines.length > MOST_LINES) {
      const gone = this.#lines.shift();
      this.#changed.delete(gone);
      gone.element?.remove();
    }
  }

  #draw() {
    if (this.#drawing) return;
    this.#drawing = true;
    // Not by animation frame: those stop while the page is hidden.
    setTimeout(() => {
      this.#drawing = false;
      const box = this.#box;
      const atEnd = box.scrollTop + box.clientHeight >= box.scrollHeight - 8;
      const added = [];
      for (const line of this.#changed) {
        if (line.element === null) added.push((line.element = this.#row(line)));
        line.element.lastChild.replaceChildren(...line.runs.map(styled));
      }
      this.#changed.clear();
      box.append(...added);
      if (atEnd) box.scrollTop = box.scrollHeight;
    }, 50);
  }

  #row(line) {
    const rank = this.#several ? make("span", { class: `rank rank-${line.rank % 6}`, "data-rank": `${line.rank}` }) : null;
    return make("div", { class: `line ${STREAMS[line.number] ?? ""} ${line.kind}` }, rank, make("span", {}));
  }

  #end() {
    for (const stream of this.#streams.values()) this.#add(stream, stream.decoder.decode());
    this.#said(this.#first ? "The job wrote nothing." : "The output has ended.");
  }
}
