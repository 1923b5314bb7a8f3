// Estimates the server's clock from the page.
//
// Each ping and its answer bound the offset (server minus page) from both sides: the server's clock was read
// after the ping was sent and before the answer arrived. The bounds of several answers are intersected, so that
// the error is at most half the shortest round trip.

const MAX_SAMPLES = 30;
const TOLERANCE_MS = 1;

export class Clock {
  constructor() { this.reset(); }

  reset() {
    this.samples = [];
    this.lower = -Infinity;
    this.upper = Infinity;
  }

  get known() { return this.samples.length > 0; }

  /** Half the uncertainty, milliseconds. */
  get error() { return (this.upper - this.lower) / 2; }

  /** Add an answer: a ping sent at `sent` was answered at `now` (page), with the server's time `server`. */
  answered(sent, server, now) {
    this.samples.push({ lower: server - now, upper: server - sent });
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
    if (!this.known || sent - now <= this.upper + TOLERANCE_MS) return true;
    this.reset();
    return false;
  }

  /** Best estimate of the server's time now. */
  server(now) { return now + (this.lower + this.upper) / 2; }

  /** The page's time at which the server's clock reaches `time`, never too late. */
  earliest(time) { return time - this.upper; }
}
