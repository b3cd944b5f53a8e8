/**
 * What is measured, told as it is: frames shown a second, from the moment a source frame was taken
 * to the moment its styled picture is drawn, and every frame that was not shown, by where it stayed.
 */

const SPAN = 2000; // ms over which a number is an average

export class Figures {
  constructor(find, sampler, wire) {
    Object.assign(this, { sampler, wire, shown: [], late: 0, server: {}, size: null });
    this.fields = (name) => find(`figure-${name}`);
    this.pulse = find("figures");
    setInterval(() => this.#draw(), 500);
  }

  /** A frame was drawn: `time` is when its source was taken. */
  drawn(time) {
    const now = performance.now();
    this.shown.push({ now, latency: now - time });
    while (this.shown[0].now < now - SPAN) this.shown.shift();
  }

  /** Frames that came too late to be shown. */
  missed(count) {
    this.late += count;
  }

  get dropped() {
    return this.sampler.counts.dropped + this.wire.dropped + this.late;
  }

  get fps() {
    if (this.shown.length < 2) return 0;
    const time = this.shown.at(-1).now - this.shown[0].now;
    return ((this.shown.length - 1) * 1000) / time;
  }

  #say(name, text) {
    const field = this.fields(name);
    if (field.textContent !== text) field.textContent = text;
  }

  #draw() {
    const now = performance.now();
    while (this.shown.length && this.shown[0].now < now - SPAN) this.shown.shift();
    const latencies = this.shown.map(({ latency }) => latency).sort((a, b) => a - b);
    const middle = latencies[Math.floor(latencies.length / 2)];
    const isLive = latencies.length > 0;
    this.pulse.classList.toggle("live", isLive);
    this.#say("fps", isLive ? this.fps.toFixed(this.fps < 10 ? 1 : 0) : "–");
    this.#say("latency", isLive ? milliseconds(middle) : "–");
    this.#say("dropped", String(this.dropped));
    this.#details(latencies);
  }

  #details(latencies) {
    const { counts } = this.sampler;
    const { begun, pace } = this.wire;
    const worst = latencies.length ? milliseconds(latencies.at(-1)) : "–";
    this.#say("size", begun ? `${begun.width} × ${begun.height}, ${begun.chunk} in a chunk` : "–");
    this.#say("worst", worst);
    this.#say("server", this.server.fps >= 0 ? `${this.server.fps.toFixed(1)} frames a second, ${milliseconds(this.server.milliseconds)}` : "–");
    this.#say("pace", pace ? `${(1 / pace).toFixed(1)} frames a second` : "–");
    this.#say("seen", String(counts.seen));
    this.#say("spared", String(counts.spared));
    this.#say("sent", counts.sent ? `${counts.sent}, ${Math.round(counts.bytes / counts.sent / 1024)} KB each` : "0");
    this.#say("here", String(counts.dropped));
    this.#say("there", String(this.wire.dropped));
    this.#say("late", String(this.late));
    this.#say("by", this.wire.peer.isOpen ? "WebRTC" : "WebSocket");
    this.#say("viewers", String(this.server.viewers ?? "–"));
  }
}

export function milliseconds(value) {
  if (!Number.isFinite(value)) return "–";
  return value < 1000 ? `${Math.round(value)} ms` : `${(value / 1000).toFixed(1)} s`;
}
