// A shell over UCloud's own WebSocket protocol, as a browser at UCloud speaks it: a call that stays open, further calls for what is typed.
// After a cut it comes back to the same shell by the same secret, for as long as the provider keeps it.

const KEPT_MS = 60_000; // how long the provider keeps a shell that nobody is connected to
const FIRST_PAUSE_MS = 250;
const LONGEST_PAUSE_MS = 4_000;
const LONGEST_INPUT = 8_192; // characters of one message

export class Shell {
  #provider;
  #secret;
  #told;
  #size;
  #socket = null;
  #calls = 0;
  #ready = false;
  #was = false;
  #over = false;
  #cut_ms = 0;
  #pause = FIRST_PAUSE_MS;
  #timer = 0;

  /** `told`: functions data(text), opened(resumed), cut(), ended(why). `size`: {cols, rows}. */
  constructor(provider, secret, size, told) {
    this.#provider = provider;
    this.#secret = secret;
    this.#size = size;
    this.#told = told;
    this.#connect();
  }

  input(text) {
    for (let at = 0; at < text.length; at += LONGEST_INPUT) this.#say({ type: "input", data: text.slice(at, at + LONGEST_INPUT) });
  }

  resize(size) {
    this.#size = size;
    this.#say({ type: "resize", ...size });
  }

  /** Tries at once, when a pause is on or all tries were in vain. */
  again() {
    if (this.#socket !== null) return;
    clearTimeout(this.#timer);
    this.#over = false;
    this.#cut_ms = Date.now();
    this.#connect();
  }

  #connect() {
    const url = new URL(`/ucloud/${encodeURIComponent(this.#provider)}/websocket`, location.href);
    url.protocol = url.protocol === "https:" ? "wss:" : "ws:";
    url.searchParams.set("session", this.#secret);
    const socket = new WebSocket(url);
    this.#socket = socket;
    this.#ready = false;
    this.#calls = 0;
    socket.onopen = () => this.#call({ type: "initialize", sessionIdentifier: this.#secret, ...this.#size });
    socket.onmessage = ({ data }) => this.#take(JSON.parse(data));
    socket.onclose = () => this.#closed();
  }

  #call(payload) {
    const call = `jobs.compute.${this.#provider}.shell.open`;
    this.#socket.send(JSON.stringify({ call, streamId: String(this.#calls), payload }));
    this.#calls += 1;
  }

  #say(payload) {
    if (this.#ready) this.#call(payload);
  }

  #take({ type, streamId, status, payload }) {
    if (payload?.type === "initialize") {
      this.#ready = true;
      this.#pause = FIRST_PAUSE_MS;
      this.#cut_ms = 0;
      this.#told.opened(this.#was);
      this.#was = true;
    } else if (payload?.type === "data") {
      this.#told.data(payload.data);
    } else if (type === "response" && streamId === "0") {
      this.#end(payload?.why ?? (status < 400 ? "The shell has ended." : "The shell cannot be reached any more."));
    }
  }

  #closed() {
    this.#socket = null;
    this.#ready = false;
    if (this.#over) return;
    const now = Date.now();
    this.#cut_ms ||= now;
    if (now - this.#cut_ms > KEPT_MS) {
      this.#end("The connection was cut for more than a minute. Open a new terminal.");
      return;
    }
    this.#told.cut();
    this.#timer = setTimeout(() => this.#connect(), this.#pause);
    this.#pause = Math.min(this.#pause * 2, LONGEST_PAUSE_MS);
  }

  #end(why) {
    if (this.#over) return;
    this.#over = true;
    this.#socket?.close();
    this.#told.ended(why);
  }
}
