// Chart of age and stages over the last minute: the median times of the stages stacked, and the age at display
// (mean and worst of each half second) as lines over them.

const BUCKET_MS = 500;
const BUCKETS = 120;
const STAGE_COLOURS = ["#0072b2", "#56b4e9", "#009e73", "#cc79a7", "#e69f00"];

export class Chart {
  constructor(canvas, legend) {
    this.canvas = canvas;
    this.legend = legend;
    this.buckets = [];
    this.names = [];
    new ResizeObserver(() => this.draw()).observe(canvas);
  }

  /** Add one drawn frame: its age or null, and the stages' median times by name, milliseconds. */
  add(now, age, stages) {
    const slot = Math.floor(now / BUCKET_MS);
    let last = this.buckets.at(-1);
    if (last?.slot !== slot) {
      last = { slot, sum: 0, count: 0, worst: 0, stages: {} };
      this.buckets.push(last);
      while (this.buckets[0].slot <= slot - BUCKETS) this.buckets.shift();
    }
    if (age !== null) {
      last.sum += age;
      last.count += 1;
      last.worst = Math.max(last.worst, age);
    }
    last.stages = stages;
    const names = Object.keys(stages);
    if (names.join() !== this.names.join()) this.name(names);
  }

  name(names) {
    this.names = names;
    const items = names.map((name, index) => [name, STAGE_COLOURS[index % STAGE_COLOURS.length]]);
    this.legend.replaceChildren(...[["age, mean and worst", "#f5f5f5"], ...items].map(([text, colour]) => {
      const item = document.createElement("span");
      const box = document.createElement("i");
      box.style.background = colour;
      item.append(box, text);
      return item;
    }));
  }

  draw(now = performance.now()) {
    const { canvas } = this;
    const dense = Math.min(window.devicePixelRatio || 1, 2);
    const [width, height] = [canvas.clientWidth, canvas.clientHeight];
    if (!width || !height) return;
    [canvas.width, canvas.height] = [width * dense, height * dense];
    const context = canvas.getContext("2d");
    context.scale(dense, dense);
    const newest = Math.floor(now / BUCKET_MS);
    const top = this.top();
    const [left, bottom] = [34, height - 16];
    const x = (slot) => left + (slot - newest + BUCKETS) / BUCKETS * (width - left);
    const y = (ms) => bottom - Math.min(ms / top, 1) * (bottom - 6);
    this.grid(context, width, y, top, [left, bottom]);
    const step = (width - left) / BUCKETS;
    for (const bucket of this.buckets) {
      let sum = 0;
      this.names.forEach((name, index) => {
        const ms = bucket.stages[name] ?? 0;
        context.fillStyle = STAGE_COLOURS[index % STAGE_COLOURS.length];
        context.fillRect(x(bucket.slot), y(sum + ms), step + 0.5, y(sum) - y(sum + ms));
        sum += ms;
      });
    }
    this.line(context, x, (bucket) => y(bucket.sum / bucket.count), 2, "#f5f5f5");
    this.line(context, x, (bucket) => y(bucket.worst), 1, "#a0a8b2");
  }

  top() {
    const highest = Math.max(50, ...this.buckets.map((bucket) => bucket.worst));
    return [50, 100, 150, 200, 300, 500, 1000, 2000, 5000].find((limit) => highest <= limit) ?? highest;
  }

  grid(context, width, y, top, [left, bottom]) {
    context.font = "12px system-ui, sans-serif";
    context.strokeStyle = "#2e323a";
    context.fillStyle = "#a0a8b2";
    context.textAlign = "right";
    for (const part of [0, 0.5, 1]) {
      const height = Math.round(y(part * top)) + 0.5;
      context.beginPath();
      context.moveTo(left, height);
      context.lineTo(width, height);
      context.stroke();
      context.fillText(`${Math.round(part * top)}`, left - 5, height + 4);
    }
    context.textAlign = "left";
    context.fillText("ms, last 60 s", left, bottom + 13);
    context.textAlign = "right";
    context.fillText("now", width - 1, bottom + 13);
  }

  line(context, x, y, thick, colour) {
    context.strokeStyle = colour;
    context.lineWidth = thick;
    context.beginPath();
    let last = null;
    for (const bucket of this.buckets.filter(({ count }) => count)) {
      const place = [x(bucket.slot + 0.5), y(bucket)];
      // A gap in time is a gap in the line.
      if (last === null || bucket.slot - last > 4) context.moveTo(...place);
      else context.lineTo(...place);
      last = bucket.slot;
    }
    context.stroke();
  }
}
