/** The picture only, for OBS and projectors: it fits, it comes back, it has nothing to press. */

import { Player } from "./player.js";
import { Line, socketAddress, unpack } from "./wire.js";

const canvas = document.getElementById("picture");
const pen = canvas.getContext("2d");
const isBlack = new URLSearchParams(location.search).get("background") === "black";
document.documentElement.classList.toggle("black", isBlack);

const player = new Player((time, bitmap) => {
  const { width, height } = bitmap;
  if (canvas.width !== width || canvas.height !== height) Object.assign(canvas, { width, height });
  pen.drawImage(bitmap, 0, 0);
  canvas.classList.add("live");
});

const line = new Line(socketAddress("watch"), {
  binary: (buffer) => {
    const frame = unpack(buffer);
    if (frame) player.push(frame);
  },
});
line.open();
