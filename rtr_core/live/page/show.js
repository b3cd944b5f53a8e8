/**
 * The stage: the styled picture, over it the source of the very same frame, as far as the split
 * reaches. Two canvases and one number: dragging the split draws nothing anew. A mirror is drawn and
 * no transform of CSS: below one, a browser without a GPU also draws what cannot be seen.
 */

const HALF = 50;
const STEP = 5;

export class Show {
  /** @param sourceOf (time) gives the sent frame of that time, or nothing any more */
  constructor(find, sourceOf) {
    Object.assign(this, { sourceOf, split: 0, last: HALF, isHeld: false, isMirrored: false });
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
    this.#paint(this.styled, bitmap);
    const source = this.sourceOf(time);
    if (source) this.#paint(this.plain, source);
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
    this.isMirrored = isMirrored;
    document.body.classList.toggle("mirrored", isMirrored);
  }

  /** The styled picture as it is streamed, as a file. */
  still() {
    const { width, height } = this.styled.canvas;
    const canvas = Object.assign(document.createElement("canvas"), { width, height });
    this.#paint(canvas.getContext("2d"), this.styled.canvas);
    return new Promise((resolve) => canvas.toBlob(resolve));
  }

  /** A mirror's mirror shows things as they are. */
  #paint(pen, picture) {
    const { width, height } = pen.canvas;
    pen.setTransform(this.isMirrored ? -1 : 1, 0, 0, 1, this.isMirrored ? width : 0, 0);
    pen.drawImage(picture, 0, 0, width, height);
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
