/**
 * A page that lists jobs, submits one, watches it and shows what it writes as it comes: over gRPC-Web, from an origin of its own.
 *
 * It keeps the token in memory only: it is gone with the page.
 */

import { connect, exitCode, explain, isFinal, OutputStream, stateName, type JobReport, type Serai } from "@serai/client/web";

const MOST_JOBS = 50;

const byId = <T extends HTMLElement>(id: string): T => document.getElementById(id) as T;
const main = document.querySelector("main")!;
const errorLine = byId("error");

let serai: Serai | undefined;
/** The job that is shown: aborted when another one is. */
let shown = new AbortController();

byId<HTMLFormElement>("connect").addEventListener("submit", (event) =>
  act(event, async () => {
    const form = new FormData(event.currentTarget as HTMLFormElement);
    shown.abort();
    serai?.close();
    main.hidden = true;
    serai = connect(text(form, "address"), { token: text(form, "token") });
    await list(serai);
    main.hidden = false;
  }),
);

byId<HTMLFormElement>("submit").addEventListener("submit", (event) =>
  act(event, async () => {
    const line = text(new FormData(event.currentTarget as HTMLFormElement), "line");
    const { jobId } = await serai!.jobs.submit({ owner: "tools", command: ["sh", "-c", line] });
    await list(serai!);
    show(serai!, jobId);
  }),
);

/** Does it, and says what went wrong. */
async function act(event: Event, action: () => Promise<void>): Promise<void> {
  event.preventDefault();
  tell("");
  try {
    await action();
  } catch (error) {
    tell(explain(error));
  }
}

function tell(words: string): void {
  errorLine.textContent = words;
  errorLine.hidden = words === "";
}

async function list(from: Serai): Promise<void> {
  const { jobs } = await from.jobs.list({ pageSize: MOST_JOBS });
  byId("jobs").replaceChildren(...jobs.map((job) => row(from, job)));
}

function row(from: Serai, job: JobReport): HTMLTableRowElement {
  const made = document.createElement("tr");
  made.dataset["job"] = job.id;
  for (const words of [job.id, stateName(job.state), job.owner]) made.insertCell().textContent = words;
  const button = document.createElement("button");
  button.textContent = "Show";
  button.addEventListener("click", () => show(from, job.id));
  made.insertCell().append(button);
  return made;
}

/** Shows the job in place of the one before, until it is over. */
function show(from: Serai, jobId: string): void {
  shown.abort();
  shown = new AbortController();
  const { signal } = shown;
  byId("job").hidden = false;
  byId("name").textContent = jobId;
  byId("state").textContent = "";
  byId("log").replaceChildren();
  byId("stop").onclick = (event) => act(event, () => from.stop(jobId, { signal }));
  const failed = (error: unknown) => signal.aborted || tell(explain(error));
  watch(from, jobId, signal).catch(failed);
  follow(from, jobId, signal).catch(failed);
}

async function watch(from: Serai, jobId: string, signal: AbortSignal): Promise<void> {
  for await (const report of from.watch(jobId, { signal })) {
    const state = stateName(report.state);
    byId("state").textContent = isFinal(report.state) ? `${state}, exit code ${exitCode(report)}` : state;
    const cell = document.querySelector<HTMLElement>(`[data-job="${CSS.escape(jobId)}"] td:nth-child(2)`);
    if (cell) cell.textContent = state;
  }
}

async function follow(from: Serai, jobId: string, signal: AbortSignal): Promise<void> {
  // A character may come in two pieces, and those of one stream have pieces of another between them.
  const decoders = new Map<string, TextDecoder>();
  for await (const { rank, stream, data } of from.follow(jobId, { signal })) {
    const key = `${rank}/${stream}`;
    const decoder = decoders.get(key) ?? new TextDecoder();
    decoders.set(key, decoder);
    const piece = document.createElement("span");
    piece.className = stream === OutputStream.STDERR ? "stderr" : "stdout";
    piece.textContent = decoder.decode(data, { stream: true });
    byId("log").append(piece);
  }
}

function text(form: FormData, name: string): string {
  return String(form.get(name) ?? "").trim();
}
