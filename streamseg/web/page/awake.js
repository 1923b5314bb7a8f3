// Keeps the screen on while the page is visible: nobody touches it during a procedure.
//
// Browsers grant that over HTTPS and on this machine only, and take it back when the page is hidden or the battery
// low. Without it the page works as ever, so failures are silent.

let lock = null;

/** Ask for the screen to stay on; called again whenever the page becomes visible. */
export async function keepAwake() {
  if (lock || document.hidden || !navigator.wakeLock) return;
  lock = {}; // one request at a time
  try {
    lock = await navigator.wakeLock.request("screen");
    lock.addEventListener("release", () => { lock = null; });
  } catch {
    lock = null;
  }
}
