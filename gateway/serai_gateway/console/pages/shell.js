// A shell over UCloud's own WebSocket protocol, as a browser at UCloud speaks it: a call that stays open, further calls for what is typed.
// After a cut it comes back to the same shell by the same secret, for as long as the provider keeps it.

// The provider keeps a shell for a minute from when it has noticed the cut, which may take another minute. It says when it is too late.
const TRY_MS = 180_000;
const OPEN_ELSEWHERE = 400;
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

  /**
   * `size`: {cols, rows}. `was`: this window has had it open before. `told`: functions data(text), opened(resumed), cut(),
   * ended(why, refused).
   */
  constructor(provider, secret, size, was, told) {
    this.#provider = provider;
    this.#secret = secret;
    this.#size = size;
    this.#was = was;
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
    if (this.#ready && this.#socket.readyState === WebSocket.OPEN) this.#call(payload);
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
      // The one who is connected to it may be ourselves, before the cut.
      if (status === OPEN_ELSEWHERE && this.#was) this.#socket.close();
      else this.#end(payload?.why ?? (status < 400 ? "The shell has ended." : "The shell cannot be reached any more."), status >= 400);
    }
  }

  #closed() {
    this.#socket = null;
    this.#ready = false;
    if (this.#over) return;
    const now = Date.now();
    this.#cut_ms ||= now;
    if (now - this.#cut_ms > TRY_MS) {
      this.#end("The provider could not be reached again. Open a new terminal.");
      return;
    }
    this.#told.cut();
    this.#timer = setTimeout(() => this.#connect(), this.#pause);
    this.#pause = Math.min(this.#pause * 2, LONGEST_PAUSE_MS);
  }

  #end(why, refused = true) {
    if (this.#over) return;
    this.#over = true;
    this.#socket?.close();
    this.#told.ended(why, refused);
  }
}
