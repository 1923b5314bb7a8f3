// One stream as a page shows it: takes views from its link, and decides at every moment what of them may be shown. The
// page of one stream and each tile of the page of all use it, so that their rules are the same.

import { Link, SILENCE_MS } from "./link.js";

/** Hiding the outline reaches the screen up to one refresh later, so it starts that much earlier. */
const REFRESH_MS = 17;
/** The program counts as hanging if it has sent nothing new for this long while the server is alive. */
const HANGS_MS = 2000;
/** Steps of the browser's clock from which on they are worth a word. */
const COARSE_MS = 5;
const ENDED = "source ended";

export class Stream {
  /**
   * `address` of its socket, relative to the page. `on` has the callbacks hello(values), closed(reason), end(state),
   * changed() after another view has been put on the canvas, outdated() then if the figures say that an earlier one
   * was old, and measured(age, view, now) for each new frame that is drawn with a known clock; its age is null for a
   * frame without a segmentation.
   */
  constructor(address, on) {
    this.on = on;
    this.held = { number: 0, bitmap: null }; // the newest image received
    // what is on the canvas
    this.kept = { view: null, bitmap: null, deadline: -Infinity, tooLate: false, age: null, end: null };
    this.frozen = this.live = null; // when it was frozen, and the view that would be shown
    this.late = ""; // from the server
    this.wroteOld = false; // the figures say the age of an old image
    this.ages = [];
    this.link = new Link({
      hello: (values) => { this.late = values.late; this.on.hello(values); },
      end: (state) => { this.kept.end = { state, at: performance.now() }; this.on.end(state); },
      view: (values, jpeg) => { this.take(values, jpeg).catch(() => this.ack(values, null)); },
      closed: (reason) => this.on.closed(reason),
    }, address);
  }

  async take(view, jpeg) {
    const { held, kept, link } = this;
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
    if (this.frozen === null) {
      const matches = view.picture !== 0 && view.picture === held.number;
      age = this.change(view, matches ? held.bitmap : null, arrived);
    } else {
      this.live = view;
    }
    this.ack(view, age);
  }

  /** Put a view on the canvas; returns the age at which a new segmented frame was drawn, or null. */
  change(view, bitmap, arrived) {
    const { held, kept, link } = this;
    if (kept.bitmap && kept.bitmap !== bitmap && kept.bitmap !== held.bitmap) kept.bitmap.close();
    const fresh = view.frame !== undefined && view.captured !== kept.view?.captured;
    [kept.view, kept.bitmap] = [view, bitmap];
    kept.deadline = bitmap && view.outline && link.clock.known
      ? Math.min(link.clock.after(arrived, view.life), link.clock.earliest(view.expires)) - REFRESH_MS
      : -Infinity;
    kept.tooLate = kept.deadline <= arrived;
    this.on.changed();
    if (this.wroteOld) this.on.outdated();
    if (!fresh || !bitmap || !link.clock.known) return null;
    const now = performance.now();
    kept.age = Math.max(link.clock.server(now) - view.captured, view.age); // no younger than when it was sent
    // Frames without a segmentation are younger: counting them would hide a slow engine.
    const age = view.found === undefined ? null : kept.age;
    if (age !== null) this.ages.push(age);
    if (this.ages.length > 300) this.ages.shift();
    this.on.measured(age, view, now);
    return age;
  }

  ack(view, age) { this.link.send({ ack: view.view, age, at: performance.now() }); }

  /** True while the outline of the view on the canvas may be shown. */
  mayOutline(now) {
    const { kept, link } = this;
    return now < kept.deadline && link.alive(now) && link.clock.known && !document.hidden;
  }

  /** What is painted: the image, its size, and the outlines that may be on it; see paint() in picture.js. */
  shown(outlined, { lines, vessels, opacity }) {
    const { view, bitmap } = this.kept;
    const outlines = [];
    if (outlined && vessels && view.vessel) {
      outlines.push({ polygons: view.vessel.outline, line: lines.vessel, fill: 0 });
    }
    const line = lines[view?.found];
    if (outlined && line) {
      outlines.push({ polygons: view.outline, line, fill: opacity * (line.period ? 0.5 : 1) });
    }
    return { bitmap, size: view?.size, outlines };
  }

  /** Age of the displayed frame now, milliseconds; null without one, or while the server's clock is unknown. */
  runningAge(now) {
    const { view } = this.kept;
    const dated = this.link.clock.known && view && "captured" in view;
    return dated ? Math.max(this.link.clock.server(now) - view.captured, view.age) : null;
  }

  /**
   * The age that the figures say, milliseconds or null: that at which the frame was drawn, or the running one if it is
   * old. Seconds of an old image must not stand beside a new one until the next update.
   */
  writtenAge(now) {
    const running = this.runningAge(now);
    this.wroteOld = running !== null && running > 1000;
    return running === null || this.wroteOld ? running : this.kept.age;
  }

  /** What to show now: the state, its reason, and how the image is marked. */
  situation(now) {
    const { kept, link } = this;
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
    const { view } = kept;
    if (link.quiet > HANGS_MS) {
      const reason = `nothing new for ${(link.quiet / 1000).toFixed(0)} s`;
      return { state: "program hangs", reason, old: true, dim: true };
    }
    if (!view) return { state: "starting", reason: "no frame yet", old: false, dim: false };
    if (this.frozen !== null) {
      const seconds = Math.floor((now - this.frozen) / 1000);
      const reason = `for ${seconds} s; live now: ${(this.live ?? view).state}`;
      return { state: "display frozen", reason, old: true, dim: false };
    }
    if (view.outline && kept.bitmap && now >= kept.deadline && view.state !== "source slow") {
      const step = link.clock.grain;
      const coarse = kept.tooLate && step > COARSE_MS && view.life > REFRESH_MS
        && `this browser's clock moves in steps of ${step.toFixed(0)} ms, too coarse to hide an outline in time`;
      const reason = link.clock.known ? coarse || this.late : "synchronising clocks";
      return { state: "segmentation lagging", reason, old: false, dim: false };
    }
    if (view.state === ENDED && end !== null) {
      return { state: ENDED, reason: `${view.reason}, ${ago(now - end.at)} ago`, old: true, dim: true };
    }
    const lost = view.state === "source lost";
    return { state: view.state, reason: view.reason, old: lost || view.state === "scanner frozen", dim: lost };
  }
}

/** A duration in words: "12 s", "3 min", "2 h". */
function ago(ms) {
  const seconds = Math.max(0, Math.floor(ms / 1000));
  if (seconds < 60) return `${seconds} s`;
  return seconds < 3600 ? `${Math.floor(seconds / 60)} min` : `${Math.floor(seconds / 3600)} h`;
}
