/** Strength and fade: two sliders, said to the server while they are dragged, but not too often. */

const FADES = [0, 4, 8, 12, 24, 48, 72, 120, 240, 480]; // frames
const PAUSE = 150; // ms between two words to the server

export class Tuning {
  constructor(find, styles, figures) {
    Object.assign(this, { styles, figures, timer: 0 });
    this.strength = [find("strength"), find("strength-said")];
    this.fade = [find("fade"), find("fade-said")];
    this.strength[0].addEventListener("input", () => this.#strengthened());
    this.fade[0].addEventListener("input", () => this.#faded());
    setInterval(() => this.#sayFade(), 2000); // seconds follow the frame rate
  }

  #strengthened() {
    const [slider, said] = this.strength;
    said.textContent = `${slider.value} %`;
    this.styles.strength = slider.value / 100;
    this.timer ||= setTimeout(() => {
      this.timer = 0;
      this.styles.tell().catch(() => {}); // a refused reference has been told when it was chosen
    }, PAUSE);
  }

  #faded() {
    this.styles.fade = FADES[this.fade[0].value];
    this.#sayFade();
  }

  #sayFade() {
    const { fade } = this.styles;
    const { fps } = this.figures;
    const seconds = fps ? ` · ${(fade / fps).toFixed(1)} s` : "";
    const said = fade ? `${fade} frames${seconds}` : "cut";
    if (this.fade[1].textContent !== said) this.fade[1].textContent = said;
    this.fade[0].setAttribute("aria-valuetext", said);
  }
}
