/**
 * Takes frames of the source at the pace the server asks for, scales them to the size of the
 * stream and sends them. One frame at a time is encoded, none waits: one that comes while there
 * is no credit is dropped here, and counted.
 */

const QUALITY = 0.85;
const KIND = "image/jpeg"; // every browser encodes it, in a fraction of the time WebP takes
const SLACK = 0.25; // of a pace by which a camera's frame may come early
const KEPT = 64; // sent frames that are remembered for the split
const HIDDEN = 33; // ms between looks in a tab that is not seen
const OLD = 1000; // ms: a capture time further back than that is of another clock

/** The part of a source that covers a stream's shape: cut at the edges, never stretched. */
export function covering(source, stream) {
  const scale = Math.min(source.width / stream.width, source.height / stream.height);
  const [width, height] = [stream.width * scale, stream.height * scale];
  return { x: (source.width - width) / 2, y: (source.height - height) / 2, width, height };
}

function canvasOf({ width, height }) {
  if (typeof OffscreenCanvas !== "undefined") return new OffscreenCanvas(width, height);
  return Object.assign(document.createElement("canvas"), { width, height });
}

function encode(canvas) {
  if (canvas.convertToBlob) return canvas.convertToBlob({ type: KIND, quality: QUALITY });
  return new Promise((resolve, reject) =>
    canvas.toBlob((blob) => (blob ? resolve(blob) : reject(new Error("no picture"))), KIND, QUALITY),
  );
}

export class Sampler {
  constructor(video, wire) {
    Object.assign(this, { video, wire, canvas: null, due: 0, last: 0, presented: 0, busy: false });
    this.counts = { seen: 0, spared: 0, dropped: 0, sent: 0, bytes: 0 };
    this.kept = new Map(); // bitmaps of sent frames by their times, oldest first
    this.ticker = new Worker(new URL("tick.js", import.meta.url));
    this.ticker.onmessage = () => this.#offer(performance.now());
    document.addEventListener("visibilitychange", () => this.#tick());
    this.#tick();
    this.#arm();
  }

  /** The sent frame of that time; older ones are let go of, for styled frames come in order. */
  sourceOf(time) {
    for (const [sent, bitmap] of this.kept) {
      if (sent >= time) break;
      bitmap.close();
      this.kept.delete(sent);
    }
    return this.kept.get(time);
  }

  forget() {
    this.kept.forEach((bitmap) => bitmap.close());
    this.kept.clear();
  }

  /** The browser tells of a new frame of a video where it can and where the page is seen; it is not
   * asked while none is wanted, for each time it tells it also draws. */
  #arm() {
    const early = this.due - SLACK * this.#pace - performance.now();
    if (early > 0) return setTimeout(() => this.#arm(), early);
    this.video.requestVideoFrameCallback?.((now, { captureTime, presentedFrames }) => {
      const isOurs = captureTime <= now && now - captureTime < OLD;
      const since = Math.max(1, presentedFrames - this.presented);
      this.presented = presentedFrames;
      if (!document.hidden) this.#offer(isOurs ? captureTime : now, since);
      this.#arm();
    });
  }

  #tick() {
    const isTold = "requestVideoFrameCallback" in this.video;
    this.ticker.postMessage(document.hidden || !isTold ? HIDDEN : 0);
  }

  get #pace() {
    return this.wire.pace * 1000;
  }

  /** @param since frames of the source since the last one that was offered, this one included */
  async #offer(time, since = 1) {
    const { wire, counts } = this;
    const pace = this.#pace;
    if (!this.video.videoWidth || this.video.paused || !wire.begun || time <= this.last) return;
    counts.seen += since;
    counts.spared += since - 1;
    if (time < this.due - SLACK * pace) return counts.spared++;
    if (this.busy || !wire.isFree) return counts.dropped++;
    this.due = Math.max(this.due, time - pace) + pace;
    this.last = time;
    this.busy = true;
    try {
      await this.#send(time, wire.begun);
    } catch {
      counts.dropped++; // a source that went away while it was drawn
    } finally {
      this.busy = false;
    }
  }

  async #send(time, size) {
    const { video, counts } = this;
    if (this.canvas?.width !== size.width || this.canvas?.height !== size.height) {
      this.canvas = canvasOf(size);
      this.forget();
    }
    const pen = this.canvas.getContext("2d", { alpha: false });
    pen.imageSmoothingQuality = "high";
    const from = covering({ width: video.videoWidth, height: video.videoHeight }, size);
    pen.drawImage(
      video, from.x, from.y, from.width, from.height, 0, 0, size.width, size.height,
    );
    const [blob, bitmap] = await Promise.all([encode(this.canvas), createImageBitmap(this.canvas)]);
    const picture = await blob.arrayBuffer();
    if (size !== this.wire.begun || !this.wire.sendFrame(time, picture)) {
      bitmap.close();
      return counts.dropped++;
    }
    counts.sent++;
    counts.bytes += picture.byteLength;
    this.#keep(time, bitmap);
  }

  #keep(time, bitmap) {
    this.kept.set(time, bitmap);
    if (this.kept.size <= KEPT) return;
    const [oldest, old] = this.kept.entries().next().value;
    old.close();
    this.kept.delete(oldest);
  }
}
