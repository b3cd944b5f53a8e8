/**
 * Frames by WebRTC: a channel on which a packet that is lost costs its frame and holds up no other.
 * The socket is how both sides find each other, and what frames go by while no channel is open.
 */

const GATHER = 1000; // ms that addresses of this device may take to be found
const OPENS = 6000; // ms after which a channel that did not open is given up

export class Peer {
  /** @param say sends a message by the socket; @param onFrame is given what the channel brings */
  constructor(say, onFrame) {
    Object.assign(this, { say, onFrame, connection: null, channel: null, timer: 0 });
  }

  get isOpen() {
    return this.channel?.readyState === "open";
  }

  /** Bytes a message may have. */
  get most() {
    return this.connection?.sctp?.maxMessageSize ?? 0;
  }

  get bufferedAmount() {
    return this.channel?.bufferedAmount ?? 0;
  }

  async open() {
    this.close();
    if (typeof RTCPeerConnection === "undefined") return;
    const connection = new RTCPeerConnection();
    const channel = connection.createDataChannel("frames", { ordered: false, maxRetransmits: 0 });
    channel.binaryType = "arraybuffer";
    channel.onmessage = ({ data }) => this.onFrame(data);
    channel.onclose = () => connection === this.connection && this.#giveUp();
    connection.onconnectionstatechange = () => {
      const isLost = ["failed", "disconnected"].includes(connection.connectionState);
      if (isLost && connection === this.connection) this.#giveUp();
    };
    Object.assign(this, { connection, channel });
    this.timer = setTimeout(() => connection === this.connection && !this.isOpen && this.#giveUp(), OPENS);
    await connection.setLocalDescription();
    await gathered(connection);
    if (connection === this.connection) this.say({ do: "offer", sdp: connection.localDescription.sdp });
  }

  async answered(sdp) {
    try {
      await this.connection?.setRemoteDescription({ type: "answer", sdp });
    } catch {
      this.#giveUp(); // the answer to an offer before this one
    }
  }

  send(message) {
    this.channel.send(message);
  }

  close() {
    clearTimeout(this.timer);
    const { connection } = this;
    Object.assign(this, { connection: null, channel: null });
    connection?.close();
  }

  /** The server does not see a network that stalls: it is told to use the socket. */
  #giveUp() {
    this.close();
    this.say({ do: "offer", sdp: null });
  }
}

function gathered(connection) {
  return new Promise((resolve) => {
    const look = () => connection.iceGatheringState === "complete" && resolve();
    connection.addEventListener("icegatheringstatechange", look);
    setTimeout(resolve, GATHER);
    look();
  });
}
