// The page: receives views from the link, decides at every moment what may be shown, and shows it.

import { keepAwake } from "./awake.js";
import { Chart } from "./chart.js";
import { recordedTime, showAge, showLink, showSample, showView } from "./figures.js";
import { Link, SILENCE_MS } from "./link.js";
import { fit, paint, snapshot } from "./picture.js";
import { fitWords, look } from "./states.js";

const $ = (id) => document.getElementById(id);
/** Hiding the outline reaches the screen up to one refresh later, so it starts that much earlier. */
const REFRESH_MS = 17;
/** The program counts as hanging if it has sent nothing new for this long while the server is alive. */
const HANGS_MS = 2000;
/** Steps of the browser's clock from which on they are worth a word. */
const COARSE_MS = 5;
const ENDED = "source ended";
const EVENTS = 300;

const held = { number: 0, bitmap: null }; // the newest image received
const kept = { view: null, bitmap: null, deadline: -Infinity, tooLate: false, age: null, end: null }; // what is on the canvas
const ui = {
  overlay: true, vessels: true, opacity: 0.25, // chosen by the user
  frozen: null, live: null, // when it was frozen, and the view that would be shown
  signs: {}, lines: {}, late: "", greeted: false, // from the server
  knowsVessels: false, // true once an engine has shown that it outlines vessels
  outlined: false, state: "", scale: 1, // what is shown
};
const ages = [];
const context = $("picture").getContext("2d", { alpha: false });
const chart = new Chart($("chart"), $("legend"));

/** Log for tests and troubleshooting; times are those of performance.now(). */
const events = [];
function note(what, more = {}) {
  events.push({ at: performance.now(), what, ...more });
  if (events.length > EVENTS) events.shift();
}

const link = new Link({
  hello(values) {
    [ui.signs, ui.lines, ui.late] = [values.signs, values.lines, values.late];
    if (!ui.greeted) { // later ones must not undo the user's choice
      fill(100 * values.opacity);
      if (!values.vessels) controls.vessels();
    }
    ui.greeted = true;
    $("record").hidden = !values.record;
    $("disclaimer").textContent = values.disclaimer;
    $("source").textContent = $("source").title = values.title;
    document.title = values.title;
    note("hello");
  },
  end(state) { kept.end = { state, at: performance.now() }; note("end", { state }); },
  view: (values, jpeg) => { take(values, jpeg).catch(() => ack(values, null)); },
  closed(reason) { note("closed", { reason }); refresh(); },
});
window.streamseg = { events, link, ui, kept, ages };

async function take(view, jpeg) {
  // A source may end while its program goes on; its end is known from the first such view on.
  if (view.state !== ENDED) kept.end = null;
  else if (kept.end?.state !== ENDED) kept.end = { state: ENDED, at: performance.now() };
  const socket = link.socket;
  // Whatever the clocks say, the remaining life cannot be longer than it was at sending.
  const arrived = performance.now();
  if (jpeg.byteLength) {
    const bitmap = await createImageBitmap(new Blob([jpeg], { type: "image/jpeg" }));
    // The connection ended meanwhile: its image numbers are void, and nobody waits for an answer.
    if (socket !== link.socket) { bitmap.close(); return; }
    const old = held.bitmap;
    [held.number, held.bitmap] = [view.picture, bitmap];
    if (old && old !== kept.bitmap) old.close();
  }
  let age = null;
  if (ui.frozen === null) {
    const matches = view.picture !== 0 && view.picture === held.number;
    age = change(view, matches ? held.bitmap : null, arrived);
  } else {
    ui.live = view;
  }
  ack(view, age);
}

/** Put a view on the canvas; returns the age at which a new segmented frame was drawn, or null. */
function change(view, bitmap, arrived) {
  if (kept.bitmap && kept.bitmap !== bitmap && kept.bitmap !== held.bitmap) kept.bitmap.close();
  const fresh = view.frame !== undefined && view.captured !== kept.view?.captured;
  [kept.view, kept.bitmap] = [view, bitmap];
  kept.deadline = bitmap && view.outline && link.clock.known
    ? Math.min(link.clock.after(arrived, view.life), link.clock.earliest(view.expires)) - REFRESH_MS
    : -Infinity;
  kept.tooLate = kept.deadline <= arrived;
  refresh();
  draw();
  if (!fresh || !bitmap || !link.clock.known) return null;
  const now = performance.now();
  kept.age = Math.max(link.clock.server(now) - view.captured, view.age); // no younger than when it was sent
  // Frames without a segmentation are younger: counting them would hide a slow engine.
  const age = view.found === undefined ? null : kept.age;
  if (age !== null) ages.push(age);
  if (ages.length > 300) ages.shift();
  const stages = Object.entries(view.figures.stages).map(([name, times]) => [name, times[0] ?? 0]);
  chart.add(now, age, Object.fromEntries(stages));
  return age;
}

function ack(view, age) { link.send({ ack: view.view, age, at: performance.now() }); }

