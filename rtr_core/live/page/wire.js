/**
 * The socket to the server: opened, kept open, opened again. It keeps the times of frames that are
 * on their way, never more than the server asked for; the newest frame wins by waiting for none.
 */

import { Peer } from "./peer.js";

const FRAME = 1;
const REFERENCE = 2;
const HEAD = 9; // kind, then the time as a float64
const FIRST_WAIT = 500; // ms before the first new try; it doubles up to the longest
const LONGEST_WAIT = 10_000;
const FULL_WAIT = 8_000; // a place is free when someone leaves, which no new try brings about
const LOST = 2000; // ms after which a frame that no answer spoke of is taken for lost, at least
const SILENCE = 10_000; // statistics come once a second: silence this long is a stalled network

/** An address beside the page, as a socket's. All query parameters go with it. */
export function socketAddress(beside) {
  const address = new URL(beside + location.search, document.baseURI);
  address.protocol = address.protocol.replace("http", "ws");
  return address.href;
}

/** A styled frame as it came: the time of its source frame, and its picture. */
export function unpack(buffer) {
  const view = new DataView(buffer);
  if (buffer.byteLength <= HEAD || view.getUint8(0) !== FRAME) return null;
  return { time: view.getFloat64(1, true), picture: new Blob([new Uint8Array(buffer, HEAD)]) };
}

/** A socket that comes back by itself: 0.5 s, 1 s, 2 s ... and at once when the network returns. */
export class Line {
  /** @param on {opened, text, binary, lost(wait)}: what happened, told to the owner */
  constructor(address, on) {
    Object.assign(this, { address, on, socket: null, tries: 0, timer: 0, heard: 0, full: false });
    this.patience = Infinity; // ms of silence after which the network is taken for stalled
    addEventListener("online", () => this.retry());
    setInterval(() => this.#listen(), 1000);
  }

  open() {
    clearTimeout(this.timer);
    this.full = false;
    const socket = new WebSocket(this.address);
    socket.binaryType = "arraybuffer";
    this.socket = socket;
    this.heard = performance.now();
    socket.onopen = () => this.on.opened?.();
    socket.onmessage = ({ data }) => {
      this.heard = performance.now();
      if (typeof data === "string") this.on.text?.(JSON.parse(data));
      else this.on.binary?.(data);
    };
    socket.onclose = ({ code }) => socket === this.socket && this.#lost(code);
  }

  /** Try now and not later. */
  retry() {
    if (this.socket?.readyState === WebSocket.OPEN) return;
    this.tries = 0;
    this.#abandon();
    this.open();
  }

  get isOpen() {
    return this.socket?.readyState === WebSocket.OPEN;
  }

  #abandon() {
    if (this.socket) this.socket.onclose = this.socket.onmessage = null;
    this.socket?.close();
  }

  #lost(code) {
    this.full ||= code === 1013;
    const doubled = FIRST_WAIT * 2 ** this.tries++;
    const wait = this.full ? FULL_WAIT : Math.min(LONGEST_WAIT, doubled) * (0.8 + 0.4 * Math.random());
    this.timer = setTimeout(() => this.open(), wait);
    this.on.lost?.({ wait, tries: this.tries, full: this.full });
  }

  /** A network that stalls closes nothing: after long silence we do. A hidden tab's clock is late. */
  #listen() {
    if (!this.isOpen || document.hidden || performance.now() - this.heard < this.patience) return;
    this.#abandon();
    this.#lost(0);
  }
}

