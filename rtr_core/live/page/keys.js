/** Keys, swipes, and the full screen in which everything but the picture goes away. */

const SWIPE = 60; // pixels sideways that are meant
const IDLE = 3000; // ms without a touch until a full screen is the picture alone

const isWriting = ({ target }) => target.matches?.("input[type=text], textarea, [contenteditable]");

/** @param on what each key does: {chip(n), step(by), hold(is), record, split, still, prompt, help} */
export function listenToKeys(on, isBusy) {
  const keys = { r: on.record, s: on.split, p: on.still, f: toggleFull, "?": on.help };
  addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.key === "Escape" && isWriting(event)) return event.target.blur();
    if (isWriting(event) || (isBusy() && event.key !== "?")) return;
    const isSlider = event.target.matches?.("input[type=range]");
    const by = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    if (event.key === " ") {
      event.preventDefault(); // a held space must not press the button that has the focus
      if (!event.repeat) on.hold(true);
    } else if (event.key === "/") {
      event.preventDefault();
      on.prompt();
    } else if (/^[1-9]$/.test(event.key)) on.chip(Number(event.key) - 1);
    else if (by && !isSlider) on.step(by);
    else if (!event.repeat) keys[event.key.toLowerCase()]?.();
  });
  addEventListener("keyup", (event) => {
    if (event.key !== " " || isWriting(event)) return;
    event.preventDefault();
    on.hold(false);
  });
  addEventListener("blur", () => on.hold(false));
}

/** A swipe over the stage is the next style; its split and its cards have gestures of their own. */
export function listenToSwipes(stage, step) {
  let from = null;
  stage.addEventListener("pointerdown", (event) => {
    const isOurs = event.pointerType === "touch" && event.isPrimary;
    from = isOurs && !event.target.closest(".split, .inset, .card") ? event : null;
  });
  stage.addEventListener("pointerup", (event) => {
    if (!from || event.pointerId !== from.pointerId) return;
    const [x, y] = [event.clientX - from.clientX, event.clientY - from.clientY];
    if (Math.abs(x) > SWIPE && Math.abs(x) > 2 * Math.abs(y)) step(x < 0 ? 1 : -1);
    from = null;
  });
  stage.addEventListener("pointercancel", () => (from = null));
}

/** Held by pointer or by key, and let go of wherever the pointer went. */
export function listenToHolding(button, hold) {
  button.addEventListener("pointerdown", (event) => {
    button.setPointerCapture(event.pointerId);
    hold(true);
  });
  for (const kind of ["pointerup", "pointercancel", "lostpointercapture"])
    button.addEventListener(kind, () => hold(false));
  button.addEventListener("contextmenu", (event) => event.preventDefault());
  button.addEventListener("keydown", ({ key }) => key === "Enter" && hold(true));
  button.addEventListener("keyup", ({ key }) => key === "Enter" && hold(false));
}

/** Where a browser has no full screen for pages (an iPhone's), the page at least clears itself. */
export function toggleFull() {
  const isFull = document.body.classList.contains("full");
  const { documentElement: page } = document;
  if (!page.requestFullscreen) return setFull(!isFull);
  if (document.fullscreenElement) document.exitFullscreen();
  else page.requestFullscreen().catch(() => setFull(!isFull));
}

function setFull(isFull) {
  document.body.classList.toggle("full", isFull);
  document.body.classList.remove("idle");
}

export function watchFull(button) {
  let timer = 0;
  const wake = () => {
    clearTimeout(timer);
    document.body.classList.remove("idle");
    timer = setTimeout(() => document.body.classList.add("idle"), IDLE);
  };
  button.addEventListener("click", toggleFull);
  document.addEventListener("fullscreenchange", () => setFull(document.fullscreenElement !== null));
  for (const kind of ["pointermove", "pointerdown", "focusin"]) addEventListener(kind, wake);
}
