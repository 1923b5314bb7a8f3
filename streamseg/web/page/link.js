// The WebSocket: synchronises clocks, detects silence, reconnects automatically.
//
// The link is alive while messages arrive that were sent less than SILENCE_MS ago; old ones that arrive in a burst
// after a stall do not count.

import { Clock, clockStep } from "./clock.js";

export const SILENCE_MS = 250;
const GIVE_UP_MS = 3000;
const RETRY_DELAYS_MS = [100, 200, 400, 800, 1600, 2000];

export class Link {
  /**
   * `on` has the callbacks hello(values), view(values, jpeg), end(state), closed(reason); `address` is that of the socket,
   * relative to the page.
   */
  constructor(on, address = "ws") {
    this.on = on;
    this.address = address;
    this.clock = new Clock(clockStep());
    this.attempt = 0;
    this.socket = null;
    this.why = "";
    this.quiet = 0;
    this.reconnects = -1;
  }

  open() {
    this.drop();
    this.heard = -Infinity; // latest sending time received, by the server's clock
    this.arrived = performance.now();
    this.opened = false;
    this.clock.reset();
    const address = new URL(this.address, location.href); // relative: a proxy may serve the page below a path
    address.protocol = location.protocol === "https:" ? "wss:" : "ws:";
    const socket = this.socket = new WebSocket(address);
    socket.binaryType = "arraybuffer";
    const mine = (act) => (event) => { if (this.socket === socket) act(event); };
    socket.onopen = mine(() => { this.opened = true; this.reconnects += 1; this.ask(0); });
    socket.onmessage = mine((event) => this.take(event.data));
    socket.onclose = mine((event) => this.again(event.reason));
  }

  /** Close the connection and ignore everything that still comes from it. */
  drop() {
    clearTimeout(this.timer);
    clearTimeout(this.asking);
    const socket = this.socket;
    this.socket = null;
    if (socket) socket.close();
  }

  again(reason) {
    const opened = this.opened;
    this.drop();
    if (opened || reason) this.why = reason; // else the cause that was explained last
    this.on.closed(reason);
    if (!opened) this.explain();
    const wait = RETRY_DELAYS_MS[Math.min(this.attempt, RETRY_DELAYS_MS.length - 1)];
    this.attempt += 1;
    this.timer = setTimeout(() => this.open(), wait);
  }

  /** A refused handshake looks like a dead server; a plain request to the same place is told the cause. */
  async explain() {
    try {
      // POST, because then the browser names the page's origin as it does for the socket.
      const answer = await fetch(this.address, { method: "POST", signal: AbortSignal.timeout(1500) });
      const text = (await answer.text()).trim().slice(0, 300);
      if (answer.status === 401) this.why = "the server requires a new token: open the address that it printed";
      else if ([403, 421, 426].includes(answer.status)) this.why = text;
      else if (answer.status > 500) this.why = `a proxy answers for the server: ${answer.status}`;
    } catch { /* it is dead */ }
  }

  send(values) {
    if (this.socket?.readyState === WebSocket.OPEN) this.socket.send(JSON.stringify(values));
  }

  ask(count) {
    this.send({ ping: performance.now() });
    this.asking = setTimeout(() => this.ask(count + 1), count < 5 ? 60 : 1000);
  }

  take(data) {
    const now = performance.now();
    this.arrived = now;
    if (typeof data === "string") {
      const values = JSON.parse(data);
      if ("pong" in values) {
        this.clock.answered(values.pong, values.now, now);
        this.sign(values.now, now);
      } else if ("beat" in values) {
        this.quiet = values.quiet;
        this.sign(values.beat, now);
      } else if ("end" in values) {
        this.on.end(values.end);
      } else if ("hello" in values) {
        this.on.hello(values);
      }
      return;
    }
    const length = new DataView(data).getUint32(0, true);
    const values = JSON.parse(new TextDecoder().decode(new Uint8Array(data, 4, length)));
    this.quiet = 0;
    this.sign(values.sent, now);
    this.on.view(values, data.slice(4 + length));
  }

  sign(sent, now) {
    this.clock.agrees(sent, now);
    this.heard = Math.max(this.heard, sent);
    this.why = "";
    if (this.silent(now) < SILENCE_MS) this.attempt = 0;
  }

  /** Milliseconds since the server sent the newest message received. */
  silent(now) {
    return this.clock.known ? this.clock.server(now) - this.heard : now - this.arrived;
  }

  alive(now) { return this.opened && this.socket !== null && this.silent(now) < SILENCE_MS; }

  /** Called often: replaces a silent connection by a new one. */
  watch(now) {
    if (this.socket && now - this.arrived > GIVE_UP_MS) this.again("");
  }
}
