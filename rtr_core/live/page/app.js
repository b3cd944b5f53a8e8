/** The performer's page: who is told what. Everything that is done is done in the other modules. */

import { Chips } from "./chips.js";
import { Figures } from "./figures.js";
import { listenToHolding, listenToKeys, listenToSwipes, watchFull } from "./keys.js";
import { Panels } from "./panels.js";
import { Player } from "./player.js";
import { Prompt } from "./prompt.js";
import { Record } from "./record.js";
import { Sampler } from "./sampler.js";
import { sentenceOf, Speech } from "./say.js";
import { Show } from "./show.js";
import { canScreen, Source } from "./source.js";
import { Styles } from "./styles.js";
import { Tuning } from "./tuning.js";
import { socketAddress, Wire } from "./wire.js";

const AGAIN = 1500; // ms after which a camera that ended is asked for again
const STALLED = 2500; // ms without a picture after which it is shown as an old one

const find = (id) => document.getElementById(id);
const speech = new Speech(find);
const panels = new Panels(find);
let isGreeted = false;
let lastDrawn = 0;
let size = ""; // of the source that was begun with

const wire = new Wire(socketAddress("live/wire"), {
  hello, begun, recorded, frame, lost, waiting, full,
  style: ({ name }) => styles.arrived(name),
  recording: ({ on }) => record.set(on),
  refused: ({ what, why }) => what !== "reference" && speech.say(why), // that one is told by who sent it
  stats,
});
const source = new Source(find("video"), { began, resized, ended, cameras });
const sampler = new Sampler(find("video"), wire);
const show = new Show(find, (time) => sampler.sourceOf(time));
const figures = new Figures(find, sampler, wire);
const player = new Player(draw, (count) => figures.missed(count));
const styles = new Styles(wire, { changed: drawStyles });
const chips = new Chips(find("chips"), styles, find("styled"), {
  chosen: choose,
  isLive: () => wire.begun !== null,
});
const prompt = new Prompt(find, source, { styled, clip, failed: (why) => speech.say(why), counted });
const record = new Record(find, { asked: (on) => wire.say({ do: "record", on }) });
new Tuning(find, styles, figures);

// --- the stream -------------------------------------------------------------------------------

function hello(message) {
  isGreeted = true;
  find("model").textContent = message.model;
  source.side = message.side;
  panels.greet(message);
  prompt.limit(message.limits);
  find("record").hidden = message.records === false; // a server without a folder keeps no takes
  styles.greet(message.chips);
  speech.settle("connection", "full");
  begin();
}

/** Begin, or begin again with the size the source has now and the style that was wanted. */
async function begin() {
  if (!source.isRunning || !wire.line.isOpen || !isGreeted) return;
  if (!styles.wanted) return speech.say("Write a style, or drop a picture: then it begins.");
  const { videoWidth: width, videoHeight: height } = source.video;
  size = `${width} x ${height}`;
  try {
    wire.begin(width, height, await styles.asTold());
  } catch (error) {
    speech.say(error.message);
  }
}

function begun({ width, height }) {
  player.forget();
  sampler.forget();
  show.size(width, height);
  speech.settle("connection", "full", "waiting");
  record.allow(true);
  styles.arrived(styles.wanted?.name);
}

function stats(told) {
  figures.server = told;
  source.ease(wire.pace);
}

function frame(styledFrame) {
  speech.settle("waiting");
  player.push(styledFrame);
}

function draw(time, bitmap) {
  show.draw(time, bitmap);
  figures.drawn(time);
  lastDrawn = performance.now();
}

function lost({ wait, tries, full: isFull }) {
  record.set(false);
  record.allow(false);
  styles.shown = null;
  if (isFull) return; // it has been told, with its reason
  const seconds = Math.ceil(wait / 1000);
  const sentence = isGreeted
    ? `The connection was lost: trying again in ${seconds} s, your style is kept.`
    : "The server does not answer: see whether rtr live still runs; its link is a new one each time.";
  if (tries > 1 || !isGreeted) speech.stand("connection", sentence, [["Try now", () => wire.line.retry()]]);
  else speech.say(sentence);
}

function full({ why }) {
  speech.stand("full", why, [["Try again", () => wire.line.retry()]]);
}

function waiting({ why }) {
  speech.stand("waiting", why);
}

function recorded(take) {
  record.set(false);
  panels.recorded(take);
}

setInterval(() => {
  const isStalled = lastDrawn > 0 && performance.now() - lastDrawn > STALLED;
  find("picture").classList.toggle("stalled", isStalled);
}, 500);

// --- the source -------------------------------------------------------------------------------

