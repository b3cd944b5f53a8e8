/**
 * The styles there are and the one that is asked for. Named ones are the server's; a prompt or a
 * reference of one's own joins them. References live as long as a connection: after a new one they
 * are sent again, so that the style is taken up where it was.
 */

export class Styles {
  /** @param wire the performer's socket; @param on {changed} after whatever is to be drawn anew */
  constructor(wire, on) {
    Object.assign(this, { wire, on, named: [], own: [], wanted: null, shown: null });
    this.strength = null; // a style keeps its own until the slider is touched
    this.fade = 0;
    this.asked = 0; // a reference takes a moment to be read: what was asked for last counts
  }

  get all() {
    return [...this.named, ...this.own];
  }

  /** What the server offers; what was wanted is found again by its name. */
  greet(chips) {
    const before = this.wanted?.name;
    this.named = chips.map((chip, index) => ({ ...chip, index, grown: this.#grownOf(chip.name) }));
    this.own.forEach((style) => (style.reference = null));
    if (!this.own.includes(this.wanted))
      this.wanted = this.named.find(({ name }) => name === before) ?? this.named[0] ?? null;
    this.shown = null;
    this.on.changed();
  }

  /** A thumbnail that grew from the picture outlives a new connection. */
  #grownOf(name) {
    return this.named.find((style) => style.name === name)?.grown ?? null;
  }

  /** A style of one's own: {prompt, picture: ArrayBuffer, thumbnail}; the same prompt is not twice. */
  add(style) {
    const name = style.prompt || "your picture";
    const same = ({ prompt, picture }) => prompt === style.prompt && !picture && !style.picture;
    const found = this.all.find(same);
    if (found) return this.choose(found);
    const added = { name, grown: null, reference: null, isOwn: true, ...style };
    this.own.push(added);
    return this.choose(added);
  }

  remove(style) {
    this.own = this.own.filter((other) => other !== style);
    if (this.wanted === style && this.all.length) return this.choose(this.all[0]);
    return this.on.changed();
  }

  /** @throws where a reference is refused; the style before stays wanted */
  async choose(style) {
    const before = this.wanted;
    this.wanted = style;
    this.on.changed();
    try {
      await this.tell();
    } catch (error) {
      if (this.wanted === style) this.wanted = before;
      this.own = this.own.filter((other) => other !== style || other.reference);
      this.on.changed();
      throw error;
    }
  }

  /** Ask for what is wanted; without a stream nothing is said, `begin` will. */
  async tell() {
    const asked = ++this.asked;
    if (!this.wire.begun || !this.wanted) return;
    const style = await this.asTold();
    if (asked === this.asked) this.wire.say({ do: "style", style, fade: this.fade });
  }

  /** The wanted style in the words of the wire, its picture sent beforehand. */
  async asTold() {
    const { wanted } = this;
    const strength = this.strength === null ? {} : { strength: this.strength };
    if (!wanted) return { prompt: "", ...strength };
    if (!wanted.isOwn) return { chip: wanted.index, ...strength };
    if (wanted.picture && !wanted.reference)
      wanted.reference = await this.wire.sendReference(wanted.picture);
    const told = { ...strength };
    if (wanted.prompt) told.prompt = wanted.prompt;
    if (wanted.reference) told.reference = wanted.reference;
    return told;
  }

  /** A switch took effect: the name tells which, and where it names none of ours it is the wanted. */
  arrived(name) {
    const isWanted = this.wanted?.name === name;
    this.shown = isWanted ? this.wanted : (this.all.find((s) => s.name === name) ?? this.wanted);
    this.on.changed();
  }
}
