/**
 * What is restyled: a camera, the screen or a file, all of them playing in one video element.
 * A source that ends or changes its size says so; what to do about it is the page's business.
 */

const ROOM = 2.5; // sides of a stream that a camera is wide: more is taken to be thrown away
const WIDEST = 1920;
const RATES = [15, 20, 24, 30]; // frames a second that a camera is asked for
const PLENTY = 1.6; // camera frames for each that is taken: then one of them is never far
const CALM = 3; // seconds for which fewer must do before fewer are asked for

export const canCamera = () => Boolean(navigator.mediaDevices?.getUserMedia);
export const canScreen = () => Boolean(navigator.mediaDevices?.getDisplayMedia);

export class Source {
  /** @param on {began, resized, ended(kind), played} */
  constructor(video, on) {
    Object.assign(this, { video, on, kind: null, stream: null, wish: null, cameras: [] });
    this.side = 512; // of a square with as many pixels as the stream, as far as is known
    this.rate = RATES.at(-1);
    this.calm = 0;
    this.asked = 0; // the newest request wins: a slow permission must not undo a later choice
    video.addEventListener("resize", () => this.kind && video.videoWidth && on.resized());
    video.addEventListener("ended", () => this.kind === "file" && on.ended("file"));
    navigator.mediaDevices?.addEventListener?.("devicechange", () => this.#look());
  }

  get isRunning() {
    return this.kind !== null && this.video.videoWidth > 0;
  }

  /** Front cameras are shown as a mirror would; on a computer every camera looks at who sits there. */
  get facesUser() {
    if (this.kind !== "camera") return false;
    const facing = this.stream.getVideoTracks()[0]?.getSettings().facingMode;
    return facing ? facing === "user" : !/back|rear|environment/i.test(this.label);
  }

  get label() {
    return this.stream?.getVideoTracks()[0]?.label ?? "";
  }

  /** @param wish {deviceId} or {facing: "user" | "environment"}, or the last one again */
  async openCamera(wish = this.wish ?? { facing: "user" }) {
    if (!canCamera()) throw new DOMException("no camera on this page", "SecurityError");
    const which = wish.deviceId
      ? { deviceId: { exact: wish.deviceId } }
      : { facingMode: { ideal: wish.facing } };
    const asked = this.#ask();
    // Many phones give one camera at a time: the old one is let go of before the next is asked for.
    if (this.kind === "camera") this.close();
    const stream = await navigator.mediaDevices.getUserMedia({ video: { ...this.#wished, ...which } });
    if (this.#isStale(asked, stream)) return;
    this.wish = wish;
    await this.#take("camera", stream);
    await this.#look();
  }

  async openScreen() {
    const asked = this.#ask();
    const stream = await navigator.mediaDevices.getDisplayMedia({ video: { frameRate: RATES.at(-1) } });
    if (!this.#isStale(asked, stream)) await this.#take("screen", stream);
  }

  /** @param file a clip, played and never uploaded as a whole */
  async openFile(file, { loop }) {
    this.#ask();
    this.close();
    const { video } = this;
    video.loop = loop;
    video.src = URL.createObjectURL(file);
    try {
      await video.play();
      if (!video.videoWidth) throw new Error("no picture");
    } catch {
      this.close();
      throw new DOMException(file.name, "EncodingError");
    }
    this.kind = "file";
    this.on.began();
  }

  /** A camera brings no more frames than a stream of this pace has use for: each is drawn, and costs
   * a phone its battery. Told every second. @param pace in seconds a frame */
  ease(pace) {
    const rate = RATES.find((each) => each * pace >= PLENTY) ?? RATES.at(-1);
    this.calm = rate < this.rate ? this.calm + 1 : 0;
    if (this.kind !== "camera" || rate === this.rate || (this.calm > 0 && this.calm < CALM)) return;
    this.rate = rate;
    this.calm = 0;
    this.stream.getVideoTracks()[0].applyConstraints(this.#wished).catch(() => {}); // it may refuse
  }

  get #wished() {
    const width = Math.min(WIDEST, ROOM * this.side);
    const size = { width: { ideal: width }, height: { ideal: (width * 9) / 16 } };
    return { ...size, frameRate: { ideal: this.rate } };
  }

  /** The next camera, of as many as there are. */
  async nextCamera() {
    const now = this.stream?.getVideoTracks()[0]?.getSettings();
    if (this.cameras.length > 1) {
      const at = this.cameras.findIndex(({ deviceId }) => deviceId === now?.deviceId);
      return this.openCamera({ deviceId: this.cameras[(at + 1) % this.cameras.length].deviceId });
    }
    return this.openCamera({ facing: now?.facingMode === "user" ? "environment" : "user" });
  }

  replay() {
    return this.video.play();
  }

  close() {
    for (const track of this.stream?.getTracks() ?? []) {
      track.onended = null;
      track.stop();
    }
    if (this.video.src) URL.revokeObjectURL(this.video.src);
    this.video.srcObject = null;
    this.video.removeAttribute("src");
    Object.assign(this, { kind: null, stream: null });
  }

  /** A still of the source, in its full size: a photographed reference. */
  async photograph() {
    const canvas = document.createElement("canvas");
    [canvas.width, canvas.height] = [this.video.videoWidth, this.video.videoHeight];
    canvas.getContext("2d").drawImage(this.video, 0, 0);
    return new Promise((resolve) => canvas.toBlob(resolve, "image/jpeg", 0.92));
  }

  #ask() {
    return ++this.asked;
  }

  #isStale(asked, stream) {
    if (asked === this.asked) return false;
    stream.getTracks().forEach((track) => track.stop());
    return true;
  }

  async #take(kind, stream) {
    this.close();
    this.stream = stream;
    this.video.srcObject = stream;
    stream.getVideoTracks()[0].onended = () => {
      this.close();
      this.on.ended(kind);
    };
    await this.video.play();
    this.kind = kind;
    this.on.began();
  }

  async #look() {
    if (!canCamera()) return;
    const devices = await navigator.mediaDevices.enumerateDevices();
    this.cameras = devices.filter(({ kind, deviceId }) => kind === "videoinput" && deviceId);
    this.on.cameras?.(this.cameras);
  }
}
