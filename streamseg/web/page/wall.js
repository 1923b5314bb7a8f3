// The page of all streams: a tile for each, which obeys the rules of the page of one (stream.js). A tile has a connection
// of its own, so that nothing of one stream can reach the tile of another.

import { keepAwake } from "./awake.js";
import { fit, paint } from "./picture.js";
import { look } from "./states.js";
import { Stream } from "./stream.js";

const $ = (id) => document.getElementById(id);
/** States in which somebody should look at a stream. */
const TROUBLE = new Set(["source lost", "segmentation lagging", "link lost", "program hangs"]);
/** Sides of an image that a tile has room for, as long as none is known. */
const SHAPE = [4, 3];
/** Height of a tile's words and of its borders, in pixels. */
const WORDS_PX = 84;

const ui = { overlay: true, vessels: true, opacity: 0.25, greeted: false };
const tiles = [];
window.streamseg = { tiles, ui };

class Tile {
  constructor(number) {
    const node = this.node = $("tile").content.firstElementChild.cloneNode(true);
    this.part = (name) => node.querySelector(`.${name}`);
    this.number = number;
    this.canvas = node.querySelector("canvas");
    this.context = this.canvas.getContext("2d", { alpha: false });
    this.signs = this.lines = {};
    this.outlined = this.dim = false;
    this.state = this.title = "";
    node.href = `${number}/`;
    this.part("number").textContent = number;
    this.stream = new Stream(`${number}/tile`, {
      hello: (values) => this.hello(values),
      end() {},
      closed: () => this.refresh(),
      changed: () => { this.refresh(); this.draw(); },
      outdated: () => this.figures(performance.now()),
      measured() {},
    });
  }

  hello(values) {
    [this.signs, this.lines, this.title] = [values.signs, values.lines, values.title];
    this.part("name").textContent = this.node.title = values.title;
    greet(values);
    this.state = ""; // its words and colours may be others now
    this.refresh();
  }

  draw() {
    const { view, bitmap } = this.stream.kept;
    const outlined = ui.overlay && this.stream.mayOutline(performance.now());
    if (bitmap) fit(this.canvas, this.room(), view.size);
    const options = { lines: this.lines, vessels: ui.vessels, opacity: ui.opacity };
    paint(this.context, this.canvas.width, this.canvas.height, this.stream.shown(outlined, options));
    this.outlined = outlined;
    this.node.dataset.outline = outlined ? "shown" : "hidden";
  }

  room() {
    const { clientWidth, clientHeight } = this.part("stage");
    return { width: Math.max(16, clientWidth - 12), height: Math.max(16, clientHeight - 12) };
  }

  refresh() {
    const { state, reason, old, dim } = this.stream.situation(performance.now());
    if (state !== this.state) {
      const { words, symbol, background, ink } = look(state, this.signs);
      this.part("words").textContent = words;
      this.part("symbol").innerHTML = symbol;
      this.node.style.setProperty("--state", background);
      this.node.style.setProperty("--state-ink", ink);
      this.node.dataset.state = this.state = state;
      this.node.setAttribute("aria-label", `Stream ${this.number}: ${words}, ${this.title}`);
      summarise();
    }
    if (this.part("reason").textContent !== reason) this.part("reason").textContent = reason;
    this.part("frame").classList.toggle("old", old && this.stream.kept.view !== null);
    this.part("frame").classList.toggle("dim", dim);
    this.dim = dim;
  }

  tick(now) {
    this.stream.link.clock.seen(now);
    this.stream.link.watch(now);
    this.refresh();
    if (this.outlined && !this.stream.mayOutline(now)) this.draw();
  }

  figures(now) {
    const age = this.stream.writtenAge(now);
    this.part("age").textContent = age === null ? "-" : age > 1000 ? `${(age / 1000).toFixed(1)} s` : `${age.toFixed(0)} ms`;
    const fps = this.dim ? null : this.stream.kept.view?.figures.processed_fps ?? null;
    const recording = this.stream.kept.view?.figures.recording?.startsWith("recording ") ? "\u25cf " : "";
    this.part("rate").textContent = recording + (fps === null ? "" : `${fps.toFixed(0)} fps`);
  }
}

/** Take what holds for all streams from the first word of any. */
function greet(values) {
  if (ui.greeted) return;
  ui.greeted = true;
  ui.opacity = values.opacity;
  if (!values.vessels) ui.vessels = false;
  $("disclaimer").textContent = values.disclaimer;
}

/** Give all tiles the largest size at which they fit into the window. */
function arrange() {
  const { clientWidth: width, clientHeight: height } = $("wall");
  let best = { scale: -1, columns: 1 };
  for (let columns = 1; columns <= tiles.length; columns += 1) {
    const rows = Math.ceil(tiles.length / columns);
    const scale = Math.min((width / columns - 18) / SHAPE[0], (height / rows - WORDS_PX) / SHAPE[1]);
    if (scale > best.scale) best = { scale, columns };
  }
  $("wall").style.gridTemplateColumns = `repeat(${best.columns}, minmax(0, 1fr))`;
  for (const tile of tiles) tile.draw();
}

function summarise() {
  const wrong = tiles.filter((tile) => TROUBLE.has(tile.state)).map((tile) => tile.number);
  const words = wrong.length
    ? `${wrong.length} of ${tiles.length} streams need a look: ${wrong.join(", ")}` : `${tiles.length} streams`;
  if ($("summary").textContent !== words) $("summary").textContent = words;
  $("mark").hidden = ui.overlay;
}

function redraw() {
  for (const tile of tiles) tile.draw();
  summarise();
}

addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || event.repeat) return;
  const key = event.key.toLowerCase();
  if (key === "o") ui.overlay = !ui.overlay;
  else if (key === "v") ui.vessels = !ui.vessels;
  else if (key >= "1" && key <= "9" && +key <= tiles.length) location.assign(`${key}/`);
  else return;
  redraw();
  event.preventDefault();
});

// The timers of a hidden page sleep, so it could not hide an outline in time: it disconnects until it is visible.
function visibilityChanged() {
  for (const tile of tiles) {
    tile.stream.kept.deadline = -Infinity;
    tile.draw();
    if (document.hidden) tile.stream.link.drop();
    else tile.stream.link.open();
    tile.refresh();
  }
  keepAwake();
}
document.addEventListener("visibilitychange", visibilityChanged);
addEventListener("pagehide", () => { for (const tile of tiles) tile.stream.link.drop(); });
addEventListener("pageshow", (event) => { if (event.persisted) visibilityChanged(); });
addEventListener("resize", arrange);

function tick() {
  const now = performance.now();
  for (const tile of tiles) tile.tick(now);
}

if (location.search) history.replaceState(null, "", location.pathname); // the token is in the cookie by now
const { streams } = await (await fetch("streams")).json();
for (let number = 1; number <= streams; number += 1) {
  const tile = new Tile(number);
  tiles.push(tile);
  $("wall").append(tile.node);
  tile.stream.link.open();
}
arrange();
tick();
keepAwake();
setInterval(tick, 20);
setInterval(() => { summarise(); for (const tile of tiles) tile.figures(performance.now()); }, 250);
(function each() { tick(); requestAnimationFrame(each); })();
