// Draws the image and its outline together on one canvas, so that an outline is only ever drawn on the image that
// it came with.

const HALO = "rgb(16, 16, 16)";

/**
 * Draw into a 2D context of `width` x `height` pixels. `outlines`, first the lowest: `polygons` in pixels of `size`, the
 * `line` (colour, period and share of its dashes) and the opacity of a `fill`, 0 for none.
 */
export function paint(context, width, height, { bitmap, size, outlines }) {
  context.fillStyle = "#000";
  context.fillRect(0, 0, width, height);
  if (!bitmap) return;
  context.imageSmoothingQuality = "high";
  context.drawImage(bitmap, 0, 0, width, height);
  if (!outlines.length) return;
  const scale = [width / size[0], height / size[1]]; // the bitmap of a huge image has fewer pixels
  const thick = Math.max(2, Math.round(Math.min(width, height) / 270));
  for (const outline of outlines) drawOutline(context, outline, scale, thick);
}

function drawOutline(context, { polygons, line, fill }, scale, thick) {
  if (!polygons.length) return;
  const lines = polygons.map((flat) => onCanvas(flat, scale));
  const path = new Path2D();
  for (const points of lines) {
    points.forEach(([x, y], index) => (index ? path.lineTo(x, y) : path.moveTo(x, y)));
    path.closePath();
  }
  context.save();
  context.lineJoin = "round";
  context.lineCap = line.period ? "round" : "butt";
  if (fill) {
    context.globalAlpha = fill;
    context.fillStyle = line.colour;
    context.fill(path);
    context.globalAlpha = 1;
  }
  if (line.period) dash(context, lines, line, thick);
  for (const [ink, wide] of [[HALO, thick + 2 * Math.max(1, Math.round(thick / 2))], [line.colour, thick]]) {
    context.strokeStyle = ink;
    context.lineWidth = wide;
    context.stroke(path);
  }
  context.restore();
}

function onCanvas(flat, [across, down]) {
  let points = [];
  for (let i = 0; i < flat.length; i += 2) points.push([(flat[i] + 0.5) * across, (flat[i + 1] + 0.5) * down]);
  // Smooth the steps of enlarged pixels; this moves the line by less than half an image pixel.
  if (Math.min(across, down) >= 1.5 && points.length > 3) points = cutCorners(points);
  return points;
}

function cutCorners(points) {
  const mix = (p, q, part) => [p[0] + part * (q[0] - p[0]), p[1] + part * (q[1] - p[1])];
  return points.flatMap((point, index) => {
    const next = points[(index + 1) % points.length];
    return [mix(point, next, 0.25), mix(point, next, 0.75)];
  });
}

/** Set the dashes of a line so that they fit evenly around the longest outline. */
function dash(context, lines, { period, share }, thick) {
  const around = Math.max(...lines.map((points) => points.reduce((sum, point, index) => {
    const next = points[(index + 1) % points.length];
    return sum + Math.hypot(next[0] - point[0], next[1] - point[1]);
  }, 0)));
  const step = around / Math.max(2, Math.round(around / (period * thick)));
  context.setLineDash([share * step, (1 - share) * step]);
}

/** Give the canvas the largest size at which the whole image fits into the room. */
export function fit(canvas, room, [width, height]) {
  const scale = Math.min(room.width / width, room.height / height);
  const css = [Math.max(1, Math.floor(width * scale)), Math.max(1, Math.floor(height * scale))];
  const dense = Math.min(window.devicePixelRatio || 1, 2);
  const size = css.map((side) => Math.round(side * dense));
  if (canvas.width !== size[0] || canvas.height !== size[1]) [canvas.width, canvas.height] = size;
  canvas.style.width = `${css[0]}px`;
  canvas.style.height = `${css[1]}px`;
  return scale;
}

/** The image as displayed, at its own size or twice as large, with a caption below it. */
export function snapshot(shown, caption) {
  const { bitmap } = shown;
  const enlarge = bitmap.height < 700 ? 2 : 1;
  const [width, height] = [bitmap.width * enlarge, bitmap.height * enlarge];
  const foot = 22 * caption.length + 12;
  const canvas = document.createElement("canvas");
  [canvas.width, canvas.height] = [width, height + foot];
  const context = canvas.getContext("2d");
  paint(context, width, height, shown);
  context.fillStyle = "#16191e";
  context.fillRect(0, height, width, foot);
  context.fillStyle = "#f5f5f5";
  context.font = "15px system-ui, sans-serif";
  caption.forEach((text, row) => context.fillText(text, 8, height + 22 * (row + 1), width - 16));
  return new Promise((resolve) => canvas.toBlob(resolve, "image/png"));
}