/** The performer's socket. */
export class Wire {
  /** @param on a function per message of the server ({hello, begun, ...}), `frame`, `lost` */
  constructor(address, on) {
    this.on = on;
    this.begun = null; // {width, height, chunk, ahead} of the running stream
    this.pace = 0; // seconds a frame takes the server now
    this.waiting = []; // {time, sent} of frames that were not taken yet
    this.drops = { before: 0, taken: 0, told: 0 }; // by the server: on earlier sockets, on this one
    this.references = []; // who waits for the name of a picture that was sent
    this.largest = 0; // bytes of the last frame: more than that in the buffer is a slow network
    this.peer = new Peer((message) => this.say(message), (buffer) => this.#frame(buffer));
    this.line = new Line(address, {
      text: (message) => this.#heard(message),
      binary: (buffer) => this.#frame(buffer),
      lost: (how) => this.#lost(how),
    });
  }

  open() {
    this.line.open();
  }

  say(message) {
    if (this.line.isOpen) this.line.socket.send(JSON.stringify(message));
    return this.line.isOpen;
  }

  /** Begin, or begin again: nothing is sent until the server tells the size of the stream. */
  begin(width, height, style) {
    this.begun = null;
    this.line.patience = Infinity; // a model that is loaded first may take its time
    return this.say({ do: "begin", width, height, style });
  }

  /** Its statistics also count styled frames that this page was too slow for. */
  get dropped() {
    return this.drops.before + Math.max(this.drops.taken, this.drops.told);
  }

  /** Whether a frame may be sent now: a stream, credits, and a network that took the last one. */
  get isFree() {
    if (this.begun === null || !this.line.isOpen) return false;
    const buffered = this.peer.bufferedAmount + this.line.socket.bufferedAmount;
    return this.#ahead < this.begun.ahead && buffered <= this.largest;
  }

  /** Frames on their way. By a channel some are lost, and no answer will speak of the last ones. */
  get #ahead() {
    const patience = Math.max(LOST, 3000 * this.begun.ahead * this.pace);
    const since = performance.now() - patience;
    if (this.peer.isOpen) this.waiting = this.waiting.filter(({ sent }) => sent > since);
    return this.waiting.length;
  }

  sendFrame(time, picture) {
    if (!this.isFree) return false; // the stream may have ended while the picture was encoded
    const message = new Uint8Array(HEAD + picture.byteLength);
    message[0] = FRAME;
    new DataView(message.buffer).setFloat64(1, time, true);
    message.set(new Uint8Array(picture), HEAD);
    const isByPeer = this.peer.isOpen && message.byteLength <= this.peer.most;
    (isByPeer ? this.peer : this.line.socket).send(message);
    this.largest = message.byteLength;
    this.waiting.push({ time, sent: performance.now() });
    return true;
  }

  /** Send a picture; its name comes once the server has read it. Answers are in order of sending. */
  sendReference(picture) {
    if (!this.line.isOpen) return Promise.reject(new Error("The server is not connected."));
    const message = new Uint8Array(1 + picture.byteLength);
    message[0] = REFERENCE;
    message.set(new Uint8Array(picture), 1);
    this.line.socket.send(message);
    return new Promise((resolve, reject) => this.references.push({ resolve, reject }));
  }

  #heard(message) {
    if (message.is === "hello") {
      this.line.tries = 0;
      if (message.rtc) this.peer.open();
    }
    if (message.is === "answer") this.peer.answered(message.sdp);
    if (message.is === "full") this.line.full = true;
    if (message.is === "begun") {
      Object.assign(this, { begun: message, waiting: [], pace: 0 });
      this.line.patience = SILENCE;
    }
    if (message.is === "taken") {
      if (message.time !== null) this.waiting = this.waiting.filter(({ time }) => time > message.time);
      this.drops.taken += message.dropped ?? 0;
      this.pace = message.pace ?? this.pace;
    }
    if (message.is === "stats") this.drops.told = message.dropped;
    if (message.is === "reference") this.references.shift()?.resolve(message.id);
    if (message.is === "refused" && message.what === "reference")
      this.references.shift()?.reject(new Error(message.why));
    this.on[message.is]?.(message);
  }

  #frame(buffer) {
    const frame = unpack(buffer);
    if (frame) this.on.frame(frame);
  }

  #lost(how) {
    this.begun = null;
    this.peer.close();
    this.drops = { before: this.dropped, taken: 0, told: 0 };
    this.references.splice(0).forEach(({ reject }) => reject(new Error("The connection was lost.")));
    this.on.lost(how);
  }
}
