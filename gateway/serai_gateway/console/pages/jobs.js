// The list of jobs, newest first: the first page as it changes, older ones when asked for.

import { find, get, head, live, make, say, sayError } from "./page.js";
import { bytes, plural, ran, span, stateWords, statusWords, trim, when } from "./words.js";

let stop = () => {};
let newest = [];
let older = [];
let next = null;
let told_ms = Date.now();

function asked() {
  const query = new URLSearchParams();
  const state = find("state").value;
  if (state === "active") query.set("active", "1");
  else if (state) query.set("state", state);
  const owner = find("owner").value.trim();
  if (owner) query.set("owner", owner);
  return query;
}

function follow() {
  stop();
  newest = older = [];
  next = null;
  find("rows").replaceChildren();
  find("empty").textContent = "Loading…";
  stop = live(() => `/console/live/jobs?${asked()}`, show);
}

function show({ jobs, utilization }) {
  told_ms = Date.now();
  newest = jobs.jobs;
  if (older.length === 0) next = jobs.next;
  showUtilization(utilization);
  showRows();
}

function showRows() {
  const ids = new Set(newest.map((job) => job.id));
  const all = [...newest, ...older.filter((job) => !ids.has(job.id))];
  const focused = document.activeElement?.getAttribute?.("href");
  find("rows").replaceChildren(...all.map(row));
  if (focused) find("rows").querySelector(`a[href="${CSS.escape(focused)}"]`)?.focus();
  find("table").hidden = all.length === 0;
  find("empty").textContent = all.length ? "" : asked().size ? "No job is like that." : "No jobs yet. UCloud sends them here when users start them.";
  find("more").hidden = next === null;
}

function row(job) {
  const cell = (label, ...content) => make("td", { "data-label": label }, ...content);
  const name = job.name ? make("span", { class: "name" }, job.name) : null;
  return make(
    "tr",
    {},
    make("th", { scope: "row" }, make("a", { href: `/console/job?${new URLSearchParams({ id: job.id })}` }, job.id), name),
    cell("State", make("span", { class: `state ${job.state}` }, stateWords(job))),
    cell("Owner", job.owner),
    cell("Application", job.application),
    cell("Replicas", String(job.replicas)),
    cell("Created", when(job.created_at_ms)),
    cell("Ran", make("span", { "data-job": job.id }, job.started_at_ms === null ? "" : span(ran(job, told_ms)))),
    make("td", { class: "words", "data-label": "Status" }, statusWords(job)),
  );
}

function showUtilization(now) {
  find("site").replaceChildren(
    meter("Processors", now.used_cpu, now.cpu, `${trim(now.used_cpu)} of ${trim(now.cpu)} in use`),
    meter("Memory", now.used_memory_bytes, now.memory_bytes, `${bytes(now.used_memory_bytes)} of ${bytes(now.memory_bytes)} in use`),
    make("div", { class: "card" }, make("h2", {}, "Jobs"), make("p", { class: "big" }, `${now.running} running, ${now.waiting} waiting`)),
  );
}

function meter(title, used, all, words) {
  const bar = make("progress", { max: String(all || 1), value: String(Math.min(used, all)), "aria-label": title });
  return make("div", { class: "card" }, make("h2", {}, title), bar, make("p", {}, words));
}

async function more() {
  try {
    const page = await get("jobs", [...asked(), ["page", next]]);
    older = [...older, ...page.jobs];
    next = page.next;
    showRows();
    say(`${plural(page.jobs.length, "older job")} shown below.`, "good");
  } catch (error) {
    sayError(error);
  }
}

// The time that a running job has run goes on without the server.
setInterval(() => {
  for (const job of newest) {
    if (job.running_since_ms === null) continue;
    const shown = find("rows").querySelector(`[data-job="${CSS.escape(job.id)}"]`);
    if (shown) shown.textContent = span(ran(job, told_ms));
  }
}, 1000);

let typing = 0;
find("filter").addEventListener("submit", (event) => event.preventDefault());
find("state").addEventListener("change", follow);
find("owner").addEventListener("input", () => {
  clearTimeout(typing);
  typing = setTimeout(follow, 400);
});
find("more").addEventListener("click", more);

head("Jobs").then(follow, sayError);
