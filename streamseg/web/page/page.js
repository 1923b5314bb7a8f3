// The page: receives views from the link, decides at every moment what may be shown, and shows it.

import { keepAwake } from "./awake.js";
import { Chart } from "./chart.js";
import { recordedTime, showAge, showLink, showSample, showView } from "./figures.js";
import { fit, paint, snapshot } from "./picture.js";
import { fitWords, look } from "./states.js";
import { Stream } from "./stream.js";

const $ = (id) => document.getElementById(id);
const EVENTS = 300;

const ui = {
  overlay: true, vessels: true, opacity: 0.25, // chosen by the user
  signs: {}, lines: {}, greeted: false, // from the server
  knowsVessels: false, // true once an engine has shown that it outlines vessels
  outlined: false, state: "", scale: 1, // what is shown
};
let others = null; // of several streams: the number of this one, and how many there are
const context = $("picture").getContext("2d", { alpha: false });
const chart = new Chart($("chart"), $("legend"));

/** Log for tests and troubleshooting; times are those of performance.now(). */
const events = [];
function note(what, more = {}) {
  events.push({ at: performance.now(), what, ...more });
  if (events.length > EVENTS) events.shift();
}

const stream = new Stream("ws", {
  hello(values) {
    [ui.signs, ui.lines] = [values.signs, values.lines];
    if (!ui.greeted) { // later ones must not undo the user's choice
      fill(100 * values.opacity);
      if (!values.vessels) controls.vessels();
    }
    ui.greeted = true;
    $("record").hidden = !values.record;
    $("disclaimer").textContent = values.disclaimer;
    $("source").textContent = $("source").title = values.title;
    document.title = values.title;
    offerOthers(values);
    note("hello");
  },
  end(state) { note("end", { state }); },
  closed(reason) { note("closed", { reason }); refresh(); },
  changed() { refresh(); draw(); },
  outdated() { figures(); },
  measured(age, view, now) {
    const stages = Object.entries(view.figures.stages).map(([name, times]) => [name, times[0] ?? 0]);
    chart.add(now, age, Object.fromEntries(stages));
  },
});
const { kept, link, ages } = stream;
window.streamseg = { events, link, ui, kept, ages, stream };

/** Of several streams: which one this is, and the way to the others. */
function offerOthers({ stream: number, streams }) {
  if (!streams) return;
  $("others").hidden = false;
  $("which").textContent = `Stream ${number} of ${streams}: ${document.title}`;
  document.title = `${number}: ${document.title}`;
  others = { number, streams };
}
function draw() {
  const now = performance.now();
  const { view, bitmap } = kept;
  const outlined = ui.overlay && stream.mayOutline(now);
  if (bitmap) ui.scale = fit($("picture"), room(), view.size);
  paint(context, context.canvas.width, context.canvas.height, stream.shown(outlined, ui));
  legend();
  if (outlined !== ui.outlined) note(outlined ? "outline shown" : "outline hidden", { view: view?.view });
  ui.outlined = outlined;
  document.body.dataset.outline = outlined ? "shown" : "hidden";
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

/** Update the page if it has changed. */
function refresh() {
  const now = performance.now();
  const { state, reason, old, dim } = stream.situation(now);
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
  if (ui.outlined && !stream.mayOutline(now)) draw();
}

// People read the figures: four updates a second are enough.
function figures() {
  const now = performance.now();
  const { view } = kept;
  showAge(stream.writtenAge(now));
  showLink(link.alive(now) && link.clock.known ? link.clock.error : null);
  const current = ui.outlined || (now < kept.deadline && link.alive(now));
  if (view) showView(view, { current, ages, scale: ui.scale, live: stream.live ?? view, vessels: ui.vessels });
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
    stream.frozen = stream.frozen === null ? performance.now() : null;
    stream.live = stream.frozen === null ? null : kept.view;
    $("freeze").setAttribute("aria-pressed", stream.frozen !== null);
    note(stream.frozen === null ? "live" : "frozen");
    refresh();
  },
  record() {
    if ($("record").hidden) return;
    // The wish, not a change: another page may have pressed a moment ago.
    const view = stream.live ?? kept.view;
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
      `${others ? `stream ${others.number}: ` : ""}${state}, frame ${kept.view.frame}${age}, ${now.toLocaleString()}`, $("disclaimer").textContent,
    ];
    const url = URL.createObjectURL(await snapshot(stream.shown(ui.outlined, ui), caption));
    Object.assign(document.createElement("a"), { href: url, download: `streamseg-${others ? `${others.number}-` : ""}${stamp}.png` }).click();
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
  else if (others && key === "escape") location.assign("../");
  else if (others && key >= "1" && key <= "9" && +key <= others.streams) location.assign(`../${key}/`);
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
