/** What the page says: one sentence of what happened, and how to go on. */

const HTTPS = "open this page over https (rtr live --tls), or as http://localhost on the same machine";

/** Why there is no picture, from what the browser threw. */
export function sentenceOf(error, kind) {
  if (!isSecureContext && kind !== "file")
    return `Browsers give a ${kind} to secure pages only: ${HTTPS}.`;
  const sentences = {
    camera: {
      NotAllowedError: "The camera was not allowed: allow it beside the address of this page, then try again.",
      NotFoundError: "No camera was found: plug one in, or take the screen or a video file.",
      OverconstrainedError: "That camera is gone: take another one, the screen or a video file.",
      NotReadableError: "The camera is busy: close what else uses it, then try again.",
      SecurityError: `This page gets no camera: ${HTTPS}.`,
    },
    screen: {
      NotAllowedError: "No screen was shared: try again and choose a screen, a window or a tab.",
      TypeError: "This browser shares no screen: take the camera or a video file.",
    },
    file: {
      EncodingError: `“${error.message}” is no clip this browser can play: take an MP4 or a WebM.`,
    },
  };
  return sentences[kind][error.name] ?? `The ${kind} does not start (${error.message}): try again, or take another source.`;
}

const LONG = 5000; // ms that a sentence stays
const A_LETTER = 45; // ms more for each letter

/** The two places where the page speaks: a line that passes, and a card that stays. */
export class Speech {
  constructor(find) {
    this.line = find("message");
    this.card = find("notice");
    this.text = find("notice-text");
    this.ways = find("notice-ways");
    this.timer = 0;
    this.topic = null;
  }

  /** A line that passes by itself. */
  say(sentence) {
    clearTimeout(this.timer);
    this.line.textContent = sentence;
    this.line.classList.add("said");
    const time = LONG + A_LETTER * sentence.length;
    this.timer = setTimeout(() => this.line.classList.remove("said"), time);
  }

  /**
   * A card that stays until its topic is settled.
   * @param ways [label, action] buttons, how to go on
   */
  stand(topic, sentence, ways = []) {
    this.topic = topic;
    this.text.textContent = sentence;
    const buttons = ways.map(([label, action]) => {
      const button = document.createElement("button");
      button.className = "choice";
      button.textContent = label;
      button.addEventListener("click", () => {
        this.settle(topic);
        action();
      });
      return button;
    });
    this.ways.replaceChildren(...buttons);
    this.card.hidden = false;
  }

  settle(...topics) {
    if (!topics.includes(this.topic)) return;
    this.topic = null;
    this.card.hidden = true;
  }
}