async function open(kind, opening) {
  find("start").hidden = true;
  try {
    await opening();
  } catch (error) {
    if (source.isRunning) return speech.say(sentenceOf(error, kind)); // the old one goes on
    const others = kind === "camera" ? [] : [["Camera", openCamera]];
    speech.stand("source", sentenceOf(error, kind), [
      ...(kind === "file" ? [["Another file", pickClip]] : [["Try again", () => open(kind, opening)]]),
      ...others,
      ...(kind === "screen" || !canScreen() ? [] : [["Screen", openScreen]]),
      ...(kind === "file" ? [] : [["Video file", pickClip]]),
    ]);
  }
}

const openCamera = () => open("camera", () => source.openCamera());
const openScreen = () => open("screen", () => source.openScreen());
const pickClip = () => find("clip-file").click();

function clip(file) {
  return open("file", () => source.openFile(file, { loop: find("loop").checked }));
}

function began() {
  find("start").hidden = true;
  speech.settle("source");
  find("inset").hidden = false;
  show.mirror(source.facesUser);
  drawSources();
  begin();
  navigator.wakeLock?.request("screen").catch(() => {}); // only a comfort: a phone stays awake
}

/** A phone that is turned, a window that is dragged; the size one begins with is told as well. */
function resized() {
  const { videoWidth, videoHeight } = source.video;
  if (size !== `${videoWidth} x ${videoHeight}`) begin();
}

/** A camera comes back by itself if it can; a screen is shared by a person; a clip has its end. */
function ended(kind) {
  drawSources();
  if (kind === "file")
    return speech.stand("source", "The clip has ended: play it again, or take another source.", [
      ["Play again", () => source.replay()],
      ["Another file", pickClip],
      ["Camera", openCamera],
    ]);
  if (kind === "screen")
    return speech.stand("source", "The screen is no longer shared: share it again, or take another source.", [
      ["Screen", openScreen],
      ["Camera", openCamera],
      ["Video file", pickClip],
    ]);
  speech.say("The camera went away: it is asked for again.");
  setTimeout(() => source.kind || openCamera(), AGAIN);
}

function cameras(list) {
  find("flip").hidden = source.kind !== "camera" || list.length < 2;
}

function drawSources() {
  for (const kind of ["camera", "screen", "file"])
    for (const button of document.querySelectorAll(`.tool.source-${kind}`))
      button.setAttribute("aria-pressed", String(source.kind === kind));
  find("loop-tool").hidden = source.kind !== "file";
  cameras(source.cameras);
}

for (const button of document.querySelectorAll(".source-camera")) button.addEventListener("click", openCamera);
for (const button of document.querySelectorAll(".source-screen")) {
  button.addEventListener("click", openScreen);
  button.hidden = !canScreen();
}
for (const button of document.querySelectorAll(".source-file")) button.addEventListener("click", pickClip);
find("flip").addEventListener("click", () => open("camera", () => source.nextCamera()));
find("loop").addEventListener("change", ({ target }) => (source.video.loop = target.checked));
find("clip-file").addEventListener("change", ({ target }) => {
  if (target.files[0]) clip(target.files[0]);
  target.value = "";
});

// --- the styles -------------------------------------------------------------------------------

async function choose(style) {
  try {
    await styles.choose(style);
    if (!wire.begun) begin();
  } catch (error) {
    speech.say(error.message);
  }
}

async function styled(style) {
  await styles.add(style);
  if (!wire.begun) begin();
}

function drawStyles() {
  chips.draw();
  find("style-tag").textContent = styles.shown?.name ?? "styled";
}

function step(by) {
  const { all, wanted } = styles;
  if (all.length) choose(all[(all.indexOf(wanted) + by + all.length) % all.length]);
}

function counted(left) {
  find("countdown").hidden = !left;
  find("countdown").textContent = left || "";
}

/** The picture as it is, as a file. */
async function still() {
  if (!wire.begun) return;
  const link = document.createElement("a");
  link.href = URL.createObjectURL(await show.still());
  link.download = `${styles.shown?.name ?? "styled"}.png`;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 1000);
}

// --- hands ------------------------------------------------------------------------------------

const hold = (isHeld) => show.hold(isHeld);
listenToKeys(
  {
    chip: (at) => styles.all[at] && choose(styles.all[at]),
    step, hold, still,
    record: () => record.toggle(),
    split: () => show.toggle(),
    prompt: () => find("prompt").focus(),
    help: () => panels.toggleHelp(),
  },
  () => panels.isOpen,
);
listenToSwipes(find("stage"), step);
listenToHolding(find("inset"), hold);
watchFull(find("full"));
wire.open();
