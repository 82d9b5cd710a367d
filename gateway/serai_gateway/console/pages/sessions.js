// Who is at which job, and a way to end that.

import { find, get, head, make, post, say, sayError } from "./page.js";
import { when } from "./words.js";

const KINDS = { SHELL: "terminal", WEB: "web page", VNC: "desktop", CONSOLE: "console" };

async function look() {
  try {
    const sessions = await get("sessions");
    find("rows").replaceChildren(...sessions.map(row));
    find("table").hidden = sessions.length === 0;
    find("empty").textContent = sessions.length ? "" : "Nobody is at a job now.";
    say(null);
  } catch (error) {
    find("empty").textContent = "";
    sayError(error);
  }
}

function row(session) {
  const cell = (label, content) => make("td", { "data-label": label }, content);
  const link = session.job ? make("a", { href: `/console/job?${new URLSearchParams({ id: session.job })}` }, session.job) : "";
  return make(
    "tr",
    {},
    make("th", { scope: "row" }, session.id),
    cell("Kind", KINDS[session.kind] ?? session.kind),
    cell("Job", link),
    cell("Rank", session.job ? String(session.rank) : ""),
    cell("User", session.user || "operator"),
    cell("Opened", when(session.opened_at_ms)),
    cell("Until", session.expires_at_ms ? when(session.expires_at_ms) : "its program ends"),
    cell("Connected", session.kind === "SHELL" ? (session.attached ? "yes" : "no") : ""),
    make("td", {}, make("button", { type: "button", "data-close": session.id, onclick: () => close(session) }, "End")),
  );
}

async function close(session) {
  try {
    await post("close", { session: session.id });
    await look();
  } catch (error) {
    sayError(error);
  }
}

find("again").addEventListener("click", look);
head("Sessions").then(look, sayError);
