// When each replica ran, as a picture: one bar for each, from the job's creation to its end or to now.

import { draw } from "./page.js";
import { clock, span } from "./words.js";

const MOST_BARS = 32;
const LEFT = 52;
const BAR = 16;
const GAP = 6;
const FOOT = 22;
const ENDED_WELL = new Set(["exited", "canceled"]);

/** The picture of a job; `now_ms` by the server's clock, `width` in pixels. */
export function picture(job, now_ms, width) {
  const from = job.created_at_ms;
  const to = Math.max(job.ended_at_ms ?? now_ms, from + 1_000);
  const x = (ms) => LEFT + ((Math.min(Math.max(ms, from), to) - from) / (to - from)) * (width - LEFT - 1);
  const ranks = job.ranks.slice(0, MOST_BARS);
  const height = Math.max(ranks.length, 1) * (BAR + GAP) + FOOT;
  const words = `${ranks.length ? "When each replica ran" : "Nothing has run yet"}; ${span(to - from)} in all`;
  return draw(
    "svg",
    { width, height, role: "img", "aria-label": words, class: "picture" },
    draw("title", {}, words),
    ranks.map((replica, index) => bar(replica, index * (BAR + GAP), x, to, job)),
    axis(from, to, x, height, width),
  );
}

function bar(replica, y, x, to, job) {
  const began = replica.started_at_ms;
  const ended = replica.ended_at_ms ?? to;
  const good = replica.ended_at_ms === null || (ENDED_WELL.has(replica.phase) && !replica.exit_code);
  const kind = replica.ended_at_ms === null ? (job.state === "SUSPENDED" ? "suspended" : "runs") : good ? "done" : "failed";
  return draw(
    "g",
    {},
    draw("text", { x: 0, y: y + BAR - 3 }, `rank ${replica.rank}`),
    draw("rect", { x: x(job.created_at_ms), y: y + BAR / 2 - 1, width: Math.max(x(began ?? ended) - LEFT, 0), height: 2, class: "waited" }),
    began === null ? null : draw("rect", { x: x(began), y, width: Math.max(x(ended) - x(began), 2), height: BAR, rx: 3, class: kind }),
  );
}

function axis(from, to, x, height, width) {
  const at = (ms, anchor) => draw("text", { x: x(ms), y: height - 5, "text-anchor": anchor, class: "axis" }, clock(ms));
  const line = draw("line", { x1: LEFT, x2: width, y1: height - FOOT + 2, y2: height - FOOT + 2, class: "axis" });
  return draw("g", {}, line, at(from, "start"), at((from + to) / 2, "middle"), at(to, "end"));
}
