// How times, sizes and states are said; the same words as `serai jobs`.

/** "4.2 s", "3 min 05 s", "2 h 10 min"; of milliseconds. */
export function span(ms) {
  const seconds = Math.max(ms, 0) / 1000;
  if (seconds < 60) return `${(Math.floor(seconds * 10) / 10).toFixed(1)} s`;
  const minutes = Math.floor(seconds / 60);
  if (minutes < 60) return `${minutes} min ${two(Math.floor(seconds) % 60)} s`;
  return `${Math.floor(minutes / 60)} h ${two(minutes % 60)} min`;
}

/** Local time to the second; null = "". */
export function when(ms) {
  if (ms === null) return "";
  const at = new Date(ms);
  return `${at.getFullYear()}-${two(at.getMonth() + 1)}-${two(at.getDate())} ${clock(ms)}`;
}

/** The time of day. */
export function clock(ms) {
  const at = new Date(ms);
  return `${two(at.getHours())}:${two(at.getMinutes())}:${two(at.getSeconds())}`;
}

/** "1.5 GiB". */
export function bytes(count) {
  const units = ["B", "KiB", "MiB", "GiB", "TiB", "PiB"];
  let unit = 0;
  while (count >= 1024 && unit < units.length - 1) {
    count /= 1024;
    unit += 1;
  }
  return `${trim(count)} ${units[unit]}`;
}

/** At most one digit behind the point. */
export const trim = (number) => String(Math.round(number * 10) / 10);

export const plural = (count, word) => `${count} ${word}${count === 1 ? "" : "s"}`;

const two = (number) => String(number).padStart(2, "0");

/** A job's state as it is shown. */
export const stateWords = (job) => (job.stopping && job.state !== "CANCELING" && !job.final ? `${job.state} (stopping)` : job.state);

/** How long a job has run; `told_ms`: the browser's clock when `job` came, so that the two clocks are not compared. */
export function ran(job, told_ms) {
  const goesOn = job.running_since_ms === null ? 0 : Math.max(job.now_ms - job.running_since_ms, 0) + (Date.now() - told_ms);
  return job.ran_ms + goesOn;
}

/** The whole status words, or why nothing is said. */
export const statusWords = (job) => job.status || (job.final ? "" : "nothing said yet");
