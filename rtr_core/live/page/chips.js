/**
 * The styles as tiles to tap. One that has no thumbnail grows one: after a while on the stage it
 * wears what the camera looked like in it.
 */

const GROWN_AFTER = 2500; // ms on the stage; fades and chunks are over by then
const GROWN_SIZE = 128;

/** Two colours of a name, always the same ones, until there is a picture. */
const TINTS = [
  ["#7a83ad", "#2c3561"], ["#cf6a35", "#6d2140"], ["#3f7f8c", "#173a52"], ["#a9689b", "#452a63"],
  ["#c79a3a", "#7a3f22"], ["#5b8f6a", "#1e4a4c"], ["#5a78c4", "#24306f"], ["#b5546a", "#4f2247"],
];

function tint(name) {
  let number = 0;
  for (const letter of name) number = (number * 31 + letter.codePointAt(0)) % 9973;
  return `linear-gradient(140deg, ${TINTS[number % TINTS.length]})`;
}

export class Chips {
  /** @param stage the canvas of the styled picture, to grow thumbnails from */
  constructor(row, styles, stage, on) {
    Object.assign(this, { row, styles, stage, on, tiles: new Map(), timer: 0, shown: null });
    row.addEventListener("click", ({ target }) => this.#clicked(target));
    row.addEventListener("keydown", (event) => this.#pressed(event));
    row.addEventListener("wheel", (event) => this.#wheeled(event), { passive: true });
  }

  draw() {
    const { all, wanted, shown } = this.styles;
    this.tiles = new Map(all.map((style, at) => [style, this.#tile(style, at)]));
    const focused = document.activeElement?.closest?.("#chips .chip")?.dataset.at;
    this.row.replaceChildren(...this.tiles.values());
    if (focused) this.row.children[focused]?.querySelector("button").focus({ preventScroll: true });
    const tile = this.tiles.get(wanted);
    if (wanted !== this.seen) this.#reveal(tile);
    this.seen = wanted;
    if (shown !== this.shown) this.#grow(shown);
    this.shown = shown;
  }

  #tile(style, at) {
    const { wanted, shown } = this.styles;
    const tile = document.getElementById("chip").content.firstElementChild.cloneNode(true);
    const [button, face, key, name, away] = [
      "button", ".face", ".key", ".name", ".away",
    ].map((part) => tile.querySelector(part));
    const picture = style.thumbnail ?? style.grown;
    tile.dataset.at = at;
    name.textContent = style.name;
    button.title = style.prompt || style.name;
    button.setAttribute("aria-pressed", String(style === wanted));
    if (at < 9) button.setAttribute("aria-keyshortcuts", String(at + 1));
    key.textContent = at < 9 ? at + 1 : "";
    face.style.background = tint(style.name);
    if (picture) face.replaceChildren(Object.assign(new Image(), { src: picture, alt: "" }));
    else face.textContent = [...style.name][0].toUpperCase();
    tile.classList.toggle("coming", style === wanted && style !== shown && this.on.isLive());
    away.hidden = !style.isOwn;
    away.setAttribute("aria-label", `Remove ${style.name}`);
    return tile;
  }

  #styleOf(target) {
    return this.styles.all[target.closest(".chip")?.dataset.at];
  }

  #clicked(target) {
    const style = this.#styleOf(target);
    if (!style) return;
    if (target.closest(".away")) this.styles.remove(style);
    else this.on.chosen(style);
  }

  #pressed(event) {
    const style = this.#styleOf(event.target);
    if (event.key === "Delete" && style?.isOwn) this.styles.remove(style);
  }

  /** A wheel turns downwards; the row runs sideways. */
  #wheeled({ deltaX, deltaY }) {
    if (!deltaX) this.row.scrollLeft += deltaY;
  }

  #reveal(tile) {
    if (!tile) return;
    const middle = tile.offsetLeft - (this.row.clientWidth - tile.offsetWidth) / 2;
    const isStill = matchMedia("(prefers-reduced-motion: reduce)").matches;
    this.row.scrollTo({ left: middle, behavior: isStill ? "instant" : "smooth" });
  }

  #grow(style) {
    clearTimeout(this.timer);
    if (!style || style.thumbnail || style.grown) return;
    this.timer = setTimeout(() => {
      const { width, height } = this.stage;
      const side = Math.min(width, height);
      if (!this.on.isLive() || this.styles.shown !== style || !side) return;
      const canvas = document.createElement("canvas");
      canvas.width = canvas.height = GROWN_SIZE;
      const corner = [(width - side) / 2, (height - side) / 2];
      canvas.getContext("2d").drawImage(
        this.stage, ...corner, side, side, 0, 0, GROWN_SIZE, GROWN_SIZE,
      );
      style.grown = canvas.toDataURL("image/jpeg", 0.8);
      this.draw();
    }, GROWN_AFTER);
  }
}
