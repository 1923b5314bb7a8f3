// How each state looks. Words and colours come from the server; the symbols are those of the window, one per state
// so that colour is not needed. "link lost", "program hangs" and "connecting" exist only on the page.

const RING = '<circle r="1"/>';
const line = (x, y, u, v, kind = "") => `<path class="${kind}" d="M${x} ${y}L${u} ${v}"/>`;
const DOTS = [-0.75, 0, 0.75].map((x) => `<circle class="solid" cx="${x}" r="0.22"/>`).join("");
const CLOCK = RING + '<path d="M0 -0.6V0L0.42 0.3"/>';
const SYMBOLS = {
  "nerve": RING + '<circle class="solid" r="0.5"/>',
  "no nerve": RING + line(-0.71, 0.71, 0.71, -0.71),
  "low confidence": '<path d="M0 -1L1.1 0.85L-1.1 0.85Z"/>' + line(0, -0.35, 0, 0.22)
    + '<circle class="solid" cy="0.55" r="0.13"/>',
  "unlike the training data": '<path d="M-.9 -.9H.9V.9H-.9Z"/>' + line(-0.45, -0.45, 0.45, 0.45)
    + line(-0.45, 0.45, 0.45, -0.45),
  "segmentation lagging": CLOCK,
  "scanner frozen": line(-0.41, -0.9, -0.41, 0.9, "bold") + line(0.41, -0.9, 0.41, 0.9, "bold"),
  "source slow": line(-0.7, -0.9, 0.7, -0.9) + line(-0.7, 0.9, 0.7, 0.9) + line(-0.7, -0.9, 0.7, 0.9)
    + line(-0.7, 0.9, 0.7, -0.9),
  "source ended": '<path d="M-.7 -.7H.7V.7H-.7Z"/>',
  "source lost": line(-0.8, -0.8, 0.8, 0.8, "bold") + line(-0.8, 0.8, 0.8, -0.8, "bold"),
  "starting": DOTS,
  "display frozen": RING + line(-0.22, -0.48, -0.22, 0.48) + line(0.22, -0.48, 0.22, 0.48),
  "link lost": '<path d="M-.2 -.6H-.6A.6 .6 0 0 0 -.6 .6H-.2M.2 -.6H.6A.6 .6 0 0 1 .6 .6H.2"/>'
    + line(0.3, -1.1, -0.3, 1.1),
  "program hangs": CLOCK,
  "connecting": DOTS,
};
const WRONG = { background: "#d55e00", ink: "#0c0c0c" };
const WAITING = { background: "#2e323a", ink: "#f5f5f5" };

/** Write words as large as they fit into their box, broken into lines where that helps. */
export function fitWords(node, words) {
  const context = document.createElement("canvas").getContext("2d");
  context.font = `800 100px ${getComputedStyle(node).fontFamily}`;
  const wide = (text) => context.measureText(text).width / 100;
  const [width, height] = [node.clientWidth, 0.86 * node.parentElement.clientHeight];
  let best = { size: 0 };
  for (const lines of breaks(words.split(" "))) {
    const size = Math.min(0.97 * width / Math.max(...lines.map(wide)), height / lines.length);
    if (size > best.size) best = { size, lines };
  }
  if (!best.lines) return;
  node.style.fontSize = `${best.size}px`;
  node.style.whiteSpace = "pre";
  node.textContent = best.lines.join("\n");
}

/** All ways to break words into lines. */
function breaks([first, ...rest]) {
  if (!rest.length) return [[first]];
  return breaks(rest).flatMap((lines) => [[first, ...lines], [`${first} ${lines[0]}`, ...lines.slice(1)]]);
}

/** Words, symbol, and colours of card and text; `signs` comes from the server's first message. */
export function look(state, signs) {
  const known = signs[state] ?? (state === "connecting" ? WAITING : WRONG);
  return { words: state.toUpperCase(), symbol: SYMBOLS[state] ?? RING, ...known };
}
