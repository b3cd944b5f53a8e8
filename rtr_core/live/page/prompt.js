/**
 * A style of one's own: words, Enter; a picture dropped, pasted, picked or photographed. Whatever
 * picture the browser can read is taken: what the server would not read is drawn anew as a JPEG.
 */

const READ = ["image/jpeg", "image/png", "image/webp"]; // by the server
const LONGEST = 1024; // pixels of a side; a style needs no more
const FACE = 128;
const COUNT = 3; // seconds until a photograph is taken

/** A reference as {picture: ArrayBuffer, thumbnail}. @throws where the file is no picture */
export async function asReference(file, limit) {
  let bitmap;
  try {
    bitmap = await createImageBitmap(file);
  } catch {
    const name = file.name ? `“${file.name}”` : "This";
    throw new Error(`${name} is no picture that can be read. Take a JPEG, a PNG or a WebP.`);
  }
  const face = drawn(bitmap, FACE / Math.min(bitmap.width, bitmap.height), FACE, FACE);
  const thumbnail = face.toDataURL("image/jpeg", 0.85);
  const scale = Math.min(1, LONGEST / Math.max(bitmap.width, bitmap.height));
  if (READ.includes(file.type) && scale === 1 && file.size <= limit)
    return { picture: await file.arrayBuffer(), thumbnail };
  const [width, height] = [bitmap.width, bitmap.height].map((side) => Math.max(1, Math.round(side * scale)));
  const whole = drawn(bitmap, scale, width, height);
  const blob = await new Promise((resolve) => whole.toBlob(resolve, "image/jpeg", 0.92));
  return { picture: await blob.arrayBuffer(), thumbnail };
}

/** A picture, scaled, its middle on a canvas of that size. */
function drawn(bitmap, scale, width, height) {
  const canvas = Object.assign(document.createElement("canvas"), { width, height });
  const pen = canvas.getContext("2d");
  pen.fillStyle = "#fff"; // what is transparent would become black in a JPEG
  pen.fillRect(0, 0, width, height);
  pen.imageSmoothingQuality = "high";
  const [w, h] = [bitmap.width * scale, bitmap.height * scale];
  pen.drawImage(bitmap, (width - w) / 2, (height - h) / 2, w, h);
  return canvas;
}

export class Prompt {
  /** @param on {styled(style), clip(file), failed(sentence), counted(seconds)}; limits are hello's */
  constructor(find, source, on) {
    Object.assign(this, { source, on, limits: { reference: Infinity, prompt: 2000 }, held: null });
    Object.assign(this, { text: find("prompt"), chip: find("attached"), file: find("reference-file") });
    this.menu = find("reference-menu");
    find("prompt-form").addEventListener("submit", (event) => this.#submitted(event));
    find("detach").addEventListener("click", () => this.#attach(null));
    find("pick").addEventListener("click", () => this.#leave(() => this.file.click()));
    find("photograph").addEventListener("click", () => this.#leave(() => this.#photograph(find)));
    find("camera-file").addEventListener("change", (event) => this.#picked(event.target));
    this.file.addEventListener("change", () => this.#picked(this.file));
    document.addEventListener("paste", (event) => this.#pasted(event));
    for (const kind of ["dragenter", "dragover", "dragleave", "drop"])
      document.addEventListener(kind, (event) => this.#dragged(event));
  }

  limit(limits) {
    this.limits = limits;
    this.text.maxLength = limits.prompt;
  }

  /** A file from anywhere: a clip is a source, everything else should be a picture. */
  async take(file) {
    if (file.type.startsWith("video/")) return this.on.clip(file);
    try {
      const reference = await asReference(file, this.limits.reference);
      this.#attach(reference);
      await this.on.styled({ prompt: this.text.value.trim(), ...reference });
    } catch (error) {
      this.#attach(null);
      this.on.failed(error.message);
    }
  }

  async #submitted(event) {
    event.preventDefault();
    const prompt = this.text.value.trim();
    if (!prompt && !this.held) return this.text.focus();
    try {
      await this.on.styled({ prompt, ...this.held });
      this.text.select();
    } catch (error) {
      this.on.failed(error.message);
    }
  }

  #attach(reference) {
    this.held = reference;
    this.chip.hidden = !reference;
    if (reference) this.chip.querySelector("img").src = reference.thumbnail;
  }

  #leave(then) {
    this.menu.hidePopover?.();
    then();
  }

  #picked(input) {
    if (input.files[0]) this.take(input.files[0]);
    input.value = "";
  }

  /** By the running camera after a countdown, so that one can hold a postcard up to it. */
  async #photograph(find) {
    if (this.source.kind !== "camera") return find("camera-file").click();
    for (let left = COUNT; left; left--) {
      this.on.counted(left);
      await new Promise((resolve) => setTimeout(resolve, 1000));
    }
    this.on.counted(0);
    if (this.source.isRunning) await this.take(await this.source.photograph());
    else this.on.failed("The camera went away before the picture was taken. Start it and try again.");
  }

  #pasted(event) {
    const file = [...(event.clipboardData?.files ?? [])][0];
    if (!file) return; // text goes into the box that has the focus
    event.preventDefault();
    this.take(file);
  }

  #dragged(event) {
    if (!event.dataTransfer?.types.includes("Files")) return;
    event.preventDefault();
    const leaves = event.type === "drop" || (event.type === "dragleave" && !event.relatedTarget);
    document.body.classList.toggle("dragging", !leaves);
    if (event.type === "drop" && event.dataTransfer.files[0]) this.take(event.dataTransfer.files[0]);
  }
}
