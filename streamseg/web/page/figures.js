// Writes the figures beside the image.

const $ = (id) => document.getElementById(id);

/** Write a figure and its unit if it has changed. */
function put(id, value, unit = "") {
  const node = $(id);
  const whole = `${value}|${unit}`;
  if (node.dataset.text === whole) return;
  node.dataset.text = whole;
  node.replaceChildren(`${value}`);
  if (unit) node.append(Object.assign(document.createElement("small"), { textContent: ` ${unit}` }));
}

/** Show the age of the frame, milliseconds, or null. */
export function showAge(age) {
  if (age === null) put("age", "-");
  else if (age > 1000) put("age", (age / 1000).toFixed(1), "s");
  else put("age", age.toFixed(0), "ms");
}

/** Show the uncertainty of the server's clock, milliseconds, or null without a link. */
export function showLink(error) {
  if (error === null) put("link", "-");
  else put("link", `± ${error.toFixed(1)}`, "ms");
}

/**
 * Show the figures of a view; `current` is true while its segmentation may be shown; `live` is the newest; `vessels` is
 * true while those are shown.
 */
export function showView(view, { current, ages, scale, live, vessels }) {
  const { figures, spacing, size } = view;
  put("fps", rate(figures.processed_fps), `of ${rate(figures.offered_fps)} fps`);
  putArea("area", current ? view : null);
  const vessel = current ? view.vessel : null;
  if (!vessels) {
    put("vessel-area", "off");
    put("distance", "off");
  } else {
    putArea("vessel-area", vessel);
    if (!spacing) put("distance", "unknown");
    else if (vessel?.distance_mm === null || !vessel) put("distance", "-");
    else put("distance", vessel.distance_mm.toFixed(1), "mm");
  }
  const known = current && view.confidence !== null && view.confidence !== undefined;
  if (known && view.state !== "unlike the training data") put("confidence", (100 * view.confidence).toFixed(0), "%");
  else put("confidence", "-");
  if (spacing && size) put("depth", (spacing[0] * size[1]).toFixed(0), "mm");
  else put("depth", "unknown");
  $("scale").hidden = !spacing;
  if (spacing) $("bar").style.width = `${10 / spacing[1] * scale}px`;
  showStages([["age at display", percentiles(ages)], ["age, server", figures.age], ...Object.entries(figures.stages)]);
  showCounts(live.figures);
}

/** Show an area in mm², in pixels without a scale, or that there is none. */
function putArea(id, found) {
  if (!found?.area_px) put(id, "-");
  else if (found.area_mm2 === null) put(id, found.area_px, "px");
  else put(id, found.area_mm2.toFixed(1), "mm²");
}

/** Show a sample of an outline's line in the legend; null hides it. */
export function showSample(id, line) {
  $(id).toggleAttribute("hidden", line === null);
  if (line === null) return;
  const path = $(id).firstElementChild;
  path.style.stroke = line.colour;
  const [period, share] = [2 * line.period, line.share];
  path.style.strokeDasharray = period ? `${share * period - 1} ${(1 - share) * period + 1}` : "none";
}

/** What the status says after "recording", such as "0:12"; null unless a recording runs (see core/view.py). */
export function recordedTime(figures) {
  return figures.recording?.match(/^recording\s*(\d.*)?$/)?.map((part) => part ?? "")[1] ?? null;
}

const rate = (fps) => (fps === null ? "-" : fps.toFixed(1));

function showStages(rows) {
  $("stages").replaceChildren(...rows.filter(([, times]) => times).map(([name, times]) => {
    const row = document.createElement("tr");
    for (const cell of [name, ...times.slice(0, 3).map((ms) => (ms === null ? "-" : ms.toFixed(1)))]) {
      row.append(Object.assign(document.createElement("td"), { textContent: cell }));
    }
    return row;
  }));
}

function showCounts(figures) {
  const time = recordedTime(figures);
  const recording = time !== null;
  $("record").setAttribute("aria-pressed", recording);
  const clock = figures.clock === "driver" ? "the grabber's time stamp" : "arrival";
  const words = [
    `${figures.processed} of ${figures.offered} frames`, `dropped ${figures.dropped}`,
    `reconnects ${figures.reconnects}`, `age measured from ${clock}`,
  ];
  if (figures.recording) words.push(recording ? `● RECORDING ${time}`.trim() : figures.recording);
  put("counts", words.join(" · "));
}

function percentiles(values) {
  if (!values.length) return null;
  const sorted = [...values].sort((a, b) => a - b);
  return [0.5, 0.95, 0.99].map((part) => sorted[Math.round(part * (sorted.length - 1))]);
}
