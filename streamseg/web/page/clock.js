// Estimates the server's clock from the page.
//
// Each ping and its answer bound the offset (server minus page) from both sides: the server's clock was read
// after the ping was sent and before the answer arrived. The bounds of several answers are intersected, so that
// the error is at most half the shortest round trip.
//
// The page's clock may move in steps. Firefox with resistFingerprinting (Tor) steps by 16.7 or 100 ms, and takes a
// step early or late at random: a reading is up to one step off, either way. All bounds allow for that.

const MAX_SAMPLES = 30;
const TOLERANCE_MS = 1;

export class Clock {
  /** `grain`: the largest difference of a reading of the page's clock from the true time, milliseconds. */
  constructor(grain = 0) {
    this.grain = grain;
    this.last = Infinity;
    this.reset();
  }

  reset() {
    this.samples = [];
    this.lower = -Infinity;
    this.upper = Infinity;
  }

  /** Note a reading: on a busy machine, the step that was waited for was several. */
  seen(now) {
    if (now > this.last && now - this.last < this.grain) this.grain = now - this.last;
    this.last = now;
  }

  get known() { return this.samples.length > 0; }

  /** Half the uncertainty, milliseconds. */
  get error() { return (this.upper - this.lower) / 2; }

  /** Add an answer: a ping sent at `sent` was answered at `now` (page), with the server's time `server`. */
  answered(sent, server, now) {
    this.samples.push({ lower: server - now - this.grain, upper: server - sent + this.grain });
    if (this.samples.length > MAX_SAMPLES) this.samples.shift();
    this.intersect();
    // Clocks drift apart: drop samples that no longer agree, the oldest first.
    while (this.lower > this.upper + TOLERANCE_MS) {
      this.samples.shift();
      this.intersect();
    }
  }

  intersect() {
    this.lower = Math.max(...this.samples.map((sample) => sample.lower));
    this.upper = Math.min(...this.samples.map((sample) => sample.upper));
  }

  /** False, after a reset, if a message would have arrived before it was sent: a clock has jumped. */
  agrees(sent, now) {
    if (!this.known || sent - now <= this.upper + this.grain + TOLERANCE_MS) return true;
    this.reset();
    return false;
  }

  /** Best estimate of the server's time now. */
  server(now) { return now + (this.lower + this.upper) / 2; }

  /** The reading of the page's clock at which the server's clock reaches `time`, never too late. */
  earliest(time) { return time - this.upper - this.grain; }

  /** The reading `duration` after the reading `start`, never too late. */
  after(start, duration) { return start + duration - 2 * this.grain; }
}

/** The step of the page's clock, milliseconds: the smallest of a few that are waited for. */
export function clockStep(read = () => performance.now()) {
  const began = read();
  let [last, step] = [began, Infinity];
  // A page's fine clock steps at once; one that never does counts as the coarsest known.
  for (let turn = 0; turn < 5_000_000 && last - began < 20; turn += 1) {
    const now = read();
    if (now > last) step = Math.min(step, now - last);
    last = now;
    if (step < 0.2) break;
  }
  return step === Infinity ? 100 : step;
}
