// One job: what it is, what it used, its replicas with ways in, its output.

import { find, head, live, make, openSession, say, sayError } from "./page.js";
import { Output } from "./output.js";
import { picture } from "./picture.js";
import { plural, ran, span, stateWords, statusWords, when } from "./words.js";

const MOST_AT_ONCE = 16; // ranks whose output is shown together
const id = new URLSearchParams(location.search).get("id") ?? "";
let site = null;
let job = null;
let told_ms = 0;
let output = null;

function show(told) {
  job = told.job;
  told_ms = Date.now();
  document.title = `${job.name ?? job.id} · ${stateWords(job)}`;
  find("title").replaceChildren(
    job.name === null ? `Job ${job.id}` : `${job.name} · job ${job.id}`,
    " ",
    make("span", { class: `state ${job.state}` }, stateWords(job)),
  );
  find("status").textContent = statusWords(job);
  showUsage();
  showRanks();
  showFacts();
  if (output === null) startOutput();
}

const nowMs = () => job.now_ms + (Date.now() - told_ms);

function showUsage() {
  const periods = job.charged_periods ? `${plural(job.charged_periods, "period")} billed for each replica` : "nothing billed yet";
  const card = (id, title, words, more) =>
    make("div", { class: "card", id }, make("h2", {}, title), make("p", { class: "big" }, words), make("p", {}, more));
  find("numbers").replaceChildren(
    card("ran", "Ran", job.started_at_ms === null ? "not yet" : span(ran(job, told_ms)), limitWords()),
    card("billed", "Usage", periods, job.product),
    card("replicas", "Replicas", phases(), waitedWords()),
  );
  find("picture").replaceChildren(picture(job, nowMs(), find("picture").clientWidth));
}

const limitWords = () => (job.time_limit_ms === null ? "no time limit" : `of at most ${span(job.time_limit_ms)}`);

function phases() {
  if (!job.ranks.length) return plural(job.replicas, "replica");
  const counts = new Map();
  for (const { phase } of job.ranks) counts.set(phase, (counts.get(phase) ?? 0) + 1);
  return [...counts].map(([phase, count]) => `${count} ${phase}`).join(", ");
}

function waitedWords() {
  const until = job.started_at_ms ?? job.ended_at_ms;
  return until === null ? `waits for ${span(nowMs() - job.created_at_ms)}` : `waited ${span(until - job.created_at_ms)} before`;
}

function showRanks() {
  find("ranks").hidden = job.ranks.length === 0;
  const focused = document.activeElement?.dataset?.open;
  find("rows").replaceChildren(...job.ranks.map(row));
  if (focused) find("rows").querySelector(`[data-open="${focused}"]`)?.focus();
}

function row(replica) {
  const cell = (label, content) => make("td", { "data-label": label }, content);
  return make(
    "tr",
    {},
    make("th", { scope: "row", "data-label": "Rank" }, String(replica.rank)),
    cell("Phase", replica.phase),
    cell("Ended with", endWords(replica)),
    cell("Node", replica.node ?? ""),
    cell("Started", when(replica.started_at_ms)),
    cell("Ended", when(replica.ended_at_ms)),
    make("td", { class: "words", "data-label": "Cause" }, replica.cause ?? ""),
    make("td", { class: "ways" }, ways(replica)),
  );
}

function endWords(replica) {
  if (replica.signal !== null) return make("span", { class: "bad" }, `signal ${replica.signal}`);
  if (replica.exit_code === null) return "";
  return make("span", { class: replica.exit_code ? "bad" : "" }, `exit code ${replica.exit_code}`);
}

/** Buttons, while there is something to reach. */
function ways(replica) {
  if (job.state !== "RUNNING" || replica.ended_at_ms !== null || replica.phase !== "running") return [];
  const way = (kind, words, missing) =>
    make(
      "button",
      {
        type: "button",
        "data-open": `${kind}-${replica.rank}`,
        disabled: missing !== "",
        title: missing || null,
        onclick: () => openSession(job.id, replica.rank, kind),
      },
      words,
    );
  const absent = "This part was not brought when Serai was set up";
  return [
    way("SHELL", "Terminal", site.terminal ? "" : absent),
    way("VNC", "Desktop", site.desktop ? "" : absent),
    site.web ? way("WEB", "Web page", "") : null,
  ];
}

function showFacts() {
  const lines = [
    ["job", job.id],
    ["state", stateWords(job)],
    ["status", job.status],
    ["name", job.name],
    ["owner", job.owner],
    ["project", job.project],
    ["application", job.application],
    ["product", job.product],
    ["licenses", job.licenses.map(licenseWords).join("; ")],
    ["replicas", String(job.replicas)],
    ["created", when(job.created_at_ms)],
    ["started", when(job.started_at_ms)],
    ["ended", when(job.ended_at_ms)],
    ["time limit", job.time_limit_ms === null ? "" : span(job.time_limit_ms)],
    ["labels", Object.entries(job.labels).map(([key, value]) => `${key}=${value}`).join(", ")],
    ["output", job.output_folder],
    ["not yet told to Core", job.undelivered_events ? plural(job.undelivered_events, "event") : ""],
  ];
  find("facts").replaceChildren(...lines.filter(([, value]) => value).flatMap(([key, value]) => [make("dt", {}, key), make("dd", {}, value)]));
}

function licenseWords({ id: license, product, seats, held_at_ms }) {
  return `${license} of ${product}, ${held_at_ms === null ? "waits for" : "holds"} ${plural(seats, "seat")}`;
}

function startOutput() {
  const choice = find("rank");
  for (let rank = 0; rank < job.replicas; rank += 1) choice.append(make("option", { value: String(rank) }, String(rank)));
  if (job.replicas > MOST_AT_ONCE) choice.firstElementChild.remove();
  choice.closest("label").hidden = job.replicas === 1;
  follow();
}

function follow() {
  output?.close();
  const rank = find("rank").value;
  const ranks = rank === "" ? [] : [Number(rank)];
  output = new Output(find("output"), id, ranks, job.replicas > 1 && rank === "", (words) => (find("about").textContent = words));
}

find("rank").addEventListener("change", follow);
find("stream").addEventListener("change", ({ target }) => (find("output").dataset.only = target.value));

window.addEventListener("resize", () => job && showUsage());
setInterval(() => {
  if (job !== null && job.ended_at_ms === null) showUsage();
}, 1000);

async function start() {
  site = await head("Job");
  if (!id) {
    say("No job is named in this page's address. Choose one on the page Jobs.");
    return;
  }
  live(() => `/console/live/job?${new URLSearchParams({ id })}`, show);
}

start().catch(sayError);