/** True while the outline of the view on the canvas may be shown. */
function mayOutline(now) {
  return now < kept.deadline && link.alive(now) && link.clock.known && !document.hidden;
}

function draw() {
  const now = performance.now();
  const { view, bitmap } = kept;
  const outlined = ui.overlay && mayOutline(now);
  if (bitmap) ui.scale = fit($("picture"), room(), view.size);
  paint(context, context.canvas.width, context.canvas.height, shown(outlined));
  legend();
  if (outlined !== ui.outlined) note(outlined ? "outline shown" : "outline hidden", { view: view?.view });
  ui.outlined = outlined;
  document.body.dataset.outline = outlined ? "shown" : "hidden";
}

function shown(outlined) {
  const { view, bitmap } = kept;
  const outlines = [];
  if (outlined && ui.vessels && view.vessel) {
    outlines.push({ polygons: view.vessel.outline, line: ui.lines.vessel, fill: 0 });
  }
  const line = ui.lines[view?.found];
  if (outlined && line) {
    outlines.push({ polygons: view.outline, line, fill: ui.opacity * (line.period ? 0.5 : 1) });
  }
  return { bitmap, size: view?.size, outlines };
}

/** Say which outline is which, once the engine has shown that it outlines both. */
function legend() {
  const { view } = kept;
  if (view?.found !== undefined) ui.knowsVessels = view.vessel !== undefined;
  for (const node of document.querySelectorAll(".vessels")) node.hidden = !ui.knowsVessels;
  const { lines } = ui;
  showSample("nerve-line", ui.knowsVessels && ui.overlay ? lines[view?.found] ?? lines.nerve ?? null : null);
  showSample("vessel-line", ui.overlay && ui.vessels ? lines.vessel ?? null : null);
}

function room() {
  const side = getComputedStyle($("stage"));
  const stacked = getComputedStyle($("state")).order !== "0";
  const width = $("stage").clientWidth - parseFloat(side.paddingLeft) * 2 - 20;
  const height = stacked ? window.innerHeight * 0.6 : $("stage").clientHeight - 20 - 20 - 34;
  return { width: Math.max(16, width), height: Math.max(16, height) };
}

/** What to show now: the state, its reason, and how the image is marked. */
function situation(now) {
  if (link.reconnects < 0 && !link.opened) return { state: "connecting", reason: link.why, old: true, dim: true };
  const { end } = kept;
  if (!link.alive(now) && end !== null) {
    const since = `ended ${ago(now - end.at)} ago`;
    if (end.state === ENDED) return { state: ENDED, reason: `the source ${since}`, old: true, dim: true };
    const reason = `the program ${since}${link.why && "; "}${link.why}`;
    return { state: "link lost", reason, old: true, dim: true };
  }
  if (!link.alive(now)) {
    const late = link.opened && now - link.arrived < SILENCE_MS && link.clock.known;
    const cause = late ? `messages arrive ${Math.round(link.silent(now))} ms late` : "no data from the server";
    return { state: "link lost", reason: link.why || cause, old: true, dim: true };
  }
  if (link.quiet > HANGS_MS) {
    const reason = `nothing new for ${(link.quiet / 1000).toFixed(0)} s`;
    return { state: "program hangs", reason, old: true, dim: true };
  }
  const { view } = kept;
  if (!view) return { state: "starting", reason: "no frame yet", old: false, dim: false };
  if (ui.frozen !== null) {
    const seconds = Math.floor((now - ui.frozen) / 1000);
    const reason = `for ${seconds} s; live now: ${(ui.live ?? view).state}`;
    return { state: "display frozen", reason, old: true, dim: false };
  }
  if (view.outline && kept.bitmap && now >= kept.deadline && view.state !== "source slow") {
    const step = link.clock.grain;
    const coarse = kept.tooLate && step > COARSE_MS && view.life > REFRESH_MS
      && `this browser's clock moves in steps of ${step.toFixed(0)} ms, too coarse to hide an outline in time`;
    const reason = link.clock.known ? coarse || ui.late : "synchronising clocks";
    return { state: "segmentation lagging", reason, old: false, dim: false };
  }
  if (view.state === ENDED && end !== null) {
    return { state: ENDED, reason: `${view.reason}, ${ago(now - end.at)} ago`, old: true, dim: true };
  }
  const lost = view.state === "source lost";
  return { state: view.state, reason: view.reason, old: lost || view.state === "scanner frozen", dim: lost };
}

/** A duration in words: "12 s", "3 min", "2 h". */
function ago(ms) {
  const seconds = Math.max(0, Math.floor(ms / 1000));
  if (seconds < 60) return `${seconds} s`;
  return seconds < 3600 ? `${Math.floor(seconds / 60)} min` : `${Math.floor(seconds / 3600)} h`;
}

