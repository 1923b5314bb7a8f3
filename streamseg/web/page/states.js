// How each state looks: words, and a symbol of its own, so that colour is not needed.

const RING = '<circle r="1"/>';
const line = (x, y, u, v) => `<path d="M${x} ${y}L${u} ${v}"/>`;
const SYMBOLS = {
  "nerve": RING + '<circle class="solid" r="0.5"/>',
  "no nerve": RING + line(-0.71, 0.71, 0.71, -0.71),
  "low confidence": '<path d="M0 -1L1.1 0.85L-1.1 0.85Z"/>' + line(0, -0.35, 0, 0.22)
    + '<circle class="solid" cy="0.55" r="0.13"/>',
  "unlike the training data": '<path d="M-.9 -.9H.9V.9H-.9Z"/>' + line(-0.45, -0.45, 0.45, 0.45)
    + line(-0.45, 0.45, 0.45, -0.45),
  "segmentation lagging": RING + '<path d="M0 -0.6V0L0.45 0.3"/>',
  "scanner frozen": '<path d="M-.9 -.9H.9V.9H-.9Z"/>' + line(-0.3, -0.45, -0.3, 0.45) + line(0.3, -0.45, 0.3, 0.45),
  "source lost": line(-0.85, -0.85, 0.85, 0.85) + line(-0.85, 0.85, 0.85, -0.85),
  "starting": '<circle class="solid" cx="-0.8" r="0.26"/><circle class="solid" r="0.26"/>'
    + '<circle class="solid" cx="0.8" r="0.26"/>',
  "link lost": '<path d="M-.2 -.6H-.6A.6 .6 0 0 0 -.6 .6H-.2M.2 -.6H.6A.6 .6 0 0 1 .6 .6H.2"/>'
    + line(0.3, -1.1, -0.3, 1.1),
};
SYMBOLS["connecting"] = SYMBOLS["program hangs"] = SYMBOLS["starting"];
SYMBOLS["program hangs"] = SYMBOLS["segmentation lagging"];

const WORDS = {
  "low confidence": "LOW\nCONFIDENCE",
  "unlike the training data": "UNLIKE THE\nTRAINING DATA",
  "segmentation lagging": "SEGMENTATION\nLAGGING",
  "scanner frozen": "SCANNER\nFROZEN",
  "source lost": "SOURCE\nLOST",
  "link lost": "LINK\nLOST",
  "program hangs": "PROGRAM\nHANGS",
};
const OWN_COLOURS = { "link lost": "#d55e00", "program hangs": "#d55e00", "connecting": "#a8a8a8" };
/** States on a dark card: nothing to see here, and nothing wrong. */
const UNFILLED = new Set(["no nerve", "starting", "connecting"]);

export function look(state, colours) {
  const colour = colours[state] ?? OWN_COLOURS[state] ?? "#a8a8a8";
  return {
    words: WORDS[state] ?? state.toUpperCase(),
    symbol: SYMBOLS[state] ?? RING,
    background: UNFILLED.has(state) ? "#2e323a" : colour,
    ink: UNFILLED.has(state) ? "#f5f5f5" : "#0c0c0c",
    colour,
  };
}
