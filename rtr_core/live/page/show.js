/**
 * The stage: the styled picture, over it the source of the very same frame, as far as the split
 * reaches. Two canvases and one number: dragging the split draws nothing anew.
 */

const HALF = 50;
const STEP = 5;

export class Show {
  /** @param sourceOf (time) gives the sent frame of that time, or nothing any more */
  constructor(find, sourceOf) {
    Object.assign(this, { sourceOf, split: 0, last: HALF, isHeld: false });
    this.picture = find("picture");
    this.handle = find("split");
    this.styled = find("styled").getContext("2d", { alpha: false });
    this.plain = find("plain").getContext("2d", { alpha: false });
    this.handle.addEventListener("pointerdown", (event) => this.#grab(event));
    this.handle.addEventListener("pointermove", (event) => this.#drag(event));
    this.handle.addEventListener("keydown", (event) => this.#press(event));
    this.handle.addEventListener("dblclick", () => this.toggle());
    for (const kind of ["pointerup", "pointercancel", "lostpointercapture"])
      this.handle.addEventListener(kind, () => this.picture.classList.remove("dragged"));
    this.setSplit(0);
  }

  size(width, height) {
    for (const { canvas } of [this.styled, this.plain]) {
      if (canvas.width === width && canvas.height === height) continue;
      [canvas.width, canvas.height] = [width, height];
    }
    this.picture.style.setProperty("--shape", width / height);
  }

  draw(time, bitmap) {
    const { width, height } = this.styled.canvas;
    this.styled.drawImage(bitmap, 0, 0, width, height);
    const plain = this.sourceOf(time);
    if (plain) this.plain.drawImage(plain, 0, 0, width, height);
    this.picture.classList.add("live");
  }

  /** @param percent of the width, from the left as it is seen */
  setSplit(percent) {
    this.split = Math.min(100, Math.max(0, percent));
    if (this.split > 2) this.last = this.split;
    this.picture.style.setProperty("--split", `${this.split}%`);
    this.handle.setAttribute("aria-valuenow", String(Math.round(this.split)));
    this.picture.classList.toggle("divided", this.split > 0);
  }

  toggle() {
    this.setSplit(this.split > 0 ? 0 : this.last);
  }

  /** While held, the source and nothing but the source. */
  hold(isHeld) {
    this.isHeld = isHeld;
    this.picture.classList.toggle("held", isHeld);
  }

  /** As a mirror would show it; what is streamed and recorded stays as it is. */
  mirror(isMirrored) {
    document.body.classList.toggle("mirrored", isMirrored);
  }

  #grab(event) {
    this.handle.setPointerCapture(event.pointerId);
    this.picture.classList.add("dragged");
  }

  #drag(event) {
    if (!this.picture.classList.contains("dragged")) return;
    const { left, width } = this.picture.getBoundingClientRect();
    const percent = ((event.clientX - left) / width) * 100;
    this.setSplit(percent < 2 ? 0 : percent); // the last bit to the edge is meant as the edge
  }

  #press(event) {
    const by = { ArrowLeft: -STEP, ArrowDown: -STEP, ArrowRight: STEP, ArrowUp: STEP }[event.key];
    const to = { Home: 0, End: 100 }[event.key];
    if (by === undefined && to === undefined) return;
    event.preventDefault();
    event.stopPropagation();
    this.setSplit(to ?? this.split + by);
  }
}
