/** Dialogs: the links for other devices, a finished take, the keys; and the menus by their buttons. */

/** A text with a button that copies it, also where a page is not secure and has no clipboard. */
function copyable(text) {
  const [item, code, button] = ["li", "code", "button"].map((tag) => document.createElement(tag));
  code.textContent = text;
  code.tabIndex = 0;
  Object.assign(button, { type: "button", className: "copy", textContent: "Copy" });
  button.addEventListener("click", async () => {
    try {
      await navigator.clipboard.writeText(text);
    } catch {
      getSelection().selectAllChildren(code);
      document.execCommand("copy");
    }
    button.textContent = "Copied";
    setTimeout(() => (button.textContent = "Copy"), 2000);
  });
  item.append(code, button);
  return item;
}

const ALONE = /^https?:\/\/(localhost|127\.|\[::1\])/; // addresses that mean the machine itself

const reaches = (link) => !ALONE.test(link);

/** What stands in the way of a phone, as [text, command, text]. */
function hintOf(links) {
  const open = links.filter(reaches);
  if (!open.length)
    return ["This server answers its own machine alone: start it with ", "rtr live --listen 0.0.0.0 --tls", " for all in your network."];
  if (open.some((link) => link.startsWith("https:")))
    return ["Both have to be in one network. The browser asks once whether it may trust this server.", "", ""];
  return ["A phone gives its camera to secure pages only: start with ", "rtr live --tls", ". Video files work without."];
}

export class Panels {
  constructor(find) {
    this.find = find;
    this.isReached = false; // by other devices: a code for a phone that finds nothing helps no one
    find("open-links").addEventListener("click", () => this.#showLinks());
    find("open-help").addEventListener("click", () => this.toggleHelp());
    for (const dialog of document.querySelectorAll("dialog"))
      dialog.addEventListener("click", ({ target }) => target === dialog && dialog.close());
    for (const menu of document.querySelectorAll(".menu"))
      menu.addEventListener("toggle", ({ newState }) => newState === "open" && place(menu));
  }

  greet({ links, view }) {
    const { find } = this;
    this.isReached = links.some(reaches);
    find("link-list").replaceChildren(...links.map(copyable));
    find("view-list").replaceChildren(copyable(view));
    const [before, code, after] = hintOf(links);
    const command = Object.assign(document.createElement("code"), { textContent: code });
    find("link-hint").replaceChildren(before, command, after);
  }

  recorded({ take, frames, command }) {
    const { find } = this;
    find("recorded-said").textContent = `${take}: ${frames} frames, as source, cue sheet and seed.`;
    find("command-list").replaceChildren(copyable(command));
    find("recorded").showModal();
  }

  toggleHelp() {
    const help = this.find("help");
    if (help.open) help.close();
    else help.showModal();
  }

  get isOpen() {
    return document.querySelector("dialog[open]") !== null;
  }

  #showLinks() {
    const qr = this.find("qr");
    qr.onload = () => (qr.hidden = false); // without segno on the server there is none
    if (this.isReached) qr.src = `live/qr.svg${location.search}`;
    this.find("links").showModal();
  }
}

/** A menu opens at its button, inside the window. */
function place(menu) {
  const button = document.querySelector(`[popovertarget="${menu.id}"]`);
  const at = button.getBoundingClientRect();
  const { offsetWidth: width, offsetHeight: height } = menu;
  const left = Math.max(12, Math.min(at.right - width, innerWidth - width - 12));
  const isBelow = at.top < innerHeight / 2;
  const top = isBelow ? at.bottom + 8 : at.top - height - 8;
  menu.style.left = `${left}px`;
  menu.style.top = `${Math.max(12, Math.min(top, innerHeight - height - 12))}px`;
}
