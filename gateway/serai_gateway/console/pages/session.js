// One terminal or desktop, for whoever holds its secret: `#shell:{secret}` or `#vnc:{secret}[:{password}]`. A browser keeps the part of an
// address behind the # to itself, so the secret stands in no log.

import { find, get, say, sayError } from "./page.js";

const SECRET = /^(shell|vnc):([A-Za-z0-9_-]{16,128})(?::([^:]*))?$/;
let running = false;

async function start() {
  const found = SECRET.exec(location.hash.slice(1));
  if (running || !found) {
    if (running) return;
    // The console's own window is here before its session is, and its address names the job.
    const comes = !location.hash && new URLSearchParams(location.search).has("job");
    find("state").textContent = comes ? "Opening…" : "";
    if (!comes) say("This address holds no session. Open the terminal or the desktop in UCloud again.");
    return;
  }
  running = true;
  say(null);
  const [, kind, secret, password] = found;
  const site = await get("site");
  const query = new URLSearchParams(location.search);
  const place = query.get("job") ? ` · job ${query.get("job")}, rank ${query.get("rank") ?? "0"}` : "";
  const name = kind === "shell" ? "Terminal" : "Desktop";
  find("what").textContent = name + place;
  document.title = name + place;
  if (!(kind === "shell" ? site.terminal : site.desktop)) {
    find("state").textContent = "";
    say(`The ${name.toLowerCase()} is missing here: it was not brought when Serai was set up (tools/vendor.py brings it).`);
    return;
  }
  const view = { box: find("view"), tools: find("tools"), state: (words) => (find("state").textContent = words), provider: site.provider };
  if (kind === "shell") {
    const { showTerminal } = await import("./terminal.js");
    showTerminal(view, secret);
  } else {
    const { showDesktop } = await import("./desktop.js");
    showDesktop(view, secret, password === undefined ? null : decodeURIComponent(password));
  }
}

// Another address in the same window is another session.
window.addEventListener("hashchange", () => (running ? location.reload() : start().catch(sayError)));
start().catch(sayError);
