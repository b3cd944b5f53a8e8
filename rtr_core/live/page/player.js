/**
 * Styled frames come in bursts of a chunk; they are shown at the pace at which their sources were
 * taken. A frame taken at time t is shown at t + delay. The delay is what nine of ten frames have
 * needed lately: the first of a burst is shown at once, the last one waits its turn, and nothing
 * waits longer. Only differences of times count, so a foreign clock will do (view.html).
 */

const REMEMBERED = 48; // frames by which the delay is chosen
const ENOUGH = 0.9; // of them that come in time
const EASE = 0.05; // of what is too much is let go of with each frame
const JUMP = 2000; // ms: another clock, or a stall that no delay should outlast
const BEHIND = 2; // due frames that are still shown one a screen refresh; with more, the newest wins
const REFRESH = 17; // ms of a screen, before which nothing has to be looked at
const MOST = 64; // frames that may wait, decoded or not

export class Player {
  /** @param draw (time, bitmap) paints a frame; @param onLate counts frames never shown */
  constructor(draw, onLate = () => {}) {
    Object.assign(this, { draw, onLate, delay: 0, needed: [], queue: [], decoding: 0, age: 0, shown: -Infinity });
    this.waits = false;
    document.addEventListener("visibilitychange", () => document.hidden || this.forget());
  }

  /** All that waits is old: a new stream, another size, a tab that slept. */
  forget() {
    this.queue.splice(0).forEach(({ bitmap }) => bitmap.close());
    this.needed = [];
    this.delay = 0;
    this.shown = -Infinity;
    this.age++;
  }

  async push({ time, picture }) {
    this.#learn(performance.now() - time);
    if (document.hidden || this.decoding + this.queue.length >= MOST) return this.onLate(1);
    const age = this.age;
    this.decoding++;
    try {
      const bitmap = await createImageBitmap(picture);
      if (age !== this.age) return bitmap.close();
      if (time <= this.shown) return bitmap.close(), this.onLate(1); // overtaken on its way
      this.#enqueue({ time, bitmap });
    } catch {
      this.onLate(1); // half a picture is no picture; the next one is on its way
    } finally {
      this.decoding--;
    }
  }

  #learn(needed) {
    if (this.needed.length && Math.abs(needed - this.delay) > JUMP) this.forget();
    this.needed.push(needed);
    if (this.needed.length > REMEMBERED) this.needed.shift();
    const sorted = [...this.needed].sort((a, b) => a - b);
    const enough = sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * ENOUGH))];
    const first = this.needed.length === 1;
    this.delay = first || enough > this.delay ? enough : this.delay + EASE * (enough - this.delay);
  }

  /** Decoding may overtake: frames stand in order of their times. */
  #enqueue(frame) {
    let place = this.queue.length;
    while (place && this.queue[place - 1].time > frame.time) place--;
    this.queue.splice(place, 0, frame);
    if (!this.waits) this.#await();
  }

  /** A page that asks for every refresh is drawn at every refresh, whether something came or not. */
  #await() {
    this.waits = true;
    const wait = this.queue[0].time + this.delay - performance.now() - REFRESH;
    if (wait > 0) setTimeout(() => requestAnimationFrame(() => this.#show()), wait);
    else requestAnimationFrame(() => this.#show());
  }

  #show() {
    this.waits = false;
    const now = performance.now();
    let due = this.queue.findIndex(({ time }) => time + this.delay > now);
    if (due < 0) due = this.queue.length;
    if (due) {
      const late = due > BEHIND ? due - 1 : 0;
      this.queue.splice(0, late).forEach(({ bitmap }) => bitmap.close());
      if (late) this.onLate(late);
      const { time, bitmap } = this.queue.shift();
      this.shown = time;
      this.draw(time, bitmap);
      bitmap.close();
    }
    if (this.queue.length) this.#await();
  }
}
