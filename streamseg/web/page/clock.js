// The server's clock, seen from here.
//
// Each question and answer bounds the offset (server minus page) from both sides: the server's clock was read
// after the question left and before the answer came. The bounds of several answers are intersected, so the
// best of them counts, and the error is at most half the shortest way there and back.

const KEPT = 30;
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

  /** A question sent at `asked` was answered at `now` (page), and read at `server` (server). */
  answered(asked, server, now) {
    this.samples.push({ lower: server - now, upper: server - asked });
    if (this.samples.length > KEPT) this.samples.shift();
    this.intersect();
    // Clocks drift apart: what no longer agrees is forgotten, the oldest first.
    while (this.lower > this.upper + TOLERANCE_MS) {
      this.samples.shift();
      this.intersect();
    }
  }

  intersect() {
    this.lower = Math.max(...this.samples.map((sample) => sample.lower));
    this.upper = Math.min(...this.samples.map((sample) => sample.upper));
  }

  /** False, and all is forgotten, where a message would have come before it was sent: a clock has jumped. */
  agrees(sent, now) {
    if (!this.known || sent - now <= this.upper + TOLERANCE_MS) return true;
    this.reset();
    return false;
  }

  /** The server's time now: the likeliest value. */
  server(now) { return now + (this.lower + this.upper) / 2; }

  /** The page's time at which the server's clock reaches `time`, rather too early than too late. */
  earliest(time) { return time - this.upper; }
}
