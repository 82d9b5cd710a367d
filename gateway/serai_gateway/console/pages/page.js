// What every page shares: calls of the API, sockets that come back, the head of the page, and elements made without any HTML text:
// names, words and lines come from users' jobs, so they only ever become text.

export const LOGGED_OUT = 4401;
export const FAILED = 4500;
const FIRST_PAUSE_MS = 500;
const LONGEST_PAUSE_MS = 10_000;

export class Refused extends Error {
  constructor(status, why) {
    super(why);
    this.status = status;
  }
}

/** An element with attributes and children; `on…` attributes are listeners, a null child is left out. */
export function make(name, attributes = {}, ...children) {
  return filled(document.createElement(name), attributes, children);
}

/** The same for a part of a picture. */
export function draw(name, attributes = {}, ...children) {
  return filled(document.createElementNS("http://www.w3.org/2000/svg", name), attributes, children);
}

function filled(element, attributes, children) {
  for (const [key, value] of Object.entries(attributes)) {
    if (key.startsWith("on")) element.addEventListener(key.slice(2), value);
    else if (value === true) element.setAttribute(key, "");
    else if (value !== null && value !== undefined && value !== false) element.setAttribute(key, value);
  }
  element.append(...children.flat().filter((child) => child !== null && child !== undefined));
  return element;
}

export const find = (id) => document.getElementById(id);

/** GET of the API. Throws Refused with words for people. */
export async function get(name, query = {}) {
  return answered(await reached(fetch(`/console/api/${name}?${new URLSearchParams(query)}`)));
}

/** POST of the API: everything that changes something. */
export async function post(name, body = {}) {
  const asked = { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body) };
  return answered(await reached(fetch(`/console/api/${name}`, asked)));
}

async function reached(answer) {
  try {
    return await answer;
  } catch {
    throw new Refused(0, "The provider cannot be reached right now.");
  }
}

async function answered(answer) {
  let body = {};
  try {
    body = await answer.json();
  } catch {
    if (answer.ok) throw new Refused(answer.status, "The provider's answer cannot be read.");
  }
  if (!answer.ok) throw new Refused(answer.status, body.why ?? `The provider answers with ${answer.status}.`);
  return body;
}

/** Shows words above the page's content; null takes them away. `kind`: "bad", "wait" or "good". */
export function say(words, kind = "bad") {
  const box = find("says");
  box.className = words ? `says ${kind}` : "says";
  box.textContent = words ?? "";
  box.hidden = !words;
}

export function sayError(error) {
  say(error instanceof Refused ? error.message : "This page has a fault: see the browser's console.");
  if (!(error instanceof Refused)) console.error(error);
  document.body.classList.toggle("logged-out", error.status === 401);
}

/**
 * A socket of the API that comes back after a cut. `address()` gives path and query at each try; `message(data)` takes text messages
 * as objects and binary ones as ArrayBuffer. Ends by itself when the other side is done or the login is over. Returns how to end it.
 */
export function live(address, message) {
  let socket = null;
  let timer = 0;
  let pause = FIRST_PAUSE_MS;
  let over = false;

  function connect() {
    const url = new URL(address(), location.href);
    url.protocol = url.protocol === "https:" ? "wss:" : "ws:";
    socket = new WebSocket(url);
    socket.binaryType = "arraybuffer";
    socket.onmessage = ({ data }) => {
      pause = FIRST_PAUSE_MS;
      const told = typeof data === "string" ? JSON.parse(data) : data;
      if (told.error) {
        over = true;
        say(told.error);
      } else {
        message(told);
      }
    };
    socket.onopen = () => say(null);
    socket.onclose = (event) => {
      if (over || event.code === 1000) return;
      if (event.code === LOGGED_OUT) lost(new Refused(401, LOG_IN));
      else check();
    };
  }

  // A refused handshake tells a page nothing; a plain call tells why.
  async function check() {
    try {
      await get("utilization");
    } catch (error) {
      if (error.status === 401) {
        lost(error);
        return;
      }
    }
    if (over) return;
    say("The connection to the provider was cut. Trying again…", "wait");
    timer = setTimeout(connect, pause);
    pause = Math.min(pause * 2, LONGEST_PAUSE_MS);
  }

  function lost(error) {
    over = true;
    sayError(error);
  }

  connect();
  return () => {
    over = true;
    clearTimeout(timer);
    socket.close();
  };
}

const LOG_IN = "You are logged out. Run serai console on the provider's machine and open the address that it prints.";

/** The head of an operator's page: where one is, the other pages, logging out. */
export async function head(here) {
  const site = await get("site");
  document.title = `${here} · ${site.title}`;
  const link = (href, words) => make("a", { href, "aria-current": words === here ? "page" : null }, words);
  const out = make("button", { type: "button", class: "plain", id: "logout", onclick: logOut }, "Log out");
  find("head").append(make("strong", {}, site.title), make("nav", {}, link("/console/", "Jobs"), link("/console/sessions", "Sessions")), out);
  return site;
}

async function logOut() {
  try {
    await post("logout");
    sayError(new Refused(401, LOG_IN));
  } catch (error) {
    sayError(error);
  }
}

/** Opens a session at a job and shows it in a window of its own. */
export async function openSession(job, rank, kind) {
  // Opened before the call, while the browser still knows that a person has clicked.
  const place = `/console/session?${new URLSearchParams({ job, rank })}`;
  const view = window.open(kind === "WEB" ? "about:blank" : place, "_blank");
  try {
    const opened = await post("open", { job, rank, kind });
    const to = opened.address ?? `${place}#${fragment(kind, opened)}`;
    // The page is a user's program: it must not be able to send this window elsewhere.
    if (view) view.opener = null;
    if (view) view.location.replace(to);
    else location.assign(to);
    say(null);
  } catch (error) {
    view?.close();
    sayError(error);
  }
}

function fragment(kind, { secret, password }) {
  return `${kind.toLowerCase()}:${secret}${password === null ? "" : `:${encodeURIComponent(password)}`}`;
}