/** Update the page if it has changed. */
function refresh() {
  const now = performance.now();
  const { state, reason, old, dim } = situation(now);
  if (state !== ui.state) {
    const { words, symbol, background, ink } = look(state, ui.signs);
    fitWords($("words"), words);
    $("symbol").innerHTML = symbol;
    document.documentElement.style.setProperty("--state", background);
    document.documentElement.style.setProperty("--state-ink", ink);
    document.body.dataset.state = state;
    note(`state ${state}`, { silent: link.silent(now), arrived: link.arrived });
    ui.state = state;
  }
  if ($("reason").textContent !== reason) $("reason").textContent = reason;
  $("frame").classList.toggle("old", old && kept.view !== null);
  $("frame").classList.toggle("dim", dim);
  $("mark").hidden = ui.overlay;
}

function tick() {
  const now = performance.now();
  link.clock.seen(now);
  link.watch(now);
  refresh();
  if (ui.outlined && !mayOutline(now)) draw();
}

// People read the figures: four updates a second are enough.
function figures() {
  const now = performance.now();
  const { view } = kept;
  const dated = link.clock.known && view && "captured" in view;
  const running = dated ? Math.max(link.clock.server(now) - view.captured, view.age) : null;
  showAge(running === null ? null : running > 1000 ? running : kept.age);
  showLink(link.alive(now) && link.clock.known ? link.clock.error : null);
  const current = ui.outlined || (now < kept.deadline && link.alive(now));
  if (view) showView(view, { current, ages, scale: ui.scale, live: ui.live ?? view, vessels: ui.vessels });
  chart.draw(now);
}

// Controls

const controls = {
  overlay() { ui.overlay = !ui.overlay; $("overlay").setAttribute("aria-pressed", ui.overlay); draw(); refresh(); },
  vessels() {
    ui.vessels = !ui.vessels;
    $("vessels").setAttribute("aria-pressed", ui.vessels);
    draw();
    refresh();
    figures();
  },
  freeze() {
    ui.frozen = ui.frozen === null ? performance.now() : null;
    ui.live = ui.frozen === null ? null : kept.view;
    $("freeze").setAttribute("aria-pressed", ui.frozen !== null);
    note(ui.frozen === null ? "live" : "frozen");
    refresh();
  },
  record() {
    if ($("record").hidden) return;
    // The wish, not a change: another page may have pressed a moment ago.
    const view = ui.live ?? kept.view;
    link.send({ command: "record", on: view === null || recordedTime(view.figures) === null });
  },
  async snapshot() {
    if (!kept.bitmap) return;
    const now = new Date();
    const local = new Date(now - now.getTimezoneOffset() * 60_000).toISOString();
    const stamp = local.slice(0, 19).replace(/[-:]/g, "").replace("T", "-");
    const age = kept.age === null ? "" : `, age at display ${kept.age.toFixed(0)} ms`;
    const hidden = ui.knowsVessels && !ui.vessels ? " (vessels off)" : "";
    const state = `${ui.state}${ui.overlay ? hidden : " (outline off)"}`;
    const caption = [
      `${state}, frame ${kept.view.frame}${age}, ${now.toLocaleString()}`, $("disclaimer").textContent,
    ];
    const url = URL.createObjectURL(await snapshot(shown(ui.outlined), caption));
    Object.assign(document.createElement("a"), { href: url, download: `streamseg-${stamp}.png` }).click();
    setTimeout(() => URL.revokeObjectURL(url), 10_000);
    note("snapshot");
  },
};
function fill(percent) { $("opacity").value = percent; ui.opacity = $("opacity").value / 100; draw(); }
for (const name of Object.keys(controls)) $(name).addEventListener("click", controls[name]);
$("opacity").addEventListener("input", () => fill($("opacity").value));
const KEYS = {
  o: controls.overlay, v: controls.vessels, f: controls.freeze, " ": controls.freeze, s: controls.snapshot, r: controls.record,
};
addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || event.repeat) return;
  if (event.target instanceof HTMLButtonElement && event.key === " ") return; // the browser presses the button
  const key = event.key.toLowerCase();
  if (key in KEYS) KEYS[key]();
  else if (key === "+" || key === "=") fill(+$("opacity").value + 5);
  else if (key === "-") fill(+$("opacity").value - 5);
  else return;
  event.preventDefault();
});

// The timers of a hidden page sleep, so it could not hide an outline in time: it disconnects until it is visible.
function visibilityChanged() {
  kept.deadline = -Infinity;
  draw();
  if (document.hidden) link.drop();
  else link.open();
  keepAwake();
  refresh();
}
document.addEventListener("visibilitychange", visibilityChanged);
addEventListener("pagehide", () => link.drop());
addEventListener("pageshow", (event) => { if (event.persisted) visibilityChanged(); });
addEventListener("resize", () => { draw(); fitWords($("words"), look(ui.state, ui.signs).words); });

if (location.search) history.replaceState(null, "", location.pathname); // the token is in the cookie by now
link.open();
keepAwake();
draw();
refresh();
setInterval(tick, 20);
setInterval(figures, 250);
(function each() { tick(); requestAnimationFrame(each); })();
