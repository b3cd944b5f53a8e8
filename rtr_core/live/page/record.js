/** The record button: pressed, told by the server, timed. */

export class Record {
  /** @param on {asked(isOn)} says it to the server; without a stream there is nothing to record */
  constructor(find, on) {
    Object.assign(this, { on, button: find("record"), badge: find("timer"), timer: 0 });
    this.word = this.button.querySelector(".word");
    this.elapsed = find("elapsed");
    this.isOn = false;
    this.button.addEventListener("click", () => this.toggle());
  }

  toggle() {
    if (!this.button.disabled && !this.button.hidden) this.on.asked(!this.isOn);
  }

  allow(isAllowed) {
    this.button.disabled = !isAllowed;
  }

  /** What the server says counts, not the press: a take begins when frames are kept. */
  set(isOn) {
    if (isOn === this.isOn) return;
    this.isOn = isOn;
    this.button.setAttribute("aria-pressed", String(isOn));
    this.word.textContent = isOn ? "Stop" : "Record";
    this.badge.hidden = !isOn;
    clearInterval(this.timer);
    if (!isOn) return;
    const began = performance.now();
    const draw = () => {
      const seconds = Math.floor((performance.now() - began) / 1000);
      this.elapsed.textContent = `${Math.floor(seconds / 60)}:${String(seconds % 60).padStart(2, "0")}`;
    };
    draw();
    this.timer = setInterval(draw, 250);
  }
}
